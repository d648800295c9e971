"""The words that a recogniser of phones can write, with their pronunciations.

They are the words of the language model, as the dictionary says them or, where it has none, the spelling
rules; a user's own pronunciations stand beside those or add words, and hot words are scored higher.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from slyther_cli.errors import InputError
from slyther_cli.text.dictionary import variants
from slyther_cli.text.ngram import SPECIAL, NGram
from slyther_cli.text.phonemes import pronounce, shorten
from slyther_cli.text.phones import PHONES, WORD, units
from slyther_cli.text.pronunciations import Pronunciations
from slyther_cli.text.tokens import normalise

LONGEST = 48  # phones of a word
HOT = 8.0  # natural logarithm by which a hot word is likelier
UNHEARD = 6.0  # and by which a word is likelier than <unk> that the user adds and the language model lacks


class Entry(NamedTuple):
    """A pronunciation. ``name``: number of the word; ``units``: ids of ``PhoneTokenizer``; ``model``: the
    word's place in the language model, -1 where it has none; ``extra``: natural logarithm, added to its
    score."""

    name: int
    units: tuple[int, ...]
    model: int
    extra: float


class Lexicon:
    """``names``: the words; ``entries``: how they are said, each at least once. Raises :class:`InputError`
    when there is no word at all."""

    def __init__(self, lm: NGram, own: Pronunciations | None = None, hot: Sequence[str] = ()) -> None:
        self.names: list[str] = []
        self.entries: list[Entry] = []
        self._numbers: dict[str, int] = {}
        self.compiled: Any = None  # what the compiled search makes of it
        self._lm, hot_words = lm, {word for phrase in hot for word in phrase.split()}
        for i in range(len(lm.words)):
            word = lm.words[i].decode("utf-8", "replace")
            if word not in SPECIAL and WORD.fullmatch(word):
                self._add(word, said(word), i, HOT * (word in hot_words))
        for word, phones in own.written() if own else ():
            model = lm.words.find(word)
            self._add(word, [phones], model, HOT * (word in hot_words) + UNHEARD * (model < 0))
        for word in sorted(hot_words - self._numbers.keys()):
            self._add(word, said(word), -1, HOT + UNHEARD)
        if not self.entries:
            raise InputError("the language model has no word that is written in English letters")

    def _add(self, word: str, ways: Iterable[Sequence[str]], model: int, extra: float) -> None:
        name = self._numbers.setdefault(word, len(self.names))
        if name == len(self.names):
            self.names.append(word)
        for phones in ways:
            if 0 < len(phones) <= LONGEST:
                self.entries.append(Entry(name, units(phones), model, extra))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """As the compiled tree takes them: where each pronunciation begins, its phones from 0, the numbers of
        the words, their places in the language model, what is added to their scores."""
        starts = np.cumsum([0, *(len(e.units) for e in self.entries)], dtype=np.int64)
        phones = np.array([(u - 1) % len(PHONES) for e in self.entries for u in e.units], np.uint8)
        names, model = (np.array([getattr(e, k) for e in self.entries], np.int32) for k in ("name", "model"))
        return starts, phones, names, model, np.array([e.extra for e in self.entries], np.float64)


def said(word: str) -> Iterator[tuple[str, ...]]:
    """The pronunciations of a word, the dictionary's first one first."""
    yield pronounce(word)[0]
    yield from variants().get(word, ())


def hot_words(text: str) -> list[str]:
    """Names and words parted by commas, as ``normalise`` writes them. Raises :class:`InputError`."""
    phrases = [normalise(part) for part in text.split(",")]
    for part, phrase in zip(text.split(","), phrases, strict=True):
        if not phrase or not all(WORD.fullmatch(word) for word in phrase.split()):
            raise InputError(
                f"--hotwords: {shorten(part.strip())!r} is not written in English letters: spell it so, or give "
                "it a line in --lexicon"
            )
    return phrases
