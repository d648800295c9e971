"""The files that describe an EPUB: what its documents are, in what order they are read, and how its table of
contents calls them. They are XML, of which no entity is expanded.

Source: EPUB 3.3 and EPUB 2.0.1 (OPF, OCF, NCX).
"""

from __future__ import annotations

import posixpath
import urllib.parse
import xml.parsers.expat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, TreeBuilder

from slyther_cli.books.book import one_line
from slyther_cli.books.tags import Tag, tags_and_texts
from slyther_cli.errors import InputError

CONTAINER, ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
FONTS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Algorithms that scramble fonts and protect no text."""
DOCUMENTS = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "text/x-oeb1-document")

Read = Callable[[str], bytes]
"""Name of a file in the EPUB -> its bytes. Raises InputError."""


class Damaged(InputError):
    """One file of an archive is missing or damaged."""


@dataclass(frozen=True)
class Entry:
    """A line of the table of contents. ``depth`` from 1; ``path`` in the EPUB, ``fragment`` "" for the whole
    document."""

    depth: int
    title: str
    path: str
    fragment: str = ""


@dataclass(frozen=True)
class Package:
    """``spine``: the documents to read, in order; ``beside``: those that the book does not count as a part of
    its reading order; ``contents``: the table of contents; ``menus``: documents that only list it;
    ``lost``: files that should list it, and are missing or damaged."""

    title: str
    author: str
    spine: tuple[str, ...]
    beside: tuple[str, ...]
    contents: tuple[Entry, ...]
    menus: frozenset[str]
    lost: tuple[str, ...] = ()


def parse_xml(data: bytes, name: str) -> Element:
    """The tree of an XML file; tags and attributes without their namespace's prefix.

    Raises Damaged: malformed; InputError: it declares entities, which can grow without bound."""
    tree, parser = TreeBuilder(), xml.parsers.expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise InputError(f"{name} declares entities of its own, which can grow without bound: it is not read")

    def start(tag: str, attributes: dict[str, str]) -> None:
        tree.start(_local(tag), {_local(key): value for key, value in attributes.items()})

    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda tag: tree.end(_local(tag))
    parser.CharacterDataHandler = tree.data
    try:
        parser.Parse(data, True)
        return tree.close()
    except (xml.parsers.expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise Damaged(f"{name} is damaged: {error}") from None


def package_path(read: Read, book: str) -> str:
    """Where the package document is. Raises InputError."""
    root = parse_xml(read(CONTAINER), f"{book}: {CONTAINER}")
    files = [element for element in root.iter("rootfile") if element.get("full-path")]
    best = [e for e in files if e.get("media-type") == "application/oebps-package+xml"] or files
    if not best:
        raise InputError(f"{book}: {CONTAINER} names no package document: the EPUB is damaged")
    return best[0].get("full-path", "")


def read_package(read: Read, book: str) -> Package:
    """What the package document and the table of contents say. Raises InputError: there is nothing to read,
    or one of them is damaged."""
    path = package_path(read, book)
    root = parse_xml(read(path), f"{book}: {path}")
    items = {item.get("id", ""): item for item in root.iter("item") if item.get("href")}
    paths = {key: resolve(path, item.get("href", ""))[0] for key, item in items.items()}
    spine, beside = list[str](), list[str]()
    for reference in root.iter("itemref"):
        key = reference.get("idref", "")
        if key in items and items[key].get("media-type", DOCUMENTS[0]) in DOCUMENTS:
            (beside if reference.get("linear") == "no" else spine).append(paths[key])
    if not spine and not beside:
        raise InputError(f"{book}: {path} names no documents to read: the EPUB is damaged")
    menus = {
        resolve(path, reference.get("href", ""))[0]
        for reference in root.iter("reference")
        if reference.get("type") == "toc"
    }
    contents, lost = _contents(read, items, paths)
    return Package(
        title=_first(root, "title"),
        author=_first(root, "creator"),
        spine=tuple(dict.fromkeys(spine or beside)),
        beside=tuple(dict.fromkeys(beside if spine else ())),
        contents=contents,
        menus=frozenset(menus),
        lost=lost,
    )


def _contents(
    read: Read, items: dict[str, Element], paths: dict[str, str]
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The table of contents, and the files of it that are missing or damaged. Raises InputError."""
    nav = next((k for k, item in items.items() if "nav" in item.get("properties", "").split()), None)
    ncx = next((k for k, i in items.items() if i.get("media-type") == "application/x-dtbncx+xml"), None)
    lost: list[str] = []
    for key, parse in ((nav, _from_nav), (ncx, _from_ncx)):
        if key is not None:
            try:
                if found := parse(read(paths[key]), paths[key]):
                    return tuple(found), tuple(lost)
            except Damaged:
                lost.append(paths[key])
    return (), tuple(lost)


