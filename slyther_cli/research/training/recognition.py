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
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.ctc import GreedyDecoder
from slyther_cli.decode.joint import BOS, EOS, JointOptions, has_ends, joint_search
from slyther_cli.decode.phones import PHONES, SPELT, PhoneTokenizer
from slyther_cli.decode.tokens import BLANK, CharTokenizer, SentencePieceTokenizer, Tokenizer
from slyther_cli.errors import UsageError
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
from slyther_cli.research.training.regularisation import consistency, drop_channels
from slyther_cli.research.training.settings import DataConfig, model_place, read_settings, starting_model
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
    dev_beam: int = 2

    def __post_init__(self) -> None:
        if self.seconds <= 0 or min(self.dev_utterances, self.dev_beam) < 1:
            raise UsageError("seconds, dev_utterances and dev_beam must be above 0")
        if not all(0 <= x < 1 for x in (self.intermediate, self.label_smoothing, self.channel_dropout)):
            raise UsageError("intermediate, label_smoothing, channel_dropout must be from 0 to below 1")
        if self.consistency < 0:
            raise UsageError("consistency must be 0 or more")
        if not 0 < self.ctc_weight <= 1:
            raise UsageError("ctc_weight must be above 0 (times come from CTC) and at most 1")


@dataclass(frozen=True)
class RecognitionConfig:
    """``model`` is what is set apart from the preset's, or the architecture's, own values. ``start_from``:
    weights to go on from, a name or a folder; they bring their own settings and alphabet. ``hubert``: the
    pre-trained HuBERT under a hubert-ctc."""

    name: str = "my-recogniser"
    architecture: str = "conmamba"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
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
            pools = config.data.pools(base, model.config.sample_rate)
        else:
            rate = int(config.model.get("sample_rate", 16000))
            pools = config.data.pools(base, rate)
            settings = registry.full_config(config.architecture, config.model)
            ends = settings.get("decoder") != "none"  # a speech-mamba always has a decoder
            self.tokenizer = _tokenizer(config.text, pools[0].all_transcripts(), ends)
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
        self.model = model.to(device)
        self.decodes = model.has_decoder
        if self.decodes and not has_ends(self.tokenizer):
            raise UsageError(f"{config.start_from}: its alphabet has no tokens for a text's start and end")
        self.hop_s = model.config.hop / model.config.sample_rate
        self._midway_outputs: list[Tensor] = []
        if share := config.batch.channel_dropout:
            drop_channels(model.transformer.encoder.layers, share)
        if config.batch.intermediate:
            layers = model.transformer.encoder.layers
            layers[len(layers) // 2 - 1].register_forward_hook(self._midway)
        self._batches = BatchLoader(self.batch, device, processes=True)

    def _sample(self) -> np.ndarray:
        rng = np.random.default_rng(self.config.loop.seed)
        n = len(self.speech.samples)
        return rng.choice(n, min(n, FITTED_ON), replace=False)

    def _features(self, model, i: int) -> Tensor:
        return model.fbank(torch.from_numpy(self.speech.samples[i].astype(np.float32) / 32768)[None])

    def _midway(self, layer, inputs, output: Tensor) -> None:
        if self.model.training:
            self._midway_outputs.append(output)

    @torch.no_grad()
    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features [batch, frames, n_mels] and their lengths, tokens [total] and their counts, of that step;
        other ones for every peer. For consistency, the second half holds the utterances of the first."""
        c = self.config
        views = 2 if c.batch.consistency else 1
        rng = np.random.default_rng([c.loop.seed, step, self.peers.rank, 2])
        features, tokens = [], []
        for samples, written in self.speech.batch(c.augment, rng, c.batch.seconds, views):
            x = self._front.features(torch.from_numpy(samples)[None])[0]
            features.append(spec_augment(x, c.augment, rng, self.hop_s))
            tokens.append(torch.tensor(written, dtype=torch.long))
        counts = torch.tensor([len(t) for t in tokens])
        return (*padded(features), torch.cat(tokens), counts)

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch in nats a token, and a part of it to watch: the decoder's, or without
        a decoder that of the last layer's CTC."""
        features, lengths, tokens, counts = self._batches(step)
        frames = self.model.frontend.frames(lengths)
        features, lengths, labels = (
            x.to(self.device, non_blocking=True) for x in (features, lengths, tokens)
        )
        self._midway_outputs.clear()

        def ctc(log_probs: Tensor) -> Tensor:
            in_time = log_probs.transpose(0, 1)
            total = F.ctc_loss(in_time, labels, frames, counts, reduction="sum", zero_infinity=True)
            return total / texts

        def told(memory: Tensor) -> Tensor:
            return self.model.ctc(memory).float().log_softmax(-1)

        memory, texts = self.model.encode(features, lengths), max(1, int(counts.sum()))
        log_probs = told(memory)
        last = total = ctc(log_probs)
        if weight := self.config.batch.intermediate:
            early = ctc(told(self.model.transformer.encoder.norm(self._midway_outputs[0])))
            total = (1 - weight) * last + weight * early
        if weight := self.config.batch.consistency:
            total = total + weight * consistency(log_probs, frames) / texts
        if not self.decodes:
            return total, float(last.detach())
        nats = self._decoder_loss(memory, frames.to(self.device), tokens, counts)
        share = self.config.batch.ctc_weight
        return share * total + (1 - share) * nats, float(nats.detach())

    def _decoder_loss(self, memory: Tensor, frames: Tensor, tokens: Tensor, counts: Tensor) -> Tensor:
        """Cross-entropy of every token, the end too, after those before it; summed, a token of the text."""
        given, wanted = forced(tokens, counts)
        logits = self.model.decode(given.to(self.device), memory, frames).float()
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
        memory = self.model.encode(self.model.features(x))
        if self.decodes:
            search = JointOptions(beam=self.config.batch.dev_beam, candidates=DEV_CANDIDATES)
            return self.tokenizer.decode(joint_search(self.model, memory[0], search))
        log_probs = self.model.ctc(memory).log_softmax(-1)[0].cpu().numpy()
        decoder = GreedyDecoder()
        return self.tokenizer.decode(t.id for t in [*decoder.push(log_probs), *decoder.flush()])

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the weights and the alphabet as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model,
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


def phones_for_letters(
    model: Any, architecture: str, settings: dict[str, Any], letters: Tokenizer
) -> tuple[Any, dict[str, Any]]:
    """A network that writes letters -> the same one with an output layer for phones, and its settings. What
    tells a phone is at first what told the letters that often spell it; blank stays blank."""
    if model.has_decoder or not isinstance(letters, CharTokenizer):
        raise UsageError('[text] units = "phones" beside start_from: of a model of letters without a decoder')
    rows = [[BLANK], *(letters.encode(SPELT[phone]) for phone in PHONES)]
    rows += rows[1:]  # at a word's start, and within it
    settings = {**settings, "vocab": len(rows)}
    other = registry.build(architecture, settings)
    state = dict(model.state_dict())
    for name in ("ctc_lin.w.weight", "ctc_lin.w.bias"):
        state[name] = torch.stack([state[name][row].mean(0) for row in rows])
    other.load_state_dict(state)
    return other, settings


def _tokenizer(c: TextConfig, lines: list[str], ends: bool) -> Any:
    """``ends``: with tokens for a text's start and end, which SentencePiece's have anyway."""
    if c.units == "characters":
        return CharTokenizer(ends=ends)
    if c.units == "phones":
        if ends:
            raise UsageError('[text] units = "phones" are for models without a decoder')
        return PhoneTokenizer()
    try:
        return SentencePieceTokenizer.train(lines, c.size, kind=c.units)
    except ValueError as error:
        raise UsageError(f"[text] {error}") from None


train = partial(run, RecognitionTask, read_config)
