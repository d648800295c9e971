"""Stems onto disk, block by block; whole or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from slyther_cli.audio import wav
from slyther_cli.audio.discover import shown
from slyther_cli.audio.sinks import Flac, Scratch, Wav
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.files import make_folders, put_in_place, sync_folder

FloatArray = npt.NDArray[np.float32]

SUBTYPES = {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}
BITS = {"16": "PCM_16", "24": "PCM_24", "float": "FLOAT"}
"""What users call the subtypes."""
CLIPS = ("rescale", "clamp", "none")
FLAC_HIGHEST_RATE = 655_350  # Hz
BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


class Encoding(NamedTuple):
    """What kind of file, and how samples lie in it."""

    format: str = "wav"
    subtype: str = "PCM_16"


WAV_16 = Encoding()


class StemGroup:
    """The stems of one input, written side by side: all of them appear together, or none does.

    ``paths``     one output file for each stem; missing folders are made.
    ``rate``      Hz. ``frames``: the expected length, if known; it decides whether a WAV header keeps
                  room to grow into RF64 (it does when frames is None or 4 GB are in sight).
    ``encoding``  the format, "wav" or "flac", and the subtype: "PCM_16", "PCM_24", or "FLOAT" (wav only).
    ``clip``      what happens to samples beyond full scale.
                  "rescale": all stems are scaled by the same factor, if the loudest needs it. The
                  levels are known at the end only, so float32 lies in memory, or beside the outputs when
                  it is more than 1 MB, until commit.
                  "clamp": they are cut to [-1, 1). "none": written as they are; integer subtypes
                  saturate, they never wrap.
    ``metadata``  title, artist, comment, software, date, copyright, album, genre, for all stems.
    ``part``      the beginning of the temporary names, for a job that goes on after a kill: what the killed
                  process left under them is replaced. Only one process may use it. By default new names.

    Samples are rounded to the nearest step without dither, so what came from 16 bits goes back to
    the same 16 bits. Samples that are not finite are written as 0, and told in ``notes``.

    Everything is written under temporary names in the folder of each output, brought to the disk,
    and renamed on ``commit``. ``abort``, an exception, or leaving the context without commit removes
    what was written. ``notes`` says in plain sentences what was done, complete after commit.

    Raises UsageError for senseless options; OutputError when a folder cannot be written, a path is
    a folder or a device, or the disk is full: nothing is left behind then.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        rate: int,
        *,
        encoding: Encoding = WAV_16,
        clip: str = "rescale",
        frames: int | None = None,
        metadata: Mapping[str, str] | None = None,
        part: str | None = None,
    ) -> None:
        self.paths = [Path(path) for path in paths]
        self.rate, (self.format, self.subtype), self.clip = rate, encoding, clip
        self.frames, self.metadata, self._part = frames, dict(metadata or {}), part
        _check_options(self)
        self.comments: Sequence[str] = ()  # Vorbis comments beside the metadata, for FLAC, until commit
        self.notes: list[str] = []
        self.frames_written = 0
        self.peak = 0.0  # of all stems so far; 1.0 is full scale
        self._over = self._damaged = 0
        self._made: list[Path] = []  # folders
        self._temporary: list[Path] = []
        self._sinks: list[Any] = []
        self._open = True
        try:
            for path in self.paths:
                self._make_folder(path)
                for i in range(2 * len(self.paths)) if part else ():
                    path.with_name(f".{part}-{i}.part").unlink(missing_ok=True)
            for path in self.paths:
                scratch = clip == "rescale"
                self._sinks.append(Scratch(partial(self._create, path)) if scratch else self._sink(path))
        except BaseException as error:
            self.abort()
            if isinstance(error, OSError):
                raise self._failure(path, error) from None
            raise

    def write(self, stems: FloatArray) -> None:
        """Append float32 samples [n_stems, n]."""
        stems = np.asarray(stems, np.float32)
        if not self._open:
            raise ValueError("write after commit or abort")
        if stems.ndim != 2 or len(stems) != len(self.paths):
            raise ValueError(f"expected stems of shape ({len(self.paths)}, n), not {stems.shape}")
        if not stems.shape[1]:
            return
        bad = ~np.isfinite(stems)
        if bad.any():
            self._damaged += int(bad.sum())
            stems = np.where(bad, np.float32(0), stems)
        self.peak = max(self.peak, float(np.abs(stems).max()))
        if self.clip != "rescale":
            self._over += int(((stems > 1) | (stems < -1)).sum())
            if self.clip == "clamp":
                stems = np.clip(stems, -1, BELOW_ONE)
        for path, sink, stem in zip(self.paths, self._sinks, stems, strict=True):
            with self._guarding(path):
                sink.write(np.ascontiguousarray(stem))
        self.frames_written += stems.shape[1]

    def commit(self, sync_names: bool = True) -> None:
        """Finish the files and give them their names. Without ``sync_names`` the names, of whole files, may
        be lost with a power cut; :func:`sync_folder` is for many at once."""
        if not self._open:
            raise ValueError("commit after commit or abort")
        if self.clip == "rescale":
            self._convert()
        count = len(self.paths)  # with "rescale", scratch files may come before them
        finals = self._temporary[-count:]
        sinks = list(zip(self.paths, self._sinks[-count:], strict=True))
        for path, sink in sinks:  # all of them, before the first is waited for
            with self._guarding(path):
                if self.comments:
                    sink.comments = self.comments
                sink.finish()
        for path, sink in sinks:
            with self._guarding(path):
                sink.close()
        self._publish(finals)
        if sync_names:
            for folder in {path.parent for path in self.paths}:
                sync_folder(folder)
        self._open = False
        self._made = []
        self.abort()  # only what is left
        self._tell()

    def abort(self) -> None:
        """Remove everything that was written. Harmless when called again, or after commit."""
        self._open = False
        for sink in self._sinks:
            sink.discard()
        for temporary in self._temporary:
            temporary.unlink(missing_ok=True)
        for folder in reversed(self._made):
            try:
                folder.rmdir()
            except OSError:
                break  # somebody else put a file there
        self._sinks, self._temporary, self._made = [], [], []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._open:
            self.abort()

    def _convert(self) -> None:
        """From float32 scratch files to the output format, at one common level."""
        top = {"PCM_16": 1 - 2**-15, "PCM_24": 1 - 2**-23, "FLOAT": 1.0}[self.subtype]
        factor = top / self.peak if self.peak > 1 else 1.0
        if factor != 1.0:
            self.notes.append(f"peak {self.peak:.4g}: all stems scaled by {factor:.2g}")
        for i, path in enumerate(self.paths):
            with self._guarding(path):
                source, sink = self._sinks[i], self._sink(path)
                self._sinks.append(sink)
                for block in source.blocks():
                    sink.write(block if factor == 1.0 else (block * factor).astype(np.float32))
                source.discard()

    def _publish(self, finals: Sequence[Path]) -> None:
        """Rename all; if one fails, those renamed before it go again."""
        try:
            put_in_place(zip(finals, self.paths, strict=True))
        except OSError as error:
            self.abort()
            raise self._failure(Path(error.filename2), error) from None

    def _tell(self) -> None:
        if self._damaged:
            self.notes.append(f"{_samples(self._damaged)} of the result not finite: written as silence")
        if self._over and self.clip == "clamp":
            self.notes.append(f"{_samples(self._over)} clamped (peak {self.peak:.4g})")
        elif self._over and self.subtype != "FLOAT":
            self.notes.append(f"{_samples(self._over)} saturated (peak {self.peak:.4g})")

    def _make_folder(self, path: Path) -> None:
        if path.is_dir():
            raise OutputError(f"{shown(path)} cannot be written: it is a folder")
        if path.exists() and not path.is_file():
            raise OutputError(f"{shown(path)} cannot be written: it is a device or a pipe")
        self._made += make_folders(path.parent)
        if not path.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        ours = os.access in os.supports_effective_ids
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=ours):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def _create(self, path: Path) -> BinaryIO:
        """A new temporary file in the folder of ``path``, unbuffered, with ordinary permissions."""
        name = f"{self._part}-{len(self._temporary)}" if self._part else f"slyther-{secrets.token_hex(6)}"
        temporary = path.parent / f".{name}.part"
        file = open(temporary, "x+b", buffering=0)  # noqa: SIM115 - closed by its sink
        self._temporary.append(temporary)
        return file  # type: ignore[return-value]

    def _sink(self, path: Path) -> Wav | Flac:
        file = self._create(path)
        if self.format == "flac":
            return Flac(file, self._temporary[-1], self.rate, self.subtype, self.metadata)
        return Wav(file, self.rate, self.subtype, self.frames, self.metadata)

    @contextlib.contextmanager
    def _guarding(self, path: Path) -> Iterator[None]:
        """Whatever goes wrong inside: remove everything; a failing disk becomes one OutputError."""
        try:
            yield
        except BaseException as error:
            failed = self._failure(path, error)
            self.abort()
            if isinstance(error, OSError):
                raise failed from None
            raise

    def _failure(self, path: Path, error: BaseException) -> OutputError:
        return OutputError(f"{shown(path)} cannot be written: {_reason(path, error)}")


