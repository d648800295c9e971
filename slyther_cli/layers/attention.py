"""Attention, feed-forward, positions, and the Transformer decoder, with a cache for decoding step by step.

Source: Vaswani et al. 2017, pre-norm as in papers.md 2.3; names as in 3.2 (SpeechBrain's decoder,
`multihead_attn` spelled with its l). Norms inside the decoder have eps 1e-6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.convolution import Norm


class KeyValues(NamedTuple):
    """keys, values: [batch, heads, frames, d / heads]. A batch of 1 serves any number of beams."""

    keys: Tensor
    values: Tensor


class _Projections(nn.Module):
    """The parameters, as ``torch.nn.MultiheadAttention`` names them."""

    def __init__(self, d: int):
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * d, d))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * d))
        self.out_proj = nn.Linear(d, d)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)


class MultiheadAttention(nn.Module):
    """Queries [batch, n, d] over keys and values of ``heads`` heads -> [batch, n, d]."""

    def __init__(self, d: int, heads: int, dropout: float = 0.1):
        super().__init__()
        if d % heads:
            raise ValueError(f"d_model {d} is no multiple of n_heads {heads}")
        self.heads, self.dropout = heads, dropout
        self.att = _Projections(d)

    def keys_values(self, memory: Tensor) -> KeyValues:
        """[batch, frames, d] -> what the queries look at; the same for every step and beam."""
        d = memory.shape[-1]
        both = F.linear(memory, self.att.in_proj_weight[d:], self.att.in_proj_bias[d:])
        return KeyValues(*map(self._split, both.chunk(2, -1)))

    def forward(self, x: Tensor, seen: KeyValues, mask: Tensor | None = None) -> Tensor:
        """``mask``: bool, broadcast to [batch, heads, n, frames]; a query sees where it is true."""
        q = self.queries(x)
        k, v = (t.expand(len(x), -1, -1, -1) for t in seen)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout)
        return self.att.out_proj(y.transpose(1, 2).flatten(2))

    def queries(self, x: Tensor) -> Tensor:
        """[batch, n, d] -> [batch, heads, n, d / heads]"""
        d = x.shape[-1]
        return self._split(F.linear(x, self.att.in_proj_weight[:d], self.att.in_proj_bias[:d]))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear -> activation -> dropout -> Linear, [..., d] -> [..., d]; names ``ffn.0`` and ``ffn.3``."""

    def __init__(self, d: int, width: int, dropout: float = 0.1, activation: type[nn.Module] = nn.GELU):
        super().__init__()
        self.ffn = nn.Sequential(nn.Linear(d, width), activation(), nn.Dropout(dropout), nn.Linear(width, d))

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(x)


class Sinusoid(nn.Module):
    """Absolute positions: sines on even channels, cosines on odd ones, periods from 2 pi to 20000 pi frames.

    ``pe`` [1, rows, d] is the table that checkpoints carry; what lies beyond its end is computed when asked
    for.
    """

    pe: Tensor

    def __init__(self, d: int, rows: int = 2500):
        super().__init__()
        if d % 2:
            raise ValueError(f"d_model {d} must be even")
        self.register_buffer("pe", _sinusoid(0, rows, d)[None])

    def forward(self, start: int, n: int) -> Tensor:
        """Positions ``start`` .. ``start + n - 1``: [1, n, d]."""
        if start + n <= self.pe.shape[1]:
            return self.pe[:, start : start + n]
        return _sinusoid(start, n, self.pe.shape[2], self.pe.device)[None].to(self.pe.dtype)


def inverse_frequencies(d: int, device: torch.device | str = "cpu") -> Tensor:
    """[d / 2], radians a frame, from 1 down to about 1 / 10000. (On the meta device they would load all of
    torch's compiler, see ``layers.mamba``.)"""
    return torch.exp(torch.arange(0, d, 2, device=device).float() * (-math.log(10000.0) / d))


def _sinusoid(start: int, n: int, d: int, device: torch.device | str = "cpu") -> Tensor:
    angle = torch.arange(start, start + n, device=device).float()[:, None] * inverse_frequencies(d, device)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def causal_mask(n: int, before: int, device: torch.device) -> Tensor | None:
    """[n, before + n] for ``n`` new positions after ``before`` known ones; None when there is nothing to
    hide."""
    if n == 1:
        return None
    return torch.ones(n, before + n, dtype=torch.bool, device=device).tril(before)


def length_mask(lengths: Tensor | None, frames: int) -> Tensor | None:
    """[batch, 1, 1, frames], true within each recording of a padded batch."""
    if lengths is None:
        return None
    return (torch.arange(frames, device=lengths.device) < lengths[:, None])[:, None, None]


def valid_frames(lengths: Tensor | None, frames: int) -> Tensor | None:
    """[batch, frames, 1], the same."""
    if lengths is None:
        return None
    return (torch.arange(frames, device=lengths.device) < lengths[:, None]).unsqueeze(-1)


