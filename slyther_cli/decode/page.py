"""What HTML pages of ours are made of: a template with places, one style, data that cannot end a script."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def in_script(value: Any) -> str:
    """``value`` as JSON that can stand in a script block of a page: ASCII, and without "<", ">", "&"."""
    return json.dumps(value).translate(_ESCAPES)


def pieces(template: Path) -> Iterator[tuple[str, str]]:
    """A page in pieces, each with the name of what stands behind it, ``{{name}}``; "" behind the last."""
    parts = re.split(r"\{\{(\w+)\}\}", text_of(template))
    return iter(list(zip(parts[::2], [*parts[1::2], ""], strict=True)))


def style(own: Path) -> str:
    """The style sheet of all pages, and that of one."""
    return text_of(Path(__file__).with_suffix(".css")) + text_of(own)


@cache
def text_of(path: Path) -> str:
    """A file of the package."""
    return path.read_text(encoding="utf-8")


def link(source: str, folder: Path) -> str | None:
    """A file as a relative URL, seen from ``folder``; None for standard input, "-"."""
    if source == "-":
        return None
    path = os.path.relpath(os.path.abspath(source), os.path.abspath(folder))
    return quote(os.fsencode(path))
