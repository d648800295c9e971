"""Where results go below the output folder: the folders that were searched are mirrored there."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from slyther_cli.audio.discover import Input, is_pattern


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
