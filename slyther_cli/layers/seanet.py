"""encodec's SEANet networks piece by piece: of a long signal comes out what comes out of it at once.

Every module of a causal SEANet gets a small object that keeps what it needs of the past: a convolution the
last inputs of its window, a transposed convolution the inputs whose output still overlaps, an LSTM its state.
Source: Defossez et al. 2022, High Fidelity Neural Audio Compression, 3.1; the layers are those of the encodec
package, whose parameters are used as they are.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, cat, nn


class Piecewise(Protocol):
    """[batch, channels, n] -> [batch, channels', m], with m = 0 while too little has come. ``last``: no more
    input follows (it may be empty), so what is held back comes out."""

    def __call__(self, x: Tensor, last: bool) -> Tensor: ...


def piecewise(module: nn.Module) -> Piecewise:
    """The streamed form of a module of encodec's, at the start of a signal. It computes with the module's
    parameters, without gradients kept between pieces."""
    kind = type(module).__name__
    if isinstance(module, nn.Sequential):
        return _Sequence(module)
    streamed: dict[str, Any] = {
        "SConv1d": _Convolution,
        "SConvTranspose1d": _Transposed,
        "SLSTM": _Recurrent,
        "SEANetResnetBlock": _Residual,
    }
    return streamed[kind](module) if kind in streamed else _Pointwise(module)


def _joined(held: Tensor | None, x: Tensor) -> Tensor:
    return x if held is None or not held.shape[-1] else cat([held, x], -1)


class _Sequence:
    def __init__(self, modules: nn.Sequential):
        self.parts = [piecewise(m) for m in modules]

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        for part in self.parts:
            x = part(x, last)
        return x


class _Pointwise:
    """A module that treats every sample by itself: an activation."""

    def __init__(self, module: nn.Module):
        self.module = module

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        return self.module(x)


class _Convolution:
    """Causal, padded at both ends as encodec does: ``past`` samples before the start, and behind the end as
    many as fill the last window, both mirrored or zero."""

    def __init__(self, module: Any):
        self.module, self.conv = module, module.conv.conv
        self.stride, dilation = self.conv.stride[0], self.conv.dilation[0]
        self.window = (self.conv.kernel_size[0] - 1) * dilation + 1
        self.past = self.window - self.stride
        self.mode = module.pad_mode
        self.held: Tensor | None = None
        self.started = False

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        x = _joined(self.held, x)
        if not self.started:
            if x.shape[-1] <= self.past and self.mode == "reflect":  # too little to mirror
                self.held = x
                if last and x.shape[-1]:
                    return self.module(x)
                return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
            x = nn.functional.pad(x, (self.past, 0), mode=self.mode)
            self.started = True
        if last and (extra := (self.past - x.shape[-1]) % self.stride):
            x = nn.functional.pad(x, (0, extra), mode=self.mode)
        count = max(0, (x.shape[-1] - self.window) // self.stride + 1)
        self.held = x[..., count * self.stride :]
        if not count:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        return self.module.conv(x[..., : (count - 1) * self.stride + self.window])


class _Transposed:
    """Causal: what follows the last input's own ``stride`` outputs is cut off, as encodec does."""

    def __init__(self, module: Any):
        self.module, self.conv = module, module.convtr.convtr
        self.stride = self.conv.stride[0]
        self.reach = -(-self.conv.kernel_size[0] // self.stride) - 1  # inputs before it that an output needs
        self.held: Tensor | None = None

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        if not x.shape[-1]:
            return x.new_zeros(x.shape[0], self.conv.out_channels, 0)
        before = 0 if self.held is None else self.held.shape[-1]
        x = _joined(self.held, x)
        self.held = x[..., max(0, x.shape[-1] - self.reach) :]
        return self.module.convtr(x)[..., before * self.stride : x.shape[-1] * self.stride]


class _Recurrent:
    def __init__(self, module: Any):
        self.module = module
        self.state: tuple[Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        if not x.shape[-1]:
            return x
        y, self.state = self.module.lstm(x.permute(2, 0, 1), self.state)
        y = y.permute(1, 2, 0)
        return y + x if self.module.skip else y


class _Residual:
    """The sum of two paths of which one may lag at the start."""

    def __init__(self, module: Any):
        self.block, self.shortcut = piecewise(module.block), piecewise(module.shortcut)
        self.waiting: Tensor | None = None

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        short = _joined(self.waiting, self.shortcut(x, last))
        y = self.block(x, last)
        self.waiting = short[..., y.shape[-1] :]
        return y + short[..., : y.shape[-1]]


def empty_like(parameters: nn.Module, batch: int, channels: int) -> Tensor:
    """[batch, channels, 0] on the module's device."""
    return torch.zeros(batch, channels, 0, device=next(parameters.parameters()).device)
