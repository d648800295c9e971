"""ExtBiMamba: two whole Mambas, one for each direction, in place of the BiMamba with shared projections.

Source: Zhang et al. 2024, "Mamba in Speech", arXiv 2405.12609; papers.md section 6: the second Mamba hears
the recording turned around, both outputs are joined (2 d) and projected to d.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slyther_cli.layers.mamba import Mamba


class ExtBiMamba(nn.Module):
    """[batch, frames, d] -> the same. ``lengths`` [batch]: frames of each recording in a padded batch, which
    then gives what each gives alone."""

    def __init__(self, d: int, d_state: int = 16):
        super().__init__()
        self.forward_mamba, self.backward_mamba = Mamba(d, d_state), Mamba(d, d_state)
        self.output_proj = nn.Linear(2 * d, d)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        back = turned(self.backward_mamba(turned(x, lengths)), lengths)
        return self.output_proj(torch.cat([self.forward_mamba(x), back], -1))


def turned(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Each recording of x [batch, n, d] turned around in time; its padding stays behind it."""
    if lengths is None:
        return x.flip(1)
    at = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
    last = lengths[:, None] - 1
    return x.gather(1, torch.where(at <= last, last - at, at)[..., None].expand_as(x))
