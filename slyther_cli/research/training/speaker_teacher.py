"""What Resemblyzer makes of the training speakers, as targets of ``slyther train speaker``:

    python -m slyther_cli.research.training.speaker_teacher config.toml teacher.npz

Needs Resemblyzer (``pip install Resemblyzer 'setuptools<81'``), which nothing else of the training does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.speaker import RATE, read_config

FRAMES, MOST_PIECES, MOST_UTTERANCES = 160, 2, 4


def pieces(mel: np.ndarray) -> list[np.ndarray]:
    """Of a mel spectrogram [frames, bands] evenly spaced pieces of ``FRAMES``, ``MOST_PIECES`` at most; one
    that is shorter is repeated."""
    if len(mel) < FRAMES:
        return [np.tile(mel, (-(-FRAMES // len(mel)), 1))[:FRAMES]]
    count = min(MOST_PIECES, len(mel) // FRAMES)
    starts = np.linspace(0, len(mel) - FRAMES, count).round().astype(int)
    return [mel[start : start + FRAMES] for start in starts]


@torch.inference_mode()
def mean_embedding(encoder: torch.nn.Module, utterances: Sequence[np.ndarray]) -> np.ndarray:
    """Of one speaker's int16 utterances at 16 kHz the mean embedding [256], of length 1."""
    from resemblyzer.audio import wav_to_mel_spectrogram

    chosen = utterances[:: -(-len(utterances) // MOST_UTTERANCES)]
    mels = [wav_to_mel_spectrogram(np.asarray(x, np.float32) / 32768) for x in chosen]
    batch = np.stack([piece for mel in mels for piece in pieces(mel)])
    mean = encoder(torch.from_numpy(batch)).mean(0).numpy()
    return mean / np.linalg.norm(mean)


def main(config: Path, output: Path) -> None:
    """Embed the training speakers of a configuration file of ``slyther train speaker``."""
    from resemblyzer import VoiceEncoder

    data = read_config(config).data
    base = config.resolve().parent
    pool = SpeechPool(data.manifest_paths(base), data.train_split, RATE, data.cache_folder(base))
    encoder = VoiceEncoder("cpu", verbose=False)
    found = {name: mean_embedding(encoder, speech) for name, speech in pool.speakers.items()}
    np.savez(output, speakers=list(found), embeddings=np.stack(list(found.values())).astype(np.float32))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
