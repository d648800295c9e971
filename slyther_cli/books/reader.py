"""What kind of book a file is, and reading it."""

from __future__ import annotations

import io
import os
from pathlib import Path

from slyther_cli.books.book import Book
from slyther_cli.books.epub import decoded, read_epub
from slyther_cli.books.text import read_html, read_markdown, read_plain
from slyther_cli.errors import InputError, escaped

LARGEST = 200 << 20  # bytes of a text
HTML = (".html", ".htm", ".xhtml", ".xht")
MARKDOWN = (".md", ".markdown", ".mkd")
FOREIGN = (
    (0, b"%PDF", "a PDF, which has lines but no text to read in order: convert it to EPUB or text"),
    (60, b"BOOKMOBI", "a Kindle book: convert it to EPUB, with Calibre for instance"),
    (60, b"TEXtREAd", "a Palm book: convert it to EPUB, with Calibre for instance"),
    (0, b"{\\rtf", "RTF: save it as text, HTML or EPUB"),
    (0, b"\xd0\xcf\x11\xe0", "an old Word document: save it as text, HTML or EPUB"),
)


def read_book(path: str | os.PathLike[str]) -> Book:
    """The book in a file: EPUB, HTML (.html, .htm, .xhtml), Markdown (.md, .markdown) or UTF-8 text.

    Raises InputError: it cannot be read, is no text, protected, damaged, or larger than a book."""
    name = escaped(os.fspath(path))
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return read_epub(file, name)
            file.seek(0)
            return read_bytes(file.read(LARGEST + 1), name, Path(path).suffix.lower())
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {(error.strerror or str(error)).lower()}") from None


def read_bytes(data: bytes, name: str, suffix: str = "") -> Book:
    """The same of bytes; ``suffix`` is that of the file's name."""
    if data[:4] == b"PK\x03\x04":
        return read_epub(io.BytesIO(data), name)
    if len(data) > LARGEST:
        raise InputError(f"{name}: larger than {LARGEST >> 20} MB: part it")
    for at, mark, what in FOREIGN:
        if data[at : at + len(mark)] == mark:
            raise InputError(f"{name}: is {what}")
    if suffix in HTML:
        try:
            return read_html(decoded(data), name)
        except InputError as error:
            raise InputError(f"{name}: {error}" if not str(error).startswith(name) else str(error)) from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None
    return read_markdown(text, name) if suffix in MARKDOWN else read_plain(text)
