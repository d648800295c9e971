"""Whatever FFmpeg decodes and libsndfile does not: phone memos, films, voice messages (by PyAV).

PyAV is imported when the first such file is opened. Files are handed to FFmpeg as open files and never by
their names, and only containers in CONTAINERS are looked for, so that no file can make it open another one
or a connection.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from slyther_cli.audio.decoded import KNOWN, Decoded, FloatArray, conform
from slyther_cli.audio.resample import StreamResampler
from slyther_cli.errors import InputError

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "asf", "asf_o", "avi", "flv", "live_flv", "mpeg", "mpegts",
    "ogg", "flac", "wav", "w64", "aiff", "au", "caf", "voc", "aac", "ac3", "eac3", "ac4", "dts", "dtshd",
    "truehd", "mlp", "loas", "amr", "amrnb", "amrwb", "ape", "wv", "tta", "tak", "mpc", "mpc8", "shn", "rm",
    "dsf", "iff", "dss", "gsm", "g729", "oma", "aea", "aa", "aax", "wtv", "dhav", "gxf", "mxf", "nut",
    "nsv", "xwma", "qcp", "sox", "nistsphere", "vqf", "swf", "dv", "ivr", "sbc", "kux", "siff", "spdif",
    "iamf", "osq", "qoa", "rka", "bonk", "wavarc", "lc3", "mp3",
)  # fmt: skip
JITTER = 0.06  # seconds that the times of a container may be off without meaning a gap
LATE = 0.25  # seconds that a sound begins after its file, beyond which it is told
FRUITLESS = 500  # packets in a row of which nothing could be decoded, before anything was
UNTIMED = (
    "aac", "ac3", "eac3", "mp3", "dts", "dtshd", "loas", "amr", "amrnb", "amrwb", "truehd", "mlp", "gsm",
)  # fmt: skip
"""What is packets and nothing else: FFmpeg makes up their times."""
MOST_MISSING = 100_000  # packets at once
ENCRYPTED = ("enca", "drms", "p608")
RETRIES = 10  # errors in a row while a container is read


def av_module() -> Any:
    """PyAV, with FFmpeg's own log lines off."""
    import av
    import av.logging

    av.logging.set_level(None)
    return av


def failures() -> tuple[type[Exception], ...]:
    """What PyAV raises for damaged files."""
    return (av_module().FFmpegError, OSError, ValueError, EOFError, NotImplementedError)


def samples_of(frame: Any) -> FloatArray:
    """A decoded frame as float32 [n, channels]; full scale is 1."""
    data = frame.to_ndarray()
    channels = frame.layout.nb_channels
    data = data.T if frame.format.is_planar else data.reshape(-1, channels)
    if data.dtype.kind == "f":
        return np.ascontiguousarray(data, np.float32)
    if data.dtype == np.uint8:
        return (data.astype(np.float32) - 128) / np.float32(128)
    return (data / np.float64(2 ** (8 * data.dtype.itemsize - 1))).astype(np.float32)


class NoSound(InputError):
    """A file that FFmpeg knows, without a sound that can be decoded."""


