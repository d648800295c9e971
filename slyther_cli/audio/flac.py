"""FLAC whose middle is damaged: what libsndfile gives up on goes on here, each frame at its place.

A frame begins with a header that bears its number and a checksum of its own, and ends with a checksum of all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli.audio.contents import Contents
from slyther_cli.audio.decoded import Decoded, FloatArray

TAIL = 1 << 18  # bytes in which the last frame is looked for
LONGEST_HEAD = 16  # bytes
LARGEST = 1 << 24  # bytes of a frame
SEARCHED = 1 << 18  # bytes in which the end of a frame before damage is looked for
BLOCKS = {1: 192, **{n: 576 << n - 2 for n in range(2, 6)}, **{n: 256 << n - 8 for n in range(8, 16)}}


class Frame(NamedTuple):
    """A header: where it lies, and the samples from ``start`` to ``end`` that are its own."""

    at: int
    start: int
    end: int


class Flac(Decoded):
    """A FLAC file from sample ``begin`` on. ``total``: samples that are surely there, or None.

    Raises OSError when it cannot be read.
    """

    format, subtype = "FLAC", ""

    def __init__(self, path: Path, name: str, begin: int, total: int | None) -> None:
        super().__init__(name)
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        self._data = Contents(self._file.fileno())
        self._at, self._total = begin, total
        self._searchable = 64 * SEARCHED  # in all: it is slow
        at = self._data.find(b"fLaC", 0) + 8
        self._about = self._data[at : at + 34]
        word = int.from_bytes(self._about[10:14], "big")
        self.samplerate, self.channels = word >> 12, (word >> 9 & 7) + 1

    def close(self) -> None:
        super().close()
        self._file.close()

    def _pieces(self) -> Iterator[FloatArray]:
        for frame, after in _pairs(_headers(self._data, _nominal(self._data))):
            if frame.end <= self._at or frame.start > (self._total or frame.start):
                continue
            sound = self._decoded(frame, after)
            if sound is None:
                continue
            if frame.start > self._at:
                yield from self._silence(frame.start - self._at)
            piece = sound[self._at - frame.start :]
            if self._total is not None:
                piece = piece[: self._total - self._at]
            if len(piece):
                yield self._sound(piece)
        if self._total is not None and self._at < self._total:
            yield from self._silence(self._total - self._at)

    def _decoded(self, frame: Frame, after: list[Frame]) -> FloatArray | None:
        """The frame's samples; None if it is damaged. It ends where one of the next two begins (the first of
        them may be none), or, before damage, where its checksum says."""
        ends = [each.at for each in after] or [len(self._data)]
        for end in ends:
            data = self._data[frame.at : min(end, frame.at + LARGEST)]
            if (sound := self._decode(data, frame)) is not None:
                return sound
        if after and after[0].start == frame.end:
            return None
        return self._cut(frame, ends[-1])

    def _cut(self, frame: Frame, end: int) -> FloatArray | None:
        data, crc = self._data[frame.at : min(end, frame.at + SEARCHED, frame.at + self._searchable)], 0
        self._searchable -= len(data)
        for i, byte in enumerate(data):
            crc = (crc << 8 & 0xFFFF) ^ CRC16[crc >> 8 ^ byte]
            if crc == 0 and i > LONGEST_HEAD:
                sound = self._decode(data[: i + 1], frame)
                if sound is not None:
                    return sound
        return None

    def _decode(self, data: bytes, frame: Frame) -> FloatArray | None:
        from slyther_cli.audio.ffmpeg import av_module, failures, samples_of

        av = av_module()
        codec: Any = av.CodecContext.create("flac", "r")
        codec.extradata, codec.options = self._about, {"err_detect": "crccheck+explode"}
        try:
            found = codec.decode(av.Packet(data))
        except failures():
            return None
        if len(found) != 1 or found[0].samples != frame.end - frame.start:
            return None
        return samples_of(found[0])


def reaches(path: Path, total: int) -> bool:
    """Whether the last frame of a FLAC file ends with sample number ``total``."""
    with open(path, "rb") as file:
        data = Contents(file.fileno())
        nominal, start = _nominal(data), max(0, len(data) - TAIL)
        tail = data[start : len(data)]
    at = len(tail)
    while (at := tail.rfind(b"\xff", 0, at)) >= 0:
        frame = _header(tail[at : at + LONGEST_HEAD], at, nominal)
        if frame is not None and frame.end >= total:
            return frame.end == total
    return False


def _headers(data: Contents, nominal: int) -> Iterator[Frame]:
    """All that look like headers of frames, by their checksums."""
    at = data.find(b"fLaC", 0)
    sync = None
    while (at := data.find(sync or b"\xff", at + 1)) >= 0:
        head = data[at : at + LONGEST_HEAD]
        frame = _header(head, at, nominal)
        if frame is not None:
            sync = sync or head[:2]
            yield frame


def _pairs(frames: Iterator[Frame]) -> Iterator[tuple[Frame, list[Frame]]]:
    """Each frame with the next two, or with the next one if that goes on where the frame ends."""
    held: list[Frame] = []
    for frame in frames:
        held.append(frame)
        if len(held) == 3:
            yield held[0], held[1:2] if held[1].start == held[0].end else held[1:]
            held = held[1:]
    for i, frame in enumerate(held):
        yield frame, held[i + 1 :]


def _nominal(data: Contents) -> int:
    """The samples of a frame, where all have as many."""
    at = data.find(b"fLaC", 0)
    return int.from_bytes(data[at + 8 : at + 10], "big")


def _header(head: bytes, at: int, nominal: int) -> Frame | None:
    """What the header ``head`` at ``at`` says; None if it is none."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8:
        return None
    number, width = _number(head[4:11])
    place = 4 + width
    code, extra = head[2] >> 4, head[2] & 15
    size = BLOCKS.get(code, 0)
    if code in (6, 7):
        size = int.from_bytes(head[place : place + code - 5], "big") + 1
        place += code - 5
    place += {12: 1, 13: 2, 14: 2}.get(extra, 0)
    if not width or not size or place >= len(head) or _crc8(head[:place]) != head[place]:
        return None
    start = number if head[1] & 1 else number * nominal
    return Frame(at, start, start + size)


def _number(head: bytes) -> tuple[int, int]:
    """A number coded as UTF-8 codes characters, and its width; 0 if it is none."""
    ones = next((i for i in range(8) if not head[0] & 0x80 >> i), 8)
    if ones == 0:
        return head[0], 1
    if ones in (1, 8) or len(head) < ones:
        return 0, 0
    value = head[0] & (0x7F >> ones)
    for byte in head[1:ones]:
        value = value << 6 | byte & 0x3F
    return value, ones


def _crc8(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ (0x07 if crc & 0x80 else 0)) & 0xFF
    return crc


def _crc16_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8005 if crc & 0x8000 else 0)) & 0xFFFF
        table.append(crc)
    return table


CRC16 = _crc16_table()
