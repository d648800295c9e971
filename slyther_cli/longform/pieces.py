"""Pieces of two stems, in which nobody changes sides: cut at silences, at overlap, and where the louder stem
changes. Powers of frames in; nothing here knows a network or a file.

Two stems can hold one voice: what a separator does not take apart lies in both, weaker in one. Then their
samples go together, where those of two people do not: ``alike``.

Memory: some 3 MB an hour for the powers of frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int64]

FRAME_SECONDS = 0.02
BELOW_LOUD_DB = 35.0  # what is that far below a recording's loud frames is silent
BELOW_OTHER_DB = 18.0  # and what is that far below the other stem is its leakage
CLEAR_DB, BESIDE_DB = 25.0, 6.0  # a voice is listened to that far below the loud, and below the other stem
BACKGROUND_DB, STEADY_DB, STEADY = 15.0, 6.0, 30  # noise: so far below the loud, and steady for so long
NOTHING_DB = -100.0  # of full scale; below is silence in any recording
LEAST = 1e-12  # power of a frame
LOUD = 0.95  # quantile
SELDOM, SELDOM_FRAMES = 0.005, 100  # of the frames, and at least: louder ones may be bangs, not speech
GAP = 4  # silent frames that part two pieces
OVERLAP = 10  # frames in which both speak that are overlap; shorter ones are a seam
LONGEST = 2.5  # seconds of a piece; a longer one is parted where it is quietest, a word's end mostly
EDGE = 0.6  # seconds that are left on both sides of such a place
SHORT, SHORT_EDGE = 1.2, 0.4  # the same of the pieces that are judged one by one
ALIKE, WINDOW = 0.8, 9  # correlation of two stems that hold one sound, over so many frames
SIDE_DB, SIDE = 6.0, 8  # a stem has the turn where it is that much louder for so many frames
SMOOTH = 5  # frames over which that is averaged


@dataclass(frozen=True)
class Powers:
    """Of every frame the mean square of each stem, ``power`` [2, frames], and the mean ``product`` [frames]
    of both stems' samples."""

    power: Array
    product: Array

    @property
    def db(self) -> Array:
        """[2, frames]."""
        return 10 * np.log10(np.maximum(self.power, LEAST))

    def floor(self, below_loud: float) -> float:
        """The level in dB that is so far below the loud frames."""
        return silence_below(self.db.max(0), below_loud)

    def heard(self, below_loud: float = BELOW_LOUD_DB) -> Bools:
        """The frames [frames] in which there is sound."""
        return np.asarray(self.db.max(0) > self.floor(below_loud))

    def clear(self) -> Bools:
        """Which stem has clear speech in which frame, and the other not clearly more [2, frames]."""
        db = self.db
        return np.asarray((db > self.floor(CLEAR_DB)) & (db > db[::-1] - BESIDE_DB))

    def alike(self) -> Bools:
        """The frames [frames] around which both stems hold one sound."""
        power = np.stack([_around(x, WINDOW) for x in self.power])
        return np.asarray(_around(self.product, WINDOW) > ALIKE * np.sqrt(power.prod(0)))

    def activity(self) -> Bools:
        """Which stem has speech of its own in which frame [2, frames]."""
        db = self.db
        own = (db > self.floor(BELOW_LOUD_DB)) & (db > db[::-1] - BELOW_OTHER_DB)
        return np.asarray(own & ~((db < db[::-1]) & self.alike()))

    def background(self, cut: Places) -> Bools:
        """The pieces in which there is only noise [pieces]: well below the loud frames, and speech varies
        more."""
        db, low = self.db.max(0), self.floor(BACKGROUND_DB)
        out = np.zeros(len(cut), np.bool_)
        for i, (start, end) in enumerate(cut.tolist()):
            if end - start >= STEADY:
                quiet, middle, loud = np.quantile(db[start:end], (0.1, 0.5, 0.9))
                out[i] = middle < low and loud - quiet < STEADY_DB
        return out

    def correlation(self, cut: Places) -> Array:
        """Of the stems in each piece [pieces], from -1 to 1; 0 in silence."""
        power, product = _sums(self.power, cut), _sums(self.product[np.newaxis], cut)[:, 0]
        return np.asarray(product / np.maximum(np.sqrt(power.prod(1)), LEAST))

    def leaks(self, cut: Places, below: float) -> Bools:
        """The pieces in which the weaker stem is less than that many dB below the louder one [pieces]."""
        power = _sums(self.power, cut)
        return np.asarray(power.min(1) > power.max(1) * 10 ** (-below / 10))

    def louder(self, cut: Places) -> Places:
        """Which stem is the louder one in each piece [pieces]."""
        return np.asarray(_sums(self.power, cut).argmax(1))


def loud_level(db: Array) -> float:
    """Levels of frames [frames] -> that of the loud ones. Where somebody speaks in less than a tenth of the
    time, it is the median of what is within ``BELOW_LOUD_DB`` of the loudest, not the level of the noise."""
    seldom = max(SELDOM_FRAMES, round(SELDOM * len(db)))
    loud = float(np.quantile(db, LOUD)) if len(db) else 0.0
    if len(db) <= seldom:
        return loud
    near = db[db > np.partition(db, -seldom)[-seldom] - BELOW_LOUD_DB]
    return max(loud, float(np.median(near))) if len(near) else loud


