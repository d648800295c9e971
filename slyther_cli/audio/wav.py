"""The WAV file format: what a header says, headers made right, and a writer that grows into RF64."""

import contextlib
import io
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

LIMIT = 2**32 - 2**16  # bytes of samples above which a plain RIFF header is not used
OPEN_END = 0x7FFF0000  # sizes from here up stand for "to the end": ffmpeg, sox, arecord streams

LEAST_MORE = 4096  # bytes behind the samples that are worth a look
CHUNKS = (b"LIST", b"bext", b"iXML", b"id3 ", b"ID3 ", b"cue ", b"smpl", b"JUNK", b"fact", b"_PMX", b"axml")

SAMPLE_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}
INFO_CHUNKS = {
    "title": b"INAM",
    "artist": b"IART",
    "comment": b"ICMT",
    "software": b"ISFT",
    "date": b"ICRD",
    "copyright": b"ICOP",
    "album": b"IPRD",
    "genre": b"IGNR",
}


@dataclass(frozen=True)
class WavHeader:
    """What a RIFF or RF64 file says of itself. Sizes and offsets are in bytes."""

    fmt: bytes  # the body of the fmt chunk
    data_at: int  # where the samples begin
    declared: int  # how long the header says that they are
    riff_size: int
    file_size: int

    @property
    def present(self) -> int:
        """Bytes from the first sample to the end of the file."""
        return self.file_size - self.data_at

    @property
    def block_align(self) -> int:
        """Bytes of one frame (all channels)."""
        return max(1, int.from_bytes(self.fmt[12:14], "little"))

    @property
    def open_ended(self) -> bool:
        """The size is a placeholder of a program that could not seek back to set it."""
        complete = abs(self.riff_size + 8 - self.file_size) <= 1
        return OPEN_END <= self.declared < 2**32 or (self.declared == 0 and not complete)

    @property
    def size(self) -> int:
        """How long the samples really are, as near as can be known."""
        if self.open_ended:
            return self.present
        if self.present >= 2**32 > self.declared:  # a size that wrapped around at 4 GiB
            return self.declared + ((self.present - self.declared) >> 32 << 32)
        return min(self.declared, self.present)


def read_header(file: BinaryIO) -> WavHeader | None:
    """The header of a WAV or RF64 file; None when it is no such file or has no samples chunk."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:12] != b"WAVE":
        return None
    riff_size = int.from_bytes(head[4:8], "little")
    fmt = b""
    long_data: int | None = None
    for _ in range(1000):
        chunk = file.read(8)
        if len(chunk) < 8:
            return None
        name, length = chunk[:4], int.from_bytes(chunk[4:], "little")
        at = file.tell()
        if name == b"ds64":
            body = file.read(16)
            riff_size, long_data = struct.unpack("<QQ", body.ljust(16, b"\0"))
        elif name == b"fmt ":
            fmt = file.read(min(length, 4096))
        elif name == b"data":
            if len(fmt) < 14:
                return None
            declared = long_data if long_data is not None and length == 0xFFFFFFFF else length
            return WavHeader(fmt, at, declared, riff_size, size)
        file.seek(at + length + length % 2)
    return None


def more_sound(file: BinaryIO, header: WavHeader) -> bool:
    """Whether the samples go on behind their declared end, and no chunks follow: a header that was never set
    right."""
    at = header.data_at + header.declared + header.declared % 2
    if header.file_size - at < LEAST_MORE:
        return False
    for _ in range(1000):
        file.seek(at)
        chunk = file.read(8)
        at += 8 + int.from_bytes(chunk[4:], "little")
        at += at % 2
        name = chunk[:4]
        if name in CHUNKS or len(chunk) < 8:
            return False
        if not all(0x20 <= byte < 0x7F for byte in name) or at > header.file_size + 1:
            return True
    return False


def make_header(
    fmt: bytes, data_size: int, *, room: bool = False, extra: int = 0, growing: bool = False
) -> bytes:
    """All bytes before the first sample. RF64 when ``data_size`` passes 4 GiB.

    ``room`` keeps a place of 36 bytes free in a short file, so that it has the length of a long one's
    header. ``extra`` counts the bytes of chunks behind the samples. ``growing``: the sizes are not known yet,
    and a reader takes all that there is.
    """
    long = data_size > LIMIT
    body = b"fmt " + struct.pack("<I", len(fmt)) + fmt
    if fmt[:2] != b"\x01\x00":
        frames = data_size // max(1, int.from_bytes(fmt[12:14], "little"))
        body += b"fact" + struct.pack("<II", 4, min(frames, 0xFFFFFFFF))
    riff = 4 + (36 if long or room else 0) + len(body) + 8 + data_size + data_size % 2 + extra
    if long:
        frames = data_size // max(1, int.from_bytes(fmt[12:14], "little"))
        body = b"ds64" + struct.pack("<IQQQI", 28, riff, data_size, frames, 0) + body
    elif room:
        body = b"JUNK" + struct.pack("<I", 28) + bytes(28) + body
    sizes = (0xFFFFFFFF, 0xFFFFFFFF) if long or growing else (riff, data_size)
    name = b"RF64" if long else b"RIFF"
    return name + struct.pack("<I", sizes[0]) + b"WAVE" + body + b"data" + struct.pack("<I", sizes[1])


def stream_header(rate: int, metadata: Mapping[str, str]) -> bytes:
    """The header of mono 16-bit samples of unknown length that go to a pipe; what they are told comes
    first."""
    fmt = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    header = make_header(fmt, 0, growing=True)
    return header[:-8] + _info_chunk(metadata) + header[-8:]


def to_integers(block: npt.NDArray[np.float32], bits: int) -> npt.NDArray[np.int32]:
    """Samples as integers: 1.0 is 2^(bits-1); rounded to the nearest, saturated, never wrapped."""
    top = 2 ** (bits - 1)
    scaled = np.rint(block.astype(np.float64) * top)
    return np.clip(scaled, -top, top - 1).astype(np.int32)


def to_bytes(block: npt.NDArray[np.float32], subtype: str) -> bytes:
    """Mono float32 samples as the bytes of a WAV file of this subtype."""
    if subtype == "FLOAT":
        return block.astype("<f4").tobytes()
    if subtype == "PCM_16":
        return to_integers(block, 16).astype("<i2").tobytes()
    wide = to_integers(block, 24).astype("<i4")
    return np.ascontiguousarray(wide.view(np.uint8).reshape(-1, 4)[:, :3]).tobytes()


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write every byte to an unbuffered file. Raises OSError when it cannot."""
    view = memoryview(data)
    while view:
        count = file.write(view)
        if not count:
            raise OSError("nothing could be written")
        view = view[count:]


