"""MP3, frame by frame: the frames that a file has, at their true places, whatever lies between them.

The frames are found here and decoded one by one by FFmpeg: libmpg123, behind libsndfile, gives up where bytes
are lost, closes the gap so that all that follows comes too early, and prints what it thinks on the terminal.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.audio.contents import Contents
from slyther_cli.audio.decoded import Decoded, FloatArray
from slyther_cli.errors import InputError

BITRATES = {  # layer III, kbit/s
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
DECODER_DELAY = 529  # samples, of every decoder
ID3V1 = 128  # bytes
SNIFFED, CERTAIN = 1 << 16, 4  # bytes before the first frame; frames in a row


@dataclass(frozen=True)
class Survey:
    """What a walk over an MP3 shows. ``begin``: the first frame of sound; ``frames`` of it, ``size`` bytes in
    all; ``lost`` bytes between them and ``junk`` bytes behind; ``stated``: the frames that the file tells of;
    ``delay`` and ``padding``: samples that the encoder put before and behind; ``headless``: the first frame
    needs one that is not there; ``joined``: several files; ``length`` of the file in bytes."""

    begin: int
    rate: int
    samples: int
    channels: int
    frames: int
    size: int
    lost: int
    junk: int
    stated: int | None
    delay: int
    padding: int
    headless: bool
    joined: bool
    length: int

    @property
    def missing(self) -> float:
        """Frames lost for every byte lost."""
        usual = self.frames / max(self.size, 1)
        absent = (self.stated or 0) - self.frames
        if self.lost and 0.5 * usual * self.lost <= absent <= 2 * usual * self.lost + 1:
            return absent / self.lost
        return usual

    @property
    def whole(self) -> int:
        """Frames, those that were lost between others included."""
        return self.frames + round(self.lost * self.missing)

    @property
    def notes(self) -> tuple[str, ...]:
        """What there is to say before anything is decoded."""
        second, notes = self.samples / self.rate, []
        if self.headless:
            notes.append("the file begins in the middle of an MP3: its first tenth of a second may be silent")
        if self.joined:
            notes.append("joined MP3 files: read to the end of the last one")
        elif self.cut:
            assert self.stated is not None
            notes.append(
                f"the file is cut short: {self.whole * second:.2f} s of {self.stated * second:.2f} s"
            )
        elif self.junk * self.frames > 2 * self.size:
            notes.append(f"{self.junk} bytes at its end are no sound: left out")
        return tuple(notes)

    @property
    def cut(self) -> bool:
        """Whether frames are missing at the end."""
        return self.stated is not None and self.whole + 2 < self.stated


def frame_at(data: Contents, at: int) -> tuple[int, int, int] | None:
    """(bytes, samples, rate) of the layer III frame whose header is at ``at``, if it is one."""
    return frame_of(data[at : at + 4])


def frame_of(head: bytes) -> tuple[int, int, int] | None:
    """The same of the header's four bytes."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0 or head[1] & 6 != 2:
        return None
    version, speed, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or speed in (0, 15) or rate == 3:
        return None
    samples = 1152 if version == 3 else 576
    hertz = RATES[version][rate]
    bitrate = BITRATES[1 if version == 3 else 2][speed] * 1000
    return samples // 8 * bitrate // hertz + (head[2] >> 1 & 1), samples, hertz


def begins(data: Contents) -> bool:
    """Whether tags of MP3 are there, or frames that follow each other, also where it begins within one."""
    head = data[0:4]
    if head[:3] == b"ID3" or frame_of(head):
        return True
    at = _next_frame(data, _after_tags(data, 0), None)
    if at > SNIFFED:
        return False
    for _ in range(CERTAIN):
        frame = frame_at(data, at)
        if frame is None:
            return at >= len(data)
        at += frame[0]
    return True


def survey(data: Contents) -> Survey | None:
    """Walk over the frames. None: there are none."""
    at = _after_tags(data, 0)
    first_at = _next_frame(data, at, None)
    first = frame_at(data, first_at)
    if first is None:
        return None
    size, samples, rate = first
    stated, delay, padding = _stated(data, first_at)
    begin = _next_frame(data, first_at + size, rate) if stated is not None else first_at
    frames = total = lost = 0
    end, joined = begin, False
    for found, length, gap, tag in walk(data, begin, rate):
        end = found + length
        joined |= tag
        if not tag:
            lost += gap if frames else 0
            frames, total = frames + 1, total + length
    if not frames:
        return None
    joined |= stated is not None and 0 < stated < frames - 2
    junk = len(data) - _after_tags(data, end)
    if delay + padding >= frames * samples:
        delay = padding = 0
    mono = data[first_at + 3 : first_at + 4] >= b"\xc0"
    headless = stated is None and _reservoir(data, begin) > 0
    channels = 1 if mono else 2
    return Survey(
        begin, rate, samples, channels, frames, total, lost, junk, stated, delay, padding, headless, joined,
        len(data),
    )  # fmt: skip


def walk(data: Contents, at: int, rate: int) -> Iterator[tuple[int, int, int, bool]]:
    """(place, bytes, bytes lost before it, whether it only tells of the file) of all frames from ``at``."""
    end = at
    while True:
        frame = frame_at(data, at)
        if frame is None or frame[2] != rate:
            end = at = _after_tags(data, at)  # files joined
            at = _next_frame(data, at, rate)
            frame = frame_at(data, at)
        if frame is None or at + frame[0] > len(data):
            return
        yield at, frame[0], at - end, _stated(data, at)[0] is not None
        end = at = at + frame[0]


