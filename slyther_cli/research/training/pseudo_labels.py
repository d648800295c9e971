"""The units that a HuBERT learns to tell: clusters (k-means) of MFCCs, then of an earlier HuBERT's layer.

Source: Hsu et al. 2021, "HuBERT", section 3.1: 39 MFCCs (13 and their first and second differences) for the
first iteration, a middle layer's outputs for the second. Here MFCCs are taken on the HuBERT's own frames, 25
ms every 20 ms, so that unit i is what frame i saw.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.audio.features import FLOOR, mel_bands
from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.files import whole
from slyther_cli.models.hubert import HOP, WINDOW, frames_of
from slyther_cli.research.training.settings import model_place

N_FFT, BANDS, CEPSTRA, REACH = 512, 26, 13, 2
ROUNDS = 30  # of k-means at most
CHUNK = 4096  # frames whose distances are in memory at once
Frames = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class UnitsConfig:
    """``source``: "mfcc", or a HuBERT by name or folder (relative to the configuration's), whose ``layer`` (1
    is the first) is clustered. The centres are found on ``frames`` frames drawn from the training speech."""

    source: str = "mfcc"
    layer: int = 6
    frames: int = 50_000

    def __post_init__(self) -> None:
        if min(self.layer, self.frames) < 1:
            raise UsageError("layer and frames must be 1 or more")


class Units:
    """Centres found on ``train``'s utterances (int16 arrays at 16 kHz), and what they make of speech.

    Both lie in ``cache`` afterwards. Raises InputError: too little speech for ``classes`` of them;
    OutputError: the cache cannot be written; ModelError, UsageError: the source is no HuBERT, or has no such
    layer.
    """

    def __init__(self, c: UnitsConfig, classes: int, train: Sequence[np.ndarray], base: Path, cache: Path):
        self.frames: Frames = mfcc
        source = "mfcc"
        if c.source != "mfcc":
            self.frames, source = _layer_of(c, base)
        self.cache, self.classes = cache, classes
        about = [4, source, classes, asdict(c) | {"source": ""}]
        self.key = _key(about, train)
        self.centres = torch.from_numpy(self._kept("centres", self.key, lambda: self._fit(c, train)))

    def label(self, utterances: Sequence[np.ndarray]) -> list[np.ndarray]:
        """int16 [frames] of each utterance."""
        key = _key([self.key], utterances)
        every = self._kept("units", key, lambda: np.concatenate([self.of(x) for x in utterances]))
        ends = np.cumsum([frames_of(len(x)) for x in utterances])
        return np.split(every, ends[:-1])

    def of(self, utterance: np.ndarray) -> np.ndarray:
        """int16 [frames] of one."""
        return nearest(self.frames(utterance), self.centres)[0].numpy().astype(np.int16)

    def _fit(self, c: UnitsConfig, train: Sequence[np.ndarray]) -> np.ndarray:
        rng = np.random.default_rng(0)
        parts: list[Tensor] = []
        have = 0
        for i in rng.permutation(len(train)):
            parts.append(self.frames(train[i]))
            have += len(parts[-1])
            if have >= c.frames:
                break
        if have < 2 * self.classes:
            raise InputError(f"{have} frames of speech are too few for {self.classes} units")
        return k_means(torch.cat(parts)[: c.frames], self.classes).numpy()

    def _kept(self, what: str, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        path = self.cache / f"{what}-{key}.npy"
        if path.exists():
            return np.load(path)
        made = make()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole(path) as file:
                np.save(file, made)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}") from None
        return made


def mfcc(utterance: np.ndarray) -> Tensor:
    """int16 [n] at 16 kHz -> [(n - 400) / 320 + 1, 39]: cepstra, their slopes over 5 frames, and the slopes
    of those."""
    x = torch.from_numpy(np.asarray(utterance, np.float32) / 32768)
    x = F.pad(x[1:] - 0.97 * x[:-1], (1, 0))
    frames = x.unfold(0, WINDOW, HOP) * torch.hamming_window(WINDOW)
    power = torch.fft.rfft(frames, N_FFT).abs().square()
    bands = (power @ mel_bands(BANDS, N_FFT, 16000)).clamp(min=FLOOR).log()
    at = torch.arange(BANDS) + 0.5
    cosines = torch.cos(math.pi / BANDS * at[:, None] * torch.arange(CEPSTRA)) * math.sqrt(2 / BANDS)
    cepstra = bands @ cosines
    slopes = _slopes(cepstra)
    return torch.cat([cepstra, slopes, _slopes(slopes)], 1)


def _slopes(x: Tensor) -> Tensor:
    """The least-squares slope over REACH frames to each side; the edges repeat."""
    padded = torch.cat([x[:1].expand(REACH, -1), x, x[-1:].expand(REACH, -1)])
    n, weight = len(x), 2 * sum(k * k for k in range(1, REACH + 1))
    rise = sum(k * (padded[REACH + k : REACH + k + n] - padded[REACH - k : REACH - k + n]) for k in (1, 2))
    return rise / weight  # type: ignore[return-value]


def k_means(x: Tensor, k: int, seed: int = 0) -> Tensor:
    """[n, d] -> centres [k, d] (Lloyd, started by k-means++: Arthur and Vassilvitskii 2007). A centre that
    loses all its points moves to the point that is farthest from its own."""
    rng = torch.Generator().manual_seed(seed)
    centres = x[torch.randint(len(x), (1,), generator=rng)]
    away = (x - centres).square().sum(1)
    for _ in range(k - 1):
        weights = away if float(away.sum()) > 0 else torch.ones_like(away)
        new = x[torch.multinomial(weights.double(), 1, generator=rng)]
        centres = torch.cat([centres, new])
        away = torch.minimum(away, (x - new).square().sum(1))
    before = math.inf
    for _ in range(ROUNDS):
        own, away = nearest(x, centres)
        counts = torch.bincount(own, minlength=k)
        sums = torch.zeros(k, x.shape[1]).index_add_(0, own, x)
        empty = (counts == 0).nonzero()[:, 0]
        centres = sums / counts.clamp(min=1)[:, None]
        centres[empty] = x[away.topk(len(empty)).indices]
        spread = float(away.mean())
        if not len(empty) and spread > before * (1 - 1e-4):
            break
        before = spread
    return centres


def nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centre of each row of x [n, d], and its squared distance."""
    found = [torch.cdist(part, centres).min(1) for part in x.split(CHUNK)]
    return torch.cat([f.indices for f in found]), torch.cat([f.values for f in found]).square()


def _layer_of(c: UnitsConfig, base: Path) -> tuple[Frames, str]:
    """What computes the frames of a HuBERT's layer, and a text that changes with its weights."""
    from slyther_cli.checkpoints import store

    folder = store.resolve(model_place(c.source, base))
    model: Any = store.load(folder, expect_task="represent")[0]
    if c.layer > model.config.n_layers:
        raise UsageError(f"{c.source} has {model.config.n_layers} layers, no layer {c.layer}")

    @torch.inference_mode()
    def frames(utterance: np.ndarray) -> Tensor:
        samples = torch.from_numpy(np.asarray(utterance, np.float32) / 32768)
        return model.each(model.features(samples[None]))[c.layer][0].clone()

    return frames, hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def _key(about: list, utterances: Sequence[np.ndarray]) -> str:
    """A short hash of settings and speech; of the latter lengths and a few samples."""
    digest = hashlib.sha256(json.dumps([*about, [len(x) for x in utterances]]).encode())
    for x in utterances:
        digest.update(np.ascontiguousarray(x[::997]).tobytes())
    return digest.hexdigest()[:16]
