"""Words where nobody speaks: music makes a recogniser write now and then. Such segments are left out.

Speech, even badly heard, is dense or sure. The bounds were chosen on read speech and on the slow reading of
learners, so that no more is lost than was wrong; docs/transcribe.md has the figures. Noise and silence yield
no words by themselves.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slyther_cli.text.segments import Segment

SURE = 0.6  # mean probability of the words, by letters
DENSE = 5.0  # letters a second
AROUND = 0.8  # seconds of silence that a segment has around it


def like_speech(segment: Segment, rate: int) -> bool:
    """Whether a segment, times in samples at ``rate``, is sure or dense enough to be speech."""
    letters = [len(word.text) for word in segment.words]
    sure = float(np.average([word.probability for word in segment.words], weights=letters))
    return sure >= SURE or sum(letters) >= DENSE * ((segment.end - segment.start) / rate + AROUND)


class Likely:
    """Passes on what is like speech, and counts what is not. With ``everything``, all is passed on."""

    def __init__(self, rate: int, everything: bool = False) -> None:
        self.rate, self.everything = rate, everything
        self.words, self.first = 0, 0.0  # left out; seconds where the first of them is

    def of(self, segments: Iterable[Segment]) -> list[Segment]:
        kept = []
        for segment in segments:
            if self.everything or like_speech(segment, self.rate):
                kept.append(segment)
                continue
            if not self.words:
                self.first = segment.start / self.rate
            self.words += len(segment.words)
        return kept

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        if not self.words:
            return None
        what = "1 word was" if self.words == 1 else f"{self.words} words were"
        return f"{what} left out, the first at {self.first:.0f} s: little like speech; --all-words keeps them"
