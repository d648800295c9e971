"""Whether a separation worked, as far as its results can tell: who speaks when, and what is doubtful."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slyther_cli.longform.pieces import BELOW_OTHER_DB, Bools, runs, silence_below
from slyther_cli.separation.balance import EMPTY
from slyther_cli.separation.overview import Overview

DOUBT = 0.4  # of the sound at once in two stems: a lone voice with 6 dB between them
SMOOTH = 0.5  # seconds over which that is averaged
SHORT = 0.4  # seconds; shorter places are left out
MANY = 0.1  # of the time with speech
NAMED = 24  # places that are listed


@dataclass(frozen=True)
class Findings:
    """``levels``   dB [stems], against the loudest stem.
    ``active``      [stems, frames], who speaks.
    ``speech``, ``alone``  seconds [stems]: with speech, and with no other's.
    ``overlap``     seconds in which two or more speak. ``spoken``: in which anyone does.
    ``leakage``     dB [stems]: how loud the others' files are while that one speaks alone; None if it never
                    does, or nothing is heard.
    ``doubtful``    seconds, from and to: what sounds is at once in two files.
    """

    levels: list[float]
    active: Bools
    speech: list[float]
    alone: list[float]
    overlap: float
    spoken: float
    leakage: list[float | None]
    doubtful: list[tuple[float, float]]

    @property
    def doubt(self) -> float:
        """Seconds."""
        return sum(end - start for start, end in self.doubtful)

    @property
    def empty(self) -> list[int]:
        """The stems that hold hardly anything, from 0."""
        return [i for i, level in enumerate(self.levels) if level < -EMPTY] if self.spoken else []

    @property
    def longest(self) -> list[tuple[float, float]]:
        """The longest doubtful places, in their order."""
        return sorted(sorted(self.doubtful, key=lambda place: place[0] - place[1])[:NAMED])


def find(overview: Overview) -> Findings:
    power = overview.power[1 : 1 + overview.stems].astype(np.float64)
    seconds = overview.frame / overview.rate
    active = who_speaks(power)
    talking = active.sum(0)
    alone = active & (talking == 1)
    total = power.sum(1)
    levels = decibels(total / max(float(total.max(initial=0)), 1e-30))
    return Findings(
        levels=[round(max(-99.0, level), 1) + 0.0 for level in levels.tolist()],
        active=active,
        speech=(seconds * active.sum(1)).tolist(),
        alone=(seconds * alone.sum(1)).tolist(),
        overlap=seconds * int((talking > 1).sum()),
        spoken=seconds * int((talking > 0).sum()),
        leakage=[_leakage(power, alone, i) for i in range(len(power))],
        doubtful=_doubtful(overview, talking > 0),
    )


def who_speaks(power: npt.NDArray) -> Bools:
    """Mean powers of frames [stems, frames] -> which stem has speech of its own in which frame."""
    db = decibels(power)
    loudest = db.max(0)
    return (db > silence_below(loudest)) & (db > loudest - BELOW_OTHER_DB)


def decibels(power: npt.NDArray) -> npt.NDArray:
    return 10 * np.log10(np.maximum(power, 1e-12))


def per_column(frames: npt.NDArray, overview: Overview) -> npt.NDArray:
    """Values of frames [..., frames] -> their means [..., columns]; a column within a frame has its value."""
    count = frames.shape[-1]
    edges = np.arange(overview.columns + 1) * overview.step / overview.frame
    sums = np.concatenate((np.zeros((*frames.shape[:-1], 1)), np.cumsum(frames, -1, dtype=np.float64)), -1)
    inside = np.minimum(edges, count)
    whole = np.minimum(inside.astype(np.int64), count - 1)
    there = sums[..., whole] + (inside - whole) * frames[..., whole]
    return np.diff(there, axis=-1) / np.maximum(np.diff(inside), 1e-9)


def _leakage(power: npt.NDArray, alone: Bools, stem: int) -> float | None:
    own = float(power[stem, alone[stem]].sum())
    if own <= 0:
        return None
    others = np.delete(power, stem, 0)[:, alone[stem]].sum(1)
    return max(-99.0, float(decibels(np.array(others.max(initial=0) / own)))) if len(others) else None


def _doubtful(overview: Overview, spoken: Bools) -> list[tuple[float, float]]:
    column = overview.step / overview.rate
    here = per_column(spoken.astype(np.float64), overview) > 0.5
    wide = max(1, round(SMOOTH / column))
    weight = here * per_column(overview.power[1 : 1 + overview.stems].sum(0), overview)
    ones = np.ones(wide)
    mass = np.convolve(weight, ones, "same")[: len(here)]
    shared = np.convolve(weight * overview.shared, ones, "same")[: len(here)]
    doubt = here & (shared > DOUBT * np.maximum(mass, 1e-30))
    found: list[list[float]] = []
    for start, end in runs(doubt):
        if found and start * column - found[-1][1] < SMOOTH:
            found[-1][1] = end * column
        else:
            found.append([start * column, end * column])
    last = overview.samples / overview.rate
    return [(start, min(end, last)) for start, end in found if end - start >= SHORT]
