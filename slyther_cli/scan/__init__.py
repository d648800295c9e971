"""The selective scan and its depthwise convolution: one function each, one chooser, several backends.

``reference`` is plain torch and the truth; ``cpu`` is compiled C++ (native/); ``triton_scan`` runs on CUDA
without a build; ``mamba_ssm`` adapts the published CUDA kernels where they are installed. Nothing here knows
a layer or a model.

The backend is chosen by device, best first; ``SLYTHER_SCAN=reference|cpu|triton|mamba_ssm`` or
:func:`use_backend` overrides. A slower one than the device deserves is announced once on stderr.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from slyther_cli.errors import DeviceError
from slyther_cli.scan import cpu
from slyther_cli.scan.inputs import ScanInputs, require

_override: str | None = None


def backends() -> dict[str, str]:
    """Every backend with why it cannot run here; an empty string where it can."""
    return {name: why_not() for name, why_not in _WHY_NOT.items()}


def live_backend(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> str:
    """The backend that a call on this device and type takes.

    Raises :class:`DeviceError` if an override names one that cannot run.
    """
    kind = torch.device(device).type
    name = _override or os.environ.get("SLYTHER_SCAN", "")
    if name:
        if name not in _WHY_NOT:
            raise DeviceError(f"SLYTHER_SCAN={name}: unknown backend; choose one of {', '.join(_WHY_NOT)}")
        if reason := _WHY_NOT[name]():
            raise DeviceError(f"scan backend {name} cannot run here: {reason}")
        if name != "reference" and kind not in _device_kinds(name):
            raise DeviceError(f"scan backend {name} cannot run on {kind} tensors")
        return name
    if dtype == torch.float64:
        return "reference"
    if kind == "cuda":
        why = {"mamba_ssm": _mamba_ssm_why_not(), "triton": _triton_why_not()}  # best first
    else:
        why = {"cpu": cpu.why_not}
    for name, reason in why.items():
        if not reason:
            return name
    _announce(f"slow scan: running on the torch reference, because {reason}; see `slyther doctor`")
    return "reference"


def conv_backend(
    device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32, width: int = 4
) -> str:
    """What :func:`causal_conv` runs on: the scan's backend for widths 2 to 4, else the reference."""
    return live_backend(device, dtype) if 2 <= width <= 4 else "reference"


@contextmanager
def use_backend(name: str):
    """Run the scans of a ``with`` block on one backend, for tests and benchmarks."""
    global _override
    before, _override = _override, name
    try:
        yield
    finally:
        _override = before


def selective_scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """Selective state-space scan with fused softplus, skip and gate (Gu & Dao 2023, section 3.2).

    ``h_t = exp(dt_t A) h_(t-1) + dt_t B_t u_t``, ``y_t = (C_t . h_t + D u_t) * silu(z_t)`` with
    ``dt = softplus(delta + delta_bias)``; :class:`ScanInputs` has the shapes.

    Returns ``y`` [batch, length, channels] in the type of ``u`` and the state after the last frame walked
    [batch, channels, states], float32 (float64 for float64 input). Differentiable in every tensor. Raises
    ValueError on shapes that do not fit.
    """
    inputs.check()
    u = inputs.u
    backend = live_backend(u.device, u.dtype) if u.numel() else "reference"
    return _module(backend).selective_scan(inputs)


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

    ``y_s = silu(bias + sum_j weight[:, j] x_(s - width + 1 + j))``; with ``reverse`` the window lies on the
    frames to the right. Shapes: ``x`` [batch, length, channels], ``weight`` [channels, width], ``bias``
    [channels], ``initial_state`` [batch, width - 1, channels]: the frames before the first one walked, in
    walking order.

    Returns ``y`` like ``x`` and the state after the last frame walked. Differentiable in every tensor. Raises
    ValueError on shapes that do not fit.
    """
    if x.dim() != 3 or weight.dim() != 2:
        raise ValueError(f"causal_conv: x {tuple(x.shape)} must be 3-d and weight {tuple(weight.shape)} 2-d")
    (batch, length, dim), width = x.shape, weight.shape[1]
    require("causal_conv", "weight", weight, (dim, width))
    require("causal_conv", "bias", bias, (dim,))
    require("causal_conv", "initial_state", initial_state, (batch, width - 1, dim))
    backend = conv_backend(x.device, x.dtype, width) if x.numel() else "reference"
    y = _module(backend).causal_conv(x, weight, bias, initial_state, reverse, silu)
    tail = x[:, : width - 1].flip(1) if reverse else x[:, max(0, length - width + 1) :]
    if tail.shape[1] < width - 1:  # a segment shorter than the window: what it lacks is older
        past = initial_state
        past = x.new_zeros(batch, width - 1, dim) if past is None else past.to(x.dtype)
        tail = torch.cat([past, tail], 1)[:, -(width - 1) :]
    return y, tail.clone()  # not a view, which would keep the whole segment in memory


@lru_cache
def _module(backend: str) -> Any:
    """Where a backend's ``selective_scan`` and ``causal_conv`` are; imported when it is first used."""
    return importlib.import_module(f"slyther_cli.scan.{'triton_scan' if backend == 'triton' else backend}")


def _device_kinds(backend: str) -> tuple[str, ...]:
    if backend == "triton":
        from slyther_cli.scan import triton_scan

        return ("cuda", "cpu") if triton_scan.INTERPRETED else ("cuda",)
    return ("cpu",) if backend == "cpu" else ("cuda",)


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


_WHY_NOT: dict[str, Callable[[], str]] = {  # asked one by one: importing triton takes 75 MB
    "cpu": lambda: cpu.why_not,
    "triton": _triton_why_not,
    "mamba_ssm": _mamba_ssm_why_not,
    "reference": lambda: "",
}


@lru_cache
def _announce(message: str) -> None:
    print(f"slyther: {message}", file=sys.stderr)
