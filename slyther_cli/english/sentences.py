"""Sentences of a text: where a reader would breathe. Plain rules for English; needs nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TITLES = "mr mrs ms dr prof rev st jr sr capt col gen lt sgt gov sen rep hon messrs"
_OTHERS = (
    "mt ft co corp inc ltd no vol pp ch cf approx vs etc fig jan feb mar apr jun jul aug sep sept oct nov dec"
)
ABBREVIATIONS = frozenset(f"{_TITLES} {_OTHERS} e.g i.e ph.d".split())
"""What ends in a full stop and does not end a sentence by it; nor do initialisms: "U.S."."""

ENDING = frozenset(
    "etc inc co corp ltd jr sr st ft ph.d jan feb mar apr jun jul aug sep sept oct nov dec".split()  # noqa: SIM905
)
"""Abbreviations that a sentence may end with. No name follows them that is also a word of ``_BEGINNING``."""

LONGEST = 280
"""Characters of a piece, about 20 s of speech; longer sentences are parted at their commas."""

LONGEST_WORD = 40
_BEGINNING = re.compile(
    r"\s*[\"'“‘(]*(?:The|An?|He|She|It|They|We|You|I|His|Her|Its|Their|Our|My|Your|This|That|These|Those|There|Here|"
    r"Then|When|While|Where|Who|What|Why|How|After|Before|But|And|So|If|In|On|At|As|For|From|With|By|To|Once|Now|Not|"
    r"No|Yes|Yet|Meanwhile|However|Although|Though|Because|Since|Until|Some|Many|Most|All|Both|Each|Every|Another|"
    r"One|Let|Do|Did|Does|Is|Was|Are|Were|Please)\b(?!\.)"
)
_INITIALISM = re.compile(r"(?:[a-z]\.)+[a-z]")
_INCHES = re.compile(r"(?:lbs?|oz|ft|min|sec|hrs?)")  # "5 lb. 3 oz.", before a number
_QUOTED = re.compile(r"^[ \t]*(?:>[ \t]+)+", re.MULTILINE)  # Markdown's and e-mail's
_HEADING = re.compile(r"^[ \t]*(#{1,6}[ \t].*)$", re.MULTILINE)  # Markdown's
_PARAGRAPH = re.compile(
    r"\n[ \t]*\n\s*|\n[ \t]*(?=(?:[-*+•]|\d{1,3}[.)])[ \t])"
)  # or the next item of a list
_END = re.compile(r"(?<![.!?…])([.!?…]+[\"'”’)\]]*)(\s+|$)")


class Sentence(NamedTuple):
    """``text`` is one line. ``last`` tells whether its paragraph ends with it."""

    text: str
    last: bool


def split_sentences(text: str, longest: int = LONGEST) -> Iterator[Sentence]:
    """The sentences of a text, none longer than ``longest`` characters; joined, they are its words. The
    ">" of quoted lines goes.

    >>> [sentence.text for sentence in split_sentences("Mr. Hale rang at 9 a.m. and left. Why?")]
    ['Mr. Hale rang at 9 a.m. and left.', 'Why?']
    """
    for paragraph in _PARAGRAPH.split(_HEADING.sub(r"\n\n\1\n\n", _QUOTED.sub("", text))):
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
        if end[1][0] == "." and not _ends(line, start, end, word, len(words) > 1):
            continue
        if line[start : end.end()].strip():
            yield line[start : end.end()].strip()
        start = end.end()
    if line[start:].strip():
        yield line[start:].strip()


def _ends(line: str, start: int, end: re.Match[str], word: str, more: bool) -> bool:
    """Whether a full stop ends a sentence. ``word`` stands before it, and ``more`` words before that."""
    after = line[end.end() : end.end() + 1]
    if after.islower() or (not start and line[: end.start()].lstrip("# ").isdigit()):
        return False  # the number of an item
    if word == "no":
        return not after.isdigit()
    if after.isdigit() and _INCHES.fullmatch(word):
        return False
    if (len(word) == 1 and word.isalpha() and word != "i") or (
        _INITIALISM.fullmatch(word) and word not in ABBREVIATIONS
    ):
        return more and begins_sentence(line, end.end())  # "J. Smith", "the U.S. Navy"
    if word in ENDING:
        return begins_sentence(line, end.end())
    return word not in ABBREVIATIONS


def begins_sentence(text: str, at: int) -> bool:
    """Whether what stands there begins as a sentence does and as no name does."""
    return bool(_BEGINNING.match(text, at))


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