class WavWriter:
    """Mono samples into an open, unbuffered, seekable binary file.

    With ``frames`` (the expected number) that stay below 4 GiB the header is the plain one of 44
    bytes; otherwise room for RF64 is kept and the header is chosen at ``close``, when the size is
    known. With ``growing`` the file can be read while it is written. Raises OSError on a failing
    disk, and when more was written than the header can say.
    """

    def __init__(
        self,
        file: BinaryIO,
        rate: int,
        subtype: str,
        frames: int | None = None,
        metadata: Mapping[str, str] | None = None,
        growing: bool = False,
    ) -> None:
        width = SAMPLE_BYTES[subtype]
        tag = 3 if subtype == "FLOAT" else 1
        self._fmt = struct.pack("<HHIIHH", tag, 1, rate, rate * width, width, 8 * width)
        if tag != 1:
            self._fmt += b"\0\0"
        self._room = frames is None or frames * width > LIMIT
        self._file, self._subtype, self._size, self._finished = file, subtype, 0, False
        self._info = _info_chunk(metadata or {})
        header = make_header(self._fmt, 0, room=self._room, growing=True)
        self._start = len(header)
        write_all(file, header if growing else bytes(self._start))

    def write(self, block: npt.NDArray[np.float32]) -> None:
        """Append float32 samples [n]."""
        data = to_bytes(block, self._subtype)
        write_all(self._file, data)
        self._size += len(data)

    def cut(self, frames: int) -> None:
        """Forget what was written beyond so many samples."""
        self._size = min(self._size, frames * SAMPLE_BYTES[self._subtype])
        self._file.seek(self._start + self._size)
        self._file.truncate()
        self._finished = False

    def finish(self) -> None:
        """Write the header; nothing may be written afterwards."""
        if self._size > LIMIT and not self._room:
            raise OSError("more samples than were announced: the file passes 4 GB")
        write_all(self._file, bytes(self._size % 2) + self._info)
        self._file.seek(0)
        header = make_header(self._fmt, self._size, room=self._room, extra=len(self._info))
        assert len(header) == self._start
        write_all(self._file, header)
        self._finished = True
        send_off(self._file)

    def close(self) -> None:
        """Bring everything to the disk."""
        if not self._finished:
            self.finish()
        os.fsync(self._file.fileno())
        self._file.close()


def send_off(file: BinaryIO) -> None:
    """Begin to bring a file to the disk, where the system can: several go at the same time."""
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _info_chunk(metadata: Mapping[str, str]) -> bytes:
    body = b""
    for key, value in metadata.items():
        text = value.encode("utf-8", "replace") + b"\0"
        body += INFO_CHUNKS[key] + struct.pack("<I", len(text)) + text + bytes(len(text) % 2)
    return b"LIST" + struct.pack("<I", 4 + len(body)) + b"INFO" + body if body else b""
