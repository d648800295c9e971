"""A separation network over a whole recording: its encoder and decoder as streams at both ends of the sweeps.

The recording is read twice, once for the first sweep and once beside the last, because encoding it again costs less than a
tape for the encoder's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from slyther_cli.longform.plan import Plan
from slyther_cli.longform.sweep import TILE, sweep, tape_width
from slyther_cli.longform.tape import FileTape, MemoryTape

Blocks = Callable[[], Iterator[np.ndarray]]


@torch.inference_mode()
def separate_whole(
    model, blocks: Blocks, plan: Plan, on_progress: Callable[[float], None] | None = None
) -> Iterator[np.ndarray]:
    """Yield stems [n_speakers, n] float32, left to right, as many samples as ``blocks()`` gives.

    ``blocks()`` starts the recording anew: float32 arrays [n], mono, at the model's rate. The result equals
    ``model(whole recording)``; how nearly, docs/longform.md says. Memory does not grow with the recording when the
    plan's tape is a file. ``on_progress`` gets the share of the whole job that is done.
    """
    device = next(model.parameters()).device
    if model.config.causal:
        yield from _live(model, blocks, plan, on_progress)
        return
    layers = list(model.masknet.mamba_net.layers)
    width = model.config.d_model
    columns = tape_width(layers, width)
    tape = MemoryTape(columns) if plan.tape == "memory" else FileTape(columns, plan.work_dir)
    try:
        counter = _Counter(blocks)
        entering = (model.masknet.enter(w) for w in _encoded(model, counter, device))
        swept = sweep(layers, entering, tape, width, plan.segment, on_progress, plan.frames)
        again: Iterator[Tensor] | None = None
        decoder = _OverlapAdd(model)
        for x in swept:
            if again is None:
                again = _encoded(model, blocks, device)
            masks = model.masknet.masks(model.masknet.mamba_net.norm_f(x))
            yield decoder.push(masks * next(again).unsqueeze(1), counter.samples)
        yield decoder.flush(counter.samples)
    finally:
        tape.close()


class _Counter:
    """``blocks`` that counts its samples."""

    def __init__(self, blocks: Blocks):
        self.blocks, self.samples = blocks, 0

    def __call__(self) -> Iterator[np.ndarray]:
        for block in self.blocks():
            self.samples += len(block)
            yield block


def _encoded(model, blocks: Blocks, device) -> Iterator[Tensor]:
    """The encoder's output in tiles [1, TILE, n_filters] on the grid from the recording's start; the last is shorter."""
    stride = model.config.stride
    need = (TILE + 1) * stride
    held: list[np.ndarray] = []
    count = total = 0
    for block in blocks():
        held.append(block)
        count += len(block)
        total += len(block)
        while count > need:  # not >=: whether this is the last tile is known only when another sample comes
            samples = np.concatenate(held)
            yield model.encoder.encode(torch.from_numpy(samples[:need]).to(device)[None])
            held, count = [samples[TILE * stride :]], count - TILE * stride
    if total:
        yield model.encoder(torch.from_numpy(np.concatenate(held)).to(device)[None])


class _OverlapAdd:
    """The decoder's frames to samples, piece by piece; half a window waits for the next piece."""

    def __init__(self, model):
        self.model, self.tail, self.given = model, None, 0

    def push(self, w: Tensor, total: int) -> np.ndarray:
        """w [1, n_speakers, frames, n_filters] -> the finished samples [n_speakers, n], never past ``total``."""
        out = self.model.decoder(w)[0]
        stride = self.model.config.stride
        if self.tail is not None:
            out[:, :stride] += self.tail
        self.tail = out[:, -stride:].clone()
        return self._give(out[:, :-stride], total)

    def flush(self, total: int) -> np.ndarray:
        if self.tail is None:
            return np.zeros((self.model.config.n_speakers, 0), np.float32)
        return self._give(self.tail, total)

    def _give(self, out: Tensor, total: int) -> np.ndarray:
        out = out[:, : max(0, total - self.given)]
        self.given += out.shape[1]
        return out.cpu().numpy()


def _live(model, blocks: Blocks, plan: Plan, on_progress) -> Iterator[np.ndarray]:
    from slyther_cli.models.mamba_tasnet import LiveSeparator

    live, done = LiveSeparator(model), 0
    for block in blocks():
        yield live.push(torch.from_numpy(block)).numpy()
        done += len(block)
        if on_progress:
            on_progress(min(1.0, done / max(1, plan.samples)))
    yield live.finish().numpy()
