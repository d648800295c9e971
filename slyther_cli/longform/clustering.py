"""How many voices there are in a recording, and which stretch of speech is whose: embeddings in, voices out.

    embeddings of windows -> pieces, some seconds of one stretch each -> average linkage by cosine
      -> a centroid for each large cluster -> refined on the windows, voices that are alike joined

Agglomerative clustering compares all pairs: what is clustered is at most ``PIECES`` pieces, evenly drawn of a
long recording; the refinement looks at all windows again, in time and memory that grow with their number
alone. Nothing here knows a network, a file or words.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]

PIECES = 3000  # that are compared in pairs: 72 MB
PIECE_SECONDS = 3.0  # of speech in a piece, where its stretch has as many
APART = 0.5  # cosine distance (1 - cosine) of pieces, on average, at which clusters are cut
ALIKE = 0.65  # cosine of two centroids above which they are one voice
MOST = 12  # voices
LEAST_SECONDS, LEAST_SHARE = 6.0, 0.1  # of all speech: what a voice has at least, the smaller of both
ROUNDS = 10
STAY = 0.3  # seconds of speech, times cosine, that it takes to change voices from window to window


def find_voices(embeddings: Array, seconds: Array, stretch: Labels, count: int | None = None) -> Array:
    """Embeddings of windows in order of time [n, dim], each of length 1; the seconds of speech that each
    stands for [n], above 0; the number of the stretch between pauses that it is of [n], ascending -> the
    voices' centroids [k, dim], each of length 1.

    ``count``: so many voices, or as many as there are windows; None: as many as are heard, ``MOST`` at most.
    Raises ValueError without windows or with a ``count`` below 1.
    """
    if not len(embeddings) or (count is not None and count < 1):
        raise ValueError("find_voices takes windows, one or more, and a count of 1 or more")
    x, seconds = np.asarray(embeddings, np.float32), np.asarray(seconds, np.float32)
    pieces, lengths = _pieces(x, seconds, stretch)
    drawn = np.unique(np.linspace(0, len(pieces) - 1, min(len(pieces), PIECES)).round().astype(np.int64))
    floor = min(LEAST_SECONDS, LEAST_SHARE * float(lengths.sum())) * len(drawn) / len(pieces)
    if count is not None and len(pieces) < count:
        pieces, lengths, drawn = x, seconds, np.arange(len(x))
    pieces, lengths = pieces[drawn], lengths[drawn]
    if len(pieces) == 1:
        return pieces
    from scipy.cluster.hierarchy import fcluster, linkage  # here: a third of a second to import
    from scipy.spatial.distance import pdist

    apart = pdist(pieces, "sqeuclidean")
    apart /= 2  # of vectors of length 1: the cosine distance
    tree = linkage(apart, "average")
    heard = _large(pieces, lengths, fcluster(tree, APART, "distance"), floor, MOST)
    if count is None:
        return _joined(x, seconds, stretch, heard)
    count = min(count, len(pieces))
    begun = [_cut(pieces, lengths, tree, count, least) for least in (floor, 0.0)]
    if len(heard) > count:
        begun.append(_joined(x, seconds, stretch, heard, count))
    refined = [_refined(x, seconds, stretch, centroids) for centroids in begun]
    return max(refined, key=lambda found: found.likeness).centroids


class _Voices(NamedTuple):
    """``centroids`` [k, dim]; the seconds of each [k]; ``likeness`` of the windows to theirs, in all."""

    centroids: Array
    seconds: Array
    likeness: float


def follow(scores: Array, cost: Array) -> Labels:
    """Scores [n, k] of what is at each place, and what it costs to change to another label there [n] (the
    first is not looked at) -> the labels [n] whose scores, less the costs, are the most in all (Viterbi)."""
    n, k = scores.shape
    back = np.empty((n, k), np.int64)
    best, own = np.zeros(k), np.arange(k)
    for i in range(n):
        leader = int(best.argmax())
        change = best[leader] - cost[i] > best
        back[i] = np.where(change, leader, own)
        best = np.where(change, best[leader] - cost[i], best) + scores[i]
    labels = np.empty(n, np.int64)
    at = int(best.argmax()) if n else 0
    for i in range(n - 1, -1, -1):
        labels[i] = at
        at = int(back[i, at])
    return labels


def _pieces(x: Array, seconds: Array, stretch: Labels) -> tuple[Array, Array]:
    """Windows of one stretch joined up to ``PIECE_SECONDS``: their mean directions and their seconds."""
    edges = [0]
    held = 0.0
    for i in range(len(x)):
        if i and (stretch[i] != stretch[i - 1] or held + seconds[i] > PIECE_SECONDS):
            edges.append(i)
            held = 0.0
        held += float(seconds[i])
    sums = np.add.reduceat(x * seconds[:, None], edges, axis=0)
    return _unit(sums), np.add.reduceat(seconds, edges)


def _large(pieces: Array, lengths: Array, labels: Labels, floor: float, most: int) -> Array:
    """The centroids of the largest clusters, of ``floor`` seconds at least; one at least."""
    names = np.unique(labels)
    sizes = np.array([lengths[labels == name].sum() for name in names])
    order = [i for i in np.argsort(-sizes, kind="stable")[:most] if sizes[i] >= floor]
    return _centroids(pieces, lengths, labels, names[order or [int(sizes.argmax())]])


def _cut(pieces: Array, lengths: Array, tree: Array, count: int, floor: float) -> Array:
    """Centroids of ``count`` clusters: of the first cut of the tree that has as many of ``floor`` seconds,
    since the first of all part single odd pieces; else of that into ``count``."""
    from scipy.cluster.hierarchy import fcluster

    for wanted in range(count, min(len(pieces), 10 * count + 50) + 1):
        found = _large(pieces, lengths, fcluster(tree, wanted, "maxclust"), floor, count)
        if len(found) == count:
            return found
    while len(found) < count:  # equal heights in the tree, or few pieces: the one furthest from all voices
        found = np.concatenate((found, pieces[[int((pieces @ found.T).max(1).argmin())]]))
    return found


def _joined(x: Array, seconds: Array, stretch: Labels, centroids: Array, count: int | None = None) -> Array:
    """Refined, and the most alike two joined: until there are ``count``, or no two are ``ALIKE`` and none is
    too small."""
    floor = min(LEAST_SECONDS, LEAST_SHARE * float(seconds.sum()))
    while True:
        centroids, sizes, _ = _refined(x, seconds, stretch, centroids)
        if len(centroids) <= (count or 1):
            return centroids
        if sizes.min() < floor:
            centroids = np.delete(centroids, int(sizes.argmin()), 0)
            continue
        likeness = np.triu(centroids @ centroids.T, 1)
        a, b = np.unravel_index(int(likeness.argmax()), likeness.shape)
        if count is None and likeness[a, b] <= ALIKE:
            return centroids
        both = _unit((centroids[a] * sizes[a] + centroids[b] * sizes[b])[None])
        centroids = np.concatenate((np.delete(centroids, (a, b), 0), both))


def _refined(x: Array, seconds: Array, stretch: Labels, centroids: Array) -> _Voices:
    """k-means on the sphere, in which a voice is followed over time; a voice that loses all its windows stays
    where it was."""
    cost = np.where(np.diff(stretch, prepend=-1) != 0, STAY / 3, STAY)  # a pause makes a change likelier
    labels, likeness = np.full(len(x), -1), 0.0
    sizes: Array = np.zeros(len(centroids))
    for _ in range(ROUNDS):
        scores = seconds[:, None] * (x @ centroids.T)
        found = follow(scores, cost)
        likeness = float(scores[np.arange(len(x)), found].sum())
        if np.array_equal(found, labels):
            break
        labels = found
        sizes = np.bincount(labels, seconds, len(centroids)).astype(np.float32)
        there = np.flatnonzero(sizes)
        centroids = centroids.copy()
        centroids[there] = _centroids(x, seconds, labels, there)
    return _Voices(centroids, sizes, likeness)


def _centroids(x: Array, seconds: Array, labels: Labels, names: Labels) -> Array:
    return _unit(np.stack([seconds[labels == name] @ x[labels == name] for name in names]))


def _unit(x: Array) -> Array:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))
