"""Mamba and BiMamba (Mamba-1), with the parameter names of the published checkpoints.

Sources: Gu & Dao 2023, "Mamba", section 3.4 and figure 3 (the block); Jiang et al. 2024, "Speech Slytherin",
section on bidirectional Mamba (the shared in/out projections, the average of both directions before
out_proj).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.scan import ScanInputs, causal_conv, selective_scan


class MambaState(NamedTuple):
    """What one direction of a Mamba carries over a segment border; constant in size.

    conv: [batch, d_conv - 1, d_inner], the last inputs of the convolution in walking order.
    ssm:  [batch, d_inner, d_state] float32, the state after the last frame walked.
    """

    conv: Tensor
    ssm: Tensor


class Mamba(nn.Module):
    """One Mamba mixer, walking left to right. [batch, length, d_model] -> the same."""

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2):
        super().__init__()
        self.d_model, self.d_state, self.d_conv = d_model, d_state, d_conv
        self.d_inner = expand * d_model
        self.dt_rank = math.ceil(d_model / 16)
        self.in_proj = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self._add_direction("")
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def _add_direction(self, tail: str) -> None:
        """The parameters that one direction owns; ``tail`` is "" or "_b" (backward), as in the
        checkpoints.
        """
        di, n, r = self.d_inner, self.d_state, self.dt_rank
        conv1d = nn.Conv1d(di, di, self.d_conv, groups=di, padding=self.d_conv - 1)
        x_proj, dt_proj = nn.Linear(di, r + 2 * n, bias=False), nn.Linear(r, di)
        nn.init.uniform_(dt_proj.weight, -(r**-0.5), r**-0.5)
        # Values are made on the CPU: the same mathematics on the meta device, where a checkpoint's shapes are
        # checked, would load sympy and all of torch's compiler, 1.6 s and 150 MB.
        dt = torch.exp(torch.empty(di, device="cpu").uniform_(math.log(1e-3), math.log(1e-1))).clamp(min=1e-4)
        A_log = nn.Parameter(torch.empty(di, n))
        with torch.no_grad():
            dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # softplus(bias) = dt
            A_log.copy_(torch.arange(1, n + 1, dtype=torch.float32, device="cpu").log())
        self.add_module(f"conv1d{tail}", conv1d)
        self.add_module(f"x_proj{tail}", x_proj)
        self.add_module(f"dt_proj{tail}", dt_proj)
        self.register_parameter(f"A{tail}_log", A_log)
        self.register_parameter(f"D{tail}", nn.Parameter(torch.ones(di)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[batch, length, d_model] -> scan input and gate, [batch, length, d_inner] each, shared by both
        directions.

        Two products instead of one that is split afterwards: the gradients then need not be joined again,
        which was a tenth of a training step.
        """
        return self.scan_input(x), self.gate(x)

    def scan_input(self, x: Tensor) -> Tensor:
        return F.linear(x, self.in_proj.weight[: self.d_inner])

    def gate(self, x: Tensor) -> Tensor:
        return F.linear(x, self.in_proj.weight[self.d_inner :])

    def direction(
        self, xz: tuple[Tensor, Tensor | None], state: MambaState | None = None, *, backward: bool = False
    ) -> tuple[Tensor, MambaState]:
        """One direction's gated output [batch, length, d_inner], before out_proj, and the state to carry on.
        Without z it is not gated.

        ``backward`` takes the parameters of the backward direction and walks from the last frame to the
        first.
        """
        tail, reverse = ("_b", True) if backward else ("", False)
        conv, x_proj, dt_proj = (getattr(self, f"{name}{tail}") for name in ("conv1d", "x_proj", "dt_proj"))
        x, z = xz
        past, h = state or (None, None)
        u, conv_state = causal_conv(x, conv.weight.squeeze(1), conv.bias, initial_state=past, reverse=reverse)
        dt, B, C = x_proj(u).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        inputs = ScanInputs(
            u=u,
            delta=F.linear(dt, dt_proj.weight),
            A=-torch.exp(getattr(self, f"A{tail}_log").float()),
            B=B,
            C=C,
            D=getattr(self, f"D{tail}").float(),
            z=z,
            delta_bias=dt_proj.bias.float(),
            initial_state=h,
            reverse=reverse,
        )
        y, ssm_state = selective_scan(inputs)
        return y, MambaState(conv_state, ssm_state)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_proj(self.direction(self.project(x))[0])

    def step(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        """[batch, length, d_model] for any length, 1 included, going on from ``state``: what ``forward``
        would give.
        """
        y, state = self.direction(self.project(x), state)
        return self.out_proj(y), state


class BiMamba(Mamba):
    """Both directions with shared projections: out_proj((forward + backward) / 2). Not causal.

    There is no padding mask, as in the papers: every frame counts, so batches hold equal lengths.
    """

    def __init__(self, d_model: int, d_state: int = 16, d_conv: int = 4, expand: int = 2):
        super().__init__(d_model, d_state, d_conv, expand)
        self._add_direction("_b")

    def forward(self, x: Tensor) -> Tensor:
        xz = self.project(x)
        return self.combine(self.direction(xz)[0], self.direction(xz, backward=True)[0])

    def combine(self, one: Tensor, other: Tensor) -> Tensor:
        """out_proj of the mean of both directions; halving the small weight is exact and cheaper than the
        frames.
        """
        return F.linear(one + other, self.out_proj.weight * 0.5)

    def combine_ungated(self, one: Tensor, other: Tensor, z: Tensor) -> Tensor:
        """The same of directions without their gate z; ``other`` and ``z`` are overwritten (no gradients)."""
        return F.linear(other.add_(one).mul_(F.silu(z, inplace=True)), self.out_proj.weight * 0.5)

    def step(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        raise TypeError("a bidirectional Mamba needs the whole recording; it cannot run step by step")


class MambaLayer(nn.Module):
    """Pre-norm residual layer of the separation networks: x + mixer(RMSNorm(x)) (Speech
    Slytherin, section 3).
    """

    def __init__(self, d_model: int, d_state: int = 16, causal: bool = False):
        super().__init__()
        self.mixer: Mamba | BiMamba = Mamba(d_model, d_state) if causal else BiMamba(d_model, d_state)
        self.norm = nn.RMSNorm(d_model, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))

    def step(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        y, state = self.mixer.step(self.norm(x), state)
        return x + y, state

    # The sweep interface (longform.sweep.SweepLayer): one direction now, the other in the sweep that comes
    # back.

    @property
    def half_width(self) -> int:
        """Channels that the first direction leaves on the tape beside the layer's input."""
        return self.mixer.d_inner

    def project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x [1, frames, d_model] -> its norm, and the input of both scans."""
        normed = self.norm(x)
        return normed, self.mixer.scan_input(normed)

    def begin(
        self, projected: tuple[Tensor, Tensor], state: MambaState | None, reverse: bool
    ) -> tuple[Tensor, MambaState]:
        """The direction that the sweep walks: its output [1, frames, half_width], not gated: the gate is
        common to both directions and need not be projected twice.
        """
        return self.mixer.direction((projected[1], None), state, backward=reverse)

    def finish(
        self,
        x: Tensor,
        projected: tuple[Tensor, Tensor],
        half: Tensor,
        state: MambaState | None,
        reverse: bool,
    ) -> tuple[Tensor, MambaState]:
        """The other direction, and the layer's output: what ``forward`` gives, but for rounding."""
        assert isinstance(self.mixer, BiMamba)
        y, state = self.begin(projected, state, reverse)
        return x + self.mixer.combine_ungated(half, y, self.mixer.gate(projected[0])), state

    def flush(self, state: MambaState | None, reverse: bool) -> list[Tensor]:
        """Nothing waits: ``finish`` gives its own tile."""
        return []


class MambaStack(nn.Module):
    """``n_layers`` MambaLayers and a final norm. [batch, length, d_model] -> the same.

    The residual stream has the parameters' type: under autocast the products alone are rounded, and torch's
    norm of one type is quicker than that of two (a seventh of a training step).
    """

    def __init__(self, d_model: int, n_layers: int, d_state: int = 16, causal: bool = False):
        super().__init__()
        self.layers = nn.ModuleList(MambaLayer(d_model, d_state, causal) for _ in range(n_layers))
        self.norm_f = nn.RMSNorm(d_model, eps=1e-5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.norm_f.weight.dtype)
        for layer in self.layers:
            x = layer(x)
        return self.norm_f(x)

    def step(self, x: Tensor, states: list[MambaState | None]) -> tuple[Tensor, list[MambaState | None]]:
        """The same for a piece of a recording; ``states`` holds one state a layer (None at the start)."""
        after: list[MambaState | None] = []
        for layer, state in zip(self.layers, states, strict=True):
            assert isinstance(layer, MambaLayer)
            x, state = layer.step(x, state)
            after.append(state)
        return self.norm_f(x), after
