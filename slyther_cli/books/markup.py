"""HTML as blocks of plain words: what a reader aloud would say of it, and how much was left out.

Tables, footnotes, code, formulas and images are left out and counted; menus, scripts, page numbers and what
is hidden are left out without a word. Nothing is lost by bad markup: what an element would take away stays if
the element is never closed. Entities that a document declares are not expanded.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from slyther_cli.books.book import Block
from slyther_cli.books.tags import Tag, tags_and_texts
from slyther_cli.errors import InputError

Attributes = dict[str, str]

_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dir div dl dt fieldset figcaption "  # noqa: SIM905
    "figure footer form h1 h2 h3 h4 h5 h6 header hr html legend li main menu nav ol p pre section summary "
    "table tbody td tfoot th thead tr ul".split()
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905
_UNSAID = frozenset(
    "audio button canvas datalist iframe nav noscript object option rp rt script select style template "  # noqa: SIM905
    "textarea video".split()
)
_NOTES = frozenset("footnote footnotes endnote endnotes rearnote rearnotes".split())  # noqa: SIM905
_MARKS = frozenset("noteref footnote-ref footnote-reference fnref fnanchor footnoteref".split())  # noqa: SIM905
_PAGES = frozenset("pagebreak pagenum page-number pageno".split())  # noqa: SIM905
_NOTE_MARK = re.compile(r"[\[({]?\s*(?:\d{1,4}|[ivxlc]{1,6}|[a-z]|[*†‡§¶#]{1,3})\s*[\])}]?")
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_UNSEEN = re.compile("[\u00ad\u200b\u2060\ufeff\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_DECLARED = re.compile(r"<!DOCTYPE[^>\[]*\[[^\]]*<!ENTITY", re.I)
_CODE = frozenset("{}[]();=<>|\\$#/_+*&^~@")

LONG_CELL = 300
"""Characters of a table's cell from which the table is taken for a page's layout: its text stays."""
CODE_SHARE = 0.06
"""Share of signs from which preformatted text is taken for code, not for verse."""
LONGEST_MARK = 12


@dataclass
class Markup:
    """``blocks`` in the order of the document. ``anchors``: id -> the number of the block at which the
    element with that id begins. ``left_out``: kind -> how many."""

    blocks: list[Block] = field(default_factory=list)
    anchors: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    title: str = ""
    author: str = ""


def read_markup(text: str, name: str) -> Markup:
    """The blocks of an HTML or XHTML document, called ``name`` in errors.

    Raises InputError: it declares entities, which can grow without bound."""
    if _DECLARED.search(text[:100_000]):
        raise InputError(f"{name} declares entities of its own, which can grow without bound: it is not read")
    reader = _Reader()
    for found in tags_and_texts(text):
        reader.take(found)
    return reader.finish()


@dataclass
class _Region:
    """An open element that may be taken away when it ends. ``kind``: what it is; "" is never counted.
    ``block``, ``text``: how much there was of both when it began."""

    tag: str
    kind: str
    attributes: Attributes
    block: int
    text: int
    depth: int = 1
    sign: bool = False  # whether what makes it sure was seen: a heading, code, a superscript
    notes: int = 0
    items: int = 0


class _Reader:
    def __init__(self) -> None:
        self.found = Markup()
        self._text: list[str] = []  # of the open block
        self._level = 0  # of the open heading
        self._raised = 0  # open superscripts
        self._regions: list[_Region] = []

    def take(self, found: Tag | str) -> None:
        """The next tag or text."""
        if isinstance(found, str):
            self._text.append(found)
        elif found.closes:
            self._end(found.name)
        else:
            self._begin(found.name, found.attributes)
            if found.empty and found.name not in _VOID:
                self._end(found.name)

    def _begin(self, tag: str, a: Attributes) -> None:
        if tag == "p" and self._regions and self._regions[-1].tag == "p":
            self._end("p")  # a paragraph ends where the next begins
        if tag in _BLOCKS:
            self._end_block()
        for key in ("id", "name") if tag == "a" else ("id",):
            if a.get(key):
                self.found.anchors.setdefault(a[key], len(self.found.blocks))
        self._sign(tag, a)
        inside = next((region for region in reversed(self._regions) if region.tag == tag), None)
        if inside is not None:
            inside.depth += tag not in _VOID
        elif tag not in _VOID and (kind := _kind(tag, a)) is not None:
            self._regions.append(_Region(tag, kind, a, len(self.found.blocks), len(self._text)))
        if tag in _HEADINGS:
            self._level = int(tag[1])
        elif tag == "br":
            self._text.append("\n")
        elif tag == "sup":
            self._raised += 1
        elif tag == "img":
            self._image(a)
        elif tag == "meta" and a.get("name", "").lower() in ("author", "dc.creator"):
            self.found.author = self.found.author or a.get("content", "")

    def _end(self, tag: str) -> None:
        if tag == "sup":
            self._raised = max(0, self._raised - 1)
        if tag in _BLOCKS:
            self._end_block()
        for number in range(len(self._regions) - 1, -1, -1):
            region = self._regions[number]
            if region.tag == tag:
                region.depth -= 1
                if not region.depth:
                    del self._regions[number:]
                    self._end_region(region)
                break
        if tag in _HEADINGS:
            self._level = 0

    def finish(self) -> Markup:
        """What was found, once all is read."""
        self._end_block()
        return self.found

    # --- blocks ---

    def _end_block(self) -> None:
        text = _UNSEEN.sub("", "".join(self._text))
        self._text.clear()
        if any(region.tag == "pre" for region in self._regions):
            text = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
        else:
            text = " ".join(text.split())
        if text.strip():
            self.found.blocks.append(Block(text, self._level))
            self._level = 0

    # --- what is left out ---

    def _sign(self, tag: str, a: Attributes) -> None:
        """What an element tells of the regions that it is in."""
        note = bool(_names(a) & _NOTES)
        for region in self._regions:
            if region.kind == "footnote":
                region.notes += note
                region.items += tag == "li"
            elif (region.kind, tag) in (("code block", "code"), ("note mark", "sup")) or (
                region.kind == "table" and tag in _HEADINGS
            ):
                region.sign = True

    def _image(self, a: Attributes) -> None:
        letter = a.get("alt", "").strip()
        if len(letter) == 1 and letter.isalpha():  # an initial
            self._text.append(letter)
        else:
            self.found.left_out["image"] += 1

    def _end_region(self, region: _Region) -> None:
        blocks = [block.text for block in self.found.blocks[region.block :]]
        inside = "".join(self._text[region.text :])
        match region.kind:
            case "table":
                sure = region.attributes.get("role") not in ("presentation", "none") and not region.sign
                gone = sure and max(map(len, blocks), default=0) < LONG_CELL
                count = int(bool(blocks))
            case "code block":
                gone = region.sign or "class" in region.attributes or _looks_like_code("\n".join(blocks))
                count = int(bool(blocks))
            case "footnote":
                gone, count = True, region.notes or region.items or 1
                if region.tag in ("a", "sup", "span") and len(inside.strip()) <= LONGEST_MARK:
                    region.kind = "note mark"
            case "note mark":
                gone, count = self._is_mark(region, inside.strip()), 1
            case "title":
                if not self._regions:  # that of a drawing is not the document's
                    self.found.title = self.found.title or inside
                gone, count = True, 0
            case _:
                gone, count = True, int(bool(region.kind))
        if gone and self._take_away(region):
            self.found.left_out[region.kind] += count

    def _is_mark(self, region: _Region, text: str) -> bool:
        if _names(region.attributes) & _MARKS:
            return len(text) <= LONGEST_MARK
        raised = region.sign or self._raised or text[:1] in ("[", "*", "†", "‡", "§")
        return bool(raised and _NOTE_MARK.fullmatch(text))

    def _take_away(self, region: _Region) -> bool:
        """Whether it could be: not if a block that began before it ended within it."""
        if len(self.found.blocks) == region.block:
            del self._text[region.text :]
            return True
        if region.text:
            return False
        del self.found.blocks[region.block :]
        for key in reversed(self.found.anchors):
            if self.found.anchors[key] <= region.block:
                break
            self.found.anchors[key] = region.block
        return True


def _names(a: Attributes) -> set[str]:
    """What an element is called: its EPUB type, its role, its classes."""
    names = f"{a.get('epub:type', '')} {a.get('role', '').replace('doc-', '')} {a.get('class', '')}"
    return {*names.lower().split()}


def _kind(tag: str, a: Attributes) -> str | None:
    """What an element is, if it may be left out: "" is not worth a word."""
    names = _names(a)
    if tag == "title":
        return "title"
    if tag in _UNSAID or "hidden" in a or names & _PAGES or _HIDDEN.search(a.get("style", "")):
        return ""
    if names & _NOTES and tag not in ("html", "body"):
        return "footnote"
    if tag == "a" and ("#" in a.get("href", "") or names & _MARKS):
        return "note mark"
    return {"table": "table", "pre": "code block", "svg": "image", "math": "formula"}.get(tag)


def _looks_like_code(text: str) -> bool:
    signs = sum(c in _CODE for c in text)
    return signs > CODE_SHARE * sum(not c.isspace() for c in text)
