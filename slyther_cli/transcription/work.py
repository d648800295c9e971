"""The work of ``transcription.transcribe``: recordings whole or live, of one voice or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.audio.discover import Input, render_template
from slyther_cli.audio.live import LiveReader, listen
from slyther_cli.audio.peaks import Peaks
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.streams import BLOCK
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.decode.formats import chosen_formats
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.speech_filter import SpeechFilter
from slyther_cli.decode.words import Word
from slyther_cli.errors import InputError, UsageError
from slyther_cli.files import WENT_ON
from slyther_cli.jobs.batch import Batch
from slyther_cli.jobs.estimate import cost
from slyther_cli.jobs.locks import part_name
from slyther_cli.jobs.options import RecordingOptions
from slyther_cli.jobs.results import TranscriptionResult
from slyther_cli.jobs.setup import pick_device, sample_rate
from slyther_cli.jobs.work import Outputs, Turn, nobody
from slyther_cli.separation.job import Separation
from slyther_cli.separation.options import SeparateOptions
from slyther_cli.transcription.coverage import Coverage
from slyther_cli.transcription.diarization import WORK_SHARE, Diarizer
from slyther_cli.transcription.multi_speaker import ByChannel, KeptVoices, Separated, voices
from slyther_cli.transcription.options import LayoutOptions, SearchOptions, TranscribeOptions
from slyther_cli.transcription.readable import Readable, live_punctuator, punctuation_of
from slyther_cli.transcription.review import check_length, listen_again
from slyther_cli.transcription.writer import Named, Row, Sink, Stop, row_of

Event = dict[str, Any]
Rows = Generator[Row, None, None]


@dataclass(kw_only=True)
class Transcription(Batch):
    """Many recordings, one model. ``separator``: the model that pulls speakers apart first, if they are to
    be; ``keep``: whether results hold the segments."""

    task = "transcribe"
    result = TranscriptionResult

    options: TranscribeOptions
    separator: ModelConfig | None = None
    keep: bool
    recogniser: Any = None
    readable: Any = None
    live_marks: Any = None  # the punctuator of live sound
    diarizer: Diarizer | None = None

    @cached_property
    def separating(self) -> Separation | None:
        """The job that pulls speakers apart, into a folder that it is yet to get."""
        if self.separator is None:
            return None
        shared = self.options.of(RecordingOptions)
        stems = SeparateOptions(filename="{stem}.{ext}", subtype="float", clip="none", **shared)
        return Separation(config=self.separator, output_dir=None, options=stems, tell=nobody)

    def outputs(self, source: Input) -> Outputs:
        folder, fields, template = self.output_dir, self.fields(source, str(source)), self.options.filename
        if folder is None and not self.options.beside:
            return {}
        if folder is None:
            folder = Path(".") if source == "-" else Path(source).parent
            fields["folder"] = "."
        formats = chosen_formats(self.options.formats)
        names = {form: render_template(template, ext=form, **fields) for form in formats}
        if len({*names.values()}) < len(names):
            raise UsageError(
                f"the output template {template!r} gives {len(names)} formats the same file: use {{ext}}"
            )
        return {form: folder / name for form, name in names.items()}

    def open(self, source: Input, stack: ExitStack) -> tuple[Path | None, AudioReader | LiveReader]:
        stream = None
        if source == "-":
            stream, why = self.standard_input(), "the model is bidirectional"
            if self.options.separate:
                why = "its speakers are separated first"
            elif self.options.by_channel:
                why = "its channels are heard one after the other"
            elif self.options.speakers is not None:
                if self.config.config.get("causal"):
                    raise UsageError(
                        "standard input is heard live, and --speakers needs all of a recording: name a file"
                    )
            elif self.config.config.get("causal"):
                live = listen(stream, "standard input", self.options.channel, sample_rate(self.config))
                if isinstance(live, LiveReader):
                    return None, live
                stream, why = live, "its samples are not plain WAV"
            self._tell("note", file="-", text=f"{why}, so it is read to its end first")
        return self.reader(source, stack, stream, channel=1 if self.options.by_channel else None)

    def load(self) -> None:
        if self.recogniser is not None:
            return
        device = pick_device(self.options.device)
        import torch

        from slyther_cli.transcription.recogniser import Recogniser

        if self.options.threads:
            torch.set_num_threads(self.options.threads)
        if self.separating is not None:
            self.separating.load()
        self.recogniser = Recogniser(self.config, device, self.options, self.options)
        punctuation = None if self.options.plain else punctuation_of(self.config)
        if punctuation is not None:
            self.readable = Readable(punctuation, self.recogniser.segmenter)
            self.live_marks = live_punctuator(punctuation) if self.recogniser.causal else None
        if (many := self.options.speakers) is not None:
            self.diarizer = Diarizer(self.recogniser.rate, many if isinstance(many, int) else None, device)
        self.device = device

    @cached_property
    def _hearing(self) -> float:
        """Seconds of work for a second of one voice, as measured here."""

        def work(x: np.ndarray) -> None:
            for _ in self.recogniser.segments(lambda: iter([x]), self.recogniser.plan(len(x))):
                pass

        return cost(work, self.recogniser.rate)

    @cached_property
    def _labelling(self) -> float:
        """Seconds of work that tell the speakers of a second of sound."""
        return self.diarizer.cost() if self.diarizer is not None else 0.0

    def cost(self, apart: Separated | ByChannel | None) -> float:
        """Seconds of work for a second of sound."""
        if apart is None:
            return self._hearing + self._labelling
        separating = self.separating.cost if self.separating is not None else 0.0
        return separating + apart.count * self._hearing

    def compute(
        self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn
    ) -> TranscriptionResult:
        started, o, paths = time.monotonic(), self.options, list(outputs.values())
        if o.dry_run or o.by_channel or o.separate:
            reader.measure()
        else:
            reader.settle()
        assert reader.frames is not None and reader.source_frames is not None
        plan = self.recogniser.plan(reader.frames, **self.planning(name, paths))
        lines = (*plan.describe(), *self.recogniser.describe())
        if self.readable is not None:
            lines = (*lines, self.readable.describe())
        if self.diarizer is not None:
            lines = (*lines, self.diarizer.describe())
        apart: Separated | ByChannel | None = None
        if self.separating is not None:
            apart = Separated(file, self.separating)
            lines = (f"speakers are separated first, by {self.separating.config.name}", *lines)
        elif o.by_channel and reader.channels > 1:
            apart = ByChannel(file, reader.channels, o.reading)
            lines = (f"each of {reader.channels} channels is heard for itself", *lines)
        seconds = reader.source_frames / reader.source_rate
        if o.embed:
            check_length(name, seconds)
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if o.dry_run:
            result = TranscriptionResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            estimate = seconds * self.cost(apart)
            return replace(result, notes=tuple(reader.notes), plan=lines, estimate=estimate)
        job, kept, notes = None, None, list[str]()
        with ExitStack() as stack:
            if o.resume and apart is not None:
                kept = stack.enter_context(closing(self._kept(name, paths)))
            elif o.resume and plan.tape == "none":
                notes.append("a causal model keeps no work to go on from: it began anew")
            elif o.resume:
                job = stack.enter_context(self.journal(name, paths, self.recogniser.model))
            work = job or kept
            progress = self.progress(name, turn, seconds, started, work)
            sink = stack.enter_context(self._sink(name, outputs, part_name(paths)))
            coverage, named = Coverage(reader.rate), Named(o.names)
            speech_filter = self.recogniser.speech_filter()
            others: list[SpeechFilter] = []  # of the voices
            if apart is not None:
                stem, phrase = partial(self._stem, notes), partial(self._phrase, coverage, others)
                rows = voices(apart, stem, phrase, coverage, progress, notes, o.work_dir, kept)
            else:
                rows = self._rows(reader, plan, coverage, progress, job, speech_filter, notes)
            for row, count in stack.enter_context(closing(rows)):
                sink.put(named.row(row), count)
            sink.recording.seconds = seconds
            if "html" in outputs:
                listen_again(sink.recording, file, reader, o, stack)
            sink.commit()
            if work is not None:
                notes[:0] = work.notes
                work.remove()
        if apart is None:
            notes += reader.notes
        notes += filter(None, [coverage.note(), speech_filter.joined(others).note(), named.note()])
        return self._done(name, reader, sink, notes, lines, started)

    def _sink(self, name: str, outputs: Outputs, part: str | None = None) -> Sink:
        layout = {**self.options.of(LayoutOptions), "plain": self.options.plain}
        return Sink(name, outputs, layout, self.keep, self.tell, part)

    def _row(self, segment: Segment, coverage: Coverage | None) -> Row:
        return row_of(segment, self.recogniser.rate, self.options.words, coverage)

    def _phrase(self, coverage: Coverage, others: list[SpeechFilter], words: Iterator[Word]) -> Iterator[Row]:
        """The segments of a voice; what was left out is counted in ``others``."""
        speech_filter = self.recogniser.speech_filter()
        others.append(speech_filter)
        for segment in self._read(self.recogniser.phrase(words, speech_filter)):
            yield self._row(segment, coverage)

    def _rows(
        self,
        reader: AudioReader,
        plan: Any,
        coverage: Coverage,
        progress: Callable[[float], None],
        job: Any,
        speech_filter: SpeechFilter,
        notes: list[str],
    ) -> Generator[Row]:
        share = 1.0 if self.diarizer is None else 1.0 - WORK_SHARE
        how = {"job": job, "speech_filter": speech_filter}
        heard = self._segments(reader, plan, coverage, lambda done: progress(share * done), **how)
        with closing(heard) as segments:
            labelled: Iterator[Segment] = segments
            if self.diarizer is not None:
                words = [word for segment in segments for word in segment.words]
                labelled = self._by_speaker(
                    words, reader, lambda done: progress(share + WORK_SHARE * done), notes
                )
            for segment in self._read(labelled):
                yield self._row(segment, coverage)

    def _by_speaker(
        self, words: list[Word], reader: AudioReader, progress: Callable[[float], None], notes: list[str]
    ) -> Iterator[Segment]:
        """The segments of speakers who take turns; a segment has one."""
        assert self.diarizer is not None
        words = self.diarizer(words, lambda: reader.blocks(BLOCK), progress)
        notes += filter(None, [self.diarizer.note(words)])
        segmenter = self.recogniser.segmenter()
        yield from segmenter.push(words)
        yield from segmenter.flush()

    def _read(self, segments: Iterator[Segment]) -> Iterator[Segment]:
        """As people write them, where the recogniser names a model for that and nobody wants them plain."""
        return segments if self.readable is None else self.readable(segments)

    def _segments(
        self, reader: AudioReader, plan: Any, coverage: Coverage, progress: Any, **how: Any
    ) -> Generator[Segment, None, None]:
        blocks = lambda: coverage.passing(reader.blocks(BLOCK))  # noqa: E731
        return self.recogniser.segments(blocks, plan, progress, **how)

    def _kept(self, name: str, outputs: list[Path]) -> KeptVoices:
        """The work on several voices, with all that its rows depend on."""
        from slyther_cli.longform.journal import job_facts

        first, source, o = self.separating or self, Path(name), self.options
        model = self.separating.model if self.separating else self.recogniser.model
        facts = job_facts(source, model, first.config.name, o.shaping(), self.device)
        hearing = job_facts(source, self.recogniser.model, self.config.name, {}, self.device)["model"]
        search = {key: None if value is None else str(value) for key, value in o.of(SearchOptions).items()}
        own = {key: self.config.extra.get(key) for key in ("decoding", "word_lead_ms")}
        text = {"words": o.words, **o.of(LayoutOptions), **search, **own}
        text["lm_sha256"] = self.recogniser.lm_digest
        text["lexicon_sha256"] = self.recogniser.lexicon_digest
        return KeptVoices(name, outputs, o.work_dir, facts | {"recogniser": hearing, "text": text})

    def _stem(
        self,
        notes: list[str],
        path: Path,
        spool: Path,
        reader: AudioReader,
        voice: Coverage,
        progress: Any,
        level: float | None,
    ) -> Generator[Segment, None, None]:
        """All that is heard in one stem; with ``resume`` its work is kept as that of a recording is."""
        job, about = None, (str(path), [spool])
        plan = self.recogniser.plan(reader.frames, **self.planning(*about))
        with ExitStack() as stack:
            if self.options.resume and plan.tape != "none":
                speaker = {"speaker": spool.stem.upper()}
                job = stack.enter_context(self.journal(*about, self.recogniser.model, speaker))
            how = {
                "job": job,
                "speech_filter": SpeechFilter(self.recogniser.rate, everything=True),
                "level": level,
            }
            yield from self._segments(reader, plan, voice, progress, **how)
            if job is not None:
                notes += [note for note in job.notes if note != WENT_ON]
                job.remove()

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> TranscriptionResult:
        started, shown, peaks = time.monotonic(), "", Peaks()
        if self.options.embed:
            raise InputError("standard input is heard live and not kept: --embed takes recordings in files")
        lines = ("causal model, live: words come while the sound does", *self.recogniser.describe())
        if self.readable is not None:
            lines = (*lines, self.readable.describe_live(self.live_marks))
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=None)
        if self.options.dry_run:
            return TranscriptionResult(name, "planned", outputs, reader.source_rate, plan=lines)
        speech_filter, stop, marks = self.recogniser.speech_filter(), Stop(), self.live_marks

        def ready() -> Iterator[np.ndarray]:
            for heard, block in reader.blocks():
                peaks.push(heard)
                yield block

        with self._sink(name, outputs) as sink:
            with stop:
                for done, partial in self.recogniser.live(stop.until(ready()), speech_filter, marks):
                    for segment in done:
                        sink.put(*self._row(segment, None))
                    text = partial.text if partial else ""
                    if partial and text != shown:
                        start, end = (round(at / reader.rate, 3) for at in (partial.start, partial.end))
                        self._tell("partial", file=name, start=start, end=end, text=" " + text)
                    shown = text
            if stop.by is not None and not reader.source_frames:  # nothing was heard
                raise stop.by
            sink.recording.seconds = reader.source_frames / reader.source_rate
            sink.recording.peaks = peaks.heights()
            sink.commit()
        notes = [*reader.notes, *filter(None, [speech_filter.note()])]
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
