"""Streams of samples that must keep together: stems at the recording's own rate, a second reading beside."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.resample import StreamResampler, reblock

BLOCK = 1 << 16  # samples that are read, or written, at once


class Lockstep:
    """A stream of blocks [n] that is taken in pieces of any size."""

    def __init__(self, blocks: Iterator[np.ndarray]) -> None:
        self._blocks, self._held = blocks, np.zeros(0, np.float32)

    def take(self, count: int) -> np.ndarray:
        parts, have = [self._held], len(self._held)
        while have < count:
            parts.append(next(self._blocks))
            have += len(parts[-1])
        joined = np.concatenate(parts)
        self._held = joined[count:]
        return joined[:count]


def at_source_rate(stems: Iterator[np.ndarray], reader: AudioReader) -> Iterator[np.ndarray]:
    """The stems at the recording's own rate, exactly as long as it, in blocks of a good size to write."""

    def resampled() -> Iterator[np.ndarray]:
        resampler: StreamResampler | None = None
        for block in stems:
            if resampler is None:
                resampler = StreamResampler(reader.rate, reader.source_rate, channels=len(block))
            yield resampler.push(block)
        if resampler is not None:
            resampler.total_out = reader.source_frames  # known for certain only when all has been read
            yield resampler.flush()

    return reblock(resampled(), BLOCK)
