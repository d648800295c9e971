"""Where speech goes: a file, whole or not at all, or a stream that can be listened to while it is made.

Marks of chapters are Vorbis comments in FLAC (CHAPTER001=00:00:00.000, CHAPTER001NAME=...), and chapters of
MP4 in M4B. WAV has the cue sheet alone (``chapters``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np

from slyther_cli import __version__
from slyther_cli.audio import wav
from slyther_cli.audio.discover import shown
from slyther_cli.audio.m4b import M4bWriter
from slyther_cli.audio.sinks import close_quietly
from slyther_cli.audio.writer import Encoding, StemWriter
from slyther_cli.decode.subtitles import timestamp
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.files import put_in_place
from slyther_cli.synthesis.options import M4B

MARK = {
    "comment": "Synthetic speech: this voice was made by a computer",
    "software": f"slyther {__version__}",
    "genre": "Synthetic speech",
}
"""What every file says of itself."""


MOST_MARKS = 999  # that Vorbis comments have numbers for


class Mark(NamedTuple):
    """Where a chapter begins, in seconds."""

    start: float
    title: str


class Sink(Protocol):
    def write(self, samples: np.ndarray) -> None: ...

    def commit(self, marks: Sequence[Mark] = ()) -> None: ...

    def abort(self) -> None: ...


class Stream:
    """Samples to an open binary stream as they come: WAV with sizes left open, or bare 16-bit samples."""

    def __init__(self, file: BinaryIO, rate: int, metadata: Mapping[str, str] | None = None) -> None:
        """``metadata`` None: bare samples."""
        self._file = file
        if metadata is not None:
            self._file.write(wav.stream_header(rate, metadata))
            self._file.flush()

    def write(self, samples: np.ndarray) -> None:
        self._file.write(wav.to_bytes(samples, "PCM_16"))
        self._file.flush()

    def commit(self, marks: Sequence[Mark] = ()) -> None:
        self._file.flush()

    def abort(self) -> None:
        """What was said is said."""


class _File(Stream):
    """Bare samples in a file, or with ``metadata`` an audiobook (M4B): whole or not at all."""

    def __init__(self, path: Path, rate: int, metadata: Mapping[str, str] | None = None) -> None:
        self._path, self._partial = path, path.with_name(f".slyther-{secrets.token_hex(6)}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(open(self._partial, "x+b"), rate)  # noqa: SIM115 - closed below
        self._m4b = None
        if metadata is not None:
            with self._guarding():
                self._m4b = M4bWriter(self._file, rate, metadata)

    def write(self, samples: np.ndarray) -> None:
        with self._guarding():
            if self._m4b is not None:
                self._m4b.write(samples)
            else:
                super().write(samples)

    def commit(self, marks: Sequence[Mark] = ()) -> None:
        with self._guarding():
            if self._m4b is not None:
                self._m4b.close(marks)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            put_in_place([(self._partial, self._path)])

    def abort(self) -> None:
        close_quietly(self._file)
        self._partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _guarding(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            raise OutputError(f"{shown(self._path)} cannot be written: {error.strerror}") from None


class _Stem:
    """WAV or FLAC, whole or not at all."""

    def __init__(self, path: Path, rate: int, encoding: Encoding, metadata: Mapping[str, str]) -> None:
        self._writer = StemWriter(path, rate, encoding=encoding, clip="clamp", metadata=metadata)

    def write(self, samples: np.ndarray) -> None:
        self._writer.write(samples)

    def commit(self, marks: Sequence[Mark] = ()) -> None:
        if self._writer.format == "flac":
            self._writer.comments = as_comments(marks)
        self._writer.commit()

    def abort(self) -> None:
        self._writer.abort()


def open_output(
    output: str, rate: int, encoding: Encoding, raw: bool, replace: bool, metadata: Mapping[str, str]
) -> Sink:
    """The sink of ``output``, "-" for standard output. ``metadata``: beside the mark that it is synthetic.

    Raises :class:`OutputError`: it is there and not to be replaced, or cannot be written;
    :class:`UsageError`.
    """
    metadata = {**MARK, **metadata}
    if output == "-":
        if sys.stdout is None:
            raise OutputError("there is no standard output to write to")
        if encoding.format != "wav":
            raise UsageError("standard output takes wav or --output-raw only: name a file with -o")
        if encoding.subtype != "PCM_16":
            raise UsageError("standard output takes 16 bits: leave --subtype out, or name a file")
        return Stream(sys.stdout.buffer, rate, None if raw else metadata)
    path = Path(output)
    if os.path.lexists(path) and not replace:
        raise OutputError(f"{shown(output)} is there already: --force replaces it")
    if raw and encoding.subtype != "PCM_16":
        raise UsageError("--output-raw is 16 bits: leave --subtype out")
    if not raw and encoding.format != M4B:
        return _Stem(path, rate, encoding, metadata)
    try:
        return _File(path, rate, None if raw else metadata)
    except OSError as error:
        raise OutputError(f"{shown(output)} cannot be written: {error.strerror}") from None


def as_comments(marks: Sequence[Mark]) -> list[str]:
    """Chapters as Vorbis comments.

    >>> as_comments([Mark(0.0, "Loomings"), Mark(3725.5, "The Carpet-Bag")])[2:]
    ['CHAPTER002=01:02:05.500', 'CHAPTER002NAME=The Carpet-Bag']
    """
    comments = []
    for number, mark in enumerate(marks, 1):
        comments.append(f"CHAPTER{number:03d}={timestamp(mark.start, hours=True, mark='.')}")
        comments.append(f"CHAPTER{number:03d}NAME={mark.title}")
    return comments
