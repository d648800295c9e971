"""The selective scan and the depthwise causal convolution in plain torch: the truth for every backend.

Follows Gu & Dao, "Mamba" (2023), section 3.2 and algorithm 2: zero-order hold for A, Euler for B. Slow (a
Python loop over time), differentiable by autograd, and exact in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.scan.inputs import ScanInputs


def selective_scan(inputs: ScanInputs) -> tuple[Tensor, Tensor]:
    """See :func:`slyther_cli.scan.selective_scan`. Computes in float64 if ``u`` is, else in float32."""
    u, delta, A, B, C, D, z, delta_bias, initial_state, delta_softplus, reverse = inputs
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    x, dt, Bt, Ct = (t.to(dtype) for t in (u, delta, B, C))
    if delta_bias is not None:
        dt = dt + delta_bias.to(dtype)
    if delta_softplus:
        dt = F.softplus(dt, threshold=36)  # exact in float64; without the threshold exp would overflow
    A = A.to(dtype)
    batch, length, dim = x.shape
    h = x.new_zeros(batch, dim, A.shape[1]) if initial_state is None else initial_state.to(dtype)
    steps = range(length - 1, -1, -1) if reverse else range(length)
    # unbind once: the backward pass of an index would fill a zero tensor of the whole length at every step
    dts, dtxs, Bs, Cs = (t.unbind(1) for t in (dt, dt * x, Bt, Ct))
    ys: list[Tensor] = []
    for t in steps:
        decay = torch.exp(dts[t][..., None] * A)  # [batch, dim, states]
        h = decay * h + dtxs[t][..., None] * Bs[t][:, None]
        ys.append((h * Cs[t][:, None]).sum(-1))
    if reverse:
        ys.reverse()
    y = torch.stack(ys, 1) if ys else x.new_zeros(batch, 0, dim)
    if D is not None:
        y = y + D.to(dtype) * x
    if z is not None:
        y = y * F.silu(z.to(dtype))
    return y.to(u.dtype), h


def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    silu: bool = True,
) -> Tensor:
    """See :func:`slyther_cli.scan.causal_conv`; without the final state, which the caller slices."""
    width = weight.shape[1]
    walk = x.flip(1) if reverse else x
    past = initial_state
    past = x.new_zeros(x.shape[0], width - 1, x.shape[2]) if past is None else past.to(x.dtype)
    padded = torch.cat([past, walk], 1)
    y = torch.zeros_like(x)
    for j in range(width):
        y = y + padded[:, j : j + x.shape[1]] * weight[:, j].to(x.dtype)
    if bias is not None:
        y = y + bias.to(x.dtype)
    if silu:
        y = F.silu(y)
    return y.flip(1) if reverse else y
