"""Discriminators for a codec's sound, and gradients of several losses brought to the levels they should have.

Sources: Kong et al. 2020, HiFi-GAN (arXiv 2010.05646): periods; Defossez et al. 2022, EnCodec (arXiv
2210.13438): short-time spectra, 3.4 hinge losses and feature matching, and the loss balancer. Far smaller
than the published ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

SLOPE = 0.1


class SpectrumDiscriminator(nn.Module):
    """Samples [batch, n] -> scores over time and frequency, and the features of every layer. It sees
    short-time spectra of ``size`` samples, real and imaginary part, whose magnitudes are compressed."""

    window: Tensor

    def __init__(self, size: int, width: int):
        super().__init__()
        self.size = size
        self.register_buffer("window", torch.hann_window(size) / size**0.5, persistent=False)
        channels = (2, width, width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 3), stride=(2, 1), padding=(2, 1)))
            for a, b in itertools.pairwise(channels)
        )
        self.post = weight_norm(nn.Conv2d(channels[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        with torch.autocast(x.device.type, enabled=False):
            s = torch.stft(x.float(), self.size, self.size // 4, window=self.window, return_complex=True)
            parts = torch.view_as_real(s)
            loudness = (parts.square().sum(-1, keepdim=True) + 1e-6) ** -0.35  # to the power of 0.3
            y = (parts * loudness).movedim(3, 1)
        return _features(self.convs, self.post, y)


class PeriodDiscriminator(nn.Module):
    """Samples [batch, n] -> scores, and the features of every layer. It sees every ``period``-th sample."""

    def __init__(self, period: int, width: int):
        super().__init__()
        self.period = period
        channels = (1, width, 3 * width, 6 * width, 12 * width)
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0)))
            for a, b in itertools.pairwise(channels)
        )
        self.post = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.pad(x, (0, -x.shape[1] % self.period))
        return _features(self.convs, self.post, x.view(len(x), 1, -1, self.period) * 4)


def _features(convs: nn.ModuleList, post: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for conv in convs:
        x = F.leaky_relu(conv(x), SLOPE)
        features.append(x)
    return post(x), features


class Discriminators(nn.Module):
    """All of them. ``width``: channels of the first layers."""

    def __init__(
        self,
        sizes: Sequence[int] = (1024, 512, 256),
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        width: int = 16,
    ):
        super().__init__()
        self.each = nn.ModuleList(
            [SpectrumDiscriminator(size, width) for size in sizes]
            + [PeriodDiscriminator(period, width) for period in periods]
        )

    def losses(self, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Samples [batch, n] twice -> how well ``made`` passes as real, how far its features lie from those
        of ``real``, and the discriminators' own loss. All are means; the first two are the generator's."""
        passes, features, own = [], [], []
        for network in self.each:
            scores, layers = network(torch.cat((made, real)))
            scores = scores.float()
            fake, true = scores.chunk(2)
            passes.append(-fake.mean())
            own.append((1 + fake).relu().mean() + (1 - true).relu().mean())
            for layer in layers:
                a, b = layer.float().chunk(2)
                b = b.detach()
                features.append((a - b).abs().mean() / (b.abs().mean() + 1e-6))
        return torch.stack(passes).mean(), torch.stack(features).mean(), torch.stack(own).mean()


def balanced(losses: Sequence[tuple[float, Tensor]], at: Tensor) -> Tensor:
    """The sum of the losses' gradients at ``at``, each scaled to its weight: ``losses`` are (weight, loss).
    Their graphs are kept."""
    total = torch.zeros_like(at)
    whole = sum(weight for weight, _ in losses)
    for weight, loss in losses:
        gradient = torch.autograd.grad(loss, at, retain_graph=True)[0]
        total += gradient * (weight / whole / gradient.norm().clamp(min=1e-12))
    return total
