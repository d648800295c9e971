"""Any sound file, or standard input, as a stream of mono float32 blocks at the rate asked for."""

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from slyther_cli.audio import containers, mp3, ogg
from slyther_cli.audio.decoded import KNOWN, Decoded
from slyther_cli.audio.layout import (
    HIGHEST_RATE,
    LOWEST_RATE,
    channel_number,
    check_layout,
    conversion_notes,
)
from slyther_cli.audio.outliers import Bounded, Loudest
from slyther_cli.audio.resample import StreamResampler, reblock, resampled_length
from slyther_cli.audio.speakers import Speakers
from slyther_cli.audio.spool import Source
from slyther_cli.errors import InputError, UsageError

FloatArray = npt.NDArray[np.float32]

ABSURD = 1e9  # a sample beyond this is damage, not sound
UNKNOWN = 2**62  # libsndfile counts an unknown length as the largest number
PIECE_SAMPLES = 1 << 16  # decoded at once, all channels together


class _Sequential(soundfile.SoundFile):
    """Without seeking after each read, which fails at the end of a FLAC of unstated length."""

    def seekable(self) -> bool:
        return False


class Tally:
    """One pass over the sound to mono: damage, silent channels, what the mix loses. ``channel`` counts from
    0; None is the mix.
    """

    def __init__(self, channels: int, channel: int | None) -> None:
        self.channel = channel
        self.heard = self.damaged = 0  # samples
        self.power = np.zeros(channels)
        self._speakers = Speakers(channels)
        self.mix_power = 0.0

    def mono(self, piece: FloatArray) -> FloatArray:
        """[n, channels], changed where it is damaged -> [n]."""
        self.heard += len(piece)
        bad = ~(np.abs(piece) <= ABSURD)
        if bad.any():
            self.damaged += int(bad.sum())
            piece[bad] = 0
        squares = np.square(piece, dtype=np.float64)
        self.power += squares.sum(axis=0)
        if self.channel is None:
            self._speakers.hear(squares)
        if self.channel is not None:
            return np.ascontiguousarray(piece[:, self.channel])
        if len(self.power) == 1:
            return piece[:, 0]
        mono = piece.mean(axis=1, dtype=np.float64).astype(np.float32)
        self.mix_power += float(np.square(mono, dtype=np.float64).sum())
        return mono

    def notes(self) -> list[str]:
        notes, mixing = [], self.channel is None and len(self.power) > 1
        if self.damaged:
            kind = "sample" if self.damaged == 1 else "samples"
            notes.append(f"{self.damaged} non-finite {kind} replaced by zero")
        if not self.heard:  # only the header was read
            return notes
        silent = [str(i + 1) for i in np.flatnonzero(self.power == 0)]
        if len(silent) == len(self.power):
            notes.append("digital silence from beginning to end")
        elif self.channel is not None and not self.power[self.channel]:
            notes.append(f"channel {self.channel + 1} is silent throughout, others are not")
        elif mixing and silent:
            which = "channel " + silent[0] + " is" if len(silent) == 1 else f"channels {_few(silent)} are"
            notes.append(f"{which} silent throughout: the mix is quieter for it, consider one channel alone")
        elif mixing and self.mix_power < 1e-4 * self.power.mean():
            notes.append("the channels cancel each other in the mix: choose one channel instead")
        elif mixing and self._speakers.apart:
            notes.append(
                "a voice of its own seems to be in each channel: transcribe --channel each keeps them apart"
            )
        return notes


