"""The sweep engine: a stack of bidirectional layers over a recording of any length, state carried over every border.

    sweep 0  left to right   begin layer 0
    sweep 1  right to left   finish layer 0, begin layer 1
    sweep 2  left to right   finish layer 1, begin layer 2
    ...
    sweep n                  finish layer n - 1

Between sweeps the tape holds, for every frame, the input of the layer in work and the half that its first direction left.
An odd n ends walking left; then one more pass reads the tape to the right, computing nothing.

Everything is computed on a fixed grid of tiles of ``TILE`` frames counted from the recording's start, so every
matrix product has the same shape and every scan the same order, whatever the segment length: the result is the same bit for
bit for all segment lengths (CPU, float32; docs/longform.md says what was checked).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from slyther_cli.longform.tape import FileTape, MemoryTape

TILE = 1024


class SweepLayer(Protocol):
    """What the engine asks of a layer. ``x`` is [1, frames, width]; a state is None at the recording's edge."""

    @property
    def half_width(self) -> int: ...

    def begin(self, x: Tensor, state: Any, reverse: bool) -> tuple[Tensor, Any]: ...

    def finish(self, x: Tensor, half: Tensor, state: Any, reverse: bool) -> tuple[Tensor, Any]: ...


def sweep(
    layers: Sequence[SweepLayer],
    tiles: Iterable[Tensor],
    tape: MemoryTape | FileTape,
    width: int,
    segment: int,
    on_progress: Callable[[float], None] | None = None,
    frames_expected: int = 0,
) -> Iterator[Tensor]:
    """Run ``layers`` over a recording that arrives as tiles [1, TILE, width] (the last one shorter); yield the last
    layer's output in the same tiles, left to right.

    ``tape`` must be ``tape_width(layers, width)`` wide. ``segment`` frames are read and written at a time (rounded to
    whole tiles). ``frames_expected`` serves the progress of the first sweep only; the true count is found there.
    """
    n = len(layers)
    total_sweeps = n + 1
    report = on_progress or (lambda fraction: None)

    frames, state, waiting = 0, None, []
    for x in tiles:  # sweep 0
        half, state = layers[0].begin(x, state, False)
        waiting.append(torch.cat([x, half], -1)[0])
        if sum(map(len, waiting)) >= segment:
            frames = _append(tape, frames, waiting)
        report(min(1.0, frames / max(1, frames_expected)) / total_sweeps)
    frames = _append(tape, frames, waiting)

    for k in range(1, n + 1):
        reverse = k % 2 == 1
        finishing, beginning = layers[k - 1], layers[k] if k < n else None
        states: list[Any] = [None, None]
        for start, stop in _segments(frames, segment, reverse):
            rows = tape.read(start, stop)
            for a, b in _segments(stop - start, TILE, reverse):
                tile = rows[None, a:b]
                layer_in, layer_half = tile[..., :width], tile[..., width : width + finishing.half_width]
                x, states[0] = finishing.finish(layer_in, layer_half, states[0], reverse)
                if beginning is None and not reverse:
                    yield x
                    continue
                rows[a:b, :width] = x[0]
                if beginning is not None:
                    half, states[1] = beginning.begin(x, states[1], reverse)
                    rows[a:b, width : width + half.shape[-1]] = half[0]
            if beginning is not None or reverse:
                tape.write(start, rows)
            walked = frames - start if reverse else stop
            report((k + walked / max(1, frames)) / total_sweeps)
    if n % 2 == 1:
        for start, stop in _segments(frames, segment, False):
            rows = tape.read(start, stop)
            for a, b in _segments(stop - start, TILE, False):
                yield rows[None, a:b, :width]


def tape_width(layers: Sequence[SweepLayer], width: int) -> int:
    return width + max(layer.half_width for layer in layers)


def whole_tiles(segment: int) -> int:
    """``segment`` rounded up to the tile grid."""
    return max(1, -(-segment // TILE)) * TILE


def _append(tape, frames: int, waiting: list[Tensor]) -> int:
    if waiting:
        rows = torch.cat(waiting)
        tape.write(frames, rows)
        frames += len(rows)
        waiting.clear()
    return frames


def _segments(frames: int, size: int, reverse: bool) -> Iterator[tuple[int, int]]:
    """The grid of ``size`` from 0 to ``frames``, walked in either direction."""
    starts = range(0, frames, size)
    for start in reversed(starts) if reverse else starts:
        yield start, min(frames, start + size)
