"""Making an n-gram model smaller: the n-grams whose loss changes the model least go first.

Relative entropy pruning (Stolcke 1998, "Entropy-based pruning of backoff language models", section 3). What
it costs to let a row go is the share of the text that its context has, times the change of the distribution
there. The context's share is counted in the text, not taken from the model: the lower orders of a
Kneser-Ney model are no probabilities of words in the text (Chelba et al. 2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.decode.ngram import HEADER, LN10, MOST_WORDS, SHIFT, Level, NGram

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
STEPS = 40  # halvings of the threshold's logarithm
TINY = 1e-12


def size_of(model: NGram) -> int:
    """Bytes of the model's binary file."""
    return _size(model, [len(level.logp) for level in model.levels])


def prune_to_size(model: NGram, occurs: Sequence[Any], largest: int) -> NGram:
    """The model with as few n-grams gone as it takes for a file of ``largest`` bytes.

    ``occurs``: for each order but the highest, how often its rows stand in the text, or in what share of it.
    The words stay, so the file is larger than asked when they alone are. Probabilities after every context
    still sum to one. Raises ValueError for a model in which the end of an n-gram is not an n-gram.
    """
    if size_of(model) <= largest or model.order == 1:
        return model
    p = [np.exp(level.logp.astype(np.float64) * LN10) for level in model.levels]
    suffixes = _suffixes(model)
    costs = _costs(model, p, suffixes, occurs)
    every = np.log(np.concatenate(costs[1:]))
    low, high = float(every.min()) - 1, float(every.max()) + 1
    for _ in range(STEPS):
        middle = (low + high) / 2
        fits = _size(model, [int(keep.sum()) for keep in _kept(model, costs, middle)]) <= largest
        low, high = (low, middle) if fits else (middle, high)
    return _without(model, p, suffixes, _kept(model, costs, high))


def rebalanced(model: NGram) -> NGram:
    """The same n-grams and probabilities, with back-offs that make every context sum to one."""
    if model.order == 1:
        return model
    p = [np.exp(level.logp.astype(np.float64) * LN10) for level in model.levels]
    return _without(model, p, _suffixes(model), [np.ones(len(level), np.bool_) for level in p])


def _size(model: NGram, rows: Sequence[int]) -> int:
    parts = [8 * (len(model.words) + 1), len(model.words.text)]
    for k, count in enumerate(rows):
        parts += [8 * count] * (k > 0) + [4 * count] * (2 if k < len(rows) - 1 else 1)
    return HEADER.size + sum(part + -part % 8 for part in parts)


def _suffixes(model: NGram) -> list[Ints]:
    """For each order the row, one order lower, of a row's words without the first."""
    result = [np.zeros(0, np.int64), model.levels[1].keys & (MOST_WORDS - 1)]
    for k in range(2, model.order):
        keys, below = model.levels[k].keys, model.levels[k - 1].keys
        wanted = (result[k - 1][keys >> SHIFT] << SHIFT) | (keys & (MOST_WORDS - 1))
        found = np.minimum(below.searchsorted(wanted), max(len(below) - 1, 0))
        if len(keys) and (not len(below) or (below[found] != wanted).any()):
            raise ValueError("this model cannot be pruned: the end of one of its n-grams is missing")
        result.append(found)
    return result


def _costs(model: NGram, p: list[Floats], suffixes: list[Ints], occurs: Sequence[Any]) -> list[Floats]:
    """What it costs to let each row go alone: nats, times what ``occurs`` counts; at least TINY."""
    costs = [np.zeros(0)]
    for k in range(1, model.order):
        parents = model.levels[k].keys >> SHIFT
        shorter = p[k - 1][suffixes[k]]
        left, lower = _left(parents, p[k], shorter, len(p[k - 1]))
        without = (left[parents] + p[k]) / (lower[parents] + shorter)  # the back-off with the row gone
        before = left[parents] / lower[parents]
        change = p[k] * (np.log(p[k]) - np.log(shorter) - np.log(without))
        change -= left[parents] * (np.log(without) - np.log(before))
        costs.append(np.maximum(occurs[k - 1][parents] * change, TINY))
    return costs


def _left(parents: Ints, p: Floats, shorter: Floats, contexts: int) -> tuple[Floats, Floats]:
    """What the rows of each context leave: of its own distribution, and of the one it backs off to."""
    left = 1 - np.bincount(parents, p, minlength=contexts)
    lower = 1 - np.bincount(parents, shorter, minlength=contexts)
    return np.maximum(left, TINY), np.maximum(lower, TINY)


def _kept(model: NGram, costs: list[Floats], threshold: float) -> list[Flags]:
    """Rows dearer than exp(threshold), and those that are contexts of such."""
    kept: list[Any] = [np.ones(len(model.words), np.bool_)]
    kept += [np.log(cost) >= threshold for cost in costs[1:]]
    for k in range(model.order - 1, 1, -1):
        kept[k - 1][model.levels[k].keys[kept[k]] >> SHIFT] = True
    return kept


def _without(model: NGram, p: list[Floats], suffixes: list[Ints], kept: list[Flags]) -> NGram:
    """The rows that are kept, with back-offs that make every context sum to one again."""
    first = model.levels[0]
    levels: list[Level] = []
    rows = np.arange(len(model.words))  # new place of each old row one order lower
    keys, logp = np.zeros(0, np.int64), first.logp
    now = p[0]  # what the new model says of the old rows, one order lower
    for k in range(1, model.order):
        old = model.levels[k].keys
        parents = old >> SHIFT
        shorter, keep = now[suffixes[k]], kept[k]
        left, lower = _left(parents[keep], p[k][keep], shorter[keep], len(p[k - 1]))
        back = np.where(np.bincount(parents[keep], minlength=len(left)) > 0, left / lower, 1.0)
        levels.append(Level(keys, logp, np.log10(back[kept[k - 1]]).astype(np.float32)))
        now = np.where(keep, p[k], back[parents] * shorter)
        keys = (rows[parents[keep]] << SHIFT) | (old[keep] & (MOST_WORDS - 1))
        logp = model.levels[k].logp[keep]
        rows = np.where(keep, np.cumsum(keep) - 1, -1)
    levels.append(Level(keys, logp, np.zeros(0, np.float32)))
    return NGram(model.words, levels)
