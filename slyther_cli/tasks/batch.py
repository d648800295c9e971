"""What every job over many recordings does before and after each of them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from slyther_cli.audio.discover import Input, shown
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Bytes, Source
from slyther_cli.errors import InputError, OutputError
from slyther_cli.tasks.resuming import check_source, is_unfinished


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
