"""One input of a batch: what is to be done, and where the results go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slyther_cli.audio.discover import Input
from slyther_cli.errors import SlytherError

Event = dict[str, Any]
Outputs = dict[str, Path]
"""Stem or format -> file."""
Turn = tuple[int, int]
"""The number of an input in the batch, from 0, and how many there are."""


def nobody(event: Event) -> None:
    """Where no events are wanted."""


@dataclass(frozen=True)
class Work:
    """One input of a batch. ``outputs``, or why there can be none. ``again``: a process was lost with it."""

    index: int
    source: Input
    outputs: Outputs | SlytherError
    turn: Turn
    again: bool = False
