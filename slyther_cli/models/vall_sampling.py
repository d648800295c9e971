"""Saying a sentence with VALL-M: the first codebook by sampling, frame by frame; the others at once each.

The others' network looks at the whole sentence in both directions. To be heard before its sentence is drawn
to the end, speech is made in pieces: the first codebook is the same, the others are filled in piece by piece,
having seen a little beyond each, and what was heard before as part of the prompt.

Sources: papers.md 4.3 (decoding of the open VALL-E); Holtzman et al. 2020, "The Curious Case of Neural Text
Degeneration" (top-p); Chen et al. 2024, "VALL-E 2", section 4.1 (what is drawn from the short list too often
is drawn anew from all).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from slyther_cli.english.normalise import MARKS
from slyther_cli.errors import UsageError
from slyther_cli.models.vall_m import Context, VallM, frames_of

FRAMES_A_SYMBOL = (0.02, 0.3)
"""Seconds that a symbol lasts at least and at most, on average over a sentence: nobody speaks beyond that."""
FIRST_PIECE, GROWTH = 0.8, 1.5
"""Seconds of the first piece of a sentence that is heard while it is made, and how much longer each is than
the one before: while one is played the next is made."""
AHEAD, BEHIND = 0.3, 1.0
"""Seconds that are seen beyond a piece, and of what was heard before it."""


@dataclass(frozen=True)
class Sampling:
    """``temperature`` 0 takes the likeliest code. ``top_k`` 0 and ``top_p`` 1 leave all. ``repetition``: the
    share of the last ``window`` codes that one may have before it is drawn anew; 1 turns that off."""

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 0.9
    repetition: float = 1.0
    window: int = 25

    def __post_init__(self) -> None:
        if not (0 <= self.temperature <= 10 and 0 < self.top_p <= 1 and self.top_k >= 0):
            raise UsageError("temperature must be from 0 to 10, top_p above 0 to 1, top_k 0 or more")
        if not (0 < self.repetition <= 1 and 1 <= self.window <= 10_000):
            raise UsageError("repetition must be above 0 to 1, window 1 or more")


class Pace(NamedTuple):
    """``speed``: of all that is said, pauses too. ``pause``: how long pauses are, beside what was learnt."""

    speed: float = 1.0
    pause: float = 1.0

    def speeds(self, symbols: Tensor) -> Tensor:
        """The speed of every symbol [S]. Pauses are the marks, and the blank that a sentence begins with."""
        pauses = (symbols > 1) & (symbols < 2 + len(MARKS))
        pauses[:1] |= symbols[:1] == 1
        speeds = torch.full(symbols.shape, self.speed, dtype=torch.float64, device=symbols.device)
        speeds[pauses] /= self.pause
        return speeds


class Voice(NamedTuple):
    """Whom to sound like: symbols [S]; codes [n_codebooks, T]; durations [S] that sum to T, or None."""

    symbols: Tensor
    codes: Tensor
    durations: Tensor | None = None


class Said(NamedTuple):
    """codes [n_codebooks, T]. ``context``: to go on from. ``ended``: whether the network ended it, not the
    limit. ``rest``: the part of a frame that rounding owes the next sentence. ``durations`` [S]: the frames
    of each symbol, None for models that do not know them."""

    codes: Tensor
    context: Context
    ended: bool
    rest: float = 0.0
    durations: Tensor | None = None


def draw(logits: Tensor, s: Sampling, recent: list[int], generator: torch.Generator) -> int:
    """A code from ``logits`` [V]. ``generator`` is a CPU one: the draw is the same on any device."""
    logits = logits.double().cpu()
    if s.temperature == 0:
        return int(logits.argmax())
    probabilities = (logits / s.temperature).softmax(0)
    code = int(torch.multinomial(_short_list(probabilities, s), 1, generator=generator))
    window = recent[-s.window :]
    if s.repetition < 1 and len(window) == s.window and window.count(code) > s.repetition * s.window:
        return int(torch.multinomial(probabilities, 1, generator=generator))
    return code


def _short_list(probabilities: Tensor, s: Sampling) -> Tensor:
    """The ``top_k`` likeliest; of these the fewest whose sum reaches ``top_p``. The others get 0."""
    ordered, places = probabilities.sort(descending=True, stable=True)
    keep = ordered.cumsum(0) - ordered < s.top_p
    if s.top_k:
        keep[s.top_k :] = False
    return torch.zeros_like(probabilities).scatter(0, places[keep], ordered[keep])


def piece_ends(frames: int, rate: float) -> list[int]:
    """Where the pieces of a sentence end, in frames. What is left is one piece once nothing lies beyond what
    is seen of it.

    >>> piece_ends(50, 50), piece_ends(200, 50)
    ([50], [40, 100, 200])
    """
    ends, length = list[int](), FIRST_PIECE * rate
    while (end := (ends[-1] if ends else 0) + round(length)) + round(AHEAD * rate) < frames:
        ends.append(end)
        length *= GROWTH
    return [*ends, frames]


def _exact_frames(logs: Tensor, speeds: Tensor) -> float:
    """The sum that :func:`frames_of` rounds."""
    return float((torch.expm1(logs.double()).clamp(min=0) / speeds).sum())


class Voicing:
    """A model that speaks in one voice, sentence after sentence. ``voice`` None: whatever comes."""

    def __init__(self, model: VallM, voice: Voice | None, sampling: Sampling):
        self.model, self.sampling = model, sampling
        self.device = model.ar_predict_layer.weight.device
        c = model.config
        empty = Voice(*(torch.zeros(s, dtype=torch.int64) for s in ((0,), (c.n_codebooks, 0), (0,))))
        symbols, codes, durations = voice or empty
        self.symbols, self.codes = symbols.to(self.device), codes.to(self.device)
        self._durations = None if durations is None else durations.to(self.device)
        self._voice = model.voice(self.codes[None])
        self._guide: Tensor | None = None
        if model.aligned and len(self.symbols):
            assert self._durations is not None
            text = model.read(self.symbols[None])
            self._guide = model.spread(text, self._durations[None]) + self._voice

    def start(self) -> Context | None:
        """Before the first sentence: after the prompt, for models that carry it through all sentences."""
        if not self.model.aligned:
            return None
        context = self.model.begin(self.symbols.new_zeros(1, 0, 1))
        return self.model.prompted(context, self.codes[None, : self.model.n_first], self._guide)

    @torch.inference_mode()
    def say(
        self,
        symbols: Tensor,
        context: Context | None,
        seed: int,
        pace: Pace = Pace(),
        carry: float = 0.0,
        hear: Callable[[Tensor], None] | None = None,
    ) -> Said:
        """The codes of one sentence's ``symbols`` [S]. ``context`` is that after the sentence before.
        ``hear``, for models that know how long a symbol lasts: takes the codes in pieces, as soon as they are
        there."""
        generator = torch.Generator().manual_seed(seed)
        symbols = symbols.to(self.device)
        if self.model.aligned:
            assert context is not None
            return self._aligned(symbols, context, generator, pace, carry, hear)
        assert hear is None
        return self._prefixed(symbols, generator)

    def expected_frames(self, symbols: Tensor, pace: Pace = Pace()) -> float:
        """How long a sentence will be, from its text alone: the length prior of models without durations."""
        if self.model.aligned:
            symbols = symbols.to(self.device)
            logs = self.model.log_durations(self.model.read(symbols[None]))[0]
            return _exact_frames(logs, pace.speeds(symbols))
        each = self.codes.shape[1] / len(self.symbols) if len(self.symbols) else 0.09 * self.rate
        return each * len(symbols)

    @property
    def rate(self) -> int:
        return self.model.config.frame_rate

    def _aligned(
        self,
        symbols: Tensor,
        context: Context,
        generator: torch.Generator,
        pace: Pace,
        carry: float,
        hear: Callable[[Tensor], None] | None,
    ) -> Said:
        model = self.model
        text = model.read(symbols[None])
        logs = model.log_durations(text)[0]
        speeds = pace.speeds(symbols)
        durations, exact = frames_of(logs, speeds, carry), _exact_frames(logs, speeds)
        guide = model.spread(text, durations[None]) + self._voice
        frames, first = guide.shape[1], list[list[int]]()
        prompt = guide[:, :0] if self._guide is None else self._guide
        ends = piece_ends(frames, self.rate) if hear else [frames]
        pieces: list[Tensor] = []
        for start, end in zip([0, *ends], ends, strict=False):
            for t in range(len(first), min(end + round(AHEAD * self.rate), frames)):
                y, states = model.step(context, guide[:, t : t + 1])
                first.append(self._frame(y, first[-self.sampling.window :], generator))
                context = Context(states, context.last.new_tensor([first[-1]]))
            seen = min(start, round(BEHIND * self.rate))
            heard = torch.cat((self.codes[:, :0], *pieces), 1)[:, start - seen :]
            text = torch.cat((prompt, guide[:, start - seen : len(first)]), 1)
            filled = self._fill(text, first[start:], heard)
            pieces.append(filled[:, : end - start])
            if hear:
                hear(pieces[-1])
        rest = carry + exact - len(first)
        return Said(torch.cat(pieces, 1), context, True, max(-0.5, min(0.5, rest)), durations)

    def _frame(self, y: Tensor, recent: list[list[int]], generator: torch.Generator) -> list[int]:
        """The first stage's codes of a frame, of which it made ``y`` [1, d], one after the other."""
        codes: list[int] = []
        for k in range(self.model.n_first):
            before = torch.tensor([codes], dtype=torch.int64, device=self.device)
            logits = self.model.code_logits(y, before)[0, : self.model.config.codebook_size]
            codes.append(draw(logits, self.sampling, [frame[k] for frame in recent], generator))
        return codes

    def _prefixed(self, symbols: Tensor, generator: torch.Generator) -> Said:
        model, end = self.model, self.model.config.codebook_size
        text = model.read(torch.cat((self.symbols, symbols))[None]) + self._voice
        context = model.prompted(model.begin(text), self.codes[None, :1])
        shortest, longest = (max(1, round(len(symbols) * s * self.rate)) for s in FRAMES_A_SYMBOL)
        first: list[int] = []
        while len(first) < longest:
            y, states = model.step(context)
            logits = model.code_logits(y, context.last[:, :0])
            if len(first) < shortest:
                logits[:, end] = -torch.inf
            code = draw(logits[0], self.sampling, first, generator)
            if code == end:
                break
            first.append(code)
            context = Context(states, context.last.new_tensor([[code]]))
        return Said(
            self._fill(text, [[code] for code in first], self.codes[:, :0]), context, len(first) < longest
        )

    def _fill(self, text: Tensor, first: list[list[int]], heard: Tensor) -> Tensor:
        """The second stage's codebooks of frames whose first ones are given: each the likeliest, seen the
        prompt and what was ``heard`` just before [n_codebooks, n]."""
        seen, c = torch.cat((self.codes, heard), 1), self.model.config
        n_prompt = seen.shape[1]
        codes = seen.new_zeros(1, c.n_codebooks, n_prompt + len(first))
        codes[0, :, :n_prompt] = seen
        if first:
            codes[0, : len(first[0]), n_prompt:] = codes.new_tensor(first).T
            for level in range(len(first[0]) - 1, c.n_codebooks - 1):
                asked, prompt = codes.new_tensor([level]), codes.new_tensor([n_prompt])
                logits = self.model.next_logits(text, codes, asked, prompt)
                codes[0, level + 1, n_prompt:] = logits[0, n_prompt:].argmax(-1)
        return codes[0, :, n_prompt:]