class StemWriter(StemGroup):
    """One mono file, written as a :class:`StemGroup` of one: the same options, rules and errors."""

    def __init__(self, path: str | os.PathLike[str], rate: int, **options: Any) -> None:
        super().__init__([path], rate, **options)

    def write(self, stems: FloatArray) -> None:
        """Append float32 samples [n]."""
        stems = np.asarray(stems, np.float32)
        if stems.ndim != 1:
            raise ValueError(f"expected a block of shape (n,), not {stems.shape}")
        super().write(stems[np.newaxis])


def subtype_of(format: str, bits: str) -> str:
    """The subtype that ``bits``, a key of ``BITS``, is in a file of ``format``. Raises UsageError."""
    if format not in SUBTYPES:
        raise UsageError(f"the output format {format!r} is not known: {', '.join(SUBTYPES)}")
    choices = [name for name, subtype in BITS.items() if subtype in SUBTYPES[format]]
    if bits not in choices:
        raise UsageError(f"{format} output cannot be {bits!r}: choose one of {', '.join(choices)}")
    return BITS[bits]


def _check_options(group: StemGroup) -> None:
    if group.format not in SUBTYPES:
        raise UsageError(f"the output format {group.format!r} is not known: {', '.join(SUBTYPES)}")
    if group.subtype not in SUBTYPES[group.format]:
        choices = ", ".join(SUBTYPES[group.format])
        raise UsageError(f"{group.format} output cannot be {group.subtype!r}: choose one of {choices}")
    if group.clip not in CLIPS:
        raise UsageError(f"the clip mode {group.clip!r} is not known: {', '.join(CLIPS)}")
    unknown = [key for key in group.metadata if key not in wav.INFO_CHUNKS]
    if unknown:
        raise UsageError(f"metadata {unknown[0]!r} is not known: {', '.join(wav.INFO_CHUNKS)}")
    if not group.paths:
        raise UsageError("there is no output file to write")
    if len({os.path.abspath(path) for path in group.paths}) < len(group.paths):
        raise UsageError(f"two stems would be written to the same file {shown(group.paths[0])}")
    if group.format == "flac" and group.rate > FLAC_HIGHEST_RATE:
        raise OutputError(
            f"{shown(group.paths[0])} cannot be written: FLAC goes up to {FLAC_HIGHEST_RATE} Hz, choose wav"
        )


def _reason(path: Path, error: BaseException) -> str:
    code = getattr(error, "errno", None)
    if code is None:
        try:
            full = os.statvfs(path.parent).f_bavail == 0
        except (OSError, AttributeError):
            full = False
        return "no space left on the disk" if full else f"{error} (is the disk full?)"
    if code == errno.ENOSPC:
        return "no space left on the disk"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _samples(count: int) -> str:
    return "1 sample" if count == 1 else f"{count} samples"
