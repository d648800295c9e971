"""Training a recogniser: the configuration file, the batches, the losses, the validation (papers.md 2.5).

A model without a decoder learns by CTC; one with a decoder by 0.3 CTC + 0.7 cross-entropy of the decoder,
which is given the true text up to the token to be predicted (teacher forcing).

The file is TOML with the tables [model] (a preset's name and settings), [text], [data], [augment], [batch]
and [loop]; see examples/train-transcribe.toml. Its paths are relative to its own folder.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.ctc import GreedyDecoder
from slyther_cli.decode.joint import BOS, EOS, JointOptions, has_ends, joint_search
from slyther_cli.decode.phones import PhoneTokenizer
from slyther_cli.decode.tokens import Tokenizer
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.evaluation.metrics import edits
from slyther_cli.research.training.hubert_front import pretrained
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.recognition_data import (
    AugmentConfig,
    TranscribedSpeech,
    padded,
    spec_augment,
)
from slyther_cli.research.training.recognition_start import deeper, new_tokenizer, phones_for_letters
from slyther_cli.research.training.regularisation import consistency, drop_channels
from slyther_cli.research.training.settings import DataConfig, model_place, read_settings, starting_model
from slyther_cli.research.training.teacher_states import FRAME, RATE, TeacherStates
from slyther_cli.research.training.workers import run

FITTED_ON = 300  # utterances that the features' mean and deviation are taken from
DEV_CANDIDATES = 10  # next tokens that validation tries of a hypothesis
IGNORED = -100  # a target that does not count


@dataclass(frozen=True)
class TextConfig:
    """``units``: "characters", "phones" (decode/phones.py), "unigram" or "bpe"; ``size``: how many pieces of
    the latter two. With ``start_from``, "phones" gives weights that write letters a new output layer."""

    units: str = "characters"
    size: int = 500

    def __post_init__(self) -> None:
        if self.units not in ("characters", "phones", "unigram", "bpe"):
            raise UsageError(f"units must be characters, phones, unigram or bpe, not {self.units!r}")


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``seconds`` of speech. ``intermediate``: the share that a second loss half way up
    the encoder has in CTC's (Lee and Watanabe 2021), 0 for none. Validation hears up to ``dev_utterances``.

    Against learning by heart: ``consistency`` is CR-CTC's weight (0.2 in its paper; 0 for none): a batch then
    holds every utterance twice, differently augmented, and both views should tell the same.
    ``channel_dropout``: the share of channels that each branch of a layer loses in an utterance.
    ``taught``: the weight of a teacher's part of the loss, its mean squared error as a share of the variance.

    With a decoder: ``ctc_weight`` is CTC's share in the loss, the decoder has the rest; ``label_smoothing``
    of its targets (0 for the published S, 0.1 for L); validation searches with ``dev_beam`` hypotheses.
    """

    seconds: float = 60.0
    intermediate: float = 0.3
    dev_utterances: int = 200
    ctc_weight: float = 0.3
    label_smoothing: float = 0.0
    consistency: float = 0.0
    channel_dropout: float = 0.0
    taught: float = 1.0
    dev_beam: int = 2

    def __post_init__(self) -> None:
        if self.seconds <= 0 or min(self.dev_utterances, self.dev_beam) < 1:
            raise UsageError("seconds, dev_utterances and dev_beam must be above 0")
        if not all(0 <= x < 1 for x in (self.intermediate, self.label_smoothing, self.channel_dropout)):
            raise UsageError("intermediate, label_smoothing, channel_dropout must be from 0 to below 1")
        if min(self.consistency, self.taught) < 0:
            raise UsageError("consistency and taught must be 0 or more")
        if not 0 < self.ctc_weight <= 1:
            raise UsageError("ctc_weight must be above 0 (times come from CTC) and at most 1")


