"""Log-probabilities in, segments out: everything between a CTC head and a transcript, in a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from slyther_cli.decode.ctc import BeamDecoder, GreedyDecoder, LogProbs
from slyther_cli.decode.lexicon_beam import PlainLexiconBeam
from slyther_cli.decode.native_beam import CompiledSearch
from slyther_cli.decode.realign import MARGIN, Realigner
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.words import Word, WordStream

Decoder = GreedyDecoder | BeamDecoder | CompiledSearch | PlainLexiconBeam
STEP = 2  # frames after which a segmenter is told the time


class Phrasing(Protocol):
    """What makes segments of words: a :class:`~slyther_cli.decode.segments.Segmenter`, or the like of it."""

    def push(self, words: Iterable[Word]) -> list[Segment]: ...

    def advance(self, now: int) -> list[Segment]: ...

    def preview(self, words: Iterable[Word]) -> Segment | None: ...

    def flush(self) -> list[Segment]: ...


class TimedPhrasing(Phrasing, Protocol):
    """A segmenter that keeps words for a while, and is told how many samples of the recording were heard."""

    def hear(self, samples: int) -> list[Segment]: ...


class TextStream:
    """Decoder -> (for a beam, exact times) -> words -> segments.

    A greedy path is the best of all paths, so its times are those of the Viterbi alignment already. The
    segments do not depend on how the frames are split into feeds; memory does not grow with the recording.
    """

    def __init__(self, decoder: Decoder, words: WordStream, segmenter: Phrasing) -> None:
        self.decoder, self.words, self.segmenter = decoder, words, segmenter
        self.frames = 0
        self._realigner: Realigner | None = None
        if not isinstance(decoder, GreedyDecoder):
            if decoder.max_delay is None:
                raise ValueError("a beam that may wait for ever cannot be streamed")
            self._realigner = Realigner(decoder.max_delay)

    def push(self, log_probs: LogProbs) -> list[Segment]:
        """The segments that log_probs [n, vocab] complete."""
        if self._realigner:
            self._realigner.push_log_probs(log_probs)
        self.frames += len(log_probs)
        tokens = self.decoder.push(log_probs)
        frame = self.frames  # no token that is still to come starts before it
        if self._realigner:
            frame -= self._realigner.delay
            tokens = self._realigner.push(tokens) + self._realigner.advance(frame)
            frame -= MARGIN
        elif heard := self.decoder.partial():
            frame = heard[0].start
        done = self.segmenter.push(self.words.push(tokens))
        if not (self._realigner and self._realigner.waiting):
            done += self.segmenter.push(self.words.advance(frame))
            if not self.words.preview([]):  # over because of a pause, though nothing has come after it yet
                done += self.segmenter.advance(frame * self.words.hop + self.words.offset - self.words.lead)
        return done

    def flush(self, samples: int) -> list[Segment]:
        """The last segments of a recording of so many samples; nothing ends after it."""
        tokens = self.decoder.flush()
        if self._realigner:
            tokens = self._realigner.push(tokens) + self._realigner.flush()
        words = self.words.push(tokens) + self.words.flush()
        words = [word._replace(end=min(word.end, max(samples, word.start + 1))) for word in words]
        return self.segmenter.push(words) + self.segmenter.flush()

    def partial(self) -> Segment | None:
        """What is heard and not given out yet; all of it may still change."""
        tokens = [*(self._realigner.waiting if self._realigner else ()), *self.decoder.partial()]
        return self.segmenter.preview(self.words.preview(tokens))


class TimedTextStream(TextStream):
    """Tells its segmenter the time after every ``STEP`` frames, counted from the recording's start. Every
    word comes between the same two times, however the frames are split into feeds."""

    def __init__(self, decoder: Decoder, words: WordStream, segmenter: TimedPhrasing) -> None:
        super().__init__(decoder, words, segmenter)
        self._hear = segmenter.hear

    def push(self, log_probs: LogProbs) -> list[Segment]:
        done: list[Segment] = []
        while len(log_probs):
            part, log_probs = np.split(log_probs, [STEP - self.frames % STEP])
            done += super().push(part)
            if self.frames % STEP == 0:
                done += self._hear(self.frames * self.words.hop)
        return done
