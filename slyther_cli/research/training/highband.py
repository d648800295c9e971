"""Training the network that shares what lies above a separator's band out to its stems, and measuring it:

    python -m slyther_cli.research.training.highband MANIFEST.. -o runs/highband [--examples 400]
    python -m slyther_cli.research.training.highband MANIFEST.. --measure highband-8k [--turns]

Mixtures of two voices are made at 16 kHz and separated at 8 kHz; the loss is what each stem's part above
3.6 kHz lacks of the true one, in dB. A measurement takes the test speakers. Minutes on one core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slyther_cli.audio.resample import fit_length, resampled
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.places import cache_dir
from slyther_cli.models.highband import HIGH_HZ, LOW_HZ, HighBandNet, HighBandNetConfig, bands, hop
from slyther_cli.research.evaluation.metrics import bootstrap_interval
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.losses import best_assignment, pairwise_si_snr
from slyther_cli.research.training.mixing import Mixer, MixingConfig

RATE, SECONDS = 16_000, 6
VARIED = MixingConfig(turns=0.5, rooms=0.1, noise=0.15, snr_db=(10.0, 35.0))
BATCH, RATE_OF_LEARNING, MOST_DB = 8, 2e-3, 25.0


class Example:
    """Of one mixture: powers of the stems [n_speakers, low bands, frames] and of the rest [high bands,
    frames]; of the sources in the high bands, power and product with the rest, [n_speakers, high bands,
    frames]."""

    def __init__(self, mixture: np.ndarray, stems: np.ndarray, sources: np.ndarray):
        low, high = bands(LOW_HZ, RATE), bands(HIGH_HZ, RATE)
        stem, source = _spectra(stems), _spectra(sources)
        rest = _spectra(mixture[np.newaxis] - stems.sum(0))[0]
        self.stems, self.rest = low @ stem.abs().square(), high @ rest.abs().square()
        self.power = high @ source.abs().square()
        self.product = high @ (source * rest.conj()).real

    def snr(self, shares: Tensor) -> Tensor:
        """Of the sources' high bands against what ``shares`` of the rest lack of them, [n_speakers] dB."""
        error = self.power - 2 * shares * self.product + shares.square() * self.rest
        total = self.power.sum((1, 2))
        return 10 * torch.log10((total + 1e-9) / (error.sum((1, 2)).clamp(min=0) + 1e-9))


def _spectra(sound: np.ndarray) -> Tensor:
    """[n, samples] -> [n, bins, frames]."""
    size = hop(RATE)
    window = torch.hann_window(2 * size).sqrt()
    x = torch.from_numpy(np.asarray(sound, np.float32))
    return torch.stft(x, 2 * size, size, window=window, return_complex=True)


@torch.no_grad()
def examples(separator: Any, mixer: Mixer, count: int) -> list[Example]:
    """The first ``count`` mixtures of ``mixer`` with the stems that ``separator`` makes of them."""
    made, rate = [], separator.config.sample_rate
    for i in range(count):
        mixture, sources = mixer.example(i, SECONDS * RATE)
        heard = torch.from_numpy(resampled(mixture, RATE, rate))[None]
        stems = fit_length(resampled(separator(heard)[0].numpy(), rate, RATE), len(mixture))
        pairs = pairwise_si_snr(torch.from_numpy(stems)[None], torch.from_numpy(sources)[None])
        order = best_assignment(pairs)[1][0].numpy()
        made.append(Example(mixture, stems, sources[order]))
    return made


def learn(made: Sequence[Example], steps: int, seed: int = 0) -> HighBandNet:
    """A network that shares best on ``made``."""
    torch.manual_seed(seed)
    net = HighBandNet(HighBandNetConfig())
    optimizer = torch.optim.AdamW(net.parameters(), RATE_OF_LEARNING, weight_decay=0.02)
    for step in range(steps):
        chosen = [made[int(i)] for i in torch.randint(0, len(made), (BATCH,))]
        scores = [e.snr(net(e.stems, e.rest)).clamp(max=MOST_DB).mean() for e in chosen]
        loss = -torch.stack(scores).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] = RATE_OF_LEARNING * (1.01 - step / steps)
    return net.eval()


@torch.inference_mode()
def measure(net: HighBandNet, made: Sequence[Example]) -> dict[str, np.ndarray]:
    """SNR of the high bands in dB, mean of an example's stems, [examples] each: by the network, with equal
    shares, and with the best share of every frame and band."""
    found: dict[str, list[float]] = {"network": [], "equal": [], "best": []}
    for e in made:
        best = (e.product / (e.rest + 1e-12)).clamp(0, 1)
        for name, shares in (
            ("network", net(e.stems, e.rest)),
            ("equal", torch.full_like(e.power, 1 / len(e.power))),
            ("best", best),
        ):
            found[name].append(float(e.snr(shares).clamp(-10, 40).mean()))
    return {name: np.array(values) for name, values in found.items()}


def main(arguments: Sequence[str]) -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--measure", metavar="NAME")
    parser.add_argument("--model", default="mamba-tasnet-8k-2spk")
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--turns", action="store_true", help="measure conversations with pauses")
    a = parser.parse_args(arguments)
    torch.set_num_threads(1)
    separator = store.load(a.model, expect_task="separate")[0].eval()
    split, mixing = ("test", MixingConfig(turns=float(a.turns))) if a.measure else ("train", VARIED)
    pool = SpeechPool(a.manifests, split, RATE, cache_dir() / "training")
    made = examples(separator, Mixer(pool, mixing, 2, 5), a.examples)
    if a.measure:
        net: Any = store.load(a.measure, expect_task="widen")[0]
    else:
        net = learn(made, a.steps)
    for name, values in measure(net, made).items():
        low, high = bootstrap_interval(values.tolist())
        print(f"{name}: {values.mean():.2f} dB [{low:.2f}, {high:.2f}] above 3.6 kHz, {len(values)} mixtures")
    if a.output and not a.measure:
        store.save(
            a.output,
            net,
            name="highband-8k",
            architecture="highband-net",
            config=vars(net.config),
            task="widen",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
