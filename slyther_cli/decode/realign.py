"""The exact times of a beam's tokens: aligned again, stretch by stretch, as they come.

A beam search knows only about when a token was said. Between two pauses, all tokens of a stretch are aligned
by Viterbi (``align``) to the log-probabilities that were kept since. Where stretches begin and end follows
from the tokens alone, so the result does not depend on how the frames are split into feeds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from slyther_cli.decode.align import align
from slyther_cli.decode.ctc import LogProbs
from slyther_cli.decode.words import Token
from slyther_cli.errors import InputError

GAP = 12  # frames between two tokens that part stretches
MARGIN = 25  # frames that a token may move, and that a stretch reaches beyond its tokens
LONGEST = 1500  # frames; then a stretch is parted at its widest gap


class Realigner:
    """``push_log_probs`` and ``push`` the tokens that are final; get them back with their exact frames.

    ``score`` is then the mean log-probability of the token on its frames. ``delay``: how many frames ago a
    token may start that is still to come; frames before that are forgotten.
    """

    def __init__(self, delay: int) -> None:
        self.delay = delay
        self._pieces: list[LogProbs] = []
        self._base = self._pushed = self._from = 0  # frames: first kept, all, where the stretch may begin
        self._open: list[Token] = []

    def push_log_probs(self, log_probs: LogProbs) -> None:
        """log_probs [n, vocab], before the tokens that end in them."""
        needed = self._open[0].start if self._open else max(self._from, self._pushed - self.delay)
        while self._pieces and self._base + len(self._pieces[0]) <= needed - MARGIN:
            self._base += len(self._pieces.pop(0))
        self._pieces.append(log_probs)
        self._pushed += len(log_probs)

    def push(self, tokens: Iterable[Token]) -> list[Token]:
        """The tokens of the stretches that these complete."""
        done: list[Token] = []
        for token in tokens:
            if self._open:
                done += self.advance(token.start)
            if self._open:
                if token.start - self._open[-1].end >= GAP:
                    done += self._cut(len(self._open), (token.start + self._open[-1].end) // 2)
                elif token.end - self._open[0].start > LONGEST:
                    gaps = [b.start - a.end for a, b in zip(self._open, self._open[1:], strict=False)]
                    widest = int(np.argmax(gaps)) + 1 if gaps else 1
                    left, right = (*self._open, token)[widest - 1 : widest + 1]
                    done += self._cut(widest, (left.end + right.start) // 2)
            self._open.append(token)
        return done

    def advance(self, frame: int) -> list[Token]:
        """The open stretch, if it is over because no token starts before ``frame``."""
        if not self._open or frame - self._open[-1].end < 2 * MARGIN:
            return []
        return self._cut(len(self._open), self._open[-1].end + MARGIN)

    @property
    def waiting(self) -> list[Token]:
        """The tokens of the open stretch, with the decoder's times."""
        return list(self._open)

    def flush(self) -> list[Token]:
        """The last stretch."""
        return self._cut(len(self._open), self._pushed) if self._open else []

    def _cut(self, count: int, border: int) -> list[Token]:
        tokens, self._open = self._open[:count], self._open[count:]
        start = max(self._from, tokens[0].start - MARGIN, self._base)
        end = min(border, tokens[-1].end + MARGIN)
        self._from = border
        kept = np.concatenate(self._pieces)[start - self._base : end - self._base]
        size = kept.shape[1]  # an id beyond it tells more than the unit (text.lexicon_beam)
        ids = [token.id % size for token in tokens]
        near = np.maximum.accumulate([token.start - start for token in tokens])
        try:
            found = align(kept, ids, first_frame=start, near=near, slack=MARGIN)
        except InputError:  # crowded at a border: the decoder's own times are as near as can be known
            return tokens
        return [now._replace(id=token.id) for now, token in zip(found, tokens, strict=True)]
