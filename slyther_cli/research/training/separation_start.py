"""Beginning a Mamba-TasNet from one that differs: other frames, more layers or fewer, causal (ours, not the
papers').

Long frames a long way apart are quickest trained; frames closer together, longer windows and more layers then
go further. docs/training.md says what each start was worth.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slyther_cli.errors import UsageError
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.research.training.losses import best_assignment, level_to, pairwise_si_snr

CHANGES = ("stride", "kernel_size", "n_layers", "causal", "mixture_consistency")
"""The settings in which the new network may differ; n_filters follows the kernel."""
RIDGE = 1e-3  # of the mean energy of a feature
KEPT = 0.6  # the share of the sound that filters of the old network have at first
QUIET = 0.3  # the level of new filters beside them, so that the norm over all is nearly that over the old


@torch.no_grad()
def begin(old: MambaTasNet, changes: dict[str, Any], mixtures: Tensor, sources: Tensor) -> MambaTasNet:
    """A network that does about what ``old`` does, with ``changes``: any of :data:`CHANGES`.

    By ``mixtures`` [examples, samples] and ``sources`` [examples, n_speakers, samples] another filterbank is
    fitted. Raises :class:`UsageError` for settings that cannot be changed so.
    """
    unknown = sorted(set(changes) - set(CHANGES))
    if unknown:
        raise UsageError(
            f"start_from keeps its {', '.join(unknown)}; [model] can change {', '.join(CHANGES)}"
        )
    for key, value in changes.items():
        if type(value) is not type(like := getattr(old.config, key)):
            raise UsageError(f"[model] {key} must be {type(like).__name__}, not {value!r}")
    settings = vars(old.config) | changes
    finer, rest = divmod(old.config.stride, settings["stride"]) if settings["stride"] > 0 else (0, 0)
    if rest or not finer:
        raise UsageError(f"stride must divide that of start_from, {old.config.stride}")
    if "kernel_size" not in changes:
        settings["kernel_size"] = old.config.kernel_size // finer
    if old.config.causal and not settings["causal"]:
        raise UsageError("start_from is causal: it has no backward direction to begin with")
    if settings["n_layers"] < 1:
        raise UsageError(f"n_layers is {settings['n_layers']}: a network has one at least")
    other_frames = any(settings[k] != vars(old.config)[k] for k in ("stride", "kernel_size"))
    longer = settings["kernel_size"] > old.config.kernel_size
    if other_frames:  # each sine and cosine with both signs; old filters in the middle of longer frames
        settings["n_filters"] = 2 * settings["kernel_size"] + (old.config.n_filters if longer else 0)
    try:
        new = MambaTasNet(MambaTasNetConfig(**settings))
    except ValueError as error:
        raise UsageError(str(error)) from None
    n = settings["n_layers"]
    own = new.state_dict()
    given = (_thinned(old, n, mixtures) if n < old.config.n_layers else _deepened(old, n)).state_dict()
    new.load_state_dict(
        {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}, strict=False
    )
    if other_frames:
        for layer in new.masknet.mamba_net.layers if finer > 1 else ():
            for tail in ("", "_b")[: 1 if new.config.causal else 2]:
                _slow_down(layer.mixer, tail, finer)
        start_from_fourier(new)
        if longer:
            _keep_filters(old, new)
        _fit_masknet(old, new, mixtures, sources)
    return new


def _deepened(old: MambaTasNet, n_layers: int) -> MambaTasNet:
    """``old`` with copies of its layers beside them, spread evenly, that add nothing to the stream yet."""
    deep = copy.deepcopy(old)
    layers = deep.masknet.mamba_net.layers
    count, extra = len(layers), n_layers - len(layers)
    grown = nn.ModuleList()
    for i, layer in enumerate(layers):
        grown.append(layer)
        for _ in range((i + 1) * extra // count - i * extra // count):
            twin: Any = copy.deepcopy(layer)
            twin.mixer.out_proj.weight.zero_()
            grown.append(twin)
    deep.masknet.mamba_net.layers = grown
    return deep


def _thinned(old: MambaTasNet, n_layers: int, mixtures: Tensor) -> MambaTasNet:
    """``old`` without the layers that add least to the stream, measured against what it is there."""
    thin = copy.deepcopy(old)
    layers = thin.masknet.mamba_net.layers
    x, adds = thin.masknet.enter(thin.encoder(mixtures)), []
    for layer in layers:
        before, x = x, layer(x)
        adds.append(float((x - before).norm() / before.norm()))
    kept = sorted(sorted(range(len(layers)), key=adds.__getitem__)[-n_layers:])
    thin.masknet.mamba_net.layers = nn.ModuleList(layers[i] for i in kept)
    return thin


def _keep_filters(old: MambaTasNet, new: MambaTasNet) -> None:
    """The old filters and their masks, behind the Fourier filters and in the middle of a longer kernel."""
    first = 2 * new.encoder.kernel_size
    start = (new.encoder.kernel_size - old.encoder.kernel_size) // 2
    here = slice(start, start + old.encoder.kernel_size)
    for mine, theirs in (
        (new.encoder.conv1d.weight, old.encoder.conv1d.weight),
        (new.decoder.weight, old.decoder.weight),
    ):
        mine[first:] = 0.0
        mine[first:, :, here] = theirs
    new.encoder.conv1d.weight[:first] *= QUIET
    new.decoder.weight[:first] *= (1 - KEPT) / QUIET
    new.decoder.weight[first:] *= KEPT
    _masks_of(new)[:, first:] = _masks_of(old)


def _fit_masknet(old: MambaTasNet, new: MambaTasNet, mixtures: Tensor, sources: Tensor) -> None:
    """By least squares, the bottleneck to what the old one gives at the middle of the same frame, and the
    masks of the Fourier filters to the sources."""
    longest = max(old.encoder.kernel_size, new.encoder.kernel_size)

    def framed(x: Tensor, model: MambaTasNet) -> Tensor:
        """[..., samples] -> what the filters of ``model`` hear, [..., frames, n_filters], with both signs."""
        kernel = model.encoder.kernel_size
        start = (longest - kernel) // 2  # both networks' frames have the same middles
        windows = x.unfold(-1, longest, new.encoder.stride)[..., start : start + kernel]
        return F.linear(windows, model.encoder.conv1d.weight.squeeze(1))

    w = F.relu(framed(mixtures, new))
    # Silence is what the norm makes of it: its bias. Without one, gradients there grow with every layer.
    silence = old.masknet.enter(torch.zeros(1, old.config.n_filters))
    wanted = old.masknet.enter(F.relu(framed(mixtures, old))) - silence
    bottleneck = _least_squares(new.masknet.layer_norm(w).flatten(0, 1), wanted.flatten(0, 1))
    new.masknet.bottleneck_conv1x1.conv.weight.copy_(bottleneck.T.unsqueeze(-1))
    beta = silence.double() @ torch.linalg.pinv(bottleneck.double())
    new.masknet.layer_norm.beta.copy_(beta.view(1, 1, -1))

    _, order = best_assignment(pairwise_si_snr(old(mixtures), sources))
    heard = framed(torch.stack([s[o] for s, o in zip(sources, order, strict=True)]), new)
    heard = heard.transpose(1, 2).flatten(0, 1).clamp(min=0)  # [frames of all, n_speakers, n_filters]
    x, w = new.masknet.mamba_net(new.masknet.enter(w)).flatten(0, 1), w.flatten(0, 1)
    masks = _masks_of(new)
    for i in range(2 * new.encoder.kernel_size):
        # w * mask is to be what the filter hears of a source: frames count by what it hears of the mixture.
        loud = w[:, i] > 0
        masks[:, i] = _least_squares(x[loud] * w[loud, i : i + 1], heard[loud, :, i]).T
    # The masks' level is any: the stems are to sum to the mixture.
    new.decoder.weight.mul_(level_to(mixtures, new.decoded(mixtures).sum(1)))


def _masks_of(model: MambaTasNet) -> Tensor:
    """The weights of the masks [n_speakers, n_filters, d_model], to be written to."""
    return model.masknet.mask_conv1x1.conv.weight.squeeze(-1).unflatten(0, (model.config.n_speakers, -1))


def _least_squares(x: Tensor, y: Tensor) -> Tensor:
    """[n, a] and [n, b] -> the [a, b] that turns x into y with the least error, by ridge regression."""
    gram = (x.T @ x).double()
    gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    return torch.linalg.solve(gram, (x.T @ y).double()).float()


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