class AudioReader:
    """One recording as mono float32 blocks, in constant memory, as often as wanted.

    ``path``      a file, a pipe, or "-" for standard input. What cannot be read twice is copied into
                  a temporary file in ``work_dir`` (default: the system's) until ``close``.
    ``channel``   "mix", the mean of all channels, or a number from 1 up (or the same as a string).
    ``rate``      the rate in Hz that the blocks shall have; None keeps the file's.
    ``track``     of a file with several audio tracks, the one to read, from 1 up; None is the first.
    ``strict``    refuse a damaged file, where otherwise silence stands for what cannot be decoded.

    Attributes: ``source_rate`` and ``rate`` in Hz; ``channels`` of the file; ``source_frames``, the
    length at source_rate, None while it is unknown (some streamed FLAC, all that FFmpeg decodes), set
    or corrected by the first full pass; ``frames``, the length at ``rate`` by the same token; ``format``
    and ``subtype`` as libsndfile names them; ``name`` for messages; ``notes``, plain sentences about what
    was done and found, complete after a full pass.

    Length: n source frames give ``resampled_length(n, source_rate, rate)`` samples, that is
    n * rate / source_rate rounded to the nearest, halves up, at least 1. Samples do not depend on the
    block size. Samples that are not finite, or beyond 1e9, count as damage and become 0. After ``settle``
    single ones that are far beyond all the rest are cut down (``audio.outliers``), with a note.

    Raises InputError when the file is missing, a folder, empty, without a sample, no sound file,
    unreadable, outside 4 kHz to 768 kHz, or has no such channel or track; UsageError for a senseless ``rate``
    or ``channel``; OutputError when the temporary copy does not fit. A PCM file that is shorter than
    its header says is read as far as it goes, with a note; so is a cut MP3 or Ogg file.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        channel: int | str = "mix",
        rate: int | None = None,
        *,
        work_dir: str | os.PathLike[str] | None = None,
        track: int | None = None,
        strict: bool = False,
    ) -> None:
        self._track, self._strict = track, strict
        self._channel = channel_number(channel)
        if rate is not None and not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise UsageError(f"a rate of {rate} Hz is outside {LOWEST_RATE} Hz to {HIGHEST_RATE} Hz")
        self._frames_read: int | None = None  # frames that a full pass gave
        self._turn = 0  # counts rewinds: an iterator of an earlier turn is stale
        self._closed = False
        self.reach: float | None = None  # what is beyond it is cut down
        self._file: _Sequential | Decoded | None = None
        self._view: containers.View | None = None
        self._source = Source(path, work_dir)
        self.name = self._source.name
        try:
            self._start(rate)
        except BaseException:
            self.close()
            raise

    def _start(self, rate: int | None) -> None:
        try:
            self._opening = containers.inspect(self._source.path, self.name)
        except OSError as error:
            raise InputError(
                f"{self.name} cannot be read: {(error.strerror or str(error)).lower()}"
            ) from None
        self._file = self._open()
        self.source_rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.format: str = self._file.format
        self.subtype: str = self._file.subtype
        stated = self._file.frames
        self._stated = self._promised = stated if stated is not None and stated < UNKNOWN else None
        if self._promised and self.format == "FLAC" and not self._strict:
            from slyther_cli.audio.flac import reaches

            self._promised = self._promised if reaches(self._source.path, self._promised) else None
        self.source_frames: int | None = self._promised
        self.rate = rate or self.source_rate
        if self.source_frames == 0:
            raise InputError(f"{self.name} has a header but no samples")
        check_layout(self.name, self.source_rate, self.channels, self._channel)
        self._tally = Tally(self.channels, self._channel)
        self._bounded = Bounded(None, self.source_rate)
        log = "" if isinstance(self._file, Decoded) else self._file.extra_info
        self._notes = self._opening_notes(log)
        self._decoding = _notes_of(self._file)

    def _opening_notes(self, log: str) -> list[str]:
        notes = list(self._opening.notes)
        if not notes and self.format not in ("WAV", "WAVEX", "RF64") and (cut := containers.cut_short(log)):
            notes.append(cut)
        return notes + conversion_notes(self.channels, self._channel, self.source_rate, self.rate)

    @property
    def frames(self) -> int | None:
        """The number of samples that ``blocks`` gives in all; None while it is unknown."""
        if self.source_frames is None:
            return None
        return resampled_length(self.source_frames, self.source_rate, self.rate)

    @property
    def notes(self) -> list[str]:
        """What was done to the sound and found in it, one sentence each."""
        return self._decoding + self._notes + self._tally.notes() + self._bounded.notes()

    def measure(self) -> None:
        """Make the length known, if it is not, by a pass over the sound."""
        if self.source_frames is None:
            for _ in self.blocks(PIECE_SAMPLES):
                pass

    def settle(self) -> None:
        """A full pass after which the length is known, and ``reach``: single samples beyond it are cut down
        from then on. Raises what ``blocks`` raises."""
        loudest, self.reach = Loudest(self.source_rate), None
        self.rewind()
        for piece in self._mono():
            loudest.push(piece)
        loudest.flush()
        self.reach = loudest.reach

    def blocks(self, size: int) -> Iterator[FloatArray]:
        """The whole recording from its beginning: float32 arrays [size], the last one shorter.

        Each call starts anew; an iterator from an earlier call is stale then (RuntimeError).
        Raises InputError when the sound data turn out to be damaged.
        """
        if size < 1:
            raise ValueError(f"a block has at least one sample, not {size}")
        self.rewind()
        return self._guard(reblock(self._resampled(), size), self._turn)

    def rewind(self) -> None:
        """Go back to the beginning."""
        if self._closed:
            raise ValueError(f"the reader of {self.name} is closed")
        self._turn += 1
        self._close_file()

    def close(self) -> None:
        """Close the file and remove a temporary copy of it."""
        self._closed = True
        self._turn += 1
        self._close_file()
        self._source.close()

    def __enter__(self) -> "AudioReader":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _guard(self, blocks: Iterator[FloatArray], turn: int) -> Iterator[FloatArray]:
        while True:
            if self._turn != turn:
                raise RuntimeError(f"{self.name} was rewound or closed: these blocks are stale")
            block = next(blocks, None)
            if block is None:
                return
            yield block

    def _resampled(self) -> Iterator[FloatArray]:
        resampler = StreamResampler(self.source_rate, self.rate)
        for piece in self._mono():
            yield resampler.push(piece)
        yield resampler.flush()

    def _mono(self) -> Iterator[FloatArray]:
        """The channel asked for, or the mean, at the source rate, in pieces of a size of our own."""
        file = self._file = self._open()
        size = max(PIECE_SAMPLES // self.channels, 256)
        tally, done = Tally(self.channels, self._channel), 0
        bounded = Bounded(self.reach, self.source_rate)
        while True:
            try:
                piece = file.read(size, dtype="float32", always_2d=True)
            except (soundfile.LibsndfileError, OSError) as error:
                if not self._mendable(file):
                    raise InputError(self._damage(done, _reason(error))) from None
                file = self._go_on(done)
                continue
            if not len(piece):
                if not self._mendable(file) or done >= (self._stated or 0):
                    break
                file = self._go_on(done)
                continue
            done += len(piece)
            yield bounded(tally.mono(piece))
        self._check_length(done)
        self.source_frames, self._tally, self._bounded = done, tally, bounded
        self._decoding = _notes_of(file)
        if self.format == "FLAC" and done < (self._stated or 0):
            promised = (self._stated or 0) / self.source_rate
            note = f"the file is cut short: {done / self.source_rate:.2f} s of {promised:.2f} s are there"
            self._decoding = [*self._decoding, note]

    def _mendable(self, file: _Sequential | Decoded) -> bool:
        return self.format == "FLAC" and not self._strict and isinstance(file, _Sequential)

    def _go_on(self, done: int) -> Decoded:
        """What there is of a damaged FLAC file behind the samples that were read."""
        from slyther_cli.audio.flac import Flac

        self._close_file()
        try:
            rest = self._file = Flac(self._source.path, self.name, done, self._promised)
        except OSError as error:
            raise InputError(self._damage(done, _reason(error))) from None
        return rest

    def _check_length(self, done: int) -> None:
        """A decoder that stops early without a word."""
        expected = self._promised
        if expected is not None and done < expected:
            raise InputError(self._damage(done, "its decoder gives no more"))
        if not done:
            raise InputError(f"{self.name} has a header but no samples")
        exact = self._promised if self.format != "OGG" else None
        if (known := self._frames_read or exact) is not None and done != known:
            raise InputError(f"{self.name} has changed while it was read: it had {known} samples, now {done}")
        self._frames_read = done

    def _damage(self, done: int, reason: str) -> str:
        at = done / self.source_rate
        whole = f" of {self.source_frames / self.source_rate:.2f} s" if self.source_frames else ""
        return f"{self.name} is damaged or cut off somewhere after {at:.2f} s{whole}: {reason}"

    def _open(self) -> _Sequential | Decoded:
        self._close_file()
        if self._opening.decoder:
            self._file = self._by_ffmpeg()
            return self._one_track()
        target: Any = self._source.path
        headless = self._source.path.suffix.lower() == ".raw"  # soundfile would not look into it
        if self._opening.prefix or self._opening.skip or headless:
            target = self._view = containers.View(target, self._opening.prefix, self._opening.skip)
        elif os.name == "posix":
            target = os.fsencode(target)
        try:
            self._file = _Sequential(target)
        except (soundfile.LibsndfileError, OSError, TypeError) as error:
            self._close_file()
            self._file = self._unless_ffmpeg(_reason(error))
        return self._one_track()

    def _one_track(self) -> _Sequential | Decoded:
        """The file, if it has the track asked for. Raises InputError."""
        assert self._file is not None
        if (self._track or 1) > 1 and self._opening.decoder != "ffmpeg":
            raise InputError(f"{self.name} has 1 audio track: there is no track {self._track}")
        return self._file

    def _by_ffmpeg(self) -> Decoded:
        from slyther_cli.audio.ffmpeg import Container

        about, where = self._opening.about, (self._source.path, self.name)
        try:
            if isinstance(about, mp3.Survey):
                return mp3.Mp3(*where, about, self._strict)
            if isinstance(about, ogg.Survey):
                return ogg.Ogg(*where, about, self._strict)
            return Container(*where, self._track, self._strict)
        except OSError as error:
            raise InputError(f"{self.name} cannot be read: {_reason(error)}") from None

    def _unless_ffmpeg(self, why: str) -> Decoded:
        """What libsndfile does not know, by FFmpeg. Raises InputError: nobody knows it."""
        from slyther_cli.audio.ffmpeg import NoSound

        try:
            found = self._by_ffmpeg()
            self._opening = replace(self._opening, decoder="ffmpeg")
            return found
        except NoSound:
            raise
        except InputError:
            raise InputError(
                f"{self.name} is not a sound file that can be read ({KNOWN}) or is damaged: {why}"
            ) from None

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._view is not None:
            self._view.close()
            self._view = None


def _notes_of(file: _Sequential | Decoded) -> list[str]:
    return file.notes if isinstance(file, Decoded) else []


def _reason(error: Exception) -> str:
    if isinstance(error, soundfile.LibsndfileError):
        text = error.error_string
    else:
        text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()).rstrip(".").lower() or "unknown error"


def _few(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 8 else ", ".join(names[:8]) + f" and {len(names) - 8} more"
