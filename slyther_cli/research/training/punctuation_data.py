"""Books to train punctuation on: stretches of their words with marks and cases, and a recogniser's errors.

A manifest is a TSV with the columns path (relative to it; UTF-8 text) and split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from slyther_cli.decode.tokens import END, SentencePieceTokenizer
from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.language.corpus import paragraphs
from slyther_cli.research.language.marked import ANY, Marked, Reader, common_forms, settle
from slyther_cli.research.language.misheard import Misheard
from slyther_cli.research.training.data import read_table
from slyther_cli.research.training.piece_vectors import piece_vectors

IGNORED = -100  # a target that does not count
PIECES_FROM = 600_000  # words that word pieces are learnt from
VECTORS_FROM = 10_000_000  # words that the first vectors of pieces are counted in


@dataclass(frozen=True)
class TextData:
    """``manifests`` are relative to the configuration's folder. ``wrapped``: in the texts only an empty line
    ends a paragraph."""

    manifests: tuple[str, ...] = ()
    train_split: str = "train"
    dev_split: str = "dev"
    wrapped: bool = False


@dataclass(frozen=True)
class DamageConfig:
    """``share`` of the stretches that have errors; of their words as many are wrong as drawn between the two
    ``rates``."""

    share: float = 0.5
    rates: tuple[float, ...] = (0.05, 0.25)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or len(self.rates) != 2 or not 0 <= self.rates[0] <= self.rates[1] <= 1:
            raise UsageError("share is from 0 to 1; rates are two numbers from 0 to 1, the lower one first")


def read_books(manifests: Sequence[Path], split: str, wrapped: bool, reader: Reader) -> dict[str, Marked]:
    """The texts of a split by their paths. Raises InputError: a file cannot be read, or nothing is there."""
    books = {}
    for manifest in manifests:
        for row in read_table(manifest, ("path", "split")):
            if row["split"] == split:
                path = manifest.resolve().parent / row["path"]
                books[str(path)] = reader.read(paragraphs(path, wrapped))
    books = {name: book for name, book in books.items() if len(book)}
    if not books:
        raise InputError(f"no text of split {split!r} in {', '.join(map(str, manifests))}")
    settle(list(books.values()), len(reader.vocabulary))
    return books


class Books:
    """The texts of the training split, one after the other; ``tokenizer`` is learnt from them unless given.

    Raises InputError as :func:`read_books` does; UsageError: too little text for so many pieces.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        split: str,
        wrapped: bool,
        size: int,
        tokenizer: SentencePieceTokenizer | None,
    ) -> None:
        reader = Reader()
        books = list(read_books(manifests, split, wrapped, reader).values())
        self.count = len(books)
        self.words = np.concatenate([book.words for book in books])
        self.marks = np.concatenate([book.marks for book in books])
        self.cases = np.concatenate([book.cases for book in books])
        self.forms = common_forms(reader.forms)
        self.tokenizer = tokenizer or self._learnt(reader.vocabulary, size)
        self._lay_out(reader.vocabulary)
        self._misheard = Misheard(self.words, reader.vocabulary)

    def __len__(self) -> int:
        return len(self.words)

    def _learnt(self, vocabulary: list[str], size: int) -> SentencePieceTokenizer:
        lines, every = len(self.words) // 50, max(1, len(self.words) // PIECES_FROM)
        text = (
            " ".join(vocabulary[word] for word in self.words[50 * i : 50 * i + 50])
            for i in range(0, lines + 1, every)
        )
        try:
            return SentencePieceTokenizer.train(text, size)
        except ValueError as error:
            raise UsageError(f"[model] vocab: {error}") from None

    def _lay_out(self, vocabulary: list[str]) -> None:
        """The pieces of all words in one array: those of word i begin at ``_first[i]``."""
        pieces = self.tokenizer.encode_words(vocabulary)
        self._lengths = np.array([len(ids) for ids in pieces])
        self._first = np.cumsum(self._lengths) - self._lengths
        self._pieces = np.array([i for ids in pieces for i in ids], np.int64)

    def stretch(
        self, pieces: int, damage: DamageConfig, look_ahead: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Word pieces, marks and cases, int64 [pieces] each; targets stand at a word's last piece, or
        ``look_ahead`` words later, and are ``IGNORED`` elsewhere. Ends at any word."""
        start = int(rng.integers(max(1, len(self) - pieces)))
        part = slice(start, start + pieces)
        text = Marked(self.words[part], self.marks[part], self.cases[part])
        if rng.random() < damage.share:
            text = self._misheard(text, float(rng.uniform(damage.rates[0], damage.rates[1])), rng)
        ends = np.cumsum(self._lengths[text.words])
        count = int(np.searchsorted(ends, pieces - look_ahead, "right"))
        out = np.full((3, pieces), IGNORED)
        out[0] = END
        if count:
            ends = ends[:count]
            out[0, : ends[-1]] = self._flat(text.words[:count])
            at = np.append(ends - 1, ends[-1] + np.arange(look_ahead))[look_ahead:]
            out[1, at] = text.marks[:count]
            out[2, at] = text.cases[:count]
            out[2, out[2] == ANY] = IGNORED
        return out[0], out[1], out[2]

    def vectors(self, dim: int) -> Tensor:
        """An embedding to begin with, float32 [pieces, dim]: see :mod:`piece_vectors`."""
        words = self.words[:VECTORS_FROM]
        lengths = self._lengths[words]
        ends = np.cumsum(lengths)
        marks, cases = np.full((2, ends[-1]), IGNORED)
        marks[ends - 1], cases[ends - 1] = self.marks[: len(words)], self.cases[: len(words)]
        cases[cases == ANY] = IGNORED
        return piece_vectors(self._flat(words), marks, cases, self.tokenizer.size, dim)

    def _flat(self, words: np.ndarray) -> np.ndarray:
        """The pieces of words, one after the other."""
        lengths = self._lengths[words]
        inside = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        return self._pieces[np.repeat(self._first[words], lengths) + inside]


def batch_of(
    rows: int, stretch: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``rows`` stretches, [rows, pieces] each of pieces, marks and cases."""
    pieces, marks, cases = zip(*(stretch() for _ in range(rows)), strict=True)
    return np.stack(pieces), np.stack(marks), np.stack(cases)
