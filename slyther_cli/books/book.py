"""What a book is to speech: a title, an author, and chapters, each with its title and its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

FRONT = 400
"""Characters up to which what comes before the first title is a title page, and not a chapter of its own."""
LONGEST_TITLE = 200


@dataclass(frozen=True)
class Chapter:
    """``title`` is one line, "" where there is none. ``text`` has empty lines between its paragraphs, and its
    heading where the book prints one."""

    title: str
    text: str


@dataclass(frozen=True)
class Book:
    """``notes``: what of it will not be heard, a sentence each."""

    chapters: tuple[Chapter, ...]
    title: str = ""
    author: str = ""
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n\n".join(chapter.text for chapter in self.chapters)


class Block(NamedTuple):
    """A paragraph, or a heading of ``level`` 1 to 6."""

    text: str
    level: int = 0


class Piece(NamedTuple):
    """What stands between two titles. ``depth``: 1 for the title of a chapter or a part, 2 for one below it,
    0 for what comes before the first."""

    depth: int
    title: str
    text: str


def chapters_of(pieces: Iterable[Piece], title_page: int = 0) -> tuple[Chapter, ...]:
    """The chapters that pieces make. All text of the pieces is in them, in order.

    Pieces of depth 2 are chapters where most of what holds them are title pages of parts; else they are
    sections, and belong to its chapter. A title page has its title alone, or ``title_page`` characters at
    most. A piece of no more than its own title, and a short one before the first title, go to the beginning
    of the next one.
    """
    out: list[Chapter] = []
    waiting: list[str] = []  # of title pages
    for title, texts in _joined(list(pieces), title_page):
        text = "\n\n".join(filter(None, texts))
        if not text:
            continue
        if _letters(text) == _letters(title) or not (out or title or len(text) > FRONT):
            waiting.append(text)
        else:
            out.append(Chapter(title, "\n\n".join([*waiting, text])))
            waiting = []
    if waiting and out:
        out[-1] = Chapter(out[-1].title, "\n\n".join([out[-1].text, *waiting]))
    elif waiting:
        out.append(Chapter("", "\n\n".join(waiting)))
    return tuple(out)


def _joined(pieces: Sequence[Piece], title_page: int) -> Iterator[tuple[str, list[str]]]:
    """Titles, and the texts below each, once it is known which pieces are chapters."""
    holding = [i for i, (a, b) in enumerate(pairwise(pieces)) if a.depth == 1 and b.depth > 1]
    parts = {i for i in holding if _is_title_page(pieces[i], title_page)}
    apart = 2 * len(parts) > len(holding)
    title, texts, held = "", list[str](), False
    for i, piece in enumerate(pieces):
        if apart and i - 1 in parts:
            title = piece.title
        elif apart or piece.depth < 2 or not held:
            yield title, texts
            title, texts = piece.title, []
        texts.append(piece.text)
        held = held or piece.depth == 1
    yield title, texts


def _is_title_page(piece: Piece, longest: int) -> bool:
    return len(piece.text) <= longest or _letters(piece.text) == _letters(piece.title)


def pieces_by_headings(blocks: Sequence[Block]) -> list[Piece]:
    """The pieces of blocks without a table of contents: parted at the first level of headings that has
    several, and at the next level below it."""
    counts = Counter(block.level for block in blocks if block.level)
    levels = sorted(counts)
    top = next((level for level in levels if counts[level] > 1), levels[0] if levels else 0)
    below = next((level for level in levels if level > top), 0)
    pieces, begun = list[Piece](), 0
    depth, title = 0, ""
    for at, block in enumerate([*blocks, Block("", top)]):
        if block.level and block.level in (top, below):
            pieces.append(Piece(depth, title, together(blocks[begun:at])))
            begun, depth, title = at, 1 if block.level == top else 2, one_line(block.text)
    if not levels:
        pieces.append(Piece(0, "", together(blocks)))
    return pieces


def together(blocks: Iterable[Block]) -> str:
    """Blocks as a text with empty lines between its paragraphs."""
    return "\n\n".join(block.text for block in blocks)


def one_line(text: str) -> str:
    """A title as one printable line that is not too long."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 3] + "..."


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def left_out_notes(counts: Counter[str]) -> list[str]:
    """``counts``: kind -> how many were left out. One sentence, or none. Marks of notes go with their notes:
    they are told where no notes were found.

    >>> left_out_notes(Counter({"table": 2, "image": 1}))
    ['left out, since they cannot be read aloud: 2 tables, 1 image']
    """
    told = {k: n for k, n in counts.items() if n and k and not (k == "note mark" and counts["footnote"])}
    kinds = [f"{n} {kind}{'s' * (n != 1)}" for kind, n in told.items()]
    return [f"left out, since they cannot be read aloud: {', '.join(kinds)}"] if kinds else []
