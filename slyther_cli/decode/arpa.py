"""ARPA files: the text format in which n-gram models are exchanged, also gzipped.

    \\data\\ / ngram 1=<count> ... / \\1-grams: / <log10 p> <word> ... [<log10 back-off>] / ... / \\end\\
"""

from __future__ import annotations

import array
import contextlib
import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from slyther_cli.decode.ngram import HIGHEST_ORDER, MOST_WORDS, SHIFT, Level, NGram, Vocabulary
from slyther_cli.errors import ModelError, OutputError
from slyther_cli.files import whole

HUGE = 1e30  # beyond it, a log10 is no number of a model
LONGEST_LINE = 100_000  # characters
MOST_PACKED, ROOM = 40, 1 << 20  # so many times its size, and so many bytes, may come out of a gzip file
_COUNT = re.compile(r"ngram\s+([0-9]+)\s*=\s*([0-9]+)$")
_MOST_DIGITS = 18  # of a count


def read_arpa(path: str | os.PathLike[str]) -> NGram:
    """The model in an ARPA file (orders 1 to 4; log10 values kept as float32).

    Raises ModelError, with the line number, for a file that is missing or damaged: wrong counts, a number
    that is none, an unknown word, an n-gram twice or without its first n - 1 words.
    """
    reader = _Lines(path)
    try:
        return _parse(reader)
    except (OSError, EOFError, zlib.error) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise ModelError(f"{path} cannot be read: {reason}") from None
    except UnicodeDecodeError:
        raise reader.damaged("no UTF-8 text") from None


