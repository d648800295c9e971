"""Spoken words as people write them: "nine forty five a m" becomes "9:45 a.m.", the inverse of ``normalise``.

:func:`written` takes a sequence of words, :class:`Writer` a stream. Every written token tells which spoken
words it stands for, so that their times are kept; no token holds a blank. What is ambiguous stays in words:
"one or two", "a hundred", "nine eleven", numbers below ten by themselves. The rules are in
``written_times`` and ``written_amounts``.

No library does it. text2num (MIT) writes cardinals well, but "19 84", "20 26" and "a 100", and tells no
spans; NeMo's and WeTextProcessing's rules need pynini.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from slyther_cli.english.written_amounts import plain, with_unit
from slyther_cli.english.written_context import AS_SAID, STARTS, VOCABULARY, Kinds, Match, is_number
from slyther_cli.english.written_numbers import END, NUMERALS, SCALES, TENS, Words, year
from slyther_cli.english.written_times import by_digit, clock, date, day_of_month, standing_year

LOOKAHEAD = 48
"""Words that are seen at once: a stream holds back that many at most, and mostly two or three."""
_LEFT = 3  # words before a number that rules may look at
_MARKS_ACROSS = 12  # marks within a number that are looked past
_MARKS = ",.;:?!… –"
"""What may stand behind a word. A mark ends a number and is kept, and so does "'s"; but a mark between words
that make one number all the same is dropped: "nineteen, forty five" is the guess of a network of marks."""


class Written(NamedTuple):
    """A token of the text. ``start``, ``stop``: the spoken words it stands for, counted from the first."""

    text: str
    start: int
    stop: int


def written(words: Sequence[str]) -> list[Written]:
    """The tokens of ``words``, without gap or overlap. Words that are no part of a number stay as they are.

    A word that ends with a mark of punctuation ends a number, too, and the mark is kept; but of two ways to
    read words, the one that makes a number across marks is taken, unless it is part of a list.

    >>> [token.text for token in written("at nine forty five a m on may second".split())]
    ['at', '9:45', 'a.m.', 'on', 'May', '2']
    """
    writer = Writer()
    return writer.push(words) + writer.flush()


class Writer:
    """Writes a stream of words. A word is held back while it may begin a number whose end is not known yet:
    until a word follows that belongs to none, and for ``LOOKAHEAD`` words at most."""

    def __init__(self) -> None:
        self._at = -_LEFT  # the number of the first word below; there are always some that are done
        self._words = [""] * _LEFT  # as they came
        self._begin_phrase()

    def push(self, words: Iterable[str]) -> list[Written]:
        """The tokens that these words complete."""
        done: list[Written] = []
        for word in words:
            core = _core(word)
            self._words.append(word)
            self._cores.append(core.lower())
            self._marked.append(core != word)
            if core != word.rstrip(_MARKS):  # "'s"
                done += self.flush()
        return done + self._take(final=False)

    def flush(self) -> list[Written]:
        """What is held back. No number goes on after this: so a pause or another speaker can part numbers."""
        done = self._take(final=True)
        self._begin_phrase()
        return done

    def _begin_phrase(self) -> None:
        self._cores = [""] * _LEFT  # in small letters, without marks
        self._marked = [False] * _LEFT  # whether a mark stands behind the word
        self._kinds = [""] * _LEFT  # what became of the words that are done
        self._ahead = 0  # up to here, words held may belong to numbers

    def _take(self, final: bool) -> list[Written]:
        done: list[Written] = []
        words, cores, marked, kinds = self._words, self._cores, self._marked, self._kinds
        at, size, ahead = _LEFT, len(cores), self._ahead
        while at < size:
            core = cores[at]
            found = None
            if core in STARTS:
                limit = min(size, at + LOOKAHEAD)
                ahead = max(ahead, at)
                while ahead < limit and cores[ahead] in VOCABULARY:
                    ahead += 1
                if ahead == size < at + LOOKAHEAD and not final:
                    break
                found = self._number(at, min(ahead + 1, limit))
            kind, tokens = found or ("kept" if core in NUMERALS else "", [(AS_SAID, 1)])
            for left, (text, length) in zip(reversed(range(len(tokens))), tokens, strict=True):
                last = words[at + length - 1]
                mark = "" if left else last[len(_core(last)) :]
                text = text or _core(last)
                text += mark.removeprefix(".") if text.endswith(".") else mark
                done.append(Written(text, self._at + at, self._at + at + length))
                kinds += [kind] * length
                at += length
        over = at - _LEFT
        del words[:over], cores[:over], marked[:over], kinds[:over]
        self._at, self._ahead = self._at + over, ahead - over
        return done

    def _number(self, at: int, stop: int) -> Match | None:
        """What the words from ``at`` are written as, of those up to ``stop``: a number across marks, the
        longest, or else one that ends at the first of them. What stands before a mark on the left is not
        looked at."""
        cores, marked = self._cores, self._marked
        seen = next((k for k in range(_LEFT) if marked[at - 1 - k]), _LEFT)
        unseen = [""] * (_LEFT - seen)
        before, kinds = unseen + cores[at - seen : at], unseen + self._kinds[at - seen : at]
        first, *more = [k + 1 for k in range(at, stop) if marked[k]] or [stop]
        for end in (stop, *reversed(more[:_MARKS_ACROSS])):
            if end > first and (found := _find([*before, *cores[at:end], *END], _LEFT, kinds)):
                kind, tokens = found
                if self._is_across(kind, at, at + sum(length for _, length in tokens)):
                    return found
        return _find([*before, *cores[at:first], *END], _LEFT, kinds)

    def _is_across(self, kind: str, at: int, stop: int) -> bool:
        """Whether a number from ``at`` to ``stop`` has marks within that are no reason to part it, as they
        are in "he was twenty, one of them", "two million. Ten of them", and in lists of what may be years."""
        cores, marked = self._cores, self._marked
        after = cores[stop] if stop < len(cores) else ""
        if kind != "number" and (cores[at - 1] in NUMERALS or after in NUMERALS):
            return False
        return any(marked[k] and not self._is_reason(k) for k in range(at, stop - 1))

    def _is_reason(self, k: int) -> bool:
        """Whether the mark behind the word ``k`` of a number parts it."""
        core, follows = self._cores[k], self._cores[k + 1]
        if core in TENS:  # a mark here is a slip: one in a thousand of such pairs is parted in novels
            return follows == "one"
        large = core == "hundred" or core in SCALES
        return large and self._words[k][-1] in ".?!…" and follows in NUMERALS


def _core(word: str) -> str:
    """A word without its marks."""
    core = word.rstrip(_MARKS)
    base = core.removesuffix("'s")
    return base if base.lower() in NUMERALS else core


def _find(w: Words, i: int, kinds: Kinds) -> Match | None:
    """What ``w[i]`` and the words after it are written as; None if ``w[i]`` stays as it is."""
    if found := by_digit(w, i) or date(w, i, kinds) or day_of_month(w, i):
        return found
    if is_number(w[i - 1]) and not (kinds[-1] == "year" and year(w, i)):
        return None  # number words in a row, not understood together, all stay; but years follow years
    return clock(w, i, kinds) or standing_year(w, i, kinds) or with_unit(w, i, kinds) or plain(w, i, kinds)
