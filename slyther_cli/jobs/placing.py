"""Where results go: the folders that were searched are mirrored below the output folder. And whether
anything is in the way there."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from slyther_cli.audio.discover import Input, is_pattern, shown
from slyther_cli.errors import OutputError
from slyther_cli.jobs.resume import check_source, is_unfinished


class Searched(NamedTuple):
    """A folder that was searched: its path, and what its results lie in below the output folder."""

    root: str
    below: Path

    def place(self, path: str) -> Path | None:
        """The folder for the results of ``path``, if that lies here. Both paths are absolute."""
        inside = path.startswith(os.path.join(self.root, ""))
        return self.below / Path(os.path.relpath(path, self.root)).parent if inside else None


def searched(named: Sequence[str]) -> list[Searched]:
    """The folders among what was named, and those that globs begin in. Of several folders each keeps its
    name, so that equal names in them do not meet."""
    folders, globs = dict[str, None](), list[Searched]()
    for name in named:
        if name == "-":
            continue
        if is_pattern(name):
            parts = Path(name).parts
            fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
            globs.append(Searched(os.path.abspath(Path(*parts[:fixed])), Path()))
        elif os.path.isdir(name):
            folders[os.path.abspath(name)] = None
    several = len(folders) > 1
    return [Searched(f, Path(os.path.basename(f) if several else "")) for f in folders] + globs


def folders_of(named: Sequence[str], inputs: Iterable[Input]) -> dict[Input, Path]:
    """For each input that was found in a folder, where its results go below the output folder; what was named
    itself is left out."""
    roots = searched(named)
    literal = {os.path.abspath(name) for name in named}
    found: dict[Input, Path] = {}
    for source in inputs if roots else ():
        path = os.path.abspath(source)
        if source == "-" or path in literal:
            continue
        place = next((at for root in roots if (at := root.place(path)) is not None), None)
        if place is not None:
            found[source] = place
    return found


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
