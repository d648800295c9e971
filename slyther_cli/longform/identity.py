"""Who is who over a whole recording: what to exchange between two stems, so that voices keep theirs.

A separator that loses track puts a person's later turns into the other's stem. Every piece (``pieces``) is
embedded by a speaker network, where both speak at once each stem of it; the embeddings are parted into two
voices, two that sound at once into different ones; and the pieces whose stems are the wrong way round are
found. Nothing here knows a network or a file: embeddings in, decisions out.

    two_voices -> Voices.evidence_of -> exchanged

Memory: two embeddings a piece; of them and their copies some 20 MB an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from slyther_cli.longform.pieces import Array, Bools, Places

SHORTEST = 0.6  # seconds of speech by which voices are learnt
FEWEST = 4  # stretches of so much
ROUNDS = 20
STARTS = 3  # of 2-means: the axes along which the voices differ most
MOVED = 0.035  # of mean cosine: what an answer that moves all speech must fit better by
ALIKE = 0.63  # likeness of two voices above which they are not told apart; that of strangers is about 0
LEAST = 0.1  # cosine of two stretches of one voice; it is more but for noise
STAY = 0.15  # evidence (seconds) that it takes to change sides; there and back, twice as much
TURN, SOON = 0.2, 0.25  # and to change voices without a pause; a third of it after so many seconds


@dataclass(frozen=True)
class Voices:
    """``centroids`` [2, dim] of length 1, and ``evidence`` [pieces] of the pieces that they were learnt from;
    ``middle`` and ``half``: the point between both voices along the line of their centroids, and the way from
    it to either. ``likeness``: the cosine of two stretches of both voices against that of two of one."""

    centroids: Array
    evidence: Array
    middle: float
    half: float
    likeness: float = 0.0

    @property
    def one(self) -> bool:
        """Whether it seems to be a single voice."""
        return self.likeness > ALIKE

    def evidence_of(self, embeddings: Array, seconds: Array) -> Array:
        """Embeddings [pieces, 2, dim] and seconds [pieces, 2], as ``two_voices`` takes them -> how many
        seconds of speech, each as the voices are on average, speak for the stems as they are (above 0) or the
        other way round [pieces]."""
        along = embeddings @ (self.centroids[0] - self.centroids[1])
        scaled = seconds * (along - self.middle) / self.half
        return np.asarray(scaled[:, 0] - scaled[:, 1])


def two_voices(embeddings: Array, seconds: Array) -> Voices | None:
    """Embeddings of every piece's stems [pieces, 2, dim], each of length 1, and the seconds of speech that
    they are of [pieces, 2] (0: none, its embedding is not looked at) -> the two voices. None: too little is
    said to tell, less than ``FEWEST`` stretches.

    2-means on the sphere, where a piece is given as a whole: its stems are voices 0 and 1, or 1 and 0. Starts
    from the stems as they are and from the axes along which the embeddings differ most; the answer that fits
    best is taken, of those that fit about as well the one that moves less. Only stretches of ``SHORTEST`` and
    more count.
    """
    weight = np.where(seconds >= SHORTEST, seconds, 0.0)
    if (weight > 0).sum() < FEWEST:
        return None
    x = np.where(weight[..., None] > 0, embeddings, 0.0)
    starts = [np.ones(len(weight)), *_axes(x, weight)]
    voices = max((_two_means(x, weight, start) for start in starts), key=lambda v: _fit(x, weight, v))
    own = np.stack((voices.evidence >= 0, voices.evidence < 0), 1)
    voices = replace(voices, likeness=_likeness(x, weight * own, weight * ~own))
    if voices.evidence[weight.any(1)].sum() < 0 or _moved(voices.evidence, weight) > 0.5:
        return replace(
            voices, centroids=voices.centroids[::-1].copy(), evidence=-voices.evidence, middle=-voices.middle
        )
    return voices


def _axes(x: Array, weight: Array) -> list[Array]:
    """The sides of the pieces along each of the ``STARTS`` axes on which the embeddings differ most."""
    mean = (weight[..., None] * x).sum((0, 1)) / weight.sum()
    centred = np.where(weight[..., None] > 0, x - mean, 0.0).reshape(-1, x.shape[-1])
    axes = np.linalg.eigh((weight.reshape(-1, 1) * centred).T @ centred)[1][:, : -1 - STARTS : -1]
    along = weight[..., None] * (centred @ axes).reshape(*weight.shape, -1)
    return list(_side(along[:, 0] - along[:, 1]).T)


def _two_means(x: Array, weight: Array, side: Array) -> Voices:
    """2-means from these sides [pieces]."""
    centroids = np.zeros((2, x.shape[-1]))
    for _ in range(ROUNDS):
        mine = np.stack((side > 0, side < 0), 1)
        for voice, own in enumerate((mine, ~mine)):
            if (weight * own).any():
                centroids[voice] = _unit(((weight * own)[..., None] * x).sum((0, 1)))
        along = x @ (centroids[0] - centroids[1])
        means = [np.average(along, weights=weight * m) if (weight * m).any() else 0.0 for m in (mine, ~mine)]
        half = max(abs(means[0] - means[1]) / 2, 1e-6)
        voices = Voices(centroids.copy(), np.zeros(0), float(sum(means) / 2), float(half))
        found = voices.evidence_of(x, weight)
        if np.array_equal(_side(found), side):
            break
        side = _side(found)
    return replace(voices, evidence=found)


def _fit(x: Array, weight: Array, voices: Voices) -> float:
    """The mean cosine of stretches and their voices, less what it costs to move them."""
    cosines = x @ voices.centroids.T  # [pieces, 2, 2]
    as_is, other = cosines[:, (0, 1), (0, 1)], cosines[:, (0, 1), (1, 0)]
    own = np.where(voices.evidence[:, None] >= 0, as_is, other)
    moved = _moved(voices.evidence, weight)
    return float((weight * own).sum() / weight.sum()) - MOVED * min(moved, 1 - moved)


def _likeness(x: Array, *weights: Array) -> float:
    """Of two voices, each of the stretches with a weight [pieces, 2] in its own: the mean cosine of one of
    either and another, against the means of two different ones of the same. 1 where one voice has less than
    two."""
    if min((w > 0).sum() for w in weights) < 2:
        return 1.0
    sums = [(w[..., None] * x).sum((0, 1)) for w in weights]
    totals, squares = [w.sum() for w in weights], [np.square(w).sum() for w in weights]
    within = [
        max(float(s @ s - q) / (t**2 - q), LEAST) for s, t, q in zip(sums, totals, squares, strict=True)
    ]
    return float(sums[0] @ sums[1]) / (totals[0] * totals[1] * float(np.sqrt(np.prod(within))))


def exchanged(
    evidence: Array,
    stay: float = STAY,
    *,
    louder: Places | None = None,
    pause: Array | None = None,
    fixed: Bools | None = None,
) -> Bools:
    """Which pieces to exchange: the most evidence, where every change of sides costs ``stay``. ``louder``
    [pieces], the stem that has the turn, and ``pause`` [pieces], seconds since the piece before: a change of
    voices costs ``TURN``, the less the longer the pause. ``fixed``: pieces that stay as they are."""
    count = len(evidence)
    crossing = np.diff(louder, prepend=louder[:1]) != 0 if louder is not None else np.zeros(count, np.bool_)
    turn = np.zeros(count) if pause is None else TURN * np.exp(-pause / SOON)
    back = np.zeros((count, 2), np.bool_)
    score = np.zeros(2)  # of the best path that ends as it is, or exchanged
    for i, value in enumerate(evidence):
        keep = score - turn[i] * crossing[i]
        change = score[::-1] - stay - turn[i] * (not crossing[i])
        back[i] = change > keep
        score = np.maximum(keep, change) + np.array((value, 0.0))
        if fixed is not None and fixed[i]:
            score[1] = -np.inf
    swap = np.zeros(count, np.bool_)
    state = int(score[1] > score[0])
    for i in range(count - 1, -1, -1):
        swap[i] = state == 1
        state = 1 - state if back[i, state] else state
    return swap


def _side(value: Array) -> Array:
    return np.where(value >= 0, 1.0, -1.0)


def _moved(evidence: Array, weight: Array) -> float:
    """The share of speech that lies the other way round."""
    return float(weight.sum(1)[evidence < 0].sum() / weight.sum())


def _unit(x: Array) -> Array:
    return x / max(float(np.linalg.norm(x)), 1e-12)
