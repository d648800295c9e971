"""Who works on an output, and what failed: two runs that share an output folder do nothing twice.

Locks are flock's, on a hidden file beside the outputs, so they end with the process that holds them. Across
machines they work where the file system has them (NFS 4, Lustre with -o flock, GPFS).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from slyther_cli import files
from slyther_cli.audio.discover import shown
from slyther_cli.errors import OutputError
from slyther_cli.files import Taken, whole
from slyther_cli.jobs.setup import describe_error

FAILURES = "slyther-failures.tsv"
HEAD = "path\tkind\tmessage\tfolder\n"


@contextlib.contextmanager
def claim(outputs: Sequence[Path], patience: float = 0.0) -> Iterator[list[str]]:
    """Hold the outputs of an input while it is worked on; wait for them so many seconds. Gives notes: what
    the user should know of it.

    Raises :class:`Taken`; OutputError when nothing can be written there.
    """
    if not outputs:
        yield []
        return
    path = _lock_of(outputs)
    made = _make(path.parent)
    try:
        end = time.monotonic() + patience
        while True:
            try:
                handle, notes = _lock(path, wait=False)
                break
            except Taken:
                if time.monotonic() >= end:
                    raise
                time.sleep(0.2)
        try:
            yield notes
        finally:
            _unlock(path, handle)
    finally:
        with contextlib.suppress(OSError):  # there are results in it, or others use it
            for folder in made:
                folder.rmdir()


@contextlib.contextmanager
def unused_goes(folders: Iterable[Path]) -> Iterator[None]:
    """What of ``folders`` was not there before and is empty afterwards is taken away: of several processes
    that worked there, none could know that it was the last."""
    every = {one for folder in set(folders) for one in (folder, *folder.parents)}
    missing = sorted((f for f in every if not os.path.lexists(f)), key=lambda f: -len(f.parts))
    try:
        yield
    finally:
        for one in missing:
            with contextlib.suppress(OSError):  # there are results in it
                one.rmdir()


def tidy(outputs: Sequence[Path]) -> None:
    """Take away the lock that a killed process left beside finished outputs."""
    if outputs and os.path.lexists(_lock_of(outputs)):
        with contextlib.suppress(Taken, OutputError), claim(outputs):
            pass


def abandoned(outputs: Sequence[Path]) -> None:
    """Take away what a killed process left of work that is given up: its lock, its unfinished files."""
    with contextlib.suppress(Taken, OutputError), claim(outputs):
        for folder in {path.parent for path in outputs}:
            for one in folder.glob(f".{part_name(outputs)}-*.part"):
                one.unlink(missing_ok=True)


def _lock_of(outputs: Sequence[Path]) -> Path:
    name = hashlib.sha256(os.fsencode(outputs[0].name)).hexdigest()[:16]
    return outputs[0].parent / f".slyther-{name}.lock"


def part_name(outputs: Sequence[Path]) -> str:
    """How the temporary files begin beside outputs that are claimed, the same in every run: what a killed one
    left is found and replaced."""
    names = b"\0".join(os.fsencode(path.absolute()) for path in outputs)
    return f"slyther-{hashlib.sha256(names).hexdigest()[:16]}"


def _make(folder: Path) -> list[Path]:
    """The folders that were missing, the deepest first."""
    try:
        return files.make_folders(folder)[::-1]
    except OSError as error:
        raise OutputError(
            f"{shown(Path(error.filename))} cannot be written: {str(error.strerror).lower()}"
        ) from None


def _lock(path: Path, wait: bool) -> tuple[int, list[str]]:
    while True:
        try:
            handle, locks = files.lock(path, wait=wait, mode=0o666)
        except FileNotFoundError:  # somebody took the empty folder away
            _make(path.parent)
            continue
        except OSError as error:
            raise OutputError(f"{shown(path)} cannot be written: {str(error.strerror).lower()}") from None
        none = "this file system has no locks: let no two runs share the output folder"
        return handle, [] if locks else [none]


def _unlock(path: Path, handle: int) -> None:
    path.unlink(missing_ok=True)
    os.close(handle)


class Failures:
    """slyther-failures.tsv in an output folder: the inputs that failed there and were not done since.

    It is a manifest: path, kind, message, and in which folder below this one the results go. Raises
    OutputError when it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FAILURES

    def add(self, source: str, error: Exception, folder: str = "") -> None:
        """Written at once, so that it is there even if the run is killed."""
        described = describe_error(error)
        row = (os.path.abspath(source), described["kind"], described["message"], folder)
        if any(c in cell for cell in row for c in "\t\n\r"):  # a name that no table can hold
            return
        with self._held():
            new = not self.path.exists()
            # not through a link that somebody put there
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with open(handle, "a", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
                file.write(HEAD * new + "\t".join(row) + "\n")

    def settle(self, sources: Sequence[str]) -> None:
        """These are done."""
        if self.path.exists():
            with self._held():
                rows = self._read()
                for source in sources:
                    rows.pop(os.path.abspath(source), None)
                self._write(rows)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        made = _make(self.path.parent)
        lock = self.path.with_name(f".{FAILURES}.lock")
        try:
            handle, _ = _lock(lock, wait=True)
            try:
                yield
            finally:
                _unlock(lock, handle)
        except OSError as error:
            raise OutputError(f"{shown(self.path)} cannot be written: {error.strerror}") from None
        finally:
            with contextlib.suppress(OSError):
                for folder in made:
                    folder.rmdir()

    def _read(self) -> dict[str, str]:
        """Path -> line."""
        try:
            text = self.path.read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return {}
        return {line.partition("\t")[0]: line for line in text.split("\n")[1:] if line}

    def _write(self, rows: dict[str, str]) -> None:
        if not rows:
            self.path.unlink(missing_ok=True)
            return
        how = {"encoding": "utf-8", "errors": "surrogateescape", "newline": "\n"}
        with whole(self.path, "w", part=f".{FAILURES}.part", **how) as file:
            file.write(HEAD + "".join(line + "\n" for line in rows.values()))
