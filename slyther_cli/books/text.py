"""Markdown and plain text as books."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from slyther_cli.books.book import Book, Piece, chapters_of, left_out_notes, one_line, pieces_by_headings
from slyther_cli.books.markup import Markup, read_markup
from slyther_cli.english.markup import without_markup

_FRONT = re.compile(r"---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FIELD = re.compile(r"^(title|author):[ \t]*(.+)$", re.MULTILINE | re.I)
_NOTE = re.compile(r"^ {0,3}\[\^[^\]\n]{1,80}\]:.*(?:\n(?![ \t]*\n|[ ]{0,3}\[\^).*)*", re.MULTILINE)
_NOTE_MARK = re.compile(r"\[\^[^\]\s]{1,80}\]")
_NUMBER = (
    r"(?:\d{1,4}|[ivxlc]+|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen|seventeen|eighteen|nineteen|(?:twenty|thirty|forty|fifty)(?:[- ]\w+)?|"
    r"the (?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last))"
)
_NUMBERED = re.compile(rf"(?:(part|book|volume)|chapter|letter|canto|act|stave)\s+{_NUMBER}(?![\w'’])", re.I)
_NAMED = re.compile(r"(?:prologue|epilogue|preface|introduction|foreword|afterword|conclusion)[.:]?", re.I)
_AFTER = re.compile(r"$|\s*[.:;,(—–-]|\s+[\"'“‘]?[A-Z](?!.*[.]$)")
_PARAGRAPH = re.compile(r"(?:^|(?<=\n))[^\S\n]*\S.*(?:\n[^\S\n]*\S.*)*")
_HASHES = re.compile(r"(#{1,6})[ \t]+\S")
HEADING_LINES, HEADING_LENGTH = 3, 160
PART_PAGE = 200  # characters between "Book One" and its first chapter that are not a chapter of their own


def read_html(text: str, name: str) -> Book:
    """A web page. Raises InputError."""
    return _of_markup(read_markup(text, name))


def read_markdown(text: str, name: str) -> Book:
    """CommonMark with tables, by markdown-it-py, which comes with rich. Its front matter gives title and
    author; footnotes are left out. Raises InputError."""
    from markdown_it import MarkdownIt

    text = text.replace("\r\n", "\n")
    fields: dict[str, str] = {}
    if front := _FRONT.match(text):
        text = text[front.end() :]
        fields = {key.lower(): value.strip("\"' ") for key, value in _FIELD.findall(front[1])}
    text, notes = _NOTE.subn("", text)
    text, marks = _NOTE_MARK.subn("", text)
    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.add_render_rule("code_block", _indented)
    found = read_markup(parser.render(text), name)
    found.left_out.update({"footnote": notes, "note mark": marks})
    found.title, found.author = fields.get("title", found.title), fields.get("author", found.author)
    return _of_markup(found)


def read_plain(text: str) -> Book:
    """Plain text. Chapters begin where a paragraph is only a title: "Chapter IV", "Part One", "Preface", or a
    line of Markdown ("# ..."). Tags of SSML and HTML are taken out and told."""
    text, tags = without_markup(text)
    notes = [f"markup is not understood here, left out: {', '.join(tags)}"] if tags else []
    found = [(m.start(), *_heading(m[0])) for m in _PARAGRAPH.finditer(text)]
    starts = [(at, depth, title) for at, depth, title in found if depth]
    top = min((depth for _, depth, _ in starts), default=1)
    ends = [at for at, _, _ in starts] + [len(text)]
    pieces = [Piece(0, "", text[: ends[0]].strip("\n"))]
    for (at, depth, title), end in zip(starts, ends[1:], strict=True):
        pieces.append(Piece(min(2, depth - top + 1), title, text[at:end].strip("\n")))
    return Book(chapters_of(pieces, PART_PAGE), notes=tuple(notes))


def _of_markup(found: Markup) -> Book:
    chapters = chapters_of(pieces_by_headings(found.blocks))
    notes = left_out_notes(found.left_out)
    return Book(chapters, one_line(found.title), one_line(found.author), tuple(notes))


def _indented(renderer: Any, tokens: Any, index: int, options: Any, env: Any) -> str:
    """An indented block, which in a book is as often verse: HTML that does not say that it is code."""
    return f"<pre>{escape(tokens[index].content)}</pre>"


def _heading(paragraph: str) -> tuple[int, str]:
    """The depth of the title that a paragraph is, and the title; 0 if it is none."""
    lines = [line.strip() for line in paragraph.strip().split("\n")]
    if hashes := _HASHES.match(lines[0]):
        return len(hashes[1]), one_line(lines[0].strip("# \t"))
    if len(lines) > HEADING_LINES or len(paragraph) > HEADING_LENGTH:
        return 0, ""
    numbered = _NUMBERED.match(lines[0].strip("*_ "))
    if numbered and _AFTER.match(lines[0].strip("*_ ")[numbered.end() :]):
        return 1 if numbered[1] else 2, one_line(" ".join(lines).strip("*_ "))
    return (2, one_line(lines[0])) if len(lines) == 1 and _NAMED.fullmatch(lines[0]) else (0, "")
