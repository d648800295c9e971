"""The published CUDA kernels, where ``mamba-ssm`` and ``causal-conv1d`` are installed, behind our interface.

They want channel-major tensors, know one direction and no initial state, and their last state has no gradient
(its docstring says so). So here: transposed copies, flips for the reverse direction, the recurrence's
linearity for the initial state (``y += C_t exp(A sum_(s<=t) dt_s) h0``, before the gate), and a second scan
for the gradient of the last state, only where one arrives.
"""

from __future__ import annotations

import importlib
from functools import lru_cache, reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from slyther_cli.scan import reference
from slyther_cli.scan.inputs import ScanInputs


@lru_cache
def _load() -> tuple[Any, Any, str]:
    """(selective_scan_fn, causal_conv1d_fn, why not). They are imported at first use: it takes seconds."""
    try:
        scan = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
        conv = importlib.import_module("causal_conv1d").causal_conv1d_fn
    except Exception as error:  # a broken build can fail in many ways, and triton stands ready
        return None, None, f"mamba-ssm or causal-conv1d cannot be imported ({type(error).__name__}: {error})"
    if conv is None:
        return None, None, "causal-conv1d was installed without its kernels"
    return scan, conv, ""


def why_not() -> str:
    """Why the published kernels cannot run here; empty if they can."""
    return _load()[2] if torch.cuda.is_available() else "no CUDA device is present"


class _LastState(Function):
    """The last state as the kernel gave it, with the gradient that the kernel does not give.

    Backward scans again, with one more frame a state: no input, no decay, and C the unit vector of that
    state, so that the outputs of these frames are the last state.
    """

    @staticmethod
    def forward(ctx, last, u, delta, A, B, bias, softplus, scan_fn):
        ctx.save_for_backward(u, delta, A, B, bias)
        ctx.softplus, ctx.scan_fn = softplus, scan_fn
        return last.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, dlast):
        saved = ctx.saved_tensors
        leaves: list[Any] = [None if t is None else t.detach().float().requires_grad_() for t in saved]
        with torch.enable_grad():
            u, delta, A, B, bias = leaves
            states = A.shape[1]
            u, dt, B = (F.pad(t, (0, states)) for t in (u, _steps(delta, bias, ctx.softplus), B))
            C = torch.zeros_like(B)
            C[:, :, -states:] = torch.eye(states, device=C.device)
            y = ctx.scan_fn(u, dt, A, B, C)
            given = iter(torch.autograd.grad(y[:, :, -states:], [t for t in leaves if t is not None], dlast))
        grads = [None if t is None else next(given).to(t.dtype) for t in saved]
        return (None, *grads, None, None)


def _steps(delta: Tensor, bias: Tensor | None, softplus: bool) -> Tensor:
    """dt [batch, channels, length] in float32, as the kernel computes it inside."""
    dt = delta.float() if bias is None else delta.float() + bias[:, None]
    return F.softplus(dt) if softplus else dt


def selective_scan(inputs: ScanInputs, *, scan_fn=None) -> tuple[Tensor, Tensor]:
    """As :func:`slyther_cli.scan.selective_scan`; ``scan_fn`` replaces ``selective_scan_fn`` in tests."""
    u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse = inputs
    scan_fn = scan_fn or _load()[0]
    # the kernel wants one type for all sequences: the most precise
    wide = reduce(torch.promote_types, (t.dtype for t in (u, delta, B, C, z) if t is not None))

    def channel_major(t: Tensor) -> Tensor:
        t = t.to(wide).transpose(1, 2)
        return (t.flip(2) if reverse else t).contiguous()

    us, ds, Bs, Cs = (channel_major(t) for t in (u, delta, B, C))
    zs = None if z is None else channel_major(z)
    As = A.float().contiguous()
    Ds, bias, h0 = (None if t is None else t.float().contiguous() for t in (D, delta_bias, initial_state))
    gate = zs if h0 is None else None  # the initial state's part comes before the gate
    y, last = scan_fn(us, ds, As, Bs, Cs, Ds, gate, bias, delta_softplus, return_last_state=True)
    last = last.detach()
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (us, ds, As, Bs, bias)):
        last = _LastState.apply(last, us, ds, As, Bs, bias, delta_softplus, scan_fn)
    if h0 is not None:
        elapsed = _steps(ds, bias, delta_softplus).cumsum(2)
        y = y.float()
        for n in range(As.shape[1]):  # a state at a time: [batch, channels, length], never times states
            y = y + Cs[:, n, None].float() * torch.exp(As[:, n, None] * elapsed) * h0[:, :, n, None]
        last = last + torch.exp(As * elapsed[:, :, -1:]) * h0
        if zs is not None:
            y = y * F.silu(zs.float())
    y = (y.flip(2) if reverse else y).transpose(1, 2)
    return y.to(u.dtype), last


def causal_conv(x, weight, bias, initial_state, reverse, silu, *, conv_fn=None) -> Tensor:
    """As :func:`slyther_cli.scan.causal_conv`, without the final state.

    The kernel wants a multiple of 8 channels; other numbers run on the reference.
    """
    if x.shape[2] % 8 or x.dtype == torch.float64:
        return reference.causal_conv(x, weight, bias, initial_state, reverse, silu)
    conv_fn = conv_fn or _load()[1]
    if reverse:
        x = x.flip(1)
    elif x.stride(2) != 1 or x.stride(1) % 8 or x.stride(0) % 8:
        x = x.contiguous()
    past = None
    if initial_state is not None:
        past = initial_state.to(x.dtype).contiguous().transpose(1, 2)  # channels innermost, as it wants them
    y = conv_fn(
        x.transpose(1, 2),
        weight.float().contiguous(),
        None if bias is None else bias.float().contiguous(),
        initial_states=past,
        activation="silu" if silu else None,
    ).transpose(1, 2)
    return y.flip(1) if reverse else y