class Container(Decoded):
    """An audio track, from 1 up, of a file that FFmpeg can read.

    Sample 0 is where the container begins: a track that begins later than the picture is led in by silence,
    and what encoders put before the sound (priming) is left out. Raises InputError: not such a file;
    NoSound: no such track, nothing that can be decoded.
    """

    format = "FFMPEG"

    def __init__(self, path: Path, name: str, track: int | None = None, strict: bool = False) -> None:
        super().__init__(name, strict)
        self._path, self._track = path, track or 1
        self._file: Any = None
        self._container: Any = None
        self._open()
        with contextlib.closing(self._frames()) as frames:
            first = next((frame for frame in frames if frame is not None), None)
        if first is None:
            self.close()
            raise NoSound(f"{name}: its sound cannot be decoded ({self._codec}): it is encrypted or damaged")
        self.samplerate, self.channels = first.sample_rate, first.layout.nb_channels
        self._tolerance = round(JITTER * self.samplerate)
        self._open()
        if self.tracks > 1:
            more = "" if track else ": --track chooses another"
            self._tell(f"audio track {self._track} of {self.tracks} is read{more}")

    def close(self) -> None:
        super().close()
        if self._container is not None:
            self._container.close()
            self._container = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        self.close()
        self._file = open(self._path, "rb")  # noqa: SIM115 - closed in close()
        try:
            self._container = opened(self._file)
        except failures() as error:
            self.close()
            raise InputError(
                f"{self.name} is not a sound file that can be read ({KNOWN}) or is damaged: {reason(error)}"
            ) from None
        except BaseException:
            self.close()
            raise
        tracks = self._container.streams.audio
        if not tracks:
            self.close()
            raise NoSound(f"{self.name} has no sound: there is no audio track in it")
        if self._track > len(tracks):
            self.close()
            count = "1 audio track" if len(tracks) == 1 else f"{len(tracks)} audio tracks"
            raise NoSound(f"{self.name} has {count}: there is no track {self._track}")
        self._stream_of = tracks[self._track - 1]
        context = self._stream_of.codec_context
        if getattr(context, "codec_tag", "") in ENCRYPTED:
            self.close()
            raise NoSound(f"{self.name} is encrypted: it cannot be read")
        self._untimed = self._container.format.name in UNTIMED
        self._codec = context.name if context is not None else "a codec that FFmpeg does not know"
        self.subtype = self._codec.upper()
        self.tracks = len(tracks)
        all_of_it = type(self._stream_of.discard)["all"]
        for stream in self._container.streams:
            if stream is not self._stream_of:
                stream.discard = all_of_it

    def _packets(self) -> Iterator[Any]:
        """What the container gives of the track; None where it cannot go on."""
        wrong = 0
        while wrong < RETRIES:
            try:
                for packet in self._container.demux(self._stream_of):
                    wrong = 0
                    yield packet
                return
            except failures():
                wrong += 1
        self._refuse_if_strict()
        self._tell("the file is damaged or cut off at its end")

    def _decode(self, packet: Any) -> list[Any]:
        try:
            return list(packet.decode())
        except failures():
            return [None]

    def _frames(self) -> Generator[Any]:
        """Decoded frames; None for a packet that cannot be decoded."""
        if self._stream_of.codec_context is None:
            return
        fruitless = 0
        holes = _Holes()
        for packet in self._packets():
            yield from [None] * (holes.before(packet) if self._untimed else 0)
            frames = self._decode(packet)
            for frame in frames:
                if frame is not None and not frame.samples:
                    continue
                fruitless = 0 if frame is not None else fruitless + 1
                yield frame
            if not frames:
                fruitless += 1
            if fruitless > FRUITLESS and not self._at:
                return

    def _pieces(self) -> Iterator[FloatArray]:
        held: FloatArray | None = None  # the last piece may reach beyond the end of the track
        for piece in filter(len, self._placed()):
            if held is not None:
                yield held
            held = piece
        if held is not None:
            yield held[: len(held) - self._padding(len(held))]

    def _padding(self, last: int) -> int:
        """Samples behind the end of the track, of the last frame, which an encoder filled up."""
        stream, duration = self._stream_of, self._stream_of.duration
        if not duration or not self._container.format.name.startswith("mov"):
            self._check_end()
            return 0
        end = round(((stream.start_time or 0) + duration) * stream.time_base * self.samplerate)
        over = self._at - end + self._begin
        if 0 < over < last:
            return over
        self._check_end()
        return 0

    def _check_end(self) -> None:
        """A note, where the container promises more."""
        length = self._container.duration
        if length and not self._stream_of.duration and self.tracks < len(self._container.streams):
            return  # how long the picture is
        if self._stream_of.duration:
            length = self._stream_of.duration * self._stream_of.time_base * 1_000_000
        promised, present = (length or 0) / 1_000_000, self._at / self.samplerate
        if 1 + present * 1.01 < promised:
            self._tell(
                f"the file is cut short: it promises {float(promised):.2f} s, {present:.2f} s are there"
            )

    def _placed(self) -> Iterator[FloatArray]:
        """Pieces at the times that the container tells."""
        self._begin, self._shift = self._origin()
        lost = usual = 0  # samples of packets that could not be decoded; of a packet
        change = _Change(self.samplerate, self.channels)
        for frame in self._frames():
            if frame is None:
                lost += usual
                continue
            usual = round(frame.samples * self.samplerate / frame.sample_rate)
            yield from self._lead(frame, lost)
            missing, lost = self._missing(frame, lost), 0
            if missing > 0:
                yield self._sound(change.rest())
                yield from self._silence(missing)
            if change.needed(frame):
                self._tell("its rate or its channels change in mid-file: converted to those of its beginning")
            yield self._sound(change.converted(frame))
        yield self._sound(change.rest())
        if lost:
            yield from self._silence(lost)

    def _origin(self) -> tuple[int, int | None]:
        """Where the container's times begin, in samples, and what is added to make them ours: not known
        before the first frame."""
        return round(max(0, self._container.start_time or 0) * self.samplerate / 1_000_000), None

    def _time(self, frame: Any) -> int | None:
        """The frame's first sample, counted from the container's beginning; None: not told."""
        if frame.pts is None or not frame.time_base or self._untimed:
            return None
        return round(frame.pts * frame.time_base * self.samplerate) - self._begin

    def _lead(self, frame: Any, lost: int) -> Iterator[FloatArray]:
        """Silence before a sound that begins later than the container."""
        at = self._time(frame)
        if self._shift is not None or at is None:
            return
        self._shift = max(0, -at)
        if lost or at <= 0:
            return
        if at > LATE * self.samplerate:
            seconds = at / self.samplerate
            self._tell(f"the sound begins {seconds:.2f} s after the file: silence comes first")
        yield from self._zeros(at)

    def _missing(self, frame: Any, lost: int) -> int:
        """Samples between the last frame and this one. Times that go back throw nothing away."""
        at = self._time(frame)
        if at is None or self._shift is None:
            return lost
        missing = at + self._shift - self._at
        if missing < -self._tolerance:
            self._shift -= missing
        return missing if missing > self._tolerance else max(0, min(missing, lost))


