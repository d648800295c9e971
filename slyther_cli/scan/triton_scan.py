"""The Triton backend: scan and depthwise convolution on CUDA, compiled at first use, no build needed.

Parallel over time as well as channels, since a long recording is a batch of one. The length is cut into
chunks: pass 1 scans every chunk from a zero state, pass 2 carries the states over the chunks' borders (a
chunk multiplies the state by ``exp(A * sum of dt)``), pass 3 computes the outputs. The backward scan does the
same from the other end. The state is float32 whatever the inputs; every sum is taken in a fixed order, so
runs repeat bit for bit.

Nothing is tuned or compiled for a length: a kernel is compiled once for a number of states, a set of types
and the options. With ``TRITON_INTERPRET=1`` set before triton is first imported, the kernels run on CPU
tensors, slowly, for tests. On an H100 one warp of 16 x 32 values was the quickest tile by far: with two
warps, or half the channels, a scan took half as long again, with four warps twice as long (docs/gpu.md).
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from slyther_cli.scan import triton_kernels as kernels
from slyther_cli.scan.inputs import ScanInputs

TILE = 16  # steps between two saved states, for the backward pass
CHUNK = 64  # the shortest chunk
CONV_ROWS, CONV_CHANNELS = 32, 64
INTERPRETED = not isinstance(kernels.carry, triton.JITFunction)


def why_not() -> str:
    """Why the kernels cannot run here; empty if they can."""
    if INTERPRETED:
        return ""
    if not torch.cuda.is_available():
        return "no CUDA device is present"
    major, minor = torch.cuda.get_device_capability()
    return "" if major >= 7 else f"triton needs compute capability 7.0, this device has {major}.{minor}"


def _chunk(length: int) -> int:
    """Chunk length: a power of two near the square root, so that no pass has a long serial walk."""
    chunk = CHUNK
    while chunk * chunk < length:
        chunk *= 2
    return chunk


def _sizes(states: int) -> dict[str, int]:
    """Tile of the state that a program holds, and its warps: about 16 values a thread."""
    padded = triton.next_power_of_2(states)
    return {"N": states, "NP": padded, "BD": 32, "num_warps": min(8, max(1, padded // 16))}


def _seq(t):
    """Detached, channel stride 1; a copy only when it has to be."""
    if t is None:
        return None
    t = t.detach()
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def _dense(t):
    """Detached, float32, contiguous."""
    return None if t is None else t.detach().to(torch.float32).contiguous()


def _strides(*tensors: Tensor | None) -> list[int]:
    return [n for t in tensors for n in ((0, 0) if t is None else (t.stride(0), t.stride(1)))]


def _set_edge(borders: Tensor, at: int, state: Tensor | None) -> Tensor:
    """``borders`` [batch, chunks, states, channels] with the state of chunk ``at`` given, or zero."""
    borders[:, at] = 0 if state is None else state.transpose(1, 2)
    return borders


def _on(t: Tensor):
    """Triton launches on the current device: make it the tensor's."""
    return torch.cuda.device(t.device) if t.is_cuda else nullcontext()


