"""Speech to log mel frames, and frames back to speech by a network that writes a short-time spectrum.

Frames of a codec hold several of the spectrum's: a window hears well over 40 ms, but a consonant needs to be
placed more finely. Both networks see a bounded stretch on either side, so a long signal can be worked on in
pieces that overlap by that much, and the pieces equal the whole.
Source: Siuzdak 2023, Vocos (arXiv 2306.00814): ConvNeXt blocks at the frames' rate, then the inverse Fourier
transform. Ours start from the mel frame's own magnitudes and pulses at every frame, and learn the rest.
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


class ConvNeXtBlock(nn.Module):
    """[batch, time, d] -> the same: a depthwise convolution over 7, a norm, two linear layers (Vocos)."""

    REACH = 3

    def __init__(self, d: int, d_ffn: int):
        super().__init__()
        self.dwconv = nn.Conv1d(d, d, 2 * self.REACH + 1, groups=d, padding=self.REACH)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.pwconv1, self.pwconv2 = nn.Linear(d, d_ffn), nn.Linear(d_ffn, d)
        self.gamma = nn.Parameter(torch.full((d,), 0.2))

    def forward(self, x: Tensor) -> Tensor:
        # Shifted sums: at these rates faster than a depthwise convolution, backward by far (docs/codec.md).
        taps, padded = self.dwconv.weight[:, 0], F.pad(x, (0, 0, self.REACH, self.REACH))
        y = self.dwconv.bias + sum(padded[:, i : i + x.shape[1]] * tap for i, tap in enumerate(taps.t()))
        return x + self.gamma * self.pwconv2(F.gelu(self.pwconv1(self.norm(y))))


class SpectrumWriter(nn.Module):
    """[batch, per_frame * n_mels, frames] of :class:`MelFrames` -> samples [batch, 1, frames * hop]."""

    window: Tensor
    between: Tensor
    centre: Tensor

    def __init__(self, mel: MelFrames, d: int, d_ffn: int, n_layers: int):
        super().__init__()
        self.step, self.per_frame, self.size, self.margin = mel.step, mel.per_frame, mel.size, mel.margin
        n_mels, bins = mel.filters.shape[1], mel.size // 2 + 1
        self.embed = nn.Conv1d(n_mels, d, 7, padding=3)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(d, d_ffn) for _ in range(n_layers))
        self.final_layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, 2 * bins)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(self.size, device="cpu"), persistent=False)
        weights = mel.filters / mel.filters.sum(1, keepdim=True).clamp(min=1e-6)
        self.register_buffer("between", weights.t().contiguous(), persistent=False)  # [n_mels, bins]
        self.register_buffer("centre", math.pi * torch.arange(bins, device="cpu"), persistent=False)
        self.reach = -(-(3 + ConvNeXtBlock.REACH * n_layers + 2) // mel.per_frame)
        """Frames on either side that a frame's samples depend on."""

    def forward(self, frames: Tensor) -> Tensor:
        batch = len(frames)
        mel = frames.transpose(1, 2).reshape(batch, frames.shape[2] * self.per_frame, -1)
        x = self.norm(self.embed(mel.transpose(1, 2)).transpose(1, 2))
        for block in self.convnext:
            x = block(x)
        return self.sound(self.head(self.final_layer_norm(x)).float(), mel)[:, None]

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def sound(self, written: Tensor, mel: Tensor) -> Tensor:
        """What the network wrote, log magnitudes and phases [batch, steps, 2 * bins], and the mel spectra
        that it was given [batch, steps, n_mels] -> samples [batch, steps * step]."""
        magnitude, phase = written.chunk(2, 2)
        magnitude = magnitude + mel @ self.between + math.log(FLOOR)
        phase = phase + self.centre  # a pulse in the middle of the window, to begin with
        spectrum = torch.polar(magnitude.clamp(max=6.0).exp(), phase)
        return self.overlapped(torch.fft.irfft(spectrum, self.size))

    def overlapped(self, windows: Tensor) -> Tensor:
        """[batch, steps, size] -> [batch, steps * step]: windowed, added, divided by the windows' sum."""
        weighted = windows * self.window * (self.window.square().sum().sqrt())
        sound = self._added(weighted)
        whole = self._added(self.window.square().expand(1, *windows.shape[1:]))
        out = sound / whole.clamp(min=1e-3)
        return out[:, self.margin : self.margin + windows.shape[1] * self.step]

    def _added(self, windows: Tensor) -> Tensor:
        """Overlap-add. [batch, steps, size] -> [batch, (steps + 3) * step]."""
        quarters = windows.unflatten(2, (4, self.step))
        total = sum(F.pad(quarters[:, :, i], (0, 0, i, 3 - i)) for i in range(4))
        assert isinstance(total, Tensor)
        return total.flatten(1)


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