class Mp3(Decoded):
    """An MP3 file. Raises OSError when it cannot be read; InputError when it is damaged and ``strict``, or is
    no longer what the survey saw."""

    format, subtype = "MP3", "MPEG_LAYER_III"

    def __init__(self, path: Path, name: str, about: Survey, strict: bool = False) -> None:
        super().__init__(name, strict)
        self._about = about
        self._file = open(path, "rb")  # noqa: SIM115 - closed in close()
        if os.fstat(self._file.fileno()).st_size != about.length:
            self._file.close()
            raise InputError(f"{name} has changed while it was read")
        self.samplerate, self.channels = about.rate, about.channels
        padding = 0 if about.cut else about.padding
        self.frames = max(about.whole * about.samples - about.delay - padding, 1)
        self._skip = about.delay

    def close(self) -> None:
        super().close()
        self._file.close()

    def _pieces(self) -> Iterator[FloatArray]:
        if self._about.headless:
            self._refuse_if_strict()
        data, about = Contents(self._file.fileno()), self._about
        codec, begun, lost = _decoder(), False, 0
        for at, size, gap, tag in walk(data, about.begin, about.rate):
            if tag:
                continue
            if gap and begun:
                frames = round((lost + gap) * about.missing) - round(lost * about.missing)
                lost += gap
                codec = _decoder()
                yield from self._fill(frames * about.samples)
            begun = True
            piece = _decoded(codec, data[at : at + size])
            yield from self._fill(about.samples) if piece is None else self._give(piece[: about.samples])

    def _give(self, piece: FloatArray) -> Iterator[FloatArray]:
        """Without what lies before the beginning and behind the end."""
        skip = min(self._skip, len(piece))
        self._skip -= skip
        assert self.frames is not None
        piece = piece[skip : skip + self.frames - self._at]
        if len(piece):
            yield self._sound(piece)

    def _fill(self, count: int) -> Iterator[FloatArray]:
        skip = min(self._skip, count)
        self._skip -= skip
        assert self.frames is not None
        count = min(count - skip, self.frames - self._at)
        if count > 0:
            yield from self._silence(count)


def _decoder() -> Any:
    from slyther_cli.audio.ffmpeg import av_module

    return av_module().CodecContext.create("mp3float", "r")


def _decoded(codec: Any, frame: bytes) -> FloatArray | None:
    """The samples [n, channels] of one frame; None where it is damaged."""
    from slyther_cli.audio.ffmpeg import av_module, failures, samples_of

    try:
        found = codec.decode(av_module().Packet(frame))
    except failures():
        return None
    return np.concatenate([samples_of(each) for each in found]) if found else None


def _after_tags(data: Contents, at: int) -> int:
    """Behind the ID3 and APE tags that begin at ``at``."""
    while True:
        head = data[at : at + 32]
        if head[:3] == b"ID3" and len(head) >= 10:
            at += 10 + sum((b & 127) << s for b, s in zip(head[6:10], (21, 14, 7, 0), strict=True))
        elif head[:3] == b"TAG":
            at += ID3V1
        elif head[:8] == b"APETAGEX" and len(head) == 32:
            at += 32 + int.from_bytes(head[12:16], "little")
        else:
            return min(at, len(data))


def _stated(data: Contents, at: int) -> tuple[int | None, int, int]:
    """(frames, delay, padding) where the frame at ``at`` only tells of the file; frames None: it is sound."""
    frame = frame_at(data, at)
    if frame is None:
        return None, 0, 0
    side = at + 4 + _side(data[at + 3 : at + 4], frame[1])
    if data[side : side + 4] in (b"Xing", b"Info"):
        flags = int.from_bytes(data[side + 4 : side + 8], "big")
        count = int.from_bytes(data[side + 8 : side + 12], "big") if flags & 1 else 0
        lame = side + 8 + sum(size for bit, size in ((1, 4), (2, 4), (4, 100), (8, 4)) if flags & bit)
        ends = data[lame + 21 : lame + 24]
        if data[lame : lame + 4].isalnum() and lame + 24 <= at + frame[0]:
            delay, padding = ends[0] << 4 | ends[1] >> 4, (ends[1] & 15) << 8 | ends[2]
            return count, delay + DECODER_DELAY, max(0, padding - DECODER_DELAY)
        return count, 0, 0
    if data[at + 36 : at + 40] == b"VBRI":
        return int.from_bytes(data[at + 50 : at + 54], "big"), 0, 0
    return None, 0, 0


def _side(mode: bytes, samples: int) -> int:
    """Bytes of side information; ``mode`` is the header's last byte."""
    mono = mode >= b"\xc0"
    return (9 if mono else 17) if samples == 576 else (17 if mono else 32)


def _reservoir(data: Contents, at: int) -> int:
    """Bytes of earlier frames that the frame at ``at`` needs."""
    head = data[at : at + 8]
    if len(head) < 8:
        return 0
    side = head[4:6] if head[1] & 1 else head[6:8]  # behind a checksum
    bits = int.from_bytes(side, "big")
    return bits >> 7 if head[1] >> 3 & 3 == 3 else bits >> 8


def _next_frame(data: Contents, at: int, rate: int | None) -> int:
    """The place of the next frame (of this rate) that another frame or the end of the file follows."""
    while (at := data.find(b"\xff", at)) >= 0:
        frame = frame_at(data, at)
        if frame and rate in (None, frame[2]):
            behind = at + frame[0]
            follows = frame_at(data, behind)
            if (
                behind >= len(data)
                or (follows and follows[2] == frame[2])
                or data[behind : behind + 3] in (b"TAG", b"ID3")
            ):
                return at
        at += 1
    return len(data)
