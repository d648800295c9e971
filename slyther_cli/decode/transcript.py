"""The files of one transcript on disk: written as the segments come; whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from slyther_cli.audio.discover import shown
from slyther_cli.decode.formats import make_format
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.files import make_folders, put_in_place, reason


class TranscriptWriter:
    """The transcript of one recording, in several formats side by side: all appear together, or none.

    ``paths``: one output file for each format name; missing folders are made.
    ``part``: the beginning of the temporary names, for a job that goes on after a kill: what the killed run
    left behind under them is replaced. ``options``: see :func:`slyther_cli.decode.formats.make_format`.

    Segments are written under temporary names in the folder of each output, brought to the disk, and
    renamed on ``commit``. ``abort``, an exception, or leaving the context without commit removes what
    was written, and folders that were made for it. Raises OutputError when a file cannot be written:
    nothing is left behind then.
    """

    def __init__(
        self, paths: Mapping[str, str | os.PathLike[str]], *, part: str | None = None, **options: Any
    ) -> None:
        self.paths = {name: Path(path) for name, path in paths.items()}
        if len({os.path.abspath(path) for path in self.paths.values()}) < len(self.paths):
            raise UsageError("two formats would be written to the same file")
        self._files: dict[str, tuple[Format, IO[str], Path]] = {}
        self._made: list[Path] = []  # folders
        self._open = True
        for name, path in self.paths.items():
            with self._guarding(path):
                if path.is_dir() or (path.exists() and not path.is_file()):
                    raise OutputError(f"{shown(path)} cannot be written: it is no ordinary file")
                self._made += make_folders(path.parent)
                form = make_format(name, folder=path.parent, **options)
                temporary = path.parent / f".{part or 'slyther-' + secrets.token_hex(6)}-{name}.part"
                if part:
                    temporary.unlink(missing_ok=True)
                file = open(temporary, "x", encoding="utf-8", newline="\n")  # noqa: SIM115
                self._files[name] = (form, file, temporary)
                file.write(form.head())

    def write(self, segment: Mapping[str, Any]) -> None:
        """Append one segment to all formats."""
        if not self._open:
            raise ValueError("write after commit or abort")
        for name, (form, file, _) in self._files.items():
            with self._guarding(self.paths[name]):
                file.write(form.add(segment))

    def commit(self) -> None:
        """Finish the files and give them their names."""
        if not self._open:
            raise ValueError("commit after commit or abort")
        for name, (form, file, _) in self._files.items():
            with self._guarding(self.paths[name]):
                file.writelines(form.tail())
                file.flush()
                os.fsync(file.fileno())
                file.close()
        finished = [(temporary, self.paths[name]) for name, (_, _, temporary) in self._files.items()]
        try:
            put_in_place(finished)
        except OSError as error:
            self.abort()
            raise _failure(Path(error.filename2), error) from None
        self._open = False

    def abort(self) -> None:
        """Remove everything that was written. Harmless when called again, or after commit."""
        if self._open:
            self._open = False
            for _, file, temporary in self._files.values():
                with contextlib.suppress(OSError):  # a full disk, when the rest is flushed
                    file.close()
                temporary.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody else put a file there
                for folder in reversed(self._made):
                    folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.abort()

    @contextlib.contextmanager
    def _guarding(self, path: Path) -> Any:
        """Whatever goes wrong inside: remove everything; a failing disk becomes one OutputError."""
        try:
            yield
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError):
                raise _failure(path, error) from None
            raise


def _failure(path: Path, error: OSError) -> OutputError:
    return OutputError(f"{shown(path)} cannot be written: {reason(error)}")
