"""Speech-Mamba: long speech recognition by unidirectional Mamba blocks around full attention, in encoder and
decoder.

Source: Gao and Chen 2024, "Speech-Mamba", arXiv 2409.18654; structure, sizes and names in papers.md 7.1.
Written from that description.

    samples [batch, n] at 16 kHz
      -> fbank, global mean and std                                   features [batch, frames at 10 ms, 80] ->
      frontend: 5x5, 5x5, 1x1 with a residual; strides 2, 2, 1     [batch, frames at 40 ms, 1280] -> linear to
      d, sinusoidal positions -> n_layers x (Mamba block, x + attention(RMSNorm(x)), Mamba block), LN
      memory [batch, frames, d] -> ctc_lin                                                      CTC logits
      [batch, frames, vocab], blank 0 -> decoder layers (Mamba block, attention over the memory, Mamba block),
      LN, seq_lin     next-token logits

The attention sees the whole recording, so time grows with the square of its length;
``longform.attention_sweep`` keeps the memory constant. The published table of positions ends after 100 s;
ours goes on as far as needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from slyther_cli.layers.attention import (
    AttentionDecoder,
    KeyValues,
    MultiheadAttention,
    Sinusoid,
    length_mask,
)
from slyther_cli.layers.convolution import Named, Norm
from slyther_cli.layers.frontend import Blocks
from slyther_cli.layers.mamba import Mamba, MambaState
from slyther_cli.models.conmamba import ConMamba

FRONT_BLOCKS: Blocks = ((64, 5, 2, False), (64, 5, 2, False), (64, 1, 1, True))


@dataclass(frozen=True)
class SpeechMambaConfig:
    """Sizes. ``n_fft``, ``window`` and ``hop`` in samples; ``max_positions`` rows of the position table are
    stored."""

    n_mels: int = 80
    n_fft: int = 400
    window: int = 400
    hop: int = 160
    d_model: int = 512
    d_state: int = 256
    n_layers: int = 7
    n_decoder_layers: int = 3
    n_heads: int = 4
    vocab: int = 5000
    max_positions: int = 2500
    dropout: float = 0.1
    sample_rate: int = 16000

    causal: ClassVar[bool] = False
    decoder: ClassVar[str] = "mamba"


class MambaBlock(nn.Module):
    """x + dropout(Mamba(RMSNorm(x))), one direction. [batch, frames, d] -> the same."""

    def __init__(self, c: SpeechMambaConfig):
        super().__init__()
        self.norm = nn.RMSNorm(c.d_model, eps=1e-5)
        self.mixer = Mamba(c.d_model, c.d_state)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.step(x, None)[0]

    def step(self, x: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        y, state = self.mixer.step(self.norm(x), state)
        return x + self.dropout(y), state


class EncoderLayer(nn.Module):
    """[batch, frames, d] -> the same."""

    def __init__(self, c: SpeechMambaConfig):
        super().__init__()
        self.mamba_layers1, self.mamba_layers2 = (nn.Sequential(MambaBlock(c)) for _ in range(2))
        self.mamba_norm = nn.RMSNorm(c.d_model, eps=1e-5)
        self.self_att = MultiheadAttention(c.d_model, c.n_heads, c.dropout)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.mamba_layers1(x)
        y = self.mamba_norm(x)
        x = x + self.dropout(self.self_att(y, self.self_att.keys_values(y), mask))
        return self.mamba_layers2(x)


class Encoder(nn.Module):
    def __init__(self, c: SpeechMambaConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(c) for _ in range(c.n_layers))
        self.norm = Norm(c.d_model, 1e-6)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Padding lies to the right, where the Mamba blocks come last; only the attention has to be told."""
        mask = length_mask(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """As the encoder's, its attention over the memory. Checkpoints spell ``mutihead_attn`` without the l."""

    def __init__(self, c: SpeechMambaConfig):
        super().__init__()
        self.mamba_layers1, self.mamba_layers2 = (nn.Sequential(MambaBlock(c)) for _ in range(2))
        self.mamba_norm = nn.RMSNorm(c.d_model, eps=1e-5)
        self.multihead_attn = MultiheadAttention(c.d_model, c.n_heads, c.dropout)
        self.dropout = nn.Dropout(c.dropout)

    def step(
        self, x: Tensor, own: tuple[MambaState, MambaState] | None, memory: KeyValues, mask: Tensor | None
    ) -> tuple[Tensor, tuple[MambaState, MambaState]]:
        """The next n tokens [batch, n, d]; ``own`` is None at the start."""
        first, second = own or (None, None)
        before: Any = self.mamba_layers1[0]
        after: Any = self.mamba_layers2[0]
        x, first = before.step(x, first)
        x = x + self.dropout(self.multihead_attn(self.mamba_norm(x), memory, mask))
        x, second = after.step(x, second)
        return x, (first, second)


class SpeechMambaNet(nn.Module):
    """What SpeechBrain calls the Transformer: everything between the front end and the heads, under its
    names."""

    def __init__(self, c: SpeechMambaConfig, features: int):
        super().__init__()
        self.positional_encoding = Sinusoid(c.d_model, c.max_positions)
        entering = [Named(w=nn.Linear(features, c.d_model)), nn.Dropout(c.dropout)]
        self.custom_src_module = Named(layers=nn.Sequential(*entering))
        table = Named(Embedding=nn.Embedding(c.vocab, c.d_model, padding_idx=0))
        self.custom_tgt_module = Named(layers=nn.ModuleList([Named(emb=table)]))
        self.encoder = Encoder(c)
        self.decoder = AttentionDecoder(c.d_model, (DecoderLayer(c) for _ in range(c.n_decoder_layers)))
        for p in self.parameters():  # as published: A_log too, which puts all of A near -1
            if p.dim() > 1:
                nn.init.xavier_normal_(p)

    def enter(self, x: Tensor, position: int = 0) -> Tensor:
        """The front end's frames [batch, frames, 1280], of which the first stands at ``position`` -> the
        first layer's input [batch, frames, d]."""
        linear, dropout = self.custom_src_module.layers
        return dropout(linear.w(x)) + self.positional_encoding(position, x.shape[1])

    def embed(self, tokens: Tensor, position: int) -> Tensor:
        """[batch, n] -> [batch, n, d], of which the first stands at ``position``."""
        x = self.custom_tgt_module.layers[0].emb.Embedding(tokens)
        return x * math.sqrt(x.shape[-1]) + self.positional_encoding(position, tokens.shape[1])


class SpeechMamba(ConMamba):
    """Features [batch, frames, n_mels] -> CTC logits [batch, frames / 4, vocab]. The methods are those of
    ``ConMamba``."""

    front_blocks = FRONT_BLOCKS
    attends = True

    def make_network(self, c: SpeechMambaConfig, features: int) -> SpeechMambaNet:
        return SpeechMambaNet(c, features)
