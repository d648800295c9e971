"""Spectral distances between two waveforms, as losses and as a measure.

Source: mel spectra at several resolutions as in Defossez et al. 2022 (EnCodec, 3.4) and Kumar et al. 2023
(DAC, 3.5); log magnitudes, L1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FLOOR = 3e-3  # -50 dB of full scale: what lies below is hardly heard beside speech
SCALES = ((64, 8), (128, 16), (256, 32), (512, 64), (1024, 80))
"""Window in samples at 16 kHz, number of mel bands."""


class MelDistance(nn.Module):
    """Mean absolute difference of log mel magnitudes (nats) over ``scales``, whose windows are given for 16
    kHz and stretch with ``rate``. Windows overlap by three quarters."""

    def __init__(self, rate: int, scales: tuple[tuple[int, int], ...] = SCALES):
        super().__init__()
        self.sizes = [max(16, round(w * rate / 16_000 / 4) * 4) for w, _ in scales]
        for i, (size, (_, bands)) in enumerate(zip(self.sizes, scales, strict=True)):
            window = torch.hann_window(size)
            self.register_buffer(f"window{i}", window / window.square().sum().sqrt(), persistent=False)
            self.register_buffer(f"mel{i}", mel_filters(rate, size, bands), persistent=False)

    def spectra(self, x: Tensor) -> list[Tensor]:
        """[batch, n] -> the log mel spectrum [batch, frames, bands] of every scale."""
        out = []
        for i, size in enumerate(self.sizes):
            window, mel = getattr(self, f"window{i}"), getattr(self, f"mel{i}")
            s = torch.stft(x, size, size // 4, window=window, pad_mode="constant", return_complex=True)
            magnitude = (torch.view_as_real(s).square().sum(-1) + 1e-9).sqrt()
            out.append((magnitude.transpose(1, 2) @ mel + FLOOR).log())
        return out

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """[batch, n] twice -> scalar."""
        with torch.no_grad():
            wanted = self.spectra(target)
        pairs = list(zip(self.spectra(estimate), wanted, strict=True))
        return torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()


def mel_filters(rate: int, size: int, bands: int) -> Tensor:
    """Triangles of equal width in mel from 0 Hz to ``rate`` / 2 with weights that sum to 1 each,
    [size / 2 + 1, bands]. A triangle narrower than a bin takes the bin nearest to its middle."""
    top = 2595 * math.log10(1 + rate / 2 / 700)
    corners = 700 * (10 ** (torch.linspace(0, top, bands + 2) / 2595) - 1) / (rate / size)
    bins = torch.arange(size // 2 + 1)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    weights = torch.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    nearest = (bins == middle.round()).float()
    weights = torch.where(weights.sum(0) > 0, weights, nearest)
    return weights / weights.sum(0)
