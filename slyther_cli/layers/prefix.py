"""The layers of VALL-E: a Transformer over [text ; speech], decoded step by step with a cache.

Source: Wang et al. 2023, "Neural Codec Language Models", section 4; details of the open VALL-E in papers.md
4.3: pre-norm, ReLU; sinusoids of their own for text and speech, in the first stage with learned scales. Text
sees all of the text; speech sees the text and what was said before it (first stage) or everything (second).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from slyther_cli.layers.attention import FeedForward, KeyValues, MultiheadAttention, Sinusoid, causal_mask
from slyther_cli.layers.vall import LevelNorm


class KeyValueBuffer:
    """Keys and values of the positions so far, with room for more, so that a step does not copy them all.

    Whoever goes on from where the buffer is filled to writes into it; whoever goes on from an earlier place
    gets a copy, so that states can be kept and gone on from twice.
    """

    def __init__(self, keys: Tensor, values: Tensor):
        self.keys, self.values, self.filled = keys, values, keys.shape[2]

    def extended(self, known: int, new: KeyValues) -> KeyValueBuffer:
        """With ``new`` behind the first ``known`` positions."""
        end, buffer = known + new.keys.shape[2], self
        if known != self.filled or end > self.keys.shape[2]:
            room = list(self.keys.shape)
            room[2] = end + end // 4 + 64
            buffer = KeyValueBuffer(self.keys.new_empty(room), self.values.new_empty(room))
            buffer.keys[:, :, :known] = self.keys[:, :, :known]
            buffer.values[:, :, :known] = self.values[:, :, :known]
        buffer.keys[:, :, known:end] = new.keys
        buffer.values[:, :, known:end] = new.values
        buffer.filled = end
        return buffer

    def upto(self, end: int) -> KeyValues:
        return KeyValues(self.keys[:, :, :end], self.values[:, :, :end])


class PrefixState(NamedTuple):
    """``known``: positions in the cache, text and speech; ``position``: of them, speech; ``layers``: their
    keys and values, one buffer a layer."""

    known: int
    position: int
    layers: tuple[KeyValueBuffer, ...]


class PrefixLayer(nn.Module):
    """x += attention(LN(x)); x += FFN(LN(x)). [batch, n, d] -> the same."""

    def __init__(self, d: int, heads: int, d_ffn: int, dropout: float, levels: int = 0):
        super().__init__()
        self.norm1, self.norm2 = (LevelNorm(d, levels, nn.LayerNorm) for _ in range(2))
        self.self_attn = MultiheadAttention(d, heads, dropout)
        self.ffn = FeedForward(d, d_ffn, dropout, nn.ReLU)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None, level: Tensor | None) -> Tensor:
        y = self.norm1(x, level)
        x = x + self.dropout(self.self_attn(y, self.self_attn.keys_values(y), mask))
        return x + self.dropout(self.ffn(self.norm2(x, level)))

    def step(
        self, x: Tensor, buffer: KeyValueBuffer | None, known: int, mask: Tensor | None
    ) -> tuple[Tensor, KeyValueBuffer]:
        y = self.norm1(x)
        new = self.self_attn.keys_values(y)
        buffer = KeyValueBuffer(*new) if buffer is None else buffer.extended(known, new)
        x = x + self.self_attn(y, buffer.upto(known + x.shape[1]), mask)
        return x + self.ffn(self.norm2(x)), buffer


class PrefixStack(nn.Module):
    """``n_layers`` of them and a last norm. ``causal``: speech sees only what was said before it."""

    def __init__(
        self,
        d: int,
        n_layers: int,
        heads: int,
        d_ffn: int,
        dropout: float = 0.1,
        causal: bool = False,
        levels: int = 0,
    ):
        super().__init__()
        self.causal = causal
        self.layers: Any = nn.ModuleList(
            PrefixLayer(d, heads, d_ffn, dropout, levels) for _ in range(n_layers)
        )
        self.norm_f = LevelNorm(d, levels, nn.LayerNorm)
        self.positions = Sinusoid(d, 1)
        self.scales = nn.Parameter(torch.ones(2)) if causal else None  # of the positions: text, speech
        self.dropout = nn.Dropout(dropout)

    def place(self, x: Tensor, kind: int, start: int = 0) -> Tensor:
        """``x`` with its positions; ``kind`` 0 is text, 1 speech."""
        at = self.positions(start, x.shape[1])
        return self.dropout(x + (at if self.scales is None else at * self.scales[kind]))

    def forward(
        self,
        x: Tensor,
        n_text: Tensor,
        lengths: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """[text ; speech] of every row, placed already, without a gap [batch, n, d] -> the same. ``n_text``
        [batch]: where speech begins; ``lengths`` [batch]: how much of each row counts."""
        at = torch.arange(x.shape[1], device=x.device)
        mask = None
        if self.causal:
            mask = (at < n_text[:, None, None]) | (at <= at[:, None])
            mask = mask[:, None]
        elif lengths is not None:
            mask = (at < lengths[:, None])[:, None, None]
        for layer in self.layers:
            x = layer(x, mask, level)
        return self.norm_f(x, level)

    def step(self, x: Tensor, state: PrefixState | None) -> tuple[Tensor, PrefixState]:
        """Without a state ``x`` is the text, which sees itself whole; else the next frames of speech, any
        number of them."""
        n = x.shape[1]
        if state is None:
            known, position, buffers, mask = 0, 0, (None,) * len(self.layers), None
            x = self.place(x, 0)
        else:
            known, position, buffers = state.known, state.position, state.layers  # type: ignore[assignment]
            mask = causal_mask(n, known, x.device)
            x = self.place(x, 1, position)
            position += n
        after = []
        for layer, buffer in zip(self.layers, buffers, strict=True):
            x, kept = layer.step(x, buffer, known, mask)
            after.append(kept)
        return self.norm_f(x), PrefixState(known + n, position, tuple(after))
