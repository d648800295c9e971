"""Conversations in which people take turns: who speaks when, over any length (ours; no paper's)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

EDGE_S = 0.005  # the fade at the cut ends of a turn


def take_turns(
    rng: np.random.Generator,
    said: Callable[[int], np.ndarray],
    n_speakers: int,
    samples: int,
    rate: int,
    gap_s: tuple[float, ...],
    again: float,
) -> np.ndarray:
    """float32 [n_speakers, samples]: one speaks, then another; nobody overlaps themselves.

    ``said(speaker)`` -> what the next turn of that speaker sounds like, [turn]. After a turn come ``gap_s``
    seconds (least, most; below 0 the next turn begins before the last one ends); the one who spoke goes on
    with probability ``again``. The stretch may begin in the middle of a turn.
    """
    out = np.zeros((n_speakers, samples), np.float32)
    ends = [0] * n_speakers
    who, turn = _next(rng, said, n_speakers, None, again)
    at = -int(rng.integers(len(turn)))
    while at < samples:
        part = turn[max(0, -at) : samples - at]
        out[who, max(0, at) : max(0, at) + len(part)] = part
        ends[who] = at + len(turn)
        gap = int(rng.uniform(gap_s[0], gap_s[1]) * rate)
        last = ends[who]
        who, turn = _next(rng, said, n_speakers, who, again)
        at = max(last + gap, ends[who])
    return out


def _next(
    rng: np.random.Generator,
    said: Callable[[int], np.ndarray],
    n_speakers: int,
    last: int | None,
    again: float,
) -> tuple[int, np.ndarray]:
    """Who speaks after ``last``, and what."""
    if last is not None and (n_speakers == 1 or rng.random() < again):
        return last, said(last)
    others = [k for k in range(n_speakers) if k != last]
    who = others[rng.integers(len(others))]
    return who, said(who)


def excerpt(rng: np.random.Generator, x: np.ndarray, samples: int, rate: int) -> np.ndarray:
    """``samples`` of an utterance from a random place, its cut ends faded; all of it where it is shorter."""
    if len(x) <= samples:
        return x
    start = int(rng.integers(len(x) - samples + 1))
    part = x[start : start + samples].astype(np.float32)
    fade = np.linspace(0, 1, min(samples, int(EDGE_S * rate)), dtype=np.float32)
    part[: len(fade)] *= fade
    part[len(part) - len(fade) :] *= fade[::-1]
    return part
