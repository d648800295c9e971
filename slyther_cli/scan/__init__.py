"""The selective scan and its depthwise convolution: one function each, one chooser, several backends.

``reference`` is plain torch and the truth; ``cpu`` is compiled C++ (native/); ``triton_scan`` runs on CUDA
without a build; ``mamba_ssm`` adapts the published CUDA kernels where they are installed. Nothing here knows
a layer or a model.

The backend is chosen by device, best first; ``SLYTHER_SCAN=reference|cpu|triton|mamba_ssm`` or
:func:`use_backend` overrides. A slower one than the device deserves is announced once on stderr.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from functools import lru_cache

import torch
from torch import Tensor

from slyther_cli.errors import DeviceError
from slyther_cli.scan import cpu, reference

_override: str | None = None


def backends() -> dict[str, str]:
    """Every backend with why it cannot run here; an empty string where it can."""
    return {
        "cpu": cpu.why_not,
        "triton": _triton_why_not(),
        "mamba_ssm": _mamba_ssm_why_not(),
        "reference": "",
    }


def live_backend(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """The backend that a call on this device and type takes.

    Raises :class:`DeviceError` if an override names one that cannot run.
    """
    name = _override or os.environ.get("SLYTHER_SCAN", "")
    if name:
        reasons = backends()
        if name not in reasons:
            raise DeviceError(f"SLYTHER_SCAN={name}: unknown backend; choose one of {', '.join(reasons)}")
        if reasons[name]:
            raise DeviceError(f"scan backend {name} cannot run here: {reasons[name]}")
        return name
    if dtype == torch.float64:
        return "reference"
    if torch.device(device).type == "cuda":
        order = ("mamba_ssm", "triton")
        why = {"mamba_ssm": _mamba_ssm_why_not(), "triton": _triton_why_not()}
    else:
        order, why = ("cpu",), {"cpu": cpu.why_not}
    for name in order:
        if not why[name]:
            return name
    _announce(f"slow scan: running on the torch reference, because {why[order[-1]]}; see `slyther doctor`")
    return "reference"


@contextmanager
def use_backend(name: str):
    """Run the scans of a ``with`` block on one backend, for tests and benchmarks."""
    global _override
    before, _override = _override, name
    try:
        yield
    finally:
        _override = before


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    delta_softplus: bool = True,
    initial_state: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Selective state-space scan with fused softplus, skip and gate (Gu & Dao 2023, section 3.2).

    ``h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t``, ``y_t = (C_t . h_t + D u_t) * silu(z_t)`` with
    ``dt = softplus(delta + delta_bias)``. With ``reverse`` the walk goes from the last frame to the first.

    Shapes: ``u``, ``delta``, ``z`` [batch, length, channels]; ``B``, ``C`` [batch, length, states]; ``A``
    [channels, states], negative; ``D``, ``delta_bias`` [channels]; ``initial_state`` [batch, channels, states],
    the state before the first frame walked (zeros if None). Slices with a channel stride of 1 are not copied.

    Returns ``y`` [batch, length, channels] in the type of ``u`` and the state after the last frame walked,
    float32 (float64 for float64 input). Differentiable in every tensor. Raises ValueError on shapes that do
    not fit.
    """
    if u.dim() != 3 or delta.shape != u.shape or A.dim() != 2 or A.shape[0] != u.shape[2]:
        raise ValueError(f"selective_scan: u {tuple(u.shape)}, delta {tuple(delta.shape)}, A {tuple(A.shape)}")
    if B.shape != (*u.shape[:2], A.shape[1]) or C.shape != B.shape:
        raise ValueError(f"selective_scan: B {tuple(B.shape)} and C {tuple(C.shape)} must be [batch, length, states]")
    args = (u, delta, A, B, C, D, z, delta_bias, delta_softplus, initial_state, reverse)
    backend = live_backend(u.device, u.dtype)
    if backend == "cpu":
        return cpu.selective_scan(*args)
    if backend == "triton":
        from slyther_cli.scan import triton_scan

        return triton_scan.selective_scan(*args)
    if backend == "mamba_ssm":
        from slyther_cli.scan import mamba_ssm

        return mamba_ssm.selective_scan(*args)
    return reference.selective_scan(*args)


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    silu: bool = True,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution with SiLU, as in front of the scan of a Mamba.

    ``y_s = silu(bias + sum_j weight[:, j] x_(s - width + 1 + j))``; with ``reverse`` the window lies on the frames
    to the right. Shapes: ``x`` [batch, length, channels], ``weight`` [channels, width], ``bias`` [channels],
    ``initial_state`` [batch, width - 1, channels]: the frames before the first one walked, in walking order.

    Returns ``y`` like ``x`` and the state after the last frame walked. Differentiable in every tensor.
    """
    width = weight.shape[1]
    backend = live_backend(x.device, x.dtype)
    if backend == "cpu" and 2 <= width <= 4:
        y = cpu.causal_conv(x, weight, bias, initial_state, reverse, silu)
    elif backend == "mamba_ssm":
        from slyther_cli.scan import mamba_ssm

        y = mamba_ssm.causal_conv(x, weight, bias, initial_state, reverse, silu)
    else:
        y = reference.causal_conv(x, weight, bias, initial_state, reverse, silu)
    tail = x[:, : width - 1].flip(1) if reverse else x[:, max(0, x.shape[1] - width + 1) :]
    if tail.shape[1] < width - 1:  # a segment shorter than the window: what it lacks is older
        past = x.new_zeros(x.shape[0], width - 1, x.shape[2]) if initial_state is None else initial_state.to(x.dtype)
        tail = torch.cat([past, tail], 1)[:, -(width - 1) :]
    return y, tail


@lru_cache
def _triton_why_not() -> str:
    try:
        from slyther_cli.scan import triton_scan
    except ImportError as error:
        return f"triton is not installed ({error})"
    return triton_scan.why_not()


@lru_cache
def _mamba_ssm_why_not() -> str:
    try:
        from slyther_cli.scan import mamba_ssm
    except ImportError as error:
        return f"mamba-ssm or causal-conv1d is not installed ({error})"
    return mamba_ssm.why_not()


@lru_cache
def _announce(message: str) -> None:
    print(f"slyther: {message}", file=sys.stderr)
