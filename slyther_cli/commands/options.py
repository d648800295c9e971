"""What the command modules share: how an app is made, how sizes are read."""

from __future__ import annotations

import re
import sys
from typing import Any

import typer

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}


def new_app(**settings: Any) -> typer.Typer:
    """A typer app in the manner of the house. Coloured help is for terminals; it costs 0.1 s."""
    on_terminal = sys.stdout is not None and sys.stdout.isatty()
    return typer.Typer(
        rich_markup_mode="rich" if on_terminal else None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        **settings,
    )


def parse_size(text: str | None) -> int | None:
    """Bytes in "1GB", "500 MB", "1.5g", "2GiB", "1000000". Raises typer.BadParameter."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgt]?i?)b?\s*", text.lower())
    unit = (_UNITS | _BINARY).get(found[2]) if found else None
    if found is None or unit is None:
        raise typer.BadParameter(f"{text!r} is no size: write 500MB, 1GB or 2GiB")
    size = int(float(found[1]) * unit)
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no memory at all")
    return size
