"""The compiled CPU backend: autograd functions around ``slyther_cli._native`` (see native/).

float32 throughout; other types are converted on the way in and back on the way out. Threads: as many as
``torch.get_num_threads()``, over channel blocks and batch items; the result does not depend on their number
(dB and dC, sums over channels, do by rounding).
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import overload

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from slyther_cli.scan.inputs import ScanInputs


def _mend(source: Path) -> str:
    """What helps who runs ``source``: the installed slyther, if there is one."""
    others = [Path(entry or ".", source.name).resolve() for entry in sys.path]
    if any(other != source.resolve() and any(other.glob("_native.*")) for other in others):
        return "run `python -P`, or from another folder, to take the installed one"
    return f"`pip install {shlex.quote(str(source.parent))}`, then run `python -P`, or from another folder"


try:
    from slyther_cli import _native
except ImportError as error:  # not built, or built for another Python
    _native = None  # type: ignore[assignment]
    why_not = f"the compiled extension is not there ({error})"
    if (_folder := Path(__file__).parents[1]).with_name("pyproject.toml").exists():
        why_not = f"Python took slyther's source in {_folder.parent}, which has no compiled extension: "
        why_not += _mend(_folder)
else:
    why_not = ""


@overload
def _plain(t: Tensor) -> Tensor: ...
@overload
def _plain(t: None) -> None: ...
def _plain(t):
    """float32 and detached, channel stride 1; a copy only when it has to be."""
    if t is None:
        return None
    t = t.detach().to(torch.float32)
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


@overload
def _dense(t: Tensor) -> Tensor: ...
@overload
def _dense(t: None) -> None: ...
def _dense(t):
    """The same, contiguous."""
    return None if t is None else t.detach().to(torch.float32).contiguous()


def _typed(grads: list[Tensor | None], types: list[torch.dtype | None]) -> list[Tensor | None]:
    """Gradients in the types of their inputs; None for an input that was not given."""
    return [None if g is None or k is None else g.to(k) for g, k in zip(grads, types, strict=True)]


class _Scan(Function):
    @staticmethod
    def forward(ctx, with_grad, *given):
        inputs = ScanInputs(*given)
        us, ds, Bs, Cs = _plain(inputs.u), _plain(inputs.delta), _plain(inputs.B), _plain(inputs.C)
        As, Ds, zs, bs = _dense(inputs.A), _dense(inputs.D), _plain(inputs.z), _dense(inputs.delta_bias)
        softplus, reverse = options = inputs.delta_softplus, inputs.reverse
        batch, length, dim = us.shape
        y = torch.empty(batch, length, dim)
        h_last = torch.empty(batch, dim, As.shape[1])
        ckpt = None
        if with_grad and any(ctx.needs_input_grad):
            ckpt = torch.empty(batch, -(-length // _native.TILE), dim, As.shape[1])
        _native.scan_forward(
            us, ds, As, Bs, Cs, Ds, zs, bs, _dense(inputs.initial_state), softplus, reverse,
            y, h_last, ckpt, torch.get_num_threads(),
        )  # fmt: skip
        if ckpt is not None:
            ctx.save_for_backward(us, ds, As, Bs, Cs, Ds, zs, bs, ckpt)
            ctx.options = options
            ctx.types = [None if t is None else t.dtype for t in inputs.tensors]
        ctx.set_materialize_grads(False)
        return y.to(inputs.u.dtype), h_last

    @staticmethod
    @once_differentiable
    def backward(ctx, dy, dh_last):
        us, ds, As, Bs, Cs, Ds, zs, bs, ckpt = ctx.saved_tensors
        softplus, reverse = ctx.options
        batch, length, dim = us.shape
        states, threads = As.shape[1], torch.get_num_threads()
        parts = _native.grad_parts(batch, dim, threads)
        dy = torch.zeros(batch, length, dim) if dy is None else _plain(dy)
        du, ddelta = torch.empty(batch, length, dim), torch.empty(batch, length, dim)
        dz = None if zs is None else torch.empty(batch, length, dim)
        dB, dC = torch.empty(parts, batch, length, states), torch.empty(parts, batch, length, states)
        dA, dh0 = torch.empty(batch, dim, states), torch.empty(batch, dim, states)
        dD, dbias = torch.empty(batch, dim), torch.empty(batch, dim)
        _native.scan_backward(
            us, ds, As, Bs, Cs, Ds, zs, bs, softplus, reverse, ckpt, dy, _dense(dh_last),
            du, ddelta, dB, dC, dA, dD, dz, dbias, dh0, threads,
        )  # fmt: skip
        grads = [du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dD.sum(0), dz, dbias.sum(0), dh0]
        return (None, *_typed(grads, ctx.types), None, None)


class _Conv(Function):
    @staticmethod
    def forward(ctx, x, weight, bias, h0, reverse, silu):
        xs, ws, bs, h0s = _plain(x), _dense(weight), _dense(bias), _dense(h0)
        y = torch.empty(xs.shape)
        _native.conv_forward(xs, ws, bs, h0s, silu, reverse, y, torch.get_num_threads())
        ctx.save_for_backward(xs, ws, bs, h0s)
        ctx.options = silu, reverse
        ctx.types = [None if t is None else t.dtype for t in (x, weight, bias, h0)]
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy):
        xs, ws, bs, h0s = ctx.saved_tensors
        silu, reverse = ctx.options
        batch, _, dim = xs.shape
        dx, dw, db = torch.empty(xs.shape), torch.empty(batch, *ws.shape), torch.empty(batch, dim)
        dh0 = None if h0s is None else torch.zeros(h0s.shape)
        _native.conv_backward(
            xs, ws, bs, h0s, silu, reverse, _plain(dy), dx, dw, db, dh0, torch.get_num_threads()
        )
        grads = [dx, dw.sum(0), db.sum(0), dh0]
        return (*_typed(grads, ctx.types), None, None)


def selective_scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """As :func:`slyther_cli.scan.selective_scan`."""
    return _Scan.apply(torch.is_grad_enabled(), *inputs)  # inside the function it is always off


def causal_conv(x, weight, bias, initial_state, reverse, silu):
    """As :func:`slyther_cli.scan.causal_conv`, without the final state."""
    return _Conv.apply(x, weight, bias, initial_state, reverse, silu)
