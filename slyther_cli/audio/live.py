"""Sound as it comes: WAV or raw samples from a stream that is heard while it arrives, and never kept."""

import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from slyther_cli.audio import wav
from slyther_cli.audio.discover import shown
from slyther_cli.audio.layout import channel_number, check_layout, conversion_notes
from slyther_cli.audio.outliers import BoundedLive
from slyther_cli.audio.reader import Tally
from slyther_cli.audio.resample import StreamResampler
from slyther_cli.audio.spool import Bytes, Rejoined
from slyther_cli.errors import InputError, UsageError

FloatArray = npt.NDArray[np.float32]

READ = 1 << 16  # bytes at once, at most
PIECE = 256  # samples that the resamplers collect; fewer is less delay and more work
LONGEST_HEAD = 1 << 20  # bytes before the first sample
RAW_TYPES = {"u8": (1, 8), "s16": (1, 16), "s24": (1, 24), "s32": (1, 32), "f32": (3, 32), "f64": (3, 64)}
EXTENSIBLE = 0xFFFE


def raw_header(text: str) -> bytes:
    """The header of a WAV stream of unknown length for RATE[:CHANNELS[:TYPE]], as 16000 or 48000:2:f32.

    TYPE is one of RAW_TYPES, little endian; s16 if it is left out. Raises UsageError.
    """
    rate, _, rest = text.partition(":")
    channels, _, kind = rest.partition(":")
    kind = kind or "s16"
    if not rate.isdecimal() or not (channels or "1").isdecimal() or kind not in RAW_TYPES:
        raise UsageError(
            f"raw sound {shown(text)!r} is not RATE[:CHANNELS[:TYPE]] with a type of {', '.join(RAW_TYPES)}: "
            "write 16000 or 48000:2:f32"
        )
    tag, bits = RAW_TYPES[kind]
    width = bits // 8 * int(channels or 1)
    if not 0 < width < 1 << 16 or not 0 < int(rate) * width < 1 << 32:
        raise UsageError(f"raw sound {shown(text)!r} has no such rate or number of channels")
    fmt = struct.pack("<HHIIHH", tag, int(channels or 1), int(rate), int(rate) * width, width, bits)
    return wav.make_header(fmt, 0, growing=True)


class LiveReader:
    """A WAV stream as mono float32 blocks at ``rate``, once, as it comes, with at most ``delay`` seconds
    held back.

    Attributes as those of ``AudioReader``: ``name``, ``channels``, ``source_rate``, ``rate``; and
    ``source_frames``, how many came so far; ``notes``, complete at the end. Samples are those that
    ``AudioReader`` gives, up to rounding where the rate changes; single ones that are far beyond all that
    came before are cut down (``audio.outliers``).
    """

    def __init__(
        self, stream: Bytes, fmt: bytes, size: int | None, name: str, channel: int | str, rate: int
    ) -> None:
        """``fmt`` and ``size`` (bytes of samples) as the header has them; made by :func:`listen`."""
        self._stream, self.name, self.rate = stream, name, rate
        self._kind, self.channels, self.source_rate, self._width = _layout(fmt)
        self._left = self._promised = size
        chosen = channel_number(channel)
        check_layout(name, self.source_rate, self.channels, chosen)
        self._notes = conversion_notes(self.channels, chosen, self.source_rate, rate)
        self._tally = Tally(self.channels, chosen)
        self._resampler = StreamResampler(self.source_rate, rate, piece=PIECE)
        self._bounded = BoundedLive(self.source_rate)
        self.delay = self._resampler.delay + self._bounded.frame / self.source_rate
        self.source_frames = 0

    @property
    def notes(self) -> list[str]:
        return self._notes + self._tally.notes() + self._bounded.notes()

    def blocks(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """What came, mono at the source's rate [n], and what of it is ready at ``rate`` [m].

        Raises InputError when the stream ends without a sample, or cannot be read.
        """
        held = b""
        while data := self._more():
            data = held + data
            whole = len(data) - len(data) % self._width
            held, count = data[whole:], whole // self._width
            if not count:
                continue
            samples = _decode(data[:whole], self._kind).reshape(count, self.channels)
            self.source_frames += count
            mono = self._bounded(self._tally.mono(samples))
            yield mono, self._resampler.push(mono)
        if not self.source_frames:
            raise InputError(f"{self.name} has a header but no samples")
        if self._left:
            assert self._promised is not None
            second = self.source_rate * self._width
            self._notes.append(
                f"the stream is cut short: its header promises {self._promised / second:.2f} s, "
                f"{(self._promised - self._left) / second:.2f} s came"
            )
        rest = self._bounded.flush()
        yield rest, np.concatenate([self._resampler.push(rest), self._resampler.flush()])

    def _more(self) -> bytes:
        try:
            while True:
                data = self._stream.read1(READ)
                if self._left is None or not data:
                    return data
                data, self._left = data[: self._left], max(0, self._left - len(data))
                if data:
                    return data  # else chunks behind the samples: read, so that their writer can end
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {(error.strerror or str(error)).lower()}"
            ) from None


def listen(stream: Bytes, name: str, channel: int | str, rate: int) -> LiveReader | Rejoined:
    """The stream as sound, if it is WAV with plain samples; else the stream, whole again.

    Waits for the header. Raises InputError when the stream is empty or its sound has another layout than
    can be read.
    """
    head = bytearray()

    def take(size: int) -> bytes:
        try:
            data = stream.read(size) if len(head) + size <= LONGEST_HEAD else b""
        except OSError as error:
            raise InputError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
        head.extend(data)
        return data

    start = take(12)
    if not start:
        raise InputError(f"{name} is empty (0 bytes)")
    fmt, long = b"", None
    if start[:4] in (b"RIFF", b"RF64") and start[8:] == b"WAVE":
        while len(chunk := take(8)) == 8:
            kind, size = chunk[:4], int.from_bytes(chunk[4:], "little")
            if kind == b"data":
                if _layout(fmt)[0]:
                    if size == 0xFFFFFFFF and long:
                        size = long
                    open_end = size == 0 or wav.OPEN_END <= size < 1 << 32
                    return LiveReader(stream, fmt, None if open_end else size, name, channel, rate)
                break
            body = take(size + size % 2)
            if len(body) < size:
                break
            if kind == b"fmt ":
                fmt = body
            elif kind == b"ds64":
                long = int.from_bytes(body[8:16], "little")
    return Rejoined(bytes(head), stream)


def _layout(fmt: bytes) -> tuple[str, int, int, int]:
    """The kind of samples ("" if not one of RAW_TYPES), channels, rate, bytes of one frame."""
    if len(fmt) < 16:
        return "", 0, 0, 0
    tag, channels, rate, _, width, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == EXTENSIBLE and len(fmt) >= 26:
        tag = int.from_bytes(fmt[24:26], "little")
    kinds = [k for k, form in RAW_TYPES.items() if form == (tag, bits)]
    fits = channels and width == channels * bits // 8
    return kinds[0] if kinds and fits else "", channels, rate, width


def _decode(data: bytes, kind: str) -> FloatArray:
    """Little-endian samples as float32; full scale is 1."""
    if kind == "u8":
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / np.float32(128)
    if kind == "s24":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / np.float64(2**31)).astype(np.float32)
    if kind[0] == "f":
        return np.frombuffer(data, f"<f{int(kind[1:]) // 8}").astype(np.float32)
    bits = int(kind[1:])
    return (np.frombuffer(data, f"<i{bits // 8}") / np.float64(2 ** (bits - 1))).astype(np.float32)
