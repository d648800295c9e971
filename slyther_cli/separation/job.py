"""Speech separation as a job: recordings in, one sound file a speaker out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> audio.level -> longform.separate_whole -> stems at the model's
    rate
      -> StreamResampler (back to the recording's rate and exactly its length) -> [+ residual] -> StemGroup

Levels are those of the recording, without what lies below speech; when a peak would clip, all stems of a
recording are scaled alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import slyther_cli
from slyther_cli.audio.discover import Input, check_extension, output_paths
from slyther_cli.audio.growing import GrowingStems
from slyther_cli.audio.level import MIXTURE_DB, heard_by
from slyther_cli.audio.live import LiveReader, listen, raw_header
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Rejoined, standard_input
from slyther_cli.audio.streams import BLOCK, Lockstep, at_source_rate
from slyther_cli.audio.writer import CLIPS, StemGroup, subtype_of
from slyther_cli.errors import UsageError
from slyther_cli.jobs.batch import Batch, open_recording
from slyther_cli.jobs.estimate import cost
from slyther_cli.jobs.inputs import parse_shard
from slyther_cli.jobs.locks import part_name
from slyther_cli.jobs.results import Result, SeparationResult
from slyther_cli.jobs.resume import held_bytes, open_job, work_place
from slyther_cli.jobs.setup import (
    choose_model,
    count_speakers,
    out_of_memory,
    pick_device,
    sample_rate,
)
from slyther_cli.jobs.work import Outputs, Turn, nobody
from slyther_cli.separation.balance import Balance
from slyther_cli.separation.live import LiveStems, write_stems

if TYPE_CHECKING:
    from slyther_cli.longform.reunited import Found

DEFAULT_MODEL = "mamba-tasnet-8k-2spk"
LIVE_MODEL = "mamba-tasnet-8k-2spk-causal"
DEFAULT_OUTPUT_DIR = "separated"
DEFAULT_TEMPLATE = "{folder}/{track}_{stem}.{ext}"

Event = dict[str, Any]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def separate(
    inputs: Paths,
    output_dir: str | os.PathLike[str] = DEFAULT_OUTPUT_DIR,
    model: str | os.PathLike[str] | None = None,
    *,
    speakers: int | None = None,
    format: str = "wav",
    subtype: str = "16",
    filename: str = DEFAULT_TEMPLATE,
    device: str = "auto",
    threads: int | None = None,
    existing: Literal["refuse", "replace", "skip"] = "refuse",
    residual: bool = False,
    clip: str = "rescale",
    match_speakers: bool = False,
    channel: int | str = "mix",
    track: int | None = None,
    strict: bool = False,
    memory_limit: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    resume: bool = False,
    raw: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    shard: str | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    ray_gpus: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> list[SeparationResult]:
    """Separate recordings into one file a speaker, and return one result an input.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several. A causal model separates
                      standard input while it comes (docs/longform.md).
    ``output_dir``    where the stems go, under the names that ``filename`` gives: a template of {folder}
                      {track} {trackext} {parent} {stem} {ext} {model}. {folder} is where an input lies in a
                      folder that was searched: by default that is mirrored. Files appear whole or not at
                      all, at the rate and length of the input.
    ``model``         name or folder; by default the model that comes with slyther, or one for ``speakers``.
    ``format``        "wav" or "flac"; ``subtype`` "16", "24" or "float" (wav only). ``device``        "auto",
    "cpu", "cuda", "cuda:N". ``threads`` sets torch's number for the process. ``existing``      when outputs
    are there already: "refuse" (that input fails), "replace", or "skip" it. ``residual``      also write the
    mixture without the stems, as stem "residual". ``clip``          "rescale", "clamp" or "none"; see
    ``audio.writer.StemGroup``. ``match_speakers``  of two stems, move each stretch to the file of its voice,
    as a speaker network hears it;
                      overlapped speech stays where it is (``longform.reunited``). Not for live sound.
    ``channel``       "mix" (the mean) or a number from 1 up.
    ``track``         the audio track of a film, from 1 up; None is the first.
    ``strict``        a damaged recording fails; else silence stands for what cannot be read, with notes.
    ``memory_limit``  bytes beside the idle process; what does not fit goes to a file in ``work_dir``.
    ``dry_run``       read headers and plan, write nothing.
    ``resume``        keep the work in files of ``work_dir`` (by default below the cache) and go on from those
                      that a killed run left: the result is the same (docs/longform.md). Outputs that are all
                      there are left, as with "skip".
    ``raw``           standard input has samples without a header: RATE[:CHANNELS[:TYPE]], as 48000:2:f32.
    ``manifest``      a file that names more inputs: a path a line, or a TSV or CSV with a column "path".
    ``shard``         "I/N": only the I-th of N parts of the inputs, for N runs that share them.
    ``jobs``          processes that work on the inputs; each loads the model once. Results are the same, also
                      to the last bit with the same ``threads`` (by default the cores are shared).
    ``ray``           address of a Ray cluster, or "local": its actors work, ``jobs`` of them, by default all
                      that it has room for; ``ray_gpus``: of a GPU, for each (docs/batches.md).
    ``on_event``      called with dictionaries: "event" is start, note, plan, progress, live, file_done, error
                      or summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    named = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    kind = subtype_of(format, subtype)
    if clip not in CLIPS:
        raise UsageError(f"the clip mode {clip!r} is not known: {', '.join(CLIPS)}")
    if existing not in ("refuse", "replace", "skip"):
        raise UsageError(f"existing={existing!r} is not known: refuse, replace, skip")
    if raw is not None:
        raw_header(raw)
        if "-" not in named:
            raise UsageError("raw sound comes on standard input: name it with - as an input")
    config = choose_model("separate", model, DEFAULT_MODEL, speakers)
    if match_speakers and count_speakers(config) != 2:
        raise UsageError("--match-speakers is for two speakers: this model separates another number")
    job = Separation(
        config=config,
        output_dir=Path(output_dir),
        format=format,
        subtype=kind,
        filename=filename,
        device=device,
        threads=threads,
        existing="skip" if resume and existing == "refuse" else existing,
        residual=residual,
        clip=clip,
        match_speakers=match_speakers,
        channel=channel,
        track=track,
        strict=strict,
        memory_limit=memory_limit,
        work_dir=Path(work_dir) if work_dir is not None else None,
        dry_run=dry_run,
        resume=resume,
        raw=raw,
        manifest=None if manifest is None else os.fspath(manifest),
        shard=None if shard is None else parse_shard(shard),
        jobs=jobs,
        ray=ray,
        ray_gpus=ray_gpus,
        tell=on_event or nobody,
    )
    results: list[Any] = job.run([os.fspath(item) for item in named])
    return results


