"""Pre-training a HuBERT or a Mamba-HuBERT by masked prediction: the configuration file, batches, the loss.

Source: Hsu et al. 2021, "HuBERT", section 3, as torchaudio trains it: cross-entropy of the units of masked
frames, and ten times the mean square of the convolutions' features. The file is TOML with the tables [model],
[units], [data], [batch] and [loop]; see examples/train-hubert.toml. Transcripts are not needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.models.hubert import HOP, WINDOW, Hubert, frames_of
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.pseudo_labels import Units, UnitsConfig
from slyther_cli.research.training.settings import DataConfig, read_settings, starting_model
from slyther_cli.research.training.workers import run

FEWEST_SPANS = 2  # of what is masked, in an utterance
PENALTY = 10.0  # weight of the features' mean square


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``seconds`` of speech, in pieces of at most ``crop_seconds``, all cut to the
    shortest, so that there is no padding. Validation hears up to ``dev_utterances``."""

    seconds: float = 60.0
    crop_seconds: float = 15.0
    dev_utterances: int = 100

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.crop_seconds < 0.5 or self.dev_utterances < 1:
            raise UsageError("seconds and dev_utterances must be above 0, crop_seconds 0.5 or more")


@dataclass(frozen=True)
class HubertTrainingConfig:
    """``model`` is what is set apart from the preset's, or the architecture's, own values. ``start_from``:
    weights to go on from; they bring their own settings."""

    name: str = "my-hubert"
    architecture: str = "hubert"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    units: UnitsConfig = field(default_factory=UnitsConfig)
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> HubertTrainingConfig:
    """The settings; without [model] and ``start_from``, of the preset mamba-hubert-small. Raises
    :class:`UsageError` on anything that the file should not hold."""
    config = read_settings(path, HubertTrainingConfig)
    if not config.start_from and not config.model:
        config = replace(config, model=dict(registry.PRESETS["mamba-hubert-small"][1]))
    if config.architecture != "hubert":
        raise UsageError(f"{path}: [model] a {config.architecture} is no hubert")
    return config


class HubertTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    model: Hubert

    def __init__(self, config: HubertTrainingConfig, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        model, self.architecture, self.settings = starting_model(config, base, "represent")
        pools = config.data.pools(base, model.config.sample_rate)
        self.speakers = sorted(pools[0].speakers)
        self.speech, self.dev = map(_utterances, pools)
        cache = config.data.cache_folder(base)
        units = Units(config.units, model.config.n_classes, self.speech, base, cache)
        self.units, self.dev_units = units.label(self.speech), units.label(self.dev)
        self.seconds = np.array([len(x) for x in self.speech]) / model.config.sample_rate
        self.model = model.to(device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples [batch, n], their units [batch, frames] and which are masked, of that step; other ones for
        every peer."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, self.peers.rank, 3])
        at = int(rng.choice(len(self.seconds), p=self.seconds / self.seconds.sum()))
        count = max(1, round(b.seconds / min(self.seconds[at], b.crop_seconds)))
        near = np.arange(max(0, at - 2 * count), min(len(self.seconds), at + 2 * count + 1))
        picked = rng.choice(near, min(count, len(near)), replace=False)
        most = WINDOW + HOP * (int(b.crop_seconds * self.model.config.sample_rate - WINDOW) // HOP)
        n = min(most, *(len(self.speech[i]) for i in picked))
        pieces, units = [], []
        for i in picked:
            start = int(rng.integers((len(self.speech[i]) - n) // HOP + 1))
            pieces.append(np.asarray(self.speech[i][start * HOP : start * HOP + n], np.float32) / 32768)
            units.append(self.units[i][start : start + frames_of(n)])
        masked = [self._mask(rng, frames_of(n)) for _ in picked]
        arrays = (np.stack(pieces), np.stack(units).astype(np.int64), np.stack(masked))
        samples, wanted, hidden = (torch.from_numpy(x).to(self.device) for x in arrays)
        return samples, wanted, hidden

    def _mask(self, rng: np.random.Generator, frames: int) -> np.ndarray:
        c = self.model.config
        return span_mask(rng, frames, c.mask_prob, c.mask_length)

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch, nats a masked frame, and how many of these are right, percent."""
        samples, units, masked = self.batch(step)
        share = self.model.config.feature_grad
        features = self.model.features(samples)
        features = share * features + (1 - share) * features.detach()
        logits = self.model(features, None, masked)[masked]
        nats = F.cross_entropy(logits, units[masked])
        right = (logits.argmax(-1) == units[masked]).float().mean()
        return nats + PENALTY * features.float().square().mean(), 100 * float(right)

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """Loss and share of units recognised (percent) on masked frames of the dev speakers, masks fixed;
        ``chance`` is the share of the commonest unit among them."""
        rng = np.random.default_rng(0)
        n = len(self.dev)
        nats = right = 0.0
        counts = np.zeros(self.model.config.n_classes, int)
        for i in np.sort(rng.choice(n, min(n, self.config.batch.dev_utterances), replace=False)):
            samples = torch.from_numpy(np.asarray(self.dev[i], np.float32) / 32768)[None].to(self.device)
            masked = torch.from_numpy(self._mask(rng, frames_of(samples.shape[1]))).to(self.device)
            logits = self.model(self.model.features(samples), None, masked[None])[0, masked]
            units = torch.from_numpy(self.dev_units[i].astype(np.int64)).to(self.device)[masked]
            nats += float(F.cross_entropy(logits, units, reduction="sum"))
            right += float((logits.argmax(-1) == units).sum())
            counts += np.bincount(units.cpu().numpy(), minlength=len(counts))
        frames = int(counts.sum())
        accuracy, chance = (round(100 * float(x) / frames, 2) for x in (right, counts.max()))
        loss = round(nats / frames, 4)
        return {"score": -loss, "loss": loss, "accuracy": accuracy, "chance": chance, "frames": frames}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the weights as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="represent",
            metrics={
                "dev_loss": metrics["loss"],
                "dev_accuracy": metrics["accuracy"],
                "steps": metrics["step"],
            },
        )

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        hours = round(float(self.seconds.sum()) / 3600, 2)
        return {"config": self.settings, "train_hours": hours, "speakers": len(self.speakers)}


def _utterances(pool: SpeechPool) -> list[np.ndarray]:
    """Every utterance, by length."""
    return sorted((x for speaker in sorted(pool.speakers) for x in pool.speakers[speaker]), key=len)


train = partial(run, HubertTask, read_config)


def span_mask(rng: np.random.Generator, frames: int, prob: float, length: int) -> np.ndarray:
    """bool [frames]: spans of ``length`` frames at different starts, ``prob * frames / length`` of them on
    average, two at least; they may overlap. A recording of a few frames is masked but for its last one."""
    spans = max(FEWEST_SPANS, int(prob * frames / length + rng.random()))
    mask = np.zeros(frames, bool)
    places = frames - length
    if places < spans:
        mask[: max(1, frames - 1)] = True
        return mask
    for start in rng.choice(places, spans, replace=False):
        mask[start : start + length] = True
    return mask
