"""The strided convolutional front end of the recognisers: mel frames at 10 ms in, wide frames at 40 ms out.

Source: papers.md 2.1 (ConMamba: two blocks of 3x3, 64 and 32 channels) and 7.1 (Speech-Mamba: 5x5, 5x5, 1x1
with a residual, 64 channels); names as in 3.2. A block: Conv2d (reflected at the edges) -> LayerNorm over
(band, channel) -> LeakyReLU -> dropout. Everything is laid out [batch, frames, bands, channels], which for
the convolution is channels-last.

An output frame sees a few mel frames around it, so a recording streams through by a halo
(:class:`FrontendStream`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.layers.convolution import Named


class ConvBlock(nn.Module):
    """[batch, frames, bands, channels_in] -> [batch, ceil(frames / stride), ceil(bands / stride),
    channels]."""

    def __init__(
        self,
        bands: int,
        channels_in: int,
        channels: int,
        kernel: int,
        stride: int,
        residual: bool = False,
        dropout: float = 0.1,
    ):
        super().__init__()
        if residual and kernel > 1:
            raise ValueError("a residual block has a kernel of 1")
        self.kernel, self.stride, self.pad = kernel, stride, kernel // 2
        self.bands = -(-bands // stride)
        conv = Named(conv=nn.Conv2d(channels_in, channels, kernel, stride))
        self.convs = Named(conv_0=conv, norm_0=Named(norm=nn.LayerNorm((self.bands, channels))))
        self.reduce_conv: Named | None = None
        if residual:  # the input by a 1x1 convolution and a norm of its own
            conv = Named(conv=nn.Conv2d(channels_in, channels, 1, stride))
            self.reduce_conv = Named(conv=conv, norm=Named(norm=nn.LayerNorm((self.bands, channels))))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, first: bool = True, last: bool = True, lengths: Tensor | None = None
    ) -> Tensor:
        """``first`` and ``last``: ``x`` begins and ends where the recording does; elsewhere its outermost
        frames are halo.

        ``lengths`` [batch]: frames of each recording in a padded batch, which is then reflected at its own
        end.
        """
        conv, norm = self.convs.conv_0.conv, self.convs.norm_0.norm
        y = self.dropout(F.leaky_relu(norm(self._conv(conv, self._padded(x, first, last, lengths))), 0.01))
        if self.reduce_conv is not None:
            y = y + self.reduce_conv.norm.norm(self._conv(self.reduce_conv.conv.conv, x))
            y = self.dropout(y)
        return y

    def _conv(self, conv: nn.Conv2d, x: Tensor) -> Tensor:
        """The published kernels are [out, in, band, frame]."""
        weight = conv.weight.transpose(2, 3)
        return F.conv2d(x.permute(0, 3, 1, 2), weight, conv.bias, self.stride).permute(0, 2, 3, 1)

    def _padded(self, x: Tensor, first: bool, last: bool, lengths: Tensor | None) -> Tensor:
        if not self.pad:
            return x
        x = _reflected(x, 2, self.pad, True, True)
        n = x.shape[1]
        x = _reflected(x, 1, self.pad, False, last)
        if lengths is not None:
            rows = torch.arange(len(x), device=x.device)
            for i in range(self.pad):  # the frame i beyond the end mirrors the one i before it
                mirror = x[rows, (lengths - 2 - i).clamp(0, n - 1)]
                x = x.index_put_((rows, lengths + i), mirror)
        return _reflected(x, 1, self.pad, first, False)


Blocks = Sequence[tuple[int, int, int, bool]]
"""(channels, kernel, stride, residual) of each block."""
BLOCKS: Blocks = ((64, 3, 2, False), (32, 3, 2, False))


class ConvFrontend(nn.Module):
    """Mel frames [batch, frames, n_mels] -> [batch, ceil(frames / 4), width] at strides of 2 and 2.

    A feature is ``band * channels + channel``.
    """

    def __init__(
        self,
        n_mels: int = 80,
        blocks: Blocks = BLOCKS,
        dropout: float = 0.1,
    ):
        super().__init__()
        bands, channels_in = n_mels, 1
        self.names: list[str] = []
        for i, (channels, kernel, stride, residual) in enumerate(blocks):
            block = ConvBlock(bands, channels_in, channels, kernel, stride, residual, dropout)
            self.names.append(f"convblock_{i}")
            self.add_module(self.names[-1], block)
            bands, channels_in = block.bands, channels
        self.n_mels, self.width = n_mels, bands * channels_in

    @property
    def blocks(self) -> list[ConvBlock]:
        return [getattr(self, name) for name in self.names]

    def frames(self, mel_frames: int | Tensor) -> int | Tensor:
        """Output frames of so many mel frames."""
        for block in self.blocks:
            mel_frames = -(-mel_frames // block.stride)
        return mel_frames

    def forward(
        self, mel: Tensor, lengths: Tensor | None = None, first: bool = True, last: bool = True
    ) -> Tensor:
        """``lengths`` [batch] in mel frames: what lies beyond a recording's own end does not change its
        frames."""
        x = mel[..., None]
        for block in self.blocks:
            x = block(x, first, last, lengths)
            lengths = None if lengths is None else -(-lengths // block.stride)
        return x.flatten(2)

    def seen(self, start: int, stop: int) -> tuple[int, int]:
        """The mel frames that output frames ``start`` .. ``stop`` - 1 see, in the same way; may reach beyond
        the edges."""
        for block in reversed(self.blocks):
            start, stop = start * block.stride - block.pad, (stop - 1) * block.stride + block.pad + 1
        return start, stop


class FrontendStream:
    """Mel frames of a recording as they come, output frames as soon as all that they see is there.

    With a ``tile``, they come in tiles of so many frames on the grid from the recording's start, each
    computed from its own mel frames and their halo, so that the blocks do not matter; without, whatever is
    complete comes at once (live). The concatenated output equals the whole's. Memory does not grow with the
    recording.
    """

    def __init__(self, frontend: ConvFrontend, tile: int | None = None):
        self.frontend, self.tile = frontend, tile
        self.held: list[Tensor] = []
        self.base = self.end = 0  # mel frames: the first one held, all that came
        self.start = 0  # the next output frame

    def push(self, mel: Tensor, skip_before: int = 0) -> list[Tensor]:
        """[m, n_mels] -> what is complete now, [1, frames, width] each. Tiles that end before frame
        ``skip_before`` are passed over without being computed."""
        self.held.append(mel)
        self.end += len(mel)
        out = []
        while n := self._complete():
            if self.start + n > skip_before:
                out.append(self._window(n, last=False))
            self.start += n
            first = max(0, self.frontend.seen(self.start, self.start + 1)[0])
            self.held, self.base = [torch.cat(self.held)[first - self.base :].clone()], first
        return out

    def flush(self, skip_before: int = 0) -> list[Tensor]:
        """The frames that see the recording's end."""
        n = int(self.frontend.frames(self.end)) - self.start
        if self.start + n <= max(skip_before, self.start):
            return []
        return list(self._window(n, last=True).split(self.tile or n, 1))

    def _complete(self) -> int:
        if self.tile:
            return self.tile if self.frontend.seen(self.start, self.start + self.tile)[1] <= self.end else 0
        n = 0
        while self.frontend.seen(self.start, self.start + n + 1)[1] <= self.end:
            n += 1
        return n

    def _window(self, n: int, last: bool) -> Tensor:
        first, stop = self.frontend.seen(self.start, self.start + n)
        mel = torch.cat(self.held)
        mel = mel if last else mel[: stop - self.base]
        at_edge = first <= 0  # then ``base`` is 0, and frame 0 is computed, too
        return self.frontend(mel[None], first=at_edge, last=last)[:, self.start if at_edge else 0 :]


def _reflected(x: Tensor, dim: int, pad: int, left: bool, right: bool) -> Tensor:
    """``pad`` more entries on the sides asked for, mirrored without the outermost; what has no mirror repeats
    the edge."""
    n = x.shape[dim]

    def take(index: Iterable[int]) -> Tensor:
        inside = [min(max(i, 0), n - 1) for i in index]
        return x.index_select(dim, torch.tensor(inside, device=x.device))

    parts = [take(range(pad, 0, -1))] if left else []
    parts.append(x)
    if right:
        parts.append(take(range(n - 2, n - 2 - pad, -1)))
    return torch.cat(parts, dim)
