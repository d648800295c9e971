"""Vectors and the codebooks that they are quantized with."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest(x: Tensor, codes: Tensor) -> Tensor:
    """[n, d], [size, d] -> the index of the closest code for each [n], by squared distance."""
    return torch.addmm(codes.square().sum(1), x, codes.t(), alpha=-2).argmin(1)
