"""Training a separation network: the configuration file, the batches, the validation (papers.md 1.4).

The file is TOML with the tables [model] (a preset's name and settings), [data], [mixing], [batch] and [loop];
see examples/train-separate.toml. Its paths are relative to its own folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from slyther_cli.errors import UsageError
from slyther_cli.models.mamba_tasnet import MambaTasNet
from slyther_cli.research.training import separation_start
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.losses import best_assignment, level_to, pairwise_si_snr, pit_loss
from slyther_cli.research.training.mixing import Mixer, MixingConfig
from slyther_cli.research.training.settings import DataConfig, read_settings, starting_model
from slyther_cli.research.training.voices import VoiceLoss
from slyther_cli.research.training.workers import run

DEV_SEED = 12345
START_SECONDS, START_EXAMPLES = 4, 40  # the mixtures by which shorter filters are fitted


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``seconds`` of mixture; its examples' length is drawn from ``lengths`` (seconds),
    anew each step. ``saturate_db``: an example that good weighs half in the gradient, 0 is off (conversations
    come out better than mixtures, and their gradients are larger by as much as their errors are smaller).
    ``floor_db``: one that bad weighs half, worse ones ever less; -100 is off (where the network does not know
    who is who, its gradients are ten times those of what it separates well).
    ``voices``: the weight, in dB, of :class:`~slyther_cli.research.training.voices.VoiceLoss`, which tells
    voices apart where one speaks alone. Validation mixes ``dev_examples`` of ``dev_seconds``."""

    seconds: float = 12.0
    lengths: tuple[float, ...] = (2.0, 3.0, 4.0)
    saturate_db: float = 0.0
    floor_db: float = -100.0
    voices: float = 0.0
    dev_examples: int = 48
    dev_seconds: float = 4.0

    def __post_init__(self) -> None:
        if not self.lengths or min(*self.lengths, self.seconds, self.dev_seconds) < 0.1:
            raise UsageError("seconds, lengths and dev_seconds must be 0.1 or more")
        if self.dev_examples < 1 or not min(self.saturate_db, self.voices) >= 0:
            raise UsageError("dev_examples must be 1 or more, saturate_db 0 or more, voices 0 or more")


@dataclass(frozen=True)
class SeparationConfig:
    """``model`` is what is set apart from the preset's, or the architecture's, own values. ``start_from``:
    weights to go on from, a name or a folder; they bring their own settings, of which ``model`` may change
    ``CHANGES``."""

    CHANGES: ClassVar = separation_start.CHANGES
    name: str = "my-separator"
    architecture: str = "mamba-tasnet"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> SeparationConfig:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    return read_settings(path, SeparationConfig)


class SeparationTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: SeparationConfig, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        model, self.architecture, self.settings = starting_model(config, base, "separate")
        self.rate, n = self.settings["sample_rate"], self.settings["n_speakers"]
        self.pool, dev = config.data.pools(base, self.rate)
        noises = config.data.recordings(base, self.rate)
        self.mixer = Mixer(self.pool, config.mixing, n, config.loop.seed, noises)
        if not config.start_from:
            start_from_fourier(model)
        elif config.model:
            model = self._begin(model)
        self.model = model.to(device)
        self._voices = self._voice_loss() if config.batch.voices else None
        self.dev_mixer = Mixer(dev, MixingConfig(speed=(1.0,)), n, DEV_SEED)
        self._batches = BatchLoader(self.batch, device, processes=True)
        self._scale = 1.0  # of the exported stems; validation measures it

    def _begin(self, old: torch.nn.Module) -> torch.nn.Module:
        """What ``start_from`` names, with the changes of [model]."""
        if not isinstance(old, MambaTasNet):
            raise UsageError("start_from is no Mamba-TasNet: it brings its own [model], leave that out")
        speech = [self.mixer.example(i, START_SECONDS * self.rate) for i in range(START_EXAMPLES)]
        mixtures, sources = (torch.from_numpy(np.stack(x)) for x in zip(*speech, strict=True))
        new = separation_start.begin(old, self.config.model, mixtures, sources)
        self.settings = self.settings | vars(new.config)
        return new

    def _voice_loss(self) -> VoiceLoss:
        if not isinstance(self.model, MambaTasNet):
            raise UsageError("voices listens within a Mamba-TasNet; this architecture is another")
        return VoiceLoss(self.model)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Mixtures [batch, samples] and sources [batch, n_speakers, samples] of that step, other ones for
        every peer."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, 1])
        seconds = b.lengths[rng.integers(len(b.lengths))]
        count = max(1, round(b.seconds / seconds))
        first = (step * self.peers.count + self.peers.rank) * 1000
        examples = [self.mixer.example(first + i, int(seconds * self.rate)) for i in range(count)]
        mixtures, sources = zip(*examples, strict=True)
        return torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(sources))

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The PIT loss of that step's batch and its mean SI-SNR in dB."""
        mixtures, sources = (x.to(self.device, non_blocking=True) for x in self._batches(step))
        stems, b = self._stems(mixtures)[0], self.config.batch
        loss, scores = pit_loss(stems, sources, saturate_db=b.saturate_db, floor_db=b.floor_db)
        if self._voices is not None:
            loss = loss + b.voices * self._voices(sources)
        return loss, float(scores.mean())

    def _stems(self, mixtures: Tensor) -> tuple[Tensor, Tensor]:
        """The stems of mixtures [batch, samples], and what the decoder gave. The loss leaves the decoder's
        level open, and the right one comes with the export: until then mixture consistency takes it from the
        mixtures."""
        if not self.settings.get("mixture_consistency"):
            stems = self.model(mixtures)
            return stems, stems
        decoded = self.model.decoded(mixtures)
        level = level_to(mixtures, decoded.detach().sum(1))
        return self.model.stems(decoded * level, mixtures), decoded

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """SI-SNR improvement in dB on fully overlapped pairs of the dev speakers."""
        b = self.config.batch
        samples = int(b.dev_seconds * self.rate)
        gains, likeness, power = [], 0.0, 0.0
        for i in range(b.dev_examples):
            mixture, sources = (
                torch.from_numpy(x)[None].to(self.device) for x in self.dev_mixer.example(i, samples)
            )
            before, _ = best_assignment(pairwise_si_snr(mixture[:, None].expand_as(sources), sources))
            stems, decoded = self._stems(mixture)
            after, _ = best_assignment(pairwise_si_snr(stems, sources))
            total = decoded.sum(1)
            likeness, power = likeness + float((mixture * total).sum()), power + float(total.square().sum())
            gains.append(float(after - before))
        self._scale = max(0.0, likeness / max(power, 1e-12)) or 1.0
        mean, std = (round(float(f(gains)), 3) for f in (np.mean, np.std))
        return {"score": mean, "std": std, "examples": len(gains)}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the weights as a model folder of slyther's, scaled so that the stems of a dev mixture sum to
        it: the loss leaves their level open."""
        from slyther_cli.checkpoints import store

        decoder = self.model.decoder.weight.detach()
        kept = decoder.clone()
        decoder.mul_(self._scale)
        try:
            store.save(
                folder,
                self.model,
                name=self.config.name,
                architecture=self.architecture,
                config=self.settings,
                task="separate",
                metrics={"dev_si_snri": metrics["score"], "steps": metrics["step"]},
            )
        finally:
            decoder.copy_(kept)

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        hours = round(self.pool.seconds / 3600, 2)
        return {"config": self.settings, "train_hours": hours, "speakers": len(self.pool.speakers)}


train = partial(run, SeparationTask, read_config)
