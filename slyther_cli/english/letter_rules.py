"""Spelling rules: what a letter becomes between its neighbours. Learnt by ``research.training.lexicon``."""

from __future__ import annotations

from collections.abc import Iterable

WINDOWS = ((0, 0), (0, 1), (1, 1), (1, 2), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4))
"""Letters to the left and to the right of the one that is spoken."""


def windows(word: str, i: int) -> list[str]:
    """The keys of letter ``i``, from the narrowest to the widest."""
    edged = "#" * 4 + word + "#" * 4
    at = i + 4
    return [f"{edged[at - lf : at]}[{edged[at]}]{edged[at + 1 : at + 1 + rt]}" for lf, rt in WINDOWS]


def lookup(rules: dict[str, str], keys: Iterable[str]) -> str | None:
    """What the first of ``keys`` that has a rule says."""
    return next((rules[key] for key in keys if key in rules), None)


def apply_rules(rules: dict[str, str], word: str) -> list[str]:
    """The phones of a word in small letters, each letter by the widest rule that fits it."""
    return [p for i in range(len(word)) for p in (lookup(rules, reversed(windows(word, i))) or "").split()]
