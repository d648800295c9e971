"""Speech as a small file that browsers play: mono Opus in Ogg, written as it comes (by PyAV)."""

from __future__ import annotations

from typing import IO

import numpy as np
import numpy.typing as npt

from slyther_cli.audio.ffmpeg import av_module

RATES = (8_000, 12_000, 16_000, 24_000)  # Hz, those of Opus that speech needs
BITS = 24_000  # a second: wide-band speech without audible loss


class OpusWriter:
    """Writes float32 blocks [n] at ``rate``, one of RATES, to ``file``, about 3 kB a second; ``close`` ends
    it. Raises OSError when the file cannot be written."""

    def __init__(self, file: IO[bytes], rate: int) -> None:
        av = av_module()
        self._rate, self._count = rate, 0
        self._frame = av.AudioFrame
        self._container = av.open(file, "w", format="ogg")
        options = {"application": "voip", "compression_level": "5"}  # half the work of 10, as good
        self._stream = self._container.add_stream("libopus", rate=rate, layout="mono", options=options)
        self._stream.bit_rate = BITS

    def write(self, block: npt.NDArray[np.float32]) -> None:
        """float32 [n], from -1 to 1; what is beyond is cut."""
        if not len(block):
            return
        samples = np.ascontiguousarray(np.clip(block, -1, 1)[np.newaxis])
        frame = self._frame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate, frame.pts = self._rate, self._count
        self._count += len(block)
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()


def opus_rate(rate: int) -> int:
    """The rate in Hz at which sound of ``rate`` is best written."""
    return max((one for one in RATES if one <= rate), default=RATES[0])
