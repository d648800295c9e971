"""A codec's first weights: a linear transform of blocks that loses little, instead of noise.

Every level of a SEANet gets carriers: channels that hold the principal components of a block of the signal,
as many as the level has room for, so small that ELU is nearly linear to them. They come back through the
decoder by the same matrices transposed. The other channels start as encodec starts them and add nothing at
first. So the codec passes speech before the first step, and learning only has to improve on it
(docs/codec.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from slyther_cli.models.codec import SeanetCodec

SMALL = 0.1
"""Standard deviation of the strongest carrier of a level."""
EVEN = 0.4
"""How far the components' levels are evened out for the quantizer: 0 leaves them, 1 makes all alike."""


@torch.no_grad()
def start_from_blocks(codec: SeanetCodec, speech: Tensor) -> None:
    """Set ``codec``'s weights from ``speech`` [examples, samples], a minute of it or more."""
    x = speech[:, : speech.shape[1] // codec.hop * codec.hop, None]  # [examples, time, carriers]
    down, up = _convolutions(codec.encoder), _convolutions(codec.decoder)[::-1]
    one = torch.eye(1, device=x.device)
    _newest_tap(down[0], one)
    _newest_tap(up[0], one)
    up[0].weight[:, 1:] = 0
    residual = zip(_residuals(codec.encoder), _residuals(codec.decoder)[::-1], strict=True)
    for c, t, blocks in zip(down[1:-1], up[1:-1], residual, strict=True):
        stride, carriers = c.stride[0], x.shape[2]
        for block in blocks:
            _pass(block, carriers)
        x = x.reshape(len(x), -1, stride * carriers)
        basis = _components(x, min(c.out_channels, stride * carriers))
        scale = SMALL / float((x @ basis).std((0, 1)).max())
        x = x @ basis * scale
        taps = basis.view(stride, carriers, -1).permute(2, 1, 0)  # [more carriers, carriers, stride]
        more = len(taps)
        c.weight[:more] = 0
        c.weight[:more, :carriers, stride:] = taps * scale  # the newer half of the window
        c.bias[:more] = 0
        t.weight[:, :carriers] = 0
        t.weight[:more, :carriers, :stride] = taps / scale
        t.bias[:carriers] = 0
    basis = _components(x, codec.config.dimension)
    scales = (x @ basis).std((0, 1)).clamp(min=1e-6) ** -EVEN
    _newest_tap(down[-1], (basis * scales).t())
    _newest_tap(up[-1], basis / scales)


def _convolutions(network: Any) -> list[Any]:
    """Those that lie between the residual blocks, in order."""
    kinds = {"SConv1d": lambda m: m.conv.conv, "SConvTranspose1d": lambda m: m.convtr.convtr}
    return [kinds[type(m).__name__](m) for m in network.model if type(m).__name__ in kinds]


def _residuals(network: Any) -> list[Any]:
    return [m for m in network.model if type(m).__name__ == "SEANetResnetBlock"]


def _components(x: Tensor, count: int) -> Tensor:
    """The principal axes [d, count] of vectors [.., d], strongest first."""
    flat = x.reshape(-1, x.shape[-1]).double()
    return torch.linalg.eigh(flat.t() @ flat)[1].flip(1)[:, :count].float()


def _newest_tap(conv: Any, matrix: Tensor) -> None:
    """Give the first outputs ``matrix`` [outputs, inputs] of the first inputs' newest tap, nothing else."""
    outputs, inputs = matrix.shape
    conv.weight[:outputs] = 0
    conv.weight[:outputs, :inputs, -1] = matrix
    conv.bias[:outputs] = 0


def _pass(block: Any, channels: int) -> None:
    """Let a residual block leave its first channels as they are."""
    shortcut, inner = block.shortcut.conv.conv, block.block[-1].conv.conv
    for conv in (shortcut, inner):
        conv.weight[:channels] = 0
        conv.bias[:channels] = 0
    shortcut.weight[:channels, :channels, 0] = torch.eye(channels, device=shortcut.weight.device)
