"""The dual-path mask network: half-overlapping chunks, one model inside each chunk, one across the chunks.

Source: Luo et al. 2020, "Dual-path RNN"; Subakan et al. 2021, "Attention is all you need in speech
separation"; structure and names in papers.md 1.2 and 3.1 (SpeechBrain's Dual_Path_Model). Frames lie
[batch, chunks, frames of a chunk, channels], which needs no transposing for the model inside.

It chunks by nature, and its norms take statistics of the whole recording: it cannot be swept, nor run live.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GlobalNorm(nn.Module):
    """GroupNorm with one group: mean and variance over all frames and channels of a recording; gain and bias
    a channel. [batch, ..., channels] -> the same."""

    def __init__(self, channels: int, eps: float = 1e-8):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        var, mean = torch.var_mean(x, tuple(range(1, x.dim())), correction=0, keepdim=True)
        gain = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias - mean * gain, x, gain)


def chunked(x: Tensor, size: int) -> Tensor:
    """[batch, frames, d] -> [batch, chunks, size, d]: chunk ``i`` begins at frame ``(i - 1) * size / 2``,
    zeros beyond the ends. Every frame is in two of them. (A recording that would just fit gets one chunk
    length of zeros more, as published.)"""
    half = size // 2
    gap = size - (half + x.shape[1] % size) % size
    return F.pad(x, (0, 0, half, half + gap)).unfold(1, size, half).transpose(2, 3)


def overlapped(chunks: Tensor, frames: int) -> Tensor:
    """The sum of the chunks where they lie, [batch, chunks, size, d] -> [batch, frames, d]."""
    half = chunks.shape[2] // 2
    return (chunks[:, :-1, half:] + chunks[:, 1:, :half]).flatten(1, 2)[:, :frames]


class DualPathBlock(nn.Module):
    """``intra_mdl`` over the frames of each chunk, ``inter_mdl`` over the chunks at each place in them; both
    take [batch, length, d]. ``skip_around_intra`` adds the block's input to the first half."""

    def __init__(self, d: int, intra: nn.Module, inter: nn.Module, skip_around_intra: bool):
        super().__init__()
        self.intra_mdl, self.inter_mdl = intra, inter
        self.intra_norm, self.inter_norm = GlobalNorm(d), GlobalNorm(d)
        self.skip_around_intra = skip_around_intra

    def forward(self, x: Tensor) -> Tensor:
        """[batch, chunks, size, d] -> the same."""
        y = self.intra_norm(self.intra_mdl(x.flatten(0, 1)).unflatten(0, x.shape[:2]))
        if self.skip_around_intra:
            y = y + x
        across = y.transpose(1, 2)
        z = self.inter_mdl(across.flatten(0, 1)).unflatten(0, across.shape[:2])
        return self.inter_norm(z.transpose(1, 2)) + y


class DualPathMaskNet(nn.Module):
    """w [batch, frames, d] -> masks [batch, n_speakers, frames, d], not negative."""

    def __init__(self, d: int, chunk: int, n_speakers: int, blocks: Iterable[DualPathBlock]):
        super().__init__()
        if chunk % 2:
            raise ValueError(f"chunk {chunk} must be even")
        self.chunk, self.n_speakers = chunk, n_speakers
        self.norm = GlobalNorm(d)
        self.conv1d = nn.Conv1d(d, d, 1, bias=False)
        self.dual_mdl = nn.ModuleList(blocks)
        self.prelu = nn.PReLU()
        self.conv2d = nn.Conv2d(d, n_speakers * d, 1)
        self.output = nn.Sequential(nn.Conv1d(d, d, 1))
        self.output_gate = nn.Sequential(nn.Conv1d(d, d, 1))
        self.end_conv1x1 = nn.Conv1d(d, d, 1, bias=False)

    def forward(self, w: Tensor) -> Tensor:
        x = chunked(_pointwise(self.conv1d, self.norm(w)), self.chunk)
        for block in self.dual_mdl:
            x = block(x)
        x = overlapped(self.prelu(x), w.shape[1])
        # The published order is conv2d, then overlap-add. Both are linear and every frame is in two chunks:
        # so the other way round, with the bias twice, at half the products and memory.
        assert self.conv2d.bias is not None
        x = F.linear(x, self.conv2d.weight.flatten(1), 2 * self.conv2d.bias)
        x = x.unflatten(-1, (self.n_speakers, -1)).transpose(1, 2)
        x = torch.tanh(_pointwise(self.output[0], x)) * torch.sigmoid(_pointwise(self.output_gate[0], x))
        return F.relu(_pointwise(self.end_conv1x1, x))


def _pointwise(conv: Any, x: Tensor) -> Tensor:
    """A 1x1 convolution on frames whose channels come last."""
    return F.linear(x, conv.weight.flatten(1), conv.bias)
