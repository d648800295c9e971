"""Words that are spelled alike and read in two ways: "read", "live", "record", "Polish".

``heteronyms_en.txt`` has their readings. The kind of word that its neighbours ask for (``word_classes``)
decides, with cues near by where both readings are of one kind ("bow", "bass").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slyther_cli.english.normalise import MARKS
from slyther_cli.english.word_classes import class_scores

CUE = 4.0  # nats
PLURAL = re.compile(r"(?!(?:is|was|as|has|does|his|its|yes|perhaps|always)$)[a-z]+(?<![su'i])s")
CERTAIN = 20.0  # nats; a capital, or none
Phones = tuple[str, ...]


class Reading(NamedTuple):
    """``classes``: what kinds of word it is. ``cues`` are searched in the words of a sentence."""

    phones: Phones
    classes: str
    capital: bool = False
    prior: float = 0.0
    cues: re.Pattern[str] | None = None


@lru_cache(maxsize=1)
def readings() -> dict[str, list[Reading]]:
    """Word -> its readings; with the forms in "s" of words that are nouns in one, verbs in the other."""
    found: dict[str, list[Reading]] = {}
    text = (Path(__file__).parent / "heteronyms_en.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        if line and not line.startswith("#"):
            word, phones, kinds, cues = (*line.split("  "), "")[:4]
            classes, _, prior = kinds.partition(" ")
            pattern = "|".join(cues.split()).replace("_", " ")
            reading = Reading(
                tuple(phones.split()),
                classes.rstrip("^"),
                classes.endswith("^"),
                float(prior or 0),
                re.compile(rf"\b(?:{pattern})\b") if pattern else None,
            )
            found.setdefault(word, []).append(reading)
    for word, ways in list(found.items()):
        forms = [
            Reading(with_s(way.phones), kinds)
            for way in ways
            for noun_or_verb, kinds in (("N", "P"), ("V", "Z"))
            if noun_or_verb in way.classes
        ]
        if len({way.phones for way in forms}) > 1:
            found.setdefault(f"{word}s", forms)
    return found


def with_s(phones: Phones) -> Phones:
    """With the ending of the plural, of the third person, or of possession."""
    if phones[-1] in ("S", "Z", "SH", "ZH", "CH", "JH"):
        return (*phones, "AH0", "Z")
    return (*phones, "S" if phones[-1] in ("P", "T", "K", "F", "TH") else "Z")


def choose_readings(words: Sequence[str], text: str = "") -> dict[int, Phones]:
    """The phones of the heteronyms among the normalised ``words``, some of which end in a mark, by their
    places. ``text``: the sentence as it is written, which tells of capitals."""
    table = readings()
    plain = [word.rstrip(MARKS) for word in words]
    places = [i for i, word in enumerate(plain) if word in table or word.removesuffix("'s") in table]
    if not places:
        return {}
    tokens: list[str] = []
    at: dict[int, int] = {}
    for i, word in enumerate(words):
        at[i] = len(tokens)
        tokens += [plain[i], *word[len(plain[i]) :]]
    chosen = {}
    for i in places:
        word = plain[i] if plain[i] in table else plain[i].removesuffix("'s")
        capital = (
            _capital(text, word, plain[:i].count(plain[i])) if any(r.capital for r in table[word]) else None
        )
        scores = class_scores(tokens, at[i])
        many = i > 0 and PLURAL.fullmatch(words[i - 1])
        if many and not any("D" in reading.classes for reading in table[word]):
            scores["V"] = max(scores["V"], scores["D"])  # after "the boys" novels have "went", hardly "go"
        if word != plain[i]:
            scores["N"] += CUE  # "the wind's", of somebody or something
        near = " ".join(plain[max(0, i - 8) : i + 9])
        best = max(table[word], key=lambda reading: _score(reading, scores, near, capital))
        chosen[i] = best.phones if word == plain[i] else with_s(best.phones)
    return chosen


def _score(reading: Reading, scores: dict[str, float], near: str, capital: bool | None) -> float:
    kinds = [scores[kind] for kind in reading.classes]
    score = reading.prior + (max(kinds) if kinds else min(scores.values()) - CERTAIN)
    if reading.cues is not None and reading.cues.search(near):
        score += CUE
    if capital is not None and reading.capital:
        score += 2 * CERTAIN if capital else -2 * CERTAIN
    return score


def _capital(text: str, word: str, before: int) -> bool | None:
    """Whether the word, after ``before`` others like it, has a capital; None where every word has one: at the
    beginning of a sentence, in capitals."""
    found = list(re.finditer(rf"(?i)\b{word}\b", text))
    if before >= len(found) or found[before][0].isupper():
        return None
    start = found[before].start()
    if not re.search(r"[^\W_]", text[:start]) or re.search(r"[.?!:][\"'”’)\]]*\s+[\"'“‘(\[]*$", text[:start]):
        return None
    return found[before][0][0].isupper()
