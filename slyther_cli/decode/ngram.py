"""An n-gram word model: scoring, and our compact binary file.

The model is a trie in sorted arrays, read where they lie (memory-mapped, no parsing, no pickle). A node of
level 1 is a word; a node of level k is a row of level k, with the key ``parent << 24 | word``, where parent
is the row of its first k - 1 words. The rows of a level are sorted by key, so finding one is a binary search.

The file, little-endian, every part padded to 8 bytes:
    16 bytes            magic
    8 x uint64          order, words, bytes of word text, rows of level 2, 3, 4, CRC-32 of all after the
                        header, length of the file
    uint64 [words + 1]  where each word's text begins
    uint8 [bytes]       the words in UTF-8, sorted by bytes
    for each level      int64 [rows] keys (not level 1), float32 [rows] log10 p, float32 [rows] log10 back-off
                        (not the highest level)
"""

from __future__ import annotations

import bisect
import itertools
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slyther_cli.errors import ModelError, OutputError
from slyther_cli.files import whole

MAGIC = b"slyther-ngram-1\n"
HEADER = struct.Struct("<16s8Q")
HIGHEST_ORDER = 4
SHIFT = 24  # bits of a word in a key
MOST_WORDS = 2**SHIFT
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
SPECIAL = (BEGIN, END, UNKNOWN)
ABSENT_UNKNOWN = -7.0  # log10 p of an unknown word in a model that has no <unk>
REMEMBERED = 2**17  # scores kept
CHUNK = 2**20
LN10 = math.log(10.0)

State = tuple[int, ...]  # row at level 1, 2, ... of the last word, the last two, ...; -1: none


class Level(NamedTuple):
    """The rows of one order, sorted by key. ``logp``, ``backoff``: log10, float32 [rows]."""

    keys: npt.NDArray[np.int64]
    logp: npt.NDArray[np.float32]
    backoff: npt.NDArray[np.float32]


class NGram:
    """A back-off model over words. ``words``: sorted by their UTF-8 bytes; ``levels``: one for each order.

    Scores are natural logarithms. A word that is not in the model scores as ``<unk>``.
    """

    def __init__(self, words: Vocabulary, levels: Sequence[Level]) -> None:
        self.words, self.levels, self.order = words, list(levels), len(levels)
        self._unknown = words.find(UNKNOWN)
        self._scores: dict[tuple[str, State], tuple[float, State]] = {}

    def begin(self) -> State:
        """The state at the start of a sentence."""
        first = self.words.find(BEGIN)
        return () if first < 0 or self.order == 1 else (first,)

    def score(self, word: str, state: State) -> tuple[float, State]:
        """log p(word | state), and the state after the word. ``</s>`` is scored like a word."""
        known = self._scores.get((word, state))
        if known is None:
            if len(self._scores) >= REMEMBERED:
                self._scores.clear()
            known = self._scores[word, state] = self._score(word, state)
        return known

    def _score(self, word: str, state: State) -> tuple[float, State]:
        token = self.words.find(word)
        if token < 0:
            token = self._unknown
        rows, found = [token], 0  # found: words of context in the longest row there is
        logp = ABSENT_UNKNOWN if token < 0 else float(self.levels[0].logp[token])
        for length, parent in enumerate(state, 1):
            level = self.levels[length]
            key = (parent << SHIFT) | token
            row = -1
            if parent >= 0 and token >= 0:
                row = int(level.keys.searchsorted(key))
                if row < len(level.keys) and level.keys[row] == key:
                    logp, found = float(level.logp[row]), length
                else:
                    row = -1
            rows.append(row)
        for length in range(found, len(state)):
            if state[length] >= 0:
                logp += float(self.levels[length].backoff[state[length]])
        rows = rows[: self.order - 1]
        while rows and rows[-1] < 0:
            rows.pop()
        return logp * LN10, tuple(rows)

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary (the sentence marks and <unk> are not words)."""
        return word not in SPECIAL and self.words.find(word) >= 0

    def has_prefix(self, text: str) -> bool:
        """Whether any word begins with ``text``."""
        return self.words.has_prefix(text)

    def sentence(self, text: str) -> tuple[float, int]:
        """log p of a sentence with its end, and the number of words scored, the end among them."""
        total, state, words = 0.0, self.begin(), [*text.split(), END]
        for word in words:
            value, state = self.score(word, state)
            total += value
        return total, len(words)

    def rows(self, order: int, chunk: int = 2**16) -> Iterator[tuple[Any, Any, Any]]:
        """(word ids [n, order], log10 p [n], log10 back-off [n]) of all rows of an order, in pieces."""
        level = self.levels[order - 1]
        for low in range(0, len(level.logp), chunk):
            rows = np.arange(low, min(low + chunk, len(level.logp)))
            columns, part = [], rows
            for k in range(order - 1, 0, -1):
                keys = self.levels[k].keys[part]
                columns.append(keys & (MOST_WORDS - 1))
                part = keys >> SHIFT
            columns.append(part)
            back = level.backoff[rows] if order < self.order else np.zeros(len(rows), np.float32)
            yield np.stack(columns[::-1], axis=1), level.logp[rows], back

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the binary file, whole or not at all. Raises OutputError."""
        path = Path(path)
        counts = [len(level.logp) for level in self.levels[1:]] + [0] * (HIGHEST_ORDER - self.order)
        try:
            with whole(path) as file:
                file.write(bytes(HEADER.size))
                crc = 0
                for array in self._parts():
                    data = np.ascontiguousarray(array).tobytes()
                    padding = bytes(-len(data) % 8)
                    file.write(data)
                    file.write(padding)
                    crc = zlib.crc32(padding, zlib.crc32(data, crc))
                fixed = (self.order, len(self.words), len(self.words.text), *counts, crc, file.tell())
                file.seek(0)
                file.write(HEADER.pack(MAGIC, *fixed))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{path} cannot be written: {reason}") from None

    def _parts(self) -> Iterator[npt.NDArray[Any]]:
        yield self.words.starts
        yield self.words.text
        for k, level in enumerate(self.levels):
            if k:
                yield level.keys
            yield level.logp
            if k < self.order - 1:
                yield level.backoff

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> NGram:
        """Map a binary file. Raises ModelError if it is missing, damaged, or no such file."""
        path = Path(path)
        try:
            with open(path, "rb") as file:
                head = file.read(HEADER.size)
                if len(head) < HEADER.size or not head.startswith(MAGIC):
                    raise ModelError(f"{path} is not a language model of slyther")
                data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
        _, order, words, text, *counts, crc, length = HEADER.unpack(head)
        misfit = ModelError(f"{path} is damaged: its header does not fit its length of {len(data)} bytes")
        if not 1 <= order <= HIGHEST_ORDER or words >= MOST_WORDS or any(counts[order - 1 :]):
            raise misfit
        counts = [words, *counts][:order]
        layout: list[tuple[Any, int]] = [(np.uint64, words + 1), (np.uint8, text)]
        for k, count in enumerate(counts):
            layout += [(np.int64, count)] * (k > 0) + [(np.float32, count)] * (2 if k < order - 1 else 1)
        sizes = [np.dtype(kind).itemsize * count for kind, count in layout]
        if not HEADER.size + sum(size + -size % 8 for size in sizes) == length == len(data):
            raise misfit
        found, view = 0, memoryview(data)
        for low in range(HEADER.size, length, CHUNK):
            found = zlib.crc32(view[low : low + CHUNK], found)
        if found != crc:
            raise ModelError(f"{path} is damaged: its checksum does not match")
        arrays, place = [], HEADER.size
        for (kind, count), size in zip(layout, sizes, strict=True):
            arrays.append(np.frombuffer(data, np.dtype(kind).newbyteorder("<"), count, place))
            place += size + -size % 8
        vocabulary, arrays = Vocabulary(arrays[0], arrays[1]), arrays[2:]
        levels = []
        for k in range(order):
            keys = arrays.pop(0) if k else np.zeros(0, np.int64)
            logp = arrays.pop(0)
            levels.append(Level(keys, logp, arrays.pop(0) if k < order - 1 else logp[:0]))
        if not _sound(vocabulary, levels):
            raise ModelError(f"{path} is damaged: its parts contradict each other")
        return cls(vocabulary, levels)


