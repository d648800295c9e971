"""An n-gram model of several texts, each weighed by how well it tells a held-out one.

    p(w | h) = sum over texts i of weight_i * p_i(w | h)

for every n-gram that stands in any of the texts, p_i being text i's own Kneser-Ney model; the back-offs are
then set so that all probabilities after h sum to one (static interpolation, as in Stolcke 2002, "SRILM",
section 3.2). Weights: expectation maximisation on the held-out text (Jelinek & Mercer 1980).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from slyther_cli.decode.ngram import BEGIN, LN10, Level, NGram, Vocabulary
from slyther_cli.research.language import kneser_ney as kn
from slyther_cli.research.language.pruning import prune_to_size, rebalanced

ROUNDS = 100
CLOSE = 1e-7  # of a weight, between two rounds


def train_mixture(
    texts: Sequence[Iterable[str]],
    held_out: Sequence[str],
    order: int = 3,
    *,
    least_word_count: int = 1,
    largest: int | None = None,
) -> tuple[NGram, list[float]]:
    """The model, and the weight of each text. Options and errors as of ``kneser_ney.train``.

    ``held_out``: normalised sentences, of which words that no text has are passed over. Raises ValueError if
    nothing of it can be scored.
    """
    ends: list[int] = []
    words, text = kn._read(_counted(texts, ends), least_word_count)
    pieces = [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    tables = kn._count(text, order, words.find(BEGIN))
    filled = [i for i, piece in enumerate(pieces) if piece.stop > piece.start]
    probabilities = [_word_probabilities(_own(tables, pieces[i], words), held_out) for i in filled]
    if not len(probabilities[0]):
        raise ValueError("no word of the held-out text is in any of the texts")
    found = weights_of(np.stack(probabilities, 1))
    weights = [0.0] * len(pieces)
    p = [np.zeros(len(table.keys)) for table in tables]
    p[0] = np.zeros(len(words))
    shares = [np.zeros(len(level)) for level in p]
    for i, weight in zip(filled, found.tolist(), strict=True):
        weights[i] = weight
        for k, level in enumerate(_own(tables, pieces[i], words).levels):
            p[k] += weight * np.exp(level.logp.astype(np.float64) * LN10)
            occurs = _occurs(tables[k], pieces[i])
            shares[k][: len(occurs)] += weight * occurs / max(occurs.sum(), 1)
    levels = [Level(t.keys if k else t.keys[:0], np.log10(q).astype(np.float32), np.zeros(len(q), np.float32))
              for k, (t, q) in enumerate(zip(tables, p, strict=True))]  # fmt: skip
    model = rebalanced(NGram(words, levels))
    return (model if largest is None else prune_to_size(model, shares, largest)), weights


def weights_of(probabilities: np.ndarray) -> np.ndarray:
    """probabilities [words, texts], the probability of each held-out word by each text -> weights [texts]."""
    weights = np.full(probabilities.shape[1], 1 / probabilities.shape[1])
    for _ in range(ROUNDS):
        joint = probabilities * weights
        new = (joint / joint.sum(1, keepdims=True)).mean(0)
        if np.abs(new - weights).max() < CLOSE:
            break
        weights = new
    return weights


def _counted(texts: Sequence[Iterable[str]], ends: list[int]) -> Iterator[str]:
    """All lines; ``ends`` gets the place after each text, in words with their sentence marks."""
    total = 0
    for text in texts:
        for line in text:
            words = line.split()
            total += len(words) + 2 if words else 0
            yield line
        ends.append(total)


def _occurs(table: kn._Table, piece: slice) -> np.ndarray:
    rows = table.rows[piece]
    return np.bincount(rows[rows >= 0], minlength=len(table.keys))


def _own(tables: list[kn._Table], piece: slice, words: Vocabulary) -> NGram:
    """The Kneser-Ney model of one text, with a row for every n-gram of all texts."""
    own = []
    for table in tables:
        new = kn._Table()
        new.keys, new.suffix, new.after_begin = (
            table.keys,
            getattr(table, "suffix", table.keys),
            table.after_begin,
        )
        new.occurs = _occurs(table, piece)
        own.append(new)
    kn._adjust(own)
    return NGram(words, kn._estimate(own, [0] * len(own), words))


def _word_probabilities(model: NGram, held_out: Sequence[str]) -> np.ndarray:
    """The probability of each known word of the held-out text, sentence ends among them."""
    out = []
    for line in held_out:
        state = model.begin()
        for word in [*line.split(), "</s>"]:
            value, state = model.score(word, state)
            if model.words.find(word) >= 0:
                out.append(value)
    return np.exp(np.array(out))
