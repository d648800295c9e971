"""Speaking as a job: text in, a sound file out, sentence by sentence, however long the text.

    text -> sentences -> symbols -> codes (models.vall_sampling) -> speech check -> codec -> file or stream

Models that know how long a symbol lasts carry their state from sentence to sentence; others read the prompt's
text again with each. The codec's decoder runs through: there is no seam. After a prompt, a filter gives the
sound its colour (``likeness``). Memory does not grow with the text
but by the text itself. Here is the Python API.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import slyther_cli
from slyther_cli.audio.discover import check_extension, check_target
from slyther_cli.audio.equalise import Equaliser
from slyther_cli.audio.writer import subtype_of
from slyther_cli.checkpoints.config import WEIGHTS_FILE, ModelConfig
from slyther_cli.checkpoints.voice import find_voice
from slyther_cli.english.markup import without_markup
from slyther_cli.english.normalise import foreign_words, normalise
from slyther_cli.english.phonemes import Spelling, shorten, spell
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.english.sentences import Sentence, split_sentences
from slyther_cli.errors import InputError, ModelError, UsageError
from slyther_cli.jobs.options import takes
from slyther_cli.jobs.results import Result
from slyther_cli.jobs.setup import pick_device
from slyther_cli.models.codec import Codec, CodecDecoder
from slyther_cli.models.vall_m import Context, VallM
from slyther_cli.models.vall_sampling import Pace, Said, Voicing
from slyther_cli.runtime import kernels
from slyther_cli.synthesis.journal import Journal
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.synthesis.output import open_output
from slyther_cli.synthesis.prompt import fitting, recogniser, voice_of
from slyther_cli.synthesis.speech_check import (
    Fit,
    Recognise,
    Verdict,
    as_recognised,
    judge_lengths,
    judge_words,
)
from slyther_cli.synthesis.voice_matching import equaliser_for
from slyther_cli.synthesis.voices import built_in_voice, choose_speech_model

PARAGRAPH_SECONDS = 0.4
MOST_CHARACTERS = 50_000_000
Event = dict[str, Any]


@dataclass(frozen=True)
class SpeechResult(Result):
    """What became of a text. ``sentences`` spoken; ``retried`` of them were said more than once; ``doubtful``
    ones still fail the speech check."""

    sentences: int = 0
    retried: int = 0
    doubtful: int = 0

    def as_event(self) -> dict[str, Any]:
        more = {"sentences": self.sentences, "retried": self.retried, "doubtful": self.doubtful}
        return super().as_event() | more | {"synthetic": True}


@takes(SpeakOptions)
def speak(
    text: str,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    *,
    source: str = "text",
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> SpeechResult:
    """Speak ``text`` into ``output``, a file, or "-" for standard output (WAV, or ``raw`` 16-bit samples).

    ``model``         name or folder; by default the one that comes with slyther.
    ``source``        what the text is called in events and in the result.
    ``on_event``      called with dictionaries: "event" is start, note, sentence, file_done.

    Files carry a mark that the speech is synthetic. Raises InputError (no words, the prompt), UsageError,
    OutputError, ModelError, DeviceError.
    """
    began, tell, chosen = time.monotonic(), on_event or (lambda event: None), SpeakOptions(**options)
    if len(text) > MOST_CHARACTERS:
        raise InputError(f"the text is longer than {MOST_CHARACTERS:,} characters: part it")
    chosen.check()
    if str(output) != "-":
        check_target(output, *() if chosen.prompt is None else (chosen.prompt,))
        if not chosen.raw:
            check_extension(Path(output), chosen.format)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    text, tags = without_markup(text)
    notes = [f"markup is not understood here, left out: {', '.join(tags)}"] if tags else []
    sentences = [s for s in split_sentences(text) if any(map(str.isalnum, s.text)) or normalise(s.text).text]
    if not any(normalise(s.text).text for s in sentences):
        raise InputError(_nothing_to_say(text))
    if chosen.resume and not chosen.replace and str(output) != "-" and Path(output).is_file():
        left = SpeechResult(source, "skipped", {"speech": Path(output)})
        tell({"event": "file_done", **left.as_event()})
        return left
    config = choose_speech_model(model)
    entry = find_voice(config, chosen.voice) if chosen.prompt is None else None
    network, codec = load_pair(config, where := pick_device(chosen.device))
    if chosen.pace != Pace() and not network.aligned:
        raise UsageError(f"model {config.name} cannot change its pace: leave --speed and --pause out")
    said = None
    if chosen.lexicon is not None:
        said = Pronunciations.read(chosen.lexicon, phones=network.config.alphabet == "arpabet")
    recognise = _recogniser(chosen.guard, codec.sample_rate, where)
    live = chosen.guard if chosen.guard != "auto" else "recogniser" if recognise else "lengths"
    tell({"event": "start", "task": "speak", "model": config.name, "voice": entry.name if entry else None,
          "device": where, "seed": chosen.seed,
          "alphabet": network.config.alphabet, "sample_rate": codec.sample_rate, "guard": live,
          "options": chosen.given()})  # fmt: skip
    if chosen.prompt is None:
        voice = built_in_voice(config, network, chosen.voice)
    else:
        voice, more = voice_of(chosen.prompt, chosen.prompt_text, network, codec, where, said)
        notes += more
    voicing = Voicing(network, voice, chosen.sampling)
    colour = None if chosen.prompt is None else equaliser_for(voicing, codec, chosen.seed)
    fit = fitting(codec.sample_rate, where) if recognise else None
    job = _Job(chosen, network, codec, voicing, recognise, fit, colour, said, began)
    journal = None
    if chosen.resume:
        assert config.path is not None
        weights = hashlib.sha256((config.path / WEIGHTS_FILE).read_bytes()).hexdigest()
        where_to = "-" if str(output) == "-" else os.path.abspath(output)
        about: list[Any] = [text, where_to, weights, chosen.shaping(), live, said, chosen.prompt is not None]
        about += [kernels(where), torch.__version__]
        about += [] if voice is None else [None if part is None else part.tolist() for part in voice]
        key = hashlib.sha256(repr((slyther_cli.__version__, about)).encode()).hexdigest()[:16]
        journal = Journal(key, (network.config.n_codebooks, network.config.codebook_size), where)
        notes += journal.notes
    with contextlib.closing(journal) if journal else contextlib.nullcontext():
        return job.run(sentences, str(output), source, notes, journal, tell)


def load_pair(config: ModelConfig, device: str) -> tuple[VallM, Codec]:
    """A speech model and the codec that it names. Raises :class:`ModelError`, also when they do not fit."""
    from slyther_cli.checkpoints import store

    assert config.path is not None
    network = store.load(config.path, expect_task="speak")[0].to(device)
    assert isinstance(network, VallM)
    c = network.config
    try:
        beside = config.path.parent / c.codec
        codec = store.load(beside if (beside / "config.json").is_file() else c.codec, expect_task="codec")[0]
    except ModelError as error:
        raise ModelError(f"model {config.name} speaks the codes of codec {c.codec}: {error}") from None
    assert isinstance(codec, Codec)
    wanted = (c.sample_rate, c.frame_rate, c.n_codebooks, c.codebook_size)
    if wanted != (codec.sample_rate, codec.frame_rate, codec.n_codebooks, codec.codebook_size):
        raise ModelError(f"model {config.name} was made for another codec than the {c.codec} that is here")
    return network, codec.to(device)


def _recogniser(guard: str, rate: int, device: str) -> Recognise | None:
    """The recogniser of the speech check; None: it is not asked for, or "auto" and not on this machine."""
    if guard not in ("auto", "recogniser"):
        return None
    try:
        return recogniser(rate, device)
    except ModelError:
        if guard == "recogniser":
            raise
        return None


@dataclass
class _Job:
    options: SpeakOptions
    network: VallM
    codec: Codec
    voicing: Voicing
    recognise: Recognise | None
    fit: Fit | None
    colour: Equaliser | None
    lexicon: Pronunciations | None
    began: float

    @torch.inference_mode()
    def run(
        self,
        sentences: list[Sentence],
        output: str,
        source: str,
        notes: list[str],
        journal: Journal | None,
        tell: Callable[[Event], None],
    ) -> SpeechResult:
        """Every sentence, in order, into the output."""
        began, rate, o = self.began, self.codec.sample_rate, self.options
        by_rule: dict[str, None] = {}
        dropped: dict[str, None] = {}
        foreign: dict[str, None] = {}
        frames = retried = doubtful = spoken = 0
        sink = open_output(output, rate, o.format, subtype_of(o.format, o.subtype), o.raw, o.replace)
        try:
            for note in notes:
                tell({"event": "note", "file": source, "text": note})
            decoder = CodecDecoder(self.codec)
            context, carry = self.voicing.start(), 0.0
            for index, sentence in enumerate(sentences):
                spelling = spell(sentence.text, self.network.config.alphabet, self.lexicon)
                by_rule |= dict.fromkeys(spelling.by_rule)
                if spelling.dropped:
                    dropped |= dict.fromkeys(spelling.dropped)
                    foreign |= dict.fromkeys(foreign_words(sentence.text))
                if not spelling.spoken:
                    continue
                known = journal.read(index) if journal else None
                if known is not None:
                    said, verdict, tries = known
                else:
                    said, verdict, tries = self._sentence(index, spelling, context, carry)
                    if journal:
                        journal.write(index, said, verdict, tries)
                context, carry = said.context, said.rest
                pieces = [decoder.push(said.codes[None])[0]]
                if sentence.last and index + 1 < len(sentences):
                    pause = torch.zeros(int(PARAGRAPH_SECONDS * rate * o.pause / o.speed))
                    pieces += [decoder.flush()[0], pause.to(pieces[0].device)]
                    decoder = CodecDecoder(self.codec)  # which may hold back the end of what it was given
                samples = self._coloured(torch.cat(pieces))
                sink.write(samples)
                frames, spoken = frames + len(samples), spoken + 1
                retried, doubtful = retried + (tries > 1), doubtful + bool(verdict.problems)
                seconds = said.codes.shape[1] / self.codec.frame_rate
                tell({"event": "sentence", "index": index, "of": len(sentences), "text": sentence.text,
                      "seconds": round(seconds, 3), "tries": tries, "heard": verdict.heard,
                      "problems": list(verdict.problems), "kept": known is not None,
                      "readings": [f"{word}: {phones}" for word, phones in spelling.readings],
                      "end_seconds": round(frames / rate, 3),
                      "wall_seconds": round(time.monotonic() - began, 3)})  # fmt: skip
            rest = self._coloured(decoder.flush()[0])
            if self.colour:
                rest = np.concatenate((rest, self.colour.flush()))
            sink.write(rest)
            frames += len(rest)
            if not spoken:
                raise InputError("there is nothing to say: the text has no words")
            sink.commit()
        except BaseException:
            sink.abort()
            raise
        if journal:
            journal.remove()
        said_notes = _text_notes(list(by_rule), list(foreign), "".join(dropped))
        if doubtful:
            said_notes.append(f"{doubtful} of {spoken} sentences fail the speech check: try another --seed")
        outputs = {} if output == "-" else {"speech": Path(output)}
        result = SpeechResult(
            source=source,
            status="done",
            outputs=outputs,
            sample_rate=rate,
            frames=frames,
            notes=tuple(said_notes),
            wall_seconds=time.monotonic() - began,
            sentences=spoken,
            retried=retried,
            doubtful=doubtful,
        )
        tell({"event": "file_done", **result.as_event()})
        return result

    def _coloured(self, samples: torch.Tensor) -> np.ndarray:
        ready = samples.float().cpu().numpy()
        return self.colour.push(ready) if self.colour else ready

    def _sentence(
        self, index: int, spelling: Spelling, context: Context | None, carry: float
    ) -> tuple[Said, Verdict, int]:
        """The first try that passes the speech check, else the best one."""
        symbols = torch.tensor(spelling.symbols)
        best: tuple[Said, Verdict] | None = None
        o = self.options
        expected = self.voicing.expected_frames(symbols, o.pace) if o.guard != "none" else 0.0
        for attempt in range(o.retries + 1):
            drawn = hashlib.sha256(f"{o.seed} {index} {attempt}".encode()).digest()
            seed = int.from_bytes(drawn[:7], "big")
            said = self.voicing.say(symbols, context, seed, o.pace, carry)
            if o.guard == "none":
                return said, Verdict(), 1
            verdict = judge_lengths(said, expected, self.network.config.frame_rate, o.pause)
            if self.recognise and not verdict.problems and said.codes.shape[1]:
                samples = self.codec.decode(said.codes[None])[0].float().cpu().numpy()
                verdict = self._judge_words(spelling.words, samples)
            if not verdict.problems:
                return said, verdict, attempt + 1
            if best is None or verdict.rank < best[1].rank:
                best = said, verdict
        assert best is not None
        return *best, o.retries + 1

    def _judge_words(self, words: str, samples: np.ndarray) -> Verdict:
        assert self.recognise is not None
        fit = partial(self.fit, samples, as_recognised(words)) if self.fit else None
        return judge_words(words, self.recognise(samples), fit)


def _text_notes(by_rule: list[str], foreign: list[str], dropped: str) -> list[str]:
    notes = []
    if by_rule:
        notes.append(f"not in the dictionary, spoken by rule: {_some(by_rule)}")
    if foreign:
        notes.append(f"only English is spoken, left out: {_some(foreign)}")
    if dropped := "".join(c for c in dropped if unicodedata.category(c)[0] not in "LM"):
        notes.append(f"without a sound here, left out: {shorten(dropped)}")
    return notes


def _some(words: list[str]) -> str:
    return ", ".join(map(shorten, words[:8])) + (" ..." if len(words) > 8 else "")


def _nothing_to_say(text: str) -> str:
    if foreign := foreign_words(text):
        return f"only English is spoken, and the text has no English words: {_some(foreign)}"
    signs = "".join(dict.fromkeys(text.split()))
    return "there is nothing to say: the text has no words" + (f", only {shorten(signs)}" if signs else "")
