"""A plain Transformer recogniser: what Speech-Mamba is compared with on long recordings (papers.md 7.3, 7.4).

Everything but the encoder's layers is ConMamba's. Source: Vaswani et al. 2017, pre-norm, GELU, of the size of
SpeechBrain's LibriSpeech recipe (d 512, 12 layers and 6 of a decoder: papers.md 8, a choice). ``positions``
says where a frame stands: sines added to the input ("absolute", the papers' baseline), by distance in every
attention ("relative", as the Conformer's), or nowhere ("none").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from slyther_cli.layers.attention import FeedForward, MultiheadAttention, Sinusoid, length_mask
from slyther_cli.layers.convolution import Norm
from slyther_cli.layers.relative import RelativeAttention, distance_table
from slyther_cli.models.conmamba import ConMamba

POSITIONS = ("absolute", "relative", "none")


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes, as those of :class:`~slyther_cli.models.conmamba.ConMambaConfig`. ``decoder`` is "none" (CTC
    alone) or "transformer"; ``positions`` are the encoder's, a decoder's are absolute."""

    n_mels: int = 80
    n_fft: int = 400
    window: int = 400
    hop: int = 160
    d_model: int = 512
    n_layers: int = 12
    d_ffn: int = 2048
    positions: str = "absolute"
    decoder: str = "transformer"
    n_decoder_layers: int = 6
    n_heads: int = 4
    vocab: int = 5000
    max_positions: int = 2500
    dropout: float = 0.1
    sample_rate: int = 16000

    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.decoder not in ("none", "transformer"):
            raise ValueError(f'decoder must be "none" or "transformer", not {self.decoder!r}')
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be {', '.join(POSITIONS)}, not {self.positions!r}")


class TransformerLayer(nn.Module):
    """x += attention(LN(x)); x += FFN(LN(x)). [batch, frames, d] -> the same. ``distances``: see
    ``layers.relative``, None without relative positions."""

    def __init__(self, c: TransformerConfig):
        super().__init__()
        d = c.d_model
        kind = RelativeAttention if c.positions == "relative" else MultiheadAttention
        self.self_att: Any = kind(d, c.n_heads, c.dropout)
        self.pos_ffn = FeedForward(d, c.d_ffn, c.dropout)
        self.norm1, self.norm2 = Norm(d, 1e-6), Norm(d, 1e-6)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor, distances: Tensor | None, mask: Tensor | None) -> Tensor:
        y = self.norm1(x)
        seen = self.self_att.keys_values(y) if distances is None else distances
        x = x + self.dropout(self.self_att(y, seen, mask))
        return x + self.dropout(self.pos_ffn(self.norm2(x)))


class TransformerEncoder(nn.Module):
    """Positions, the layers and a last norm. [batch, frames, d] -> the same."""

    def __init__(self, c: TransformerConfig):
        super().__init__()
        self.kind = c.positions
        self.positions = Sinusoid(c.d_model, c.max_positions) if c.positions == "absolute" else None
        self.layers: Any = nn.ModuleList(TransformerLayer(c) for _ in range(c.n_layers))
        self.norm = Norm(c.d_model, 1e-6)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        distances = distance_table(x.shape[1], x.shape[2], x) if self.kind == "relative" else None
        if self.positions is not None:
            x = x + self.positions(0, x.shape[1])
        mask = length_mask(lengths, x.shape[1])
        for layer in self.layers:
            x = layer(x, distances, mask)
        return self.norm(x)


class Transformer(ConMamba):
    """Features [batch, frames, n_mels] -> CTC logits [batch, frames / 4, vocab]; ``encode``, ``decode``,
    ``start`` and ``step`` are ConMamba's."""

    takes_whole = True
    make_encoder = TransformerEncoder
