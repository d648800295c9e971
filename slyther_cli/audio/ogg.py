"""Ogg, page by page: where pages are lost or streams are joined, which libsndfile passes over in silence.

Every page says how far the sound has come at its end, so what remains is put at its true place.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.audio.contents import Contents
from slyther_cli.audio.decoded import Decoded, FloatArray, conform
from slyther_cli.audio.resample import StreamResampler
from slyther_cli.errors import InputError

MARK = b"OggS\0"
HEAD = 27  # bytes before the table of segments
CONTINUED, FIRST, LAST = 1, 2, 4  # flags
NOWHERE = (1 << 64) - 1  # the position of a page in which no packet ends
REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
CODECS = ((b"\x01vorbis", "vorbis", 3), (b"OpusHead", "opus", 2), (b"\x7fFLAC", "flac", 1))
LARGEST_PACKET = 16 << 20  # bytes
VAIN = 1 << 29  # bytes of what looks like a page and is none, in all, before the rest is given up


@dataclass(frozen=True)
class Page:
    """``position``: samples up to the end of its last packet; ``table``: the sizes of its segments;
    ``lost``: bytes before it that are no page."""

    flags: int
    position: int
    serial: int
    number: int
    table: bytes
    body: bytes
    lost: int


@dataclass(frozen=True)
class Survey:
    """What a walk over the pages shows: ``links``, streams joined one after another; ``streams`` side by side
    in the first; ``damaged``: pages are lost; ``ended``: the last page is there; the first packet, which
    tells the codec."""

    links: int
    streams: int
    damaged: bool
    ended: bool
    first: bytes

    @property
    def readable(self) -> bool:
        """Whether :class:`Ogg` can decode it."""
        return self.streams == 1 and any(self.first.startswith(mark) for mark, _, _ in CODECS)


def checksum(page: bytes) -> int:
    """CRC of a page whose own is set to 0, as Ogg has it: zlib's, of bits in the other order."""
    crc = zlib.crc32(page.translate(REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(crc.to_bytes(4, "little").translate(REVERSED), "big")


def pages(data: Contents) -> Iterator[Page]:
    """All pages that are undamaged."""
    at = end = vain = 0
    while at >= 0 and vain < VAIN:
        page, size = _page(data, at, at - end)
        if page is None:
            vain += size
            at = data.find(MARK, at + 1)
            continue
        yield page
        at = end = at + size


def survey(data: Contents) -> Survey | None:
    """Walk over the pages. None: there are none."""
    links = streams = 0
    damaged, ended, first, beginning = False, False, b"", False
    numbers: dict[int, int] = {}
    for page in pages(data):
        ended = bool(page.flags & LAST)
        damaged |= page.lost > 0
        if page.flags & FIRST:
            first = first or page.body
            links += not beginning
            streams += links == 1
            numbers = numbers if beginning else {}
        else:
            damaged |= page.number != numbers.get(page.serial, page.number - 1) + 1
        numbers[page.serial] = page.number
        beginning = bool(page.flags & FIRST)
    return Survey(links, streams, damaged, ended, first) if numbers else None


def _page(data: Contents, at: int, lost: int) -> tuple[Page | None, int]:
    """The page at ``at`` and its size in bytes; None if it is damaged or none."""
    head = data[at : at + HEAD]
    if len(head) < HEAD or not head.startswith(MARK):
        return None, 0
    table = data[at + HEAD : at + HEAD + head[26]]
    size = HEAD + head[26] + sum(table)
    whole = data[at : at + size]
    if len(whole) < size:
        return None, 0
    blank = whole[:22] + bytes(4) + whole[26:]
    number = [int.from_bytes(head[a:b], "little") for a, b in ((6, 14), (14, 18), (18, 22), (22, 26))]
    if checksum(blank) != number[3]:
        return None, size
    body = whole[HEAD + head[26] :]
    return Page(head[5], number[0], number[1], number[2], table, body, lost), size


class _Link:
    """One stream of a chain: its packets, decoded."""

    def __init__(self, serial: int, first: bytes) -> None:
        self.serial = serial
        self.codec, self._count = next(
            ((name, count) for mark, name, count in CODECS if first.startswith(mark)), ("", 0)
        )
        self.rate, self.channels, self.skipped = _layout(first, self.codec)
        self._headers: list[bytes] = []
        self._decoder: Any = None
        self.at = 0  # samples that were given, at its own rate
        self.begun = False

    def decode(self, packet: bytes) -> list[FloatArray]:
        """The samples [n, channels] that a packet gives."""
        if len(self._headers) < self._count:
            self._headers.append(packet)
            return []
        if not packet or not self.codec or (self.codec == "flac" and packet[0] != 0xFF):
            return []
        from slyther_cli.audio.ffmpeg import av_module, failures, samples_of

        av = av_module()
        try:
            if self._decoder is None:
                self._decoder = av.CodecContext.create(self.codec, "r")
                self._decoder.extradata = _extradata(self.codec, self._headers)
            return [samples_of(frame) for frame in self._decoder.decode(av.Packet(packet))]
        except failures():
            return []

    def forget(self) -> None:
        """Packets were lost."""
        if self._decoder is not None and self._decoder.is_open:
            self._decoder.flush_buffers()


class Ogg(Decoded):
    """An Ogg file of Vorbis, Opus or FLAC whose pages are not all there, or with several streams joined.

    Raises InputError: it is damaged and ``strict``; OSError: it cannot be read.
    """

    format = "OGG"

    def __init__(self, path: Path, name: str, about: Survey, strict: bool = False) -> None:
        super().__init__(name, strict)
        first = _Link(0, about.first)
        self.samplerate, self.channels, self.subtype = first.rate, first.channels, first.codec.upper()
        if not first.rate or not first.channels:
            raise InputError(
                f"{name} is not a sound file that can be read, or is damaged: its header is wrong"
            )
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        if about.links > 1:
            self._tell(f"{about.links} Ogg streams joined: read one after the other")

    def close(self) -> None:
        super().close()
        if hasattr(self, "_file"):
            self._file.close()

    def _pieces(self) -> Iterator[FloatArray]:
        link: _Link | None = None
        held: bytes | None = None  # the beginning of a packet; None: its beginning is lost
        number = 0
        for page in pages(Contents(self._file.fileno())):
            if page.flags & FIRST:
                yield from self._rest()
                link, held, lost = _Link(page.serial, page.body), b"", False
            elif link is None or page.serial != link.serial:
                continue
            else:
                lost = page.number != number + 1
            number = page.number
            if lost:
                link.forget()
                held = None
            if not page.flags & CONTINUED or held is None:
                held = None if page.flags & CONTINUED else b""
            pieces = []
            for packet in _packets(page, held):
                if packet is not None:
                    pieces += link.decode(packet)
            held = _tail(page, held)
            yield from self._placed(link, page, pieces, lost)
        yield from self._rest()

    def _placed(self, link: _Link, page: Page, pieces: list[FloatArray], lost: bool) -> Iterator[FloatArray]:
        if not pieces or page.position == NOWHERE:
            return
        sound = np.concatenate([conform(piece, self.channels) for piece in pieces])
        start = page.position - link.skipped - len(sound)
        if not link.begun:
            link.begun = True
            if not lost and start > 0:  # a stream that was joined while it ran
                link.skipped += start
                start = 0
            sound, start = sound[max(0, -start) :], max(0, start)
        if start > link.at + 1:
            gap = start - link.at
            yield from self._rest()
            yield from self._silence(round(gap * self.samplerate / link.rate))
            link.at = start
        elif page.flags & LAST:
            sound = sound[: max(0, page.position - link.skipped - link.at)]
        link.at += len(sound)
        if len(sound):
            yield from self._give(sound, link.rate)

    _resampler: StreamResampler | None = None

    def _give(self, sound: FloatArray, rate: int) -> Iterator[FloatArray]:
        if rate != self.samplerate:
            self._tell("its sampling rate changes in mid-file: converted to that of its beginning")
            if self._resampler is None:
                self._resampler = StreamResampler(rate, self.samplerate, channels=self.channels)
            sound = self._resampler.push(sound.T).T
        if len(sound):
            yield self._sound(sound)

    def _rest(self) -> Iterator[FloatArray]:
        if self._resampler is not None:
            rest, self._resampler = self._resampler.flush().T, None
            if len(rest):
                yield self._sound(rest)


def _packets(page: Page, held: bytes | None) -> Iterator[bytes | None]:
    """The packets that end in a page; None for one whose beginning is lost."""
    at, start = 0, 0
    for size in page.table:
        at += size
        if size < 255:
            yield None if held is None else held + page.body[start:at]
            held, start = b"", at


def _tail(page: Page, held: bytes | None) -> bytes | None:
    """The beginning of a packet that ends in a later page."""
    if not page.table or page.table[-1] < 255:
        return b""
    ends = [i for i, size in enumerate(page.table) if size < 255]
    if ends:
        return page.body[sum(page.table[: ends[-1] + 1]) :]
    return held + page.body if held is not None and len(held) < LARGEST_PACKET else None


def _layout(first: bytes, codec: str) -> tuple[int, int, int]:
    """Rate in Hz, channels, samples that are left out at the beginning."""
    if codec == "vorbis" and len(first) >= 16:
        return int.from_bytes(first[12:16], "little"), first[11], 0
    if codec == "opus" and len(first) >= 12:
        return 48000, first[9], int.from_bytes(first[10:12], "little")
    if codec == "flac" and len(first) >= 51:
        word = int.from_bytes(first[27:31], "big")
        return word >> 12, (word >> 9 & 7) + 1, 0
    return 0, 0, 0


def _extradata(codec: str, headers: list[bytes]) -> bytes:
    """The headers as FFmpeg's decoder wants them."""
    if codec == "flac":
        return headers[0][17:51]
    if codec == "opus":
        return headers[0]
    laced = b"".join(b"\xff" * (len(h) // 255) + bytes([len(h) % 255]) for h in headers[:2])
    return b"\2" + laced + b"".join(headers)
