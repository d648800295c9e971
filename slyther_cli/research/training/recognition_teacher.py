"""What another recogniser makes of the training speech, as targets for every frame of ours: distillation from
the encoder of Whisper (Radford et al. 2022), whose states are learnt from far more speech than ours.

    python -m slyther_cli.research.training.recognition_teacher config.toml whisper-base teacher

writes the folder ``teacher`` for ``teacher = "teacher"`` in ``config.toml``: ``states.npy``, int8 [frames,
dim], the utterances of the training pool one after the other with a frame for every 40 ms, and
``index.json``. Needs faster-whisper (extra ``eval``) and a model folder of it.

A window of Whisper's holds 30 s; utterances are packed into one with pauses between. Of a state the mean at
its place in the window is taken off, for it tells where it is, and of the rest the ``DIM`` principal
components are kept.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slyther_cli.files import whole
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.recognition import read_config
from slyther_cli.research.training.teacher_states import FRAME, RATE

WINDOW = 750  # frames of a window
PAUSE = 13  # frames between two utterances
DIM = 128
SAMPLED = 40_000  # frames that the components are taken from
STEPS = 127 / 4  # int8 steps of a component's standard deviation: beyond 4 of them is cut


class Piece(NamedTuple):
    """An utterance in a window: its path, its samples, the window's frame that it starts at."""

    path: str
    samples: np.ndarray
    at: int


def packed(utterances: Sequence[tuple[str, np.ndarray]]) -> Iterator[list[Piece]]:
    """Windows of utterances (paths, int16 samples); what is longer than one is cut off."""
    window: list[Piece] = []
    at = 0
    for path, samples in utterances:
        samples = samples[: WINDOW * FRAME]
        frames = -(-len(samples) // FRAME)
        if at + frames > WINDOW:
            yield window
            window, at = [], 0
        window.append(Piece(path, samples, at))
        at += frames + PAUSE
    if window:
        yield window


def window_states(whisper: Any, pieces: Sequence[Piece]) -> np.ndarray:
    """The encoder's states of a window, float32 [750, width]: the mean of two are 40 ms."""
    sound = np.zeros(WINDOW * FRAME, np.float32)
    for _, samples, at in pieces:
        sound[at * FRAME :][: len(samples)] = samples.astype(np.float32) / 32768
    features = whisper.feature_extractor(sound, padding=0)[:, : 4 * WINDOW]
    features = np.pad(features, ((0, 0), (0, 4 * WINDOW - features.shape[1])))
    states = np.asarray(whisper.encode(features[None]))
    return states.reshape(WINDOW, 2, -1).mean(1)


def reduced(
    states: np.ndarray, places: np.ndarray, windows_mean: np.ndarray, dim: int
) -> tuple[np.ndarray, list[float], float]:
    """States [frames, width] at the ``places`` [frames] of their windows -> int8 [frames, dim], the size of
    a step of each, and the share of the variance that they keep."""
    rng = np.random.default_rng(0)
    some = np.sort(rng.choice(len(states), min(SAMPLED, len(states)), replace=False))
    sample = np.asarray(states[some], np.float32) - windows_mean[places[some]]
    centre, deviation = sample.mean(0), sample.std(0) + 1e-6
    sample = (sample - centre) / deviation
    values, axes = np.linalg.eigh(np.cov(sample, rowvar=False))
    values, axes = values[::-1][:dim].clip(1e-12), axes[:, ::-1][:, :dim]
    steps = np.sqrt(values) / STEPS
    out = np.empty((len(states), len(values)), np.int8)
    for i in range(0, len(states), SAMPLED):
        x = np.asarray(states[i : i + SAMPLED], np.float32) - windows_mean[places[i : i + SAMPLED]]
        out[i : i + SAMPLED] = np.clip(np.round((x - centre) / deviation @ axes / steps), -127, 127)
    return out, (steps / np.sqrt(values.sum())).tolist(), float(values.sum() / sample.shape[1])


def main(config: Path, whisper_folder: Path, output: Path) -> None:
    """Write the states of the training pool of a configuration file of ``slyther train transcribe``."""
    from faster_whisper import WhisperModel

    data, base = read_config(config).data, config.resolve().parent
    pool = SpeechPool(data.manifest_paths(base), data.train_split, RATE, data.cache_folder(base))
    utterances = [
        (path, samples)
        for name in pool.speakers
        for path, samples in zip(pool.paths[name], pool.speakers[name], strict=True)
    ]
    whisper = WhisperModel(str(whisper_folder), device="cpu", compute_type="int8")
    kept: list[np.ndarray] = []
    places: list[np.ndarray] = []
    index: list[tuple[str, int, int]] = []
    total, windows, count = 0, np.zeros(0, np.float32), 0
    for pieces in packed(utterances):
        states = window_states(whisper, pieces)
        windows, count = (windows + states if count else states.copy()), count + 1
        for path, samples, at in pieces:
            frames = -(-len(samples) // FRAME)
            kept.append(states[at : at + frames].astype(np.float16))
            places.append(np.arange(at, at + frames))
            index.append((path, total, total + frames))
            total += frames
    found, scale, share = reduced(np.concatenate(kept), np.concatenate(places), windows / count, DIM)
    output.mkdir(parents=True, exist_ok=True)
    with whole(output / "states.npy") as file:
        np.save(file, found)
    with whole(output / "index.json", "w") as file:
        json.dump({"utterances": index, "scale": scale, "variance": share}, file)
    print(f"{total} frames of {len(index)} utterances; {100 * share:.0f} % of the variance")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