class _Lines:
    """The lines of a file that are not empty, with their number."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path, self.number = path, 0

    def __iter__(self) -> Iterator[str]:
        with open(self.path, "rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
            packed = os.fstat(probe.fileno()).st_size
        read = 0
        with gzip.open(self.path, "rb") if zipped else open(self.path, "rb") as file:
            while raw := file.readline(LONGEST_LINE):
                self.number += 1
                read += len(raw)
                if zipped and read > ROOM + MOST_PACKED * packed:
                    raise self.damaged(f"packed more than {MOST_PACKED}-fold, which no language model is")
                if len(raw) >= LONGEST_LINE:
                    raise self.damaged("a line of absurd length")
                line = raw.decode("utf-8").strip()
                if line:
                    yield line

    def damaged(self, what: str) -> ModelError:
        return ModelError(f"{self.path} is damaged: line {self.number}: {what}")


def _parse(reader: _Lines) -> NGram:
    lines = iter(reader)
    for line in lines:
        if line == "\\data\\":
            break
    else:
        raise ModelError(f"{reader.path} is not an ARPA file: it has no \\data\\")
    counts: list[int] = []
    line = ""
    for line in lines:
        found = _COUNT.match(line)
        if not found:
            break
        if max(map(len, found.groups())) > _MOST_DIGITS:
            raise reader.damaged("a count of n-grams that no file can hold")
        if int(found[1]) != len(counts) + 1 or len(counts) == HIGHEST_ORDER:
            raise reader.damaged(f"orders must be 1, 2, ... up to {HIGHEST_ORDER}")
        counts.append(int(found[2]))
    if not counts:
        raise reader.damaged("counts of n-grams expected")
    if counts[0] >= MOST_WORDS:
        raise ModelError(f"{reader.path} has more than {MOST_WORDS} words")
    vocabulary = Vocabulary.of([])
    levels: list[Level] = []
    ids: dict[str, int] = {}
    for order, count in enumerate(counts, 1):
        if line != f"\\{order}-grams:":
            raise reader.damaged(f"\\{order}-grams: expected")
        words, values, line = _section(reader, lines, order, count, ids)
        logp, backoff = np.frombuffer(values, np.float32).reshape(-1, 2).T
        if order == 1:
            names = [word.encode() for word in ids]
            ranks = sorted(range(len(names)), key=names.__getitem__)
            vocabulary = Vocabulary.of([names[i] for i in ranks])
            ids = {word: i for i, word in enumerate(sorted(ids, key=str.encode))}
            levels.append(Level(np.zeros(0, np.int64), logp[ranks], backoff[ranks]))
        else:
            levels.append(_level(reader, levels, np.frombuffer(words, np.int64), order, logp, backoff))
    if line != "\\end\\":
        raise reader.damaged("\\end\\ expected")
    return NGram(vocabulary, levels)


def _section(
    reader: _Lines, lines: Iterator[str], order: int, count: int, ids: dict[str, int]
) -> tuple[Any, Any, str]:
    """Word ids [n * order], values [n * 2] and the line after the section. Order 1 fills ``ids``."""
    words, values = array.array("q"), array.array("f")
    rows = 0
    for line in lines:
        if line.startswith("\\") and (line == "\\end\\" or line.endswith("-grams:")):
            break
        parts = line.split()
        if not order < len(parts) <= order + 2:
            raise reader.damaged(f"a probability, {order} words and perhaps a back-off expected")
        try:
            logp, backoff = float(parts[0]), float(parts[order + 1]) if len(parts) > order + 1 else 0.0
        except ValueError:
            raise reader.damaged("a number expected") from None
        if not (logp <= 0.0 and abs(backoff) < HUGE):
            raise reader.damaged("a log10 probability of at most 0 and a finite back-off expected")
        values.extend((max(logp, -HUGE), backoff))
        if order == 1:
            if parts[1] in ids:
                raise reader.damaged(f"the word {parts[1][:50]!r} stands there twice")
            ids[parts[1]] = len(ids)
        else:
            try:
                words.extend([ids[word] for word in parts[1 : order + 1]])
            except KeyError as error:
                raise reader.damaged(f"{error.args[0][:50]!r} is not among the 1-grams") from None
        rows += 1
        if rows > count:
            raise reader.damaged(f"more than the {count} {order}-grams announced")
    else:
        raise reader.damaged("the file ends early")
    if rows < count:
        raise reader.damaged(f"{rows} {order}-grams where {count} are announced")
    return words, values, line


def _level(reader: _Lines, levels: list[Level], words: Any, order: int, logp: Any, backoff: Any) -> Level:
    words = words.reshape(-1, order)
    parents = words[:, 0]
    for k in range(1, order - 1):
        keys = (parents << SHIFT) | words[:, k]
        parents = np.searchsorted(levels[k].keys, keys)
        inside = np.minimum(parents, max(len(levels[k].keys) - 1, 0))
        if len(keys) and (not len(levels[k].keys) or (levels[k].keys[inside] != keys).any()):
            raise reader.damaged(f"a {order}-gram above has no entry for its first {order - 1} words")
    keys = (parents << SHIFT) | words[:, -1]
    ranks = np.argsort(keys, kind="stable")
    keys = keys[ranks]
    if (keys[1:] == keys[:-1]).any():
        raise reader.damaged(f"one of the {order}-grams above stands there twice")
    return Level(keys, logp[ranks], backoff[ranks])


def write_arpa(model: NGram, path: str | os.PathLike[str]) -> None:
    """Write a model as ARPA text (gzipped if the name ends in .gz), whole or not at all.

    Nine digits, so that reading it back gives the same float32 values. Raises OutputError.
    """
    path = Path(path)
    names = [model.words[i].decode("utf-8", "replace") for i in range(len(model.words))]
    try:
        with contextlib.ExitStack() as files:
            file: IO[str]
            if path.suffix == ".gz":
                packed = files.enter_context(whole(path))
                file = files.enter_context(gzip.open(packed, "wt", encoding="utf-8", newline="\n"))
            else:
                file = files.enter_context(whole(path, "w", encoding="utf-8", newline="\n"))
            file.write("\\data\\\n")
            file.writelines(f"ngram {k}={len(level.logp)}\n" for k, level in enumerate(model.levels, 1))
            for order in range(1, model.order + 1):
                file.write(f"\n\\{order}-grams:\n")
                for ids, logp, backoff in model.rows(order):
                    for row, p, b in zip(ids.tolist(), logp.tolist(), backoff.tolist(), strict=True):
                        tail = f"\t{b:.9g}" if b else ""
                        file.write(f"{p:.9g}\t{' '.join(names[i] for i in row)}{tail}\n")
            file.write("\n\\end\\\n")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None


def load_language_model(path: str | os.PathLike[str]) -> NGram:
    """Our binary file or an ARPA file, told apart by their first bytes. Raises ModelError."""
    from slyther_cli.decode.ngram import MAGIC

    try:
        with open(path, "rb") as file:
            ours = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    return NGram.load(path) if ours else read_arpa(path)
