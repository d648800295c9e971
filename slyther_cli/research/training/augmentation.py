"""What rooms, lines and noise do to speech: simulated, for training and for scoring (ours; no paper's)."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from slyther_cli.errors import UsageError

TAIL_S = 0.0025  # after the direct sound, reflections arrive
MP3_DELAY = 1105  # samples that an MP3 begins with when its header has no room to tell of them


def drawn(rng: np.random.Generator, bounds: tuple[float, ...]) -> float:
    """A number between the least and the most."""
    return float(rng.uniform(bounds[0], bounds[1]))


def check_drawn(config: Any, ranges: tuple[str, ...], shares: tuple[str, ...]) -> None:
    """Raises :class:`UsageError` unless of ``config`` the ``ranges`` hold the least and the most, the
    ``shares`` are from 0 to 1, and ``speed`` holds factors that leave speech speech."""
    if not config.speed or not all(0.5 <= s <= 2 for s in config.speed):
        raise UsageError("speed must hold factors from 0.5 to 2")
    for name in ranges:
        if len(pair := getattr(config, name)) != 2 or not pair[0] <= pair[1]:
            raise UsageError(f"{name} must hold the least and the most")
    if not all(0 <= getattr(config, name) <= 1 for name in shares):
        raise UsageError(f"{', '.join(shares[:-1])} and {shares[-1]} must be from 0 to 1")


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """Unit noise whose spectrum falls with a random slope, from white to brown; float32 [n]."""
    size = next_fast_len(n, real=True)
    white = rfft(rng.standard_normal(size, np.float32))
    slope = np.arange(1, len(white) + 1, dtype=np.float32) ** np.float32(-rng.uniform(0, 1))
    slope[0] = 0  # no offset
    x = irfft(white * slope, size)[:n].astype(np.float32)
    return x / max(1e-9, float(x.std()))


def noisy(x: np.ndarray, unit_noise: np.ndarray, snr_db: float) -> np.ndarray:
    """[samples] with noise ``snr_db`` below it."""
    return x + unit_noise * np.float32(np.sqrt(np.mean(x**2)) * 10 ** (-snr_db / 20))


def coloured(rng: np.random.Generator, x: np.ndarray, deviation_db: float, waves: int = 5) -> np.ndarray:
    """[samples] -> the same shape and level through a zero-phase filter: its gain in dB is a sum of slow
    waves over frequency, of random heights."""
    size = next_fast_len(2 * len(x), real=True)  # padded, so that nothing wraps around
    spectrum = rfft(x, size)
    heights = rng.normal(0, deviation_db * (2 / waves) ** 0.5, waves)
    grid = np.linspace(0, 1, 256)
    shapes = np.cos(np.pi * np.outer(np.sqrt(grid), np.arange(1, waves + 1)))  # finer at low frequencies
    gain = np.interp(np.linspace(0, 1, len(spectrum)), grid, 10 ** (shapes @ heights / 20))
    return _at_level_of(x, irfft(spectrum * gain.astype(np.float32), size)[: len(x)])


def reverberant(
    rng: np.random.Generator, x: np.ndarray, rate: int, seconds: float, direct_db: float
) -> np.ndarray:
    """[samples] -> the same shape and level, in a room: the direct sound and a tail of noise that falls by
    60 dB in ``seconds``; ``direct_db`` is the direct sound against the tail."""
    n = max(2, int(seconds * rate))
    tail = rng.standard_normal(n) * 10 ** (-3 * np.arange(n) / n)
    tail[: min(n - 1, int(TAIL_S * rate))] = 0
    tail *= 10 ** (-direct_db / 20) / np.sqrt(np.square(tail).sum())
    tail[0] = 1
    size = next_fast_len(len(x) + n, real=True)
    return _at_level_of(x, irfft(rfft(x, size) * rfft(tail.astype(np.float32), size), size)[: len(x)])


def between(x: np.ndarray, rate: int, low: float, high: float) -> np.ndarray:
    """[..., samples] as over a telephone line that passes ``low`` to ``high`` Hz: 3 dB less there, 24 dB an
    octave less below and 72 above; zero-phase."""
    n = x.shape[-1]
    size = next_fast_len(2 * n, real=True)
    frequency = np.fft.rfftfreq(size, 1 / rate)
    with np.errstate(divide="ignore"):
        power = 1 / (1 + (low / frequency) ** 8) / (1 + (frequency / high) ** 24)
    return irfft(rfft(x, size) * np.sqrt(power), size)[..., :n].astype(np.float32)


def band_limited(x: np.ndarray, rate: int, high: float) -> np.ndarray:
    """[samples] without what lies above ``high`` Hz, as after a codec or at a lower rate; float32."""
    size = next_fast_len(len(x), real=True)
    spectrum = rfft(x, size)
    spectrum[int(high / rate * size) :] = 0
    return irfft(spectrum, size)[: len(x)].astype(np.float32)


def mp3_coded(x: np.ndarray, rate: int, compression: float) -> np.ndarray:
    """[samples] -> the same shape and time, written as MP3 and read again. ``compression`` is libsndfile's,
    below 1: at 16 kHz 0.8 gives 40 kbit/s, 0.9 gives 24 (nothing above 6 kHz is left) and 0.95 gives 16."""
    import soundfile as sf

    file = io.BytesIO()
    sf.write(file, x, rate, format="MP3", compression_level=compression, bitrate_mode="CONSTANT")
    file.seek(0)
    y, _ = sf.read(file, dtype="float32")
    return y[MP3_DELAY:][: len(x)] if len(y) >= len(x) + MP3_DELAY else y[: len(x)]


def _at_level_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """``y`` with the energy of ``x``, float32."""
    gain = np.sqrt(np.square(x, dtype=float).mean() / max(np.square(y).mean(), 1e-20))
    return (y * gain).astype(np.float32)
