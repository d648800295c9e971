"""A recognition encoder over a whole recording: streamed features and front end, then the sweeps.

The engine's layers are cut where a sweep can hold them. ConMamba's first feed-forward sees single frames, so
it is computed at the end of the layer before, and its result goes on the tape. A sweep's share of two layers:

    BiMamba's other direction -> convolution (halo of 15) -> FFN2 -> LN | FFN1 -> BiMamba's first direction
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from slyther_cli.audio.features import FbankStream
from slyther_cli.errors import UsageError
from slyther_cli.layers.frontend import FrontendStream
from slyther_cli.longform.attention_sweep import KEYS, attended, slot_floats
from slyther_cli.longform.halo import drain, feed
from slyther_cli.longform.networks import RecognitionNetwork
from slyther_cli.longform.plan import (
    BASE_BYTES,
    COPIES_OF_WEIGHTS,
    FLOATS_PER_CHANNEL,
    Limits,
    Plan,
    count_weights,
    one_pass,
    scan_bytes,
    swept,
)
from slyther_cli.longform.prefetch import open_tape
from slyther_cli.longform.sweep import TILE, Keeper, sweep, tape_floats
from slyther_cli.longform.tape import Tape

Blocks = Callable[[], Iterator[np.ndarray]]
FRONT = 256  # frames that the front end computes at a time
WIDE_FRONT = 48 << 20  # bytes that Speech-Mamba's front end takes beyond ConMamba's
ATTENDING = 16  # floats a frame and channel of its tiles: x, z, scan, queries, keys, values


@torch.inference_mode()
def encode_whole(
    model: RecognitionNetwork,
    blocks: Blocks,
    plan: Plan,
    on_progress: Callable[[float], None] | None = None,
    *,
    job: Any = None,
    tile: int = TILE,
) -> Iterator[Tensor]:
    """Yield the encoder's frames [n, d_model], left to right: ``model.encode(model.features(recording))``.

    ``blocks()`` starts the recording anew: float32 arrays [n], mono, at the model's rate; it is read twice,
    first for its loudest feature (see ``audio.features``), once if the model is causal. Memory does not grow
    with the recording when the plan's tape is a file. ``on_progress`` gets the share of the whole job that is
    done. A ``job`` (a ``journal.Journal``) holds the tape and makes the work go on where it was interrupted.
    Raises OutputError when a work file fails.
    """
    if model.config.causal:
        yield from _live(model, blocks, plan, on_progress)
        return
    device = model.normalize.glob_mean.device
    if model.attends:
        yield from _attended(model, blocks, plan, on_progress, tile)
        return
    layers = swept_layers(model.transformer.encoder)
    width = model.config.d_model
    floats = tape_floats(layers, width, tile)
    if job is not None:
        tape: Tape = job.open_tape(floats, device)
    else:
        tape = open_tape(plan.tape, floats, plan.work_dir, device)
    keeper: Keeper | None = job
    try:
        ceiling = model.fbank.loudest(blocks())

        def tiles(first: int) -> Iterator[Tensor]:
            for x in _entering(model, blocks(), ceiling, tile, first):
                yield model.transformer.encoder.layers[0].first(x)

        for x in sweep(layers, tiles, tape, width, on_progress, plan.frames, keeper, tile):
            yield x[0]
    finally:
        tape.close()


def _attended(
    model: RecognitionNetwork,
    blocks: Blocks,
    plan: Plan,
    on_progress: Callable[[float], None] | None,
    tile: int,
) -> Iterator[Tensor]:
    """A Speech-Mamba, see ``attended``."""
    device, floats = model.normalize.glob_mean.device, slot_floats(model.config.d_model, tile)
    tapes: list[Tape] = []
    try:
        for _ in range(2):
            tapes.append(open_tape(plan.tape, floats, plan.work_dir, device))
        tiles = _entering(model, blocks(), model.fbank.loudest(blocks()), tile, 0)
        yield from attended(model, tiles, (tapes[0], tapes[1]), on_progress, tile)
    finally:
        for tape in tapes:
            tape.close()


class LiveEncoder:
    """A causal encoder fed as the sound comes: ``push`` samples, get the frames [n, d_model] that they
    complete.

    The concatenated frames equal ``model.encode(model.features(all samples))``. Constant in memory.
    """

    def __init__(self, model: RecognitionNetwork):
        if not model.config.causal:
            raise TypeError("live recognition needs a causal model; this one is bidirectional")
        self.model, self.states = model, None
        self.fbank, self.frontend = FbankStream(model.fbank), FrontendStream(model.frontend)

    @torch.inference_mode()
    def push(self, samples: np.ndarray | Tensor) -> Tensor:
        """[n] float32, any number of samples."""
        return self._step(self.frontend.push(self.model.normalize(self.fbank.push(samples))))

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """The last frames, which see the end."""
        last = self.frontend.push(self.model.normalize(self.fbank.flush()))
        return torch.cat([self._step(last), self._step(self.frontend.flush())])

    def _step(self, wide: list[Tensor]) -> Tensor:
        out = [self.model.normalize.glob_mean.new_zeros(0, self.model.config.d_model)]
        for x in wide:
            y, self.states = self.model.transformer.encoder.step(self.model.transformer.enter(x), self.states)
            out.append(y[0])
        return torch.cat(out)


class SweptLayer:
    """A ConMamba layer as the sweep engine wants it (``sweep.SweepLayer``); its input has been through FFN1
    already.

    ``follow`` comes after the layer, frame by frame: the next layer's FFN1, or the encoder's last norm.
    """

    def __init__(self, layer, follow: Callable[[Tensor], Tensor]):
        self.layer, self.follow = layer, follow

    @property
    def half_width(self) -> int:
        return self.layer.mamba.d_inner

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.layer.mamba.project(self.layer.norm1(x))

    def begin(self, projected: Any, state: Any, reverse: bool) -> tuple[Tensor, Any]:
        return self.layer.mamba.direction(projected, state, backward=reverse)

    def finish(
        self, x: Tensor, projected: Any, half: Tensor, state: Any, reverse: bool
    ) -> tuple[Tensor | None, Any]:
        mamba, waiting = state or (None, None)
        other, mamba = self.begin(projected, mamba, reverse)
        x = x + self.layer.mamba.combine(half, other)
        convolution = self.layer.convolution_module
        ready, waiting = feed((convolution.gated(x), x), waiting, convolution.halo, reverse)
        return self._after(*ready) if ready else None, (mamba, waiting)

    def flush(self, state: Any, reverse: bool) -> list[Tensor]:
        halo = self.layer.convolution_module.halo
        return [self._after(*ready) for ready in drain(state and state[1], halo, reverse)]

    def _after(self, u: Tensor, x: Tensor) -> Tensor:
        """u [1, frames + 30, d], the convolution's input with its halo; x [1, frames, d], the residual."""
        return self.follow(self.layer.last(x + self.layer.convolution_module.convolved(u)))


