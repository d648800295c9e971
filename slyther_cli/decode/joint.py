"""Joint CTC and attention decoding of a model with a decoder (ConMamba S2S, Speech-Mamba).

    score(y) = (1 - ctc_weight) * log p_decoder(y) + ctc_weight * log p_ctc(y) + language score of its words

The decoder proposes, label by label; CTC scores every prefix by the sum over all of its alignments, which
keeps the decoder from skipping and repeating. The decoder's state after the memory is computed once and
shared by all beams: CrossMamba reads the memory a single time, however long the text.

Sources: Watanabe et al. 2017, "Hybrid CTC/attention architecture", algorithm 2 (prefix scores); weights and
temperatures of the published recipes in papers.md 2.6 and 7.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from slyther_cli.decode.align import align
from slyther_cli.decode.ctc import LanguageModel
from slyther_cli.decode.tokens import BLANK, Tokenizer
from slyther_cli.decode.words import Token

NEVER = -math.inf
NEVER_HEARD = -1e5  # a log-probability that is none, and can be summed up and taken off again
BOS, EOS = 1, 2  # as SpeechBrain numbers them, papers.md 2.5
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class JointOptions:
    """``beam`` hypotheses; of each, the ``candidates`` likeliest next tokens are tried (None: all).

    ``temperature`` divides the decoder's logits. ``length_normalised``: finished hypotheses are compared by
    their score a token, the end counted. ``longest``: tokens at most, as a share of the frames. With a
    language model a finished word adds ``lm_weight * log p(word | words before) + word_bonus``, and
    ``unknown_bonus`` if the model does not know it.
    """

    beam: int = 10
    ctc_weight: float = 0.4
    temperature: float = 1.0
    candidates: int | None = 40
    length_normalised: bool = True
    longest: float = 1.0
    lm_weight: float = 0.0
    word_bonus: float = 0.0
    unknown_bonus: float = 0.0

    def __post_init__(self) -> None:
        if self.beam < 1 or not 0 <= self.ctc_weight <= 1 or self.temperature <= 0 or self.longest <= 0:
            raise ValueError(
                "beam must be at least 1, ctc_weight from 0 to 1, temperature and longest above 0"
            )
        if self.candidates is not None and self.candidates < 1:
            raise ValueError("candidates must be at least 1")


def has_ends(tokenizer: Tokenizer) -> bool:
    """Whether the ids BOS and EOS are what a decoder needs: no tokens that a text is written with."""
    return tokenizer.size > EOS and not any(tokenizer.surface(i) for i in (BOS, EOS))


WITHOUT_LM = JointOptions()
"""The published switch "no LM"."""
WITH_LM = JointOptions(beam=66, temperature=1.15, lm_weight=0.6)
"""The published search with a language model. Theirs is a Transformer over tokens, not an n-gram."""


class JointResult(list[int]):
    """The tokens of the best hypothesis, without bos and eos; ``score`` is what it won by."""

    score: float = NEVER


@dataclass
class _Hypothesis:
    tokens: list[int] = field(default_factory=list)
    decoder: float = 0.0  # sum of the decoder's log-probabilities
    ctc: float = 0.0  # log p of all labellings that begin like this
    text: str = ""  # of the word being spelt
    state: Any = None  # of the language model, after the words before
    language: float = 0.0  # score of the finished words


class CTCPrefixScorer:
    """Log-probability that a labelling begins with a prefix, extended token by token.

    ``log_probs`` [frames, vocab]. A state is [2, frames]: log p of the alignments of the first t + 1 frames
    that give exactly the prefix and end in its last token, or in blank.
    """

    def __init__(self, log_probs: Floats) -> None:
        self.log_probs = np.maximum(np.asarray(log_probs, np.float64), NEVER_HEARD)
        self.frames = len(self.log_probs)
        self._silent = np.cumsum(self.log_probs[:, BLANK])

    def start(self) -> Floats:
        """The state of the empty prefix."""
        return np.stack([np.full(self.frames, NEVER), self._silent])

    def extend(self, states: Floats, last: Sequence[int], tokens: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Prefixes ``states`` [n, 2, frames], each with its ``last`` token (-1: none), and the ``tokens``
        [n, k] to try after each -> log p of all labellings that begin so [n, k]; their states [n, k, 2,
        frames]."""
        before = np.asarray(last)
        same = (tokens == before[:, None])[..., None]
        ended, blank = states[:, None, 0], states[:, None, 1]
        ready = np.where(same, blank, np.logaddexp(ended, blank))  # a new token may come after these
        heard = self.log_probs.T[tokens]  # [n, k, frames]
        entering = heard.copy()
        entering[..., 1:] += ready[..., :-1]
        entering[..., 0] += np.where(before < 0, 0.0, NEVER)[:, None]
        total = np.logaddexp.reduce(entering, axis=-1)
        stayed = np.cumsum(heard, axis=-1)  # log p of the token from the first frame to each
        new = np.full((*tokens.shape, 2, self.frames), NEVER)
        new[..., 0, :] = np.logaddexp.accumulate(entering - stayed, axis=-1) + stayed
        left = new[..., 0, :-1] - self._silent[:-1]
        new[..., 1, 1:] = np.logaddexp.accumulate(left, axis=-1) + self._silent[1:]
        return total, new

    @staticmethod
    def ended(states: Floats) -> Floats:
        """log p of exactly the prefixes ``states`` [n, 2, frames] -> [n]."""
        return np.logaddexp(states[:, 0, -1], states[:, 1, -1])


