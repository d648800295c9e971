"""Whether a language model's words can be written in the alphabet of a recogniser."""

from __future__ import annotations

import numpy as np

from slyther_cli.decode.ngram import SPECIAL, NGram
from slyther_cli.decode.tokens import Tokenizer
from slyther_cli.errors import UsageError

SAMPLE, WRITABLE = 1000, 0.05  # words of a language model that are looked at; share that must be writable


def check_writing(lm: NGram, name: str, alphabet: Tokenizer, model: str) -> None:
    """Raises UsageError if hardly a word of the language model ``name`` can be written in the alphabet of
    ``model``: all that is said would be unknown to it, and one endless unknown word."""
    count = len(lm.words)
    places = np.linspace(0, count - 1, min(count, SAMPLE)).round().astype(int)
    names = [lm.words[i].decode("utf-8", "replace") for i in places]
    words = [word for word in names if word not in SPECIAL]
    if not words or _writable(words, alphabet) >= WRITABLE:
        return
    of = f"the language model {name}: hardly any of its words (as {words[len(words) // 2][:50]!r})"
    for case, other in (("lower", "upper"), ("upper", "lower")):
        if _writable([getattr(word, case)() for word in words], alphabet) >= WRITABLE:
            raise UsageError(
                f"{of} can be written in {model}'s alphabet, which is in {case} case: it seems to be in "
                f"{other} case; make it again from a text in {case} case, or rewrite the words of the ARPA "
                "file so"
            )
    raise UsageError(f"{of} can be written in {model}'s alphabet: is it of another language?")


def _writable(words: list[str], alphabet: Tokenizer) -> float:
    """The share of the words that the alphabet can write."""

    def can(word: str) -> bool:
        try:
            alphabet.encode(word)
        except ValueError:
            return False
        return True

    return sum(map(can, words)) / len(words)
