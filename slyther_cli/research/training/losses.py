"""SI-SNR and its permutation-invariant loss (Le Roux et al. 2019; Kolbaek et al. 2017; papers.md 1.4)."""

from __future__ import annotations

import math
from itertools import permutations

import torch
from torch import Tensor

LONE = 0.2  # the weight of an example with a silent source, whose gradient is about five times another's


def si_snr(estimate: Tensor, target: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale-invariant SNR in dB over the last axis, both zero-mean; leading axes broadcast."""
    estimate = estimate - estimate.mean(-1, keepdim=True)
    target = target - target.mean(-1, keepdim=True)
    scale = (estimate * target).sum(-1, keepdim=True) / (target.square().sum(-1, keepdim=True) + eps)
    wanted = scale * target
    noise = (estimate - wanted).square().sum(-1)
    return 10 * torch.log10((wanted.square().sum(-1) + eps) / (noise + eps))


def pairwise_si_snr(estimates: Tensor, targets: Tensor) -> Tensor:
    """[batch, n, samples] twice -> [batch, estimate, target] dB."""
    return si_snr(estimates.unsqueeze(2), targets.unsqueeze(1))


def best_assignment(pairs: Tensor) -> tuple[Tensor, Tensor]:
    """[batch, n, n] scores -> (mean score [batch], order [batch, n]: estimate i goes with target
    order[i])."""
    n = pairs.shape[-1]
    orders = torch.tensor(list(permutations(range(n))), device=pairs.device)
    totals = torch.stack(
        [pairs[:, torch.arange(n, device=pairs.device), order].mean(-1) for order in orders], -1
    )
    best, which = totals.max(-1)
    return best, orders[which]


def pit_snr(estimates: Tensor, targets: Tensor, eps: float = 1e-8) -> Tensor:
    """The energy of all targets against that of all errors in the best order, level and all: [batch] dB."""
    errors = (estimates.unsqueeze(2) - targets.unsqueeze(1)).square().sum(-1)
    least = -best_assignment(-errors)[0] * targets.shape[1]
    return 10 * torch.log10((targets.square().sum((1, 2)) + eps) / (least + eps))


def level_to(mixtures: Tensor, totals: Tensor) -> Tensor:
    """The one factor, above 0, by which ``totals`` come nearest to ``mixtures`` of the same shape."""
    return ((mixtures * totals).sum() / totals.square().sum().clamp(min=1e-12)).clamp(min=1e-6)


def pit_loss(
    estimates: Tensor,
    targets: Tensor,
    ceiling_db: float = 30.0,
    saturate_db: float = 0.0,
    floor_db: float = -math.inf,
) -> tuple[Tensor, Tensor]:
    """Negative PIT SI-SNR, examples already above the ceiling left out: (scalar loss, SI-SNR per example
    [batch]). A source of zeros has no SI-SNR: its example counts by the SNR of all stems together, for which
    nothing of the others may be in its stem, and weighs :data:`LONE`.

    ``saturate_db``, where above 0: -10 log10 of the noise and so much below the target instead of the noise
    alone, by which an example that good weighs half, better ones ever less (after Wisdom et al. 2020).
    ``floor_db``: the same from below: an example that bad weighs half, worse ones ever less.
    """
    score, _ = best_assignment(pairwise_si_snr(estimates, targets))
    heard = (targets.square().sum(-1) > 0).all(1)
    if not heard.all():
        score = torch.where(heard, score, pit_snr(estimates, targets))
    keep = score < ceiling_db
    worth = score
    if saturate_db > 0:
        worth = -10 * torch.log10(10 ** (-score / 10) + 10 ** (-saturate_db / 10))
    if floor_db > -math.inf:
        worth = 10 * torch.log10(10 ** (worth / 10) + 10 ** (floor_db / 10))
    weight = keep * torch.where(heard, 1.0, LONE)
    loss = -(worth * weight).sum() / keep.sum().clamp(min=1)
    return loss, score.detach()