@torch.inference_mode()
def joint_search(
    model: Any,
    memory: Tensor,
    options: JointOptions = WITHOUT_LM,
    *,
    tokenizer: Tokenizer | None = None,
    lm: LanguageModel | None = None,
) -> JointResult:
    """The best text for ``memory`` [frames, d], what ``model.encode`` gave for one recording.

    ``model`` has ``ctc``, ``start`` and ``step`` (models.conmamba, models.speech_mamba). ``lm`` scores whole
    words and needs ``tokenizer``. Time grows with frames * tokens: meant for up to a minute at a time. Raises
    TypeError for a model without a decoder.
    """
    if lm is not None and tokenizer is None:
        raise ValueError("a language model needs the tokenizer, to tell the words")
    if not len(memory):
        return JointResult()
    search = _Search(model, memory, options, tokenizer, lm)
    while search.alive and search.length < search.longest and not search.decided():
        search.step()
    return search.best()


def joint_stream(
    model: Any,
    frames: Iterable[Tensor],
    options: JointOptions = WITHOUT_LM,
    *,
    longest: int = 625,
    tokenizer: Tokenizer | None = None,
    lm: LanguageModel | None = None,
) -> Iterator[list[Token]]:
    """Timed tokens of a recording of any length, its memory given in pieces [n, d]; constant in memory.

    The encoder has heard the whole recording; only the search is cut, where CTC hears the longest pause
    in the second half of ``longest`` frames (25 s). Times are those of the CTC alignment of what was found.
    """
    held: list[Tensor] = []
    first = 0  # frame where what is held begins

    def decoded(memory: Tensor) -> list[Token]:
        found = joint_search(model, memory, options, tokenizer=tokenizer, lm=lm)
        return align(_log_probs(model, memory), found, first_frame=first) if found else []

    for piece in frames:
        held.append(piece)
        while sum(map(len, held)) > longest:
            memory = torch.cat(held)
            cut = _pause(_log_probs(model, memory[:longest]), longest)
            yield decoded(memory[:cut])
            held, first = [memory[cut:]], first + cut
    if held:
        yield decoded(torch.cat(held))


def _log_probs(model: Any, memory: Tensor) -> Floats:
    with torch.inference_mode():
        return model.ctc(memory[None])[0].float().log_softmax(-1).double().cpu().numpy()


