"""Beginning a Mamba-TasNet from one that differs: with shorter frames, or causal (ours, not the papers').

Shorter frames tell more of the speech and cost more a second, so a network is quickest trained on long ones
first. docs/training.md says what each start was worth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.errors import UsageError
from slyther_cli.layers.filterbank import root_hann
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.training.losses import level_to

CHANGES = ("stride", "kernel_size", "causal", "mixture_consistency")
"""The settings in which the new network may differ."""
RIDGE = 1e-3  # of the mean energy of a feature


@torch.no_grad()
def begin(old: MambaTasNet, changes: dict[str, Any], speech: Tensor) -> MambaTasNet:
    """A network that does about what ``old`` does, with ``changes``: any of :data:`CHANGES`.

    ``speech`` [examples, samples] are mixtures, by which filters of another length are fitted. Raises
    :class:`UsageError` for settings that cannot be changed so.
    """
    unknown = sorted(set(changes) - set(CHANGES))
    if unknown:
        raise UsageError(
            f"start_from keeps its {', '.join(unknown)}; [model] can change {', '.join(CHANGES)}"
        )
    settings = vars(old.config) | changes
    if "stride" in changes and "kernel_size" not in changes:
        settings["kernel_size"] = 2 * settings["stride"]
    finer, rest = divmod(old.config.stride, settings["stride"]) if settings["stride"] > 0 else (0, 0)
    if rest or not finer:
        raise UsageError(f"stride must divide that of start_from, {old.config.stride}")
    if old.config.causal and not settings["causal"]:
        raise UsageError("start_from is causal: it has no backward direction to begin with")
    try:
        new = MambaTasNet(MambaTasNetConfig(**settings))
    except ValueError as error:
        raise UsageError(str(error)) from None
    own = new.state_dict()
    new.load_state_dict(
        {k: v for k, v in old.state_dict().items() if k in own and own[k].shape == v.shape}, strict=False
    )
    if finer > 1:
        _shorten_frames(old, new, finer, speech)
    return new


def _shorten_frames(old: MambaTasNet, new: MambaTasNet, finer: int, speech: Tensor) -> None:
    """``finer`` times as many frames: the middle of each filter, what follows it fitted to the old features
    at the new rate, and layers that run in the same time."""
    long, short = old.encoder.kernel_size, new.encoder.kernel_size
    start = (long - short) // 2
    window = root_hann(short)
    filters = old.encoder.conv1d.weight.squeeze(1)
    middle = filters[:, start : start + short] / root_hann(long)[start : start + short]
    new.encoder.conv1d.weight.copy_((middle * window * math.sqrt(finer)).unsqueeze(1))

    # A long window around each short one, whose features the old network would have had at this place.
    around = speech.unfold(1, long, new.encoder.stride).flatten(0, 1)
    inner = around[:, start : start + short]
    wanted = old.masknet.enter(F.relu(F.linear(around, filters)))
    heard = F.relu(F.linear(inner, new.encoder.conv1d.weight.squeeze(1)))
    bottleneck = _least_squares(new.masknet.layer_norm(heard), wanted)
    new.masknet.bottleneck_conv1x1.conv.weight.copy_(bottleneck.T.unsqueeze(-1))
    new.decoder.weight.copy_(_least_squares(heard, inner * window.square()).unsqueeze(1))
    for layer in new.masknet.mamba_net.layers:
        for tail in ("", "_b")[: 1 if new.config.causal else 2]:
            _slow_down(layer.mixer, tail, finer)
    # The masks' level is any: the stems are to sum to the mixture.
    new.decoder.weight.mul_(level_to(speech, new.decoded(speech).sum(1)))


def _least_squares(x: Tensor, y: Tensor) -> Tensor:
    """[n, a] and [n, b] -> the [a, b] that turns x into y with the least error, by ridge regression."""
    wide = x.double()
    gram = wide.T @ wide
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, wide.T @ y.double()).float()


def _slow_down(mixer: Any, tail: str, finer: int) -> None:
    """One direction of a Mamba whose frames come ``finer`` times as often: a frame lets the state decay, and
    adds to it, by that much less; the convolution reaches as far back as it can."""
    getattr(mixer, f"A{tail}_log").sub_(math.log(finer))
    x_proj = getattr(mixer, f"x_proj{tail}").weight
    x_proj[mixer.dt_rank : mixer.dt_rank + mixer.d_state] /= finer  # B
    taps = getattr(mixer, f"conv1d{tail}").weight  # the last tap is the frame itself
    before, furthest = taps.clone(), mixer.d_conv - 1
    taps.zero_()
    for lag in range(mixer.d_conv):
        taps[..., furthest - min(furthest, lag * finer)] += before[..., furthest - lag]
