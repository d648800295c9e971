"""A recognition model ready to use: network, alphabet, language model, and how they are put together.

blocks of samples -> audio.level -> longform.encode_whole -> CTC log-probabilities -> text.TextStream
  -> segments
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slyther_cli import files
from slyther_cli.audio.discover import shown
from slyther_cli.audio.level import SPEECH_DB, Running, at_level, heard_by
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.config import ModelConfig, shorten
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.ctc import BeamOptions, GreedyDecoder
from slyther_cli.decode.joint import WITH_LM, WITHOUT_LM, JointOptions, has_ends, joint_stream
from slyther_cli.decode.lexicon import Lexicon, asked_for
from slyther_cli.decode.lexicon_beam import LexiconOptions, SpokenWords, lexicon_beam
from slyther_cli.decode.native_beam import beam_decoder
from slyther_cli.decode.ngram import NGram
from slyther_cli.decode.phones import PhoneTokenizer
from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.speech_filter import SpeechFilter
from slyther_cli.decode.stream import Decoder, TextStream, TimedTextStream
from slyther_cli.decode.tokens import CharTokenizer, Tokenizer
from slyther_cli.decode.words import Word, WordStream
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.jobs.setup import out_of_memory
from slyther_cli.longform.plan import Plan
from slyther_cli.longform.recognition import LiveEncoder, encode_whole, plan_recognition
from slyther_cli.longform.sample_counter import Counted
from slyther_cli.models.registry import architecture_of
from slyther_cli.transcription.live import LiveReadable
from slyther_cli.transcription.options import LayoutOptions, SearchOptions
from slyther_cli.transcription.punctuate import Punctuator
from slyther_cli.transcription.spelling_check import check_writing

LM_FILE = "lm.bin"
CHUNK = 256  # frames whose log-probabilities are computed at once: a large alphabet takes memory
PAUSE = 0.8  # seconds without a token that end a segment, and a sentence for the language model
LIVE_DELAY = 3.0  # seconds that a beam may keep back a word of live speech
LONGEST_LEAD_MS = 500
MOST = 1e9
BOUNDS = {  # of what a model's config may say of its search
    "beam": (1, 10_000),
    "lm_weight": (0, math.inf),
    "unknown_letter_bonus": (-math.inf, 0),
    "beam_prune_logp": (-math.inf, 0),
    "tied": (0, 1),
}
WIDTH, LINES = 42, 2  # of a segment, where nobody asks for others: what subtitles have

Blocks = Callable[[], Iterator[np.ndarray]]


@dataclass(frozen=True)
class Decoding:
    """How text is searched. ``beam`` prefixes (0: greedy); the rest is for the beam, see ``decode.ctc``."""

    beam: int = 0
    lm_weight: float = 0.5
    word_bonus: float = 1.0
    unknown_bonus: float = -10.0
    unknown_letter_bonus: float = -2.0
    boundary_bonus: float = 0.0
    blank_bonus: float = 0.0
    beam_prune_logp: float = -12.0
    token_prune_min_logp: float = -1.2
    tied: float = 0.0  # of phones, see text.lexicon_beam

    def updated(self, values: dict[str, Any], where: str) -> Decoding:
        """With ``values`` from a model's config. Raises ModelError for what makes no sense."""
        for key, value in values.items():
            if key not in self.__dataclass_fields__ or type(value) not in (int, float):
                raise ModelError(f"{where}: decoding has {key!r} = {shorten(value)}, which makes no sense")
            low, high = BOUNDS.get(key, (-math.inf, math.inf))
            if not (abs(value) <= MOST and low <= value <= high):
                raise ModelError(
                    f"{where}: decoding has {key} = {shorten(value, 24)}, which is out of bounds"
                )
        return replace(self, **values | ({"beam": int(values["beam"])} if "beam" in values else {}))


def _those_of(kind: type[BeamOptions | LexiconOptions], options: dict[str, Any]) -> dict[str, Any]:
    """Of ``options`` those that a search of this kind has."""
    return {field.name: options[field.name] for field in fields(kind) if field.name in options}


