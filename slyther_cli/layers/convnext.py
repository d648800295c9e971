"""ConvNeXt blocks over time (Liu et al. 2022, arXiv 2201.03545), as Vocos has them (Siuzdak 2023, arXiv
2306.00814)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConvNeXtBlock(nn.Module):
    """[batch, time, d] -> the same: a depthwise convolution over 7, a norm, two linear layers (Vocos)."""

    REACH = 3

    def __init__(self, d: int, d_ffn: int):
        super().__init__()
        self.dwconv = nn.Conv1d(d, d, 2 * self.REACH + 1, groups=d, padding=self.REACH)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(d, d_ffn), nn.Linear(d_ffn, d)
        self.gamma = nn.Parameter(torch.full((d,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        # Shifted sums: at these rates faster than a depthwise convolution, backward by far (docs/codec.md).
        taps, padded = self.dwconv.weight[:, 0], F.pad(x, (0, 0, self.REACH, self.REACH))
        y = self.dwconv.bias + sum(padded[:, i : i + x.shape[1]] * tap for i, tap in enumerate(taps.t()))
        return x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))
