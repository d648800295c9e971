"""The prefixes that a beam search (``ctc``) holds: what is known of each, and which of them are alike."""

from __future__ import annotations

import math
from typing import Any

NEVER = -math.inf


class Node:
    """A prefix: its last token, and what is summed over all alignments that end in it at this frame."""

    __slots__ = (
        "alive", "bonus", "children", "end", "fixed", "id", "owed", "owing", "parent", "peak", "score_b",
        "score_n", "start", "state", "text", "total",
    )  # fmt: skip

    def __init__(self, parent: Node | None, token: int) -> None:
        self.parent, self.id = parent, token
        self.children: dict[int, Node] = {}
        self.alive = False  # among the beams
        self.score_b = self.score_n = self.total = NEVER  # ends in blank, in its token, in either
        self.start, self.end, self.peak = 0, 0, NEVER
        self.text = ""  # of the word being spelt
        self.state: Any = None  # of the language model, after the words before
        self.fixed = 0.0  # language score of the finished words
        self.owing, self.owed = False, 0.0  # whether no known word begins like the open one; what that costs
        self.bonus = 0.0  # fixed, plus what the open word owes already


def merged(nodes: list[Node]) -> list[Node]:
    """Of the nodes to which the same sounds will add the same, the best, which stands before the others."""
    kept: list[Node] = []
    alike: dict[Any, list[Node]] = {}
    for node in nodes:
        fellows = alike.setdefault((node.id, node.owing or node.text, node.owed, node.state), [])
        b, n = node.score_b + node.bonus, node.score_n + node.bonus
        if not any(best.score_b + best.bonus >= b and best.score_n + best.bonus >= n for best in fellows):
            fellows.append(node)
            kept.append(node)
    return kept


def rank(node: Node) -> float:
    return node.total + node.bonus


def add(a: float, b: float) -> float:
    """log(exp(a) + exp(b))"""
    if a < b:
        a, b = b, a
    return a if b == NEVER else a + math.log1p(math.exp(b - a))
