"""Local functions in a sweep: a layer that sees ``halo`` frames to both sides (a convolution module, kernel 2
halo + 1).

Such a layer cannot give a tile before it has seen the next one's edge. So it gives the tile before instead:
its output lags by one whole tile, stays on the tile grid, and every product keeps its shape. ``feed`` and
``drain`` keep what waits. In a layer (ConMamba's convolution module, say):

    def finish(self, x, projected, half, state, reverse):
        mamba, conv = state or (None, None)
        y, mamba = ...                                           # the other direction
        ready, conv = feed((gated(y), y), conv, self.halo, reverse)
        return ready and self.after(*ready), (mamba, conv)       # None for the first tile

    def flush(self, state, reverse):
        return [self.after(*ready) for ready in drain(state and state[1], self.halo, reverse)]

``after`` gets the first tensor with ``halo`` frames of its neighbours on both sides (zeros beyond the
recording), so that a convolution without padding gives the tile itself, and the other tensors as they were.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class HaloState(NamedTuple):
    """past: [1, halo, channels], the frames walked before the waiting tile (zeros at the edge), in order of
    time. waiting: the tensors of the tile that waits, the one with the halo first.
    """

    past: Tensor
    waiting: tuple[Tensor, ...]


def feed(
    tile: tuple[Tensor, ...], state: HaloState | None, halo: int, reverse: bool
) -> tuple[tuple[Tensor, ...] | None, HaloState]:
    """Take the next tile in walking order, give the one before it.

    ``tile``: tensors [1, frames, channels]; the first is the one to be given its neighbours, the rest go
    along. Only the recording's last tile may be shorter than ``halo``. Returns (None, state) for the first
    tile walked.
    """
    u = tile[0]
    if state is None:
        return None, HaloState(u.new_zeros(1, halo, u.shape[2]), tile)
    past, waiting = state
    ready = _with_neighbours(past, waiting, u, halo, reverse)
    return ready, HaloState(_edge(waiting[0], past, halo, reverse), tile)


def drain(state: HaloState | None, halo: int, reverse: bool) -> list[tuple[Tensor, ...]]:
    """The tile that still waits when the recording's edge is reached; none if none came."""
    if state is None:
        return []
    past, waiting = state
    nothing = waiting[0][:, :0]
    return [_with_neighbours(past, waiting, nothing, halo, reverse)]


def _with_neighbours(
    past: Tensor, waiting: tuple[Tensor, ...], coming: Tensor, halo: int, reverse: bool
) -> tuple[Tensor, ...]:
    near = coming[:, -halo:] if reverse else coming[:, :halo]
    missing = near.new_zeros(1, halo - near.shape[1], near.shape[2])
    parts = [missing, near, waiting[0], past] if reverse else [past, waiting[0], near, missing]
    return (torch.cat(parts, 1), *waiting[1:])


def _edge(u: Tensor, past: Tensor, halo: int, reverse: bool) -> Tensor:
    """The last ``halo`` frames walked, of ``u`` and, where it is shorter, of what came before it."""
    if reverse:
        return torch.cat([u[:, :halo], past], 1)[:, :halo].clone()
    return torch.cat([past, u[:, -halo:]], 1)[:, -halo:].clone()
