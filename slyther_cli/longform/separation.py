"""A separation network over a whole recording: its encoder and decoder as streams at both ends of the sweeps.

The recording is read twice, once for the first sweep and once beside the last, because encoding it again
costs less than a tape for the encoder's output; once if it is one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from slyther_cli.errors import InputError
from slyther_cli.layers.filterbank import Encoder
from slyther_cli.longform.journal import Journal
from slyther_cli.longform.networks import SeparationNetwork
from slyther_cli.longform.plan import PIECE, Limits, Plan, one_pass, swept, working_bytes
from slyther_cli.longform.prefetch import open_tape
from slyther_cli.longform.sample_counter import Counted
from slyther_cli.longform.sweep import TILE, sweep, tape_floats
from slyther_cli.longform.tape import Tape
from slyther_cli.longform.whole import plan_whole, separate_whole_at_once
from slyther_cli.models.mamba_tasnet import LiveSeparator, MambaTasNet, StemStream

Blocks = Callable[[], Iterator[np.ndarray]]


def plan_separation(
    model: SeparationNetwork,
    samples: int,
    *,
    memory_limit: int | None = None,
    work_dir: Path | None = None,
    resume: bool = False,
    held: int = 0,
) -> Plan:
    """The plan for a recording of about ``samples`` samples (at the model's rate), on the model's device.

    Without a ``memory_limit`` (bytes beside the idle process, of the host and of a GPU each) the tape may
    take half of the memory that is free now. ``held``: bytes of the work file that a killed run left, which
    need no more room. Raises :class:`DeviceError` when the limit is too small for any plan,
    :class:`OutputError` when the disk that a file tape needs is not there.
    """
    c, frames = model.config, model.encoder.frames(samples)
    if model.takes_whole:
        return plan_whole(model, samples, memory_limit, work_dir, resume)
    if c.causal:
        return one_pass(samples, frames, work_dir)
    layers = model.masknet.mamba_net.layers
    limits = Limits(memory_limit=memory_limit, work_dir=work_dir, resume=resume, held=held)
    slot, device = tape_floats(layers, c.d_model), model.decoder.weight.device
    return swept(samples, frames, len(layers), slot, working_bytes(model), device, limits)


@torch.inference_mode()
def separate_whole(
    model: SeparationNetwork,
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
        yield from separate_whole_at_once(model, blocks(), on_progress)
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

    out, counted, given = StemStream(cast(MambaTasNet, model)), Counted(blocks), 0
    only: list[Encoded] = []  # the first tile, while there is no other

    def entering(first: int) -> Iterator[Tensor]:
        for i, tile in enumerate(_encoded(model, counted(), device, first), first):
            only[:] = [tile] if i == 0 else []
            yield model.masknet.enter(tile.w)

    try:
        again: Iterator[Encoded] | None = None
        for x in sweep(layers, entering, tape, width, on_progress, plan.frames, job):
            again = again or (iter(only) if only else _encoded(model, counted(), device))
            tile = next(again, None)
            if tile is None or tile.w.shape[1] != x.shape[1]:
                raise InputError("the recording has changed while it was read")
            for masked, samples in _masked(model, x, tile):
                done = out.push(masked, samples)[:, : counted.samples - given]
                given += done.shape[1]
                yield done.cpu().numpy()
        yield out.flush()[:, : counted.samples - given].cpu().numpy()
    finally:
        tape.close()


class Encoded(NamedTuple):
    """A tile of the recording: samples [1, encoder.samples(frames)] and the encoder's output of them
    [1, frames, n_filters]."""

    samples: Tensor
    w: Tensor


def _encoded(model, blocks: Iterator[np.ndarray], device, first: int = 0) -> Iterator[Encoded]:
    """Tiles of TILE frames, from number ``first`` on; the last is shorter."""

    def tile(samples: np.ndarray) -> Encoded:
        heard = torch.from_numpy(samples).to(device)[None]
        return Encoded(heard, model.encoder.encode(heard))

    step, need = TILE * model.config.stride, model.encoder.samples(TILE)
    held: list[np.ndarray] = []
    count = index = 0
    for block in _padded(model.encoder, blocks):
        held.append(block)
        count += len(block)
        while count > need:  # not >=: whether this is the last tile is known only when another sample comes
            samples = np.concatenate(held)
            if index >= first:
                yield tile(samples[:need])
            held, count, index = [samples[step:]], count - step, index + 1
    if count and index >= first:
        yield tile(np.concatenate(held))


def _padded(encoder: Encoder, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """A recording with the zeros that ``encoder`` sees at both its ends; nothing if it is empty."""
    total = 0
    for block in blocks:
        if len(block) and not total:
            yield np.zeros(encoder.lead, np.float32)
        total += len(block)
        yield block
    if total:
        yield np.zeros(encoder.tail(total), np.float32)


def _masked(model, x: Tensor, tile: Encoded) -> Iterator[tuple[Tensor, Tensor]]:
    """What the decoder takes of a tile, from what the layers gave, and the samples that it comes from, PIECE
    frames at a time."""
    stride, encoder = model.config.stride, model.encoder
    for start in range(0, x.shape[1], PIECE):
        here = slice(start, start + PIECE)
        masks = model.masknet.masks(model.masknet.mamba_net.norm_f(x[:, here]))
        samples = tile.samples[:, start * stride :][:, : encoder.samples(masks.shape[2])]
        yield masks * tile.w[:, here].unsqueeze(1), samples


def _live(model, blocks: Blocks, plan: Plan, on_progress) -> Iterator[np.ndarray]:
    live, done = LiveSeparator(model), 0
    for block in blocks():
        yield live.push(torch.from_numpy(block)).cpu().numpy()
        done += len(block)
        if on_progress:
            on_progress(min(1.0, done / max(1, plan.samples)))
    yield live.flush().cpu().numpy()
