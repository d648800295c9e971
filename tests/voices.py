"""Synthetic speakers for the tests of training and evaluation: harmonic tones in bursts, each in a band of
its own."""

import os
from pathlib import Path

import numpy as np
import soundfile as sf

RATE = 8000
SPEECH = Path(os.environ.get("SLYTHER_SPEECH_DATA") or Path(__file__).parents[2] / "shared/data/speech")
"""The real corpora, where they are."""
NO_SPEECH = "the speech corpora are not here: set SLYTHER_SPEECH_DATA to their folder"
# name -> (pitch in Hz, sex): men stay below 1 kHz, women above
SPEAKERS = {"ann": (1400, "F"), "bob": (110, "M"), "cleo": (2100, "F"), "dan": (170, "M")}


def utterance(pitch: float, seconds: float, seed: int, rate: int = RATE) -> np.ndarray:
    """float32 [samples]: a few harmonics, loudness changing five times a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * pitch * (1 + 0.05 * rng.random()) * t + 0.3 * np.sin(2 * np.pi * 4 * t)
    harmonics = 5 if pitch < 1000 else 1
    x = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, harmonics + 1))
    loud = np.interp(
        t, np.arange(0, seconds + 1, 0.2), rng.uniform(0.2, 1, len(np.arange(0, seconds + 1, 0.2)))
    )
    return (0.2 * x * loud).astype(np.float32)


def corpus(
    folder: Path, splits=("train", "dev", "test"), each: int = 2, rate: int = RATE, sex: bool = True
) -> Path:
    """Write ``each`` utterances of every speaker and split below ``folder``; the manifest's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["path\tspeaker\tsplit" + "\tsex" * sex]
    for j, split in enumerate(splits):
        for name, (pitch, which) in SPEAKERS.items():
            for i in range(each):
                path = f"{split}-{name}-{i}.wav"
                sf.write(folder / path, utterance(pitch, 1.2, 100 * j + i, rate), rate)
                lines.append(f"{path}\t{name}\t{split}" + f"\t{which}" * sex)
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest
