"""Matrices in eight bits: each row as whole numbers from -127 to 127 and one scale.

The error is at most half a step, 1/254 of the row's largest value: about 42 dB below the row for values that
fall normally. A matrix ``key`` of a weights file stands beside ``key:scale`` [rows]; no parameter of a module
has such a name. Vectors and small matrices are kept in half precision.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from slyther_cli.errors import ModelError

SUFFIX = ":scale"
FEWEST = 4096  # values that are worth a row of scales


def pack(tensors: Mapping[str, Tensor], only: str = "") -> dict[str, Tensor]:
    """Floats in eight bits where that saves something and the name begins with ``only``, else in half
    precision; other types as they are."""
    out = {}
    for key, tensor in tensors.items():
        small = tensor.dim() < 2 or tensor.numel() < FEWEST or tensor[0].numel() < 16
        if not tensor.is_floating_point():
            out[key] = tensor
        elif small or not key.startswith(only):
            out[key] = tensor.half()
        else:
            rows = tensor.float().flatten(1)
            scale = rows.abs().amax(1).clamp(min=1e-30) / 127
            out[key] = (rows / scale[:, None]).round().to(torch.int8).view(tensor.shape)
            out[key + SUFFIX] = scale
    return out


def unpack(key: str, whole: Tensor, scale: Tensor) -> Tensor:
    """int8 [rows, ...] and [rows] float32 -> float32. Raises :class:`ModelError` on anything else."""
    if whole.dtype != torch.int8 or scale.dtype != torch.float32 or scale.shape != whole.shape[:1]:
        raise ModelError(f"tensor {key} and its scales do not fit")
    return whole.float() * scale.view(-1, *[1] * (whole.dim() - 1))
