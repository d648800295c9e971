"""A job over many recordings with one model: what separating and transcribing have in common."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from slyther_cli.audio.discover import (
    Input,
    check_collisions,
    expand_inputs,
    once,
    results_among,
    shown,
    without_own_outputs,
)
from slyther_cli.audio.live import LiveReader, raw_header
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Bytes, Rejoined, Source, standard_input
from slyther_cli.audio.writer import sync_folder
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.errors import InputError, OutputError, SlytherError, UsageError
from slyther_cli.jobs.inputs import length, longest_first, parse_shard, part, read_places
from slyther_cli.jobs.locks import Failures, Taken, claim, tidy, unused_goes
from slyther_cli.jobs.options import BatchOptions
from slyther_cli.jobs.placing import can_skip, check_folder, folders_of
from slyther_cli.jobs.progress import Overall
from slyther_cli.jobs.results import Result, summarise
from slyther_cli.jobs.resume import held_bytes, open_job, work_place
from slyther_cli.jobs.setup import describe_error, out_of_memory, sample_rate
from slyther_cli.jobs.work import Event, Outputs, Turn, Work
from slyther_cli.runtime import cores

if TYPE_CHECKING:
    from slyther_cli.longform.journal import Journal

DYING = 60.0  # seconds until a lost process has surely let its outputs go


@dataclass(kw_only=True)
class Batch:
    """Many recordings, one model, loaded when the first recording needs it.

    ``options``: of the product. ``device``: the one that the model is on, once it is loaded. A task says what
    it is called (``task``), what its results are (``result``), and gives the five methods above ``run``.
    """

    task: ClassVar[str]
    result: ClassVar[type[Result]]

    config: ModelConfig
    output_dir: Path | None
    options: BatchOptions
    device: str = ""
    folders: dict[Input, Path] = field(default_factory=dict)
    """Input -> the folder below ``output_dir`` that its results go into, where it is not that one."""
    tell: Callable[[Event], None]

    def having(self, **changes: Any) -> Self:
        """The same job with other options."""
        return replace(self, options=replace(self.options, **changes))

    @property
    def existing(self) -> str:
        """What becomes of outputs that are there: a run that goes on with others leaves what they made."""
        o = self.options
        return "skip" if o.resume and o.existing == "refuse" else o.existing

    def outputs(self, source: Input) -> Outputs:
        """Stem or format -> the file that becomes of ``source``. Raises UsageError: the name cannot be."""
        raise NotImplementedError

    def load(self) -> None:
        """Load the model, unless it is. Raises ModelError, DeviceError."""
        raise NotImplementedError

    def open(self, source: Input, stack: ExitStack) -> tuple[Path | None, AudioReader | LiveReader]:
        """The recording at the model's rate, and the file with it (a copy, of a pipe) if it is not live.
        ``stack`` closes it. Raises InputError, OutputError, UsageError as ``AudioReader`` does."""
        raise NotImplementedError

    def reader(
        self, source: Input, stack: ExitStack, stream: Bytes | None = None, channel: int | str | None = None
    ) -> tuple[Path, AudioReader]:
        """The file with the recording (a copy, of a pipe), and its reader at the model's rate; ``stack``
        closes both. ``stream``: read for "-" in place of standard input. ``channel``: another than that of
        the options. Raises InputError, OutputError, UsageError as ``AudioReader`` does."""
        o, rate = self.options, sample_rate(self.config)
        held = Source(source, o.work_dir, stream)
        stack.callback(held.close)
        try:
            reader = AudioReader(held.path, channel or o.channel, rate, work_dir=o.work_dir, **o.reading)
        except InputError as error:
            raise InputError(str(error).replace(shown(held.path), held.name)) from None
        stack.callback(reader.close)
        reader.name = held.name
        return held.path, reader

    def standard_input(self) -> Rejoined:
        """The stream, with a header where it has none."""
        raw = self.options.raw
        return Rejoined(raw_header(raw) if raw is not None else b"", standard_input())

    def planning(self, name: str, outputs: list[Path]) -> dict[str, Any]:
        """What there is to keep to, for ``plan_separation`` and ``plan_recognition``."""
        o, found = self.options, {"memory_limit": self.options.memory_limit}
        if not o.resume:
            return {**found, "work_dir": o.work_dir}
        held = held_bytes(name, outputs, o.work_dir)
        return {**found, "work_dir": work_place(o.work_dir), "resume": True, "held": held}

    def journal(
        self, name: str, outputs: list[Path], model: Any, shaping: dict[str, Any] | None = None
    ) -> Journal:
        """Of the work that makes ``outputs`` of the file ``name``, which depends on those of the options that
        shape a result, or on ``shaping``. Raises what ``resume.open_job`` raises."""
        shaping = self.options.shaping() if shaping is None else shaping
        about = (model, self.config.name, shaping, self.options.work_dir, self.device)
        return open_job(name, outputs, *about)

    def progress(
        self, name: str, turn: Turn, seconds: float, started: float, work: Any
    ) -> Callable[[float], None]:
        """What to call with the share of a recording of so many ``seconds`` that is done. ``work``: what is
        kept of it, if it is; ``resumed`` says whether an earlier run began."""
        began: float | None = None

        def tell(fraction: float) -> None:
            nonlocal began
            if began is None:
                began = fraction if work is not None and work.resumed else 0.0
            share = {"fraction": fraction, "began": began, "seconds": seconds}
            wall = time.monotonic() - started
            self._tell("progress", file=name, index=turn[0], files=turn[1], **share, wall_seconds=wall)

        return tell

    def compute(self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn) -> Result:
        """One recording, from its file to its results."""
        raise NotImplementedError

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> Result:
        """Standard input, while it comes."""
        raise NotImplementedError

    def run(self, named: list[str]) -> list[Result]:
        """All inputs; a result each, in their order. Raises what stops all of them."""
        o, given = self.options, self.options.given()
        self.outputs(Path("/folder/track.wav"))  # a template that is always wrong is wrong before the first
        inputs = self._inputs(named)
        outputs: dict[Input, Outputs | SlytherError] = {}
        for source in inputs:
            try:
                outputs[source] = self.outputs(source)
            except UsageError as error:  # a file name that the template cannot take
                outputs[source] = InputError(f"{shown(source)}: {error}")
        if self.existing != "replace":
            inputs = self._without_results(inputs, outputs)
        check_collisions(
            (source, path)
            for source in inputs
            if isinstance(to := outputs[source], dict)
            for path in to.values()
        )
        several = len(inputs) > 1
        if o.shard is not None:
            inputs = part(inputs, parse_shard(o.shard))
        jobs = min(o.jobs or 1, len(inputs))
        shared = not o.dry_run and (o.ray is not None or jobs > 1)
        if o.dry_run and jobs > 1 and not o.threads:  # what each process would have
            self.options = replace(o, threads=max(1, cores() // jobs))
        if shared and "-" in inputs:
            raise UsageError("standard input is not for other processes: leave out --jobs and --ray")
        started = time.monotonic()
        about: Event = {} if self.output_dir is None else {"output_dir": str(self.output_dir)}
        if o.shard is not None:
            about["shard"] = "{}/{}".format(*parse_shard(o.shard))
        if shared:
            about |= {"jobs": jobs} if o.ray is None else {"ray": o.ray}
        about |= {"files": len(inputs), "options": given}
        self._tell("start", task=self.task, model=self.config.name, **about)
        seconds = [length(source) for source in inputs]
        known = {str(i): s for i, s in zip(inputs, seconds, strict=True) if math.isfinite(s)}
        self.tell = Overall(self.tell, known)
        work = [Work(i, inputs[i], outputs[inputs[i]], (i, len(inputs))) for i in longest_first(seconds)]
        failures = Failures(self.output_dir) if self.output_dir and several and not o.dry_run else None
        results: dict[int, Result] = {}
        try:
            with unused_goes(self._targets(work)), contextlib.closing(self._results(work, shared)) as found:
                for item, result in found:
                    results[item.index] = result
                    if failures is not None and result.error is not None:
                        # the error itself says that nothing can be written
                        with contextlib.suppress(OutputError):
                            folder = self.folders.get(item.source, "")
                            failures.add(str(item.source), result.error, str(folder))
        finally:
            done = [r for r in results.values() if r.status == "done"]
            for folder in {path.parent for r in done for path in r.outputs.values()}:
                sync_folder(folder)
        if failures is not None:
            with contextlib.suppress(OutputError):
                failures.settle([r.source for r in results.values() if r.error is None])
        ordered = [results[i] for i in range(len(inputs))]
        self._tell("summary", **summarise(ordered, time.monotonic() - started, jobs))
        return ordered

    def _targets(self, work: list[Work]) -> set[Path]:
        """All folders that results go into."""
        paths = {path.parent for w in work if isinstance(w.outputs, dict) for path in w.outputs.values()}
        return paths | ({self.output_dir} if self.output_dir is not None else set())

    def fields(self, source: Input, name: str) -> dict[str, str]:
        """What a template of names may have, beside {ext} and {stem}; ``name``: of the recording."""
        path = Path(name)
        return {
            "track": path.stem,
            "trackext": path.suffix.lstrip("."),
            "parent": path.absolute().parent.name,
            "folder": str(self.folders.get(source, ".")),
            "model": self.config.name,
        }

    def _inputs(self, named: list[str]) -> list[Input]:
        inputs = expand_inputs(named)
        if self.output_dir is not None:
            inputs = without_own_outputs(named, inputs, self.output_dir)
        self.folders = folders_of(named, inputs)
        manifest = self.options.manifest
        if manifest is not None:
            if manifest == "-" and "-" in inputs:
                raise UsageError("standard input cannot be the manifest and a recording")
            listed = read_places(manifest)
            places: dict[Input, Path] = {path: Path(to) for path, to in listed if to}
            self.folders = {**places, **dict.fromkeys(inputs, Path()), **self.folders}
            inputs = once([*inputs, *(path for path, _ in listed)])
        if not inputs:
            raise UsageError("no input files")
        return inputs

    def _without_results(
        self, inputs: list[Input], outputs: dict[Input, Outputs | SlytherError]
    ) -> list[Input]:
        """Where results lie beside the recordings, the next run finds them; they are told and left out."""
        made = results_among((i, to.values() if isinstance(to := outputs[i], dict) else ()) for i in inputs)
        if made:
            more = f", as are {len(made) - 1} more" if made[1:] else ""
            text = f"the result of another recording{more}: left out"
            self._tell("note", file=str(made[0]), text=text)
        left_out = set(made)
        return [i for i in inputs if i not in left_out]

    def _results(self, work: list[Work], shared: bool) -> Generator[tuple[Work, Result]]:
        if not shared:
            for item in work:
                yield item, self.one(item)
            return
        rest = []
        for item in work:  # what takes no model, takes no process
            result = self._early(item)
            if result is None:
                rest.append(item)
            else:
                yield item, self._report(result)
        if rest:
            yield from self._by_others(rest)

    def _by_others(self, work: list[Work]) -> Iterator[tuple[Work, Result]]:
        from slyther_cli.jobs.pool import Pool, Processes, work_through

        pool: Pool
        o = self.options
        if o.ray is None:
            count = min(o.jobs or 1, len(work))
            pool = Processes(self, count)
        else:
            from slyther_cli.jobs.cluster import Actors

            pool = Actors(self, o.ray, o.ray_gpus)
            count = o.jobs or pool.count
        yield from work_through(self, work, pool, count)

    def one(self, item: Work) -> Result:
        """One input, its end told. Raises only what stops the others too."""
        return self._report(self._early(item) or self._claimed(item))

    def _report(self, result: Result) -> Result:
        if result.error is not None:
            error = result.error
            self._tell("error", file=result.source, exception=error, **describe_error(error))
        else:
            self._tell("file_done", **result.as_event())
        return result

    def _early(self, item: Work) -> Result | None:
        """What became of an input that needs no computing."""
        name, outputs = str(item.source), item.outputs
        try:
            if isinstance(outputs, SlytherError):
                raise outputs
            if self._is_there(item, outputs):
                if not self.options.dry_run:
                    tidy([*outputs.values()])
                return self.result(name, "skipped", outputs)
            for path in [*outputs.values()][:1]:
                check_folder(path)
        except SlytherError as error:
            return self.result(name, "failed", error=error)
        return None

    def _is_there(self, item: Work, outputs: Outputs) -> bool:
        paths, existing = [*outputs.values()], self.existing
        if item.again and existing != "replace":  # what is there is of the process that was lost
            existing = "skip" if all(os.path.lexists(path) for path in paths) else "replace"
        return can_skip(str(item.source), paths, existing, self.options.resume, self.options.work_dir)

    def _claimed(self, item: Work) -> Result:
        """An input that no other process works on, computed."""
        name, outputs = str(item.source), item.outputs
        assert isinstance(outputs, dict)
        if self.options.dry_run:
            return self._computed(item, outputs)
        try:
            with claim([*outputs.values()], DYING if item.again else 0.0) as notes:
                if self._is_there(item, outputs):
                    return self.result(name, "skipped", outputs)  # another has done it meanwhile
                result = self._computed(item, outputs)
                return replace(result, notes=(*result.notes, *notes))
        except Taken:
            if self.existing == "skip" and not self.options.resume:
                return self.result(name, "skipped", notes=("another slyther works on it",))
            first = shown(next(iter(outputs.values())))
            error = OutputError(
                f"{first}: another slyther works on this job: wait for it, or leave it with --skip-existing"
            )
            return self.result(name, "failed", error=error)
        except OutputError as error:
            return self.result(name, "failed", error=error)

    def _computed(self, item: Work, outputs: Outputs) -> Result:
        name = str(item.source)
        with ExitStack() as stack:
            try:
                file, reader = self.open(item.source, stack)
            except UsageError:  # of an option: the same for every input
                raise
            except SlytherError as error:
                return self.result(name, "failed", error=error)
            self.load()  # outside: without the model no input can be done
            try:
                if isinstance(reader, LiveReader):
                    return self.listen(name, reader, outputs)
                assert file is not None
                return self.compute(name, file, reader, outputs, item.turn)
            except SlytherError as error:
                return self.result(name, "failed", error=error)
            except BrokenPipeError:  # whoever was listening has gone
                raise
            except Exception as error:
                return self.result(name, "failed", error=out_of_memory(error) or error)

    def _tell(self, event: str, **details: Any) -> None:
        self.tell({"event": event, **details})
