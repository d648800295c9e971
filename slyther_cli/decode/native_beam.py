"""The beam search compiled (native/beam.cpp): the same tokens as ``ctc.BeamDecoder``'s, some twenty times as
fast. It knows our n-gram model; any other language model, and a machine without the compiled extension, is
for ``BeamDecoder``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from slyther_cli.decode.ctc import BeamDecoder, LogProbs
from slyther_cli.decode.ngram import BEGIN, END, UNKNOWN, NGram
from slyther_cli.decode.tokens import Tokenizer
from slyther_cli.decode.words import Token

try:
    from slyther_cli import _native

    _native.Beam  # noqa: B018 - an extension built before there was one
except (ImportError, AttributeError):
    _native = None  # type: ignore[assignment]


def beam_decoder(beam: int = 100, *, lm: Any = None, **options: Any) -> BeamDecoder | CompiledBeam:
    """The fastest decoder that there is here for a ``BeamDecoder``'s arguments, with its errors."""
    plain = BeamDecoder(beam, lm=lm, **options)
    if _native is None or not (lm is None or isinstance(lm, NGram)):
        return plain
    return CompiledBeam(plain, lm)


class CompiledSearch:
    """Drives ``search``, of the extension, as a ``BeamDecoder`` is driven. ``adjusted`` gives
    log-probabilities as they are searched; ``max_delay``: frames that a decision may wait."""

    def __init__(self, search: Any, adjusted: Callable[[LogProbs], LogProbs], max_delay: int | None) -> None:
        self._search, self._adjusted, self.max_delay = search, adjusted, max_delay
        self.score, self._finished = 0.0, False

    def push(self, log_probs: LogProbs) -> list[Token]:
        """Tokens that became final within log_probs [n, vocab]."""
        if self._finished:
            raise ValueError("push after flush")
        found = self._search.feed(np.ascontiguousarray(self._adjusted(log_probs), np.float64))
        return [Token(*row) for row in found]

    def partial(self) -> list[Token]:
        """The best hypothesis beyond the tokens already given out."""
        return [Token(*row) for row in self._search.partial()]

    def flush(self) -> list[Token]:
        """The rest of the best hypothesis, its last word scored. The decoder is used up."""
        tokens, self.score = self._search.finish()
        self._finished = True
        return [Token(*row) for row in tokens]


class CompiledBeam(CompiledSearch):
    """Made of a ``BeamDecoder`` that has not been fed yet, and its language model."""

    def __init__(self, plain: BeamDecoder, lm: NGram | None) -> None:
        tokenizer = plain.tokenizer
        surfaces = _surfaces(tokenizer) if tokenizer and lm is not None else []
        search = _native.Beam(
            beam=plain.beam,
            beam_prune=plain.beam_prune,
            token_prune=plain.token_prune,
            surfaces=surfaces,
            stripped=[surface.strip() for surface in surfaces],
            begins=tokenizer.begins_word.tolist() if tokenizer and lm is not None else [],
            words=None if lm is None else _words(lm),
            lm_weight=plain.lm_weight,
            word_bonus=plain.word_bonus,
            unknown_bonus=plain.unknown_bonus,
            unknown_letter_bonus=plain.unknown_letter_bonus,
            lm_pause=-1 if plain.lm_pause is None else plain.lm_pause,
            max_delay=-1 if plain.max_delay is None else plain.max_delay,
            merge=plain.merge,
        )
        super().__init__(search, plain.adjusted, plain.max_delay)


def _surfaces(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.surface(i) for i in range(tokenizer.size)]


def _words(lm: NGram) -> Any:
    words = lm.words
    special = [words.find(word) for word in (BEGIN, END, UNKNOWN)]
    found = _native.Words(_plain(words.starts, np.uint64), _plain(words.text, np.uint8), *special)
    for level in lm.levels:
        found.add_level(
            _plain(level.keys, np.int64), _plain(level.logp, np.float32), _plain(level.backoff, np.float32)
        )
    return found


def _plain(array: Any, kind: Any) -> Any:
    return np.ascontiguousarray(array, kind)