def _sound(words: Vocabulary, levels: Sequence[Level]) -> bool:
    """Whether every row can be found and read: sorted keys with words and parents that are there, and
    numbers that are finite. A checksum does not say so of a file that somebody made up."""
    starts = words.starts
    if starts[0] != 0 or (starts[1:] < starts[:-1]).any() or starts[-1] != len(words.text):
        return False
    for above, level in itertools.pairwise(levels):
        keys = level.keys
        if (keys[1:] <= keys[:-1]).any() or (keys & (MOST_WORDS - 1) >= len(words)).any():
            return False
        if len(keys) and not 0 <= keys[0] <= keys[-1] < len(above.logp) << SHIFT:
            return False
    return all(np.isfinite(part).all() for level in levels for part in (level.logp, level.backoff))


class Vocabulary:
    """Distinct words sorted by their UTF-8 bytes; a word's id is its place.

    ``starts`` uint64 [words + 1], where each begins in ``text`` uint8 [bytes].
    """

    def __init__(self, starts: npt.NDArray[np.uint64], text: npt.NDArray[np.uint8]) -> None:
        self.starts, self.text = starts, text
        self._bytes = np.ascontiguousarray(text).data if len(text) else memoryview(b"")
        self._ids: dict[str, int] = {}
        self._prefixes: dict[str, bool] = {}

    @classmethod
    def of(cls, words: Sequence[bytes]) -> Vocabulary:
        """From words that are sorted and distinct."""
        starts = np.zeros(len(words) + 1, np.uint64)
        np.cumsum([len(word) for word in words], out=starts[1:], dtype=np.uint64)
        return cls(starts, np.frombuffer(b"".join(words), np.uint8))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, i: int) -> bytes:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return bytes(self._bytes[int(self.starts[i]) : int(self.starts[i + 1])])

    def find(self, word: str) -> int:
        """The id of a word, or -1."""
        found = self._ids.get(word)
        if found is None:
            raw = word.encode("utf-8", "surrogatepass")
            found = bisect.bisect_left(self, raw)
            found = found if found < len(self) and self[found] == raw else -1
            if len(self._ids) >= REMEMBERED:
                self._ids.clear()
            self._ids[word] = found
        return found

    def has_prefix(self, text: str) -> bool:
        """Whether any word begins with ``text``."""
        found = self._prefixes.get(text)
        if found is None:
            raw = text.encode("utf-8", "surrogatepass")
            place = bisect.bisect_left(self, raw)
            found = place < len(self) and self[place].startswith(raw)
            if len(self._prefixes) >= REMEMBERED:
                self._prefixes.clear()
            self._prefixes[text] = found
        return found
