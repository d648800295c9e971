"""Words where nobody speaks: music makes a recogniser write now and then. Such segments are left out.

Speech, even badly heard, is dense or sure. The bounds were chosen on read speech and on the slow reading of
learners, so that no more is lost than was wrong; docs/transcribe.md has the figures. Noise and silence yield
no words by themselves. A segment that ends for its length is only the end of a line: it passes alone, or with
all that was said before it since the last pause.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from slyther_cli.decode.segments import Segment

SURE = 0.6  # mean probability of the words, by letters
DENSE = 5.0  # letters a second
AROUND = 0.8  # seconds of a pause: it parts stretches of speech, and half of it is on either side of one


class Stretch(NamedTuple):
    """What one voice says between two pauses, as far as it is known. ``letters``; ``sure``: the sum of their
    probabilities; ``start``, ``end``: samples, pauses not counted; ``pauses``: at how many of its ends."""

    letters: int
    sure: float
    start: int
    end: int
    pauses: int

    @classmethod
    def of(cls, segment: Segment, begins: bool) -> Stretch:
        letters = [len(word.text) for word in segment.words]
        sure = math.fsum(n * word.probability for n, word in zip(letters, segment.words, strict=True))
        return cls(sum(letters), sure, segment.start, segment.end, begins + (not segment.cut))

    def grown(self, more: Stretch) -> Stretch:
        """With the segment that follows in the same stretch, whose beginning is its own."""
        letters, sure = self.letters + more.letters, self.sure + more.sure
        return Stretch(letters, sure, self.start, more.end, 1 + more.pauses)

    def like_speech(self, rate: int) -> bool:
        """Whether it is sure or dense enough to be speech."""
        seconds = (self.end - self.start) / rate + self.pauses * AROUND / 2
        return self.sure >= SURE * self.letters or self.letters >= DENSE * seconds


class SpeechFilter:
    """Passes on what is like speech, and counts what is not. With ``everything``, all is passed on.

    The segments of a voice come in order; each voice has one of its own. Nothing waits for what comes later.
    """

    def __init__(self, rate: int, everything: bool = False) -> None:
        self.rate, self.everything = rate, everything
        self.words, self.first = 0, 0.0  # left out; seconds where the first of them is
        self._last: Segment | None = None
        self._stretch: Stretch | None = None  # up to the last segment

    def like_speech(self, segment: Segment) -> bool:
        """Whether the next segment is, alone or with what was said before it since the last pause."""
        last, before = self._last, self._stretch
        goes_on = (
            last is not None
            and last.speaker == segment.speaker
            and 0 <= segment.start - last.end < AROUND * self.rate
        )
        own = Stretch.of(segment, begins=not goes_on)
        whole = before.grown(own) if before is not None and goes_on else own
        self._last, self._stretch = segment, whole
        return own.like_speech(self.rate) or whole.like_speech(self.rate)

    def keep(self, segments: Iterable[Segment]) -> list[Segment]:
        kept = []
        for segment in segments:
            if self.everything or self.like_speech(segment):
                kept.append(segment)
                continue
            if not self.words:
                self.first = segment.start / self.rate
            self.words += len(segment.words)
        return kept

    def joined(self, others: Iterable[SpeechFilter]) -> SpeechFilter:
        """What this and those of other voices have left out, for :meth:`note`."""
        all_of_them = [one for one in (self, *others) if one.words]
        total = SpeechFilter(self.rate)
        total.words = sum(one.words for one in all_of_them)
        total.first = min((one.first for one in all_of_them), default=0.0)
        return total

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        if not self.words:
            return None
        what = "1 word was" if self.words == 1 else f"{self.words} words were"
        return f"{what} left out, the first at {self.first:.0f} s: little like speech; --all-words keeps them"
