"""Recordings of noise, to be mixed under speech."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slyther_cli.errors import InputError
from slyther_cli.research.training.data import read_mono, read_table


def read_noises(manifests: Sequence[Path], split: str, rate: int) -> list[np.ndarray]:
    """The recordings of one split, float32 [samples] each: all in memory.

    A manifest is a TSV with the columns path (relative to it) and split. Raises :class:`InputError`: it or a
    recording cannot be read, there is none of this split.
    """
    found = [
        read_mono(manifest.resolve().parent / row["path"], rate)
        for manifest in manifests
        for row in read_table(manifest, ("path", "split"))
        if row["split"] == split
    ]
    found = [x for x in found if x.any()]
    if not found:
        raise InputError(f"no noise of split {split!r} in {', '.join(map(str, manifests))}")
    return found


def unit_excerpt(rng: np.random.Generator, noises: Sequence[np.ndarray], n: int) -> np.ndarray:
    """A random stretch of a random recording, at unit level, float32 [n]; a short one is repeated."""
    noise = noises[int(rng.integers(len(noises)))]
    start = rng.integers(max(1, len(noise) - n + 1))
    x = np.resize(noise[start:], n) if len(noise) < n else noise[start : start + n]
    return x / max(1e-9, float(x.std()))