@dataclass(frozen=True)
class RecognitionConfig:
    """``model`` is what is set apart from the preset's, or the architecture's, own values. ``start_from``:
    weights to go on from, a name or a folder; they bring their own settings and alphabet, but [model] may
    have more ``n_layers``. ``teacher``: a folder of ``python -m
    slyther_cli.research.training.recognition_teacher``, for targets in every frame; "" trains by the texts
    alone. ``hubert``: the pre-trained HuBERT under a hubert-ctc."""

    CHANGES: ClassVar = ("n_layers",)

    name: str = "my-recogniser"
    architecture: str = "conmamba"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    teacher: str = ""
    hubert: str = ""
    text: TextConfig = field(default_factory=TextConfig)
    data: DataConfig = field(default_factory=DataConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> RecognitionConfig:
    """The settings; without [model] and ``start_from``, of the preset conmamba-ctc-small. Raises
    :class:`UsageError` on anything that the file should not hold."""
    config = read_settings(path, RecognitionConfig)
    own = (config.start_from, config.model, config.hubert, config.architecture != "conmamba")
    if not any(own):
        config = replace(config, model=dict(registry.PRESETS["conmamba-ctc-small"][1]))
    return config


class Batch(NamedTuple):
    """Features [batch, frames, n_mels] and their lengths, tokens [total] and their counts; of a teacher the
    states [batch, frames / 4, dim] and where it has some [batch, frames / 4], else nothing."""

    features: Tensor
    lengths: Tensor
    tokens: Tensor
    counts: Tensor
    wanted: Tensor
    known: Tensor


class RecognitionTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: RecognitionConfig, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        if config.hubert:
            config, hubert = pretrained(config, base)
        if config.start_from:
            model, self.architecture, self.settings = starting_model(config, base, "transcribe")
            from slyther_cli.checkpoints import store

            self.tokenizer = load_tokenizer(store.resolve(model_place(config.start_from, base)))
            if config.text.units == "phones" and not isinstance(self.tokenizer, PhoneTokenizer):
                letters, self.tokenizer = self.tokenizer, PhoneTokenizer()
                model, self.settings = phones_for_letters(model, self.architecture, self.settings, letters)
            if n_layers := config.model.get("n_layers"):
                model, self.settings = deeper(model, self.architecture, self.settings, n_layers)
            pools = config.data.pools(base, model.config.sample_rate)
        else:
            rate = int(config.model.get("sample_rate", 16000))
            pools = config.data.pools(base, rate)
            settings = registry.full_config(config.architecture, config.model)
            ends = settings.get("decoder") != "none"  # a speech-mamba always has a decoder
            self.tokenizer = new_tokenizer(
                config.text.units, config.text.size, pools[0].all_transcripts(), ends
            )
            config = replace(config, model={**config.model, "vocab": self.tokenizer.size})
            model, self.architecture, self.settings = starting_model(config, base, "transcribe")
            model.start_from_s4d()
            if config.hubert:
                model.take(hubert)
        self.alphabet = _digest(self.tokenizer)
        noises = config.data.recordings(base, pools[0].rate)
        if config.augment.recorded_noise and not noises:
            raise UsageError("recorded_noise takes recordings: name their manifest as noises in [data]")
        self.speech = TranscribedSpeech(pools[0], self.tokenizer, noises)
        self.dev = TranscribedSpeech(pools[1], self.tokenizer)
        if not config.start_from:
            model.normalize.fit(self._features(model, i) for i in self._sample())
        # Batches are made on the CPU, on a GPU by processes that must leave that alone: their features too.
        self._front = model if device == "cpu" else copy.deepcopy(model)
        self.network = model.to(device)
        self.hop_s = model.config.hop / model.config.sample_rate
        self.states = self._teacher(base)
        self.model: nn.Module = self.network
        if self.states is not None:
            head = nn.Linear(model.config.d_model, self.states.dim)
            nn.init.zeros_(head.weight)  # its part of the loss begins with 1
            self.model = nn.ModuleDict({"network": self.network, "taught": head.to(device)})
        self.decodes = model.has_decoder
        if self.decodes and not has_ends(self.tokenizer):
            raise UsageError(f"{config.start_from}: its alphabet has no tokens for a text's start and end")
        if share := config.batch.channel_dropout:
            drop_channels(model.transformer.encoder.layers, share)
        self._heard: dict[str, Tensor] = {}  # what layers told of the batch
        if config.batch.intermediate:
            self._listen("midway", 1 / 2)
        if self.states is not None:
            self._listen("taught", 3 / 4)
        self._batches = BatchLoader(self.batch, device, processes=True)

    def _sample(self) -> np.ndarray:
        rng = np.random.default_rng(self.config.loop.seed)
        n = len(self.speech.samples)
        return rng.choice(n, min(n, FITTED_ON), replace=False)

    def _features(self, model, i: int) -> Tensor:
        return model.fbank(torch.from_numpy(self.speech.samples[i].astype(np.float32) / 32768)[None])

    def _teacher(self, base: Path) -> TeacherStates | None:
        if not self.config.teacher:
            return None
        if abs(4 * self.hop_s - FRAME / RATE) > 1e-9:
            raise UsageError("a teacher is for models with a frame every 40 ms")
        states = TeacherStates(base / self.config.teacher)
        if missing := states.missing(self.speech.paths):
            raise InputError(f"{self.config.teacher}: has no states of {missing[0]}; make them again")
        return states

    def _listen(self, name: str, height: float) -> None:
        """Keep what the layer at that share of the encoder's height tells, while training."""

        def keep(layer: nn.Module, inputs: tuple, output: Tensor) -> None:
            if layer.training:
                self._heard[name] = output

        layers = self.network.transformer.encoder.layers
        layers[int(len(layers) * height) - 1].register_forward_hook(keep)

    @torch.no_grad()
    def batch(self, step: int) -> Batch:
        """That step's; another one for every peer. For consistency, the second half holds the utterances of
        the first."""
        c = self.config
        views = 2 if c.batch.consistency else 1
        rng = np.random.default_rng([c.loop.seed, step, self.peers.rank, 2])
        features, tokens, wanted, known = [], [], [], []
        for example in self.speech.batch(c.augment, rng, c.batch.seconds, views):
            x = self._front.features(torch.from_numpy(example.samples)[None])[0]
            features.append(spec_augment(x, c.augment, rng, self.hop_s))
            tokens.append(torch.tensor(example.tokens, dtype=torch.long))
            if self.states is not None:
                frames = int(self._front.frontend.frames(len(x)))
                states, told = self.states.targets(example.parts, frames, self.speech.rate)
                wanted.append(torch.from_numpy(states))
                known.append(torch.from_numpy(told))
        counts = torch.tensor([len(t) for t in tokens])
        taught = [padded(x)[0] for x in (wanted, known)] if wanted else [torch.zeros(0)] * 2
        return Batch(*padded(features), torch.cat(tokens), counts, *taught)

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch in nats a token, and a part of it to watch: the decoder's, or without
        a decoder that of the last layer's CTC."""
        made = self._batches(step)
        tokens, counts = made.tokens, made.counts
        frames = self.network.frontend.frames(made.lengths)
        features, lengths, labels = (
            x.to(self.device, non_blocking=True) for x in (made.features, made.lengths, tokens)
        )
        self._heard.clear()

        def ctc(log_probs: Tensor) -> Tensor:
            in_time = log_probs.transpose(0, 1)
            total = F.ctc_loss(in_time, labels, frames, counts, reduction="sum", zero_infinity=True)
            return total / texts

        def told(memory: Tensor) -> Tensor:
            return self.network.ctc(memory).float().log_softmax(-1)

        memory, texts = self.network.encode(features, lengths), max(1, int(counts.sum()))
        log_probs = told(memory)
        last = total = ctc(log_probs)
        if weight := self.config.batch.intermediate:
            early = ctc(told(self.network.transformer.encoder.norm(self._heard["midway"])))
            total = (1 - weight) * last + weight * early
        if weight := self.config.batch.consistency:
            total = total + weight * consistency(log_probs, frames) / texts
        if self.states is not None:
            total = total + self.config.batch.taught * self._taught_loss(made)
        if not self.decodes:
            return total, float(last.detach())
        nats = self._decoder_loss(memory, frames.to(self.device), tokens, counts)
        share = self.config.batch.ctc_weight
        return share * total + (1 - share) * nats, float(nats.detach())

    def _taught_loss(self, made: Batch) -> Tensor:
        """Mean squared distance to the teacher's states in frames of speech; their own mean square is 1."""
        head: Any = self.model.get_submodule("taught")
        wanted, known = made.wanted.to(self.device), made.known.to(self.device)
        apart = (head(self._heard["taught"]).float() - wanted).square().sum(-1)
        return (apart * known).sum() / known.sum().clamp(min=1)

    def _decoder_loss(self, memory: Tensor, frames: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
        """Cross-entropy of every token, the end too, after those before it; summed, a token of the text."""
        given, wanted = forced(tokens, counts)
        logits = self.network.decode(given.to(self.device), memory, frames).float()
        loss = F.cross_entropy(
            logits.flatten(0, 1),
            wanted.flatten().to(self.device),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.config.batch.label_smoothing,
        )
        return loss / max(1, int(counts.sum()))

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """Word and character (or phone) error rates in percent on utterances of the dev speakers: greedy, or
        of a small joint search with the decoder. A word of phones is right when all its phones are."""
        rng = np.random.default_rng(0)
        n = len(self.dev.samples)
        chosen = np.sort(rng.choice(n, min(n, self.config.batch.dev_utterances), replace=False))
        words, wrong_words, characters, wrong_characters = 0, 0, 0, 0
        for i in chosen:
            heard = self._recognise(np.asarray(self.dev.samples[i], np.float32) / 32768)
            said = self.tokenizer.decode(self.dev.tokens[i])
            words, characters = words + len(said.split()), characters + len(self._letters(said))
            wrong_words += edits(said.split(), heard.split())
            wrong_characters += edits(self._letters(said), self._letters(heard))
        wer, cer = (round(100 * x, 2) for x in (wrong_words / words, wrong_characters / characters))
        return {"score": -wer, "wer": wer, "cer": cer, "utterances": len(chosen)}

    def _letters(self, text: str) -> Sequence[str]:
        """What an error rate below that of words counts: characters, or phones."""
        return text.replace("-", " ").split() if isinstance(self.tokenizer, PhoneTokenizer) else text

    def _recognise(self, samples: np.ndarray) -> str:
        x = torch.from_numpy(samples)[None].to(self.device)
        memory = self.network.encode(self.network.features(x))
        if self.decodes:
            search = JointOptions(beam=self.config.batch.dev_beam, candidates=DEV_CANDIDATES)
            return self.tokenizer.decode(joint_search(self.network, memory[0], search))
        log_probs = self.network.ctc(memory).log_softmax(-1)[0].cpu().numpy()
        decoder = GreedyDecoder()
        return self.tokenizer.decode(t.id for t in [*decoder.push(log_probs), *decoder.flush()])

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the weights and the alphabet as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.network,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="transcribe",
            companions=self.tokenizer.save,
            metrics={"dev_wer": metrics["wer"], "dev_cer": metrics["cer"], "steps": metrics["step"]},
        )

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        return {
            "config": self.settings,
            "train_hours": round(self.speech.hours, 2),
            "speakers": len(set(self.speech.speakers)),
            "left_out": self.speech.left_out,
        }


def forced(tokens: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens [total] of texts with ``counts`` [batch] -> what a decoder is given [batch, most + 1], from BOS
    on, and what it should tell at each place, EOS last; padded by blanks and by ``IGNORED``."""
    bos, eos = torch.tensor([BOS]), torch.tensor([EOS])
    texts = tokens.split(counts.tolist())
    pad = torch.nn.utils.rnn.pad_sequence
    given = pad([torch.cat([bos, text]) for text in texts], batch_first=True)
    return given, pad([torch.cat([text, eos]) for text in texts], batch_first=True, padding_value=IGNORED)


def _digest(tokenizer: Tokenizer) -> str:
    """A short text that is another one for another alphabet."""
    surfaces = [tokenizer.surface(i) for i in range(tokenizer.size)]
    return hashlib.sha256(repr(surfaces).encode()).hexdigest()[:16]


train = partial(run, RecognitionTask, read_config)