class _Scan(Function):
    @staticmethod
    def forward(ctx, train, *given):
        inputs = ScanInputs(*given)
        us, ds, Bs, Cs, zs = (_seq(t) for t in (inputs.u, inputs.delta, inputs.B, inputs.C, inputs.z))
        As, Ds, bs, h0s = (_dense(t) for t in (inputs.A, inputs.D, inputs.delta_bias, inputs.initial_state))
        batch, length, dim = us.shape
        states, chunk = As.shape[1], _chunk(length)
        chunks, marks = -(-length // chunk), -(-length // TILE)

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(*shape, device=us.device, dtype=dtype)

        y, last = room(batch, length, dim, dtype=us.dtype), room(batch, dim, states)
        start = _set_edge(room(batch, chunks, states, dim), 0, h0s)
        saved = room(batch, marks, states, dim) if train else None
        sizes = _sizes(states)
        blocks = -(-dim // sizes["BD"])
        options = {"SOFTPLUS": inputs.delta_softplus, "REVERSE": inputs.reverse}
        if chunks > 1:
            total = room(batch, chunks, dim)
            kernels.local_forward[blocks, chunks - 1, batch](
                us, ds, As, Bs, bs, start, total, length, dim, chunk, chunks,
                *_strides(us, ds, Bs), **sizes, **options,
            )  # fmt: skip
            kernels.carry[blocks, batch](start, total, As, dim, chunks, **sizes, BACKWARD=False)
        kernels.output_forward[blocks, chunks, batch](
            us, ds, As, Bs, Cs, Ds, zs, bs, start, y, last, saved, length, dim, chunk, chunks, marks,
            *_strides(us, ds, Bs, Cs, zs), TILE=TILE, **sizes, **options,
        )  # fmt: skip
        if train:
            ctx.save_for_backward(us, ds, As, Bs, Cs, Ds, zs, bs, saved)
            ctx.options = options
            ctx.types = [None if t is None else t.dtype for t in inputs.tensors]
            ctx.set_materialize_grads(False)
        return y, last

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh_last):
        us, ds, As, Bs, Cs, Ds, zs, bs, saved = ctx.saved_tensors
        batch, length, dim = us.shape
        states, chunk = As.shape[1], _chunk(length)
        chunks, marks = -(-length // chunk), saved.shape[1]
        sizes = _sizes(states)
        blocks = -(-dim // sizes["BD"])

        def room(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.empty(*shape, device=us.device, dtype=dtype)

        dys = torch.zeros_like(us) if dy is None else _seq(dy)
        end = _set_edge(room(batch, chunks, states, dim), chunks - 1, _dense(dh_last))
        if chunks > 1:
            total = room(batch, chunks, dim)
            kernels.local_backward[blocks, chunks - 1, batch](
                ds, As, Cs, bs, zs, dys, end, total, length, dim, chunk, chunks,
                *_strides(ds, Cs, zs, dys), **sizes, **ctx.options,
            )  # fmt: skip
            kernels.carry[blocks, batch](end, total, As, dim, chunks, **sizes, BACKWARD=True)
        du, ddelta = room(batch, length, dim, dtype=us.dtype), room(batch, length, dim, dtype=ds.dtype)
        dz = None if zs is None else room(batch, length, dim, dtype=zs.dtype)
        dB, dC = room(blocks, batch, length, states), room(blocks, batch, length, states)
        dA, dh0 = room(batch, chunks, states, dim), room(batch, dim, states)
        dD, dbias = room(batch, chunks, dim), room(batch, chunks, dim)
        kernels.output_backward[blocks, chunks, batch](
            us, ds, As, Bs, Cs, Ds, zs, bs, saved, end, dys, room(batch, chunks, TILE, states, dim),
            du, ddelta, dA, dB, dC, dD, dz, dbias, dh0, length, dim, chunk, chunks, marks,
            *_strides(us, ds, Bs, Cs, zs, dys), TILE=TILE, **sizes, **ctx.options,
        )  # fmt: skip
        sums = [dA.sum((0, 1)).T, dB.sum(0), dC.sum(0), dD.sum((0, 1)), dz, dbias.sum((0, 1)), dh0]
        grads: list[Any] = [du, ddelta, *sums]
        typed = [None if k is None else g.to(k) for g, k in zip(grads, ctx.types, strict=True)]
        return (None, *typed, None, None)


class _Conv(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, h0, reverse, silu):
        xs, ws, bs, h0s = _seq(x), _dense(weight), _dense(bias), _dense(h0)
        y = torch.empty(xs.shape, device=xs.device, dtype=xs.dtype)
        _conv(xs, ws, bs, h0s, y, reverse, silu)
        ctx.save_for_backward(xs, ws, bs, h0s)
        ctx.options = reverse, silu
        ctx.types = [None if t is None else t.dtype for t in (x, weight, bias, h0)]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        xs, ws, bs, h0s = ctx.saved_tensors
        reverse, silu = ctx.options
        batch, length, dim = xs.shape
        width, dys = ws.shape[1], _seq(dy)
        grid = -(-dim // CONV_CHANNELS), -(-length // CONV_ROWS), batch
        dpre = torch.empty(batch, length, dim, device=xs.device, dtype=torch.float32)
        sums = torch.empty(batch, grid[1], width + 1, dim, device=xs.device, dtype=torch.float32)
        kernels.conv_backward[grid](
            xs, ws, bs, h0s, dys, dpre, sums, length, dim, *_strides(xs, dys),
            K=width, BT=CONV_ROWS, BD=CONV_CHANNELS, REVERSE=reverse, SILU=silu,
        )  # fmt: skip
        dx = torch.empty(xs.shape, device=xs.device, dtype=xs.dtype)
        _conv(dpre, ws, None, None, dx, not reverse, False)
        dh0 = None
        if h0s is not None:  # the few frames before the first: the same convolution, by hand
            first = (dpre.flip(1) if reverse else dpre)[:, : width - 1]
            dh0 = torch.zeros_like(h0s)
            for k in range(width - 1):
                for j in range(max(0, k + 1 - first.shape[1]), k + 1):
                    dh0[:, k] += ws[:, j] * first[:, k - j]
        total = sums.sum((0, 1))
        grads: list[Any] = [dx, total[:width].T, total[width], dh0]
        typed = [None if k is None else g.to(k) for g, k in zip(grads, ctx.types, strict=True)]
        return (*typed, None, None)


def _conv(x, weight, bias, past, y, reverse, silu) -> None:
    batch, length, dim = x.shape
    kernels.conv_forward[-(-dim // CONV_CHANNELS), -(-length // CONV_ROWS), batch](
        x, weight, bias, past, y, length, dim, *_strides(x),
        K=weight.shape[1], BT=CONV_ROWS, BD=CONV_CHANNELS, REVERSE=reverse, SILU=silu,
    )  # fmt: skip


def selective_scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As :func:`slyther_cli.scan.selective_scan`."""
    with _on(inputs.u):
        return _Scan.apply(torch.is_grad_enabled() and inputs.wants_gradient, *inputs)


def causal_conv(x, weight, bias, initial_state, reverse, silu):
    """As :func:`slyther_cli.scan.causal_conv`, without the final state."""
    with _on(x):
        return _Conv.apply(x, weight, bias, initial_state, reverse, silu)
