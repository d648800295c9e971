"""Log mel frames of a codec: several spectra a frame.

A window hears well over 40 ms, but a consonant needs to be placed more finely, so a frame holds several
spectra. A frame sees a bounded stretch on either side: a long signal can be worked on in pieces that overlap
by that much, and the pieces equal the whole.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 3e-3  # -50 dB of full scale, as in the losses: what lies below is hardly heard beside speech


class MelFrames(nn.Module):
    """[batch, 1, n] -> [batch, per_frame * n_mels, ceil(n / hop)]: log(1 + mel magnitude / FLOOR).

    A window of four steps lies around each step; ``per_frame`` steps are a frame, of ``hop`` samples."""

    window: Tensor
    filters: Tensor

    def __init__(self, sample_rate: int, hop: int, per_frame: int, n_mels: int):
        super().__init__()
        self.hop, self.step, self.per_frame = hop, hop // per_frame, per_frame
        self.size = 4 * self.step
        self.margin = (self.size - self.step) // 2
        window = torch.hann_window(self.size, device="cpu")
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        self.register_buffer("filters", mel_filters(sample_rate, self.size, n_mels), persistent=False)

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, x: Tensor) -> Tensor:
        x = x[:, 0]
        x = F.pad(x, (self.margin, self.size - self.step - self.margin - x.shape[1] % -self.hop))
        return self.inside(x)

    def inside(self, x: Tensor) -> Tensor:
        """[batch, margins and frames * hop] -> the frames whose windows lie inside."""
        spectrum = torch.fft.rfft(x.unfold(1, self.size, self.step) * self.window)
        mel = torch.log1p(spectrum.abs() @ self.filters / FLOOR)
        return mel.reshape(len(x), -1, self.per_frame * mel.shape[2]).transpose(1, 2)


def mel_filters(rate: int, size: int, bands: int) -> Tensor:
    """Triangles of equal width in mel from 0 Hz to ``rate`` / 2 with weights that sum to 1 each,
    [size / 2 + 1, bands]. A triangle narrower than a bin takes the bin nearest to its middle."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, bands + 2, device="cpu") / 2595) - 1) / (rate / size)
    bins = torch.arange(size // 2 + 1, device="cpu")[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    weights = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    nearest = (bins == middle.round()).float()
    weights = torch.where(weights.sum(0) > 0, weights, nearest)
    return weights / weights.sum(0)
