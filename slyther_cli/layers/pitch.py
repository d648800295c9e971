"""The pitch of a voice, as a codec carries it: fundamental frequency and voicing, and the sound of pulses at
that frequency.

A decoder that sees mel bands alone does not know where the harmonics of a voice are; what it makes up sounds
broken. Pulses at the true fundamental frequency, with noise beside them, give it the harmonics.
Sources: Wang et al. 2019, Neural source-filter waveform models (arXiv 1904.12088); Kim et al. 2018, CREPE
(arXiv 1802.06182): pitch as a class, read as the mean around the likeliest.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.convnext import ConvNeXtBlock
from slyther_cli.layers.mel import FLOOR

LOWEST, HIGHEST = 55.0, 520.0  # Hz
MIDDLE = 150.0  # Hz: the pitch that is written as 0
N_CLASSES = 180
OCTAVES = math.log2(HIGHEST / LOWEST)
TOP = 3000  # Hz: the harmonics that tell the pitch lie below
NOISE = 2**17
"""Samples of noise, used over and over: 8 s at 16 kHz, in which nobody hears the seam."""


class PitchTracker(nn.Module):
    """[batch, 1, n] -> [batch, 2 * per_frame, ceil(n / hop)]: at the end of each step, pitch in octaves above
    150 Hz and voicing, 1 or 0; unvoiced steps have pitch 0. All pitches of a frame come first.

    ConvNeXt blocks over the log magnitudes of 64 ms around the step's end."""

    window: Tensor

    def __init__(self, sample_rate: int, hop: int, per_frame: int, d: int = 128, n_layers: int = 4):
        super().__init__()
        self.hop, self.step, self.per_frame = hop, hop // per_frame, per_frame
        self.size = 4 * (round(0.064 * sample_rate) // 4)
        self.n_bins = int(TOP / sample_rate * self.size)
        self.reach = ConvNeXtBlock.REACH * n_layers  # steps
        window = torch.hann_window(self.size, device="cpu")
        self.register_buffer("window", window / window.square().sum().sqrt(), persistent=False)
        self.embed = nn.Linear(self.n_bins, d)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(d, 2 * d) for _ in range(n_layers))
        self.final_layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, N_CLASSES + 1)

    @property
    def margin(self) -> int:
        """Samples on either side that a frame depends on."""
        return self.size // 2 + (self.reach + 1) * self.step

    def logits(self, x: Tensor) -> Tensor:
        """[batch, 1, n] -> [batch, steps, N_CLASSES + 1]; the last one is the voicing's."""
        x = x[:, 0]
        x = F.pad(x, (self.size // 2 - self.step, self.size // 2 - x.shape[1] % -self.hop))
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.fft.rfft(x.float().unfold(1, self.size, self.step) * self.window)
            y = torch.log1p(spectrum[..., : self.n_bins].abs() / FLOOR)
        y = self.norm(self.embed(y))
        for block in self.convnext:
            y = block(y)
        return self.head(self.final_layer_norm(y)).float()

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        voiced = (logits[..., -1] > 0).float()
        pitch = octaves(logits[..., :-1]) * voiced
        out = torch.stack((pitch, voiced), 2).unflatten(1, (-1, self.per_frame))
        return out.transpose(2, 3).flatten(2).transpose(1, 2)


def octaves(logits: Tensor) -> Tensor:
    """[.., N_CLASSES] -> octaves above 150 Hz: the mean of the five classes around the likeliest."""
    best = logits.argmax(-1, keepdim=True)
    near = (best + torch.arange(-2, 3, device=logits.device)).clamp(0, N_CLASSES - 1)
    share = logits.gather(-1, near).softmax(-1)
    return ((near + 0.5) * share).sum(-1) * (OCTAVES / N_CLASSES) + math.log2(LOWEST / MIDDLE)


def classes(hertz: Tensor) -> Tensor:
    """Where a fundamental frequency lies among the classes, as a real number: the inverse of octaves."""
    return (hertz.clamp(LOWEST, HIGHEST) / LOWEST).log2() * (N_CLASSES / OCTAVES) - 0.5


class Excitation:
    """What voices are made from, piece by piece: pulses at the pitch and white noise.

    The phase goes on from piece to piece in float64, the noise by its place, so pieces equal the whole.
    ``start``: where in the noise to begin."""

    def __init__(self, sample_rate: int, step: int, start: int = 0):
        self.rate, self.step, self.at = sample_rate, step, start
        self.before: Tensor | None = None  # [batch, 2]: pitch and voicing at the end of the last step
        self.phase: Tensor | None = None  # [batch, 1], cycles

    def __call__(self, pitch: Tensor, voicing: Tensor) -> Tensor:
        """Pitch in octaves and voicing at the end of each step [batch, steps] -> pulses and noise [batch, 2,
        steps * step], each of the power of white noise of variance 1 where it is voiced."""
        if not pitch.shape[1]:
            return pitch.new_zeros(len(pitch), 2, 0)
        voiced = (voicing > 0.5).float()
        last = pitch.new_zeros(len(pitch), 2) if self.before is None else self.before
        self.before = torch.stack((pitch[:, -1], voiced[:, -1]), 1)
        was = torch.cat((last[:, :1], pitch[:, :-1]), 1)
        was_voiced = torch.cat((last[:, 1:], voiced[:, :-1]), 1)
        start = torch.where(was_voiced > 0, was, pitch)[..., None]
        end = torch.where(voiced > 0, pitch, was)[..., None]
        ramp = (torch.arange(self.step, device=pitch.device) + 1) / self.step
        hertz = (MIDDLE * 2 ** (start + (end - start) * ramp)).flatten(1).clamp(LOWEST / 2, 2 * HIGHEST)
        gate = (was_voiced[..., None] + (voiced - was_voiced)[..., None] * ramp).flatten(1)
        phase = (hertz.double() / self.rate).cumsum(1)
        phase = phase if self.phase is None else phase + self.phase
        self.phase = phase[:, -1:].frac()
        sound = pulses(phase.frac().float(), hertz / self.rate) * gate
        noise = white_noise(pitch.device)
        places = torch.arange(self.at, self.at + sound.shape[1], device=pitch.device) % NOISE
        self.at = (self.at + sound.shape[1]) % NOISE
        return torch.stack((sound, noise[places].expand_as(sound)), 1)


def pulses(phase: Tensor, frequency: Tensor) -> Tensor:
    """The sum of the cosines of all harmonics below half the sampling rate; the highest comes and goes
    gradually. ``phase``: cycles, ``frequency``: cycles a sample; the same shape."""
    count = 0.5 / frequency
    whole = count.floor()
    angle = math.pi * phase
    half = angle.sin()
    near = half.abs() < 1e-4  # at the pulse itself
    harmonics = ((2 * whole + 1) * angle).sin() / (2 * torch.where(near, torch.ones_like(half), half)) - 0.5
    harmonics = torch.where(near, whole, harmonics)
    harmonics = harmonics + (count - whole) * (2 * (whole + 1) * angle).cos()
    return harmonics * 2 * frequency.sqrt()


_noise: dict[torch.device, Tensor] = {}


def white_noise(device: torch.device) -> Tensor:
    """NOISE samples of variance 1, always the same."""
    if device not in _noise:
        draw = torch.Generator().manual_seed(0)
        _noise[device] = torch.randn(NOISE, generator=draw).to(device)
    return _noise[device]
