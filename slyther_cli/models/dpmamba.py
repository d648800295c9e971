"""DPMamba: dual-path separation with one BiMamba layer inside the chunks and one across them, in every block.

Source: Jiang et al. 2024, "Dual-path Mamba" (2403.18257) and "Speech Slytherin"; sizes and names of the
published checkpoints in papers.md 1.2 and 3.1. Written from that description.

It chunks by nature: the recurrence inside a chunk begins anew every 125 frames, and the norms between take
statistics of the whole recording. So it takes a recording whole, in memory that grows with its length, and
can be neither swept nor run live. Mamba-TasNet is the network for long recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from slyther_cli.layers.dual_path import DualPathBlock, DualPathMaskNet
from slyther_cli.layers.filterbank import Decoder, Encoder, separated
from slyther_cli.layers.mamba import MambaStack


@dataclass(frozen=True)
class DPMambaConfig:
    """Sizes; the defaults are the published XS. ``n_blocks`` dual-path blocks, each with ``n_layers`` BiMamba
    layers inside the chunks and as many across; ``chunk`` in frames."""

    n_filters: int = 128
    kernel_size: int = 16
    stride: int = 8
    n_blocks: int = 8
    n_layers: int = 1
    d_state: int = 16
    chunk: int = 250
    skip_around_intra: bool = False
    n_speakers: int = 2
    sample_rate: int = 8000


class DPMamba(nn.Module):
    """Mixture [batch, samples] at ``config.sample_rate`` -> stems [batch, n_speakers, samples]."""

    takes_whole = True

    def __init__(self, config: DPMambaConfig):
        super().__init__()
        c = self.config = config
        d = c.n_filters
        self.encoder = Encoder(d, c.kernel_size, c.stride)
        blocks = (
            DualPathBlock(
                d,
                MambaStack(d, c.n_layers, c.d_state),
                MambaStack(d, c.n_layers, c.d_state),
                c.skip_around_intra,
            )
            for _ in range(c.n_blocks)
        )
        self.masknet = DualPathMaskNet(d, c.chunk, c.n_speakers, blocks)
        self.decoder = Decoder(d, c.kernel_size, c.stride)

    def forward(self, mixture: Tensor) -> Tensor:
        return separated(mixture, self.encoder, self.masknet, self.decoder)