def _pause(log_probs: Floats, longest: int) -> int:
    """The middle of the longest run of blank in the second half; without one, ``longest``."""
    blank = np.flatnonzero(log_probs[longest // 2 :].argmax(1) == BLANK) + longest // 2
    if not len(blank):
        return longest
    runs = np.split(blank, np.flatnonzero(np.diff(blank) > 1) + 1)
    run = max(runs, key=len)
    return max(1, int(run[len(run) // 2]))


class _Search:
    def __init__(
        self,
        model: Any,
        memory: Tensor,
        o: JointOptions,
        tokenizer: Tokenizer | None,
        lm: LanguageModel | None,
    ) -> None:
        self.model, self.options, self.tokenizer, self.lm = model, o, tokenizer, lm
        self.prefixes = CTCPrefixScorer(_log_probs(model, memory)) if o.ctc_weight else None
        self.longest = max(1, round(o.longest * len(memory)))
        self.state = model.start(memory[None])
        self.alive = [_Hypothesis(state=lm.begin() if lm else None)]
        self.ctc = self.prefixes.start()[None] if self.prefixes else np.zeros((1, 2, 1))
        self.length = 0
        self.done: list[tuple[float, _Hypothesis]] = []

    def step(self) -> None:
        """One more token for every hypothesis; those that end are put aside."""
        o = self.options
        last = [h.tokens[-1] if h.tokens else BOS for h in self.alive]
        device = next(self.model.parameters()).device
        logits, self.state = self.model.step(torch.tensor(last, device=device)[:, None], self.state)
        log_probs = (logits[:, 0].float() / o.temperature).log_softmax(-1).double().cpu().numpy()
        self._end(log_probs[:, EOS])
        log_probs[:, [BLANK, BOS, EOS]] = NEVER
        k = min(o.candidates or log_probs.shape[1], log_probs.shape[1])
        tokens = np.argpartition(-log_probs, k - 1, axis=1)[:, :k]
        log_probs = np.take_along_axis(log_probs, tokens, 1)
        begun, states = np.zeros_like(log_probs), None
        if self.prefixes is not None:
            before = [h.tokens[-1] if h.tokens else -1 for h in self.alive]
            begun, states = self.prefixes.extend(self.ctc, before, tokens)
        spoken = np.array([h.language for h in self.alive])[:, None]
        decoder = log_probs + np.array([h.decoder for h in self.alive])[:, None]
        possible = log_probs > NEVER
        scores = (1 - o.ctc_weight) * np.where(possible, decoder, 0.0) + spoken
        if o.ctc_weight:
            scores = scores + o.ctc_weight * begun
        if self.lm:
            scores = scores + self._words_ended(tokens)
        scores[~possible] = NEVER
        flat = scores.ravel()
        chosen = np.argsort(-flat, kind="stable")[: o.beam]
        chosen = chosen[flat[chosen] > NEVER]
        rows, columns = np.unravel_index(chosen, scores.shape)
        self.alive = [
            self._extended(self.alive[i], int(tokens[i, j]), decoder[i, j], begun[i, j])
            for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
        ]
        self.length += 1
        if self.alive:
            self.state = self.state.select(torch.from_numpy(rows).to(device))
            if states is not None:
                self.ctc = states[rows, columns]

    def decided(self) -> bool:
        """Whether as many hypotheses have ended as there are beams, and none alive is better so far."""
        if len(self.done) < self.options.beam:
            return False
        best = max(self.done, key=lambda pair: pair[0])[0]
        return all(self._compared(self._score(h), h) <= best for h in self.alive)

    def best(self) -> JointResult:
        if not self.done:  # the longest text allowed, and none has ended: the best that there is
            pairs = [(self._compared(self._score(h), h), h) for h in self.alive]
        else:
            pairs = self.done
        result = JointResult()
        if pairs:
            result.score, hypothesis = max(pairs, key=lambda pair: pair[0])
            result.extend(hypothesis.tokens)
        return result

    def _end(self, eos: Floats) -> None:
        exact = self.prefixes.ended(self.ctc) if self.prefixes else np.zeros(len(self.alive))
        for h, end, ctc in zip(self.alive, eos.tolist(), exact.tolist(), strict=True):
            closed = replace(h, decoder=h.decoder + end, ctc=ctc, language=self._closed(h)[0])
            score = self._score(closed)
            if score > NEVER:
                self.done.append((self._compared(score, closed, 1), closed))

    def _score(self, h: _Hypothesis) -> float:
        weight = self.options.ctc_weight
        return (1 - weight) * h.decoder + (weight * h.ctc if weight else 0.0) + h.language

    def _compared(self, score: float, h: _Hypothesis, more: int = 0) -> float:
        return score / max(len(h.tokens) + more, 1) if self.options.length_normalised else score

    def _words_ended(self, tokens: npt.NDArray[Any]) -> Floats:
        """What the language model adds where a token ends a word, [n, k]."""
        assert self.tokenizer is not None
        added = np.array([self._closed(h)[0] - h.language for h in self.alive])[:, None]
        return np.where(self.tokenizer.begins_word[tokens], added, 0.0)

    def _closed(self, h: _Hypothesis) -> tuple[float, Any]:
        if self.lm is None or not h.text:
            return h.language, h.state
        o = self.options
        value, state = self.lm.score(h.text, h.state)
        value = o.lm_weight * value + o.word_bonus + (0.0 if self.lm.knows(h.text) else o.unknown_bonus)
        return h.language + value, state

    def _extended(self, h: _Hypothesis, token: int, decoder: float, ctc: float) -> _Hypothesis:
        new = _Hypothesis([*h.tokens, token], float(decoder), float(ctc), h.text, h.state, h.language)
        if self.lm and self.tokenizer is not None:
            surface = self.tokenizer.surface(token)
            if self.tokenizer.begins_word[token]:
                new.language, new.state = self._closed(h)
                new.text = ""
            new.text += surface.strip()
        return new
