"""Values that several commands read from their options: sizes, lists of words, lists of numbers."""

from __future__ import annotations

import math
import re

import typer

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
MOST_BYTES = 1 << 63
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}


def parse_size(text: str | None) -> int | None:
    """Bytes of a text. Raises typer.BadParameter.

    >>> parse_size("1.5 GB"), parse_size("2GiB"), parse_size("1000000")
    (1500000000, 2147483648, 1000000)
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgt]?i?)b?\s*", text.lower())
    unit = (_UNITS | _BINARY).get(found[2]) if found else None
    if found is None or unit is None:
        raise typer.BadParameter(f"{text!r} is no size: write 500MB, 1GB or 2GiB")
    amount = float(found[1]) * unit
    if amount >= MOST_BYTES:
        raise typer.BadParameter(f"{text[:40]!r} is more memory than any machine has")
    size = int(amount)
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no memory at all")
    return size


def listed(text: str) -> list[str]:
    """The parts of "one, two"."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_seconds(text: str) -> list[float]:
    """The numbers of "4,16,60". Raises typer.BadParameter."""
    return parse_numbers(text, "seconds", "4,16,60")


def parse_numbers(text: str, what: str, example: str) -> list[float]:
    """The numbers of "4,16,60", finite ones. Raises typer.BadParameter: "no list of ``what``"."""
    try:
        numbers = [float(part) for part in listed(text)]
    except ValueError:
        numbers = []
    if not numbers or not all(map(math.isfinite, numbers)):
        raise typer.BadParameter(f"{text!r} is no list of {what}: write {example}")
    return numbers
