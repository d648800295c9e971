"""What libsndfile would miss in a file, found before it is opened.

libsndfile believes headers: an unfinished or wrapped-around WAV size, an MP3 without (or with a wrong)
frame count, or Ogg streams joined one after another make it drop the end of a recording in silence.
``inspect`` looks for these and says how to open the file so that all of it is read.
"""

import io
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from slyther_cli.audio import wav
from slyther_cli.audio.contents import Contents
from slyther_cli.errors import InputError

Buffer = bytes | Contents

# Where a format that libsndfile cannot read shows itself: offset, bytes.
FOREIGN = (
    (4, b"ftyp"),  # MP4, M4A, MOV, 3GP
    (4, b"moov"),
    (4, b"mdat"),
    (0, b"\x1a\x45\xdf\xa3"),  # WebM, Matroska
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),  # WMA, ASF
    (0, b"#!AMR"),
    (0, b"\xff\xf1"),  # AAC
    (0, b"\xff\xf9"),
    (0, b"\x0b\x77"),  # AC-3
    (8, b"AVI "),
    (0, b"FLV\1"),
)
SOUNDLESS = ((0, b"MThd", "MIDI: notes, not sound"), (0, b"PK\x03\x04", "a ZIP archive: unpack it first"))
LARGEST_TAGS = 16 << 20  # bytes
BITRATES = {  # layer III, kbit/s
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MP3_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


@dataclass(frozen=True)
class Opening:
    """How to open a file: ``prefix`` in place of its first ``skip`` bytes; what is wrong with it.

    ``frames`` is the number of frames that really are in the file, where the decoder's own number
    may be wrong; ``loose`` is by how many frames it may be off. ``decoder``: what decodes the file in place
    of libsndfile, "ffmpeg".
    """

    prefix: bytes = b""
    skip: int = 0
    frames: int | None = None
    loose: int = 0
    notes: tuple[str, ...] = ()
    decoder: str = ""


class View(io.RawIOBase):
    """A file with other bytes in place of its beginning; read-only, for libsndfile's callbacks."""

    def __init__(self, path: Path, prefix: bytes, skip: int) -> None:
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        self._prefix, self._skip, self._at = prefix, skip, 0
        self._size = len(prefix) + max(os.fstat(self._file.fileno()).st_size - skip, 0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        wanted = len(buffer)
        if self._at < len(self._prefix):
            data = self._prefix[self._at : self._at + wanted]
        else:
            self._file.seek(self._at - len(self._prefix) + self._skip)
            data = self._file.read(wanted)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def inspect(path: Path, name: str) -> Opening:
    """How to open the non-empty regular file ``path``, called ``name`` in messages.

    Raises InputError for a format of another family and for joined Ogg streams; OSError when the
    file cannot be read.
    """
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
            header = wav.read_header(file)
            return _open_wav(header) if header else Opening()
        data = Contents(file.fileno())
        if head[:4] == b"OggS":
            return _open_ogg(data, name)
        for at, mark, what in SOUNDLESS:
            if head[at : at + len(mark)] == mark:
                raise InputError(f"{name} is {what}")
        if any(head[at : at + len(mark)] == mark for at, mark in FOREIGN):
            return Opening(decoder="ffmpeg")
        if head[:3] == b"ID3" or _mp3_frame(head, 0):
            return _open_mp3(data)
    return Opening()


def cut_short(log: str) -> str | None:
    """The note for a file that libsndfile's log (``extra_info``) shows to be shorter than it says."""
    for promised, present in re.findall(r": (\d+) \(should be (\d+)\)", log):
        if int(present) + 16 < int(promised) < wav.OPEN_END:
            return f"the file is cut short: {present} of {promised} bytes are there, and are read"
    return None


def _open_wav(header: wav.WavHeader) -> Opening:
    second = int.from_bytes(header.fmt[8:12], "little") or 1  # bytes of one
    size = header.size - header.size % header.block_align
    if header.open_ended and size > header.declared:
        prefix = wav.make_header(header.fmt, size)
        return Opening(prefix, header.data_at, notes=("the header has no length: read to the end",))
    if header.size > header.declared:
        prefix = wav.make_header(header.fmt, size)
        return Opening(prefix, header.data_at, notes=("the header's length is wrong beyond 4 GB: mended",))
    if not header.open_ended and header.declared > header.present:
        promised, present = header.declared / second, header.present / second
        return Opening(
            notes=(f"the file is cut short: its header promises {promised:.2f} s, {present:.2f} s are there",)
        )
    return Opening()


def _open_ogg(data: Contents, name: str) -> Opening:
    """Joined streams and huge tags are refused; a missing end mark is told. A page: OggS, 0, flags, position
    of the sound (8 bytes), ..."""
    at = 0
    while 0 <= at <= LARGEST_TAGS and data[at : at + 5] == b"OggS\0":  # pages before the first sound
        if 0 < int.from_bytes(data[at + 6 : at + 14], "little") < 1 << 63:
            break
        at = data.find(b"OggS\0", at + 5)
    if at > LARGEST_TAGS:
        raise InputError(
            f"{name} has more than {LARGEST_TAGS >> 20} MB of tags before its sound: remove them"
        )
    at = 0
    while data[at : at + 5] == b"OggS\0" and _byte(data, at + 5) & 2:  # the pages that begin streams
        at = data.find(b"OggS\0", at + 5)
        if at < 0:
            return Opening()
    for flags in (b"\x02", b"\x06"):
        if data.find(b"OggS\0" + flags, at) >= 0:
            raise InputError(
                f"{name} has several Ogg streams joined one after another, of which only the first "
                "could be read: convert it first, e.g. with ffmpeg, to WAV or FLAC"
            )
    last = data.rfind(b"OggS\0")
    if not _byte(data, last + 5) & 4:
        return Opening(notes=("the file has no end mark: it may be cut short",))
    return Opening()


def _byte(data: Buffer, at: int) -> int:
    found = data[at : at + 1]
    return found[0] if found else 0


def _mp3_frame(data: Buffer, at: int) -> tuple[int, int, int] | None:
    """(bytes, samples, rate) of the layer III frame whose header is at ``at``, if it is one."""
    head = data[at : at + 4]
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] & 6 != 2:
        return None
    version, speed, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or speed in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    hertz = MP3_RATES[version][rate]
    bitrate = BITRATES[1 if version == 3 else 2][speed] * 1000
    return samples // 8 * bitrate // hertz + (head[2] >> 1 & 1), samples, hertz


def _open_mp3(data: Contents) -> Opening:
    """Count the frames by walking over them, and compare with the count that the file states."""
    at = 0
    while data[at : at + 3] == b"ID3" and at + 10 <= len(data):
        size = data[at + 6 : at + 10]
        at += 10 + sum((byte & 127) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=False))
    tags = at if at > LARGEST_TAGS else 0  # the decoder would take them into memory
    first_at = at = _next_mp3(data, at, None)
    first = _mp3_frame(data, at)
    if first is None:
        return Opening()
    samples, rate = first[1], first[2]
    side = 4 + ((17, 9) if samples == 576 else (32, 17))[_byte(data, at + 3) >> 6 == 3]
    tagged = data[at + side : at + side + 4] in (b"Xing", b"Info")
    stated = None
    if tagged and _byte(data, at + side + 7) & 1:
        stated = int.from_bytes(data[at + side + 8 : at + side + 12], "big")
    elif data[at + 36 : at + 40] == b"VBRI":
        tagged, stated = True, int.from_bytes(data[at + 50 : at + 54], "big")
    if tagged:
        at = _next_mp3(data, at + first[0], rate)
    begin, count = at, 0
    while (frame := _mp3_frame(data, at)) is not None:
        if at + frame[0] > len(data):
            break
        count += 1
        at += frame[0]
        if _mp3_frame(data, at) is None:
            at = _next_mp3(data, at, rate)
    loose = 4 * samples
    if stated is not None and count + 2 < stated:
        note = f"the file is cut short: {count * samples / rate:.2f} s of {stated * samples / rate:.2f} s"
        return Opening(skip=tags, frames=count * samples, loose=loose, notes=(note,))
    if stated is None or count > stated + 2:
        notes = () if stated is None else ("joined MP3 files: read to the end of the last one",)
        prefix = _xing_frame(data[first_at : first_at + 4], count)
        return Opening(prefix, begin, frames=count * samples, loose=loose, notes=notes)
    return Opening(skip=tags, frames=count * samples, loose=loose)


def _next_mp3(data: Contents, at: int, rate: int | None) -> int:
    """The place of the next frame (of this rate) that another frame or the end of the file follows."""
    while (at := data.find(b"\xff", at)) >= 0:
        frame = _mp3_frame(data, at)
        if frame and rate in (None, frame[2]):
            behind = at + frame[0]
            if (
                behind >= len(data)
                or _mp3_frame(data, behind)
                or data[behind : behind + 3] in (b"TAG", b"ID3")
            ):
                return at
        at += 1
    return len(data)


def _xing_frame(header: bytes, count: int) -> bytes:
    """An empty frame like the one with ``header`` that states a number of frames."""
    head = bytes([header[0], header[1] | 1, header[2] & 0x0C | 0x90, header[3]])  # 128 or 80 kbit/s, no CRC
    frame = _mp3_frame(head, 0)
    assert frame is not None
    side = 4 + ((17, 9) if frame[1] == 576 else (32, 17))[head[3] >> 6 == 3]
    body = head + bytes(side - 4) + b"Xing" + struct.pack(">II", 1, count)
    return body.ljust(frame[0], b"\0")
