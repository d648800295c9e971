"""TasNet's learned filterbank: the strided encoder, the transposed decoder, their layer norm.

Source: Luo & Mesgarani 2018, "TasNet", section 2; names and sizes as in SpeechBrain's dual_path module
(papers.md 1.1 and 3.1). Kernel = 2 x stride, so a frame overlaps its two neighbours by half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """Samples [batch, samples] -> ReLU filter outputs [batch, frames, n_filters]."""

    def __init__(self, n_filters: int, kernel_size: int, stride: int):
        super().__init__()
        if kernel_size != 2 * stride:
            raise ValueError(f"kernel_size {kernel_size} must be twice the stride {stride}")
        self.kernel_size, self.stride = kernel_size, stride
        self.conv1d = nn.Conv1d(1, n_filters, kernel_size, stride=stride, bias=False)

    def frames(self, samples: int) -> int:
        """Frames that cover ``samples`` samples whole: the end is padded with zeros, nothing is cut off."""
        return max(1, -(-samples // self.stride) - 1)

    def forward(self, samples: Tensor) -> Tensor:
        return self.encode(self.pad(samples))

    def pad(self, samples: Tensor) -> Tensor:
        """[batch, samples] -> [batch, (frames + 1) * stride], zeros at the end."""
        need = (self.frames(samples.shape[1]) + 1) * self.stride
        return F.pad(samples, (0, need - samples.shape[1]))

    def encode(self, samples: Tensor) -> Tensor:
        """[batch, (frames + 1) * stride] -> [batch, frames, n_filters], no padding."""
        halves = samples.unflatten(1, (-1, self.stride))  # a frame is a half and the next one
        windows = torch.cat([halves[:, :-1], halves[:, 1:]], -1)
        return F.relu(F.linear(windows, self.conv1d.weight.squeeze(1)))


class Decoder(nn.ConvTranspose1d):
    """Filter activities [batch, frames, n_filters] -> samples [batch, (frames + 1) * stride]."""

    def __init__(self, n_filters: int, kernel_size: int, stride: int):
        super().__init__(n_filters, 1, kernel_size, stride=stride, bias=False)

    def windows(self, w: Tensor) -> Tensor:
        """[..., frames, n_filters] -> [..., frames, kernel_size], to be overlapped and added."""
        return F.linear(w, self.weight.squeeze(1).T)

    def forward(self, w: Tensor, output_size: list[int] | None = None) -> Tensor:
        first, second = self.windows(w).chunk(2, -1)
        return (F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))).flatten(-2)


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


def root_hann(length: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The square root of a Hann window [length]; its squares, half overlapped, sum to one."""
    return torch.sin(torch.pi * (torch.arange(length, dtype=dtype) + 0.5) / length)


def start_from_fourier(encoder: Encoder, decoder: Decoder) -> None:
    """Initialise encoder and decoder as a tight windowed Fourier pair, not noise (ours, not the paper's).

    Each sine and cosine of a sqrt-Hann window comes twice, with both signs, so that the ReLU loses nothing:
    relu(v) - relu(-v) = v. Training then starts from a perfect analysis and synthesis (measured in
    docs/training.md). Filters beyond the basis stay random and are not yet heard.
    """
    k = encoder.kernel_size
    n = torch.arange(k, dtype=torch.float64)
    window = root_hann(k, torch.float64)
    edge = {0: 0.5, k // 2: 0.5}  # the constant and the Nyquist row have half the energy
    rows = [
        torch.cos(2 * torch.pi * f * n / k) * (2 / k * edge.get(f, 1.0)) ** 0.5 for f in range(k // 2 + 1)
    ]
    rows += [torch.sin(2 * torch.pi * f * n / k) * (2 / k) ** 0.5 for f in range(1, k // 2)]
    basis = torch.stack(rows) * window  # [k, k]
    count = min(encoder.conv1d.out_channels // 2, k)
    with torch.no_grad():
        enc, dec = encoder.conv1d.weight.squeeze(1), decoder.weight.squeeze(1)
        dec.zero_()
        enc[:count] = basis[:count].float()
        enc[count : 2 * count] = -basis[:count].float()
        dec[:count] = basis[:count].float()
        dec[count : 2 * count] = -basis[:count].float()
