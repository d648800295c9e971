"""Training a speaker network: stretches of speech, who says them, and what a teacher makes of the speakers.

The file is TOML with the tables [model], [data], [batch] and [loop]; see examples/train-speaker.toml. Its
paths are relative to its own folder. The loss is a softmax over the training speakers with an additive
angular margin (Deng et al. 2019). A teacher (``speaker_teacher``) gives the speakers' vectors to begin with,
and the cosine with them is another part of the loss: its embeddings less their mean, turned so that ``dim``
numbers hold the most of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.errors import InputError, UsageError
from slyther_cli.models.speaker import FLOOR_DB
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.settings import DataConfig, read_settings, starting_model
from slyther_cli.research.training.workers import run

RATE = 16_000
NARROW_HZ = 3900.0  # what is above goes in examples of a narrow band
SCALE = 24.0  # of the cosines in the softmax


@dataclass(frozen=True)
class BatchConfig:
    """A batch has ``speakers``, each with ``stretches`` of a length drawn from ``lengths`` (seconds).
    ``narrow``: share of the stretches without anything above 4 kHz. ``leak``: share with another voice below,
    ``leak_db`` lower, drawn between the two; ``noise_db`` likewise: white noise in every stretch.
    ``tilt_db``: the band's ends go up and down by as much. ``margin``: in radians; ``teach``: weight of the
    teacher's part of the loss. Validation compares stretches of ``dev_seconds``."""

    speakers: int = 32
    stretches: int = 1
    lengths: tuple[float, ...] = (1.5, 2.0, 3.0, 4.0)
    narrow: float = 0.5
    leak: float = 0.3
    leak_db: tuple[float, ...] = (-35.0, -12.0)
    noise_db: tuple[float, ...] = (-55.0, -20.0)
    tilt_db: float = 4.0
    margin: float = 0.2
    teach: float = 3.0
    dev_seconds: float = 3.0

    def __post_init__(self) -> None:
        if not self.lengths or min(*self.lengths, self.dev_seconds) < 0.1:
            raise UsageError("lengths and dev_seconds must be 0.1 or more")
        if min(self.speakers, self.stretches) < 1 or len(self.leak_db) != 2 or len(self.noise_db) != 2:
            raise UsageError("speakers, stretches must be 1 or more; leak_db and noise_db are two numbers")


@dataclass(frozen=True)
class SpeakerTraining:
    """``teacher``: a file of ``python -m slyther_cli.research.training.speaker_teacher``; "" trains without
    one."""

    name: str = "my-speaker-net"
    architecture: str = "speaker-net"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    teacher: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> SpeakerTraining:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    return read_settings(path, SpeakerTraining)


