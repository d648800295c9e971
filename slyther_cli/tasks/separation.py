"""Speech separation as a job: recordings in, one sound file a speaker out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> longform.separate_whole -> stems at the model's rate
      -> StreamResampler (back to the recording's rate and exactly its length) -> [+ residual] -> StemGroup

Levels are those of the recording: nothing is normalised, and when a peak would clip, all stems of a recording
are scaled alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import slyther_cli
from slyther_cli.audio.discover import Input, check_collisions, expand_inputs, output_paths, shown
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Source
from slyther_cli.audio.writer import CLIPS, StemGroup
from slyther_cli.audio.writer import SUBTYPES as FORMATS
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.errors import InputError, OutputError, SlytherError, UsageError
from slyther_cli.tasks.results import SeparationResult, summarise
from slyther_cli.tasks.resuming import check_source, is_unfinished, open_job, work_place
from slyther_cli.tasks.setup import choose_model, count_speakers, describe_error, out_of_memory, pick_device
from slyther_cli.tasks.streams import BLOCK, Lockstep, at_source_rate

DEFAULT_MODEL = "mamba-tasnet-8k-2spk"
DEFAULT_OUTPUT_DIR = "separated"
DEFAULT_TEMPLATE = "{track}_{stem}.{ext}"
SUBTYPES = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}

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
    channel: int | str = "mix",
    memory_limit: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> list[SeparationResult]:
    """Separate recordings into one file a speaker, and return one result an input.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several.
    ``output_dir``    where the stems go, under the names that ``filename`` gives: a template of {track}
                      {trackext} {parent} {stem} {ext} {model}. Files appear whole or not at all, at the rate
                      and length of the input.
    ``model``         name or folder; by default the model that comes with slyther, or one for ``speakers``.
    ``format``        "wav" or "flac"; ``subtype`` "16", "24" or "float" (wav only).
    ``device``        "auto", "cpu", "cuda", "cuda:N". ``threads`` sets torch's number for the process.
    ``existing``      when outputs are there already: "refuse" (that input fails), "replace", or "skip" it.
    ``residual``      also write the mixture without the stems, as stem "residual".
    ``clip``          "rescale", "clamp" or "none"; see ``audio.writer.StemGroup``.
    ``channel``       "mix" (the mean) or a number from 1 up.
    ``memory_limit``  bytes beside the idle process; what does not fit goes to a file in ``work_dir``.
    ``dry_run``       read headers and plan, write nothing.
    ``resume``        keep the work in files of ``work_dir`` (by default below the cache) and go on from those
                      that a killed run left: the result is the same (docs/longform.md). Outputs that are all
                      there are left, as with "skip".
    ``on_event``      called with dictionaries: "event" is start, plan, progress, file_done, error or summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    named = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    choices = {"wav": tuple(SUBTYPES), "flac": ("16", "24")}
    if format not in FORMATS:
        raise UsageError(f"the output format {format!r} is not known: {', '.join(FORMATS)}")
    if subtype not in choices[format]:
        raise UsageError(f"{format} output cannot be {subtype!r}: choose one of {', '.join(choices[format])}")
    if clip not in CLIPS:
        raise UsageError(f"the clip mode {clip!r} is not known: {', '.join(CLIPS)}")
    if existing not in ("refuse", "replace", "skip"):
        raise UsageError(f"existing={existing!r} is not known: refuse, replace, skip")
    config = choose_model("separate", model, DEFAULT_MODEL, speakers)
    job = _Job(
        config=config,
        output_dir=Path(output_dir),
        format=format,
        subtype=SUBTYPES[subtype],
        filename=filename,
        device=device,
        threads=threads,
        existing="skip" if resume and existing == "refuse" else existing,
        residual=residual,
        clip=clip,
        channel=channel,
        memory_limit=memory_limit,
        work_dir=Path(work_dir) if work_dir is not None else None,
        dry_run=dry_run,
        resume=resume,
        tell=on_event or (lambda event: None),
    )
    return job.run([os.fspath(item) for item in named])


