"""Who is who over a whole recording: what to exchange between two stems, so that voices keep theirs.

A separator that loses track puts a person's later turns into the other's stem. What it gave is cut into
pieces at places where both stems are silent; each stem's part of one is embedded by a speaker network; the
embeddings are parted into two voices, two that sound at once into different ones; and the pieces whose stems
are the wrong way round are exchanged. Nothing here knows a network or a file: powers and embeddings in,
pieces and decisions out.

    activity -> pieces -> (embed) -> two_voices -> exchanged -> spans

Memory: some 2 MB an hour for the powers of frames, and two embeddings a piece, as much again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
FRAME_SECONDS = 0.02
BELOW_LOUD_DB = 35.0  # what is that far below a recording's loud frames is silent
BELOW_OTHER_DB = 18.0  # and what is that far below the other stem is its leakage
CLEAR_DB, BESIDE_DB = 25.0, 6.0  # a voice is listened to that far below the loud, and below the other stem
NOTHING_DB = -100.0  # of full scale; below is silence in any recording
LOUD = 0.95  # quantile
GAP = 4  # silent frames that part two pieces
OVERLAP = 10  # frames in which both speak that are overlap; shorter ones are a seam
TOGETHER_DB = 3.0  # two stems whose levels differ by as much, give or take so many dB, hold one voice
SHORTEST = 0.6  # seconds of speech whose embedding is believed
ROUNDS = 20
LONGEST = 2.5  # seconds of a piece; a longer one is parted where it is quietest, a word's end mostly
ALIKE = 0.8  # cosine of two voices above which they are one, where those of strangers are about 0
STAY = 0.15  # evidence (seconds) that it takes to change sides; there and back, twice as much


def activity(power: Array) -> npt.NDArray[np.bool_]:
    """Mean powers of frames [2, frames] -> which stem has speech of its own in which frame."""
    return _above(power, BELOW_LOUD_DB, -BELOW_OTHER_DB)


def clear(power: Array) -> npt.NDArray[np.bool_]:
    """Mean powers of frames [2, frames] -> which stem has clear speech, and the other not clearly more."""
    return _above(power, CLEAR_DB, -BESIDE_DB)


def _above(power: Array, below_loud: float, over_other: float) -> npt.NDArray[np.bool_]:
    db, floor = _levels(power, below_loud)
    return (db > floor) & (db > db[::-1] + over_other)


def _levels(power: Array, below_loud: float) -> tuple[Array, float]:
    """Mean powers of frames [2, frames] -> the same in dB, and what is ``below_loud`` the loud frames."""
    db = 10 * np.log10(np.maximum(power, 1e-12))
    loud = float(np.quantile(db.max(0), LOUD)) if db.shape[1] else 0.0
    return db, max(loud - below_loud, NOTHING_DB)


def pieces(active: npt.NDArray[np.bool_], power: Array | None = None) -> npt.NDArray[np.int64]:
    """Activity [2, frames] -> the first frame of each piece and the last plus one, [pieces, 2]: where both
    stems are silent for ``GAP`` frames a piece ends, in the middle of that silence. ``power`` [2, frames]: to
    part those that are longer than ``LONGEST`` where they are quietest. They cover everything."""
    frames = active.shape[1]
    (speech,) = np.nonzero(active.any(0))
    if not len(speech):
        return np.array([[0, frames]]) if frames else np.zeros((0, 2), np.int64)
    jumps = np.flatnonzero(np.diff(speech) > GAP)
    cuts = (speech[jumps] + speech[jumps + 1] + 1) // 2
    edges = np.concatenate(([0], cuts, [frames]))
    if power is not None:
        level = np.convolve(power.max(0), np.ones(3), "same")
        inner = [_parted(level, a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
        edges = np.concatenate((edges, *inner)).astype(np.int64)
        edges.sort()
    return np.stack((edges[:-1], edges[1:]), 1)


def _parted(level: Array, start: int, end: int) -> list[int]:
    """Where to part a piece of these frames, if it is long."""
    cuts, todo = [], [(start, end)]
    edge = round(SHORTEST / FRAME_SECONDS)
    while todo:
        a, b = todo.pop()
        if b - a > LONGEST / FRAME_SECONDS:
            cuts.append(a + edge + int(np.argmin(level[a + edge : b - edge])))
            todo += [(a, cuts[-1]), (cuts[-1], b)]
    return cuts


def parted_at_overlap(
    active: npt.NDArray[np.bool_], cut: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Activity [2, frames] and pieces -> the pieces, also cut where overlap begins and ends, and which of
    them are overlap: both stems have speech of their own for ``OVERLAP`` frames or more, shorter pauses of it
    counted in, with the silence around it."""
    both = active.all(0).astype(np.int8)
    edges = np.diff(both, prepend=0, append=0)
    runs = np.stack((np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)), 1)
    joined: list[list[int]] = []
    for start, end in runs.tolist():
        if joined and start - joined[-1][1] < OVERLAP:
            joined[-1][1] = end
        else:
            joined.append([start, end])
    found = np.array([run for run in joined if run[1] - run[0] >= OVERLAP], np.int64).reshape(-1, 2)
    places = np.unique(np.concatenate((cut.ravel(), found.ravel())))
    parts = np.stack((places[:-1], places[1:]), 1)
    inside = np.zeros(len(parts), np.bool_)
    for start, end in found.tolist():
        inside |= (parts[:, 0] >= start) & (parts[:, 1] <= end)
    silent = np.array([not active[:, start:end].any() for start, end in parts.tolist()], np.bool_)
    beside = np.pad(inside, 1)[2:] | np.pad(inside, 1)[:-2]
    return parts, inside | (silent & beside)  # so that sides change in the silence, not where it begins


