"""TOML and JSON of anybody's making, read in bounded time: settings, recipes, the configs of models."""

from __future__ import annotations

import json
import math
import re
import tomllib
from typing import Any

BIGGEST = 1 << 20  # bytes
MOST_DIGITS = 18
MOST_PARTS = 32  # of a key; tomllib takes a minute and a half for one of 50,000
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_LONG_KEY = re.compile(rf"^[ \t]*(?:\[\[?[ \t]*)?(?:{_KEY}[ \t]*\.[ \t]*){{{MOST_PARTS}}}", re.MULTILINE)


def read_toml(data: bytes) -> dict[str, Any]:
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


def read_json(raw: bytes) -> Any:
    """JSON in UTF-8 whose numbers are finite and fit into 64 bits. Raises ValueError, RecursionError."""
    return json.loads(raw.decode("utf-8"), parse_constant=_no_constant, parse_int=_whole, parse_float=_finite)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number")


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:21]}... is too large a number")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:21]}... is too large a number")
    return value
