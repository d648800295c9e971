"""Speaking as a job: a text or a book in, sound files out, sentence by sentence, however long the text.

    text -> sentences -> symbols -> codes (models.vall_sampling) -> speech check -> codec -> file or stream

After a prompt, a filter gives the sound its colour (``voice_matching``). Memory does not grow with the text
but by the text itself. Here is the Python API; ``narration`` does the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import slyther_cli
from slyther_cli.books.book import Book
from slyther_cli.books.text import read_plain
from slyther_cli.checkpoints.config import WEIGHTS_FILE, ModelConfig
from slyther_cli.checkpoints.voice import find_voice
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.jobs.options import takes
from slyther_cli.jobs.results import Result
from slyther_cli.jobs.setup import pick_device
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import VallM
from slyther_cli.models.vall_sampling import Pace, Voicing
from slyther_cli.runtime import kernels
from slyther_cli.synthesis.journal import LAYOUT, Journal
from slyther_cli.synthesis.narration import Narration
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.synthesis.speaker import Speaker
from slyther_cli.synthesis.speech_check import Fit, Recognise
from slyther_cli.synthesis.tracks import Track, check_tracks, parts_of, tracks_of
from slyther_cli.synthesis.voice_matching import equaliser_for
from slyther_cli.synthesis.voices import built_in_voice, choose_speech_model

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
    text: str | Book,
    output: str | os.PathLike[str],
    model: str | os.PathLike[str] | None = None,
    *,
    source: str = "text",
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> SpeechResult:
    """Speak ``text``, or a book (``books.reader.read_book``), into ``output``: a file, a folder with
    ``chapters="files"``, or "-" for standard output (WAV, or ``raw`` 16-bit samples).

    ``model``         name or folder; by default the one that comes with slyther.
    ``source``        what the text is called in events and in the result.
    ``on_event``      called with dictionaries: "event" is start, note, sentence,
                      chapter, file_done.

    Files carry a mark that the speech is synthetic. Raises InputError (no words, the prompt), UsageError,
    OutputError, ModelError, DeviceError.
    """
    began, tell, chosen = time.monotonic(), on_event or (lambda event: None), SpeakOptions(**options)
    chosen.check()
    book = text if isinstance(text, Book) else read_plain(text)
    parts, notes = parts_of(book)
    notes = [*book.notes, *notes]
    if chosen.chapters != "none" and len(parts) == 1:
        notes.append("no chapters were found in the text: all of it is one")
    tracks = tracks_of(book, parts, str(output), chosen)
    check_tracks(tracks, source, chosen)
    there = [track for track in tracks if chosen.resume and not chosen.replace and _is_there(track)]
    if len(there) == len(tracks):
        left = SpeechResult(source, "skipped", _outputs(tracks))
        tell({"event": "file_done", **left.as_event()})
        return left
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    config = choose_speech_model(model)
    entry = find_voice(config, chosen.voice) if chosen.prompt is None else None
    network, codec = load_pair(config, where := pick_device(chosen.device))
    _check_abilities(network, config, chosen)
    said = None
    if chosen.lexicon is not None:
        said = Pronunciations.read(chosen.lexicon, phones=network.config.alphabet == "arpabet")
    at_once = chosen.at_once and tracks[0].output == "-" and network.aligned
    recognise, fit = (None, None) if at_once else _listener(chosen.guard, codec.sample_rate, where)
    live = chosen.guard if chosen.guard != "auto" else "recogniser" if recognise else "lengths"
    tell({"event": "start", "task": "speak", "model": config.name, "voice": entry.name if entry else None,
          "device": where, "seed": chosen.seed,
          "alphabet": network.config.alphabet, "sample_rate": codec.sample_rate, "guard": live,
          "chapters": len(parts), "options": chosen.given()})  # fmt: skip
    if chosen.prompt is None:
        voice = built_in_voice(config, network, chosen.voice)
    else:
        from slyther_cli.synthesis.prompt import voice_of

        voice, more = voice_of(chosen.prompt, chosen.prompt_text, network, codec, where, said)
        notes += more
    voicing = Voicing(network, voice, chosen.sampling)
    colour = None if chosen.prompt is None else equaliser_for(voicing, codec, chosen.seed)
    speaker = Speaker(chosen, network, codec, voicing, recognise, fit, colour, said)
    for note in notes:
        tell({"event": "note", "file": source, "text": note})
    narration = Narration(speaker, tracks, tell, began, at_once)
    weights = _digest(config) if chosen.resume else ""
    about: list[Any] = [weights, chosen.shaping(), live, said, chosen.prompt is not None]
    about += [kernels(where), torch.__version__]
    about += [] if voice is None else [None if part is None else part.tolist() for part in voice]
    for track in tracks:
        if track in there:
            narration.skip(track)
            continue
        journal = None
        if chosen.resume:
            journal = _journal_of(track, about, network, where)
            for note in journal.notes:
                tell({"event": "note", "file": source, "text": note})
        with contextlib.closing(journal) if journal else contextlib.nullcontext():
            narration.read(track, journal)
    tally = narration.tally
    result = SpeechResult(
        source=source,
        status="done",
        outputs=_outputs(tracks),
        sample_rate=codec.sample_rate,
        frames=tally.frames,
        notes=tuple(tally.notes()),
        wall_seconds=time.monotonic() - began,
        sentences=tally.sentences,
        retried=tally.retried,
        doubtful=tally.doubtful,
    )
    tell({"event": "file_done", **result.as_event()})
    return result


def _is_there(track: Track) -> bool:
    return track.output != "-" and Path(track.output).is_file()


def _outputs(tracks: list[Track]) -> dict[str, Path]:
    """The files of all tracks: by their numbers, where there are several."""
    if len(tracks) == 1:
        return tracks[0].outputs()
    digits = max(2, len(str(len(tracks))))
    return {key: path for track in tracks for key, path in track.outputs(f"{track.first:0{digits}d}").items()}


def _check_abilities(network: VallM, config: ModelConfig, options: SpeakOptions) -> None:
    """Raises UsageError: the model cannot do what is asked of it."""
    if options.pace != Pace() and not network.aligned:
        raise UsageError(f"model {config.name} cannot change its pace: leave --speed and --pause out")
    if options.subtitles and not network.aligned:
        raise UsageError(f"model {config.name} does not know when it says a word: leave --subtitles out")
    if options.subtitles and network.config.alphabet == "espeak":
        raise UsageError(
            f"model {config.name} reads espeak-ng's phonemes, where words run together: leave --subtitles out"
        )


def _digest(config: ModelConfig) -> str:
    assert config.path is not None
    return hashlib.sha256((config.path / WEIGHTS_FILE).read_bytes()).hexdigest()


def _journal_of(track: Track, about: list[Any], network: VallM, device: str) -> Journal:
    """The kept work of a track; ``about``: what it depends on beside its sentences and its name. Raises
    OutputError, UsageError."""
    where_to = "-" if track.output == "-" else os.path.abspath(track.output)
    told = [[(s.text, s.last) for s in part.sentences] for part in track.parts]
    key = hashlib.sha256(repr((slyther_cli.__version__, LAYOUT, told, where_to, *about)).encode()).hexdigest()
    return Journal(key[:16], (network.config.n_codebooks, network.config.codebook_size), device)


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
    wanted = (c.sample_rate, c.frame_rate, c.codebook_size)
    of_codec = (codec.sample_rate, codec.frame_rate, codec.codebook_size)
    if wanted != of_codec or c.n_codebooks > codec.n_codebooks:
        raise ModelError(f"model {config.name} was made for another codec than the {c.codec} that is here")
    return network, codec.to(device)


def _listener(guard: str, rate: int, device: str) -> tuple[Recognise | None, Fit | None]:
    """The recogniser of the speech check; None: it is not asked for, or "auto" and not on this machine."""
    if guard not in ("auto", "recogniser"):
        return None, None
    from slyther_cli.synthesis.prompt import fitting, recogniser

    try:
        return recogniser(rate, device), fitting(rate, device)
    except ModelError:
        if guard == "recogniser":
            raise
        return None, None
