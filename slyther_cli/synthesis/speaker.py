"""A voice that is ready to speak: sentences become codes, and each is listened to."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from slyther_cli.audio.equalise import Equaliser
from slyther_cli.english.phonemes import Spelling, spell
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import Context, VallM
from slyther_cli.models.vall_sampling import Said, Voicing
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.synthesis.speech_check import (
    Fit,
    Recognise,
    Verdict,
    as_recognised,
    judge_lengths,
    judge_words,
)


@dataclass(frozen=True)
class Speaker:
    """``colour``: the filter that its sound goes through. ``recognise``, ``fit``: who listens, if anybody."""

    options: SpeakOptions
    network: VallM
    codec: Codec
    voicing: Voicing
    recognise: Recognise | None
    fit: Fit | None
    colour: Equaliser | None
    lexicon: Pronunciations | None

    def spell(self, text: str) -> Spelling:
        """A sentence as the symbols that the network reads."""
        return spell(text, self.network.config.alphabet, self.lexicon)

    def filter(self) -> Equaliser | None:
        """The filter, at the beginning of a recording."""
        return Equaliser(self.colour.taps) if self.colour else None

    def say(
        self, index: int, spelling: Spelling, context: Context | None, carry: float
    ) -> tuple[Said, Verdict, int]:
        """The first try that passes the speech check, else the best one; and how many there were. ``index``
        is the sentence's number in its file, ``context`` and ``carry`` what the one before it left."""
        symbols = torch.tensor(spelling.symbols)
        best: tuple[Said, Verdict] | None = None
        o = self.options
        for attempt in range(o.retries + 1):
            said = self.voicing.say(symbols, context, self._seed(index, attempt), o.pace, carry)
            verdict = self._measure(symbols, said)
            if o.guard == "none":
                return said, verdict, 1
            if self.recognise and not verdict.problems and said.codes.shape[1]:
                samples = self.codec.decode(said.codes[None])[0].float().cpu().numpy()
                verdict = self._judge(spelling.words, samples)
            if not verdict.problems:
                return said, verdict, attempt + 1
            if best is None or verdict.rank < best[1].rank:
                best = said, verdict
        assert best is not None
        return *best, o.retries + 1

    def say_at_once(
        self,
        index: int,
        spelling: Spelling,
        context: Context | None,
        carry: float,
        hear: Callable[[torch.Tensor], None],
    ) -> tuple[Said, Verdict, int]:
        """As ``say``, but ``hear`` gets the codes in pieces while they are made. What was heard is not said
        again, so the first try stands; its lengths are checked."""
        symbols = torch.tensor(spelling.symbols)
        said = self.voicing.say(symbols, context, self._seed(index, 0), self.options.pace, carry, hear)
        return said, self._measure(symbols, said), 1

    def _seed(self, index: int, attempt: int) -> int:
        drawn = hashlib.sha256(f"{self.options.seed} {index} {attempt}".encode()).digest()
        return int.from_bytes(drawn[:7], "big")

    def _measure(self, symbols: torch.Tensor, said: Said) -> Verdict:
        o = self.options
        if o.guard == "none":
            return Verdict()
        expected = self.voicing.expected_frames(symbols, o.pace)
        return judge_lengths(said, expected, self.network.config.frame_rate, o.pause)

    def _judge(self, words: str, samples: np.ndarray) -> Verdict:
        assert self.recognise is not None
        fit = partial(self.fit, samples, as_recognised(words)) if self.fit else None
        return judge_words(words, self.recognise(samples), fit)
