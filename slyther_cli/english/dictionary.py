"""The CMU Pronouncing Dictionary as it comes with slyther, and the spelling rules learnt from it.

Both files begin with the dictionary's licence."""

from __future__ import annotations

import lzma
from functools import lru_cache
from pathlib import Path


@lru_cache(maxsize=1)
def lexicon() -> tuple[dict[str, str], dict[str, str]]:
    """Words and rules -> phones."""
    text = lzma.decompress((Path(__file__).parent / "lexicon_en.xz").read_bytes()).decode()
    words, _, rules = text.partition("\n\n")
    pairs = (line.partition(" ") for line in words.split("\n") if not line.startswith("#"))
    return {w: p for w, _, p in pairs}, {k: p for k, _, p in (r.partition(" ") for r in rules.split("\n"))}


@lru_cache(maxsize=1)
def variants() -> dict[str, list[tuple[str, ...]]]:
    """Words -> their pronunciations beside the first one, without stress."""
    text = lzma.decompress((Path(__file__).parent / "variants_en.xz").read_bytes()).decode()
    found: dict[str, list[tuple[str, ...]]] = {}
    for line in text.split("\n"):
        word, *phones = line.split()
        if word != "#":
            found.setdefault(word, []).append(tuple(phones))
    return found
