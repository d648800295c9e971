"""A recogniser's errors put into words whose marks and cases are known: wrong, missing and doubled words."""

from __future__ import annotations

import re

import numpy as np

from slyther_cli.models.punctuation import LOWER, NONE, TERMINAL, TITLE
from slyther_cli.research.language.marked import ANY, Marked

REPLACED, LOST = 0.65, 0.2  # shares of the errors; the others are doubled words
LIKE_FROM = 20  # times that a word must occur to be taken for another one


class Misheard:
    """``words`` int32 [n], a text to take wrong words from, are numbers of the ``vocabulary``."""

    def __init__(self, words: np.ndarray, vocabulary: list[str]) -> None:
        self._words = words
        often = np.flatnonzero(np.bincount(words, minlength=len(vocabulary)) >= LIKE_FROM)
        groups: dict[str, list[int]] = {}
        for word in often.tolist():
            groups.setdefault(_skeleton(vocabulary[word]), []).append(word)
        self._like = {word: group for group in groups.values() if len(group) > 1 for word in group}

    def __call__(self, text: Marked, rate: float, rng: np.random.Generator) -> Marked:
        """A text with ``rate`` of its words wrong: replaced (half by what sounds alike, if anything does),
        lost or doubled.

        A lost word leaves its mark to the word before, and its sentence a capital at the next; a wrong word
        and the second of two have no case that could be told.
        """
        words, marks, cases = text.words.copy(), text.marks.copy(), text.cases.copy()
        kind = rng.random(len(words)) / max(rate, 1e-9)
        for i in np.flatnonzero(kind < REPLACED).tolist():
            like = self._like.get(int(words[i])) if rng.random() < 0.5 else None
            words[i] = like[rng.integers(len(like))] if like else self._words[rng.integers(len(self._words))]
            cases[i] = ANY
        lost = (kind >= REPLACED) & (kind < REPLACED + LOST)
        for i in np.flatnonzero(lost).tolist():
            if i and marks[i] != NONE and marks[i - 1] == NONE:
                marks[i - 1] = marks[i]
            if i + 1 < len(words) and (not i or marks[i - 1] in TERMINAL) and cases[i + 1] == LOWER:
                cases[i + 1] = TITLE
        times = np.where(lost, 0, np.where((kind >= REPLACED + LOST) & (kind < 1), 2, 1))
        kept = np.repeat(np.arange(len(words)), times)
        same = kept[1:] == kept[:-1]
        first, second = np.append(same, False)[: len(kept)], np.append(False, same)[: len(kept)]
        marks, cases = np.where(first, NONE, marks[kept]), np.where(second, ANY, cases[kept])
        return Marked(words[kept], marks.astype(np.uint8), cases.astype(np.uint8))


def _skeleton(word: str) -> str:
    """The first letter and the consonants after it, which words that sound alike share, roughly."""
    return word[0] + re.sub(r"(.)\1+", r"\1", re.sub("[aeiouyhw']", "", word[1:]))
