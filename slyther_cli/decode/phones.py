"""The phones of English as the units of a recogniser: ARPAbet without stress, told apart at a word's start.

The first phone of a word is another unit than the same phone within it, so a row of units says where words
begin. Words get their phones from the dictionary or by the spelling rules (:mod:`.phonemes`); which words a
row of phones may be is the business of a lexicon (:mod:`.lexicon_beam`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from slyther_cli.decode.tokens import BLANK, Tokenizer, _write
from slyther_cli.english.phonemes import CONSONANTS, VOWELS, pronounce

PHONES = (*VOWELS, *CONSONANTS)
SPELT = dict(
    AA="ao", AE="a", AH="ua", AO="o", AW="ow", AY="i", EH="e", ER="er", EY="a", IH="i", IY="e", OW="o",
    OY="o", UH="u", UW="uo", B="b", CH="c", D="d", DH="t", F="f", G="g", HH="h", JH="jg", K="ck", L="l",
    M="m", N="n", NG="n", P="p", R="r", S="s", SH="s", T="t", TH="t", V="v", W="w", Y="y", Z="sz", ZH="s",
)  # fmt: skip
"""Phone -> letters that often spell it."""
WORD = re.compile("[a-z']*[a-z][a-z']*")


class PhoneTokenizer(Tokenizer):
    """Ids 1 to 39: the first phone of a word; 40 to 78: the same phones within one. They are shown as "K" and
    "-AE": "K-AE-T" is a word."""

    def __init__(self, case: str = "lower") -> None:
        self._set(["", *(f" {p}" for p in PHONES), *(f"-{p}" for p in PHONES)], case)

    def encode(self, text: str) -> list[int]:
        """The ids of normalised words, each in its first pronunciation. Raises ValueError for a word that is
        not written in English letters."""
        return [i for word in text.split() for i in spelt(word.lower())]

    def save(self, folder: Path) -> None:
        _write(folder, {"type": "phones", "case": self.case, "phones": list(PHONES)})


_NUMBERS = {phone: i for i, phone in enumerate(PHONES, BLANK + 1)}


def units(phones: Sequence[str]) -> tuple[int, ...]:
    """Phones of a word, with or without stress -> ids. Raises KeyError for what is no phone."""
    numbers = [_NUMBERS[phone.rstrip("012")] for phone in phones]
    return (*numbers[:1], *(i + len(PHONES) for i in numbers[1:]))


@lru_cache(maxsize=2**16)
def spelt(word: str) -> tuple[int, ...]:
    """The ids of a word in small letters. Raises ValueError when nothing says how it sounds."""
    if not WORD.fullmatch(word):
        raise ValueError(f"{word!r} is not written in English letters")
    return units(pronounce(word)[0])
