"""Sepformer: the Transformer that Mamba-TasNet and DPMamba are compared with.

Source: Subakan et al. 2021, "Attention is all you need in speech separation"; sizes and names in papers.md
1.3 and 3.1. Encoder and decoder are Mamba-TasNet's; the mask network runs Transformers inside and across
half-overlapping chunks. Attention sees 250 frames of a chunk, or as many chunks as there are: its cost grows
with the square of the duration only in the second, and slowly.

It takes a recording whole: the norms see all of it, so that it can be neither swept nor run live.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from slyther_cli.layers.attention import Sinusoid, TransformerEncoder
from slyther_cli.layers.dual_path import DualPathBlock, DualPathMaskNet
from slyther_cli.layers.filterbank import Decoder, Encoder, separated


@dataclass(frozen=True)
class SepformerConfig:
    """Sizes; the defaults are the published ones. ``n_blocks`` dual-path blocks of two Transformers with
    ``n_layers`` layers each; ``chunk`` in frames; ``max_positions`` rows of the position table are stored."""

    n_filters: int = 256
    kernel_size: int = 16
    stride: int = 8
    n_blocks: int = 2
    n_layers: int = 8
    n_heads: int = 8
    d_ffn: int = 1024
    chunk: int = 250
    skip_around_intra: bool = True
    max_positions: int = 2500
    dropout: float = 0.0
    n_speakers: int = 2
    sample_rate: int = 8000


class PositionedTransformer(nn.Module):
    """[batch, length, d] -> the same; absolute positions are added first."""

    def __init__(self, c: SepformerConfig):
        super().__init__()
        self.mdl = TransformerEncoder(c.n_filters, c.n_layers, c.n_heads, c.d_ffn, c.dropout)
        self.pos_enc = Sinusoid(c.n_filters, c.max_positions)

    def forward(self, x: Tensor) -> Tensor:
        return self.mdl(x + self.pos_enc(0, x.shape[1]))


class Sepformer(nn.Module):
    """Mixture [batch, samples] at ``config.sample_rate`` -> stems [batch, n_speakers, samples]."""

    takes_whole = True

    def __init__(self, config: SepformerConfig):
        super().__init__()
        c = self.config = config
        self.encoder = Encoder(c.n_filters, c.kernel_size, c.stride)
        blocks = (
            DualPathBlock(
                c.n_filters, PositionedTransformer(c), PositionedTransformer(c), c.skip_around_intra
            )
            for _ in range(c.n_blocks)
        )
        self.masknet = DualPathMaskNet(c.n_filters, c.chunk, c.n_speakers, blocks)
        self.decoder = Decoder(c.n_filters, c.kernel_size, c.stride)

    def forward(self, mixture: Tensor) -> Tensor:
        return separated(mixture, self.encoder, self.masknet, self.decoder)
