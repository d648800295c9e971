"""A recogniser's targets in every frame: the states that ``recognition_teacher`` writes, laid under examples
that are made of their utterances."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slyther_cli.errors import InputError

RATE = 16000
FRAME = 640  # samples of a frame of the targets
LATE = 0.25  # a target frame tells of the sound so many frames after its start


class Part(NamedTuple):
    """An utterance in an example: the path of its sound, where it starts in samples, its speed."""

    path: str
    start: int
    speed: float


class TeacherStates:
    """The folder that ``recognition_teacher`` writes. ``dim``: numbers a frame, their squares' mean sum is 1.

    Raises :class:`InputError`: it cannot be read, or is something else.
    """

    def __init__(self, folder: Path):
        try:
            index = json.loads((folder / "index.json").read_text())
            self._states = np.load(folder / "states.npy", mmap_mode="r")
            self._places = {path: (int(a), int(b)) for path, a, b in index["utterances"]}
            self._scale = np.asarray(index["scale"], np.float32)
            if self._states.ndim != 2 or self._scale.shape != self._states.shape[1:]:
                raise ValueError("its shapes do not fit")
            if max((b for _, b in self._places.values()), default=0) > len(self._states):
                raise ValueError("states.npy is too short")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: not the states of a teacher: {error}") from None
        self.dim = self._states.shape[1]

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of ``paths`` that it does not know."""
        return [path for path in paths if path not in self._places]

    def targets(self, parts: Sequence[Part], frames: int, rate: int) -> tuple[np.ndarray, np.ndarray]:
        """float32 [frames, dim] and which of them [frames] are in speech, for an example of ``parts`` at
        ``rate`` Hz whose frame i is at 40 ms times i."""
        wanted, known = np.zeros((frames, self.dim), np.float32), np.zeros(frames, bool)
        hop = FRAME * rate / RATE
        for path, start, speed in parts:
            first, last = self._places[path]
            at = (np.arange(frames) - start / hop) * speed - LATE
            inside = (at >= -0.5) & (at <= last - first - 0.5)
            place = np.clip(at[inside], 0, last - first - 1)
            low = place.astype(int)
            states = self._states[first:last].astype(np.float32) * self._scale
            share = (place - low)[:, None].astype(np.float32)
            wanted[inside] = states[low] * (1 - share) + states[np.minimum(low + 1, last - first - 1)] * share
            known |= inside
        return wanted, known
