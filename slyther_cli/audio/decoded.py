"""Sound that is decoded packet by packet, at its true place in time: silence stands for what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.errors import InputError

FloatArray = npt.NDArray[np.float32]

KNOWN = "WAV, FLAC, MP3, M4A, MP4, WebM ..."
PIECE = 1 << 16  # samples of silence at once, all channels together
MOST_TOLD = 20  # gaps with a note of their own
MOST_SILENCE = 12 * 3600  # seconds in all; beyond, the times in the file make no sense


class Decoded:
    """What ``reader`` needs of an open sound file: a subclass gives ``_pieces`` and sets the attributes.

    ``samplerate`` in Hz, ``channels``, ``frames`` (None: unknown before all is decoded), ``format`` and
    ``subtype`` as libsndfile would name them. ``notes``: complete after the last piece. With ``strict`` a gap
    raises InputError.
    """

    samplerate: int
    channels: int
    frames: int | None = None
    format: str
    subtype: str

    def __init__(self, name: str, strict: bool = False) -> None:
        self.name, self._strict = name, strict
        self._at = 0  # samples that were given
        self._gaps: list[tuple[int, int]] = []  # the first ones: from, to
        self._more = self._lost = 0  # gaps beyond these; samples in all
        self._filled = 0  # samples of silence that were put in
        self._other: list[str] = []
        self._stream: Iterator[FloatArray] | None = None

    def read(self, size: int, **how: Any) -> FloatArray:
        """The next samples [n, channels], n as it comes; n = 0 at the end. Raises InputError, OSError."""
        if self._stream is None:
            self._stream = self._pieces()
        return next(self._stream, np.zeros((0, self.channels), np.float32))

    def close(self) -> None:
        """Let go of the file."""
        self._stream = None

    @property
    def notes(self) -> list[str]:
        """What is wrong with the file, one sentence each."""
        rate = self.samplerate
        gaps = [
            f"nothing can be read from {start / rate:.2f} s to {end / rate:.2f} s "
            f"({(end - start) / rate:.2f} s): silence stands there"
            for start, end in self._gaps
        ]
        if self._more:
            gaps.append(f"{self._more} more such gaps, {self._lost / rate:.2f} s of silence in all")
        return self._other + gaps

    def _pieces(self) -> Iterator[FloatArray]:
        """Arrays [n, channels] from the beginning, each given through ``_sound`` or ``_silence``."""
        raise NotImplementedError

    def _sound(self, piece: FloatArray) -> FloatArray:
        piece = conform(piece, self.channels)
        self._at += len(piece)
        return piece

    def _silence(self, count: int) -> Iterator[FloatArray]:
        """Zeros in place of ``count`` samples that are lost."""
        self._refuse_if_strict()
        self._lost += count
        start, end = self._at, self._at + count
        if self._gaps and self._gaps[-1][1] == start and not self._more:
            self._gaps[-1] = (self._gaps[-1][0], end)
        elif len(self._gaps) < MOST_TOLD:
            self._gaps.append((start, end))
        else:
            self._more += 1
        yield from self._zeros(count)

    def _zeros(self, count: int) -> Iterator[FloatArray]:
        self._filled += count
        if self._filled > MOST_SILENCE * self.samplerate:
            raise InputError(
                f"{self.name} is damaged: its times leave gaps of more than {MOST_SILENCE // 3600} hours"
            )
        size = max(PIECE // self.channels, 256)
        while count > 0:
            n = min(count, size)
            self._at += n
            yield np.zeros((n, self.channels), np.float32)
            count -= n

    def _refuse_if_strict(self) -> None:
        if self._strict:
            at = self._at / self.samplerate
            raise InputError(
                f"{self.name} is damaged or cut off somewhere after {at:.2f} s: leave out --strict to have "
                "silence in place of what is lost"
            )

    def _tell(self, note: str) -> None:
        if note not in self._other:
            self._other.append(note)


def conform(piece: FloatArray, channels: int) -> FloatArray:
    """[n, any] -> [n, channels]: where the number changes in mid-file, each channel gets the mean."""
    if piece.shape[1] == channels:
        return piece
    mono = piece.mean(axis=1, dtype=np.float64).astype(np.float32)
    return np.repeat(mono[:, np.newaxis], channels, axis=1)
