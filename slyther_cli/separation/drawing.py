"""The pictures of a separation's page: shapes as SVG paths a unit a column wide, spectrograms as PNG."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from slyther_cli.longform.pieces import Bools, runs
from slyther_cli.separation import png
from slyther_cli.separation.findings import decibels

SPEAKERS = ("56b4e9", "e69f00", "2fc49a", "cc79a7", "f0e442", "d55e00", "4b9be0", "999999")
"""As page.css has them on black."""
RANGE = 70.0  # dB of a spectrogram, from its loudest
QUIETEST = RANGE - 120.0  # dB of full scale that the loudest place of a spectrogram has at least
SHADES = 32
WAVE = 100  # half the height of a waveform
LANE = 50  # the height of a level, in dB


def waveform(low: npt.NDArray, high: npt.NDArray, peak: float) -> str:
    """A path of the least and the largest samples [columns]; ``peak`` is as high as the picture."""
    scale = WAVE / peak if peak > 0 else 0.0
    top = np.minimum(WAVE - 1, np.rint(WAVE - scale * high)).astype(int).tolist()
    bottom = np.maximum(WAVE + 1, np.rint(WAVE - scale * low)).astype(int).tolist()
    above = "".join(f"V{y}H{i + 1}" for i, y in enumerate(top))
    below = "".join(f"V{bottom[i]}H{i}" for i in range(len(bottom) - 1, -1, -1))
    return f"M0 {WAVE}{above}{below}Z"


def level(db: npt.NDArray) -> str:
    """A path of levels [columns], from -LANE dB at the bottom to 0 at the top."""
    heights = (LANE - np.rint(np.clip(db + LANE, 0, LANE))).astype(int).tolist()
    return f"M0 {LANE}" + "".join(f"V{y}H{i + 1}" for i, y in enumerate(heights)) + f"V{LANE}Z"


def bars(mask: Bools, height: int) -> str:
    """A path of the columns where ``mask`` is true."""
    return "".join(f"M{start} 0H{end}V{height}H{start}Z" for start, end in runs(mask))


def covered(spans: Iterable[tuple[float, float]], columns: int, seconds: float) -> Bools:
    """Which of the columns spans of seconds touch."""
    mask = np.zeros(columns, np.bool_)
    for start, end in spans:
        first = int(start / seconds)
        mask[first : max(first + 1, int(np.ceil(end / seconds)))] = True
    return mask


def spectrogram(power: npt.NDArray, loudest: float, colour: str) -> str:
    """A picture of mean powers [columns, rows] as a data URL; ``loudest`` in dB is brightest."""
    steps = (decibels(power) - (loudest - RANGE)) / RANGE * SHADES
    picture = np.clip(steps, 0, SHADES - 1).astype(np.uint8).T[::-1]
    return "data:image/png;base64," + base64.b64encode(png.encode(picture, shades(colour))).decode()


def loudest_of(power: npt.NDArray) -> float:
    """dB of the loudest place of a spectrogram."""
    return max(QUIETEST, float(decibels(power.max(initial=0.0))))


def shades(colour: str) -> npt.NDArray[np.uint8]:
    """From black by ``colour``, six hexadecimal digits, to white."""
    middle = [int(colour[i : i + 2], 16) for i in (0, 2, 4)]
    at = np.linspace(0, 1, SHADES)
    return np.stack([np.interp(at, (0, 0.65, 1), (8, c, 255)) for c in middle], 1).astype(np.uint8)
