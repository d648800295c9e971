"""What training a recogniser begins with: an alphabet, weights for letters turned into some for phones."""

from __future__ import annotations

from typing import Any

import torch

from slyther_cli.decode.phones import PHONES, SPELT, PhoneTokenizer
from slyther_cli.decode.tokens import BLANK, CharTokenizer, SentencePieceTokenizer, Tokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models import registry


def phones_for_letters(
    model: Any, architecture: str, settings: dict[str, Any], letters: Tokenizer
) -> tuple[Any, dict[str, Any]]:
    """A network that writes letters -> the same one with an output layer for phones, and its settings. What
    tells a phone is at first what told the letters that often spell it; blank stays blank."""
    if model.has_decoder or not isinstance(letters, CharTokenizer):
        raise UsageError('[text] units = "phones" beside start_from: of a model of letters without a decoder')
    rows = [[BLANK], *(letters.encode(SPELT[phone]) for phone in PHONES)]
    rows += rows[1:]  # at a word's start, and within it
    settings = {**settings, "vocab": len(rows)}
    other = registry.build(architecture, settings)
    state = dict(model.state_dict())
    for name in ("ctc_lin.w.weight", "ctc_lin.w.bias"):
        state[name] = torch.stack([state[name][row].mean(0) for row in rows])
    other.load_state_dict(state)
    return other, settings


def new_tokenizer(units: str, size: int, lines: list[str], ends: bool) -> Any:
    """An alphabet of ``units``, see TextConfig. ``ends``: with tokens for a text's start and end, which
    SentencePiece's have anyway."""
    if units == "characters":
        return CharTokenizer(ends=ends)
    if units == "phones":
        if ends:
            raise UsageError('[text] units = "phones" are for models without a decoder')
        return PhoneTokenizer()
    try:
        return SentencePieceTokenizer.train(lines, size, kind=units)
    except ValueError as error:
        raise UsageError(f"[text] {error}") from None
