"""Spectral distances between two waveforms, as losses and as a measure.

Source: mel spectra at several resolutions as in Defossez et al. 2022 (EnCodec, 3.4) and Kumar et al. 2023
(DAC, 3.5); log magnitudes, L1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from slyther_cli.layers.mel import FLOOR, mel_filters

SCALES = ((64, 8), (128, 16), (256, 32), (512, 64), (1024, 80))
"""Window in samples at 16 kHz, number of mel bands."""
LONG = 0.03  # seconds: a window of two periods of a low voice


class MelDistance(nn.Module):
    """Mean absolute difference of log mel magnitudes (nats) over ``scales``, whose windows are given for 16
    kHz and stretch with ``rate``. Windows overlap by three quarters. ``linear``: also of every bin's log
    magnitude, where the window is long enough to tell harmonics apart; they count as scales more."""

    def __init__(self, rate: int, scales: tuple[tuple[int, int], ...] = SCALES, linear: bool = False):
        super().__init__()
        self.rate, self.linear = rate, linear
        self.sizes = [max(16, round(w * rate / 16_000 / 4) * 4) for w, _ in scales]
        for i, (size, (_, bands)) in enumerate(zip(self.sizes, scales, strict=True)):
            window = torch.hann_window(size)
            self.register_buffer(f"window{i}", window / window.square().sum().sqrt(), persistent=False)
            self.register_buffer(f"mel{i}", mel_filters(rate, size, bands), persistent=False)

    def spectra(self, x: Tensor) -> list[Tensor]:
        """[batch, n] -> the log spectra [batch, frames, bands], of every scale one or two."""
        out = []
        for i, size in enumerate(self.sizes):
            window, mel = getattr(self, f"window{i}"), getattr(self, f"mel{i}")
            s = torch.stft(x, size, size // 4, window=window, pad_mode="constant", return_complex=True)
            magnitude = (torch.view_as_real(s).square().sum(-1) + 1e-9).sqrt()
            out.append((magnitude.transpose(1, 2) @ mel + FLOOR).log())
            if self.linear and size >= LONG * self.rate:
                out.append((magnitude + FLOOR).log())
        return out

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """[batch, n] twice -> scalar."""
        estimate, target = estimate.float(), target.float()
        with torch.no_grad():
            wanted = self.spectra(target)
        pairs = list(zip(self.spectra(estimate), wanted, strict=True))
        return torch.stack([(a - b).abs().mean() for a, b in pairs]).mean()