def swept_layers(encoder) -> list[SweptLayer]:
    """The layers of a ConMambaEncoder for ``sweep``; the first one's input is
    ``encoder.layers[0].first(x)``."""
    follow = [layer.first for layer in encoder.layers[1:]] + [encoder.norm]
    return [SweptLayer(layer, after) for layer, after in zip(encoder.layers, follow, strict=True)]


def plan_recognition(
    model: RecognitionNetwork,
    samples: int,
    *,
    memory_limit: int | None = None,
    work_dir: Path | None = None,
    resume: bool = False,
    held: int = 0,
) -> Plan:
    """The plan for a recording of about ``samples`` samples, as ``plan_separation`` makes it, with its
    errors."""
    c, frames = model.config, model.frames(samples)
    if c.causal:
        return one_pass(samples, frames, work_dir)
    weights, device = count_weights(model), model.normalize.glob_mean.device
    if model.attends:
        if resume:
            raise UsageError("a speech-mamba keeps no work to go on from: leave --resume out")
        slot, channels = 2 * slot_floats(c.d_model), ATTENDING * c.d_model + c.n_heads * KEYS
        base = BASE_BYTES + WIDE_FRONT
    else:
        slot = tape_floats(swept_layers(model.transformer.encoder), c.d_model)
        channels, base = 4 * c.d_model + c.d_ffn, BASE_BYTES
    base += scan_bytes(c.d_model, device)
    working = base + 4 * (COPIES_OF_WEIGHTS * weights + TILE * channels * FLOATS_PER_CHANNEL)
    limits = Limits(memory_limit=memory_limit, work_dir=work_dir, resume=resume, held=held)
    return swept(samples, frames, c.n_layers, slot, working, device, limits)


def _entering(
    model: RecognitionNetwork, blocks: Iterator[np.ndarray], ceiling: float, tile: int, first: int
) -> Iterator[Tensor]:
    """The first layer's input in tiles [1, tile, d_model], from number ``first`` on; the last is shorter.

    The front end is wide, so it works on smaller tiles of its own.
    """
    stream, skip = FrontendStream(model.frontend, FRONT), first * tile
    drop = skip % FRONT  # of the first piece that comes
    at = skip - drop  # the frame that it begins with
    held: list[Tensor] = []

    def pieces() -> Iterator[Tensor]:
        for mel in FbankStream(model.fbank, ceiling).frames(blocks):
            yield from stream.push(model.normalize(mel), skip)
        yield from stream.flush(skip)

    for wide in pieces():
        held.append(model.transformer.enter(wide, at)[:, drop:])
        at, drop = at + wide.shape[1], 0
        if sum(x.shape[1] for x in held) >= tile:
            *whole, rest = torch.cat(held, 1).split(tile, 1)
            held = [rest]
            if rest.shape[1] == tile:
                whole, held = [*whole, rest], []
            yield from whole
    if held:
        yield torch.cat(held, 1)


def _live(
    model: RecognitionNetwork, blocks: Blocks, plan: Plan, on_progress: Callable[[float], None] | None
) -> Iterator[Tensor]:
    live, done = LiveEncoder(model), 0
    for block in blocks():
        yield live.push(block)
        done += len(block)
        if on_progress:
            on_progress(min(1.0, done / max(1, plan.samples)))
    yield live.flush()