def silence_below(db: Array, below_loud: float = BELOW_LOUD_DB) -> float:
    """Levels of frames [frames] -> the level that is so far below the loud ones."""
    return max(loud_level(db) - below_loud, NOTHING_DB)


def short_pieces(powers: Powers, cut: Places, whole: Bools) -> tuple[Places, Places]:
    """Pieces -> the same, all but the ``whole`` ones cut into short ones, and the number of the piece that
    each is of."""
    parts = parted(cut, powers.power, SHORT, SHORT_EDGE, whole)
    return parts, np.searchsorted(cut[:, 0], parts[:, 0], "right") - 1


def pieces(powers: Powers) -> tuple[Places, Bools]:
    """The first frame of each piece and the last plus one, [pieces, 2], and which of them are overlap. They
    cover everything."""
    active = powers.activity()
    cut, overlap = parted_at_overlap(active, parted_at_silence(active, powers.power))
    places = np.union1d(cut.ravel(), side_changes(powers))
    parts = np.stack((places[:-1], places[1:]), 1)
    return parts, overlap[np.searchsorted(cut[:, 0], parts[:, 0], "right") - 1]


def parted_at_silence(active: Bools, power: Array | None = None) -> Places:
    """Activity [2, frames] -> pieces: where both stems are silent for ``GAP`` frames one ends, in the middle
    of that silence. ``power`` [2, frames]: to part those that are longer than ``LONGEST``, where they are
    quietest."""
    frames = active.shape[1]
    (speech,) = np.nonzero(active.any(0))
    if not len(speech):
        return np.array([[0, frames]]) if frames else np.zeros((0, 2), np.int64)
    jumps = np.flatnonzero(np.diff(speech) > GAP)
    cuts = (speech[jumps] + speech[jumps + 1] + 1) // 2
    edges = np.concatenate(([0], cuts, [frames]))
    cut = np.stack((edges[:-1], edges[1:]), 1)
    return cut if power is None else parted(cut, power, LONGEST, EDGE)


def parted(cut: Places, power: Array, longest: float, edge: float, whole: Bools | None = None) -> Places:
    """Pieces -> the same, where those longer than ``longest`` seconds are parted where it is quietest, but
    ``edge`` from their ends. ``whole`` [pieces]: not these."""
    level = np.convolve(power.max(0), np.ones(3), "same") if len(cut) else power.max(0)
    most, least = round(longest / FRAME_SECONDS), round(edge / FRAME_SECONDS)
    todo = cut.tolist() if whole is None else cut[~whole].tolist()
    cuts = []
    while todo:
        start, end = todo.pop()
        if end - start > most:
            cuts.append(start + least + int(np.argmin(level[start + least : end - least])))
            todo += [(start, cuts[-1]), (cuts[-1], end)]
    places = np.union1d(cut.ravel(), np.array(cuts, np.int64))
    return np.stack((places[:-1], places[1:]), 1)


def parted_at_overlap(active: Bools, cut: Places) -> tuple[Places, Bools]:
    """Activity [2, frames] and pieces -> the pieces, also cut where overlap begins and ends, and which of
    them are overlap: both stems have speech of their own for ``OVERLAP`` frames or more, shorter pauses of it
    counted in, with the silence around it."""
    if not len(cut):
        return cut, np.zeros(0, np.bool_)
    joined: list[list[int]] = []
    for start, end in runs(active[0] & active[1]):
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


def side_changes(powers: Powers) -> Places:
    """The frames [changes] at which the turn goes from one stem to the other: where, between two stretches in
    which one and then the other is clearly louder, they are most alike in level."""
    level = [10 * np.log10(_around(x, SMOOTH) + LEAST) for x in powers.power]
    differ, heard = level[0] - level[1], powers.heard()
    turns = [
        (start, end, stem)
        for stem, clear in enumerate((differ > SIDE_DB, differ < -SIDE_DB))
        for start, end in runs(heard & clear)
        if end - start >= SIDE
    ]
    turns.sort()
    changes = []
    for (_, end, before), (start, _, after) in pairwise(turns):
        if before != after:
            between = slice(end - 1, start + 1)
            changes.append(between.start + int(np.argmin(np.abs(differ[between]))))
    return np.array(changes, np.int64)


def pauses(heard: Bools, cut: Places) -> Array:
    """Seconds of silence between what is heard in a piece and in the one before it [pieces]; infinite where
    one of both has nothing."""
    places = [np.flatnonzero(heard[start:end]) + start for start, end in cut.tolist()]
    out = np.full(len(cut), np.inf)
    for i in range(1, len(cut)):
        if len(places[i - 1]) and len(places[i]):
            out[i] = FRAME_SECONDS * (places[i][0] - places[i - 1][-1] - 1)
    return out


def _around(x: Array, frames: int) -> Array:
    """The sum [time] over so many frames around each."""
    kernel = np.ones(frames)
    return np.asarray(np.convolve(x, kernel, "full")[frames // 2 : frames // 2 + len(x)] if len(x) else x)


def runs(inside: Bools) -> list[tuple[int, int]]:
    """The stretches that are True in ``inside`` [count], from and to."""
    edges = np.diff(inside.astype(np.int8), prepend=0, append=0)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _sums(values: Array, cut: Places) -> Array:
    """Values [k, frames] -> their sums over the pieces [pieces, k]."""
    total = np.concatenate((np.zeros((len(values), 1)), values.cumsum(1, dtype=np.float64)), 1)
    return np.asarray((total[:, cut[:, 1]] - total[:, cut[:, 0]]).T)
