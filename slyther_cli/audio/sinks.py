"""What a stem is written into: a WAV file, a FLAC file, or raw samples to be converted later.

A sink owns an open, unbuffered file. ``write`` takes float32 [n]; ``finish`` writes what is missing and sends
it on its way to the disk; ``close`` waits until it is there; ``discard`` gives the file up and never raises.
All raise OSError when the disk fails.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from slyther_cli.audio import wav
from slyther_cli.audio.flac_comments import add_comments

FloatArray = npt.NDArray[np.float32]

COPY = 1 << 16  # samples read back at once
HELD = 1 << 20  # bytes of a stem that need no file
FAILURES = (soundfile.SoundFileError, AssertionError)  # soundfile asserts that all was written


class Scratch:
    """Raw float32 samples, to be read again: in memory while they are few, then in a file that ``create``
    makes."""

    def __init__(self, create: Callable[[], BinaryIO]) -> None:
        self._create, self._held, self._size = create, list[bytes](), 0
        self._file: BinaryIO | None = None

    def write(self, block: FloatArray) -> None:
        data = block.tobytes()
        if self._file is None:
            self._held.append(data)
            self._size += len(data)
            if self._size <= HELD:
                return
            self._file, data = self._create(), b"".join(self._held)
            self._held = []
        wav.write_all(self._file, data)

    def blocks(self) -> Iterator[FloatArray]:
        """All samples again, in blocks [n]."""
        if self._file is None:
            yield from (np.frombuffer(data, np.float32) for data in self._held)
            return
        self._file.seek(0)
        while data := self._file.read(4 * COPY):
            yield np.frombuffer(data, np.float32)

    def discard(self) -> None:
        self._held = []
        if self._file is not None:
            close_quietly(self._file)
            Path(self._file.name).unlink(missing_ok=True)


class Wav:
    """A WAV or RF64 file under a temporary name."""

    def __init__(
        self,
        file: BinaryIO,
        rate: int,
        subtype: str,
        frames: int | None,
        metadata: Mapping[str, str],
        growing: bool = False,
    ) -> None:
        self._file = file
        try:
            self._wav = wav.WavWriter(file, rate, subtype, frames, metadata, growing)
        except BaseException:
            self.discard()
            raise

    def write(self, block: FloatArray) -> None:
        self._wav.write(block)

    def cut(self, frames: int) -> None:
        """Forget what was written beyond so many samples."""
        self._wav.cut(frames)

    def finish(self) -> None:
        self._wav.finish()

    def close(self) -> None:
        self._wav.close()

    def discard(self) -> None:
        close_quietly(self._file)


class Flac:
    """A FLAC file under a temporary name, by libsndfile; every failure of it is an OSError here."""

    comments: Sequence[str] = ()
    """Vorbis comments beside the metadata, "KEY=value"; may be set until ``finish``."""

    def __init__(
        self, file: BinaryIO, path: Path, rate: int, subtype: str, metadata: Mapping[str, str]
    ) -> None:
        self._handle, self._path, self._frames = file, path, 0
        self._bits = 16 if subtype == "PCM_16" else 24
        try:
            self._file = soundfile.SoundFile(
                file.fileno(), "w", rate, 1, subtype, format="FLAC", closefd=False
            )
        except FAILURES as error:
            close_quietly(file)
            raise OSError(f"FLAC cannot be started ({' '.join(str(error).split())})") from None
        try:
            for key, value in metadata.items():
                setattr(self._file, key, value)
        except FAILURES as error:
            self.discard()
            raise OSError(f"FLAC metadata cannot be written ({' '.join(str(error).split())})") from None

    def write(self, block: FloatArray) -> None:
        whole = wav.to_integers(block, self._bits)
        data = whole.astype(np.int16) if self._bits == 16 else whole << 8
        try:
            self._file.write(data)
        except FAILURES:
            raise OSError("the FLAC encoder was cut short") from None
        self._frames += len(block)

    def finish(self) -> None:
        try:
            self._file.close()
        except FAILURES:
            raise OSError("the FLAC file did not come out whole") from None
        if self.comments:
            add_comments(self._handle, self.comments)
        wav.send_off(self._handle)

    def close(self) -> None:
        """Bring to the disk, and see that the last sample can be read again."""
        try:
            self._file.close()
            os.fsync(self._handle.fileno())
            if self._frames:
                with soundfile.SoundFile(os.fsencode(self._path)) as file:
                    file.seek(self._frames - 1)
                    if file.frames != self._frames or len(file.read(1)) != 1:
                        raise AssertionError
        except FAILURES:
            raise OSError("the FLAC file did not come out whole") from None
        finally:
            close_quietly(self._handle)

    def discard(self) -> None:
        with contextlib.suppress(*FAILURES):
            self._file.close()
        close_quietly(self._handle)


def close_quietly(file: BinaryIO) -> None:
    """Close a file that is given up, whatever the disk says."""
    with contextlib.suppress(OSError):
        file.close()
