"""A job over many recordings with one model: what separating and transcribing have in common."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from slyther_cli.audio.discover import Input, check_collisions, expand_inputs, shown
from slyther_cli.audio.live import LiveReader
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Bytes, Source
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.errors import InputError, OutputError, SlytherError, UsageError
from slyther_cli.tasks.results import Result, summarise
from slyther_cli.tasks.resuming import check_source, is_unfinished
from slyther_cli.tasks.setup import describe_error, out_of_memory

Event = dict[str, Any]
Outputs = dict[str, Path]
Turn = tuple[int, int]  # the number of an input in the batch, from 0, and how many there are


@dataclass(kw_only=True)
class Batch:
    """Many recordings, one model, loaded when the first recording needs it.

    The fields are what ``separation.separate`` and ``transcription.transcribe`` take. A task says what it is
    called (``task``), what its results are (``result``), and gives the five methods below ``run``.
    """

    task: ClassVar[str]
    result: ClassVar[type[Result]]

    config: ModelConfig
    output_dir: Path | None
    channel: int | str
    device: str
    threads: int | None
    existing: str
    memory_limit: int | None
    work_dir: Path | None
    dry_run: bool
    resume: bool
    raw: str | None
    tell: Callable[[Event], None]

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

    def compute(self, name: str, file: Path, reader: AudioReader, outputs: Outputs, turn: Turn) -> Result:
        """One recording, from its file to its results."""
        raise NotImplementedError

    def listen(self, name: str, reader: LiveReader, outputs: Outputs) -> Result:
        """Standard input, while it comes."""
        raise NotImplementedError

    def run(self, named: list[str]) -> list[Result]:
        """All inputs, one after the other; a result each. Raises what stops all of them."""
        inputs = expand_inputs(named)
        if self.output_dir is not None:
            inputs = without_own_outputs(named, inputs, self.output_dir)
        if not inputs:
            raise UsageError("no input files")
        outputs: dict[Input, Outputs | SlytherError] = {}
        for source in inputs:
            try:
                outputs[source] = self.outputs(source)
            except UsageError as error:  # a file name that the template cannot take
                outputs[source] = InputError(f"{shown(source)}: {error}")
        check_collisions(
            (source, path) for source, to in outputs.items() if isinstance(to, dict) for path in to.values()
        )
        started = time.monotonic()
        folder = {} if self.output_dir is None else {"output_dir": str(self.output_dir)}
        self._tell("start", task=self.task, model=self.config.name, files=len(inputs), **folder)
        results = []
        for index, source in enumerate(inputs):
            result = self._input(source, outputs[source], (index, len(inputs)))
            results.append(result)
            if result.error is not None:
                self._tell("error", file=str(source), exception=result.error, **describe_error(result.error))
            else:
                self._tell("file_done", **result.as_event())
        self._tell("summary", **summarise(results, time.monotonic() - started))
        return results

    def _input(self, source: Input, outputs: Outputs | SlytherError, turn: Turn) -> Result:
        """One input. Raises only what stops the others too."""
        name = str(source)
        if isinstance(outputs, SlytherError):
            return self.result(name, "failed", error=outputs)
        with ExitStack() as stack:
            try:
                paths = list(outputs.values())
                if can_skip(name, paths, self.existing, self.resume, self.work_dir):
                    return self.result(name, "skipped", outputs)
                if paths:
                    check_folder(paths[0])
                file, reader = self.open(source, stack)
            except UsageError:  # of an option: the same for every input
                raise
            except SlytherError as error:
                return self.result(name, "failed", error=error)
            self.load()  # outside: without the model no input can be done
            try:
                if isinstance(reader, LiveReader):
                    return self.listen(name, reader, outputs)
                assert file is not None
                return self.compute(name, file, reader, outputs, turn)
            except SlytherError as error:
                return self.result(name, "failed", error=error)
            except BrokenPipeError:  # whoever was listening has gone
                raise
            except Exception as error:
                return self.result(name, "failed", error=out_of_memory(error) or error)

    def _tell(self, event: str, **details: Any) -> None:
        self.tell({"event": event, **details})


def all_there(paths: list[Path], existing: str) -> bool:
    """Whether an input can be skipped because of ``existing``: "refuse", "replace" or "skip".

    Raises OutputError when something is in the way.
    """
    there = [path for path in paths if os.path.lexists(path)]
    if not there or existing == "replace":
        return False
    if existing == "skip":
        if len(there) == len(paths):
            return True
        raise OutputError(
            f"{shown(there[0])} exists already, but not all of its group: --force replaces them"
        )
    raise OutputError(f"{shown(there[0])} exists already: --force replaces it, --skip-existing leaves it")


def can_skip(name: str, paths: list[Path], existing: str, resume: bool, work_dir: Path | None) -> bool:
    """:func:`all_there`, unless a killed run is to be gone on with. Raises OutputError when something is in
    the way; as ``check_source`` does, what cannot be resumed."""
    if resume:
        check_source(name)
        if paths and is_unfinished(name, paths, work_dir):  # killed between its last two acts
            return False
    return all_there(paths, existing)


def check_folder(path: Path) -> None:
    """Say before hours of work that the result has no place. Raises OutputError."""
    try:
        folder = next((p for p in path.parents if p.exists()), Path("/"))
        if not folder.is_dir():
            raise OutputError(f"{shown(path)} cannot be written: {shown(folder)} is no folder")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{shown(path)} cannot be written: no permission to write in {shown(folder)}")
    except OSError as error:  # a path that the system refuses: too long, a loop
        place = shown(path) if len(shown(path)) <= 120 else shown(path)[:117] + "..."
        raise OutputError(f"{place} cannot be written: {(error.strerror or str(error)).lower()}") from None


def open_recording(
    source: Input,
    channel: int | str,
    rate: int,
    work_dir: Path | None,
    stack: ExitStack,
    stream: Bytes | None = None,
) -> tuple[Path, AudioReader]:
    """The file that holds the recording (a copy, of a pipe), and its reader at ``rate``; ``stack`` closes
    both. ``stream``: read for "-" in place of standard input. Raises InputError, OutputError, UsageError as
    ``AudioReader`` does."""
    held = Source(source, work_dir, stream)
    stack.callback(held.close)
    try:
        reader = AudioReader(held.path, channel, rate, work_dir=work_dir)
    except InputError as error:
        raise InputError(str(error).replace(shown(held.path), held.name)) from None
    stack.callback(reader.close)
    reader.name = held.name
    return held.path, reader


def without_own_outputs(named: list[str], inputs: list[Input], folder: Path) -> list[Input]:
    """Leave out what an earlier run wrote into an output folder that lies below an input folder."""
    target = os.path.realpath(folder)
    literal = {"-", *named}
    if any(os.path.realpath(name) == target for name in named if name != "-"):
        return inputs
    below = os.path.join(target, "")
    return [i for i in inputs if str(i) in literal or not os.path.realpath(i).startswith(below)]
