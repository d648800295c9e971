"""Training a codec: the configuration file, the batches, the losses, the validation (issue 5).

The file is TOML with the tables [model] (a preset's name and settings), [data], [batch], [losses] and [loop];
see examples/train-codec.toml. Its paths are relative to its own folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slyther_cli.errors import UsageError
from slyther_cli.models.codec import Codec, HarmonicCodec, SeanetCodec
from slyther_cli.research.training.adversarial import Discriminators, balanced
from slyther_cli.research.training.codec_start import start_from_blocks
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.losses import si_snr
from slyther_cli.research.training.pitch import pitch_codebook, teach
from slyther_cli.research.training.quantizer import QUIET, QuantizerTraining
from slyther_cli.research.training.settings import DataConfig, read_settings, starting_model
from slyther_cli.research.training.spectral import MelDistance
from slyther_cli.research.training.workers import run

DEV_SEED = 12345
START_AT = 2**40
"""The number of the first piece of speech that k-means begins with."""


@dataclass(frozen=True)
class BatchConfig:
    """``examples`` of ``seconds`` in a batch, at levels drawn evenly from ``gain_db`` around the pool's
    -25 dB. A speaker is drawn by the ``favour`` th power of how much is there: 1 as the speech comes, 0 all
    alike. The codebooks start from ``start_frames`` frames for each code. A pitch tracker learns
    from the first ``pitch_examples`` of these pieces, in ``pitch_steps`` steps. Validation takes
    ``dev_examples`` of ``dev_seconds``."""

    examples: int = 8
    seconds: float = 1.0
    gain_db: tuple[float, ...] = (-12.0, 6.0)
    favour: float = 0.5
    start_frames: int = 10
    pitch_examples: int = 1500
    pitch_steps: int = 2500
    dev_examples: int = 48
    dev_seconds: float = 2.0

    def __post_init__(self) -> None:
        if min(self.examples, self.dev_examples, self.start_frames) < 1:
            raise UsageError("examples and start_frames must be 1 or more")
        if min(self.seconds, self.dev_seconds) < 0.1 or not 0 <= self.favour <= 1:
            raise UsageError("seconds must be 0.1 or more, favour from 0 to 1")
        if len(self.gain_db) != 2 or self.gain_db[0] > self.gain_db[1]:
            raise UsageError("gain_db must be the lowest and the highest gain")


@dataclass(frozen=True)
class LossConfig:
    """Weights. ``mel``: log mel spectra at five resolutions, with ``linear`` also log spectra; ``wave``: mean
    absolute difference of the samples, relative to the target's (for a SEANet only: spectral frames hold no
    phase); ``adversarial``: passing for real with the discriminators, ``features``: likeness of their
    features. Where these two are not 0, they count by the size of their gradients, as ``mel`` then does,
    from step ``adversarial_from`` on, on pieces of ``adversarial_seconds`` and with discriminators of
    ``width``. ``commitment``: how far frames lie from their codes. ``full``: share of the examples that
    keep all codebooks; the others keep an evenly drawn number of the first. ``decoder_only``: encoder and
    codebooks stay as ``start_from`` has them, so that tokens keep their meaning."""

    mel: float = 1.0
    adversarial: float = 0.0
    features: float = 0.0
    adversarial_from: int = 1000
    adversarial_seconds: float = 0.5
    width: int = 16
    linear: bool = False
    wave: float = 0.5
    commitment: float = 0.1
    full: float = 0.5
    decoder_only: bool = False

    def __post_init__(self) -> None:
        if (
            min(self.mel, self.wave, self.commitment, self.adversarial, self.features) < 0
            or not 0 <= self.full <= 1
        ):
            raise UsageError("weights must be 0 or more, full from 0 to 1")


@dataclass(frozen=True)
class CodecTraining:
    """The whole file. ``start_from``: weights to go on from, a name or a folder; they bring their own
    settings."""

    name: str = "my-codec"
    architecture: str = "harmonic-codec"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> CodecTraining:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    config = read_settings(path, CodecTraining)
    if config.losses.decoder_only and not config.start_from:
        raise UsageError(f"{path}: decoder_only needs start_from: an encoder that is trained")
    return config


class Segments:
    """Pieces of a pool's speech, drawn by number: speakers by how much they say to the power ``favour``."""

    def __init__(self, pool: SpeechPool, seed: int, favour: float = 0.5):
        self.seed, self.speakers = seed, [pool.speakers[name] for name in sorted(pool.speakers)]
        share = np.array([sum(map(len, utterances)) for utterances in self.speakers], float) ** favour
        self.share = share / share.sum()

    def draw(self, number: int, samples: int, gain_db: tuple[float, ...] = (0.0, 0.0)) -> np.ndarray:
        """Piece ``number``, float32 [samples]; what is shorter is continued by more of the same speaker."""
        rng = np.random.default_rng([self.seed, number])
        utterances = self.speakers[rng.choice(len(self.speakers), p=self.share)]
        out, at = np.zeros(samples, np.float32), 0
        while at < samples:
            utterance = utterances[rng.integers(len(utterances))]
            start = int(rng.integers(max(1, len(utterance) - samples + at + 1)))
            piece = utterance[start : start + samples - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
        gain = 10 ** (rng.uniform(gain_db[0], gain_db[1]) / 20) / 32768
        return out * np.float32(min(gain, 0.99 / max(1.0, np.abs(out).max())))


class Trainee(nn.Module):
    """All that a run's state holds: the codec, the averages that its codebooks follow, discriminators."""

    def __init__(self, codec: Codec, discriminators: Discriminators | None):
        super().__init__()
        quiet = QUIET if isinstance(codec, SeanetCodec) else 0.0
        self.codec, self.statistics = codec, QuantizerTraining(codec.quantizer, quiet)
        self.discriminators = discriminators


class CodecTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: CodecTraining, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        codec, self.architecture, self.settings = starting_model(config, base, "codec")
        c = config.losses
        critics = Discriminators(width=c.width) if c.adversarial or c.features else None
        self.model = Trainee(codec, critics).to(device)
        # Spectral frames are what they are: their codebooks start as well as they will ever be.
        self.follow = isinstance(codec, SeanetCodec) and not config.losses.decoder_only
        if not self.follow:
            codec.encoder.requires_grad_(False)
        self.pool, dev = config.data.pools(base, codec.sample_rate)
        self.segments = Segments(self.pool, config.loop.seed, config.batch.favour)
        self.dev = Segments(dev, DEV_SEED)
        if not config.start_from:
            self._start()
        self.mel = MelDistance(codec.sample_rate).to(device)
        self.distance = MelDistance(codec.sample_rate, linear=config.losses.linear).to(device)
        self._batches = BatchLoader(self.batch, device, processes=True)

    @torch.no_grad()
    def _start(self) -> None:
        """First weights and codebooks from as much speech as gives ``start_frames`` for each code."""
        codec, device, b = self.model.codec, self.device, self.config.batch
        samples = 100 * codec.hop
        count = -(-b.start_frames * codec.codebook_size // 100)
        gain_db = (0.0, 0.0) if self.follow else b.gain_db
        speech = [self.segments.draw(START_AT + i, samples, gain_db) for i in range(count)]
        x = torch.from_numpy(np.stack(speech)).to(device)
        if isinstance(codec, SeanetCodec):
            start_from_blocks(codec, x)
        if isinstance(codec, HarmonicCodec):
            self._start_pitch(codec, x)
        frames = torch.cat([codec.encoder(part[:, None]) for part in x.split(8)])
        frames = frames.transpose(1, 2).flatten(0, 1)
        if isinstance(codec, HarmonicCodec):
            pitch = pitch_codebook(frames[:, codec.bands :].cpu(), codec.codebook_size, self.config.loop.seed)
            codec.pitch_codes.copy_(pitch)
            frames = frames[:, : codec.bands]
        self.model.statistics.start(frames, self.config.loop.seed)

    def _start_pitch(self, codec: HarmonicCodec, speech: Tensor) -> None:
        """Teach the tracker on two seconds of each piece of ``speech``."""
        b = self.config.batch
        pieces = speech[: b.pitch_examples].cpu().numpy()
        with torch.enable_grad():
            tracker = codec.encoder.pitch.cpu()
            self.taught = teach(tracker, pieces, codec.sample_rate, b.pitch_steps, self.config.loop.seed)
        tracker.to(self.device)

    def batch(self, step: int) -> Tensor:
        """The samples [examples, n] of that step, other ones for every peer."""
        b, rate = self.config.batch, self.model.codec.sample_rate
        hop = self.model.codec.hop
        samples = -(-int(b.seconds * rate) // hop) * hop
        first = (step * self.peers.count + self.peers.rank) * 1000
        return torch.from_numpy(
            np.stack([self.segments.draw(first + i, samples, b.gain_db) for i in range(b.examples)])
        )

    def loss(self, step: int) -> tuple[Tensor, float]:
        """That step's loss, and the mel distance in it."""
        x = self._batches(step).to(self.device)
        c, codec = self.config.losses, self.model.codec
        frames, commitment = self._frames(x, step)
        y = codec.decoder(frames)[:, 0]
        if self.model.discriminators is not None and step >= c.adversarial_from:
            return self._adversarial(x, y, step)
        mel = self.distance(y, x)
        loss = c.mel * mel + c.commitment * commitment
        if isinstance(codec, SeanetCodec):
            loss = loss + c.wave * ((y - x).abs().mean(1) / (x.abs().mean(1) + 1e-3)).mean()
        return loss, float(mel.detach())

    def _frames(self, x: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """What the decoder is given [batch, dimension, frames], and the commitment loss."""
        c, codec = self.config.losses, self.model.codec
        statistics = self.model.statistics
        seed = self.config.loop.seed * 1_000_003 + step
        draw = torch.Generator().manual_seed(seed)
        books = len(statistics.books)
        keep = torch.randint(1, books + 1, (len(x),), generator=draw)
        keep[torch.rand(len(x), generator=draw) < c.full] = books
        with torch.set_grad_enabled(self.follow):
            frames = codec.encoder(x[:, None])
            if isinstance(codec, HarmonicCodec):
                heard, pitch = frames[:, : codec.bands], frames[:, codec.bands :]
                heard, commitment = statistics(heard, keep.to(self.device), seed, learn=False)
                return torch.cat((heard, codec.pitch_of(codec.pitch_code(pitch))), 1), commitment
            return statistics(frames, keep.to(self.device), seed, learn=self.follow)

    def _adversarial(self, x: Tensor, y: Tensor, step: int) -> tuple[Tensor, float]:
        """A loss with the balanced gradients of the sound ``y`` and those of the discriminators, and the mel
        distance."""
        c, critics = self.config.losses, self.model.discriminators
        assert critics is not None
        made = y.detach().float().requires_grad_()
        length = min(x.shape[1], int(c.adversarial_seconds * self.model.codec.sample_rate))
        at = int(np.random.default_rng([self.config.loop.seed, step]).integers(x.shape[1] - length + 1))
        heard = slice(at, at + length)
        passes, features, own = critics.losses(made[:, heard], x[:, heard])
        mel = self.distance(made, x)
        losses = ((c.mel, mel), (c.adversarial, passes), (c.features, features))
        gradient = balanced([(w, loss) for w, loss in losses if w], made)
        return (y * gradient).sum() + own, float(mel.detach())

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """On dev speakers, with all codebooks and with half of them: mel distance and SI-SNR in dB; and how
        many codes are in use. The score is the negative of the mel distance, or 0 once there are
        discriminators, who know better: then the latest weights are the best."""
        b, codec = self.config.batch, self.model.codec
        samples = int(b.dev_seconds * codec.sample_rate) // codec.hop * codec.hop
        half = max(1, codec.n_codebooks // 2)
        rows = []
        for i in range(b.dev_examples):
            x = torch.from_numpy(self.dev.draw(i, samples))[None].to(self.device)
            codes = codec.encode(x)
            y, less = codec.decode(codes), codec.decode(codes[:, :half])
            rows.append([float(v) for v in (self.mel(y, x), si_snr(y, x), self.mel(less, x))])
        means: list[float] = np.mean(rows, 0).round(3).tolist()
        mel, snr, of_half = means
        used = self.model.statistics.perplexity()
        halved = {"mel_of_half": of_half, "codes_used": used, "examples": len(rows)}
        score = -mel if self.model.discriminators is None else 0.0
        return {"score": score, "mel": mel, "si_snr": snr, **halved}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the codec as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model.codec,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="codec",
            metrics={
                "dev_mel": metrics["mel"],
                "dev_si_snr": metrics["si_snr"],
                "steps": metrics["step"],
            },
        )

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        hours = round(self.pool.seconds / 3600, 2)
        return {"config": self.settings, "train_hours": hours, "speakers": len(self.pool.speakers)}


def train(
    config_path: Path,
    folder: Path,
    resume: bool,
    on_event: Callable[[dict], None],
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Train as ``config_path`` says; see :func:`slyther_cli.research.training.workers.run`. One process:
    codebooks follow the frames that it sees. Raises :class:`UsageError` on more ``workers`` as well."""
    if workers != 1:
        raise UsageError("a codec is trained by one process; give it --threads instead")
    run(CodecTask, read_config, config_path, folder, resume, on_event, workers, device)