class _Holes:
    """Packets that were lost where times are not told: by the bytes between those that are there."""

    def __init__(self) -> None:
        self._end = self._size = self._count = 0

    def before(self, packet: Any) -> int:
        """How many are missing before this one."""
        if packet.pos is None or packet.pos < 0 or not packet.size:
            return 0
        hole = packet.pos - self._end if self._count else 0
        missing = hole * self._count / self._size if self._size else 0
        self._end, self._size = packet.pos + packet.size, self._size + packet.size
        self._count += 1
        return min(round(missing), MOST_MISSING) if missing > 0.5 else 0


class _Change:
    """To one rate and number of channels, where a file changes them."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate, self._channels = rate, channels
        self._resampler: StreamResampler | None = None

    def needed(self, frame: Any) -> bool:
        return frame.sample_rate != self._rate or frame.layout.nb_channels != self._channels

    def converted(self, frame: Any) -> FloatArray:
        piece = conform(samples_of(frame), self._channels)
        now = self._resampler.rate_in if self._resampler else self._rate
        before = self.rest() if frame.sample_rate != now else piece[:0]
        if frame.sample_rate != self._rate:
            if self._resampler is None:
                self._resampler = StreamResampler(frame.sample_rate, self._rate, channels=self._channels)
            piece = self._resampler.push(piece.T).T
        return np.concatenate([before, piece])

    def rest(self) -> FloatArray:
        """What is held back of a part at another rate."""
        resampler, self._resampler = self._resampler, None
        empty = np.zeros((0, self._channels), np.float32)
        return resampler.flush().T if resampler is not None else empty


def duration(path: Path) -> float:
    """Seconds that a container says it lasts; 0 for what cannot be read."""
    try:
        with open(path, "rb") as file, opened(file) as container:
            return max(0, container.duration or 0) / 1_000_000 if container.streams.audio else 0.0
    except failures():
        return 0.0


def opened(file: BinaryIO) -> Any:
    """PyAV's container of an open file. Raises what ``failures`` names."""
    options = {"protocol_whitelist": "none", "format_whitelist": ",".join(CONTAINERS)}
    return av_module().open(file, metadata_errors="ignore", options=options)


def reason(error: Exception) -> str:
    """What FFmpeg says, without numbers and without names."""
    return (
        str(getattr(error, "strerror", None) or error).split("'")[0].strip(" :.").lower() or "unknown error"
    )
