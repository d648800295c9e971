"""MINE: mutual information by a network that tells pairs from shuffled pairs (Belghazi et al. 2018).

The Donsker-Varadhan bound I(X; T) >= E_pairs[f(x, t)] - log E_shuffled[exp f(x, t)], in nats, with the
biased gradient that the papers' code takes (papers.md section 6): f is concat(x, t) -> 100 -> ReLU -> 100 ->
ReLU -> 1, Adam at 1e-4, 100 passes over the frames in batches of 128.

Many estimates run at once: their networks are stacked in one product, and Adam treats every number by itself,
so each learns as it would alone. All start from the same values, see the same batches and the same shuffles
(those of their seed): what differs between two layers' estimates is the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from slyther_cli.errors import UsageError

SHUFFLES = 8  # that a final value averages over


@dataclass(frozen=True)
class MineConfig:
    """The papers' sizes. A batch larger than the sample is the whole sample; a rest of one is left out."""

    hidden: int = 100
    lr: float = 1e-4
    passes: int = 100
    batch: int = 128

    def __post_init__(self) -> None:
        if min(self.hidden, self.passes, self.batch) < 1 or not 0 < self.lr < 1:
            raise UsageError("hidden, passes and batch must be 1 or more, the rate between 0 and 1")


class Mine:
    """Stacked networks, one for each of ``layers`` and ``seeds``; number ``layer * len(seeds) + i`` is the
    layer's with seed i."""

    def __init__(self, x_width: int, t_width: int, layers: int, seeds: list[int], c: MineConfig):
        self.c, self.seeds, self.layers = c, seeds, layers
        one = [_started(x_width, t_width, c.hidden, seed) for seed in seeds]
        stacked = [torch.stack(parts) for parts in zip(*one, strict=True)]
        self.weights = [w.repeat(layers, *[1] * (w.dim() - 1)).requires_grad_() for w in stacked]
        self.rngs = [torch.Generator().manual_seed(seed) for seed in seeds]

    def learn(self, x: Tensor, t: Tensor) -> None:
        """x [n, x_width] and t [layers, n, t_width], frame by frame pairs."""
        n, c = x.shape[0], self.c
        batch = min(c.batch, n)
        adam = torch.optim.Adam(self.weights, lr=c.lr)
        for _ in range(c.passes):
            orders = torch.stack([torch.randperm(n, generator=rng) for rng in self.rngs])  # [seeds, n]
            for at in range(0, n - batch + 1, batch):
                rows = orders[:, at : at + batch]
                bound = self._bound(x[rows], t[:, rows], self._shuffle(batch))
                adam.zero_grad(set_to_none=True)
                (-bound.sum()).backward()
                adam.step()

    @torch.no_grad()
    def value(self, x: Tensor, t: Tensor) -> Tensor:
        """[layers, seeds]: the bound on these pairs, learnt from or not; the average of a few shuffles."""
        every, pairs = len(self.seeds), torch.arange(len(x))
        rows = pairs.expand(every, -1)
        found = [self._bound(x[rows], t[:, rows], self._shuffle(len(x))) for _ in range(SHUFFLES)]
        return torch.stack(found).mean(0).view(self.layers, every)

    def _shuffle(self, n: int) -> Tensor:
        """[seeds, n]"""
        return torch.stack([torch.randperm(n, generator=rng) for rng in self.rngs])

    def _bound(self, x: Tensor, t: Tensor, shuffle: Tensor) -> Tensor:
        """x [seeds, n, x_width], t [layers, seeds, n, t_width] -> [layers * seeds]."""
        from_x, from_t, bias, inner, inner_bias, outer = self.weights
        n = shuffle.shape[1]
        near = torch.bmm(x.repeat(self.layers, 1, 1), from_x) + bias
        far = torch.bmm(t.flatten(0, 1), from_t)
        other = shuffle.repeat(self.layers, 1)[..., None].expand_as(far)  # rows of a product
        both = torch.cat([near + far, near + far.gather(1, other)], 1).relu()
        f = torch.bmm((torch.bmm(both, inner) + inner_bias).relu(), outer).squeeze(-1)
        return f[:, :n].mean(1) - (f[:, n:].logsumexp(1) - math.log(n))


def _started(x_width: int, t_width: int, hidden: int, seed: int) -> list[Tensor]:
    """As torch starts linear layers: uniform within 1 / sqrt(inputs). The last bias would cancel; none."""
    rng = torch.Generator().manual_seed(seed)

    def uniform(inputs: int, *shape: int) -> Tensor:
        return (2 * torch.rand(*shape, generator=rng) - 1) * inputs**-0.5

    both = x_width + t_width
    return [
        *(uniform(both, x_width, hidden), uniform(both, t_width, hidden), uniform(both, 1, hidden)),
        *(uniform(hidden, hidden, hidden), uniform(hidden, 1, hidden), uniform(hidden, hidden, 1)),
    ]


def gaussian_information(correlation: float, dimensions: int) -> float:
    """Nats between two Gaussian vectors whose channels are correlated one by one."""
    return -0.5 * dimensions * math.log(1 - correlation**2)


def gaussian_pairs(n: int, correlation: float, dimensions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Such vectors, [n, dimensions] each."""
    rng = torch.Generator().manual_seed(seed)
    x, noise = (torch.randn(n, dimensions, generator=rng) for _ in range(2))
    return x, correlation * x + math.sqrt(1 - correlation**2) * noise
