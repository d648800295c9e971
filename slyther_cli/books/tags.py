"""The tags and texts of an HTML or XHTML document, in time that grows with its length alone.

html.parser of older Pythons takes minutes for some kilobytes of tags that are never closed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z][^\s/>]*")
_ATTRIBUTE = re.compile(r"[\s/]*([^\s/>=]+)?\s*(=\s*)?")
_BARE = re.compile(r"[^\s>]*")
_RAW = {name: re.compile(f"</{name}", re.I) for name in ("script", "style")}


class Tag(NamedTuple):
    """``name`` in small letters, without a namespace's prefix. ``closes``: it is an end tag; ``empty``: it
    ends the element that it begins ("<br/>")."""

    name: str
    attributes: dict[str, str] = {}  # noqa: RUF012 - never changed
    closes: bool = False
    empty: bool = False


def tags_and_texts(text: str) -> Iterator[Tag | str]:
    """What a document consists of, in order; comments, declarations and instructions left out. What looks
    like a tag and never ends is text."""
    at, endless = 0, set[str]()
    while (begin := text.find("<", at)) >= 0:
        if begin > at:
            yield unescape(text[at:begin])
        mark, end = next(
            ((m, e) for m, e in (("<!--", "-->"), ("<![CDATA[", "]]>")) if text.startswith(m, begin)),
            ("", ">"),
        )
        close = -1 if end in endless else text.find(end, begin + len(mark))
        if close < 0:
            endless.add(end)
            if not mark:
                break  # no tag can follow
            at = begin + len(mark)
            continue
        name = _NAME.match(text, begin + 1 + text.startswith("/", begin + 1))
        if mark:
            at = close + len(end)
            if mark == "<![CDATA[":
                yield text[begin + len(mark) : close]
        elif text[begin + 1] in "!?":
            at = close + 1
        elif name is None:
            at = begin + 1
            yield "<"
        elif text[begin + 1] == "/":
            at = close + 1
            yield Tag(_local(name[0]), closes=True)
        else:
            tag, at = _start(text, _local(name[0]), name.end(), close)
            yield tag
            if tag.name in _RAW and not tag.empty:
                over = _RAW[tag.name].search(text, at)
                at = over.start() if over else len(text)
    if at < len(text):
        yield unescape(text[at:])


def _start(text: str, name: str, at: int, first: int) -> tuple[Tag, int]:
    """The start tag whose name ends ``at``, and where it ends: by the ``first`` ">" after it if its quotes
    are wrong."""
    attributes: dict[str, str] = {}
    while at < len(text) and text[at] != ">":
        match = _ATTRIBUTE.match(text, at)
        assert match is not None  # it may be empty
        key, at = (match[1] or "").lower(), max(match.end(), at + 1)
        value = ""
        if match[2]:
            quote = text[at : at + 1]
            close = text.find(quote, at + 1) if quote in ("'", '"') else -1
            if close >= 0:
                value, at = text[at + 1 : close], close + 1
            else:
                bare = _BARE.match(text, at)
                assert bare is not None
                value, at = bare[0], bare.end()
        if key:
            attributes.setdefault(key, unescape(value))
        elif not match[0]:
            break
    if at >= len(text):
        at = first
    return Tag(name, attributes, empty=text[at - 1] == "/"), at + 1


def _local(name: str) -> str:
    return name.lower().rpartition(":")[2]
