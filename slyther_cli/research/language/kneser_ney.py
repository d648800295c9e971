"""Training of n-gram models: interpolated modified Kneser-Ney, with pruning.

    p(w | h) = max(c(hw) - D(c), 0) / c(h.) + g(h) p(w | h')       h' is h without its first word

c is the number of occurrences at the highest order and after <s>, and elsewhere the number of different words
that come before hw. D has three values an order (for counts 1, 2 and more), from the counts of counts.
g(h) is what is left over, the mass of pruned n-grams included, so that all probabilities after h sum to one.
The lowest order is mixed with the uniform distribution over all words, <unk> and </s> among them.

Sources: Chen & Goodman 1998, section 3; Heafield et al. 2013 for pruning and the unknown word.
Memory: about 80 bytes a word of text. Time: seconds a million words.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.decode.ngram import (
    BEGIN,
    END,
    HIGHEST_ORDER,
    MOST_WORDS,
    SHIFT,
    SPECIAL,
    UNKNOWN,
    Level,
    NGram,
    Vocabulary,
)
from slyther_cli.research.language.pruning import prune_to_size

FALLBACK = (0.5, 1.0, 1.5)  # discounts where a text is too small to tell
NO_PROBABILITY = -99.0  # log10, of <s>, which is never predicted

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def train(
    lines: Iterable[str],
    order: int = 3,
    *,
    least_counts: Sequence[int] = (1, 1, 2, 2),
    least_word_count: int = 1,
    largest: int | None = None,
) -> NGram:
    """A model of the sentences in ``lines``, words parted by white space, normalised by the caller.

    ``least_counts``      occurrences below which an n-gram of order 1, 2, ... is left out; never falling,
                          the first must be 1.
    ``least_word_count``  words that occur less often are counted as <unk>.
    ``largest``           bytes of the binary file; the n-grams that matter least are left out until it fits.
    Raises ValueError if the text has no word, or for senseless options.
    """
    least = list(least_counts)[:order]
    if not 1 <= order <= HIGHEST_ORDER:
        raise ValueError(f"the order must be between 1 and {HIGHEST_ORDER}, not {order}")
    if len(least) < order or least[0] != 1 or least != sorted(least):
        raise ValueError("least_counts must begin with 1, never fall, and have a number for every order")
    words, text = _read(lines, least_word_count)
    tables = _count(text, order, words.find(BEGIN))
    model = NGram(words, _estimate(tables, least, words))
    if largest is None:
        return model
    occurs = [table.occurs[table.occurs >= n] for table, n in zip(tables[1:], least[1:], strict=True)]
    first = np.zeros(len(words), np.int64)
    first[: len(tables[0].occurs)] = tables[0].occurs
    return prune_to_size(model, [first, *occurs], largest)


class _Table:
    """The distinct n-grams of one order, sorted by key = row of the first n - 1 words << 24 | word.

    ``occurs``: times in the text. ``counts``: what Kneser-Ney counts. ``suffix``: row, one order lower, of
    the last n - 1 words. ``after_begin``: the n-gram starts with <s>. ``rows``: of the n-gram that ends at
    each place of the text, -1: none.
    """

    keys: Ints
    occurs: Ints
    counts: Ints
    suffix: Ints
    after_begin: npt.NDArray[np.bool_]
    rows: Ints


def _read(lines: Iterable[str], least_word_count: int) -> tuple[Vocabulary, Ints]:
    """The vocabulary, and the text as word ids, every sentence from <s> to </s>."""
    ids: dict[str, int] = {BEGIN: 0, END: 1, UNKNOWN: 2}
    text = array("i")
    for line in lines:
        words = line.split()
        if words:
            text.append(0)
            text.extend([2 if word in SPECIAL else ids.setdefault(word, len(ids)) for word in words])
            text.append(1)
    if not text:
        raise ValueError("the text has no words")
    raw = np.frombuffer(text, np.int32).astype(np.int64)
    keep = np.bincount(raw, minlength=len(ids)) >= least_word_count
    keep[:3] = True
    names = [word.encode("utf-8", "surrogatepass") for word in ids]
    chosen = sorted(np.flatnonzero(keep).tolist(), key=names.__getitem__)
    if len(chosen) >= MOST_WORDS:
        raise ValueError(f"more than {MOST_WORDS} different words")
    vocabulary = Vocabulary.of([names[i] for i in chosen])
    place = np.full(len(ids), vocabulary.find(UNKNOWN), np.int64)
    place[chosen] = np.arange(len(chosen))
    return vocabulary, place[raw]


def _count(text: Ints, order: int, begin: int) -> list[_Table]:
    """All n-grams up to ``order``. A list of tables; that of order 1 has a row for every word id."""
    first = np.flatnonzero(text == begin)
    place = np.arange(len(text)) - np.repeat(first, np.diff(np.append(first, len(text))))  # in the sentence
    size = int(text.max()) + 1
    table = _Table()
    table.keys = np.arange(size)
    table.occurs = np.bincount(text, minlength=size)
    table.after_begin = table.keys == begin
    table.rows = rows = text
    tables = [table]
    for n in range(2, order + 1):
        ends = np.flatnonzero(place >= n - 1)
        keys = (rows[ends - 1] << SHIFT) | text[ends]
        table = _Table()
        table.keys, where, inverse, table.occurs = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        table.suffix = rows[ends[where]]
        table.after_begin = tables[-1].after_begin[table.keys >> SHIFT]
        table.rows = rows = np.full(len(text), -1)
        rows[ends] = inverse
        tables.append(table)
    _adjust(tables)
    return tables


def _adjust(tables: list[_Table]) -> None:
    """Set the counts of Kneser-Ney from the occurrences."""
    for lower, table in itertools.pairwise(tables):
        before = np.bincount(table.suffix[table.occurs > 0], minlength=len(lower.keys))
        lower.counts = np.where(lower.after_begin, lower.occurs, before)
    tables[-1].counts = tables[-1].occurs
    tables[0].counts = np.where(tables[0].after_begin, 0, tables[0].counts)


def _discounts(counts: Ints) -> Floats:
    """What is taken from counts 0, 1, 2, 3 and more: [4]."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    if (n[1:5] > 0).all():
        y = n[1] / (n[1] + 2 * n[2])
        found = [k - (k + 1) * y * n[k + 1] / n[k] for k in (1, 2, 3)]
        if all(0 < d <= k for k, d in enumerate(found, 1)):
            return np.array([0.0, *found])
    return np.array([0.0, *FALLBACK])


