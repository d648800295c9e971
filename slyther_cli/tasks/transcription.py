"""Transcription as a job: recordings in, text with true times out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> Recogniser (one exact context for the whole recording)
      -> segments, as they become final -> TranscriptWriter, and whoever listens to events

Times are counted in samples from the recording's start and written in seconds.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from slyther_cli.audio.discover import Input, check_collisions, expand_inputs
from slyther_cli.audio.reader import AudioReader
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.tasks.batch import all_there, check_folder, open_recording, without_own_outputs
from slyther_cli.tasks.results import TranscriptionResult, summarise
from slyther_cli.tasks.setup import choose_model, describe_error, out_of_memory, pick_device
from slyther_cli.tasks.streams import BLOCK
from slyther_cli.text.segments import Segment
from slyther_cli.text.transcript import TranscriptWriter, chosen_formats, transcript_paths

DEFAULT_MODEL = "conmamba-ctc-16k-en"
LANGUAGES = ("en", "english")
LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")

Event = dict[str, Any]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def transcribe(
    inputs: Paths,
    output_dir: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    *,
    formats: str | Sequence[str] = "txt",
    beside: bool = False,
    decode: Literal["greedy", "beam"] | None = None,
    lm: str = "auto",
    beam: int | None = None,
    lm_weight: float | None = None,
    word_bonus: float | None = None,
    language: str | None = None,
    words: bool = True,
    max_line_width: int | None = None,
    max_line_count: int | None = None,
    max_words_per_line: int | None = None,
    highlight_words: bool = False,
    channel: int | str = "mix",
    device: str = "auto",
    threads: int | None = None,
    existing: Literal["refuse", "replace", "skip"] = "refuse",
    memory_limit: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    keep: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> list[TranscriptionResult]:
    """Transcribe recordings, and return one result an input, with its text and segments.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several.
    ``output_dir``    where files go, under whisper's names: ``<input stem>.<format>``; None writes none,
                      unless ``beside`` puts them beside their inputs. Files appear whole or not at all.
    ``model``         name or folder; by default the model that comes with slyther.
    ``formats``       of "txt", "srt", "vtt", "tsv", "json", "all"; byte for byte as whisper writes them.
    ``decode``        "greedy" or "beam"; None: the beam if there is a language model.
    ``lm``            "auto" (the model's own), "none", or a file (ARPA or binary). ``beam``, ``lm_weight``,
                      ``word_bonus``: instead of the model's own settings.
    ``language``      "en" or None: the models know English.
    ``words``         whether json has the words of a segment, with their times.
    ``max_line_width``, ``max_line_count``, ``max_words_per_line``, ``highlight_words``
                      as whisper has them, for srt and vtt; see ``text.subtitles``.
    ``channel``       "mix" (the mean) or a number from 1 up.
    ``device``        "auto", "cpu", "cuda", "cuda:N". ``threads`` sets torch's number for the process.
    ``existing``      when outputs are there already: "refuse" (that input fails), "replace", or "skip" it.
    ``memory_limit``  bytes beside the idle process; what does not fit goes to a file in ``work_dir``.
    ``dry_run``       read headers and plan, write nothing.
    ``keep``          whether results hold the segments; without them nothing grows with the recording.
    ``on_event``      called with dictionaries: "event" is start, plan, progress, segment, file_done, error or
                      summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    named = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if existing not in ("refuse", "replace", "skip"):
        raise UsageError(f"existing={existing!r} is not known: refuse, replace, skip")
    if language is not None and language.lower() not in LANGUAGES:
        raise UsageError(f"the language {language!r} is not known: the models write English (en)")
    layout = dict(
        zip(LAYOUT, (max_line_width, max_line_count, max_words_per_line, highlight_words), strict=True)
    )
    for name, value in layout.items():
        if value and not words:
            raise UsageError(
                f"--{name.replace('_', '-')} needs the times of the words: leave out --word-timestamps"
            )
        if value is not None and value is not False and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1")
    config = choose_model("transcribe", model, DEFAULT_MODEL)
    job = _Job(
        config=config,
        output_dir=None if output_dir is None else Path(output_dir),
        beside=beside,
        formats=chosen_formats([formats] if isinstance(formats, str) else formats),
        search={"decode": decode, "lm": lm, "beam": beam, "lm_weight": lm_weight, "word_bonus": word_bonus},
        words=words,
        layout=layout,
        channel=channel,
        device=device,
        threads=threads,
        existing=existing,
        memory_limit=memory_limit,
        work_dir=Path(work_dir) if work_dir is not None else None,
        dry_run=dry_run,
        keep=keep,
        tell=on_event or (lambda event: None),
    )
    return job.run([os.fspath(item) for item in named])


@dataclass
class _Job:
    config: ModelConfig
    output_dir: Path | None
    beside: bool
    formats: list[str]
    search: dict[str, Any]
    words: bool
    layout: dict[str, Any]
    channel: int | str
    device: str
    threads: int | None
    existing: str
    memory_limit: int | None
    work_dir: Path | None
    dry_run: bool
    keep: bool
    tell: Callable[[Event], None]
    recogniser: Any = None

    def run(self, named: list[str]) -> list[TranscriptionResult]:
        inputs = expand_inputs(named)
        if self.output_dir is not None:
            inputs = without_own_outputs(named, inputs, self.output_dir)
        if not inputs:
            raise UsageError("no input files")
        outputs = {source: self._paths(source) for source in inputs}
        check_collisions((source, path) for source, paths in outputs.items() for path in paths.values())
        started = time.monotonic()
        self._tell("start", task="transcribe", model=self.config.name, files=len(inputs))
        results = []
        for index, source in enumerate(inputs):
            result = self._input(source, outputs[source], index, len(inputs))
            results.append(result)
            if result.error is not None:
                self._tell("error", file=str(source), exception=result.error, **describe_error(result.error))
            else:
                self._tell("file_done", **result.as_event())
        self._tell("summary", **summarise(results, time.monotonic() - started))
        return results

    def _paths(self, source: Input) -> dict[str, Path]:
        if self.output_dir is not None:
            return transcript_paths(self.output_dir, str(source), self.formats)
        if self.beside:
            folder = Path(".") if source == "-" else Path(source).parent
            return transcript_paths(folder, str(source), self.formats)
        return {}

    def _input(self, source: Input, outputs: dict[str, Path], index: int, count: int) -> TranscriptionResult:
        """One input. Raises only what stops the others too."""
        name = str(source)
        with ExitStack() as stack:
            try:
                paths = list(outputs.values())
                if all_there(paths, self.existing):
                    return TranscriptionResult(name, "skipped", outputs)
                if paths:
                    check_folder(paths[0])
                reader = open_recording(source, self.channel, self._rate(), self.work_dir, stack)[1]
            except UsageError:  # of an option: the same for every input
                raise
            except SlytherError as error:
                return TranscriptionResult(name, "failed", error=error)
            self._load()  # outside: without the model no input can be done
            try:
                return self._transcribe(name, reader, outputs, (index, count))
            except SlytherError as error:
                return TranscriptionResult(name, "failed", error=error)
            except BrokenPipeError:  # whoever was listening has gone
                raise
            except Exception as error:
                full = out_of_memory(error)
                return TranscriptionResult(name, "failed", error=full or error)

    def _rate(self) -> int:
        stated = self.config.config.get("sample_rate")
        if type(stated) is int:
            return stated
        from slyther_cli.models import registry

        return int(registry.full_config(self.config.architecture, self.config.config)["sample_rate"])

    def _load(self) -> None:
        if self.recogniser is not None:
            return
        device = pick_device(self.device)
        import torch

        from slyther_cli.tasks.recogniser import Recogniser

        if self.threads:
            torch.set_num_threads(self.threads)
        self.recogniser = Recogniser(self.config, device, **self.search)
        self.device = device

    def _transcribe(
        self, name: str, reader: AudioReader, outputs: dict[str, Path], turn: tuple[int, int]
    ) -> TranscriptionResult:
        started = time.monotonic()
        if reader.frames is None:  # a stream of unstated length
            for _ in reader.blocks(BLOCK):
                pass
        assert reader.frames is not None and reader.source_frames is not None
        plan = self.recogniser.plan(reader.frames, memory_limit=self.memory_limit, work_dir=self.work_dir)
        lines = (*plan.describe(), *self.recogniser.describe())
        seconds = reader.source_frames / reader.source_rate
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if self.dry_run:
            result = TranscriptionResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            return replace(result, notes=tuple(reader.notes), plan=lines)

        def progress(fraction: float) -> None:
            self._tell(
                "progress",
                file=name,
                index=turn[0],
                files=turn[1],
                fraction=fraction,
                seconds=seconds,
                wall_seconds=time.monotonic() - started,
            )

        segments = self.recogniser.segments(
            lambda: reader.blocks(BLOCK),
            plan,
            progress,
            width=self.layout["max_line_width"],
            lines=self.layout["max_line_count"],
        )
        sink = _Sink(self, name, outputs)
        with sink:
            sink.take(segments)
            sink.commit()
        result = TranscriptionResult(name, "done", outputs, reader.source_rate, reader.source_frames)
        return replace(
            result,
            notes=tuple(reader.notes),
            plan=lines,
            wall_seconds=time.monotonic() - started,
            segments=tuple(sink.kept),
            words=sink.words,
        )

    def _tell(self, event: str, **details: Any) -> None:
        self.tell({"event": event, **details})


@dataclass
class _Sink:
    """Where the segments of one recording go: files, events, the result."""

    job: _Job
    name: str
    outputs: dict[str, Path]
    kept: list[dict[str, Any]] = field(default_factory=list)
    words: int = 0
    count: int = 0
    writer: TranscriptWriter | None = None

    def __enter__(self) -> _Sink:
        if self.outputs:
            self.writer = TranscriptWriter(self.outputs, **self.job.layout)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.writer is not None:
            self.writer.abort()

    def take(self, segments: Iterable[Segment]) -> None:
        job = self.job
        for segment in segments:
            row = segment.as_dict(self.count, job.recogniser.rate, words=job.words)
            self.count, self.words = self.count + 1, self.words + len(segment.words)
            if self.writer is not None:
                self.writer.write(row)
            if job.keep:
                self.kept.append(row)
            job._tell("segment", file=self.name, **row)

    def commit(self) -> None:
        if self.writer is not None:
            self.writer.commit()
