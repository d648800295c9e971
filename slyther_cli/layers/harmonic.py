"""Frames of a codec back to speech: pulses and noise, filtered as a network says.

Sources: Wang et al. 2019, Neural source-filter waveform models (arXiv 1904.12088); Engel et al. 2020, DDSP
(arXiv 2001.04643): harmonics and filtered noise; Siuzdak 2023, Vocos (arXiv 2306.00814): ConvNeXt blocks at
the frames' rate, then the inverse Fourier transform.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.convnext import ConvNeXtBlock
from slyther_cli.layers.mel import FLOOR, MelFrames, mel_filters
from slyther_cli.layers.overlapping import Overlapping
from slyther_cli.layers.pitch import Excitation

WRITES = 2  # spectra that a step of the mel frames becomes: consonants begin within 5 ms


class HarmonicWriter(nn.Module):
    """[batch, per_frame * (n_mels + 2), frames], mel frames and pitch, -> samples [batch, 1, frames * hop].

    Short-time spectra of pulses and of noise are multiplied by what the network writes, a complex gain for
    the pulses and a real one for the noise. Both start as the mel frame's own magnitudes."""

    window: Tensor
    between: Tensor
    rise: Tensor

    def __init__(self, mel: MelFrames, sample_rate: int, n_mels: int, d: int, d_ffn: int, n_layers: int):
        super().__init__()
        self.sample_rate, self.n_mels = sample_rate, n_mels
        self.hop, self.per_frame, self.step = mel.hop, mel.per_frame, mel.step
        self.stride = mel.step // WRITES
        self.size = 4 * self.stride
        self.margin = (self.size - self.stride) // 2
        bins = self.size // 2 + 1
        self.embed = nn.Conv1d(n_mels + 2, d, 7, padding=3)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.convnext = nn.ModuleList(ConvNeXtBlock(d, d_ffn) for _ in range(n_layers))
        self.final_layer_norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, WRITES * 3 * bins)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("window", torch.hann_window(self.size, device="cpu"), persistent=False)
        filters = mel_filters(sample_rate, 2 * self.size, n_mels)  # the mel frames have windows twice as long
        weights = (filters / filters.sum(1, keepdim=True).clamp(min=1e-6))[::2]
        self.register_buffer("between", weights.t().contiguous(), persistent=False)  # [n_mels, bins]
        self.register_buffer("rise", torch.linspace(0, 1, bins, device="cpu"), persistent=False)
        self.reach = -(-(3 + ConvNeXtBlock.REACH * n_layers + 1) // mel.per_frame) + 1
        """Frames on either side that a frame's samples depend on."""

    def forward(self, frames: Tensor) -> Tensor:
        source = Excitation(self.sample_rate, self.step)
        return self.filtered(torch.cat((frames, self.excitation(frames, source)), 1))

    def excitation(self, frames: Tensor, source: Excitation) -> Tensor:
        """What ``source`` makes of the pitch in the next frames: pulses, then noise, [batch, 2 * hop,
        frames]."""
        pitch, voicing = self._pitch(frames)
        sound = source(pitch, voicing)  # [batch, 2, n]
        return sound.unflatten(2, (-1, self.hop)).transpose(2, 3).flatten(1, 2)

    def _pitch(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        at = self.per_frame * self.n_mels
        pitch = frames[:, at : at + self.per_frame].transpose(1, 2).flatten(1)
        voicing = frames[:, at + self.per_frame : at + 2 * self.per_frame].transpose(1, 2).flatten(1)
        return pitch, (voicing > 0.5).to(pitch.dtype)

    def filtered(self, frames: Tensor) -> Tensor:
        """[batch, per_frame * (n_mels + 2) + 2 * hop, frames], frames and their excitation -> samples."""
        batch, known = len(frames), self.per_frame * (self.n_mels + 2)
        mel = frames[:, : self.per_frame * self.n_mels].transpose(1, 2).reshape(batch, -1, self.n_mels)
        pitch, voicing = self._pitch(frames)
        x = torch.cat((mel, (pitch * voicing)[..., None], voicing[..., None]), 2)
        x = self.norm(self.embed(x.transpose(1, 2)).transpose(1, 2))
        for block in self.convnext:
            x = block(x)
        written = self.head(self.final_layer_norm(x)).float()
        sound = frames[:, known:].unflatten(1, (2, self.hop)).transpose(2, 3).flatten(2)
        return self.sound(written, mel, voicing, sound)[:, None]

    @torch.autocast("cpu", enabled=False)
    @torch.autocast("cuda", enabled=False)
    def sound(self, written: Tensor, mel: Tensor, voicing: Tensor, sound: Tensor) -> Tensor:
        """What the network wrote [batch, steps, WRITES * 3 * bins]: log gains and phases of the pulses, log
        gains of the noise; what it was given; pulses and noise [batch, 2, n] -> samples [batch, n]."""
        written = written.unflatten(2, (WRITES, 3, -1)).flatten(1, 2)  # [batch, writes, 3, bins]
        base = (mel.float() @ self.between + math.log(FLOOR)).repeat_interleave(WRITES, 1)
        noisy = -2.5 * (1 - self.rise) * voicing[..., None].float().repeat_interleave(WRITES, 1)
        padded = F.pad(sound.float(), (self.margin, self.size - self.stride - self.margin))
        spectra = torch.fft.rfft(padded.unfold(2, self.size, self.stride) * self.window)
        gain = (written[:, :, 0] + base - 2 * self.rise).clamp(max=8.0).exp()
        noise = (written[:, :, 2] + base + noisy).clamp(max=8.0).exp()
        spectrum = spectra[:, 0] * torch.polar(gain, written[:, :, 1]) + spectra[:, 1] * noise
        return self.overlapped(torch.fft.irfft(spectrum, self.size))

    def overlapped(self, windows: Tensor) -> Tensor:
        """[batch, writes, size] -> [batch, writes * stride]: windowed, added, divided by the windows' sum."""
        quarters = (windows * self.window).unflatten(2, (4, self.stride))
        added = sum(F.pad(quarters[:, :, i], (0, 0, i, 3 - i)) for i in range(4))
        assert isinstance(added, Tensor)
        out = added.flatten(1) / 1.5  # four Hann windows squared
        return out[:, self.margin : self.margin + windows.shape[1] * self.stride]


class HarmonicPieces:
    """A :class:`HarmonicWriter` on frames that come in pieces: the phase of the pulses goes on."""

    def __init__(self, writer: HarmonicWriter):
        self.writer, self.source = writer, Excitation(writer.sample_rate, writer.step)
        self.network = Overlapping(writer.filtered, 1, unit=1, made=writer.hop, margin=writer.reach)

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        return self.network(torch.cat((x, self.writer.excitation(x, self.source)), 1), last)
