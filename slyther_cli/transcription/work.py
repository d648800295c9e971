"""The work of ``transcription.transcribe``: recordings whole or live, of one voice or several."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.audio.discover import Input, render_template
from slyther_cli.audio.live import LiveReader, listen, raw_header
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Rejoined, standard_input
from slyther_cli.audio.streams import BLOCK
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.speech_filter import Likely
from slyther_cli.decode.words import Word
from slyther_cli.errors import UsageError
from slyther_cli.files import WENT_ON
from slyther_cli.jobs.batch import Batch, open_recording
from slyther_cli.jobs.estimate import cost
from slyther_cli.jobs.locks import part_name
from slyther_cli.jobs.results import Result, TranscriptionResult
from slyther_cli.jobs.resume import held_bytes, open_job, work_place
from slyther_cli.jobs.setup import pick_device, sample_rate
from slyther_cli.jobs.work import Outputs, Turn
from slyther_cli.separation.job import Separation
from slyther_cli.transcription.coverage import Coverage
from slyther_cli.transcription.multi_speaker import ByChannel, KeptVoices, Separated, voices
from slyther_cli.transcription.writer import Row, Sink, Stop, row_of

Event = dict[str, Any]
Rows = Generator[Row, None, None]
DEFAULT_TEMPLATE = "{folder}/{track}.{ext}"
EACH = "each"  # the channel that stands for all, each for itself


@dataclass(kw_only=True)
class Transcription(Batch):
    """Many recordings, one model. The fields are what :func:`transcription.transcribe` takes; ``separating``
    pulls speakers apart first."""

    task = "transcribe"
    result = TranscriptionResult

    beside: bool
    filename: str
    formats: list[str]
    search: dict[str, Any]
    words: bool
    layout: dict[str, Any]
    separating: Separation | None
    keep: bool
    recogniser: Any = None

    @property
    def by_channel(self) -> bool:
        """Whether the recording's channels are the speakers."""
        return self.channel == EACH

    @property
    def several(self) -> bool:
        """Whether each of several voices is heard for itself."""
        return self.by_channel or self.separating is not None

    def run(self, named: list[str]) -> list[Result]:
        self.outputs(Path("/folder/track.wav"))  # a template that is always wrong is wrong before the first
        return super().run(named)

    def outputs(self, source: Input) -> Outputs:
        if self.output_dir is None and not self.beside:
            return {}
        folder, fields = self.output_dir, self.fields(source, str(source))
        if folder is None:
            folder = Path(".") if source == "-" else Path(source).parent
            fields["folder"] = "."
        names = {form: render_template(self.filename, ext=form, **fields) for form in self.formats}
        if len({*names.values()}) < len(names):
            raise UsageError(
                f"the output template {self.filename!r} gives {len(names)} formats the same file: use {{ext}}"
            )
        return {form: folder / name for form, name in names.items()}

    def open(self, source: Input, stack: ExitStack) -> tuple[Path | None, AudioReader | LiveReader]:
        stream = None
        if source == "-":
            head = raw_header(self.raw) if self.raw is not None else b""
            stream, why = Rejoined(head, standard_input()), "the model is bidirectional"
            if self.separating is not None:
                why = "its speakers are separated first"
            elif self.by_channel:
                why = "its channels are heard one after the other"
            elif self.config.config.get("causal"):
                live = listen(stream, "standard input", self.channel, sample_rate(self.config))
                if isinstance(live, LiveReader):
                    return None, live
                stream, why = live, "its samples are not plain WAV"
            self._tell("note", file="-", text=f"{why}, so it is read to its end first")
        channel = 1 if self.by_channel else self.channel
        return open_recording(
            source, channel, sample_rate(self.config), self.work_dir, stack, stream, **self.reading
        )

    def load(self) -> None:
        if self.recogniser is not None:
            return
        device = pick_device(self.device)
        import torch

        from slyther_cli.transcription.recogniser import Recogniser

        if self.threads:
            torch.set_num_threads(self.threads)
        if self.separating is not None:
            self.separating.load()
        self.recogniser = Recogniser(self.config, device, **self.search)
        self.device = device

    @cached_property
    def _hearing(self) -> float:
        """Seconds of work for a second of one voice, as measured here."""

        def work(x: np.ndarray) -> None:
            for _ in self.recogniser.segments(lambda: iter([x]), self.recogniser.plan(len(x))):
                pass

        return cost(work, self.recogniser.rate)

    def cost(self, apart: Separated | ByChannel | None) -> float:
        """Seconds of work for a second of sound."""
        if apart is None:
            return self._hearing
        separating = self.separating.cost if self.separating is not None else 0.0
        return separating + apart.count * self._hearing

    def compute(
        self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn
    ) -> TranscriptionResult:
        started = time.monotonic()
        if self.dry_run or self.several:
            reader.measure()
        else:
            reader.settle()
        assert reader.frames is not None and reader.source_frames is not None
        work_dir = work_place(self.work_dir) if self.resume else self.work_dir
        plan = self.recogniser.plan(
            reader.frames,
            memory_limit=self.memory_limit,
            work_dir=work_dir,
            resume=self.resume,
            held=held_bytes(name, list(outputs.values()), self.work_dir) if self.resume else 0,
        )
        lines = (*plan.describe(), *self.recogniser.describe())
        apart: Separated | ByChannel | None = None
        if self.separating is not None:
            apart = Separated(file, self.separating)
            lines = (f"speakers are separated first, by {self.separating.config.name}", *lines)
        elif self.by_channel and reader.channels > 1:
            apart = ByChannel(file, reader.channels, self.reading)
            lines = (f"each of {reader.channels} channels is heard for itself", *lines)
        seconds = reader.source_frames / reader.source_rate
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if self.dry_run:
            result = TranscriptionResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            estimate = seconds * self.cost(apart)
            return replace(result, notes=tuple(reader.notes), plan=lines, estimate=estimate)
        job, kept, notes, began = None, None, list[str](), None

        def progress(fraction: float) -> None:
            nonlocal began
            if began is None:  # the share that an earlier run did
                work = job or kept
                began = fraction if work is not None and work.resumed else 0.0
            share = {"fraction": fraction, "began": began, "seconds": seconds}
            wall = time.monotonic() - started
            self._tell("progress", file=name, index=turn[0], files=turn[1], **share, wall_seconds=wall)

        with ExitStack() as stack:
            if self.resume and apart is not None:
                kept = stack.enter_context(closing(self._kept(name, [*outputs.values()])))
            elif self.resume and plan.tape == "none":
                notes.append("a causal model keeps no work to go on from: it began anew")
            elif self.resume:
                model, options = self.recogniser.model, {"channel": self.channel, **self.reading}
                paths = list(outputs.values())
                job = stack.enter_context(
                    open_job(name, paths, model, self.config.name, options, self.work_dir, self.device)
                )
            work = job or kept
            part = part_name(list(outputs.values()))
            sink = stack.enter_context(Sink(name, outputs, self.layout, self.keep, self.tell, part))
            coverage, likely = Coverage(reader.rate), self.recogniser.likely()
            others: list[Likely] = []  # of the voices
            if apart is not None:
                stem, phrase = partial(self._stem, notes), partial(self._phrase, others)
                where = (self.work_dir, kept)
                how = (coverage, reader.rate, self.words, progress, notes, *where)
                rows = voices(apart, stem, phrase, *how)
            else:
                rows = self._rows(reader, plan, coverage, progress, job, likely)
            for row, count in stack.enter_context(closing(rows)):
                sink.put(row, count)
            sink.commit()
            if work is not None:
                notes[:0] = work.notes
                work.remove()
        if apart is None:
            notes += reader.notes
        notes += filter(None, [coverage.note(), likely.joined(others).note()])
        return self._done(name, reader, sink, notes, lines, started)

    def _phrase(self, others: list[Likely], words: Iterator[Word]) -> Iterator[Segment]:
        """The segments of a voice; what was left out is counted in ``others``."""
        likely = self.recogniser.likely()
        others.append(likely)
        width, lines = self.layout["max_line_width"], self.layout["max_line_count"]
        return self.recogniser.phrase(words, width, lines, likely)

    def _rows(
        self, reader: AudioReader, plan: Any, coverage: Coverage, progress: Any, job: Any, likely: Likely
    ) -> Generator[Row]:
        how = {"job": job, "likely": likely}
        with closing(self._segments(reader, plan, coverage, progress, **how)) as segments:
            for segment in segments:
                yield row_of(segment, reader.rate, self.words, coverage)

    def _segments(
        self, reader: AudioReader, plan: Any, coverage: Coverage, progress: Any, **how: Any
    ) -> Generator[Segment, None, None]:
        width, lines = self.layout["max_line_width"], self.layout["max_line_count"]
        blocks = lambda: coverage.passing(reader.blocks(BLOCK))  # noqa: E731
        return self.recogniser.segments(blocks, plan, progress, width=width, lines=lines, **how)

    def _kept(self, name: str, outputs: list[Path]) -> KeptVoices:
        """The work on several voices, with all that its rows depend on."""
        from slyther_cli.longform.journal import job_facts

        first, source = self.separating or self, Path(name)
        model = self.separating.model if self.separating else self.recogniser.model
        facts = job_facts(
            source, model, first.config.name, {"channel": self.channel, **self.reading}, self.device
        )
        hearing = job_facts(source, self.recogniser.model, self.config.name, {}, self.device)["model"]
        search = {key: None if value is None else str(value) for key, value in self.search.items()}
        own = {key: self.config.extra.get(key) for key in ("decoding", "word_lead_ms")}
        text = {"words": self.words, **self.layout, **search, **own, "lm_sha256": self.recogniser.lm_digest}
        return KeptVoices(name, outputs, self.work_dir, facts | {"recogniser": hearing, "text": text})

    def _stem(
        self,
        notes: list[str],
        path: Path,
        spool: Path,
        reader: AudioReader,
        speaker: str,
        voice: Coverage,
        progress: Any,
        level: float | None,
    ) -> Generator[Segment, None, None]:
        """All that is heard in one stem; with ``resume`` its work is kept as that of a recording is."""
        outputs, job = [spool], None
        plan = self.recogniser.plan(
            reader.frames,
            memory_limit=self.memory_limit,
            work_dir=work_place(self.work_dir) if self.resume else self.work_dir,
            resume=self.resume,
            held=held_bytes(str(path), outputs, self.work_dir) if self.resume else 0,
        )
        with ExitStack() as stack:
            if self.resume and plan.tape != "none":
                about = (self.recogniser.model, self.config.name, {"speaker": speaker})
                job = stack.enter_context(open_job(str(path), outputs, *about, self.work_dir, self.device))
            how = {"job": job, "likely": Likely(self.recogniser.rate, everything=True), "level": level}
            yield from self._segments(reader, plan, voice, progress, **how)
            if job is not None:
                notes += [note for note in job.notes if note != WENT_ON]
                job.remove()

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> TranscriptionResult:
        started, shown = time.monotonic(), ""
        lines = ("causal model, live: words come while the sound does", *self.recogniser.describe())
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=None)
        if self.dry_run:
            return TranscriptionResult(name, "planned", outputs, reader.source_rate, plan=lines)
        width, count = self.layout["max_line_width"], self.layout["max_line_count"]
        likely, stop = self.recogniser.likely(), Stop()
        blocks = stop.until(ready for _, ready in reader.blocks())
        with Sink(name, outputs, self.layout, self.keep, self.tell) as sink:
            with stop:
                for done, partial in self.recogniser.live(blocks, width, count, likely):
                    for segment in done:
                        sink.put(*row_of(segment, reader.rate, self.words, None))
                    text = partial.text if partial else ""
                    if partial and text != shown:
                        start, end = (round(at / reader.rate, 3) for at in (partial.start, partial.end))
                        self._tell("partial", file=name, start=start, end=end, text=" " + text)
                    shown = text
            if stop.by is not None and not reader.source_frames:  # nothing was heard
                raise stop.by
            sink.commit()
        notes = [*reader.notes, *filter(None, [likely.note()])]
        result = self._done(name, reader, sink, notes, lines, started)
        if stop.by is not None:  # no one else will tell that it is done
            self._tell("file_done", **result.as_event())
            raise stop.by
        return result

    def _done(
        self,
        name: str,
        reader: AudioReader | LiveReader,
        sink: Sink,
        notes: Sequence[str],
        plan: tuple[str, ...],
        started: float,
    ) -> TranscriptionResult:
        assert reader.source_frames is not None
        return TranscriptionResult(
            name,
            "done",
            sink.outputs,
            reader.source_rate,
            reader.source_frames,
            tuple(notes),
            plan,
            time.monotonic() - started,
            segments=tuple(sink.kept),
            words=sink.words,
        )
