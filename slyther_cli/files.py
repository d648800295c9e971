"""Files of ours: written whole or not at all, locked, and in folders that nobody else can reach into.

Work folders lie in places that others may write to (``--work-dir``, a shared cache): what others put there, a
folder of theirs, a link, a pipe, is refused and never followed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from slyther_cli.errors import OutputError, escaped

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
LOCK = "lock"  # the file in a work folder
WENT_ON = "went on from the work of an earlier run"
DAMAGED = "the kept work was damaged ({}): it was thrown away, and all done anew"
"""What the user is told of kept work."""


class Taken(Exception):
    """Another process holds the lock."""


def reason(error: BaseException) -> str:
    """Why a file cannot be written, in words for a user."""
    if getattr(error, "errno", None) == errno.ENOSPC:
        return "no space left on the disk"
    return (getattr(error, "strerror", None) or str(error)).lower()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def whole(path: Path, mode: str = "wb", *, part: str | None = None, **options: Any) -> Iterator[IO[Any]]:
    """A file to write, which gets the name ``path`` when it is complete and on the disk, or never. ``mode``
    and ``options``: of ``open``. ``part``: its name until then, for one that only one process writes: what a
    killed one left is replaced. Raises OSError."""
    temporary = path.parent / (part or f".slyther-{secrets.token_hex(6)}.part")
    if part:
        temporary.unlink(missing_ok=True)
    try:
        with open(temporary, mode.replace("w", "x"), **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def put_in_place(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Rename each temporary file to its name; if one cannot be, those that were not there before go again.
    Raises OSError, its ``filename2`` the name at fault."""
    fresh: list[Path] = []
    for temporary, path in pairs:
        new = not os.path.lexists(path)
        try:
            os.replace(temporary, path)
        except BaseException as error:
            for done in fresh:
                done.unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename2 = path
            raise
        if new:
            fresh.append(path)


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it. Returns those that were missing, the uppermost first. Raises
    OSError."""
    missing: list[Path] = []
    while not folder.exists():
        missing.insert(0, folder)
        folder = folder.parent
    for new in missing:
        new.mkdir(exist_ok=True)
    return missing


def sync_folder(folder: Path) -> None:
    """Bring the new names in a folder to the disk, where the system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def lock(path: str | Path, *, folder: int | None = None, wait: bool = False, mode: int) -> tuple[int, bool]:
    """A descriptor of the file ``path``, in the open ``folder`` if given, made if it is missing and locked
    until it is closed; and whether this file system has locks at all. Raises Taken, OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        handle = os.open(path, flags, mode, dir_fd=folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path, dir_fd=folder)):
                    return handle, True
        except BlockingIOError:
            os.close(handle)
            raise Taken from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                return handle, False
            os.close(handle)
            raise
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # who had it removed the file


def hold(folder: Path) -> int:
    """A descriptor that says, until it is closed or the process ends, that somebody works in ``folder``
    (:func:`is_held`). Raises OSError."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):  # no locks here
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def is_held(folder: Path) -> bool:
    """Whether somebody works in ``folder``. Raises OSError."""
    probe = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(probe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(probe)
    return False


class WorkFolder:
    """A folder of this user alone, made if it is missing, and locked until ``close`` or the process's end.

    Its files are reached by the open folder, so that nobody can put another one in its place meanwhile.
    Raises :class:`Taken`: another process works there; :class:`OutputError`: it is a link or belongs to
    somebody else, a file in it does, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = self._lock = -1
        try:
            while not self._take():
                self.close()  # who ended the work removed the folder under us
        except OSError as error:
            self.close()
            raise OutputError(f"{escaped(str(path))}: cannot hold the work files: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def _take(self) -> bool:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700)
            self._handle = self._open()
            self._lock, _ = lock(LOCK, folder=self._handle, mode=0o600)
            return os.path.samestat(os.fstat(self._handle), os.lstat(self.path))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        if stat.S_ISLNK(os.lstat(self.path).st_mode):
            raise self._foreign(self.path)
        handle = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        status = os.fstat(handle)
        if status.st_uid != os.geteuid():
            os.close(handle)
            raise self._foreign(self.path)
        if status.st_mode & 0o077:
            with contextlib.suppress(OSError):  # a file system without modes
                os.fchmod(handle, 0o700)
        return handle

    def _foreign(self, path: Path) -> OutputError:
        return OutputError(f"{escaped(str(path))} is not ours: choose another --work-dir")

    def open(self, name: str, flags: int) -> int:
        """A descriptor of a file in it, for this user alone if it is made. Raises OSError, OutputError."""
        safe = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            handle = os.open(name, flags & ~os.O_TRUNC | safe, 0o600, dir_fd=self._handle)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise self._foreign(self.path / name) from None
            raise
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink > 1:
            os.close(handle)
            raise self._foreign(self.path / name)
        if flags & os.O_TRUNC:
            os.ftruncate(handle, 0)
        return handle

    def has(self, name: str) -> bool:
        """Whether a file of that name is there."""
        with contextlib.suppress(FileNotFoundError):
            return stat.S_ISREG(os.stat(name, dir_fd=self._handle, follow_symlinks=False).st_mode)
        return False

    def read(self, name: str) -> bytes | None:
        """All of a file, None if it is not there. Raises OSError, OutputError."""
        try:
            with open(self.open(name, os.O_RDONLY), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """A file, whole or not at all, and on the disk afterwards. Raises OSError, OutputError."""
        self.remove(f"{name}.new")  # of a killed process
        with open(self.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(f"{name}.new", name, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        os.fsync(self._handle)

    def remove(self, *names: str) -> None:
        """Files in it, in that order; those that are there. Raises OSError."""
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self._handle)

    def clear(self) -> None:
        """All that is in it but the lock. Raises OSError."""
        for name in os.listdir(self._handle):
            if name != LOCK:
                try:
                    os.unlink(name, dir_fd=self._handle)
                except (IsADirectoryError, PermissionError):  # whichever the system says of a folder
                    shutil.rmtree(name, dir_fd=self._handle)

    def end(self) -> None:
        """The work is done: the folder goes, unless somebody put a file of theirs there; ``close``."""
        with contextlib.suppress(OSError):
            self.remove(LOCK)
            os.rmdir(self.path)
        self.close()

    def close(self) -> None:
        """Leave the work as it is. Harmless when called again."""
        for handle in (self._lock, self._handle):
            if handle >= 0:
                os.close(handle)
        self._handle = self._lock = -1