def _estimate(tables: list[_Table], least: list[int], words: Vocabulary) -> list[Level]:
    lowest = tables[0]
    size = len(words)
    counts = np.zeros(size)
    counts[: len(lowest.counts)] = lowest.counts  # <unk> may be missing in the text
    taken = _discounts(lowest.counts)[np.minimum(counts, 3).astype(int)]
    total = counts.sum()
    p: Floats = (counts - taken) / total + taken.sum() / total / (size - 1)  # <s> is no outcome
    kept = np.arange(size)  # new row of every row of the order below; -1: pruned
    levels: list[tuple[Ints, Floats]] = [(np.zeros(0, np.int64), p)]
    backoffs: list[Floats] = []
    for table, threshold in zip(tables[1:], least[1:], strict=True):
        parents = table.keys >> SHIFT
        contexts = len(p)
        keep = table.occurs >= threshold
        taken = _discounts(table.counts)[np.minimum(table.counts, 3)]
        lost = np.where(keep, taken, table.counts)
        totals = np.bincount(parents, table.counts, minlength=contexts)
        rest = np.bincount(parents, lost, minlength=contexts)
        back = np.divide(rest, totals, out=np.ones(contexts), where=totals > 0)
        share = np.divide(
            table.counts - taken, totals[parents], out=np.zeros(len(taken)), where=table.counts > 0
        )
        p = share + back[parents] * p[table.suffix]
        backoffs.append(back[kept >= 0])
        levels.append(((kept[parents[keep]] << SHIFT) | (table.keys[keep] & (MOST_WORDS - 1)), p[keep]))
        kept = np.where(keep, np.cumsum(keep) - 1, -1)
    result = []
    for i, (keys, probability) in enumerate(levels):
        logp = np.log10(probability)
        if i == 0:
            logp[words.find(BEGIN)] = NO_PROBABILITY
        back = np.log10(backoffs[i]) if i < len(backoffs) else np.zeros(0)
        result.append(Level(keys, logp.astype(np.float32), back.astype(np.float32)))
    return result


def perplexity(model: NGram, lines: Iterable[str]) -> float:
    """Perplexity a word over sentences, their ends counted, unknown words scored as <unk>."""
    total: float = 0.0
    count: Any = 0
    for line in lines:
        if line.split():
            value, words = model.sentence(line)
            total, count = total + value, count + words
    return float(np.exp(-total / count)) if count else float("nan")