def margin_loss(embeddings: Tensor, classes: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """[n, dim] of length 1, [speakers, dim] of any length, [n] -> the cross entropy with the right angle
    larger by ``margin``, and the cosines [n, speakers]."""
    cosines = (embeddings @ F.normalize(classes, dim=1).T).clamp(-1 + 1e-6, 1 - 1e-6)
    right = cosines.gather(1, labels[:, None])
    moved = torch.cos(torch.acos(right) + margin)
    return F.cross_entropy(SCALE * cosines.scatter(1, labels[:, None], moved), labels), cosines


def equal_error_rate(same: npt.ArrayLike, different: npt.ArrayLike) -> float:
    """Share of errors at the threshold where as many pairs of one speaker are refused as pairs of two are
    accepted. Raises ValueError if there are none of a kind."""
    same, different = np.sort(same), np.sort(different)
    if not len(same) or not len(different):
        raise ValueError("an error rate needs pairs of both kinds")
    scores = np.sort(np.concatenate((same, different)))
    refused = np.searchsorted(same, scores, "left") / len(same)
    accepted = 1 - np.searchsorted(different, scores, "left") / len(different)
    at = int(np.argmin(np.abs(refused - accepted)))
    return float(refused[at] + accepted[at]) / 2


def cut(speech: Sequence[np.ndarray], samples: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch of one of a speaker's int16 utterances, float32 [samples]; a shorter one is repeated."""
    whole = speech[int(rng.integers(len(speech)))]
    start = int(rng.integers(max(1, len(whole) - samples + 1)))
    part = np.asarray(whole[start : start + samples], np.float32) / 32768
    return np.resize(part, samples)


def _between(bounds: Sequence[float], rng: np.random.Generator) -> float:
    return float(rng.uniform(bounds[0], bounds[1]))


def stretches(speech: Sequence[np.ndarray], samples: int) -> list[tuple[int, np.ndarray]]:
    """Of a speaker's utterances all whole stretches, each with its utterance's number."""
    return [
        (number, np.asarray(whole[start : start + samples], np.float32) / 32768)
        for number, whole in enumerate(speech)
        for start in range(0, len(whole) - samples + 1, samples)
    ]


def compare(embeddings: Tensor, speakers: Sequence[int], utterances: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs of stretches: of one speaker in two utterances, and of two speakers."""
    who, where = torch.tensor(speakers), torch.tensor(utterances)
    first, second = torch.triu_indices(len(who), len(who), 1)
    cosines = (embeddings @ embeddings.T)[first, second]
    one = who[first] == who[second]
    return cosines[one & (where[first] != where[second])], cosines[~one]


class SpeakerTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: SpeakerTraining, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        network, self.architecture, self.settings = starting_model(config, base, "embed")
        self.pool, self.dev = config.data.pools(base, RATE)
        self.names = list(self.pool.speakers)
        classes = nn.Linear(network.config.dim, len(self.names), bias=False)
        teacher = self._teacher(base, network.config.dim)
        self.teacher = None if teacher is None else teacher.to(device)
        if teacher is not None:
            classes.weight.data.copy_(teacher)
        self.model = nn.ModuleDict({"network": network, "classes": classes}).to(device)
        edges = 2595 * np.log10(1 + 8000 / 700) * np.arange(1, 81) / 81
        self.above = torch.from_numpy(700 * (10 ** (edges / 2595) - 1) > NARROW_HZ).to(device)
        self._batches = BatchLoader(self.batch, device)

    def _teacher(self, base: Path, dim: int) -> Tensor | None:
        """Vectors of the speakers [speakers, dim], of length 1."""
        if not self.config.teacher:
            return None
        found = torch.from_numpy(read_teacher(base / self.config.teacher, self.names)).float()
        found = found - found.mean(0)
        axes = torch.linalg.svd(found, full_matrices=False)[2][:dim]
        turned = found @ axes.T
        return F.normalize(F.pad(turned, (0, dim - turned.shape[1])), dim=1)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Samples [n, time], the speakers' numbers [n], the changes of the bands [n, 2]: narrow or not, and
        the tilt in dB."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, self.peers.rank])
        samples = int(b.lengths[rng.integers(len(b.lengths))] * RATE)
        few = min(b.speakers, len(self.names))
        labels = np.repeat(rng.choice(len(self.names), few, replace=False), b.stretches)
        sound = np.stack([self._stretch(int(label), samples, rng) for label in labels])
        bands = np.stack([rng.random(len(labels)) < b.narrow, rng.uniform(-1, 1, len(labels)) * b.tilt_db], 1)
        return torch.from_numpy(sound), torch.from_numpy(labels), torch.from_numpy(bands.astype(np.float32))

    def _stretch(self, label: int, samples: int, rng: np.random.Generator) -> np.ndarray:
        b = self.config.batch
        x = cut(self.pool.speakers[self.names[label]], samples, rng)
        level = max(float(np.sqrt(np.mean(np.square(x)))), 1e-6)
        if rng.random() < b.leak:
            other = self.pool.speakers[self.names[rng.integers(len(self.names))]]
            x = x + cut(other, samples, rng) * np.float32(10 ** (_between(b.leak_db, rng) / 20))
        noise = level * 10 ** (_between(b.noise_db, rng) / 20)
        return x + rng.standard_normal(samples, dtype=np.float32) * np.float32(noise)

    def changed(self, features: Tensor, bands: Tensor) -> Tensor:
        """Features [n, frames, n_mels] with the changes of :meth:`batch`."""
        slope = torch.linspace(-1, 1, features.shape[2], device=features.device)
        features = (features + bands[:, 1, None, None] * slope).clamp(min=FLOOR_DB)
        return torch.where((bands[:, 0, None, None] > 0) & self.above, FLOOR_DB, features)

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch, and the share of stretches whose speaker is recognised."""
        samples, labels, bands = (x.to(self.device, non_blocking=True) for x in self._batches(step))
        network: Any = self.model["network"]
        features = self.changed(network.features(samples), bands)
        embeddings = network.of_statistics(network.of_features(features))
        with torch.autocast(embeddings.device.type, enabled=False):
            classes: Any = self.model["classes"].weight
            loss, cosines = margin_loss(embeddings, classes, labels, self.config.batch.margin)
            if self.teacher is not None:
                taught = (embeddings * self.teacher[labels]).sum(1)
                loss = loss + self.config.batch.teach * (1 - taught.mean())
        return loss, float((cosines.argmax(1) == labels).float().mean())

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """Equal error rate in % over the dev speakers, of the whole band and without what is above 4 kHz."""
        network: Any = self.model["network"]
        rows = dev_stretches(self.dev, int(self.config.batch.dev_seconds * RATE))
        features = [network.features(torch.from_numpy(x)[None].to(self.device)) for _, _, x in rows]
        rates = []
        for narrow in (0.0, 1.0):
            bands = torch.tensor([[narrow, 0.0]], device=self.device)
            found = [network.of_statistics(network.of_features(self.changed(x, bands))) for x in features]
            pairs = compare(torch.cat(found).cpu(), [s for s, _, _ in rows], [u for _, u, _ in rows])
            rates.append(100 * equal_error_rate(*(p.numpy() for p in pairs)))
        whole, narrow_band = rates
        return {
            "score": -round(sum(rates) / 2, 3),
            "eer": round(whole, 3),
            "eer_narrow": round(narrow_band, 3),
            "stretches": len(rows),
        }

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the network, without the speakers of its training, as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model["network"],
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="embed",
            metrics={"dev_eer": metrics["eer"], "steps": metrics["step"]},
        )

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        hours = round(self.pool.seconds / 3600, 2)
        return {"config": self.settings, "train_hours": hours, "speakers": len(self.names)}


def dev_stretches(pool: SpeechPool, samples: int) -> list[tuple[int, int, np.ndarray]]:
    """Speaker, utterance, samples. Raises InputError if no two utterances of a speaker are long enough."""
    rows = [
        (who, number, x)
        for who, speech in enumerate(pool.speakers.values())
        for number, x in stretches(speech, samples)
    ]
    pairs = {(who, number) for who, number, _ in rows}
    if len(pairs) == len({who for who, _ in pairs}) or len({who for who, _ in pairs}) < 2:
        raise InputError("the dev split needs two speakers, one with two utterances as long as dev_seconds")
    return rows


train = partial(run, SpeakerTask, read_config)


def read_teacher(path: Path, speakers: Sequence[str]) -> np.ndarray:
    """The embeddings [speakers, dim] of a file that :func:`main` wrote. Raises :class:`InputError`: it cannot
    be read, or a speaker is not in it."""
    try:
        with np.load(path) as file:
            found = dict(zip(file["speakers"].tolist(), file["embeddings"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not the embeddings of a teacher: {error}") from None
    missing = [name for name in speakers if name not in found]
    if missing:
        raise InputError(f"{path}: has no embedding of speaker {missing[0]} and {len(missing) - 1} others")
    return np.stack([found[name] for name in speakers])
