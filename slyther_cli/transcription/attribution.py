"""Whose a word is that was heard in one of several stems: what leaks into another is heard twice.

A word is left out of a stem where another one is far louder, and where another one that is louder has nearly
the same word at the same time. Words that are said at once by two people stay: both stems are loud there, and
the words differ.
"""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path

import numpy as np
import soundfile as sf

from slyther_cli.decode.words import Word

FAR = 10.0  # dB below another stem: what is heard there has leaked
ALIKE = 0.6  # share of the letters that two hearings of one word have in common
SLACK = 0.1  # seconds between two hearings of one word
EDGE = 0.04  # seconds around a word: a frame of the recogniser
FLOOR = 1e-12  # power below which everything is silence

Read = Callable[[], Iterator[Word]]


class Levels:
    """How loud a stem is, read from its file: memory for one word. ``rate``: of the samples that are asked
    for. To be closed."""

    def __init__(self, path: Path, rate: int) -> None:
        self._file = sf.SoundFile(path)
        self._scale = self._file.samplerate / rate

    def between(self, start: int, end: int) -> float:
        """dB of the samples from ``start`` to ``end``; of none, silence."""
        first, last = (min(max(0, round(at * self._scale)), self._file.frames) for at in (start, end))
        self._file.seek(first)
        x = self._file.read(last - first, dtype="float64")
        return float(10 * np.log10(max(float(np.mean(x**2)) if len(x) else 0.0, FLOOR)))

    def close(self) -> None:
        self._file.close()


class Attribution:
    """``levels``: of each stem; ``words``: gives those of each, in order of time, as often as it is called.
    ``rate``: samples a second of the words' times. ``leaked`` counts what was left out."""

    def __init__(self, levels: Sequence[Levels], words: Sequence[Read], rate: int) -> None:
        self._levels, self._words = levels, words
        self._slack, self._edge = round(SLACK * rate), round(EDGE * rate)
        self.leaked = 0

    def own(self, stem: int) -> Iterator[Word]:
        """The words of a stem that are its own."""
        others = {i: Nearby(read(), self._slack) for i, read in enumerate(self._words) if i != stem}
        for word in self._words[stem]():
            heard = [(i, nearby.of(word)) for i, nearby in others.items()]
            if any(self._is_of(other, near, word, stem) for other, near in heard):
                self.leaked += 1
            else:
                yield word

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        if not self.leaked:
            return None
        what = "1 word was" if self.leaked == 1 else f"{self.leaked} words were"
        return (
            f"{what} left out of a voice that is far quieter there, or says the same: leaked from the other"
        )

    def _is_of(self, other: int, near: Sequence[Word], word: Word, stem: int) -> bool:
        """Whether ``word``, heard in ``stem``, is of the stem ``other`` that has the words ``near`` it."""
        if self._over(other, stem, word.start, word.end) > FAR:
            return True
        for same in near:
            if alike(word.text, same.text):  # compared over both, so that one of the two stays
                over = self._over(other, stem, min(word.start, same.start), max(word.end, same.end))
                if over > 0 or (over == 0 and other < stem):
                    return True
        return False

    def _over(self, one: int, other: int, start: int, end: int) -> float:
        """By how many dB the first stem is louder."""
        span = (start - self._edge, end + self._edge)
        return self._levels[one].between(*span) - self._levels[other].between(*span)


class Nearby:
    """Of words in order of time those around a moment that moves on, at most ``slack`` samples away."""

    def __init__(self, words: Iterator[Word], slack: int) -> None:
        self._words, self._slack = words, slack
        self._held: deque[Word] = deque()
        self._next = next(words, None)

    def of(self, word: Word) -> list[Word]:
        """Those around ``word``, which begins no earlier than the one asked for before."""
        while self._next is not None and self._next.start <= word.end + self._slack:
            self._held.append(self._next)
            self._next = next(self._words, None)
        while self._held and self._held[0].end < word.start - self._slack:
            self._held.popleft()
        return list(takewhile(lambda one: one.start <= word.end + self._slack, self._held))


def alike(one: str, other: str) -> bool:
    """Whether two words may be one, heard twice."""
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio() >= ALIKE
