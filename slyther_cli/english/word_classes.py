"""What kind of word stands in a place, told by the words around it alone.

For words that are read in two ways ("record", "live", "read"): a linear classifier over the two words before
and after, learnt from where words of one kind only ("mother", "gives", "gone") stand in English novels
(``research.training.word_classes``, which made the file of weights).
"""

from __future__ import annotations

import lzma
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

CLASSES = "NPVZDGA"
"""Nouns: one, several. Verbs: base form, third person, past, participle of the past. Adjectives."""
ENDINGS = "'s ing ed ly er est tion ness less ment ity ous ful al ive ble ent ant ish ary ic y ss us s"
EDGE = "#"
SCALE = 0.04  # nats a step in the file


def features(tokens: Sequence[str], at: int, known: frozenset[str] | None = None) -> Iterator[str]:
    """Of the place ``at`` between words and marks of one sentence: its neighbours, and pairs of them; words
    that are not ``known`` by their endings."""
    near = [
        _kind(tokens[i], known) if 0 <= i < len(tokens) else EDGE for i in (at - 2, at - 1, at + 1, at + 2)
    ]
    for place, word in zip("abyz", near, strict=True):
        yield f"{place} {word}"
    a, b, y, z = near
    yield f"ab {a} {b}"
    yield f"by {b} {y}"
    yield f"yz {y} {z}"


def _kind(word: str, known: frozenset[str] | None) -> str:
    if known is None or word in known:
        return word
    return "-" + next((ending for ending in ENDINGS.split() if word.endswith(ending)), "")


@lru_cache(maxsize=1)
def _weights() -> tuple[frozenset[str], dict[str, tuple[int, ...]]]:
    """The known words, and of each feature its weight for each class."""
    text = lzma.decompress((Path(__file__).parent / "word_classes_en.xz").read_bytes()).decode()
    head, *lines = text.splitlines()
    table = {}
    for line in lines:
        feature, _, numbers = line.partition("\t")
        table[feature] = tuple(map(int, numbers.split()))
    return frozenset(head.split()), table


def class_scores(tokens: Sequence[str], at: int) -> dict[str, float]:
    """How well a word of each class of CLASSES stands at ``at`` in a sentence's small words and marks: log
    probabilities but for a constant, each class as frequent as another."""
    known, table = _weights()
    sums = [0] * len(CLASSES)
    for feature in features(tokens, at, known):
        for i, weight in enumerate(table.get(feature, ())):
            sums[i] += weight
    return {name: SCALE * value for name, value in zip(CLASSES, sums, strict=True)}
