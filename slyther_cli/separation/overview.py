"""What a separation looks like, gathered while its samples pass by, in memory that does not grow with it.

A recording has at most ``COLUMNS`` columns of equal time, each with what a picture shows of it, and at most
``FRAMES`` frames, which tell who speaks.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

COLUMNS = 2000
ROWS = 128  # of a spectrogram
TOP = 8000.0  # Hz, of a spectrogram
WINDOW_SECONDS = 0.032
FRAME_SECONDS = 0.02
FRAMES = 1 << 17  # 43 minutes of 20 ms; those of longer recordings are longer
SHORTEST = 64  # samples of a column, at least
AT_ONCE = 1 << 14  # samples of each track whose spectra are in memory at once

Floats = npt.NDArray[np.float32]


class Overview:
    """Of ``frames`` samples at ``rate`` Hz: the mixture, ``stems`` stems and, after them, ``others``.

    ``step``, ``frame``   samples of a column, of a frame.
    ``low``, ``high``     [tracks, columns], the least and the largest sample.
    ``spectra``           [tracks, columns, rows], mean power, from 0 to ``top`` Hz.
    ``power``             [tracks, frames], mean power.
    ``shared``            [columns], how much of the stems' sound lies at once in two of them, from 0 to 1:
                          twice the power of the second loudest stem, over that of both, summed over
                          frequencies. Two voices share little, as their harmonics lie apart.
    """

    def __init__(self, frames: int, rate: int, stems: int, others: int = 0) -> None:
        tracks = 1 + stems + others
        self.samples, self.rate, self.stems = frames, rate, stems
        self.window = 1 << max(5, round(math.log2(WINDOW_SECONDS * rate)))
        step = max(SHORTEST, -(-frames // COLUMNS))
        self._hop = min(step, self.window)
        self.step = -(-step // self._hop) * self._hop
        self.columns = max(1, -(-frames // self.step))
        self.frame = max(1, round(FRAME_SECONDS * rate), -(-frames // FRAMES))
        bins = min(self.window // 2, int(TOP * self.window / rate)) + 1
        self.top = (bins - 1) * rate / self.window
        self._edges = np.linspace(0, bins, min(ROWS, bins), endpoint=False).astype(np.int64)
        self._bins, self._hann = bins, np.hanning(self.window + 2)[1:-1].astype(np.float32)
        self.low = np.full((tracks, self.columns), np.inf, np.float32)
        self.high = np.full((tracks, self.columns), -np.inf, np.float32)
        self._sums = np.zeros((tracks, self.columns, len(self._edges)), np.float64)
        self._squares = np.zeros((tracks, max(1, -(-frames // self.frame))), np.float64)
        self._both = np.zeros((2, self.columns), np.float64)  # twice the second loudest, and the two
        self._hops = np.zeros((1, self.columns), np.float64)
        self._held, self._at, self._hops_done = np.zeros((tracks, 0), np.float32), 0, 0

    def add(self, block: Floats) -> None:
        """The next samples [tracks, n], of the ``frames`` in all."""
        if not block.shape[1]:
            return
        block = np.where(np.isfinite(block), block, np.float32(0))
        _fold(np.minimum, self.low, self._at, self.step, block)
        _fold(np.maximum, self.high, self._at, self.step, block)
        _fold(np.add, self._squares, self._at, self.frame, np.square(block, dtype=np.float64))
        self._at += block.shape[1]
        held = np.concatenate((self._held, block), 1)
        ready = max(0, (held.shape[1] - self.window) // self._hop + 1)
        self._listen(held, ready)
        self._held = held[:, ready * self._hop :]

    def finish(self) -> None:
        """All samples have been given."""
        left = -(-self._held.shape[1] // self._hop)
        self._listen(np.pad(self._held, ((0, 0), (0, self.window + self._hop))), left)
        self._held = self._held[:, :0]
        self.low = np.where(np.isfinite(self.low), self.low, 0)
        self.high = np.where(np.isfinite(self.high), self.high, 0)

    @property
    def spectra(self) -> Floats:
        scale = np.square(self._hann, dtype=np.float64).sum()  # a frame's power is that of its samples then
        return (self._sums / (scale * np.maximum(self._hops, 1)[..., None])).astype(np.float32)

    @property
    def power(self) -> Floats:
        sizes = np.full(self._squares.shape[1], self.frame)
        sizes[-1] = max(1, self.samples - self.frame * (len(sizes) - 1))
        return (self._squares / sizes).astype(np.float32)

    @property
    def shared(self) -> Floats:
        second, both = self._both
        return np.divide(second, both, out=np.zeros(self.columns), where=both > 0).astype(np.float32)

    def _listen(self, held: Floats, hops: int) -> None:
        """The spectra of so many windows at the beginning of ``held``."""
        many = max(1, AT_ONCE // self._hop)
        for first in range(0, hops, many):
            count = min(many, hops - first)
            start = first * self._hop
            part = held[:, start : start + (count - 1) * self._hop + self.window]
            windows = np.lib.stride_tricks.sliding_window_view(part, self.window, 1)[:, :: self._hop]
            power = np.square(np.abs(np.fft.rfft(windows * self._hann)[..., : self._bins]))
            widths = np.diff(self._edges, append=self._bins)
            rows = np.add.reduceat(power, self._edges, 2) / widths
            at, ratio = self._hops_done, self.step // self._hop
            _fold(np.add, self._sums, at, ratio, rows)
            _fold(np.add, self._hops, at, ratio, np.ones((1, count)))
            if self.stems > 1:
                two = np.partition(power[1 : 1 + self.stems], self.stems - 2, 0)[-2:]
                both = np.stack((2 * two[0].sum(1), two.sum((0, 2))))
                _fold(np.add, self._both, at, ratio, both)
            self._hops_done += count


def _fold(how: np.ufunc, into: npt.NDArray, at: int, step: int, values: npt.NDArray) -> None:
    """``values`` [tracks, n, ...], the first at place ``at``, joined by ``how`` in groups of ``step`` places,
    into ``into`` [tracks, groups, ...]."""
    first, within = divmod(at, step)
    edges = np.arange(-within, values.shape[1], step)
    edges[0] = 0
    here = slice(first, first + len(edges))
    into[:, here] = how(into[:, here], how.reduceat(values, edges, 1))
