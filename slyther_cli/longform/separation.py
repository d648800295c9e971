"""A separation network over a whole recording: its encoder and decoder as streams at both ends of the sweeps.

The recording is read twice, once for the first sweep and once beside the last, because encoding it again
costs less than a tape for the encoder's output; once if it is one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from slyther_cli.errors import InputError
from slyther_cli.longform.ahead import open_tape
from slyther_cli.longform.counted import Counted
from slyther_cli.longform.journal import Journal
from slyther_cli.longform.plan import Plan
from slyther_cli.longform.sweep import TILE, sweep, tape_floats
from slyther_cli.longform.tape import Tape
from slyther_cli.longform.unswept import separate_unswept

Blocks = Callable[[], Iterator[np.ndarray]]


@torch.inference_mode()
def separate_whole(
    model,
    blocks: Blocks,
    plan: Plan,
    on_progress: Callable[[float], None] | None = None,
    *,
    job: Journal | None = None,
) -> Iterator[np.ndarray]:
    """Yield stems [n_speakers, n] float32, left to right, as many samples as ``blocks()`` gives.

    ``blocks()`` starts the recording anew: float32 arrays [n], mono, at the model's rate. The result equals
    ``model(whole recording)``; how nearly, docs/longform.md says. Memory does not grow with the recording
    when the plan's tape is a file. ``on_progress`` gets the share of the whole job that is done. A ``job``
    holds the tape and makes the work go on where it was interrupted, with the same result; the stems then
    come from the beginning.

    Raises :class:`InputError` when ``blocks`` does not give the same recording twice, :class:`OutputError`
    when a work file fails.
    """
    device = next(model.parameters()).device
    if plan.tape == "whole":
        yield from separate_unswept(model, blocks(), on_progress)
        return
    if model.config.causal:
        yield from _live(model, blocks, plan, on_progress)
        return
    layers = list(model.masknet.mamba_net.layers)
    width = model.config.d_model
    floats = tape_floats(layers, width)
    if job is not None:
        tape: Tape = job.open_tape(floats, device)
    else:
        tape = open_tape(plan.tape, floats, plan.work_dir, device)

    decoder, counted = _OverlapAdd(model), Counted(blocks)
    only: list[Tensor] = []  # the encoder's output of the first tile, while there is no other

    def entering(first: int) -> Iterator[Tensor]:
        for i, w in enumerate(_encoded(model, counted(), device, first), first):
            only[:] = [w] if i == 0 else []
            yield model.masknet.enter(w)

    try:
        again: Iterator[Tensor] | None = None
        for x in sweep(layers, entering, tape, width, on_progress, plan.frames, job):
            again = again or (iter(only) if only else _encoded(model, counted(), device))
            w = next(again, None)
            if w is None or w.shape[1] != x.shape[1]:
                raise InputError("the recording has changed while it was read")
            masks = model.masknet.masks(model.masknet.mamba_net.norm_f(x))
            yield decoder.push(masks * w.unsqueeze(1), counted.samples)
        yield decoder.flush(counted.samples)
    finally:
        tape.close()


def _encoded(model, blocks: Iterator[np.ndarray], device, first: int = 0) -> Iterator[Tensor]:
    """The encoder's output in tiles [1, TILE, n_filters], from number ``first`` on; the last is shorter."""
    stride = model.config.stride
    need = (TILE + 1) * stride
    held: list[np.ndarray] = []
    count = index = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count > need:  # not >=: whether this is the last tile is known only when another sample comes
            samples = np.concatenate(held)
            if index >= first:
                yield model.encoder.encode(torch.from_numpy(samples[:need]).to(device)[None])
            held, count, index = [samples[TILE * stride :]], count - TILE * stride, index + 1
    if count and index >= first:
        yield model.encoder(torch.from_numpy(np.concatenate(held)).to(device)[None])


class _OverlapAdd:
    """The decoder's frames to samples, piece by piece; half a window waits for the next piece."""

    def __init__(self, model):
        self.model, self.tail, self.given = model, None, 0

    def push(self, w: Tensor, total: int) -> np.ndarray:
        """w [1, n_speakers, frames, n_filters] -> the finished samples [n_speakers, n], never past
        ``total``.
        """
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
        yield live.push(torch.from_numpy(block)).cpu().numpy()
        done += len(block)
        if on_progress:
            on_progress(min(1.0, done / max(1, plan.samples)))
    yield live.finish().cpu().numpy()
