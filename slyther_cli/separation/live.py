"""Separation of sound as it comes: standard input through a causal model, the stems behind it by a bounded
delay.

    LiveReader (mono, at the model's rate) -> audio.level.Running -> LiveSeparator
      -> StreamResampler -> [+ residual] -> GrowingStems
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from slyther_cli.audio.growing import GrowingStems
from slyther_cli.audio.level import MIXTURE_DB, Running
from slyther_cli.audio.live import PIECE, LiveReader
from slyther_cli.audio.resample import StreamResampler

FLAC_FRAME = 4096


class LiveStems:
    """``model`` on what ``reader`` hears. ``delay``: seconds that the stems are behind, at most, beside the
    time to compute them.
    """

    def __init__(self, model: Any, reader: LiveReader) -> None:
        from slyther_cli.models.mamba_tasnet import LiveSeparator

        self.reader, self.live = reader, LiveSeparator(model)
        self.level = Running(reader.rate, MIXTURE_DB)
        count = model.config.n_speakers
        self.back = StreamResampler(reader.rate, reader.source_rate, channels=count, piece=PIECE)
        held = self.level.delay + self.live.delay
        self.delay = reader.delay + held / reader.rate + self.back.delay

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The mixture that came [n], and the stems that are ready [n_speakers, m], at the source's rate."""
        for mixture, block in self.reader.blocks():
            yield mixture, self._separated(self.level.push(block))
        ready = self._separated(self.level.flush())
        last = self.back.push(self.level.undo(self.live.flush().cpu().numpy()))
        last = np.concatenate([ready, last], axis=1)
        self.back.total_out = self.reader.source_frames
        yield np.zeros(0, np.float32), np.concatenate([last, self.back.flush()], axis=1)

    def _separated(self, block: np.ndarray) -> np.ndarray:
        import torch

        stems = self.live.push(torch.from_numpy(block)).cpu().numpy()
        return self.back.push(self.level.undo(stems))

    def describe(self, format: str) -> list[str]:
        """Plain lines for ``-v``."""
        delay = self.delay + (FLAC_FRAME / self.reader.source_rate if format == "flac" else 0.0)
        return [
            "causal model, live: one pass while the sound comes, nothing stored",
            f"stems are written at most {delay:.2g} s behind the sound, beside the time to compute them; "
            "peaks beyond full scale are clamped",
        ]


def write_stems(
    stems: LiveStems, group: GrowingStems, residual: bool, tell: Callable[[float, float], None]
) -> None:
    """Write what is ready whenever something is; ``tell`` gets the seconds heard and written."""
    rate = stems.reader.source_rate
    waiting = np.zeros(0, np.float32)  # of the mixture, until its stems are there
    for mixture, block in stems.blocks():
        if residual:
            waiting = np.concatenate([waiting, mixture])
            count = block.shape[1]
            block = np.concatenate([block, (waiting[:count] - block.sum(axis=0))[np.newaxis]])
            waiting = waiting[count:]
        group.write(block)
        tell(stems.reader.source_frames / rate, group.frames_written / rate)
