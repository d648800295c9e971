"""Whose what lies above a separator's band is: from a separator's stems and what they lack of the recording,
the share of each speaker, band by band (ours; no paper's).

    power of the stems in low bands, of the rest in high bands     [n_speakers, bands, frames]
      -> in decibels over the frame's whole power, own and others'
      -> two convolutions over time, 1x1, softmax over speakers    [n_speakers, high bands, frames]

A frame lasts 32 ms and begins 16 ms after the last one, at any sample rate. The network hears no level, and
sees the speakers in no order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HOP_S = 0.016
LOW_HZ = (0, 250, 500, 750, 1000, 1300, 1600, 1900, 2200, 2500, 2800, 3100, 3400, 3700)
HIGH_HZ = (3600, 4300, 5000, 5800, 6800, math.inf)
FLOOR = 1e-7  # of the power of the frame: what lies below counts as this


@dataclass(frozen=True)
class HighBandNetConfig:
    """``sample_rate``: of the stems, which hold what lies below half of it; only 8000 has bands. ``reach``:
    frames that a convolution sees before and behind its own. Raises ValueError for other rates."""

    sample_rate: int = 8000
    width: int = 48
    reach: int = 2

    def __post_init__(self) -> None:
        if self.sample_rate != 8000:
            raise ValueError("sample_rate must be 8000")


class HighBandNet(nn.Module):
    """Powers of the stems [n_speakers, low bands, frames] and of the rest [high bands, frames] -> shares
    [n_speakers, high bands, frames], which sum to 1 over the speakers."""

    def __init__(self, config: HighBandNetConfig):
        super().__init__()
        self.config = config
        n_low, n_out = len(LOW_HZ) - 1, len(HIGH_HZ) - 1
        kernel = 2 * config.reach + 1
        self.conv1 = nn.Conv1d(2 * n_low + n_out, config.width, kernel, padding=config.reach)
        self.conv2 = nn.Conv1d(config.width, config.width, kernel, padding=config.reach)
        self.out = nn.Conv1d(config.width, n_out, 1)

    @property
    def context(self) -> int:
        """How many frames on either side a share depends on."""
        return 2 * self.config.reach

    def forward(self, stems: Tensor, rest: Tensor) -> Tensor:
        x = F.relu(self.conv2(F.relu(self.conv1(self.features(stems, rest)))))
        return torch.softmax(self.out(x), 0)

    def features(self, stems: Tensor, rest: Tensor) -> Tensor:
        """[n_speakers, features, frames], of about -2 to 1."""
        frame = stems.sum((0, 1)) + 1e-9
        others = stems.sum(0) - stems
        powers = (stems, others, rest.expand(len(stems), -1, -1))
        return torch.cat([0.5 * torch.log10((p.clamp(min=0) + FLOOR * frame) / frame) + 1 for p in powers], 1)


def bands(edges: Sequence[float], rate: int) -> Tensor:
    """[bands, bins]: 1.0 where a bin of a frame at ``rate`` belongs to the band between two ``edges`` in
    Hz."""
    hz = torch.arange(hop(rate) + 1) * (rate / (2 * hop(rate)))
    return torch.stack([((hz >= a) & (hz < b)).float() for a, b in pairwise(edges)])


def hop(rate: int) -> int:
    """Samples from one frame to the next; a frame has twice as many."""
    return round(HOP_S * rate)
