"""Giving one recording the colour of another: a filter between their mean spectra, as engineers match two
takes. What is said and how loud it is stay; what a voice, a room and a microphone do to the spectrum changes.
"""

from __future__ import annotations

import numpy as np

WINDOW = 512
SMOOTH = 9  # bands; a formant stays, a harmonic does not
MOST_DB = 12.0
QUIET = 0.3  # the share of frames, the quietest ones, that tell nothing


def mean_spectrum(samples: np.ndarray) -> np.ndarray:
    """The mean power of samples [n] in each band of a window [WINDOW / 2 + 1], pauses left out.

    Raises ValueError: shorter than a window."""
    if len(samples) < WINDOW:
        raise ValueError(f"a mean spectrum needs {WINDOW} samples")
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), WINDOW)[:: WINDOW // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW))) ** 2
    loudness = power.sum(1)
    return power[loudness >= np.quantile(loudness, QUIET)].mean(0)


def matching_taps(own: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The linear-phase filter [WINDOW - 1] from mean spectrum ``own`` to ``wanted``: at most MOST_DB up or
    down in any band, and 0 dB over all of what has the spectrum ``own``."""
    floor = 1e-8 * max(own.max(), wanted.max(), 1e-30)
    gain = 10 * np.log10((wanted + floor) / (own + floor))
    shape = np.hanning(SMOOTH + 2)[1:-1]
    gain = np.convolve(np.pad(gain, SMOOTH // 2, mode="edge"), shape / shape.sum(), "valid")
    weight = (own + floor) / (own + floor).sum()
    gain = np.clip(gain - weight @ gain, -MOST_DB, MOST_DB)
    power = 10 ** (gain / 10)
    amplitude = np.sqrt(power / (weight @ power))
    taps = np.roll(np.fft.irfft(amplitude), WINDOW // 2)[1:]  # odd: the middle one is now
    return taps * np.hanning(WINDOW + 1)[1:-1]


class Equaliser:
    """A linear-phase filter over a stream, without delay: what is pushed comes back as long as it was, the
    last ``len(taps) // 2`` samples with :meth:`finish`."""

    def __init__(self, taps: np.ndarray):
        self.taps = taps.astype(np.float32)
        self._half = len(taps) // 2
        self._held = np.zeros(self._half, np.float32)  # silence before the start

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Samples [n], float32 -> what is ready."""
        self._held = np.concatenate((self._held, samples.astype(np.float32)))
        if len(self._held) < len(self.taps):
            return np.zeros(0, np.float32)
        out = np.convolve(self._held, self.taps, "valid")
        self._held = self._held[len(out) :]
        return out

    def flush(self) -> np.ndarray:
        """The rest."""
        return self.push(np.zeros(self._half, np.float32))
