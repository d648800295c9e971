"""Log-probabilities in, segments out: everything between a CTC head and a transcript, in a stream."""

from __future__ import annotations

from slyther_cli.decode.ctc import BeamDecoder, GreedyDecoder, LogProbs
from slyther_cli.decode.lexicon_beam import LexiconBeam, PlainLexiconBeam
from slyther_cli.decode.native_beam import CompiledBeam
from slyther_cli.decode.realign import MARGIN, Realigner
from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.words import WordStream

Decoder = GreedyDecoder | BeamDecoder | CompiledBeam | LexiconBeam | PlainLexiconBeam


class TextStream:
    """Decoder -> (for a beam, exact times) -> words -> segments.

    A greedy path is the best of all paths, so its times are those of the Viterbi alignment already. The
    segments do not depend on how the frames are split into feeds; memory does not grow with the recording.
    """

    def __init__(self, decoder: Decoder, words: WordStream, segmenter: Segmenter) -> None:
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
