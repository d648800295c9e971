"""Who says which word, of people who take turns: a recording's words in, the same with speakers out.

    words -> windows of 1.5 s, where words are -> (a pass over the sound) an embedding of each
      -> voices (``longform.clustering``) -> of each word how well each voice fits its middle
      -> the speakers of all words at once, who change rather in a pause: S1, S2, ... by their first words

The recording was transcribed as one voice before; here its sound passes by once more. Memory: the words, and
one embedding a window (512 bytes, 0.75 s of speech: 2.5 MB an hour), and while voices are found some 5 MB an
hour more and 75 MB for the pairs that are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slyther_cli.audio.highpass import HighPass
from slyther_cli.decode.words import Word
from slyther_cli.jobs.estimate import cost
from slyther_cli.longform.clustering import find_voices, follow
from slyther_cli.separation.speakers import DEFAULT_MODEL, embedder

Array = npt.NDArray[np.floating[Any]]
Blocks = Callable[[], Iterable[np.ndarray]]

WINDOW, HOP = 1.5, 0.75  # seconds
SHORTEST = 0.6  # seconds of a window; a shorter stretch is heard with the sound around it
PAUSE = 0.4  # seconds between two words that part stretches of speech
CHANGE, CHANGE_IN_PAUSE = 0.6, 0.15  # seconds of speech, times cosine, that it takes to change speakers
WORK_SHARE = 0.15  # of the progress, beside recognition


class Windows(NamedTuple):
    """In order of time: ``spans`` in samples [n, 2], the end exclusive; ``stretch`` [n], the number of the
    stretch of speech that a window is of; ``bounds`` [stretches, 2], the samples of each stretch."""

    spans: npt.NDArray[np.int64]
    stretch: npt.NDArray[np.int64]
    bounds: npt.NDArray[np.int64]

    def seconds(self, rate: int) -> Array:
        """Of speech that each window stands for [n]: its share of its stretch."""
        length = (self.bounds[:, 1] - self.bounds[:, 0]) / rate
        return length[self.stretch] / np.bincount(self.stretch)[self.stretch]


class Diarizer:
    """``count`` speakers, or None: as many as are heard. Words and blocks are at ``rate``.

    Raises :class:`ModelError`: the speaker network is not on this machine.
    """

    def __init__(self, rate: int, count: int | None, device: str = "cpu") -> None:
        self.rate, self.count = rate, count
        self.embed = embedder(rate, device)

    def describe(self) -> str:
        """A line for ``-v``."""
        many = "as many as are heard" if self.count is None else str(self.count)
        return f"speakers ({many}) by their voices, {DEFAULT_MODEL}, in a second pass over the speech"

    def cost(self) -> float:
        """Seconds of work for a second of speech, as measured here."""

        def work(x: np.ndarray) -> None:
            everything = Word("", 0, len(x), 1.0)
            embedded(windows([everything], self.rate), [x], self.rate, self.embed)

        return cost(work, self.rate)

    def __call__(
        self, words: Sequence[Word], blocks: Blocks, on_progress: Callable[[float], None] | None = None
    ) -> list[Word]:
        """The words, in order of time, with their speakers. ``blocks()``: the recording, float32 [n] each."""
        if not words:
            return []
        found = windows(words, self.rate)
        heard = embedded(found, blocks(), self.rate, self.embed, on_progress)
        return attributed(words, found, heard, self.rate, self.count)

    def note(self, words: Sequence[Word]) -> str | None:
        """A sentence for the user on how many speakers there are in what ``__call__`` gave."""
        there = len({word.speaker for word in words})
        if not there or there == self.count:
            return None
        found = f"{there} speaker{'s were' if there > 1 else ' was'} told apart by voice"
        return found if self.count is None else f"{found}, not {self.count}: the words of no other are left"


def windows(words: Sequence[Word], rate: int) -> Windows:
    """Windows over the stretches of speech that the words make, one or more, evenly spaced in each."""
    bounds: list[list[int]] = []
    for word in words:
        if bounds and word.start - bounds[-1][1] < PAUSE * rate:
            bounds[-1][1] = max(bounds[-1][1], word.end)
        else:
            bounds.append([word.start, word.end])
    spans, stretch = [], []
    width, shortest = round(WINDOW * rate), round(SHORTEST * rate)
    for number, (start, end) in enumerate(bounds):
        size = min(max(end - start, shortest), width)
        count = 1 + max(0, -(-(end - start - width) // round(HOP * rate)))
        first = max(0, min(start, (start + end - size) // 2))
        last = max(first, end - size) if count > 1 else first
        for at in np.linspace(first, last, count).round().astype(np.int64).tolist():
            spans.append((at, at + size))
            stretch.append(number)
    return Windows(np.array(spans), np.array(stretch), np.array(bounds))


def embedded(
    found: Windows,
    blocks: Iterable[np.ndarray],
    rate: int,
    embed: Callable[[np.ndarray], np.ndarray],
    on_progress: Callable[[float], None] | None = None,
) -> Array:
    """Embeddings of the windows [n, dim], float32, of sound that passes by in blocks; what lies beyond its
    end is silent. ``on_progress`` is called with the share that is done."""
    rows: list[np.ndarray] = []
    held, at = np.zeros(0, np.float32), 0  # samples from there on
    spans = found.spans.tolist()
    for block in _clean(blocks, rate, spans[-1][1]):
        held = np.concatenate((held, block))
        while len(rows) < len(spans) and spans[len(rows)][1] <= at + len(held):
            start, end = spans[len(rows)]
            rows.append(embed(held[start - at : end - at]).astype(np.float32))
        if on_progress:
            on_progress(len(rows) / len(spans))
        if len(rows) == len(spans):
            break
        passed = min(max(spans[len(rows)][0] - at, 0), len(held))
        held, at = held[passed:], at + passed
    return np.stack(rows)


def _clean(blocks: Iterable[np.ndarray], rate: int, samples: int) -> Iterator[np.ndarray]:
    """The blocks without what lies below speech, and silence up to so many samples at least."""
    clean, total = HighPass(rate), 0
    for block in blocks:
        ready = clean.push(block).astype(np.float32)
        total += len(ready)
        yield ready
    rest = clean.flush().astype(np.float32)
    yield np.pad(rest, (0, max(0, samples - total - len(rest))))


def attributed(
    words: Sequence[Word], found: Windows, heard: Array, rate: int, count: int | None
) -> list[Word]:
    """The words with their speakers, of the windows' embeddings [n, dim]."""
    centroids = find_voices(heard, found.seconds(rate), found.stretch, count)
    scores = _at_words(words, found, heard @ centroids.T)
    spoken = np.array([max(word.end - word.start, 1) / rate for word in words])
    gaps = np.array([0, *(b.start - a.end for a, b in pairwise(words))]) / rate
    paused = np.clip(gaps / PAUSE, 0.0, 1.0)
    labels = follow(spoken[:, None] * scores, CHANGE + (CHANGE_IN_PAUSE - CHANGE) * paused)
    names: dict[int, str] = {}
    return [
        word._replace(speaker=names.setdefault(label, f"S{len(names) + 1}"))
        for word, label in zip(words, labels.tolist(), strict=True)
    ]


def _at_words(words: Sequence[Word], found: Windows, scores: Array) -> Array:
    """Scores of windows [n, k] -> of words [words, k]: between the middles of two windows of a stretch in
    proportion, before the first and after the last as theirs."""
    middles = found.spans.mean(1)
    first = np.flatnonzero(np.diff(found.stretch, prepend=-1))
    last = np.append(first[1:], len(scores)) - 1
    where = np.concatenate((found.bounds[:, 0], middles, found.bounds[:, 1]))
    of = np.concatenate((first, np.arange(len(scores)), last))
    order = np.lexsort((np.repeat((0, 1, 2), (len(first), len(scores), len(last))), of, where))
    at = np.array([(word.start + word.end) / 2 for word in words])
    return np.stack([np.interp(at, where[order], column[of[order]]) for column in scores.T], 1)