class TransformerEncoderLayer(nn.Module):
    """x += self-attention(LN(x)); x += FFN(LN(x)). [batch, n, d] -> the same."""

    def __init__(
        self, d: int, heads: int, d_ffn: int, dropout: float = 0.1, activation: type[nn.Module] = nn.ReLU
    ):
        super().__init__()
        self.self_att = MultiheadAttention(d, heads, dropout)
        self.pos_ffn = FeedForward(d, d_ffn, dropout, activation)
        self.norm1, self.norm2 = Norm(d, 1e-6), Norm(d, 1e-6)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.dropout(self.self_att(y, self.self_att.keys_values(y)))
        return x + self.dropout(self.pos_ffn(self.norm2(x)))


class TransformerEncoder(nn.Module):
    """``n_layers`` of them and a last norm, every frame seeing every other. [batch, n, d] -> the same."""

    def __init__(
        self,
        d: int,
        n_layers: int,
        heads: int,
        d_ffn: int,
        dropout: float = 0.1,
        activation: type[nn.Module] = nn.ReLU,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerEncoderLayer(d, heads, d_ffn, dropout, activation) for _ in range(n_layers)
        )
        self.norm = Norm(d, 1e-6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class AttentionState(NamedTuple):
    """Where a decoder stands. ``position``: tokens decoded; ``own``: what each layer keeps of the tokens,
    None at the start; ``memory``: keys and values of the encoder's frames, one a layer, shared; ``mask``: the
    frames that count, None for all."""

    position: int
    own: tuple[Any, ...]
    memory: tuple[KeyValues, ...]
    mask: Tensor | None

    def select(self, rows: Tensor) -> AttentionState:
        """The beams ``rows`` (indices, repeated or left out). A memory of one recording stays shared."""
        own = selected(self.own, rows)
        if len(self.memory[0].keys) == 1:
            return self._replace(own=own)
        return self._replace(own=own, memory=selected(self.memory, rows), mask=selected(self.mask, rows))


def selected(state: Any, rows: Tensor) -> Any:
    """The beams ``rows`` of a state: of a tensor [beams, ...], of None, or of a tuple of those."""
    if isinstance(state, Tensor):
        return state[rows]
    if state is None:
        return None
    parts = [selected(part, rows) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


class TransformerDecoderLayer(nn.Module):
    """x += self-attention(LN(x)); x += attention over the memory(LN(x)); x += FFN(LN(x))."""

    def __init__(self, d: int, heads: int, d_ffn: int, dropout: float = 0.1):
        super().__init__()
        self.self_attn = MultiheadAttention(d, heads, dropout)
        self.multihead_attn = MultiheadAttention(d, heads, dropout)
        self.pos_ffn = FeedForward(d, d_ffn, dropout)
        self.norm1, self.norm2, self.norm3 = (Norm(d, 1e-6) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def step(
        self, x: Tensor, own: KeyValues | None, memory: KeyValues, memory_mask: Tensor | None
    ) -> tuple[Tensor, KeyValues]:
        """The next n tokens [batch, n, d]; ``own`` is None at the start. Returns their output and the longer
        cache."""
        y = self.norm1(x)
        now, before = self.self_attn.keys_values(y), 0
        if own is not None:
            before = own.keys.shape[2]
            now = KeyValues(torch.cat([own.keys, now.keys], 2), torch.cat([own.values, now.values], 2))
        x = x + self.dropout(self.self_attn(y, now, causal_mask(x.shape[1], before, x.device)))
        x = x + self.dropout(self.multihead_attn(self.norm2(x), memory, memory_mask))
        return x + self.dropout(self.pos_ffn(self.norm3(x))), now


class AttentionDecoder(nn.Module):
    """Embedded tokens [batch, n, d] over memory [batch, frames, d] -> [batch, n, d]. ``layers`` attend to the
    memory and have a ``step``, as :class:`TransformerDecoderLayer` does."""

    def __init__(self, d: int, layers: Iterable[nn.Module]):
        super().__init__()
        self.layers: Any = nn.ModuleList(layers)
        self.norm = Norm(d, 1e-6)

    def forward(self, x: Tensor, memory: Tensor, lengths: Tensor | None = None) -> Tensor:
        """All tokens at once, for training. ``lengths`` [batch]: frames of each memory in a padded batch."""
        return self.step(x, self.start(memory, lengths))[0]

    def start(self, memory: Tensor | Iterable[Tensor], lengths: Tensor | None = None) -> AttentionState:
        """The state before the first token; ``memory`` [batch, frames, d], or its pieces in order of time."""
        if not isinstance(memory, Tensor):
            memory = torch.cat(list(memory), 1)
        seen = tuple(layer.multihead_attn.keys_values(memory) for layer in self.layers)
        return AttentionState(0, (None,) * len(self.layers), seen, length_mask(lengths, memory.shape[1]))

    def step(self, x: Tensor, state: AttentionState) -> tuple[Tensor, AttentionState]:
        """The next n tokens, n >= 1."""
        after = []
        for layer, own, memory in zip(self.layers, state.own, state.memory, strict=True):
            x, own = layer.step(x, own, memory, state.mask)
            after.append(own)
        return self.norm(x), state._replace(position=state.position + x.shape[1], own=tuple(after))