class Recogniser:
    """Raises ModelError: weights, alphabet or language model damaged, missing, or not made for each other;
    UsageError: options that contradict the model or each other.

    ``layout`` bounds the lines of its segments.
    """

    def __init__(
        self,
        config: ModelConfig,
        device: str = "cpu",
        search: SearchOptions = SearchOptions(),
        layout: LayoutOptions = LayoutOptions(),
    ) -> None:
        assert config.path is not None
        self.config, self.device, self.search, self.layout = config, device, search, layout
        if architecture_of(config.architecture).classes()[1].takes_whole:
            raise ModelError(
                f"model {config.name} is a {config.architecture}: transcribe runs a conmamba or speech-mamba"
            )
        self.tokenizer = load_tokenizer(config.path)
        self.model = self._network()
        c = self.model.config
        if self.tokenizer.size != c.vocab:
            raise ModelError(
                f"model {config.name} writes {c.vocab} tokens, its alphabet has {self.tokenizer.size}"
            )
        self.rate, self.hop, self.causal = int(c.sample_rate), 4 * int(c.hop), bool(c.causal)
        self.pause = round(PAUSE * self.rate / self.hop)  # frames
        self.lead = self._lead()
        self.lm_path = self._lm_path()
        self._own_lm = search.lm == "auto"
        self.lm, self.lm_name = self._language_model(self._own_lm)
        self.joint = self._joint() if search.decode == "joint" else None
        self.decoding = Decoding() if self.joint else self._decoding()
        self.lexicon = self._lexicon()
        self.writing: Tokenizer = self.tokenizer  # the alphabet of what a search finds
        if self.lexicon:
            self.writing = SpokenWords(self.lexicon, self.tokenizer)

    def describe(self) -> list[str]:
        """Plain lines for ``-v``."""
        if self.joint:
            scored = f"language model {self.lm_name}" if self.lm else "no language model"
            return [f"CTC and decoder together, beam of {self.joint.beam}, {scored}"]
        d = self.decoding
        if not d.beam:
            return ["greedy decoding"]
        scored = f"language model {self.lm_name}, weight {d.lm_weight:g}" if self.lm else "no language model"
        return [f"beam of {d.beam}, {scored}"]

    @cached_property
    def lm_digest(self) -> str | None:
        """SHA-256 of the language model's file, if there is one."""
        return None if self.lm_path is None else files.sha256(self.lm_path)

    @cached_property
    def lexicon_digest(self) -> str | None:
        """SHA-256 of the user's file of pronunciations, if there is one."""
        return None if self.search.lexicon is None else files.sha256(Path(self.search.lexicon))

    def plan(self, samples: int, **options: Any) -> Plan:
        """See ``longform.recognition.plan_recognition``."""
        return plan_recognition(self.model, samples, **options)

    def segments(
        self,
        blocks: Blocks,
        plan: Plan,
        on_progress: Callable[[float], None] | None = None,
        *,
        job: Any = None,
        speech_filter: SpeechFilter | None = None,
        level: float | None = None,
    ) -> Generator[Segment, None, None]:
        """What is said in a recording, ``blocks()`` of float32 [n] at ``self.rate``, in order of time.
        ``speech_filter`` counts what was left out; ``level``: see ``audio.level.Whole``."""
        heard = heard_by(self.model, blocks, self.rate, SPEECH_DB, level)
        text, counted = self._text(), Counted(lambda: map(within, heard()))
        speech_filter = speech_filter or self.speech_filter()
        frames = encode_whole(self.model, counted, plan, on_progress, job=job)
        try:
            if self.joint:
                for tokens in joint_stream(
                    self.model, frames, self.joint, tokenizer=self.tokenizer, lm=self.lm
                ):
                    words = text.words.push(tokens) + text.words.flush()  # no space is heard at a seam
                    yield from speech_filter.keep(text.segmenter.push(words))
            for memory in frames:
                for log_probs in self._log_probs(memory):
                    yield from speech_filter.keep(text.push(log_probs))
        finally:
            frames.close()  # type: ignore[attr-defined]
        yield from speech_filter.keep(text.flush(counted.samples))

    def speech_filter(self) -> SpeechFilter:
        """What parts speech from the rest, in one recording. Its bounds were chosen for letters found by CTC,
        and serve phones; pieces, and what a decoder finds, have other probabilities: all of those pass."""
        measured = self.joint is None and isinstance(self.tokenizer, CharTokenizer | PhoneTokenizer)
        return SpeechFilter(self.rate, self.search.all_words or not measured)

    def live(
        self,
        blocks: Iterator[np.ndarray],
        speech_filter: SpeechFilter | None = None,
        marks: Punctuator | None = None,
    ) -> Iterator[tuple[list[Segment], Segment | None]]:
        """As the sound comes: after each block, what has become final, and what is heard beyond it.
        ``marks``: a causal network that writes it as people do (``transcription.live``)."""
        if self.joint:
            raise UsageError("--decode joint hears whole recordings: decode live sound by greedy or beam")
        speech_filter = speech_filter or self.speech_filter()
        parts = self.decoder(LIVE_DELAY), self.word_stream()
        keep: Callable[[list[Segment]], list[Segment]] = speech_filter.keep
        if marks is None:
            text = TextStream(*parts, self.segmenter())
        else:
            text, keep = TimedTextStream(*parts, LiveReadable(marks, self.segmenter(), keep)), list
        encoder, samples, heard = LiveEncoder(self.model), 0, Running(self.rate, SPEECH_DB)
        for block in blocks:
            samples += len(block)
            done = self._fed(text, encoder.push(within(heard.push(block))))
            yield keep(done), text.partial()
        done = self._fed(text, encoder.push(within(heard.flush()))) + self._fed(text, encoder.flush())
        yield keep(done + text.flush(samples)), None

    def _fed(self, text: TextStream, memory: Tensor) -> list[Segment]:
        return [one for log_probs in self._log_probs(memory) for one in text.push(log_probs)]

    @torch.inference_mode()
    def posteriors(self, samples: np.ndarray) -> np.ndarray:
        """A whole utterance, float32 [n] at ``rate``, in one pass -> log-probabilities [frames, vocab]."""
        levelled = within(at_level(samples, self.rate, SPEECH_DB)[0])
        heard = torch.from_numpy(levelled)[None].to(self.device)
        return self.model(self.model.features(heard)).float().log_softmax(-1)[0].cpu().numpy()

    @torch.inference_mode()
    def _log_probs(self, memory: Tensor) -> Iterator[np.ndarray]:
        """memory [n, d] -> float32 [n, vocab], in pieces."""
        for piece in memory.split(CHUNK):
            if len(piece):
                yield torch.log_softmax(self.model.ctc(piece[None])[0].float(), -1).cpu().numpy()

    def decoder(self, delay: float | None = None) -> Decoder:
        """A new search as ``self.decoding`` says. ``delay``: seconds that it may keep a word back."""
        d = self.decoding
        if not d.beam:
            return GreedyDecoder()
        waits = {} if delay is None else {"max_delay": round(delay * self.rate / self.hop)}
        options = {**vars(d), "lm_pause": self.pause, **waits}
        if self.lexicon and self.lm:
            return lexicon_beam(self.lexicon, self.lm, LexiconOptions(**_those_of(LexiconOptions, options)))
        return beam_decoder(tokenizer=self.tokenizer, lm=self.lm, **_those_of(BeamOptions, options))

    def _text(self) -> TextStream:
        return TextStream(self.decoder(), self.word_stream(), self.segmenter())

    def phrase(self, words: Iterator[Word], speech_filter: SpeechFilter) -> Iterator[Segment]:
        """Words of one voice into segments, as :meth:`segments` makes them."""
        segmenter = self.segmenter()
        for word in words:
            yield from speech_filter.keep(segmenter.push([word]))
        yield from speech_filter.keep(segmenter.flush())

    def segmenter(self) -> Segmenter:
        """A new one, for one voice."""
        width, lines = self.layout.max_line_width or WIDTH, self.layout.max_line_count or LINES
        return Segmenter(self.rate, pause=PAUSE, max_line_width=width, max_line_count=lines)

    def word_stream(self) -> WordStream:
        """Tokens of this model's frames into words: frame i is centred on sample i * hop."""
        return WordStream(
            self.writing,
            self.hop,
            offset=-(self.hop // 2),
            pause=self.pause,
            lead=self.lead,
        )

    def _lead(self) -> int:
        """Samples from a word's beginning to where this model hears it: ``word_lead_ms`` of its config."""
        value = self.config.extra.get("word_lead_ms", 0)
        if type(value) not in (int, float) or not 0 <= value <= LONGEST_LEAD_MS:
            raise ModelError(
                f"model {self.config.name}: word_lead_ms is {value!r}, not from 0 to {LONGEST_LEAD_MS}"
            )
        return round(value * self.rate / 1000)

    def _network(self) -> Any:
        try:
            return store.load(self.config.path, expect_task="transcribe")[0].to(self.device)  # type: ignore[arg-type]
        except (RuntimeError, MemoryError) as error:
            raise (out_of_memory(error) or error) from None

    def _lm_path(self) -> Path | None:
        assert self.config.path is not None
        own, lm, decode = self.config.path / LM_FILE, self.search.lm, self.search.decode
        if lm == "none" or (lm == "auto" and (decode == "greedy" or not own.is_file())):
            return None
        if decode == "greedy":
            raise UsageError("--lm needs the beam: leave out --decode greedy")
        return own if lm == "auto" else Path(lm)

    def _language_model(self, own: bool) -> tuple[NGram | None, str]:
        if self.lm_path is None:
            return None, ""
        from slyther_cli.decode.arpa import load_language_model

        found, name = load_language_model(self.lm_path), shown(self.lm_path)
        check_writing(found, name, self.tokenizer, self.config.name)
        return found, f"of {self.config.name}" if own else name

    def _lexicon(self) -> Lexicon | None:
        """The words that a model of phones can write; none where it writes phones."""
        own, hotwords = self.search.lexicon, self.search.hotwords
        spoken = isinstance(self.tokenizer, PhoneTokenizer)
        if not spoken or not self.decoding.beam:
            if own is None and hotwords is None:
                return None
            option = "--hotwords" if own is None else "--lexicon"
            why = f"{self.config.name} {'is searched greedily' if spoken else 'hears letters, not phones'}"
            raise UsageError(f"{option} needs the beam of a model that hears phones: {why}")
        if self.lm is None:
            raise UsageError(f"model {self.config.name} hears phones: its beam needs a language model (--lm)")
        return asked_for(self.lm, self.config.path if self._own_lm else None, own, hotwords)

    def _joint(self) -> JointOptions:
        beam, lm_weight, word_bonus = self.search.beam, self.search.lm_weight, self.search.word_bonus
        if not self.model.has_decoder:
            raise UsageError(f"--decode joint: model {self.config.name} has no decoder, only CTC")
        if not has_ends(self.tokenizer):
            raise ModelError(
                f"model {self.config.name}: its alphabet has no tokens for a text's start and end"
            )
        if self.lm is None and not (lm_weight is word_bonus is None):
            raise UsageError("--lm-weight and --word-bonus need a language model: name one with --lm")
        found = WITH_LM if self.lm else WITHOUT_LM
        return replace(
            found,
            beam=beam or found.beam,
            lm_weight=found.lm_weight if lm_weight is None else lm_weight,
            word_bonus=word_bonus or 0.0,
        )

    def _decoding(self) -> Decoding:
        decode, beam = self.search.decode, self.search.beam
        if decode not in (None, "greedy", "beam"):
            raise UsageError(f"the decoding {decode!r} is not known: greedy, beam, joint")
        asked = {"lm_weight": self.search.lm_weight, "word_bonus": self.search.word_bonus}
        given = {key: value for key, value in asked.items() if value is not None}
        for key, value in given.items():
            if not math.isfinite(value):
                raise UsageError(f"--{key.replace('_', '-')} {value} is not a number to search with")
        if given and self.lm is None:
            raise UsageError(
                f"--{next(iter(given)).replace('_', '-')} needs a language model: name one with --lm"
            )
        if decode == "greedy" or (decode is None and self.lm is None and beam is None):
            if beam is not None:
                raise UsageError("--beam contradicts --decode greedy: leave one out")
            return Decoding()
        own = self.config.extra.get("decoding", {})
        if not isinstance(own, dict):
            raise ModelError(f"model {self.config.name}: its decoding makes no sense")
        found = Decoding(beam=100).updated(own, f"model {self.config.name}")
        for key, value in given.items():
            found = replace(found, **{key: value})  # type: ignore[arg-type]
        return replace(found, beam=beam or found.beam)


def within(block: np.ndarray) -> np.ndarray:
    """What is beyond full scale is cut: speech at its level stays within, a bang does not."""
    return block.clip(-1.0, 1.0)
