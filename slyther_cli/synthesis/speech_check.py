"""The speech check of ``slyther speak``: does a sentence sound as if it were all said, once, and then over?

Two witnesses. Lengths: a sentence that is far from what its text asks for, or that the network did not end,
or that stays on one sound. And, where a recogniser is on this machine, what it hears. A recogniser that hears
other words has misheard, in a short sentence above all, as often as the voice has misspoken: so it is also
asked how well the text fits the sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby

import numpy as np

from slyther_cli.models.vall_sampling import Said

LENGTHS = (0.5, 2.0)
"""Share of the expected length that is believed."""
STUCK_SECONDS = 1.5
MOST_WRONG = 0.5
"""Share of the words above which a sentence is said again, if it is more than one word: one misheard says
nothing."""
FITS = -2.5
"""Fit (``decode.align.fit``) from which a text is believed to have been said, whatever was heard. Of 60 short
sentences that Whisper hears right 59 fit so well, and none of the same sounds with another of the texts."""

Recognise = Callable[[np.ndarray], str]
"""Samples -> words."""
Fit = Callable[[np.ndarray, str], float]
"""Samples, words -> how well they fit, see ``decode.align.fit``."""


@dataclass(frozen=True)
class Verdict:
    """``problems``: what is wrong, in a few words each. ``badness``: to choose the best of bad tries, of the
    lengths or, where a try was ``heard``, the share of wrong words."""

    problems: tuple[str, ...] = ()
    badness: float = 0.0
    heard: str | None = None

    @property
    def rank(self) -> tuple[bool, float]:
        """The lower the better; what was not worth listening to comes last."""
        return self.heard is None, self.badness


def judge_lengths(said: Said, expected: float, rate: float, pause: float = 1.0) -> Verdict:
    """``expected`` frames, ``rate`` frames a second. ``pause``: how much longer than learnt pauses are, in
    which one sound may be heard."""
    frames = said.codes.shape[1]
    problems, badness = [], abs(np.log((frames + 1) / (expected + 1)))
    if not said.ended:
        problems.append("it ran away")
        badness += 3
    elif not LENGTHS[0] * expected - rate / 2 <= frames <= LENGTHS[1] * expected + rate / 2:
        problems.append(f"{frames / rate:.1f} s, {expected / rate:.1f} s expected")
    longest = max((len(list(run)) for _, run in groupby(said.codes[0].tolist())), default=0)
    if longest > STUCK_SECONDS * rate * max(1, pause):
        problems.append(f"one sound for {longest / rate:.1f} s")
        badness += 1
    return Verdict(tuple(problems), float(badness))


def judge_words(words: str, heard: str, fit: Callable[[], float] | None = None) -> Verdict:
    """Against the words of the text; marks and capitals do not count. ``fit``: how well the text fits the
    sound, asked where the words alone would be doubted."""
    wanted, found = as_recognised(words).split(), _words(heard)
    matched = SequenceMatcher(None, wanted, found, autojunk=False).get_matching_blocks()
    same = sum(block.size for block in matched)
    missed = max(len(wanted), len(found)) - same
    wrong = missed / max(1, len(wanted))
    doubted = missed > 1 and wrong > MOST_WRONG and (fit is None or fit() < FITS)
    return Verdict((f"the recogniser hears {wrong:.0%} wrong",) if doubted else (), wrong, heard)


def as_recognised(words: str) -> str:
    """Words of a spelling as recognisers write them: without marks, and the letter A as "a"."""
    return " ".join("a" if word == "ay" else word for word in _words(words))


def _words(text: str) -> list[str]:
    return "".join(c for c in text.lower() if c.isalpha() or c in "' ").split()
