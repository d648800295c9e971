"""Recognised words with their numbers as people write them: "$300" begins and ends when it was said."""

from __future__ import annotations

import math
from collections.abc import Iterable

from slyther_cli.decode.words import Word
from slyther_cli.english.written import Writer, Written


def written_words(words: Iterable[Word], *, pause: int | None = None) -> list[Word]:
    """``words`` as :class:`WordWriter` writes them."""
    writer = WordWriter(pause=pause)
    return writer.push(words) + writer.flush()


class WordWriter:
    """Writes a stream of recognised words; those that are no part of a number go through as they are.

    A word that stands for several begins with the first and ends with the last of them, has their tokens,
    and as probability the mean over those tokens, as every word has it. A number ends where the speaker
    changes and at a silence of ``pause`` samples (None: at none). Held back are at most
    ``english.written.LOOKAHEAD`` words, mostly none or two.
    """

    def __init__(self, *, pause: int | None = None) -> None:
        if pause is not None and pause < 0:
            raise ValueError(f"a pause is no less than 0 samples, not {pause}")
        self.pause = math.inf if pause is None else pause
        self._writer = Writer()
        self._held: list[Word] = []
        self._first = 0  # the number of words before those held
        self._last: Word | None = None

    def push(self, words: Iterable[Word]) -> list[Word]:
        """The words that these complete."""
        done: list[Word] = []
        for word in words:
            if self._last is not None and self._parts(self._last, word):
                done += self.flush()
            self._last = word
            self._held.append(word)
            done += self._join(self._writer.push([word.text]))
        return done

    @property
    def waiting(self) -> list[Word]:
        """The words that are held back, as they came."""
        return list(self._held)

    def advance(self, now: int) -> list[Word]:
        """What is held back, if it is over because no word starts before the sample ``now``."""
        over = bool(self._held) and now - self._held[-1].end >= self.pause
        return self.flush() if over else []

    def flush(self) -> list[Word]:
        """What is held back. The writer can be fed again."""
        return self._join(self._writer.flush())

    def _parts(self, left: Word, right: Word) -> bool:
        return left.speaker != right.speaker or right.start - left.end >= self.pause

    def _join(self, tokens: list[Written]) -> list[Word]:
        done = []
        for token in tokens:
            said = self._held[token.start - self._first : token.stop - self._first]
            if len(said) == 1:
                done.append(said[0]._replace(text=token.text))
                continue
            weights = [max(len(word.tokens), 1) for word in said]
            total = math.fsum(n * word.probability for n, word in zip(weights, said, strict=True))
            ids = tuple(i for word in said for i in word.tokens)
            end = max(word.end for word in said)
            speaker = said[0].speaker
            done.append(Word(token.text, said[0].start, end, total / sum(weights), ids, speaker))
        if tokens:
            del self._held[: tokens[-1].stop - self._first]
            self._first = tokens[-1].stop
        return done
