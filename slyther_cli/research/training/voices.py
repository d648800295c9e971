"""An auxiliary loss of separators: whoever speaks alone is to be told from the other, and known again.

The separation loss says which stem a turn belongs to by the whole example, and says little while the network
knows nothing: a turn in the wrong stem spoils both. This loss compares any two frames of one voice alone.
It is deep clustering's (Hershey et al. 2016, section 2.1) over frames instead of bins of a spectrogram, taken
within the network (ours): a part of the stream between two layers is to point one way while one speaks, and
another way, at right angles, while the other does. It has no parameters and leaves nothing in the weights
but what it taught.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.models.mamba_tasnet import MambaTasNet

CHANNELS = 32  # of the stream, in directions drawn once
LOUD_DB = -25.0  # a frame is spoken in above so much below the speaker's own mean
APART_DB = 15.0  # and by one alone where the others are so much lower
FEWEST = 20  # such frames that a speaker must have for an example to count


class VoiceLoss:
    """Listens to ``model`` after three quarters of its layers; ``model`` must run before every call."""

    def __init__(self, model: MambaTasNet):
        c = model.config
        self.stride = c.stride
        layers = model.masknet.mamba_net.layers
        layers[max(0, 3 * len(layers) // 4 - 1)].register_forward_hook(self._listen)
        draw = torch.Generator().manual_seed(c.d_model)
        directions = torch.randn(c.d_model, min(CHANNELS, c.d_model), generator=draw)
        self.directions = torch.linalg.qr(directions)[0]
        self.stream: Tensor | None = None

    def _listen(self, layer: nn.Module, inputs: object, output: Tensor) -> None:
        self.stream = output

    def __call__(self, sources: Tensor) -> Tensor:
        """The sources [batch, n_speakers, samples] of the mixtures that the model has just heard -> how badly
        their voices are told apart: 0 is well, a half not at all."""
        assert self.stream is not None
        stream, self.stream = self.stream, None
        with torch.autocast(stream.device.type, enabled=False):
            voices = F.normalize(stream.float() @ self.directions.to(stream.device), dim=-1, eps=1e-6)
            alone = who_alone(sources, self.stride)[:, :, : voices.shape[1]]
            voices = voices[:, : alone.shape[2]]
            return clustering_loss(voices, alone)


def who_alone(sources: Tensor, stride: int) -> Tensor:
    """[batch, n_speakers, samples] -> 1.0 where a frame of two strides is one speaker's alone, else 0:
    [batch, n_speakers, frames]."""
    power = F.avg_pool1d(sources.float().square(), 2 * stride, stride)
    mean = power.sum(-1, keepdim=True) / (power > 0).sum(-1, keepdim=True).clamp(min=1)
    loud = power > mean * 10 ** (LOUD_DB / 10)
    others = power.sum(1, keepdim=True) - power
    return (loud & (power > others * 10 ** (APART_DB / 10))).float()


def clustering_loss(voices: Tensor, alone: Tensor) -> Tensor:
    """Unit vectors [batch, frames, channels] and who speaks alone [batch, n_speakers, frames] -> the squared
    difference between the cosine of two frames and 1 (one voice in both) or 0 (two voices), the mean over
    pairs of frames in which every voice counts alike, and over the examples in which two or more are heard;
    0 if there is none."""
    counts = alone.sum(-1, keepdim=True)
    heard = counts >= FEWEST
    usable = heard.sum((1, 2)) >= 2
    if not usable.any():
        return voices.sum() * 0.0
    voices, share = voices[usable], (alone * heard / counts.clamp(min=1))[usable]  # a voice's sum to 1
    n = heard[usable].sum((1, 2))
    weighted = voices * share.sum(1).unsqueeze(-1)
    any_two = torch.einsum("btc,btd->bcd", weighted, voices).square().sum((1, 2))
    of_one = torch.einsum("bst,btc->bsc", share, voices).square().sum((1, 2))
    return ((any_two - 2 * of_one + n) / n.square()).mean()
