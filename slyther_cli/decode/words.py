"""Tokens with frames in, words with samples out, in a stream."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from slyther_cli.decode.tokens import Tokenizer


class Token(NamedTuple):
    """One token of a transcript. ``start``, ``end``: frames, the end exclusive, counted from the start
    of the recording. ``score``: natural log-probability, 0 at best."""

    id: int
    start: int
    end: int
    score: float


class Word(NamedTuple):
    """One word. ``start``, ``end``: samples, the end exclusive, counted from the start of the recording.
    ``probability``: mean over its tokens, in [0, 1], as whisper has it. ``tokens``: their ids."""

    text: str
    start: int
    end: int
    probability: float
    tokens: tuple[int, ...] = ()
    speaker: str | None = None


class WordStream:
    """Joins tokens into words as they come; a word is done when the next begins, or at ``flush``.

    ``hop`` samples a frame, ``offset`` the sample where frame 0 begins. A word begins at ``start * hop +
    offset`` of its first token that shows a character and ends with its last one: times are counted
    from the start of the recording, never added up from lengths, so they cannot drift. ``pause``: so many
    frames between two tokens end a word, too. ``lead``: samples that a word begins before its first letter
    is heard, though not before the word before it ends.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        hop: int,
        *,
        offset: int = 0,
        pause: int | None = None,
        lead: int = 0,
        speaker: str | None = None,
    ) -> None:
        if hop < 1 or lead < 0:
            raise ValueError(f"hop must be at least one sample, lead none or more, not {hop} and {lead}")
        self.tokenizer, self.hop, self.offset, self.speaker = tokenizer, int(hop), int(offset), speaker
        self.pause = math.inf if pause is None else pause
        self.lead, self._ended = int(lead), 0
        self._open: list[Token] = []

    def push(self, tokens: Iterable[Token]) -> list[Word]:
        """The words that these tokens complete."""
        words = []
        for token in tokens:
            words += self.advance(token.start)
            if self.tokenizer.begins_word[token.id]:
                words += self.flush()
            self._open.append(token)
        return words

    def advance(self, frame: int) -> list[Word]:
        """The last word, if it is over because no token starts before ``frame``."""
        over = bool(self._open) and frame - self._open[-1].end >= self.pause
        return self.flush() if over else []

    def preview(self, tokens: Iterable[Token]) -> list[Word]:
        """What :meth:`feed` and :meth:`finish` would give; nothing is changed."""
        held = list(self._open), self._ended
        try:
            return self.push(tokens) + self.flush()
        finally:
            self._open, self._ended = held

    def flush(self) -> list[Word]:
        """The last word, if one is open: a list of one or none. The stream can be fed again."""
        tokens, self._open = self._open, []
        seen = [token for token in tokens if self.tokenizer.shows(token.id)]
        if not seen:
            return []
        text = self.tokenizer.decode([token.id for token in tokens])
        start, end = (frame * self.hop + self.offset for frame in (seen[0].start, seen[-1].end))
        start, self._ended = max(start - self.lead, min(start, self._ended)), end
        probability = math.fsum(math.exp(min(token.score, 0.0)) for token in seen) / len(seen)
        ids = tuple(int(token.id) for token in tokens)
        return [Word(text, max(start, 0), max(end, 0), probability, ids, self.speaker)]
