"""M4B, the audiobook of players: AAC in MP4, with titles and chapters (by PyAV), written as it comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import IO

import numpy as np
import numpy.typing as npt

from slyther_cli.audio.ffmpeg import av_module

BITS_A_HERTZ = 4  # a second, of the bit rate, for each Hz of the sampling rate: 64 kbit/s at 16 kHz
TICKS = 1000  # a second


class M4bWriter:
    """Writes float32 blocks [n] at ``rate`` Hz to ``file``; ``close`` ends it. ``metadata``: FFmpeg's names.
    Raises OSError when the file cannot be written."""

    def __init__(self, file: IO[bytes], rate: int, metadata: Mapping[str, str]) -> None:
        av = av_module()
        self._rate, self._count, self._frame = rate, 0, av.AudioFrame
        self._container = av.open(file, "w", format="ipod")
        self._container.metadata.update(metadata)
        self._stream = self._container.add_stream("aac", rate=rate, layout="mono")
        self._stream.bit_rate = BITS_A_HERTZ * rate

    def write(self, block: npt.NDArray[np.float32]) -> None:
        """float32 [n], from -1 to 1; what is beyond is cut."""
        if not len(block):
            return
        samples = np.ascontiguousarray(np.clip(block, -1, 1)[np.newaxis], np.float32)
        frame = self._frame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._count
        self._count += len(block)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self, chapters: Sequence[tuple[float, str]] = ()) -> None:
        """``chapters``: the second at which each begins, and its title."""
        starts = [round(TICKS * start) for start, _ in chapters]
        ends = [*starts[1:], round(TICKS * self._count / self._rate)]
        found, tick = [], Fraction(1, TICKS)
        for i, (start, end, (_, title)) in enumerate(zip(starts, ends, chapters, strict=True)):
            metadata = {"title": title}
            found.append({"id": i, "start": start, "end": end, "time_base": tick, "metadata": metadata})
        self._container.set_chapters(found)
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
