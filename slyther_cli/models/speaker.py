"""A speaker network: a stretch of one person's speech in, a vector of length 1 out that tells the voice.

    samples -> log mel -> convolutions over time -> weighted mean and deviation of all frames -> embedding

Voices are compared by the cosine of their embeddings. The statistics are sums over frames, so those of
several stretches of one voice can be added up, and need no sound to be kept.

Like ECAPA-TDNN (Desplanques et al. 2020) without its squeeze-and-excitation, which would need all of a
stretch at once: residual dilated convolutions, whose outputs are all looked at, and attentive statistics; the
frames' weights are sigmoids, not a softmax, so that they are sums, too.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.audio.features import Fbank

FLOOR_DB = -60.0
"""In relation to the stretch's mean power, all bands together; what is below is as good as silent. So the
level makes no difference, nor does what lies above the band of a telephone, once the training shows both."""
STRIDE = 4  # features to a frame: 25 frames a second
EPS = 1e-6


@dataclass(frozen=True)
class SpeakerNetConfig:
    """``n_layers`` residual blocks of ``width`` channels, dilated by 1, 2, 3, ..; ``pooled`` channels in the
    statistics; ``dim`` of the embedding. Raises ValueError for a ``sample_rate`` other than 16000."""

    sample_rate: int = 16_000
    n_mels: int = 80
    width: int = 160
    n_layers: int = 4
    pooled: int = 384
    dim: int = 128

    def __post_init__(self) -> None:
        if self.sample_rate != 16_000:
            raise ValueError("sample_rate must be 16000")


class _Block(nn.Module):
    """A convolution over three frames, ``dilation`` apart, and a layer: [batch, frames, width]."""

    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.conv = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        frames, d = x.shape[1], self.dilation
        around = F.pad(self.norm(x), (0, 0, d, d))
        seen = torch.cat([around[:, i * d : i * d + frames] for i in range(3)], 2)
        return x + self.out(F.relu(self.conv(seen)))


class SpeakerNet(nn.Module):
    """Samples [batch, time] at 16 kHz -> embeddings [batch, dim] of length 1."""

    def __init__(self, config: SpeakerNetConfig):
        super().__init__()
        self.config = c = config
        self.fbank = Fbank(c.n_mels, sample_rate=c.sample_rate)
        self.first = nn.Linear(2 * STRIDE * c.n_mels, c.width)
        self.blocks = nn.ModuleList(_Block(c.width, 1 + i) for i in range(c.n_layers))
        self.norm = nn.LayerNorm(c.width * c.n_layers)
        self.gather = nn.Linear(c.width * c.n_layers, c.pooled)
        self.attend = nn.Linear(c.pooled, 1)
        self.project = nn.Linear(2 * c.pooled, c.dim)

    def forward(self, samples: Tensor) -> Tensor:
        return self.of_statistics(self.statistics(samples))

    def embed(self, samples: Tensor) -> Tensor:
        """One stretch [time] -> [dim]. Raises ValueError if it is empty."""
        if samples.dim() != 1 or not len(samples):
            raise ValueError(f"a stretch is [time] and not empty, not {tuple(samples.shape)}")
        return self(samples[None])[0]

    def statistics(self, samples: Tensor) -> Tensor:
        """[batch, time] -> sums over the frames [batch, 2 * pooled + 1], those of other stretches of the same
        voice may be added."""
        return self.of_features(self.features(samples))

    def of_statistics(self, sums: Tensor) -> Tensor:
        """[batch, 2 * pooled + 1] -> embeddings [batch, dim]."""
        weight, first, second = sums.float().split([1, self.config.pooled, self.config.pooled], 1)
        mean = first / (weight + EPS)
        deviation = (second / (weight + EPS) - mean.square()).clamp(min=EPS).sqrt()
        return F.normalize(self.project(torch.cat([mean, deviation], 1)).float(), dim=1)

    def features(self, samples: Tensor) -> Tensor:
        """[batch, time] -> decibels over the mean power of the stretch, [batch, frames, n_mels]."""
        db = self.fbank.decibels(samples.float())
        level = _level(db)
        return (db - level).clamp(min=FLOOR_DB)

    def of_features(self, features: Tensor) -> Tensor:
        """[batch, frames, n_mels] -> the sums of :meth:`statistics`."""
        batch, frames, bands = features.shape
        count = -(-frames // STRIDE)
        x = F.pad((features + 35) / 20, (0, 0, STRIDE // 2, (count + 1) * STRIDE - frames - STRIDE // 2))
        steps = x.reshape(batch, count + 1, STRIDE * bands)
        x = self.first(torch.cat([steps[:, :-1], steps[:, 1:]], 2))
        seen = []
        for block in self.blocks:
            x = block(x)
            seen.append(x)
        x = F.relu(self.gather(self.norm(torch.cat(seen, 2)))).float()
        weights = torch.sigmoid(self.attend(x).float())
        return torch.cat([weights.sum(1), (weights * x).sum(1), (weights * x.square()).sum(1)], 1)


def _level(db: Tensor) -> Tensor:
    """Mean power of all bands together, in dB: [batch, 1, 1]."""
    return 10 * torch.pow(10.0, db / 10).sum(2, keepdim=True).mean(1, keepdim=True).log10()
