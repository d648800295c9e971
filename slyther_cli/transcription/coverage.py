"""Whether a transcript reaches as far as the speech does: a last cue long before the last speech is told.

What speech is follows from the recording itself: half seconds as loud as those in which words were heard.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from slyther_cli.decode.markdown import clock

WINDOWS = 2  # a second
FLOOR = -120.0  # dB; levels are kept in one byte each, in dB above it
AS_LOUD = 0.3  # share of the windows with words that are quieter than what counts as loud
LONG = 30.0  # seconds without a word up to the last loud window
MUCH = 0.2  # share of them that is loud
FAINT = -100.0  # dB; below is silence


class Coverage:
    """Levels as the sound passes by, spans of the words that came of it. Two bytes a second."""

    def __init__(self, rate: int) -> None:
        self.rate, self.window = rate, rate // WINDOWS
        self.levels, self._words = bytearray(), bytearray()
        self.last = 0  # sample where the last word ends

    def as_dict(self) -> dict[str, Any]:
        """What ``of`` makes an equal one of; for JSON."""
        return {
            "rate": self.rate, "levels": self.levels.hex(), "words": self._words.hex(), "last": self.last,
        }  # fmt: skip

    @classmethod
    def of(cls, kept: dict[str, Any]) -> Coverage:
        """From what ``as_dict`` gave."""
        coverage = cls(kept["rate"])
        coverage.levels, coverage._words = (bytearray.fromhex(kept[name]) for name in ("levels", "words"))
        coverage.last = kept["last"]
        return coverage

    def passing(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same blocks [n]; their levels replace those of a pass before."""
        self.levels = bytearray()
        total, count = 0.0, 0
        for block in blocks:
            yield block
            squares = np.square(block, dtype=np.float64)
            at = 0
            while at < len(squares):
                part = squares[at : at + self.window - count]
                total, count, at = total + float(part.sum()), count + len(part), at + len(part)
                if count == self.window:
                    self._close(total, count)
                    total, count = 0.0, 0
        if count:
            self._close(total, count)

    def louder(self, other: Coverage) -> None:
        """Take in what another voice of the same recording had: the louder level, the words of both."""
        for name in ("levels", "_words"):
            mine, theirs = getattr(self, name), getattr(other, name)
            length = max(len(mine), len(theirs))
            pairs = zip(mine.ljust(length, b"\0"), theirs.ljust(length, b"\0"), strict=True)
            setattr(self, name, bytearray(max(pair) for pair in pairs))
        self.last = max(self.last, other.last)

    def word(self, start: int, end: int) -> None:
        """A word was heard from sample to sample."""
        first, stop = start // self.window, -(-end // self.window)
        self._words.extend(bytes(max(0, stop - len(self._words))))
        self._words[first:stop] = b"\1" * (stop - first)
        self.last = max(self.last, end)

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        levels = np.frombuffer(bytes(self.levels), np.uint8)
        if not len(levels):
            return None
        words = np.frombuffer(bytes(self._words.ljust(len(levels), b"\0")), np.bool_)[: len(levels)]
        if not words.any():
            return "no words were heard"
        loud = max(np.quantile(levels[words], AS_LOUD), FAINT - FLOOR)
        after = -(-self.last // self.window)
        (rest,) = np.nonzero(levels[after:] >= loud)
        if not len(rest):
            return None
        length = int(rest[-1]) + 1
        if length < LONG * WINDOWS or len(rest) < MUCH * length:
            return None
        last, end = clock(round(self.last / self.rate)), clock(round((after + length) / WINDOWS))
        return (
            f"the last word ends at {last}, but sound as loud as the words goes on until {end}: look whether "
            "something was said there"
        )

    def _close(self, total: float, count: int) -> None:
        level = 10 * np.log10(total / count) if total > 0 else FLOOR
        self.levels.append(int(np.clip(round(level - FLOOR), 0, 255)))