def one_leaks(power: Array, cut: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Mean powers of frames [2, frames] and pieces -> in which of them both stems hold one voice: they rise
    and fall together, where two people would not."""
    db, floor = _levels(power, BELOW_LOUD_DB)
    differ, heard, found = db[0] - db[1], db.max(0) > floor, []
    for start, end in cut.tolist():
        apart = differ[start:end][heard[start:end]]
        found.append(len(apart) >= OVERLAP and float(apart.std()) < TOGETHER_DB)
    return np.array(found, np.bool_)


@dataclass(frozen=True)
class Voices:
    """``centroids`` [2, dim] of length 1, and ``likeness``, their cosine; ``evidence`` [pieces]: how many
    seconds of speech, each as the voices are on average, speak for the stems as they are (above 0) or the
    other way round."""

    centroids: Array
    evidence: Array
    likeness: float

    @property
    def one(self) -> bool:
        """Whether it seems to be a single voice."""
        return self.likeness > ALIKE


def two_voices(embeddings: Array, seconds: Array) -> Voices | None:
    """Embeddings of every piece's stems [pieces, 2, dim], each of length 1, and the seconds of speech that
    they are of [pieces, 2] (0: none, its embedding is not looked at) -> the two voices. None: too little is
    said to tell.

    2-means on the sphere, where a piece is given as a whole: its stems are voices 0 and 1, or 1 and 0. Starts
    from the axis along which the embeddings differ most.
    """
    weight = np.where(seconds >= SHORTEST, seconds, 0.0)
    if (weight > 0).sum() < 2:
        return None
    x = np.where(weight[..., None] > 0, embeddings, 0.0)
    centred = np.where(weight[..., None] > 0, x - _mean(x, weight), 0.0).reshape(-1, x.shape[-1])
    axis = np.linalg.eigh((weight.reshape(-1, 1) * centred).T @ centred)[1][:, -1]
    along = (centred @ axis).reshape(weight.shape)
    side = _side((weight * along)[:, 0] - (weight * along)[:, 1])
    centroids = np.zeros((2, x.shape[-1]))
    for _ in range(ROUNDS):
        mine = np.stack((side > 0, side < 0), 1)
        for voice in range(2):
            share = weight * np.stack((mine[:, voice], mine[:, 1 - voice]), 1)
            if share.any():
                centroids[voice] = _unit((share[..., None] * x).sum((0, 1)))
        found = _evidence(x, weight, centroids, side)
        if np.array_equal(_side(found), side):
            break
        side = _side(found)
    if found[weight.any(1)].sum() < 0 or _seconds_moved(found, weight) > weight.sum() / 2:
        centroids, found = centroids[::-1].copy(), -found
    return Voices(centroids, found, float(centroids[0] @ centroids[1]))


def exchanged(evidence: Array, stay: float = STAY) -> npt.NDArray[np.bool_]:
    """Which pieces to exchange: the most evidence, where every change of sides costs ``stay``."""
    back = np.zeros((len(evidence), 2), np.bool_)
    score = np.zeros(2)  # of the best path that ends as it is, or exchanged
    for i, value in enumerate(evidence):
        change = score[::-1] - stay > score
        back[i] = change
        score = np.where(change, score[::-1] - stay, score) + np.array((value, 0.0))
    swap = np.zeros(len(evidence), np.bool_)
    state = int(score[1] > score[0])
    for i in range(len(evidence) - 1, -1, -1):
        swap[i] = state == 1
        state = 1 - state if back[i, state] else state
    return swap


def spans(cut: npt.NDArray[np.int64], swap: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The frames to exchange, from and to, neighbours joined."""
    out: list[tuple[int, int]] = []
    for (start, end), wrong in zip(cut.tolist(), swap.tolist(), strict=True):
        if wrong and out and out[-1][1] == start:
            out[-1] = (out[-1][0], end)
        elif wrong:
            out.append((start, end))
    return out


def speech_seconds(clear: npt.NDArray[np.bool_], cut: npt.NDArray[np.int64]) -> Array:
    """Seconds of each stem in each piece, [pieces, 2], of frames [2, frames]."""
    total = np.concatenate((np.zeros((2, 1), np.int64), clear.cumsum(1)), 1)
    return FRAME_SECONDS * (total[:, cut[:, 1]] - total[:, cut[:, 0]]).T


def _evidence(x: Array, weight: Array, centroids: Array, side: Array) -> Array:
    """Of the pieces, from where their stretches lie between the voices' means along the line of both."""
    along = x @ (centroids[0] - centroids[1])
    mine = np.stack((side > 0, side < 0), 1)
    means = [np.average(along, weights=weight * m) if (weight * m).any() else 0.0 for m in (mine, ~mine)]
    half = max(abs(means[0] - means[1]) / 2, 1e-6)
    scaled = weight * ((along - (means[0] + means[1]) / 2) / half)
    return np.asarray(scaled[:, 0] - scaled[:, 1])


def _side(value: Array) -> Array:
    return np.where(value >= 0, 1.0, -1.0)


def _seconds_moved(evidence: Array, weight: Array) -> float:
    return float(weight.sum(1)[evidence < 0].sum())


def _mean(x: Array, weight: Array) -> Array:
    return np.asarray((weight[..., None] * x).sum((0, 1)) / weight.sum())


def _unit(x: Array) -> Array:
    return x / max(float(np.linalg.norm(x)), 1e-12)