@dataclass(kw_only=True)
class Separation(Batch):
    """Many recordings, one model. The fields are what :func:`separate` takes."""

    task = "separate"
    result = SeparationResult

    format: str
    subtype: str
    filename: str
    residual: bool
    clip: str
    match_speakers: bool = False
    model: Any = None

    def run(self, named: list[str]) -> list[Result]:
        self.outputs(Path("/folder/track.wav"))  # a template that is always wrong is wrong before the first
        return super().run(named)

    def outputs(self, source: Input) -> Outputs:
        stems = [f"s{i + 1}" for i in range(count_speakers(self.config))] + ["residual"] * self.residual
        fields = self.fields(source, "stdin" if source == "-" else str(source))
        assert self.output_dir is not None
        paths = output_paths(self.filename, self.output_dir, stems, ext=self.format, **fields)
        for stem_path in paths:
            check_extension(stem_path, self.format)
        return dict(zip(stems, paths, strict=True))

    def open(self, source: Input, stack: ExitStack) -> tuple[Path | None, AudioReader | LiveReader]:
        stream = None
        if source == "-":
            head = raw_header(self.raw) if self.raw is not None else b""
            stream, text = Rejoined(head, standard_input()), "it is read to its end first"
            if self.config.config.get("causal"):
                live = listen(stream, "standard input", self.channel, sample_rate(self.config))
                if isinstance(live, LiveReader):
                    return None, live
                stream, text = live, f"its samples are not plain WAV, so {text}"
            else:
                text = f"the model is bidirectional, so {text}; --model {LIVE_MODEL} does not wait for it"
            self._tell("note", file="-", text=text)
        return open_recording(
            source, self.channel, sample_rate(self.config), self.work_dir, stack, stream, **self.reading
        )

    def load(self) -> None:
        if self.model is not None:
            return
        device = pick_device(self.device)
        import torch

        from slyther_cli.checkpoints import store

        if self.threads:
            torch.set_num_threads(self.threads)
        assert self.config.path is not None
        try:
            self.model = store.load(self.config.path, expect_task="separate")[0].to(device)
        except (RuntimeError, MemoryError) as error:
            raise (out_of_memory(error) or error) from None
        self.device = device

    @cached_property
    def cost(self) -> float:
        """Seconds of work for a second of sound, as measured here."""
        from slyther_cli.longform import plan_separation, separate_whole

        def work(x: np.ndarray) -> None:
            for _ in separate_whole(self.model, lambda: iter([x]), plan_separation(self.model, len(x))):
                pass

        return cost(work, sample_rate(self.config))

    def compute(
        self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn
    ) -> SeparationResult:
        from slyther_cli.longform import plan_separation, separate_whole

        started = time.monotonic()
        if self.dry_run:
            reader.measure()
        else:
            reader.settle()
        assert reader.frames is not None and reader.source_frames is not None
        plan = plan_separation(
            self.model,
            reader.frames,
            memory_limit=self.memory_limit,
            work_dir=work_place(self.work_dir) if self.resume else self.work_dir,
            resume=self.resume,
            held=held_bytes(name, list(outputs.values()), self.work_dir) if self.resume else 0,
        )
        lines, seconds = tuple(plan.describe()), reader.source_frames / reader.source_rate
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if self.dry_run:
            result = SeparationResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            return replace(result, notes=tuple(reader.notes), plan=lines, estimate=seconds * self.cost)

        job = None
        notes: list[str] = []
        began: float | None = None  # the share that an earlier run did

        def progress(fraction: float) -> None:
            nonlocal began
            if began is None:
                began = fraction if job is not None and job.resumed else 0.0
            share = {"fraction": fraction, "began": began, "seconds": seconds}
            wall = time.monotonic() - started
            self._tell("progress", file=name, index=turn[0], files=turn[1], **share, wall_seconds=wall)

        with ExitStack() as stack:
            if self.resume and plan.tape == "none":
                notes.append("a causal model keeps no work to go on from: it began anew")
            elif self.resume:
                paths, options = list(outputs.values()), self._options()
                job = stack.enter_context(
                    open_job(name, paths, self.model, self.config.name, options, self.work_dir, self.device)
                )
            group = stack.enter_context(
                StemGroup(
                    list(outputs.values()),
                    reader.source_rate,
                    subtype=self.subtype,
                    format=self.format,
                    clip=self.clip,
                    frames=reader.source_frames,
                    metadata=self._metadata(),
                    part=part_name(list(outputs.values())),
                )
            )
            mixture, balance = None, Balance(count_speakers(self.config))
            if self.residual:
                again = stack.enter_context(
                    AudioReader(file, self.channel, work_dir=self.work_dir, **self.reading)
                )
                again.reach = reader.reach
                mixture = Lockstep(again.blocks(BLOCK))
            once = list(reader.blocks(BLOCK)) if reader.frames <= BLOCK else []  # a block: kept, not reread
            sound = (lambda: iter(once)) if once else (lambda: reader.blocks(BLOCK))
            heard = heard_by(self.model, sound, reader.rate, MIXTURE_DB)
            stems = separate_whole(self.model, heard, plan, progress, job=job)
            stack.callback(getattr(stems, "close", lambda: None))
            stems = map(heard.undo, stems)
            if self.match_speakers:
                stems = self._matched(
                    stems, reader.rate, lambda found: notes.extend(found.notes(reader.rate))
                )
            for block in at_source_rate(stems, reader):
                balance.add(block)
                if mixture is not None:
                    rest = mixture.take(block.shape[1]) - block.sum(axis=0)
                    block = np.concatenate([block, rest[np.newaxis]])
                group.write(block)
            if group.frames_written != reader.source_frames:
                raise AssertionError(f"{group.frames_written} samples came of {reader.source_frames}")
            group.commit(sync_names=job is not None)  # else the batch does
            if job is not None:
                notes += job.notes
                job.remove()
        result = SeparationResult(name, "done", outputs, reader.source_rate, reader.source_frames)
        notes += [
            *reader.notes,
            *group.notes,
            *self._balance_notes(balance),
        ]
        return replace(result, notes=tuple(notes), plan=lines, wall_seconds=time.monotonic() - started)

    def _matched(
        self, stems: Iterator[np.ndarray], rate: int, on_found: Callable[[Found], None]
    ) -> Iterator[np.ndarray]:
        """Stems whose stretches lie where their voices are. Raises ModelError: the speaker network is not
        here."""
        from slyther_cli.longform.reunited import reunited
        from slyther_cli.separation.speakers import embedder

        return reunited(stems, rate, embedder(rate, str(self.device)), self.work_dir, on_found)

    def _balance_notes(self, balance: Balance) -> list[str]:
        note = balance.note()
        if note and not self.match_speakers and self.output_dir and count_speakers(self.config) == 2:
            note += " (--match-speakers moves each stretch into the file of its voice)"
        return [note] if note else []

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> SeparationResult:
        if self.match_speakers:
            raise UsageError("--match-speakers needs the whole recording: leave it out for live sound")
        started = time.monotonic()
        stems = LiveStems(self.model, reader)
        lines = tuple(stems.describe(self.format))
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=None)
        if self.dry_run:
            return SeparationResult(name, "planned", outputs, reader.source_rate, plan=lines)
        with GrowingStems(
            list(outputs.values()),
            reader.source_rate,
            subtype=self.subtype,
            format=self.format,
            clip="none" if self.clip == "none" else "clamp",
            metadata=self._metadata(),
        ) as group:
            write_stems(stems, group, self.residual, lambda *s: self._live(name, *s))
            group.commit()
        notes = (*reader.notes, *group.notes)
        result = SeparationResult(name, "done", outputs, reader.source_rate, reader.source_frames, notes)
        return replace(result, plan=lines, wall_seconds=time.monotonic() - started)

    def _live(self, name: str, heard: float, written: float) -> None:
        self._tell("live", file=name, heard_seconds=round(heard, 3), written_seconds=round(written, 3))

    def _metadata(self) -> dict[str, str]:
        return {
            "software": f"slyther {slyther_cli.__version__}",
            "comment": f"separated with {self.config.name}",
        }

    def _options(self) -> dict[str, Any]:
        """What the stems depend on beside the recording and the model."""
        names = ("channel", "track", "strict", "format", "subtype", "clip", "residual", "match_speakers")
        return {name: getattr(self, name) for name in names}
