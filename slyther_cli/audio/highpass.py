"""A high-pass filter for recordings of speech: it takes out a constant offset, mains hum and rumble.

Linear phase, so that what is kept stays in its place to the sample: nothing below STOP_HZ, all from PASS_HZ
on, which is below the deepest voices. Beyond its ends a recording is taken to go on as its own mirror image:
then a constant is taken out there too.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import fft, special

Floats = npt.NDArray[np.float64]

STOP_HZ, PASS_HZ = 50.0, 80.0
STOP_DB = 60.0
STEP = 8192  # samples that are filtered at once


class HighPass:
    """A stream of samples at ``rate``: ``push`` [n] gives what is ready, ``flush`` the rest, in all as many
    as came. The bits do not depend on the blocks: ``step`` samples are filtered at a time. Fewer than
    ``delay`` samples are held back.
    """

    def __init__(self, rate: int, step: int = STEP):
        self._taps = taps(rate)
        self._half = len(self._taps) // 2
        self._step, self.delay = step, step + self._half
        self._size = fft.next_fast_len(step + 2 * self._half, real=True)
        self._spectrum = fft.rfft(self._taps, self._size)
        self._held, self._begun = np.zeros(0), False

    def push(self, samples: npt.ArrayLike) -> Floats:
        self._held = np.concatenate([self._held, np.asarray(samples, np.float64)])
        if not self._begun:
            if len(self._held) < self._half:
                return np.zeros(0)
            self._held = np.concatenate([self._held[: self._half][::-1], self._held])
            self._begun = True
        return self._ready()

    def flush(self) -> Floats:
        if self._begun:
            self._held = np.concatenate([self._held, self._held[-self._half :][::-1]])
        elif len(self._held):
            self._held = np.pad(self._held, self._half, mode="symmetric")
        done, rest = self._ready(), len(self._held) - 2 * self._half
        return np.concatenate([done, self._filtered(self._held)[:rest]]) if rest > 0 else done

    def _ready(self) -> Floats:
        """What whole steps give; the samples that the next one sees stay."""
        out = [np.zeros(0)]
        while len(self._held) >= self._step + 2 * self._half:
            out.append(self._filtered(self._held[: self._step + 2 * self._half]))
            self._held = self._held[self._step :]
        return np.concatenate(out)

    def _filtered(self, seen: Floats) -> Floats:
        """[step + 2 half] or fewer samples -> [step]."""
        turned = fft.irfft(fft.rfft(seen, self._size) * self._spectrum, self._size)
        return turned[2 * self._half :][: self._step]


def filtered(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """A whole recording [n] without what lies below speech."""
    clean = HighPass(rate)
    return np.concatenate([clean.push(samples), clean.flush()]).astype(np.float32)


@lru_cache(maxsize=8)
def taps(rate: int) -> Floats:
    """An odd number of taps, the middle one is now. The sum is zero.

    A low-pass by Kaiser's window and formulas (Oppenheim and Schafer, "Discrete-Time Signal Processing",
    section 7.6), to the bit what ``scipy.signal`` makes of them, which takes most of a second to import.
    """
    width, middle = np.pi * (PASS_HZ - STOP_HZ) / (rate / 2), (STOP_HZ + PASS_HZ) / rate
    count, beta = math.ceil((STOP_DB - 7.95) / 2.285 / width + 1) | 1, 0.1102 * (STOP_DB - 8.7)
    at = np.arange(count) - 0.5 * (count - 1)
    window = special.i0(beta * np.sqrt(1 - (at / at[-1]) ** 2)) / special.i0(beta)
    low = middle * np.sinc(middle * at) * window
    low /= low.sum()
    found = -low / low.sum()
    found[len(found) // 2] += 1.0
    return found
