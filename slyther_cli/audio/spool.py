"""Streams that cannot be read twice (stdin, pipes) are put into a temporary file first."""

import glob
import os
import re
import stat
import sys
import weakref
from pathlib import Path
from typing import Protocol

from slyther_cli.audio.discover import shown
from slyther_cli.errors import InputError, OutputError
from slyther_cli.runtime import temporary_folder

CHUNK = 1 << 20


class Bytes(Protocol):
    """What is needed of a stream: at most ``size`` bytes, none at the end; ``read1`` gives what is there."""

    def read(self, size: int, /) -> bytes: ...
    def read1(self, size: int, /) -> bytes: ...


class Rejoined:
    """A stream whose first bytes were read already, whole again."""

    def __init__(self, head: bytes, stream: Bytes) -> None:
        self._head, self._stream = head, stream

    def read(self, size: int, /) -> bytes:
        head, self._head = self._head[:size], self._head[size:]
        return head + self._stream.read(size - len(head)) if len(head) < size else head

    def read1(self, size: int, /) -> bytes:
        if not self._head:
            return self._stream.read1(size)
        head, self._head = self._head[:size], self._head[size:]
        return head


def standard_input() -> Bytes:
    """The bytes of stdin. Raises InputError when there are none to read."""
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("standard input is closed")
    if sys.stdin.isatty():
        raise InputError("standard input is a terminal: pipe a sound file into it, or name a file")
    return sys.stdin.buffer  # type: ignore[return-value]


class Source:
    """A regular file to read: the one named, or a temporary copy of stdin or of a pipe.

    ``path`` is the file, ``name`` what messages call it; "-" is standard input, or the ``stream``
    given for it. ``close`` removes a temporary copy (so does the end of the process). Raises
    InputError when there is nothing to read, OutputError when the temporary copy cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        work_dir: str | os.PathLike[str] | None = None,
        stream: Bytes | None = None,
    ) -> None:
        self._remove: weakref.finalize | None = None
        if os.fspath(path) == "-":
            self.name = "standard input"
            self.path = self._spool(stream or standard_input(), work_dir)
        else:
            self.path, self.name = Path(path), shown(path)
            try:
                self._look(work_dir)
            except OSError as error:
                if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", os.fspath(path)):
                    url = re.sub(":/+", "://", self.name, count=1)
                    raise InputError(f"{url}: URLs are not read: download it first") from None
                if isinstance(error, FileNotFoundError) and glob.has_magic(os.fspath(path)):
                    raise InputError(f"nothing matches the pattern {self.name}") from None
                raise InputError(f"{self.name} cannot be read: {_reason(error)}") from None
            except ValueError:
                raise InputError(f"{self.name} is not a possible file name") from None
        if not self.path.stat().st_size:
            self.close()
            raise InputError(f"{self.name} is empty (0 bytes)")

    def _look(self, work_dir: str | os.PathLike[str] | None) -> None:
        mode = os.stat(self.path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{self.name} is a folder with no audio files in it, or that cannot be listed")
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            with open(self.path, "rb") as stream:
                self.path = self._spool(stream, work_dir)
        elif not stat.S_ISREG(mode):
            raise InputError(f"{self.name} is a device, not a sound file")
        else:
            with open(self.path, "rb"):
                pass

    def _spool(self, stream: Bytes, work_dir: str | os.PathLike[str] | None) -> Path:
        folder = Path(work_dir or temporary_folder())
        path = folder.absolute() / f"slyther-stdin-{os.urandom(8).hex()}"
        self._remove = weakref.finalize(self, _unlink, path)  # first: a signal may come at any moment
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._remove.detach()
            raise OutputError(
                f"no temporary file in {shown(folder)} for {self.name}: {_reason(error)}"
            ) from None
        try:
            with open(handle, "wb") as file:
                while True:
                    try:
                        chunk = stream.read(CHUNK)
                    except OSError as error:
                        raise InputError(f"{self.name} cannot be read: {_reason(error)}") from None
                    if not chunk:
                        return path
                    file.write(chunk)
        except OSError as error:
            self.close()
            raise OutputError(
                f"{self.name} does not fit into {shown(folder)}: {_reason(error)}; name another work folder"
            ) from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Remove the temporary copy, if there is one."""
        if self._remove is not None:
            self._remove()


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
