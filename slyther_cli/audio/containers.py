"""What libsndfile would miss in a file, found before it is opened.

libsndfile believes headers: an unfinished or wrapped-around WAV size, an MP3 without (or with a wrong)
frame count, or Ogg streams joined one after another make it drop the end of a recording in silence.
``inspect`` looks for these and says how to open the file so that all of it is read.
"""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from slyther_cli.audio import mp3, ogg, wav
from slyther_cli.audio.contents import Contents
from slyther_cli.errors import InputError

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
    (0, b"\xff\xfc"),  # MPEG layer II
    (0, b"\xff\xfd"),
    (0, b"\xff\xf4"),
    (0, b"\xff\xf5"),
    (0, b"\x0b\x77"),  # AC-3
    (8, b"AVI "),
    (0, b"FLV\1"),
)
OTHERS = (b"fLaC", b"FORM", b".snd", b"caff", b"riff", b"Crea", b"NIST")  # whose samples may be anything
SOUNDLESS = ((0, b"MThd", "MIDI: notes, not sound"), (0, b"PK\x03\x04", "a ZIP archive: unpack it first"))
MP3_IN_WAV = b"\x55\0"
LARGEST_TAGS = 16 << 20  # bytes


@dataclass(frozen=True)
class Opening:
    """How to open a file: ``prefix`` in place of its first ``skip`` bytes; what is wrong with it.

    ``decoder``: what decodes the file in place of libsndfile, "ffmpeg", or "mp3" or "ogg" with what it is
    ``about``.
    """

    prefix: bytes = b""
    skip: int = 0
    notes: tuple[str, ...] = ()
    decoder: str = ""
    about: mp3.Survey | ogg.Survey | None = None


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
            if header and header.fmt[:2] == MP3_IN_WAV:
                return Opening(decoder="ffmpeg")
            return _open_wav(header, wav.more_sound(file, header)) if header else Opening()
        data = Contents(file.fileno())
        if head[:4] == b"OggS":
            return _open_ogg(data, name)
        for at, mark, what in SOUNDLESS:
            if head[at : at + len(mark)] == mark:
                raise InputError(f"{name} is {what}")
        if any(head[at : at + len(mark)] == mark for at, mark in FOREIGN):
            return Opening(decoder="ffmpeg")
        if head[:4] not in OTHERS and mp3.begins(data):
            return _open_mp3(data)
    return Opening()


def has_mp3(path: Path) -> bool:
    """Whether the file is MP3, which libsndfile is kept away from. Raises OSError."""
    with open(path, "rb") as file:
        head = file.read(4)
        known = head in (b"RIFF", b"RF64", b"OggS", *OTHERS)
        return not known and mp3.begins(Contents(file.fileno()))


def cut_short(log: str) -> str | None:
    """The note for a file that libsndfile's log (``extra_info``) shows to be shorter than it says."""
    for promised, present in re.findall(r": (\d+) \(should be (\d+)\)", log):
        if int(present) + 16 < int(promised) < wav.OPEN_END:
            return f"the file is cut short: {present} of {promised} bytes are there, and are read"
    return None


def _open_wav(header: wav.WavHeader, more: bool) -> Opening:
    second = int.from_bytes(header.fmt[8:12], "little") or 1  # bytes of one
    size = header.size - header.size % header.block_align
    if header.open_ended and size > header.declared:
        prefix = wav.make_header(header.fmt, size)
        return Opening(prefix, header.data_at, notes=("the header has no length: read to the end",))
    if header.size > header.declared:
        prefix = wav.make_header(header.fmt, size)
        return Opening(prefix, header.data_at, notes=("the header's length is wrong beyond 4 GB: mended",))
    if more and not header.open_ended:
        promised, present = header.declared / second, header.present / second
        size = header.present - header.present % header.block_align
        note = f"the header promises {promised:.2f} s, {present:.2f} s are there: read to the end"
        return Opening(wav.make_header(header.fmt, size), header.data_at, notes=(note,))
    if not header.open_ended and header.declared > header.present:
        promised, present = header.declared / second, header.present / second
        return Opening(
            notes=(f"the file is cut short: its header promises {promised:.2f} s, {present:.2f} s are there",)
        )
    return Opening()


def _open_ogg(data: Contents, name: str) -> Opening:
    """Huge tags are refused; a missing end mark is told. A page: OggS, 0, flags, position of the sound (8
    bytes), ..."""
    at = 0
    while 0 <= at <= LARGEST_TAGS and data[at : at + 5] == b"OggS\0":  # pages before the first sound
        if 0 < int.from_bytes(data[at + 6 : at + 14], "little") < 1 << 63:
            break
        at = data.find(b"OggS\0", at + 5)
    if at > LARGEST_TAGS:
        raise InputError(
            f"{name} has more than {LARGEST_TAGS >> 20} MB of tags before its sound: remove them"
        )
    about = ogg.survey(data)
    if about is None:
        return Opening()
    if about.damaged or about.links > 1:
        return Opening(decoder="ogg", about=about) if about.readable else Opening(decoder="ffmpeg")
    if not about.ended:
        return Opening(notes=("the file has no end mark: it may be cut short",))
    return Opening()


def _open_mp3(data: Contents) -> Opening:
    about = mp3.survey(data)
    return (
        Opening(decoder="mp3", about=about, notes=about.notes)
        if about is not None
        else Opening(decoder="ffmpeg")
    )
