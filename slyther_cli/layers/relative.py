"""Self-attention with relative positions, as Transformer-XL and the Conformer have it.

Source: Dai et al. 2019, "Transformer-XL", section 3.3; as published (SpeechBrain's RelPosMHAXL and
RelPosEncXL; names in papers.md 3.2): scores scaled by the root of d and not of a head's width, and sines of
the distance without its sign, so that what lies 3 frames behind and 3 frames ahead look alike.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.attention import inverse_frequencies

QUERIES = 256
"""Queries at a time: the positions' scores of so many are in memory at once, not those of all pairs."""


class RelativeAttention(nn.Module):
    """[batch, n, d] -> the same; every frame sees every other. Score of query i and key j: (q_i + u) k_j +
    (q_i + v) W p_|i-j|."""

    def __init__(self, d: int, heads: int, dropout: float = 0.1):
        super().__init__()
        if d % heads:
            raise ValueError(f"d_model {d} is no multiple of n_heads {heads}")
        self.heads, self.dropout, self.scale = heads, dropout, d**-0.5
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d, d))  # q, k, v of the first head, of the second
        self.pos_bias_u = nn.Parameter(torch.empty(d // heads, heads))  # read as [heads, d / heads]
        self.pos_bias_v = nn.Parameter(torch.empty(d // heads, heads))
        self.linear_pos = nn.Linear(d, d, bias=False)
        self.out_proj = nn.Linear(d, d)
        for p in (self.in_proj_weight, self.pos_bias_u, self.pos_bias_v):
            nn.init.xavier_uniform_(p)

    def forward(self, x: Tensor, distances: Tensor, mask: Tensor | None = None) -> Tensor:
        """``distances`` [n, d]: see :func:`distance_table`. ``mask``: bool [batch, 1, 1, n], true for frames
        that count."""
        n = x.shape[1]
        q, k, v = (t.transpose(1, 2) for t in self._split(F.linear(x, self.in_proj_weight)).chunk(3, -1))
        at = self._split(self.linear_pos(distances)).transpose(0, 1)  # [heads, n, d / heads]
        u, bias = (p.reshape(self.heads, 1, -1) for p in (self.pos_bias_u, self.pos_bias_v))
        dropout = self.dropout if self.training else 0.0
        parts = []
        for first in range(0, n, QUERIES):
            part = q[:, :, first : first + QUERIES]
            scores = self._by_position((part + bias) * self.scale, at, first)
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            parts.append(F.scaled_dot_product_attention(part + u, k, v, scores, dropout, scale=self.scale))
        return self.out_proj(torch.cat(parts, 2).transpose(1, 2).flatten(2))

    def _by_position(self, q: Tensor, at: Tensor, first: int) -> Tensor:
        """q [batch, heads, m, w], the queries from number ``first`` on; at [heads, n, w], by distance ->
        scores [batch, heads, m, n].

        The products with all offsets -(first + m - 1) .. n - 1 - first of key and query; query r begins one
        offset later than query r + 1, which is a row of one entry less in the same memory.
        """
        m, n = q.shape[2], at.shape[1]
        offsets = torch.arange(1 - first - m, n - first, device=q.device).abs()
        products = q @ at[:, offsets].transpose(1, 2)  # [batch, heads, m, n + m - 1]
        return products.flatten(2)[..., m - 1 : -1].unflatten(2, (m, -1))[..., :n] if m > 1 else products

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


def distance_table(n: int, d: int, like: Tensor) -> Tensor:
    """[n, d]: sines of distances 0 .. n - 1 on even channels, cosines on odd ones."""
    angle = torch.arange(n, device=like.device).float()[:, None] * inverse_frequencies(d, like.device)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(like.dtype)
