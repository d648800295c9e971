"""A recording's waveform, small enough for a picture, however long it is and without knowing its length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

MOST = 2048  # peaks; at least half as many in a recording of so many steps
STEP = 64  # samples of a peak at first


class Peaks:
    """The loudest sample of each step of time. Steps are joined two by two when there would be too many."""

    def __init__(self) -> None:
        self.step = STEP  # samples of a peak
        self._peaks = np.zeros(MOST, np.float32)
        self._count = 0  # samples

    def push(self, block: npt.NDArray[np.float32]) -> None:
        """float32 [n]"""
        at = 0
        while at < len(block):
            place, within = divmod(self._count, self.step)
            if place == MOST:
                self._peaks[: MOST // 2] = self._peaks.reshape(-1, 2).max(axis=1)
                self._peaks[MOST // 2 :] = 0
                self.step *= 2
                continue
            size = min(len(block) - at, self.step - within if within else (MOST - place) * self.step)
            part = np.abs(block[at : at + size])
            loudest = np.maximum.reduceat(part, np.arange(0, size, self.step))
            places = slice(place, place + len(loudest))
            self._peaks[places] = np.maximum(self._peaks[places], loudest)
            self._count, at = self._count + size, at + size

    def heights(self) -> list[int]:
        """From 0 to 100, the recording's loudest sample; none of them if there were no samples."""
        peaks = self._peaks[: -(-self._count // self.step)]
        top = float(peaks.max(initial=0.0))
        return [round(100 * float(peak) / top) if top > 0 else 0 for peak in peaks]
