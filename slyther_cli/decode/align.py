"""When was each token said: CTC forced alignment by Viterbi, in bounded memory.

The states of a transcript of n tokens are n + 1 blanks and n tokens, b0 t0 b1 t1 ... bn. A path stays, goes
one state on, or skips a blank between two different tokens; the best path through all frames gives
every token its frames. Rows are computed with numpy over all states that can still matter.

Memory: the rows of all frames, 16 bytes a frame and token, while that fits ``memory``. Otherwise only every
sqrt(frames)-th row is kept, and the rows between two kept ones are computed again on the way back:
twice the time, about 48 * sqrt(frames) bytes a token.

Time is frames * tokens, too much for an hour of speech at once. ``near`` and ``slack`` cut the states of
a frame down to the tokens that a decoder heard around it: frames * (tokens in 2 * slack frames).

Source: Graves et al. 2006; the same result as torchaudio.functional.forced_align.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.decode.tokens import BLANK
from slyther_cli.decode.words import Token
from slyther_cli.errors import InputError

NEVER = -math.inf
GATHER = 2**18  # log-probabilities gathered at a time

IntArray = npt.NDArray[np.integer[Any]]
FloatArray = npt.NDArray[np.float64]


def align(
    log_probs: npt.NDArray[np.floating[Any]],
    tokens: Sequence[int] | IntArray,
    *,
    first_frame: int = 0,
    near: Sequence[int] | IntArray | None = None,
    slack: int = 250,
    memory: int = 64 * 2**20,
) -> list[Token]:
    """The best alignment of ``tokens`` (ids, no blanks) to ``log_probs`` [frames, vocab].

    ``log_probs``    natural logarithms; read in slices, a memory-mapped array will do.
    ``first_frame``  added to all frames of the result, for a piece of a longer recording.
    ``near``         about where each token begins, frames within this piece, never falling: the path
                     may use a token only within ``slack`` frames of it. None: anywhere.
    ``memory``       bytes for all rows at once, see above; does not change the result.

    Gives one Token each, in order: ``start`` and ``end`` (exclusive) are the frames on which the path is
    in that token, ``score`` the mean log-probability of the token on them.
    Raises InputError if the tokens do not fit: more of them than frames (a repeated token needs a
    blank before it), or no possible path. ValueError for arrays that do not belong together.

    >>> log_probs = np.log([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8]])
    >>> [(token.id, token.start, token.end) for token in align(log_probs, [1, 2])]
    [(1, 0, 2), (2, 3, 4)]
    """
    tokens = np.asarray(tokens, np.int64)
    if log_probs.ndim != 2 or tokens.ndim != 1:
        raise ValueError("expected log-probabilities [frames, vocab] and a list of tokens")
    frames, count = len(log_probs), len(tokens)
    if not count:
        return []
    if tokens.min() <= BLANK or tokens.max() >= log_probs.shape[1]:
        raise ValueError("tokens must be ids of the vocabulary without the blank")
    needed = count + int((tokens[1:] == tokens[:-1]).sum())
    if frames < needed:
        raise InputError(f"the transcript needs {needed} frames, the recording has {frames}")
    search = _Search(log_probs, tokens, *_window(frames, count, near, slack))
    path = search.path(memory)
    said = np.flatnonzero(path >= 0)
    owner = path[said]
    lengths = np.bincount(owner, minlength=count)
    totals = np.zeros(count)
    for low in range(0, len(said), GATHER):
        rows, who = said[low : low + GATHER], owner[low : low + GATHER]
        values = _rows(log_probs, int(rows[0]), int(rows[-1]) + 1, rows - rows[0], tokens[who])
        totals += np.bincount(who, values, minlength=count)
    starts = said[np.searchsorted(owner, np.arange(count))] + first_frame
    scores = totals / lengths
    return [
        Token(*row)
        for row in zip(
            tokens.tolist(), starts.tolist(), (starts + lengths).tolist(), scores.tolist(), strict=True
        )
    ]


def fit(log_probs: npt.NDArray[np.floating[Any]], tokens: Sequence[int] | IntArray) -> float:
    """How well ``tokens`` fit ``log_probs`` [frames, vocab]: the log-probability of their best alignment less
    that of the likeliest path of all, a token. 0 is perfect; -inf: they do not fit, or there are none."""
    try:
        found = align(log_probs, tokens)
    except InputError:
        return NEVER
    if not found:
        return NEVER
    best = log_probs.max(1, initial=NEVER).astype(np.float64)
    path = log_probs[:, BLANK].astype(np.float64)
    for token in found:
        path[token.start : token.end] = token.score
    return float((path - best).sum() / len(found))


def _rows(log_probs: Any, low: int, high: int, rows: IntArray, columns: IntArray) -> FloatArray:
    return np.asarray(log_probs[low:high])[rows, columns].astype(np.float64)


def _window(
    frames: int, count: int, near: Sequence[int] | IntArray | None, slack: int
) -> tuple[IntArray, IntArray]:
    """The tokens that a path may be in at each frame: from ``low`` to ``high`` [frames], high exclusive."""
    time = np.arange(frames)
    low = np.maximum(count - (frames - time), 0)
    high = np.minimum(time + 1, count)
    if near is not None:
        places = np.asarray(near, np.int64)
        if places.shape != (count,) or (np.diff(places) < 0).any() or slack < 0:
            raise ValueError("near must give every token a frame, never falling; slack must not be negative")
        low = np.maximum(low, np.searchsorted(places, time - slack))
        high = np.minimum(high, np.searchsorted(places, time + slack, side="right"))
    return np.minimum(low, count), np.maximum(low, high)


class _Search:
    """One Viterbi search. ``low``, ``high`` [frames]: the tokens allowed, both never falling.

    Blank i is state 2 * i, token i is 2 * i + 1. A row holds the best log-probability of every state of a
    block's window, two impossible ones before it, so that all predecessors are slices.
    """

    def __init__(self, log_probs: Any, tokens: IntArray, low: IntArray, high: IntArray) -> None:
        self.log_probs, self.low, self.high, self.frames = log_probs, 2 * low, 2 * high, len(log_probs)
        self.tokens = np.full(2 * len(tokens) + 1, BLANK)
        self.tokens[1::2] = tokens
        self.skip = np.full(len(self.tokens), NEVER)  # what skipping the blank before a state costs
        self.skip[3::2][tokens[1:] != tokens[:-1]] = 0.0

    def path(self, memory: int) -> IntArray:
        """The token of every frame, or -1 for blank: int32 [frames]."""
        borders = [*range(0, self.frames, max(math.isqrt(self.frames), 64)), self.frames]
        blocks = list(itertools.pairwise(borders))
        widths = [self._window(*block)[1] - self._window(*block)[0] for block in blocks]
        size = 8 * sum((end - begin) * width for (begin, end), width in zip(blocks, widths, strict=True))
        before: tuple[int, FloatArray] = (0, np.zeros(1))  # before any frame: in the first blank
        kept: list[tuple[int, FloatArray]] = []
        for block in blocks:
            rows = self._rows(before, *block)
            kept.append((before[0], rows if size <= memory else before[1]))
            before = (self._window(*block)[0], rows[-1, 2:].copy())
        end = len(self.tokens) - 1
        low, row = before
        ends = [(row[state - low], state) for state in (end - 1, end) if low <= state < low + len(row)]
        best, state = max(ends, default=(NEVER, 0))
        if best == NEVER:
            raise InputError("the transcript does not fit the recording: no possible alignment")
        result = np.full(self.frames, -1, np.int32)
        for block in reversed(blocks):
            first, rows = kept.pop()
            if size > memory:
                rows = self._rows((first, rows), *block)
            state = self._trace(rows, block, state, result)
        return result

    def _window(self, begin: int, end: int) -> tuple[int, int]:
        """The states of a block of frames: first, and last plus one."""
        return int(self.low[begin]), int(self.high[end - 1]) + 1

    def _rows(self, before: tuple[int, FloatArray], begin: int, end: int) -> FloatArray:
        """All rows of a block, that before it first: [end - begin + 1, 2 + states].

        ``before``: its first state and its values. Those below the block's window can only be left
        by a step into it, which the two places before the window are for.
        """
        low, high = self._window(begin, end)
        states = np.arange(low, high)
        rows = np.full((end - begin + 1, 2 + high - low), NEVER)
        first, values = before
        cut = max(low - 2 - first, 0)
        rows[0, first + cut - low + 2 :][: len(values) - cut] = values[cut:]
        skip = self.skip[low:high]
        scratch = np.empty(high - low)
        chunk = max(GATHER // len(states), 1)
        for top in range(begin, end, chunk):
            stop = min(top + chunk, end)
            said = np.asarray(self.log_probs[top:stop])[:, self.tokens[low:high]].astype(np.float64)
            said[(states < self.low[top:stop, None]) | (states > self.high[top:stop, None])] = NEVER
            part = rows[top - begin : stop - begin + 1]
            for stay, step, leap, new, add in zip(
                part[:-1, 2:], part[:-1, 1:-1], part[:-1, :-2], part[1:, 2:], said, strict=True
            ):
                np.maximum(stay, step, out=new)
                np.add(leap, skip, out=scratch)
                np.maximum(new, scratch, out=new)
                np.add(new, add, out=new)
        return rows

    def _trace(self, rows: FloatArray, block: tuple[int, int], state: int, result: IntArray) -> int:
        """Follow the best path back from the state at frame end - 1 to that at frame begin - 1."""
        begin, end = block
        low = self._window(begin, end)[0] - 2
        item, skip = rows.item, self.skip.item
        for t in range(end - 1, begin - 1, -1):
            if state & 1:
                result[t] = state >> 1
            row, at = t - begin, state - low
            stay, step = item(row, at), item(row, at - 1)
            if state & 1 and item(row, at - 2) + skip(state) > max(stay, step):
                state -= 2
            elif step > stay:
                state -= 1
        return state
