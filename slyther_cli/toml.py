"""TOML of anybody's making, read in bounded time: settings and training recipes."""

from __future__ import annotations

import re
import tomllib
from typing import Any

BIGGEST = 1 << 20  # bytes
MOST_PARTS = 32  # of a key; tomllib takes a minute and a half for one of 50,000
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"^[ \t]*(?:\[\[?[ \t]*)?(?:{_KEY}[ \t]*\.[ \t]*){{{MOST_PARTS}}}", re.MULTILINE)


def parse(data: bytes) -> dict[str, Any]:
    """What the TOML says. Raises ValueError, in words for a user: too large, no TOML, nested too deeply, a
    number of thousands of digits."""
    if len(data) > BIGGEST:
        raise ValueError("too large")
    text = data.decode("utf-8")
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")
    try:
        said = tomllib.loads(text)
        repr(said)  # a number of thousands of digits cannot be told of
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return said
