"""Words with times in, readable segments out, in a stream: memory for one segment only."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from slyther_cli.decode.paragraphs import ends_sentence
from slyther_cli.decode.words import Word

_CLAUSE_END = (",", ";", ":", "-", "–", "—")
# A line that ends with one of these makes the reader wait: the word belongs to the next.
_LEANING = (
    " a an the of to in on at by for from with and or but as if that which who my your his her its our their"
    " this these those is are was were be been i we he she they not no"
    " january february march april may june july august september october november december "
)
# A line that begins with one of these parts what is read together: "9:45 a.m.", "$2 million".
_TRAILING = ("a.m.", "p.m.", "million", "billion", "trillion")


class Segment(NamedTuple):
    """Words that are shown together. ``start``, ``end``: samples, the end exclusive. ``cut``: it ends for its
    length, in the middle of what is said."""

    words: tuple[Word, ...]
    cut: bool = False

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def end(self) -> int:
        return self.words[-1].end

    @property
    def speaker(self) -> str | None:
        return self.words[0].speaker

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    def as_dict(self, index: int, rate: int, *, words: bool = True) -> dict[str, Any]:
        """The segment as whisper's json has it, times in seconds rounded to milliseconds.

        ``text`` and every ``word`` carry their leading space, as whisper's do. ``seek`` is 0: there is one
        window, the whole recording. ``temperature`` and ``no_speech_prob`` are 0.0: nothing is sampled,
        and CTC writes nothing into silence. ``avg_logprob`` is the mean log of the word probabilities,
        weighted by tokens. ``speaker`` appears only if there is one.
        """
        text = " " + self.text
        raw = self.text.encode()
        counts = [max(len(word.tokens), 1) for word in self.words]
        logs = [
            n * math.log(max(word.probability, 1e-10)) for n, word in zip(counts, self.words, strict=True)
        ]
        result: dict[str, Any] = {
            "id": index,
            "seek": 0,
            "start": round(self.start / rate, 3),
            "end": round(self.end / rate, 3),
            "text": text,
            "tokens": [token for word in self.words for token in word.tokens],
            "temperature": 0.0,
            "avg_logprob": math.fsum(logs) / sum(counts),
            "compression_ratio": len(raw) / len(zlib.compress(raw)),
            "no_speech_prob": 0.0,
        }
        if words:
            result["words"] = [
                {
                    "word": " " + word.text,
                    "start": round(word.start / rate, 3),
                    "end": round(word.end / rate, 3),
                    "probability": word.probability,
                }
                for word in self.words
            ]
        if self.speaker is not None:
            result["speaker"] = self.speaker
        return result


class Segmenter:
    """Breaks words into segments, where a reader would.

    ``rate``      samples a second. ``pause``: seconds of silence between two words that always end a segment.
    ``max_seconds``  no segment is longer, from its first to its last sample.
    ``max_line_width``, ``max_line_count``  no segment needs more lines of that many characters than that
                  (a single longer word gets a line of its own). Either None: no such limit.

    A segment that grows too long is broken where it hurts least: at a long gap, after punctuation, late
    rather than early, not after a word that leans on the next ("of", "the"). Sentence marks end a
    segment that fills a line. Segments come in order, never overlap, and hold every word given: words
    that overlap or step back are moved up, words longer than ``max_seconds`` lose their end.
    """

    def __init__(
        self,
        rate: int,
        *,
        pause: float = 0.8,
        max_seconds: float = 7.0,
        max_line_width: int | None = 42,
        max_line_count: int | None = 2,
    ) -> None:
        if rate < 1 or pause < 0 or max_seconds <= 0 or max_seconds * rate < 1:
            raise ValueError("rate, pause and max_seconds must be positive")
        if any(limit is not None and limit < 1 for limit in (max_line_width, max_line_count)):
            raise ValueError("max_line_width and max_line_count must be at least 1")
        self.rate, self.pause, self.longest = rate, pause, int(max_seconds * rate)
        self.width, self.count = max_line_width, max_line_count
        self._open: list[Word] = []
        self._end = 0

    def push(self, words: Iterable[Word]) -> list[Segment]:
        """The segments that these words complete."""
        done: list[Segment] = []
        for word in words:
            start = max(word.start, self._end)
            end = min(max(word.end, start + 1), start + self.longest)
            if (start, end) != (word.start, word.end):
                word = word._replace(start=start, end=end)
            self._end = end
            if self._open and (self._parts(self._open[-1], word) or self._is_full(word.text)):
                done += self.flush()
            self._open.append(word)
            while not self._fits(self._open):
                cut = self._cut()
                done.append(Segment(tuple(self._open[:cut]), cut=True))
                del self._open[:cut]
            if self._is_full():
                done += self.flush()
        return done

    def advance(self, now: int) -> list[Segment]:
        """The open segment, if it is over because no word starts before the sample ``now``."""
        over = bool(self._open) and now - self._open[-1].end >= self.pause * self.rate
        return self.flush() if over else []

    def preview(self, words: Iterable[Word]) -> Segment | None:
        """What is open, with ``words`` that are not certain yet; nothing is changed."""
        every = (*self._open, *words)
        return Segment(every) if every else None

    def flush(self) -> list[Segment]:
        """The open segment: a list of one or none. The segmenter can be fed again."""
        words, self._open = self._open, []
        return [Segment(tuple(words))] if words else []

    def _parts(self, left: Word, right: Word) -> bool:
        return left.speaker != right.speaker or right.start - left.end >= self.pause * self.rate

    def _is_full(self, following: str = "") -> bool:
        """Whether a sentence ends before ``following``, and half a line is there."""
        if not ends_sentence(self._open[-1].text, following):
            return False
        return sum(len(word.text) + 1 for word in self._open) > (self.width or 42) // 2

    def _fits(self, words: list[Word]) -> bool:
        if len(words) < 2:
            return True
        if words[-1].end - words[0].start > self.longest:
            return False
        if self.width is None or self.count is None:
            return True
        lines, length = 1, 0
        for word in words:
            size = len(word.text)
            if length and length + 1 + size > self.width:
                lines, length = lines + 1, size
            else:
                length += size + (1 if length else 0)
        return lines <= self.count

    def _cut(self) -> int:
        """Where to break words that do not fit together: before which word. The part before fits."""
        total = sum(len(word.text) + 1 for word in self._open)
        best, cut, used = -math.inf, 1, 0
        for i in range(1, len(self._open)):
            left, right = self._open[i - 1], self._open[i]
            used += len(left.text) + 1
            value = used / total + min((right.start - left.end) / self.rate, 2.0) * 1.5
            if ends_sentence(left.text, right.text):
                value += 1.0
            elif left.text.endswith(_CLAUSE_END):
                value += 0.5
            if f" {left.text.lower()} " in _LEANING or right.text.startswith(_TRAILING):
                value -= 0.3
            if value >= best:
                best, cut = value, i
        return cut
