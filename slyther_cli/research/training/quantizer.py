"""Training of a residual vector quantizer whose codebooks follow the data by moving averages.

encodec's own training step replaces every code that a batch of a hundred frames does not use, and its k-means
holds all pairs in memory at once; both need the large batches of GPUs. Here the averages decide which codes
are dead, relative to the frames seen. Source: Defossez et al. 2022, 3.2; van den Oord et al. 2017, app. A.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from slyther_cli.layers.quantizer import nearest

DECAY = 0.99
DEAD = 0.05
"""A code used less than this share of the mean use is moved to a frame of the batch."""
KMEANS = 10
QUIET = 0.8
"""Frames of samples count by their energy to the minus this: quiet ones add little error but are heard as
well. Frames of log spectra count alike: 0."""


class QuantizerTraining(nn.Module):
    """Quantizes with the codebooks of encodec's ``ResidualVectorQuantizer`` and lets them follow.

    Its buffers are the averages: ``count`` [k, size] and ``total`` [k, size, d], so that a resumed run goes
    on as before. The quantizer itself is no part of this module.
    """

    count: Tensor
    total: Tensor

    def __init__(self, quantizer: Any, quiet: float = QUIET):
        super().__init__()
        self.quiet = quiet
        self.books = [layer._codebook for layer in quantizer.vq.layers]
        size, d = self.books[0].embed.shape
        self.register_buffer("count", torch.ones(len(self.books), size))
        self.register_buffer("total", torch.zeros(len(self.books), size, d))
        for i, book in enumerate(self.books):
            self.total[i] = book.embed

    @torch.no_grad()
    def start(self, frames: Tensor, seed: int) -> None:
        """Codebooks from ``frames`` [n, d] by k-means, each on what the ones before it leave."""
        draw = torch.Generator().manual_seed(seed)
        residual, weight = frames.detach().clone(), _weights(frames, self.quiet)
        for i, book in enumerate(self.books):
            size = len(book.embed)
            picked = torch.randperm(len(residual), generator=draw)[:size]
            codes = residual[picked.to(residual.device)]
            if len(codes) < size:  # fewer frames than codes: the rest starts as slightly moved copies
                more = torch.randint(len(codes), (size - len(codes),), generator=draw)
                codes = torch.cat([codes, codes[more.to(codes.device)] * 1.01])
            codes = k_means(residual, codes, KMEANS, weight)
            book.embed.copy_(codes)
            self.count[i] = len(residual) / size
            self.total[i] = codes * self.count[i][:, None]
            residual = residual - codes[nearest(residual, codes)]

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, frames: Tensor, keep: Tensor, seed: int, learn: bool = True) -> tuple[Tensor, Tensor]:
        """[batch, d, n] and the number of codebooks each example keeps [batch] -> the quantized frames with
        the gradient of the unquantized ones, and the commitment loss: the mean squared distance from the
        codes in units of the frames' variance. With ``learn`` the codebooks move; ``seed`` draws where
        dead codes go.
        """
        batch, d, n = frames.shape
        frames = frames.float()
        x = frames.transpose(1, 2).reshape(-1, d)
        kept = keep.repeat_interleave(n)
        unit, weight = x.detach().var() + 1e-8, _weights(x.detach(), self.quiet)
        draw = torch.Generator().manual_seed(seed)
        residual, out = x, torch.zeros_like(x)
        commitment = x.new_zeros(())
        for i, book in enumerate(self.books):
            with torch.no_grad():
                index = nearest(residual, book.embed)
                code = book.embed[index]
                if learn:
                    self._follow(i, residual, weight, index, draw)
            active = (kept > i)[:, None]
            commitment = commitment + ((residual - code).square() * active).mean() / unit
            out = out + code * active
            residual = residual - code
        quantized = (x + (out - x).detach()).view(batch, n, d).transpose(1, 2)
        return quantized, commitment / len(self.books)

    def _follow(self, i: int, x: Tensor, weight: Tensor, index: Tensor, draw: torch.Generator) -> None:
        """One step of codebook ``i``'s averages towards the frames ``x`` [n, d] coded as ``index`` [n]."""
        book, size = self.books[i], len(self.books[i].embed)
        count, total = _sums(x, weight, index, size)
        self.count[i].lerp_(count, 1 - DECAY)
        self.total[i].lerp_(total, 1 - DECAY)
        mean = len(x) / size
        dead = self.count[i] < DEAD * mean
        if dead.any():
            places = torch.randint(len(x), (int(dead.sum()),), generator=draw).to(x.device)
            self.count[i, dead] = 0.5 * mean
            self.total[i, dead] = x[places] * (0.5 * mean)
        book.embed.copy_(self.total[i] / self.count[i].clamp(min=1e-5)[:, None])

    def perplexity(self) -> list[float]:
        """How many codes of each codebook are in use, by the entropy of their recent shares."""
        share = self.count / self.count.sum(1, keepdim=True)
        return [round(float(v)) for v in (-(share * (share + 1e-9).log()).sum(1)).exp()]


def k_means(x: Tensor, codes: Tensor, steps: int, weight: Tensor | None = None) -> Tensor:
    """Frames [n, d], and codes to begin with [size, d] -> the codes after so many steps of k-means.
    ``weight`` [n]: how much each frame counts. A code that no frame is nearest to stays where it is."""
    weight = x.new_ones(len(x)) if weight is None else weight
    for _ in range(steps):
        count, total = _sums(x, weight, nearest(x, codes), len(codes))
        codes = torch.where(count[:, None] > 0, total / count.clamp(min=1e-9)[:, None], codes)
    return codes


def _weights(frames: Tensor, quiet: float) -> Tensor:
    """How much each of [n, d] counts [n]; 1 on the average."""
    weight = (frames.square().mean(1) + 1e-4 * frames.square().mean() + 1e-12) ** -quiet
    return weight / weight.mean()


def _sums(x: Tensor, weight: Tensor, index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Weight [size] and weighted sum [size, d] of the frames of each code."""
    count = x.new_zeros(size).index_add_(0, index, weight)
    return count, x.new_zeros(size, x.shape[1]).index_add_(0, index, x * weight[:, None])
