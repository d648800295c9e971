"""Sentences of a text: where a reader would breathe. Plain rules for English; needs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TITLES = "mr mrs ms dr prof rev st jr sr capt col gen lt sgt gov sen rep hon messrs"
_OTHERS = (
    "mt ft co corp inc ltd no vol pp ch cf approx vs etc fig jan feb mar apr jun jul aug sep sept oct nov dec"
)
ABBREVIATIONS = frozenset(f"{_TITLES} {_OTHERS} e.g i.e a.m p.m u.s u.k".split())
"""What ends in a full stop and does not end a sentence by it."""

LONGEST = 280
"""Characters of a piece, about 20 s of speech; longer sentences are parted at their commas."""

LONGEST_WORD = 40
_HEADING = re.compile(r"^[ \t]*(#{1,6}[ \t].*)$", re.MULTILINE)  # Markdown's
_PARAGRAPH = re.compile(
    r"\n[ \t]*\n\s*|\n[ \t]*(?=(?:[-*+•]|\d{1,3}[.)])[ \t])"
)  # or the next item of a list
_END = re.compile(r"([.!?…]+[\"'”’)\]]*)(\s+|$)")


class Sentence(NamedTuple):
    """``text`` is one line. ``last`` tells whether its paragraph ends with it."""

    text: str
    last: bool


def split_sentences(text: str, longest: int = LONGEST) -> Iterator[Sentence]:
    """The sentences of a text, none longer than ``longest`` characters; joined, they are its words."""
    for paragraph in _PARAGRAPH.split(_HEADING.sub(r"\n\n\1\n\n", text)):
        line = " ".join(paragraph.split())
        if not line:
            continue
        pieces = [piece for sentence in _at_ends(line) for piece in part(sentence, longest)]
        for number, piece in enumerate(pieces):
            yield Sentence(piece, number == len(pieces) - 1)


def _at_ends(line: str) -> Iterator[str]:
    start = 0
    for end in _END.finditer(line):
        words = line[max(start, end.start() - LONGEST_WORD) : end.start()].split()
        word = words[-1].lstrip("\"'“‘([").lower() if words else ""
        stop = end[1][0] == "."
        if stop and (word in ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")):
            continue  # "Mr. Hale", "J. Smith"
        if stop and (line[end.end() :][:1].islower() or (not start and line[: end.start()].isdigit())):
            continue  # the number of an item
        if line[start : end.end()].strip():
            yield line[start : end.end()].strip()
        start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def part(sentence: str, longest: int = LONGEST) -> Iterator[str]:
    """The sentence in pieces of ``longest`` characters at most: parted at the last pause that fits, else at
    the last space, else in the middle of a word."""
    while len(sentence) > longest:
        head = sentence[: longest + 1]
        at = max((head.rfind(mark) + len(mark) - 1 for mark in ("; ", ": ", ", ", " - ", "— ")), default=0)
        if at < longest // 4:
            at = head.rfind(" ")
        if at < 1:
            at = longest
        yield sentence[:at].strip()
        sentence = sentence[at:].strip()
    if sentence:
        yield sentence