@dataclass
class _Job:
    config: ModelConfig
    output_dir: Path
    format: str
    subtype: str
    filename: str
    device: str
    threads: int | None
    existing: str
    residual: bool
    clip: str
    channel: int | str
    memory_limit: int | None
    work_dir: Path | None
    dry_run: bool
    resume: bool
    tell: Callable[[Event], None]
    model: Any = None

    def run(self, named: list[str]) -> list[SeparationResult]:
        inputs = self._without_own_outputs(named, expand_inputs(named))
        if not inputs:
            raise UsageError("no input files")
        stems = [f"s{i + 1}" for i in range(count_speakers(self.config))] + ["residual"] * self.residual
        self._paths(
            Path("track.wav"), stems
        )  # a template that is wrong for every input is wrong before the first
        outputs: dict[Input, list[Path] | SlytherError] = {}
        for source in inputs:
            try:
                outputs[source] = self._paths(source, stems)
            except UsageError as error:  # a file name that the template cannot take
                outputs[source] = InputError(f"{shown(source)}: {error}")
        check_collisions(
            (s, path) for s, paths in outputs.items() if isinstance(paths, list) for path in paths
        )
        started = time.monotonic()
        self._tell(
            "start",
            task="separate",
            model=self.config.name,
            files=len(inputs),
            output_dir=str(self.output_dir),
        )
        results = []
        for index, source in enumerate(inputs):
            result = self._input(source, outputs[source], stems, index, len(inputs))
            results.append(result)
            if result.error is not None:
                self._tell("error", file=str(source), exception=result.error, **describe_error(result.error))
            else:
                self._tell("file_done", **result.as_event())
        self._tell("summary", **summarise(results, time.monotonic() - started))
        return results

    def _without_own_outputs(self, named: list[str], inputs: list[Input]) -> list[Input]:
        """Leave out what an earlier run wrote into an output folder that lies below an input folder."""
        target = os.path.realpath(self.output_dir)
        literal = {"-", *named}
        if any(os.path.realpath(name) == target for name in named if name != "-"):
            return inputs
        return [i for i in inputs if str(i) in literal or not _is_below(os.path.realpath(i), target)]

    def _paths(self, source: Input, stems: list[str]) -> list[Path]:
        path = Path("stdin") if source == "-" else Path(source)
        return output_paths(
            self.filename,
            self.output_dir,
            stems,
            track=path.stem,
            trackext=path.suffix.lstrip("."),
            parent=path.absolute().parent.name,
            ext=self.format,
            model=self.config.name,
        )

    def _input(
        self, source: Input, paths: list[Path] | SlytherError, stems: list[str], index: int, count: int
    ) -> SeparationResult:
        """One input. Raises only what stops the others too."""
        name = str(source)
        if isinstance(paths, SlytherError):
            return SeparationResult(name, "failed", error=paths)
        outputs = dict(zip(stems, paths, strict=True))
        with ExitStack() as stack:
            try:
                if self.resume:
                    check_source(name)
                if self._all_there(name, paths):
                    return SeparationResult(name, "skipped", outputs)
                self._check_folder(paths[0])
                source_file, reader = self._open(source, stack)
            except UsageError:  # of an option: the same for every input
                raise
            except SlytherError as error:
                return SeparationResult(name, "failed", error=error)
            except OSError as error:  # a path that the system refuses: too long, a loop
                reason = (error.strerror or str(error)).lower()
                return SeparationResult(
                    name, "failed", error=OutputError(f"{_place(paths)} cannot be written: {reason}")
                )
            self._load()  # outside: without the model no input can be done
            try:
                return self._separate(name, source_file, reader, outputs, (index, count))
            except SlytherError as error:
                return SeparationResult(name, "failed", error=error)
            except BrokenPipeError:  # whoever was listening has gone
                raise
            except Exception as error:
                full = out_of_memory(error)
                return SeparationResult(name, "failed", error=full or error)

    def _all_there(self, name: str, paths: list[Path]) -> bool:
        """Whether the input can be skipped. Raises OutputError when something is in the way."""
        there = [path for path in paths if os.path.lexists(path)]
        if not there or self.existing == "replace":
            return False
        if self.resume and is_unfinished(name, paths, self.work_dir):  # killed between its last two acts
            return False
        if self.existing == "skip":
            if len(there) == len(paths):
                return True
            raise OutputError(
                f"{shown(there[0])} exists already, but not all of its group: --force replaces them"
            )
        raise OutputError(f"{shown(there[0])} exists already: --force replaces it, --skip-existing leaves it")

    def _check_folder(self, path: Path) -> None:
        """Say before hours of work that the result has no place. Raises OutputError."""
        folder = next((p for p in path.parents if p.exists()), Path("/"))
        if not folder.is_dir():
            raise OutputError(f"{shown(path)} cannot be written: {shown(folder)} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{shown(path)} cannot be written: no permission to write in {shown(folder)}")

    def _open(self, source: Input, stack: ExitStack) -> tuple[Path, AudioReader]:
        """The file that holds the recording (a copy, of a pipe), and its reader at the model's rate."""
        held = Source(source, self.work_dir)
        stack.callback(held.close)
        try:
            reader = AudioReader(held.path, self.channel, self._rate(), work_dir=self.work_dir)
        except InputError as error:
            raise InputError(str(error).replace(shown(held.path), held.name)) from None
        stack.callback(reader.close)
        reader.name = held.name
        return held.path, reader

    def _rate(self) -> int:
        stated = self.config.config.get("sample_rate")
        if type(stated) is int:
            return stated
        from slyther_cli.models import registry

        return int(registry.full_config(self.config.architecture, self.config.config)["sample_rate"])

    def _load(self) -> None:
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

    def _separate(
        self, name: str, file: Path, reader: AudioReader, outputs: dict[str, Path], turn: tuple[int, int]
    ) -> SeparationResult:
        from slyther_cli.longform import plan_separation, separate_whole

        started = time.monotonic()
        if reader.frames is None:  # a stream of unstated length
            for _ in reader.blocks(BLOCK):
                pass
        assert reader.frames is not None and reader.source_frames is not None
        plan = plan_separation(
            self.model,
            reader.frames,
            memory_limit=self.memory_limit,
            work_dir=work_place(self.work_dir) if self.resume else self.work_dir,
            device=self.device,
            resume=self.resume,
        )
        lines, seconds = tuple(plan.describe()), reader.source_frames / reader.source_rate
        self._tell("plan", file=name, lines=list(lines), device=self.device, seconds=seconds)
        if self.dry_run:
            result = SeparationResult(name, "planned", outputs, reader.source_rate, reader.source_frames)
            return replace(result, notes=tuple(reader.notes), plan=lines)

        job = None
        notes: list[str] = []
        began: float | None = None  # the share that an earlier run did

        def progress(fraction: float) -> None:
            nonlocal began
            if began is None:
                began = fraction if job is not None and job.resumed else 0.0
            self._tell(
                "progress",
                file=name,
                index=turn[0],
                files=turn[1],
                fraction=fraction,
                began=began,
                seconds=seconds,
                wall_seconds=time.monotonic() - started,
            )

        with ExitStack() as stack:
            if self.resume and plan.tape == "file":  # a causal model has nothing to keep
                paths, options = list(outputs.values()), self._options()
                job = stack.enter_context(
                    open_job(name, paths, self.model, self.config.name, options, self.work_dir, self.device)
                )
                if job.resumed:
                    notes.append("went on from the work of an earlier run")
            group = stack.enter_context(
                StemGroup(
                    list(outputs.values()),
                    reader.source_rate,
                    subtype=self.subtype,
                    format=self.format,
                    clip=self.clip,
                    frames=reader.source_frames,
                    metadata={
                        "software": f"slyther {slyther_cli.__version__}",
                        "comment": f"separated with {self.config.name}",
                    },
                    part=job.token if job is not None else None,
                )
            )
            mixture = None
            if self.residual:
                again = stack.enter_context(AudioReader(file, self.channel, work_dir=self.work_dir))
                mixture = Lockstep(again.blocks(BLOCK))
            stems = separate_whole(self.model, lambda: reader.blocks(BLOCK), plan, progress, job=job)
            stack.callback(getattr(stems, "close", lambda: None))
            for block in at_source_rate(stems, reader):
                if mixture is not None:
                    rest = mixture.take(block.shape[1]) - block.sum(axis=0)
                    block = np.concatenate([block, rest[np.newaxis]])
                group.write(block)
            if group.frames_written != reader.source_frames:
                raise AssertionError(f"{group.frames_written} samples came of {reader.source_frames}")
            group.commit()
            if job is not None:
                job.remove()
        result = SeparationResult(name, "done", outputs, reader.source_rate, reader.source_frames)
        notes += [*reader.notes, *group.notes]
        return replace(result, notes=tuple(notes), plan=lines, wall_seconds=time.monotonic() - started)

    def _options(self) -> dict[str, Any]:
        """What the stems depend on beside the recording and the model."""
        names = ("channel", "format", "subtype", "clip", "residual")
        return {name: getattr(self, name) for name in names}

    def _tell(self, event: str, **details: Any) -> None:
        self.tell({"event": event, **details})


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def _place(paths: list[Path]) -> str:
    text = shown(paths[0])
    return text if len(text) <= 120 else text[:117] + "..."
