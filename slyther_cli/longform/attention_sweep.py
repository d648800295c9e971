"""Speech-Mamba's encoder over a whole recording: Mamba blocks that walk to the right, around full attention.

Attention needs every frame's keys and values before the first frame can go on, so a layer takes two walks
to the right, of which the second is the next layer's first:

    walk 0   front end, layer 0: Mamba block; its frames, keys and values go on tape 0
    walk 1   each tile of tape 0 attends to all tiles of tape 0, Mamba block; layer 1: Mamba block -> tape 1
    walk 2   each tile of tape 1 attends to all of tape 1 ...                                      -> tape 0

The result equals one pass over the recording. Memory is constant where the tapes are files; time grows with
the square of the length, as attention does.

Source of the attention by tiles: Milakov and Gimelshein 2018, "Online normalizer calculation for softmax".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import torch
from torch import Tensor

from slyther_cli.layers.attention import MultiheadAttention
from slyther_cli.longform.sweep import TILE
from slyther_cli.longform.tape import Tape, in_order

KEYS = 512  # frames that are attended to at a time


def slot_floats(width: int, tile: int = TILE) -> int:
    """Floats of a tape's slot: a tile's frames, keys and values."""
    return 3 * width * tile


def attended(
    model,
    tiles: Iterator[Tensor],
    tapes: tuple[Tape, Tape],
    on_progress: Callable[[float], None] | None = None,
    tile: int = TILE,
) -> Iterator[Tensor]:
    """The encoder's frames [n, d_model] from its input in ``tiles`` [1, tile, d_model], the last one shorter.

    ``tapes`` have slots of ``slot_floats(d_model, tile)``.
    """
    encoder = model.transformer.encoder
    counts = _kept(encoder.layers[0], tiles, tapes[0])
    for i, layer in enumerate(encoder.layers):

        def report(walked: float, i: int = i) -> None:
            if on_progress:
                on_progress((i + walked) / len(encoder.layers))

        report(0.0)
        walk = _walk(layer, tapes[i % 2], i, counts, report)
        if i + 1 < len(encoder.layers):
            counts = _kept(encoder.layers[i + 1], walk, tapes[(i + 1) % 2], i + 1)
        else:
            for x in walk:
                yield encoder.norm(x)[0]


def _kept(layer, tiles: Iterator[Tensor], tape: Tape, number: int = 0) -> list[int]:
    """Run ``layer``'s first Mamba block and leave what its attention needs on the tape; the tiles'
    lengths."""
    counts, state = list[int](), None
    for x in tiles:
        x, state = layer.mamba_layers1[0].step(x, state)
        seen = layer.self_att.keys_values(layer.mamba_norm(x))
        parts = (x[0], *(part[0].transpose(0, 1).flatten(1) for part in seen))
        tape.store(number, len(counts), *parts)
        counts.append(x.shape[1])
    return counts


def _walk(
    layer, tape: Tape, number: int, counts: list[int], report: Callable[[float], None]
) -> Iterator[Tensor]:
    """The layer's output in tiles [1, n, d]: attention over the whole tape, then the second Mamba block."""
    state, d = None, layer.self_att.att.out_proj.in_features
    indices = (index for i in range(len(counts)) for index in (i, *range(len(counts))))
    loaded = in_order(tape, ((number, index, counts[index], d, d, d) for index in indices))
    for i in range(len(counts)):
        x = next(loaded)[0][None]
        pieces = (parts[1:] for parts in islice(loaded, len(counts)))
        x = x + attend(layer.self_att, layer.mamba_norm(x), pieces)
        x, state = layer.mamba_layers2[0].step(x, state)
        yield x
        report((i + 1) / len(counts))


def attend(attention: MultiheadAttention, x: Tensor, pieces: Iterator[list[Tensor]]) -> Tensor:
    """``attention`` of queries x [1, n, d] over keys and values that come in ``pieces`` [m, d] each -> [1, n,
    d]; what it gives for all of them at once."""
    q = attention.queries(x)[0]  # [heads, n, d / heads]
    best = q.new_full((*q.shape[:2], 1), -torch.inf)
    total, mean = torch.zeros_like(best), torch.zeros_like(q)
    for keys, values in pieces:
        for k, v in zip(keys.split(KEYS), values.split(KEYS), strict=True):
            k, v = (part.unflatten(1, (attention.heads, -1)).transpose(0, 1) for part in (k, v))
            scores = q @ k.transpose(1, 2) * q.shape[-1] ** -0.5  # [heads, n, m]
            higher = torch.maximum(best, scores.amax(-1, keepdim=True))
            weights, fade = scores.sub_(higher).exp_(), (best - higher).exp_()
            total = total.mul_(fade).add_(weights.sum(-1, keepdim=True))
            mean = mean.mul_(fade).add_(weights @ v)
            best = higher
    return attention.att.out_proj((mean / total).transpose(0, 1).flatten(1)[None])
