"""A progress line on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any, Self


class Bar:
    """A progress line on the terminal (tqdm), as wide as it is. As a context it is cleared at its end."""

    def __init__(self) -> None:
        self._line: Any = None

    def draw(self, label: str, fraction: float | None, text: str) -> None:
        """``label  42% |####    | text``; ``label text`` when nobody knows how much is still to come."""
        if self._line is None:
            from tqdm import tqdm

            tqdm.monitor_interval = 0  # no thread for one line
            self._line = tqdm(
                total=1.0,
                bar_format="{desc} {percentage:3.0f}% |{bar}| {unit}"
                if fraction is not None
                else "{desc} {unit}",
                ascii=" #",
                leave=False,
                mininterval=0,
                delay=1e-9,  # else an empty line is drawn before the first that has words
                nrows=20,  # a terminal that reports no size is drawn on all the same
                file=sys.stderr,
            )
        try:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except (OSError, ValueError):
            columns = 80
        self._line.ncols = columns - 1
        self._line.set_description_str(label, refresh=False)
        self._line.n, self._line.unit = min(1.0, fraction or 0.0), text
        with contextlib.suppress(OSError, ValueError):
            self._line.refresh()

    def clear(self) -> None:
        """Take the line away, so that words can come in its place."""
        if self._line is not None:
            with contextlib.suppress(OSError, ValueError):
                self._line.close()
        self._line = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.clear()
