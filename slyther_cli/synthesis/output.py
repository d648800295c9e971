"""Where speech goes: a file, whole or not at all, or a stream that can be listened to while it is made."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from slyther_cli import __version__
from slyther_cli.audio import wav
from slyther_cli.audio.discover import shown
from slyther_cli.audio.sinks import close_quietly
from slyther_cli.audio.writer import Encoding, StemWriter
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.files import put_in_place

MARK = {
    "comment": "Synthetic speech: this voice was made by a computer",
    "software": f"slyther {__version__}",
    "genre": "Synthetic speech",
}
"""What every file says of itself."""


class Sink(Protocol):
    def write(self, samples: np.ndarray) -> None: ...

    def commit(self) -> None: ...

    def abort(self) -> None: ...


class Stream:
    """Samples to an open binary stream as they come: WAV with sizes left open, or bare 16-bit samples."""

    def __init__(self, file: BinaryIO, rate: int, raw: bool) -> None:
        self._file = file
        if not raw:
            self._file.write(wav.stream_header(rate, MARK))
            self._file.flush()

    def write(self, samples: np.ndarray) -> None:
        self._file.write(wav.to_bytes(samples, "PCM_16"))
        self._file.flush()

    def commit(self) -> None:
        self._file.flush()

    def abort(self) -> None:
        """What was said is said."""


class _RawFile(Stream):
    """Bare samples in a file, whole or not at all."""

    def __init__(self, path: Path, rate: int) -> None:
        self._path, self._partial = path, path.with_name(f".slyther-{secrets.token_hex(6)}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(open(self._partial, "xb"), rate, raw=True)  # noqa: SIM115 - closed below

    def write(self, samples: np.ndarray) -> None:
        with self._guarding():
            super().write(samples)

    def commit(self) -> None:
        with self._guarding():
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


def open_output(output: str, rate: int, format: str, subtype: str, raw: bool, replace: bool) -> Sink:
    """The sink of ``output``, "-" for standard output.

    Raises :class:`OutputError`: it is there and not to be replaced, or cannot be written;
    :class:`UsageError`.
    """
    if output == "-":
        if sys.stdout is None:
            raise OutputError("there is no standard output to write to")
        if format != "wav":
            raise UsageError("standard output takes wav or --output-raw only: name a file with -o")
        if subtype != "PCM_16":
            raise UsageError("standard output takes 16 bits: leave --subtype out, or name a file")
        return Stream(sys.stdout.buffer, rate, raw)
    path = Path(output)
    if os.path.lexists(path) and not replace:
        raise OutputError(f"{shown(output)} is there already: --force replaces it")
    if raw:
        if subtype != "PCM_16":
            raise UsageError("--output-raw is 16 bits: leave --subtype out")
        try:
            return _RawFile(path, rate)
        except OSError as error:
            raise OutputError(f"{shown(output)} cannot be written: {error.strerror}") from None
    return StemWriter(path, rate, encoding=Encoding(format, subtype), clip="clamp", metadata=MARK)
