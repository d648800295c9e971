"""Two finished n-gram models as one: each n-gram's probability is the weighted sum of what both say.

    p(w | h) = (1 - weight) * p_one(w | h) + weight * p_other(w | h)

for every n-gram that stands in either, a model giving nothing to words that it does not have; the back-offs
are set so that all probabilities after h sum to one (static interpolation, as in Stolcke 2002, "SRILM",
section 3.2). Unlike ``mixture``, the texts are not needed, and pruned models can be blended.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from slyther_cli.decode.ngram import SHIFT, Level, NGram, Vocabulary

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
TINY = 1e-12
NEVER = -99.0  # log10 p of what cannot follow


def blend(one: NGram, other: NGram, weight: float) -> NGram:
    """The model of both; ``other`` has the ``weight``, from 0 to 1. Its order is the higher one of theirs."""
    models = (one, other)
    words = Vocabulary.of(sorted({bytes(m.words[i]) for m in models for i in range(len(m.words))}))
    own = [_ids(words, m) for m in models]  # of each word of the union, in each model
    into = [_ids(m.words, words) for m in models]
    levels: list[Level] = []
    for order in range(1, max(one.order, other.order) + 1):
        grams = np.arange(len(words))[:, None] if order == 1 else _union(models, into, order, len(words))
        shares = ((1 - weight, one, own[0]), (weight, other, own[1]))
        p = np.add(*(share * 10 ** log10_p(model, ids[grams]) for share, model, ids in shares))
        if order > 1:
            so_far = NGram(words, levels)
            contexts = find_rows(so_far, grams[:, :-1])
            lower = 10 ** log10_p(so_far, grams[:, 1:])
            levels[-1] = levels[-1]._replace(backoff=_backoff(contexts, p, lower, len(levels[-1].logp)))
            keys = (contexts << SHIFT) | grams[:, -1]
        else:
            keys = np.zeros(0, np.int64)
        logp = np.log10(np.maximum(p, 10**NEVER)).astype(np.float32)
        levels.append(Level(keys, logp, np.zeros(0, np.float32)))
    return NGram(words, levels)


def find_rows(model: NGram, grams: Ints) -> Ints:
    """Word ids [n, order] (-1: no word of the model) -> the row of each n-gram [n], -1 where it has none."""
    rows = grams[:, 0]
    for k in range(1, grams.shape[1]):
        keys = model.levels[k].keys if k < model.order else np.zeros(0, np.int64)
        wanted = (rows << SHIFT) | grams[:, k]
        place = np.minimum(keys.searchsorted(wanted), max(len(keys) - 1, 0))
        there = (rows >= 0) & (grams[:, k] >= 0)
        there &= keys[place] == wanted if len(keys) else False
        rows = np.where(there, place, -1)
    return rows


def log10_p(model: NGram, grams: Ints) -> Floats:
    """Word ids [n, order] (-1: not a word of the model) -> log10 of each last word's probability [n]."""
    order = grams.shape[1]
    if order == 1:
        return np.where(grams[:, 0] >= 0, model.levels[0].logp[grams[:, 0]], NEVER).astype(np.float64)
    shorter = log10_p(model, grams[:, 1:])
    if order > model.order:
        return shorter
    level, rows = model.levels[order - 1], find_rows(model, grams)
    contexts, backoff = find_rows(model, grams[:, :-1]), model.levels[order - 2].backoff
    lost = np.where(contexts >= 0, backoff[contexts], 0.0) if len(backoff) else 0.0
    known = level.logp[rows] if len(level.logp) else 0.0
    return np.where(rows >= 0, known, shorter + lost)


def _ids(words: Vocabulary, of: NGram | Vocabulary) -> Ints:
    """The ids in ``of`` [words] of ``words``, or with the types the other way round; -1 where it has none."""
    target = of.words if isinstance(of, NGram) else of
    texts = [words[i].decode("utf-8", "surrogatepass") for i in range(len(words))]
    return np.array([target.find(text) for text in texts], np.int64)


def _union(models: tuple[NGram, NGram], into: list[Ints], order: int, words: int) -> Ints:
    """All n-grams [n, order] of either in the union's word ids, sorted as their rows are."""
    found = [
        ids[grams]
        for m, ids in zip(models, into, strict=True)
        if order <= m.order
        for grams, _, _ in m.rows(order)
    ]
    every = np.concatenate(found) if found else np.zeros((0, order), np.int64)
    return np.unique(every, axis=0)


def _backoff(contexts: Ints, p: Floats, lower: Floats, count: int) -> npt.NDArray[np.float32]:
    """log10 of what each of ``count`` contexts keeps for the words that it has no n-gram with, over what the
    lower order gives them; 0 for a context without n-grams."""
    left = np.maximum(1 - np.bincount(contexts, p, minlength=count), TINY)
    below = np.maximum(1 - np.bincount(contexts, lower, minlength=count), TINY)
    seen = np.bincount(contexts, minlength=count) > 0
    return np.where(seen, np.log10(left / below), 0.0).astype(np.float32)
