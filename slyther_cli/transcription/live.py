"""Live words as people write them: marks and capitals by a causal network, numbers in digits.

    words as they become final -> MarkStream -> numbers (``decode.written``) -> segments -> the speech filter

A word waits for the ``look_ahead`` words that the network wants to see, and for ``HOLD`` seconds at most.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.tokens import END
from slyther_cli.decode.words import Word
from slyther_cli.decode.written import WordWriter
from slyther_cli.layers.mamba import MambaState
from slyther_cli.models.punctuation import LOWER, STOP, TERMINAL, TITLE
from slyther_cli.transcription.punctuate import Punctuator, pieces_of, written

HOLD = 2.0  # seconds of the recording


class MarkStream:
    """Marks and capitals for one word after the other: those that :meth:`Punctuator.punctuate` of a causal
    model gives to all of them, but for words that :meth:`decide` gives out before it has seen enough.
    """

    def __init__(self, punctuator: Punctuator) -> None:
        self.look_ahead = int(punctuator.network.config.look_ahead)
        self._punctuator = punctuator
        self._held = deque[str]()
        self._states: list[MambaState | None] | None = None  # of the network, after the last word
        self._begins = True  # a sentence, with the first word held

    def push(self, word: str) -> list[str]:
        """The word that this one decides: a list of one or none."""
        self._held.append(word)
        (pieces,) = pieces_of(self._punctuator.tokenizer, [word])
        marks, cases, self._states = self._punctuator.network.step(torch.tensor(pieces), self._states)
        return [self._written(marks[-1], cases[-1])] if len(self._held) > self.look_ahead else []

    def decide(self, count: int, ended: bool = False) -> list[str]:
        """The first ``count`` words held, as if the text broke off with the last word pushed; ``ended``: a
        sentence ends with the last of them."""
        if not count:
            return []
        end = torch.full((self.look_ahead,), END)
        marks, cases, _ = self._punctuator.network.step(end, self._states)
        first, last = self.look_ahead - len(self._held), count - 1
        return [
            self._written(marks[first + i], cases[first + i], TERMINAL if ended and i == last else None)
            for i in range(count)
        ]

    def flush(self) -> list[str]:
        """All that are held; a sentence ends with the last one."""
        return self.decide(len(self._held), ended=True)

    def _written(self, marks: Tensor, cases: Tensor, among: Sequence[int] | None = None) -> str:
        """The first word held, with the likeliest of the logits [marks], or ``among`` some, and [cases]."""
        mark = int(marks.argmax()) if among is None else max(among, key=lambda mark: float(marks[mark]))
        case = int(cases.argmax())
        if self._begins and case == LOWER:
            case = TITLE
        self._begins = mark == STOP
        return written(self._held.popleft(), mark, case, self._punctuator.forms)


class LiveReadable:
    """Words in, readable segments out, cut by ``segmenter``: a ``decode.stream.TimedPhrasing``.

    ``keep``: of segments as they were spoken, those that are speech. A word is decided at most ``HOLD``
    seconds after it came, by the time that :meth:`hear` tells. A number is written when it is over.
    """

    def __init__(
        self, punctuator: Punctuator, segmenter: Segmenter, keep: Callable[[list[Segment]], list[Segment]]
    ) -> None:
        self._marks, self._segmenter, self._keep = MarkStream(punctuator), segmenter, keep
        self._numbers = WordWriter(pause=round(segmenter.pause * segmenter.rate))
        self._held = deque[Word]()  # whose marks are not decided
        self._since = deque[int]()  # for the first of them: samples heard when they came
        self._spoken = deque[Word]()  # those of no segment yet
        self._now = 0  # no word that is still to come starts before this sample
        self._end = 0  # of the last word

    def push(self, words: Iterable[Word]) -> list[Segment]:
        """The segments that these words complete."""
        done: list[Segment] = []
        for word in words:
            start = max(word.start, self._end)  # they never overlap in segments
            self._end = max(word.end, start + 1)
            word = word._replace(start=start, end=self._end)
            self._held.append(word)
            self._spoken.append(word)
            done += self._decided(self._marks.push(word.text))
        return done + self._over()

    def advance(self, now: int) -> list[Segment]:
        """The segments that are over because no word starts before the sample ``now``."""
        self._now = now
        return self._over()

    def hear(self, samples: int) -> list[Segment]:
        """The segments that are over since so many samples were heard."""
        self._since.extend([samples] * (len(self._held) - len(self._since)))
        limit = samples - round(HOLD * self._segmenter.rate)
        late = sum(since <= limit for since in self._since)
        return self._decided(self._marks.decide(late)) + self._over() if late else []

    def preview(self, words: Iterable[Word]) -> Segment | None:
        """All that is in no segment yet, with ``words`` that are not certain; nothing is changed."""
        return self._segmenter.preview([*self._numbers.waiting, *self._held, *words])

    def flush(self) -> list[Segment]:
        """The last segments."""
        done = self._decided(self._marks.flush()) + self._cut(self._numbers.flush())
        return done + self._kept(self._segmenter.flush())

    def _decided(self, texts: list[str]) -> list[Segment]:
        """The first words held get their texts."""
        words = [self._held.popleft()._replace(text=text) for text in texts]
        for _ in range(min(len(words), len(self._since))):
            self._since.popleft()
        return self._cut(self._numbers.push(words))

    def _over(self) -> list[Segment]:
        """What ends because of the pause after it."""
        now = self._held[0].start if self._held else self._now
        done = self._cut(self._numbers.advance(now))
        if self._numbers.waiting:
            now = self._numbers.waiting[0].start
        return done + self._kept(self._segmenter.advance(now))

    def _cut(self, words: list[Word]) -> list[Segment]:
        done: list[Segment] = []
        for word in words:
            segments = self._segmenter.push([word])
            if segments and self._segmenter.preview([]) is None:  # a sentence ends, and maybe no pause begins
                segments[-1] = segments[-1]._replace(cut=True)
            done += self._kept(segments)
        return done

    def _kept(self, segments: list[Segment]) -> list[Segment]:
        """Those that are speech: its bounds are of words as they are spoken."""
        kept = []
        for segment in segments:
            spoken = [self._spoken.popleft()]
            while self._spoken and self._spoken[0].start < segment.end:
                spoken.append(self._spoken.popleft())
            if self._keep([Segment(tuple(spoken), segment.cut)]):
                kept.append(segment)
        return kept
