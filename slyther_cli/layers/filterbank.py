"""TasNet's learned filterbank: the strided encoder, the transposed decoder, their layer norm.

Source: Luo & Mesgarani 2018, "TasNet", section 2; names and sizes as in SpeechBrain's dual_path module
(papers.md 1.1 and 3.1). Published networks have kernel = 2 x stride: a frame overlaps its two neighbours by
half. A kernel of more strides (ours) tells the harmonics of a voice apart and keeps the time between frames.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """Samples [batch, samples] -> ReLU filter outputs [batch, frames, n_filters].

    A frame is ``overlap`` pieces of ``stride`` samples. The middles of frames lie where those of a kernel of
    two strides would: ``lead`` zeros come before the first sample and as many at least after the last.
    """

    def __init__(self, n_filters: int, kernel_size: int, stride: int):
        super().__init__()
        self.overlap, rest = divmod(kernel_size, stride)
        if rest or self.overlap < 2:
            raise ValueError(f"kernel_size {kernel_size} must be twice the stride {stride}, or more times")
        self.kernel_size, self.stride = kernel_size, stride
        self.lead = kernel_size // 2 - stride
        self.conv1d = nn.Conv1d(1, n_filters, kernel_size, stride=stride, bias=False)

    def frames(self, samples: int) -> int:
        """Frames that cover ``samples`` samples whole: the end is padded with zeros, nothing is cut off."""
        return max(1, -(-samples // self.stride) - 1)

    def samples(self, frames: int) -> int:
        """How many samples ``frames`` frames see, the lead included."""
        return (frames + self.overlap - 1) * self.stride

    def tail(self, samples: int) -> int:
        """How many zeros come after the last of ``samples`` samples."""
        return self.samples(self.frames(samples)) - self.lead - samples

    def forward(self, samples: Tensor) -> Tensor:
        return self.encode(self.pad(samples))

    def pad(self, samples: Tensor) -> Tensor:
        """[batch, samples] -> [batch, samples(frames)], zeros at both ends."""
        return F.pad(samples, (self.lead, self.tail(samples.shape[1])))

    def encode(self, samples: Tensor) -> Tensor:
        """[batch, samples(frames)] -> [batch, frames, n_filters], no padding."""
        pieces = samples.unflatten(1, (-1, self.stride))
        frames = pieces.shape[1] - self.overlap + 1
        windows = torch.cat([pieces[:, i : i + frames] for i in range(self.overlap)], -1)
        return F.relu(F.linear(windows, self.conv1d.weight.squeeze(1)))


class Decoder(nn.ConvTranspose1d):
    """Filter activities [batch, frames, n_filters] -> samples [batch, (frames + overlap - 1) * stride]."""

    def __init__(self, n_filters: int, kernel_size: int, stride: int):
        super().__init__(n_filters, 1, kernel_size, stride=stride, bias=False)
        self.overlap = kernel_size // stride

    def windows(self, w: Tensor) -> Tensor:
        """[..., frames, n_filters] -> [..., frames, kernel_size], to be overlapped and added."""
        return F.linear(w, self.weight.squeeze(1).T)

    def forward(self, w: Tensor, before: Tensor | None = None) -> Tensor:  # type: ignore[override]
        """``before`` [..., (overlap - 1) * stride]: what earlier frames give to the first of these samples.

        Frames are added in their order, so that a recording in pieces gives bit for bit what it gives whole.
        """
        frames, after = w.shape[-2], self.overlap - 1
        pieces = [
            F.pad(piece, (0, 0, i, after - i))
            for i, piece in enumerate(self.windows(w).chunk(self.overlap, -1))
        ]
        total = pieces.pop()  # of the earliest frames
        if before is not None:
            total = total + F.pad(before.unflatten(-1, (after, -1)), (0, 0, 0, frames))
        while pieces:
            total = total + pieces.pop()
        return total.flatten(-2)


def separated(mixture: Tensor, encoder: Encoder, masknet: nn.Module, decoder: Decoder) -> Tensor:
    """Mixture [batch, samples] -> what the decoder gives of the masked frames, [batch, n_speakers, samples].
    ``masknet``: [batch, frames, n_filters] -> masks [batch, n_speakers, frames, n_filters]."""
    w = encoder(mixture)
    decoded = decoder(masknet(w) * w.unsqueeze(1))
    return decoded[..., encoder.lead : encoder.lead + mixture.shape[1]]


class ChannelwiseLayerNorm(nn.Module):
    """Layer norm over the channels of each frame; parameters shaped as in the checkpoints."""

    def __init__(self, channels: int, eps: float = 1e-8):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, 1, channels))
        self.beta = nn.Parameter(torch.zeros(1, 1, channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.gamma.flatten(), self.beta.flatten(), self.eps)


class Pointwise(nn.Module):
    """A 1x1 convolution without bias on time-major frames, kept as ``conv.weight`` [out, in, 1]."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.conv.weight.squeeze(-1))
