"""Mamba-TasNet: time-domain speech separation with a stack of BiMamba layers as the mask network.

Source: Jiang et al. 2024, "Speech Slytherin", section on separation and its figure of Mamba-TasNet; sizes and
names of the published checkpoints in papers.md 1.1 and 3.1. Written from that description.

    mixture [batch, samples]
      -> encoder: strided filterbank, ReLU               w [batch, frames, n_filters]
      -> layer norm, 1x1 to d_model, n_layers x (x + BiMamba(RMSNorm(x))), RMSNorm
      -> 1x1 to n_speakers masks, ReLU
      -> decoder(mask * w) for each speaker              stems [batch, n_speakers, samples]

Every step but BiMamba sees one frame (the filterbank: its neighbours), nothing needs statistics of the
whole recording, and the network is equivariant to level: a mixture twice as loud gives stems twice as loud.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.filterbank import (
    ChannelwiseLayerNorm,
    Decoder,
    Encoder,
    Pointwise,
    separated,
)
from slyther_cli.layers.mamba import MambaStack, MambaState


@dataclass(frozen=True)
class MambaTasNetConfig:
    """Sizes. ``kernel_size`` is twice the stride in the published networks; more of it (ours) hears longer
    stretches at the same frame rate. ``causal`` makes every layer forward-only, so that the network can run
    live.
    ``mixture_consistency`` (ours): what the stems lack of the mixture is shared out among them."""

    n_filters: int = 128
    kernel_size: int = 16
    stride: int = 8
    d_model: int = 128
    n_layers: int = 16
    d_state: int = 16
    n_speakers: int = 2
    causal: bool = False
    sample_rate: int = 8000
    mixture_consistency: bool = False


class MaskNet(nn.Module):
    """w [batch, frames, n_filters] -> masks [batch, n_speakers, frames, n_filters], not negative."""

    def __init__(self, c: MambaTasNetConfig):
        super().__init__()
        self.n_speakers = c.n_speakers
        self.layer_norm = ChannelwiseLayerNorm(c.n_filters)
        self.bottleneck_conv1x1 = Pointwise(c.n_filters, c.d_model)
        self.mamba_net = MambaStack(c.d_model, c.n_layers, c.d_state, c.causal)
        self.mask_conv1x1 = Pointwise(c.d_model, c.n_speakers * c.n_filters)

    def enter(self, w: Tensor) -> Tensor:
        """What comes before the layers, frame by frame."""
        return self.bottleneck_conv1x1(self.layer_norm(w))

    def masks(self, x: Tensor) -> Tensor:
        """What comes after the final norm, frame by frame."""
        m = F.relu(self.mask_conv1x1(x))
        return m.unflatten(-1, (self.n_speakers, -1)).transpose(1, 2)

    def forward(self, w: Tensor) -> Tensor:
        return self.masks(self.mamba_net(self.enter(w)))


class MambaTasNet(nn.Module):
    """Mixture [batch, samples] at ``config.sample_rate`` -> stems [batch, n_speakers, samples]."""

    takes_whole = False
    """Whether it needs a recording at once; else the layers of ``masknet.mamba_net`` are swept."""

    def __init__(self, config: MambaTasNetConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.n_filters, config.kernel_size, config.stride)
        self.masknet = MaskNet(config)
        self.decoder = Decoder(config.n_filters, config.kernel_size, config.stride)

    def forward(self, mixture: Tensor) -> Tensor:
        return self.stems(self.decoded(mixture), mixture)

    def decoded(self, mixture: Tensor) -> Tensor:
        """[batch, samples] -> what the decoder gives, [batch, n_speakers, samples]."""
        return separated(mixture, self.encoder, self.masknet, self.decoder)

    def stems(self, decoded: Tensor, mixture: Tensor) -> Tensor:
        """[..., n_speakers, samples] from the decoder and [..., samples] -> the stems. With mixture
        consistency they sum to the mixture: each takes an equal part of what is left of it (Wisdom et al.
        2019, "Differentiable consistency constraints", section 3.2)."""
        if not self.config.mixture_consistency:
            return decoded
        return decoded + ((mixture - decoded.sum(-2)) / self.config.n_speakers).unsqueeze(-2)


class StemStream:
    """The decoder over a recording, piece by piece; what the next piece's frames add to waits for them."""

    def __init__(self, model: MambaTasNet):
        self.model = model
        self.waiting: tuple[Tensor, Tensor] | None = None  # decoded, of the mixture
        self.lead = model.encoder.lead  # samples to come that are before the first one

    def push(self, w: Tensor, samples: Tensor) -> Tensor:
        """Masked frames w [1, n_speakers, frames, n_filters] and the samples [1, encoder.samples(frames)] of
        which they come -> the finished samples [n_speakers, n]: frames * stride, less the lead."""
        done = w.shape[2] * self.model.config.stride
        before = None if self.waiting is None else self.waiting[0]
        out, mixture = self.model.decoder(w, before)[0], samples[0]
        self.waiting = out[:, done:].clone(), mixture[done:]
        return self._stems(out[:, :done], mixture[:done])

    def flush(self) -> Tensor:
        """[n_speakers, kernel_size - stride]: what waits; nothing before the first frame."""
        if self.waiting is None:
            return torch.zeros(self.model.config.n_speakers, 0, device=self.model.decoder.weight.device)
        return self._stems(*self.waiting)

    def _stems(self, decoded: Tensor, mixture: Tensor) -> Tensor:
        before = min(self.lead, decoded.shape[1])
        self.lead -= before
        return self.model.stems(decoded[:, before:], mixture[before:])


class LiveSeparator:
    """A causal MambaTasNet fed block by block: ``push`` samples as they come, get stems with one frame of
    delay.

    A sample leaves when its last frame is in: fewer than ``delay`` samples wait. The concatenated output
    equals ``model(all samples)``.
    """

    def __init__(self, model: MambaTasNet):
        if not model.config.causal:
            raise TypeError("live separation needs a causal model; this one is bidirectional")
        self.model, self.device = model, model.decoder.weight.device
        self.pending = torch.zeros(1, model.encoder.lead, device=self.device)
        self.states: list[MambaState | None] = [None] * model.config.n_layers
        self.out = StemStream(model)
        self.taken = self.given = 0
        self.delay = model.config.kernel_size

    @torch.inference_mode()
    def push(self, samples: Tensor) -> Tensor:
        """[n] new samples -> [n_speakers, m] finished ones."""
        self.taken += samples.shape[-1]
        return self._run(samples.to(self.device).reshape(1, -1))

    def _run(self, samples: Tensor) -> Tensor:
        c, m = self.model.config, self.model
        self.pending = torch.cat([self.pending, samples], 1)
        frames = self.pending.shape[1] // c.stride - m.encoder.overlap + 1
        if frames < 1:
            return torch.zeros(c.n_speakers, 0, device=self.device)
        samples = self.pending[:, : m.encoder.samples(frames)]
        w = m.encoder.encode(samples)
        self.pending = self.pending[:, frames * c.stride :]
        x, self.states = m.masknet.mamba_net.step(m.masknet.enter(w), self.states)
        done = self.out.push(m.masknet.masks(x) * w.unsqueeze(1), samples)
        self.given += done.shape[1]
        return done

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """[n_speakers, m]: what was held back, cut to the samples that came."""
        before, total = self.given, self.taken
        zeros = torch.zeros(1, self.model.encoder.tail(total) if total else 0, device=self.device)
        last = torch.cat([self._run(zeros), self.out.flush()], 1)
        self.given = total
        return last[:, : total - before]
