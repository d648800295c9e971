"""Training a voice (VALL-M): the configuration file, the batches, the validation.

The file is TOML with the tables [model] (a preset's name and settings), [data], [batch] and [loop], and the
name of the codec; see examples/train-speak.toml. Its paths are relative to its own folder.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slyther_cli.checkpoints.config import NAME, WEIGHTS_FILE
from slyther_cli.checkpoints.voice import UNNAMED, VoiceEntry, entries_fault, write_voices
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import Batch
from slyther_cli.models.vall_sampling import Voice
from slyther_cli.research.training.codec_dataset import Encoding, SpokenCodes, collate
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.settings import (
    TABLES,
    DataConfig,
    model_place,
    read_settings,
    starting_model,
)
from slyther_cli.research.training.workers import run

DEV_SEED = 12345


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``frames`` frames of the codec. ``join``: the share of batches whose utterances are
    followed by another of their speaker. ``prompt``: the share of utterances whose first part is a prompt to
    the second stage. ``forget``: the share of frames at which the first stage is not told the frame before
    ("aligned" only), so that it listens to the text. ``lengths``: the weight of the durations' loss.
    ``seconds``: the shortest and the longest utterance that is used."""

    frames: int = 2400
    join: float = 0.2
    prompt: float = 0.5
    forget: float = 0.0
    lengths: float = 1.0
    seconds: tuple[float, ...] = (0.5, 16.0)
    dev_utterances: int = 48

    def __post_init__(self) -> None:
        if self.frames < 1 or self.dev_utterances < 1 or len(self.seconds) != 2 or self.lengths < 0:
            raise UsageError("frames and dev_utterances must be 1 or more; seconds the least and the most")
        if not all(0 <= share <= 1 for share in (self.join, self.prompt, self.forget)):
            raise UsageError("join, prompt and forget are shares, from 0 to 1")


@dataclass(frozen=True)
class VoiceConfig:
    """A voice that the model is to come with: whose it is, what it is called (by default as the speaker), and
    what is told of it (by default what the manifest's columns ``sex`` and ``accent`` say)."""

    speaker: str = ""
    name: str = ""
    sex: str = ""
    accent: str = ""

    def entry(self, sex: str = "", accent: str = "") -> VoiceEntry:
        """With what the manifest says, for the rest."""
        sex = self.sex or {"F": "female", "M": "male"}.get(sex.upper(), "")
        return VoiceEntry(self.name or self.speaker, sex, self.accent or accent)


@dataclass(frozen=True)
class SpeechConfig:
    """``codec``: the name or folder of the codec whose codes are spoken. ``start_from``: weights to go on
    from; they bring their own settings. ``voices``: whose dev utterances are the model's own voices, the
    default one first; by default one of anybody."""

    name: str = "my-voice"
    architecture: str = "vall-m"
    codec: str = "codec-16k-harmonic"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    voices: tuple[VoiceConfig, ...] = field(default=(), metadata={TABLES: VoiceConfig})
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        if fault := entries_fault([voice.entry() for voice in self.voices]):
            raise UsageError(f"voices: {fault}")


def load_codec(name: str, base: Path) -> tuple[Codec, str, str]:
    """The codec, its own name, and a short hash of its weights. Raises :class:`ModelError`."""
    from slyther_cli.checkpoints import store

    folder = store.resolve(model_place(name, base))
    codec, config = store.load(folder, expect_task="codec")
    assert isinstance(codec, Codec)
    return codec, config.name, hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()[:16]


class SpeechTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: SpeechConfig, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        codec, codec_name, codec_key = load_codec(config.codec, base)
        torch.manual_seed(config.loop.seed)
        model, self.architecture, settings = starting_model(config, base, "speak")
        self.settings = settings | {"codec": codec_name}
        self.model = model.to(device)
        of_codec = (codec.sample_rate, codec.frame_rate, codec.codebook_size)
        own = tuple(settings[k] for k in ("sample_rate", "frame_rate", "codebook_size"))
        if own != of_codec or settings["n_codebooks"] > codec.n_codebooks:
            raise ModelError(
                f"[model] has sample_rate, frame_rate, codebook_size {own}, codec {codec_name} has "
                f"{of_codec}: set them alike, and n_codebooks to {codec.n_codebooks} at most"
            )
        data, b = config.data, config.batch
        cache, manifests = data.cache_folder(base), data.manifest_paths(base)
        codec.to(device)
        aligned = settings["conditioning"] == "aligned"
        encoding = Encoding(codec, codec_key, cache, _tell_progress, settings["n_codebooks"])
        how = (encoding, settings["alphabet"], aligned, (b.seconds[0], b.seconds[1]))
        self.speech, self.dev = (
            SpokenCodes(manifests, split, *how) for split in (data.train_split, data.dev_split)
        )
        self.voices = self._built_in_voices()
        self._batches = BatchLoader(self.batch, device, processes=True)

    def about(self) -> dict[str, Any]:
        """The details of the "start" event."""
        speakers = len({item.speaker for item in self.speech.items})
        hours = round(self.speech.seconds / 3600, 2)
        return {"speakers": speakers, "train_hours": hours, "left_out": self.speech.left_out}

    def batch(self, step: int) -> tuple[Batch, Tensor, Tensor, Tensor, Tensor]:
        """Utterances; what the second stage is asked of them, level and frames of prompt; how many frames
        tell the voice; each [batch]; and the frames that are not told the one before [batch, T]."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, self.peers.rank, 3])
        batch = self.speech.batch(rng, b.frames, b.join)
        asked = self._asked(batch, rng, b.prompt)
        hidden = rng.random((len(batch.codes), batch.codes.shape[2])) < b.forget
        return batch, *asked, torch.from_numpy(hidden)

    def _asked(self, batch: Batch, rng: np.random.Generator, prompt: float) -> tuple[Tensor, Tensor, Tensor]:
        rows = len(batch.symbols)
        # The first codebooks hold most of the sound, so they are practised most.
        n_first = self.model.n_first
        weight = 1 / np.arange(1, self.settings["n_codebooks"] - n_first + 1)
        level = torch.from_numpy(n_first - 1 + rng.choice(len(weight), rows, p=weight / weight.sum()))
        share = torch.from_numpy(rng.uniform(0, 0.5, rows) * (rng.random(rows) < prompt))
        voice = torch.from_numpy(rng.uniform(0.2, 0.6, rows))
        return level, (batch.n_frames * share).long(), (batch.n_frames * voice).long()

    def _losses(self, batch: Batch, *asked: Tensor):
        durations = None if batch.durations is None else batch.durations.to(self.device)
        symbols, n_symbols, codes, n_frames = (x.to(self.device) for x in batch[:4])
        there = Batch(symbols, n_symbols, codes, n_frames, durations)
        return self.model.losses(there, *(x.to(self.device) for x in asked))

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch, and the first stage's part of it."""
        losses = self._losses(*self._batches(step))
        total = losses.first + losses.rest + self.config.batch.lengths * losses.lengths
        return total, float(losses.first.detach())

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """Losses on the same dev utterances each time; the score is the negative sum of both stages'."""
        rng = np.random.default_rng(DEV_SEED)
        count = min(self.config.batch.dev_utterances, len(self.dev.items))
        chosen = sorted(rng.choice(len(self.dev.items), count, replace=False))
        sums, weight = np.zeros(3), 0
        for start in range(0, count, 8):
            batch = collate([self.dev.items[i] for i in chosen[start : start + 8]])
            losses = self._losses(batch, *self._asked(batch, rng, 0.0))
            frames = int(batch.n_frames.sum())
            sums += frames * np.array([float(x) for x in losses])
            weight += frames
        first, rest, lengths = sums / weight
        values = {"score": -(first + rest), "first": first, "rest": rest, "lengths": lengths}
        return {**{k: round(float(v), 4) for k, v in values.items()}, "examples": count}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Weights, with voices to speak in when no prompt is given."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="speak",
            metrics=metrics,
            voices=[entry.as_json() for entry in self.voices],
            companions=lambda where: write_voices(
                where, {entry.name: voice for entry, voice in self.voices.items()}
            ),
        )

    def _built_in_voices(self) -> dict[VoiceEntry, Voice]:
        """Each is the speaker's dev utterance whose length is nearest 3 s, the earlier of two."""
        wanted: int = 3 * self.settings["frame_rate"]
        found: dict[VoiceEntry, Voice] = {}
        for asked in self.config.voices or (None,):
            items = [item for item in self.dev.items if asked is None or item.speaker == asked.speaker]
            if asked is not None and not items:
                split = self.config.data.dev_split
                raise UsageError(f"voices: speaker {asked.speaker!r} has no utterance in split {split!r}")
            item = min(items, key=lambda item: abs(len(item.codes) - wanted))
            named = VoiceConfig(name=item.speaker if NAME.fullmatch(item.speaker) else UNNAMED)
            own = collate([item])
            durations = None if own.durations is None else own.durations[0]
            entry = (asked or named).entry(item.sex, item.accent)
            found[entry] = Voice(own.symbols[0], own.codes[0], durations)
        return found


def _tell_progress(done: int, of: int) -> None:
    if done % 500 == 0 or done == of:
        print(f"encoded {done} of {of} utterances", file=sys.stderr)


train = partial(run, SpeechTask, partial(read_settings, kind=SpeechConfig))