def protected(read: Read, book: str) -> Iterator[str]:
    """The files that are encrypted, but for scrambled fonts. Raises InputError."""
    for data in parse_xml(read(ENCRYPTION), f"{book}: {ENCRYPTION}").iter("EncryptedData"):
        method = data.find("EncryptionMethod")
        if method is None or method.get("Algorithm") not in FONTS:
            yield from (urllib.parse.unquote(e.get("URI", "")) for e in data.iter("CipherReference"))


def resolve(base: str, href: str) -> tuple[str, str]:
    """The path in the EPUB, and the fragment, that ``href`` in the file ``base`` leads to.

    >>> resolve("OPS/book.opf", "text/one%20two.xhtml#here")
    ('OPS/text/one two.xhtml', 'here')
    """
    path, _, fragment = href.partition("#")
    path, fragment = urllib.parse.unquote(path), urllib.parse.unquote(fragment)
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), path)) if path else base, fragment


def _local(name: str) -> str:
    return name.rpartition(":")[2]


def _first(root: Element, tag: str) -> str:
    metadata = root.find("metadata")
    found = root if metadata is None else metadata
    return next((one_line("".join(e.itertext())) for e in found.iter(tag)), "")


def _from_ncx(data: bytes, path: str) -> list[Entry]:
    root = parse_xml(data, path)
    entries, waiting = list[Entry](), [(1, point) for m in root.iter("navMap") for point in m][::-1]
    while waiting:
        depth, point = waiting.pop()
        if point.tag != "navPoint":
            continue
        label, content = point.find("navLabel"), point.find("content")
        if label is not None and content is not None and content.get("src"):
            title = one_line("".join(label.itertext()))
            entries.append(Entry(depth, title, *resolve(path, content.get("src", ""))))
        waiting += [(depth + 1, inner) for inner in point][::-1]
    return entries


def _from_nav(data: bytes, path: str) -> list[Entry]:
    reader = _Nav()
    for found in tags_and_texts(data.decode("utf-8", "replace")):
        reader.take(found)
    entries, href = list[Entry](), ""
    for depth, title, link in reversed(reader.lines):
        href = link or href  # a title without a link is above that which follows
        if href and one_line(title):
            entries.append(Entry(depth, one_line(title), *resolve(path, href)))
    return entries[::-1]


class _Nav:
    """The lines of the navigation document: depth, title, link."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, str]] = []
        self._inside = self._open = False
        self._depth, self._link, self._text = 0, "", list[str]()

    def take(self, found: Tag | str) -> None:
        """The next tag or text."""
        if isinstance(found, str):
            if self._open:
                self._text.append(found)
        elif found.name == "nav":
            self._inside = not found.closes and "toc" in found.attributes.get("epub:type", "toc").split()
        elif found.name in ("ol", "ul") and self._inside:
            self._end()
            self._depth = max(0, self._depth + (-1 if found.closes else 1))
        elif found.closes and found.name in ("a", "li"):
            self._end()
        elif self._inside and self._depth and found.name in ("a", "span") and not found.closes:
            self._open, self._link = True, self._link or found.attributes.get("href", "")

    def _end(self) -> None:
        if self._open:
            self.lines.append((self._depth, "".join(self._text), self._link))
        self._open, self._link = False, ""
        self._text.clear()
