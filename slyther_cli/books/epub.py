"""EPUB: a ZIP archive of HTML documents, with files that say in what order they are read.

What cannot be read says so: an encrypted book, an archive that unpacks to more than a book, a file that is
damaged. A document that is missing or damaged in a book that is otherwise whole is left out with a note.
"""

from __future__ import annotations

import codecs
import lzma
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from slyther_cli.books.book import (
    Block,
    Book,
    Chapter,
    Piece,
    chapters_of,
    left_out_notes,
    one_line,
    pieces_by_headings,
    together,
)
from slyther_cli.books.markup import Markup, read_markup
from slyther_cli.books.package import CONTAINER, ENCRYPTION, Damaged, Entry, Package, protected, read_package
from slyther_cli.errors import InputError, escaped

LARGEST_FILE = 32 << 20
LARGEST_BOOK = 200 << 20
"""Bytes that one file of an EPUB, and all that are read, may unpack to. A million words are 6 MB."""
MOST_FILES = 100_000
TITLE_PAGE = 400
"""Characters up to which a document that holds others is the title page of a part: a title, and a motto."""
SHOWN = 3  # names in a note

_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    ValueError,
    struct.error,
    OSError,
)
_ENCODING = re.compile(
    rb"""<\?xml[^>]*?encoding\s*=\s*["']([\w.-]+)|<meta[^>]*?charset\s*=\s*["']?([\w.-]+)"""
)
_ENCODINGS = re.compile(
    "utf[-_]?(8|16|32)|(us-)?ascii|iso[-_]?8859|latin|windows-|cp|gb|big5|shift|euc|koi8|mac"
)
"""The names of those that documents have. Python knows others, of which some take endless time."""
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_epub(file: BinaryIO, name: str) -> Book:
    """The book in an open EPUB file, called ``name`` in errors. Raises InputError."""
    try:
        archive = zipfile.ZipFile(file)
    except _BROKEN as error:
        raise InputError(f"{name}: is no EPUB, or damaged: {error}") from None
    with archive:
        return _Epub(archive, name).book()


class _Epub:
    def __init__(self, archive: zipfile.ZipFile, name: str) -> None:
        self.archive, self.name = archive, name
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        self.unpacked = 0
        self.lost: list[str] = []  # documents that are missing or damaged
        if len(self.entries) > MOST_FILES:
            raise InputError(f"{name}: {len(self.entries):,} files in it are no book")
        if CONTAINER not in self.entries:
            raise InputError(f"{name}: is a ZIP archive, but no EPUB: {CONTAINER} is not in it")

    def book(self) -> Book:
        """All chapters. Raises InputError."""
        locked = [*protected(self.read, self.name)] if ENCRYPTION in self.entries else []
        package = read_package(self.read, self.name)
        self.lost += map(escaped, package.lost)
        if {*locked} & {*package.spine}:
            raise InputError(
                f"{self.name}: is protected against copying (DRM): no program but its seller's can read it"
            )
        blocks: list[Block] = []
        places: dict[tuple[str, str], int] = {}
        counts: Counter[str] = Counter()
        for path in package.spine:
            places.setdefault((path, ""), len(blocks))
            if path in package.menus:
                continue
            found = self.document(path)
            for anchor, at in found.anchors.items():
                places.setdefault((path, anchor), len(blocks) + at)
            blocks += found.blocks
            counts += found.left_out
        notes = left_out_notes(counts) + self.notes(package)
        if not blocks:
            raise InputError(f"{self.name}: there is no text in it" + "".join(f"; {note}" for note in notes))
        chapters = chapters_of(_pieces(blocks, package.contents, places), TITLE_PAGE)
        if chapters and not chapters[0].title and len(chapters) > 1:
            chapters = (Chapter(package.title, chapters[0].text), *chapters[1:])
        return Book(chapters, package.title, package.author, tuple(notes))

    def notes(self, package: Package) -> list[str]:
        notes = []
        if self.lost:
            some = ", ".join(self.lost[:SHOWN]) + (" ..." if len(self.lost) > SHOWN else "")
            notes.append(f"missing or damaged in the book, left out: {some}")
        if beside := [path for path in package.beside if path not in package.menus]:
            some = ", ".join(map(escaped, beside[:SHOWN])) + (" ..." if len(beside) > SHOWN else "")
            notes.append(f"not in the book's reading order, left out: {some}")
        return notes

    def document(self, path: str) -> Markup:
        """What is in a document; nothing if it is missing or damaged. Raises InputError: it is larger than a
        book, or declares entities."""
        try:
            text = decoded(self.read(path))
        except Damaged:
            self.lost.append(escaped(path))
            return Markup()
        return read_markup(text, f"{self.name}: {escaped(path)}")

    def read(self, path: str) -> bytes:
        """A file of the archive. Raises InputError: it is missing, damaged, encrypted or too large."""
        shown = f"{self.name}: {escaped(path)}"
        entry = self.entries.get(path)
        if entry is None:
            raise Damaged(f"{shown} is not in it: the EPUB is damaged")
        if entry.flag_bits & 1:
            raise InputError(f"{shown} is encrypted: the book cannot be read")
        try:
            with self.archive.open(entry) as file:
                data = file.read(LARGEST_FILE + 1)
        except _BROKEN as error:
            raise Damaged(f"{shown} is damaged: {error}") from None
        self.unpacked += len(data)
        if len(data) > LARGEST_FILE or self.unpacked > LARGEST_BOOK:
            raise InputError(f"{shown}: unpacks to more than a book can have: it is not read")
        return data


def decoded(data: bytes) -> str:
    """The text of a document, in the encoding that it names; UTF-8 if it names none. Raises InputError: it is
    in another."""
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "")
    if not encoding:
        named = _ENCODING.search(data[:4096])
        encoding = (named[1] or named[2]).decode("ascii") if named else "utf-8"
    try:
        if not _ENCODINGS.match(encoding.lower()):
            raise LookupError
        return data.decode(encoding)
    except (LookupError, UnicodeDecodeError):
        raise Damaged(f"its text is not {escaped(encoding)}") from None


def _pieces(
    blocks: list[Block], contents: tuple[Entry, ...], places: dict[tuple[str, str], int]
) -> Iterator[Piece]:
    """The blocks, parted where the table of contents says; where it says too little, at headings."""
    found = [
        (places.get((e.path, e.fragment), places.get((e.path, ""), -1)), e) for e in contents if e.depth < 3
    ]
    starts = sorted(((at, entry) for at, entry in found if at >= 0), key=lambda pair: pair[0])
    if len(starts) < 2:
        yield from pieces_by_headings(blocks)
        return
    yield Piece(0, "", together(blocks[: starts[0][0]]))
    ends = [at for at, _ in starts[1:]] + [len(blocks)]
    for (at, entry), end in zip(starts, ends, strict=True):
        yield Piece(entry.depth, one_line(entry.title), together(blocks[at:end]))
