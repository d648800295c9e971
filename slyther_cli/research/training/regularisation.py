"""What keeps a recogniser from learning its speech by heart: consistency of two views, dropped channels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.errors import UsageError

BRANCHES = ("ffn_module1", "norm1", "convolution_module", "ffn_module2")
"""Modules of an encoder layer whose outputs lose channels; norm1's goes into the Mamba or the attention."""


def consistency(log_probs: Tensor, frames: Tensor) -> Tensor:
    """CR-CTC's regularisation (Yao et al. 2024, arXiv 2410.05101): how far two views of the same utterances
    tell different things, as a symmetric Kullback-Leibler divergence summed over frames, in nats.

    ``log_probs`` [2 * batch, frames, vocab] holds one view of each utterance and then the other; ``frames``
    [2 * batch] are their lengths. Each view is drawn to the other, which is held still.
    """
    other = log_probs.detach().roll(len(log_probs) // 2, 0)
    divergence = F.kl_div(log_probs, other, log_target=True, reduction="none").sum(-1)
    valid = torch.arange(log_probs.shape[1], device=log_probs.device) < frames.to(log_probs.device)[:, None]
    return divergence.masked_fill(~valid, 0.0).sum()


def drop_channels(layers: Iterable[nn.Module], share: float) -> None:
    """While training, each branch of each layer [batch, frames, d] loses ``share`` of its channels, others in
    every utterance and the same in all its frames: dropout for a hundredth of its random numbers.

    Raises :class:`UsageError` on layers that are not ConMamba's or a Conformer's.
    """

    def dropped(branch: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        if not branch.training:
            return output
        kept = torch.rand(output.shape[0], 1, output.shape[2], device=output.device) >= share
        return output * (kept / (1 - share)).to(output.dtype)

    for layer in layers:
        for name in BRANCHES:
            if not isinstance(branch := getattr(layer, name, None), nn.Module):
                raise UsageError("channel_dropout is for the layers of a conmamba or a conformer")
            branch.register_forward_hook(dropped)
