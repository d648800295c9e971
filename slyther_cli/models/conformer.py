"""Conformer: the Transformer that ConMamba is compared with; everything but the encoder's layers is
ConMamba's.

Source: Gulati et al. 2020, "Conformer"; as in Speech Slytherin's baselines (SpeechBrain's layers), sizes and
names in papers.md 2.4 and 3.2. Attention with relative positions in place of the BiMamba, SiLU in place of
GELU. A padded batch gives what each recording gives alone. Attention needs the whole recording, in time that
grows with the square of its length: it can be neither swept nor run live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from slyther_cli.layers.attention import length_mask, valid_frames
from slyther_cli.layers.convolution import ConvolutionModule, Norm
from slyther_cli.layers.relative import RelativeAttention, distance_table
from slyther_cli.models.conmamba import ConMamba, ffn_module


@dataclass(frozen=True)
class ConformerConfig:
    """Sizes, as those of :class:`~slyther_cli.models.conmamba.ConMambaConfig`; the defaults are the published
    S. ``decoder`` is "none" (CTC alone) or "transformer"."""

    n_mels: int = 80
    n_fft: int = 400
    window: int = 400
    hop: int = 160
    d_model: int = 144
    n_layers: int = 12
    d_ffn: int = 1024
    kernel_size: int = 31
    decoder: str = "transformer"
    n_decoder_layers: int = 4
    n_heads: int = 4
    vocab: int = 5000
    max_positions: int = 2500
    dropout: float = 0.1
    sample_rate: int = 16000

    causal: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.decoder not in ("none", "transformer"):
            raise ValueError(f'decoder must be "none" or "transformer", not {self.decoder!r}')


class ConformerLayer(nn.Module):
    """[batch, frames, d] -> the same:

    x += FFN1(x) / 2;  x += Attention(LN(x));  x += Conv(x);  x = LN(x + FFN2(x) / 2)
    """

    def __init__(self, c: ConformerConfig):
        super().__init__()
        d = c.d_model
        self.ffn_module1 = ffn_module(d, c.d_ffn, c.dropout, nn.SiLU)
        self.norm1 = Norm(d)
        self.mha_layer = RelativeAttention(d, c.n_heads, c.dropout)
        self.convolution_module = ConvolutionModule(d, c.kernel_size, c.dropout, activation=nn.SiLU)
        self.ffn_module2 = ffn_module(d, c.d_ffn, c.dropout, nn.SiLU)
        self.norm2 = Norm(d)

    def forward(self, x: Tensor, distances: Tensor, lengths: Tensor | None = None) -> Tensor:
        x = x + 0.5 * self.ffn_module1(x)
        x = x + self.mha_layer(self.norm1(x), distances, length_mask(lengths, x.shape[1]))
        x = x + self.convolution_module(x, valid_frames(lengths, x.shape[1]))
        return self.norm2(x + 0.5 * self.ffn_module2(x))


class ConformerEncoder(nn.Module):
    """The layers and a last norm. [batch, frames, d] -> the same."""

    def __init__(self, c: ConformerConfig):
        super().__init__()
        self.layers: Any = nn.ModuleList(ConformerLayer(c) for _ in range(c.n_layers))
        self.norm = Norm(c.d_model, 1e-6)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        distances = distance_table(x.shape[1], x.shape[2], x)
        for layer in self.layers:
            x = layer(x, distances, lengths)
        return self.norm(x)


class Conformer(ConMamba):
    """Features [batch, frames, n_mels] -> CTC logits [batch, frames / 4, vocab]; ``encode``, ``decode``,
    ``start`` and ``step`` are ConMamba's."""

    takes_whole = True
    make_encoder = ConformerEncoder
