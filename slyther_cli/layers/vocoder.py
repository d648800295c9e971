"""Mel frames back to speech by a network that writes a short-time spectrum, phases and all.

Source: Siuzdak 2023, Vocos (arXiv 2306.00814): ConvNeXt blocks at the frames' rate, then the inverse Fourier
transform. Ours start from the mel frame's own magnitudes and pulses at every frame, and learn the rest.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.convnext import ConvNeXtBlock
from slyther_cli.layers.mel import FLOOR, MelFrames


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
