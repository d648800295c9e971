"""What ``--json`` prints, as docs/events.md says it: the tests hold every event of every command against the
tables of that page."""

from __future__ import annotations

import functools
import numbers
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli.commands.output import SCHEMA

PAGE = Path(__file__).parents[1] / "docs" / "events.md"

TYPES: dict[str, Callable[[Any], bool]] = {
    "text": lambda v: isinstance(v, str),
    "integer, 0 or more": lambda v: type(v) is int and v >= 0,
    "number": lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool),
    "true or false": lambda v: isinstance(v, bool),
    "list": lambda v: isinstance(v, list),
    "list of texts": lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v),
    "list of objects": lambda v: isinstance(v, list) and all(isinstance(x, dict) for x in v),
    "object": lambda v: isinstance(v, dict),
}


class Field(NamedTuple):
    name: str
    type: str
    optional: bool
    nullable: bool


class Event(NamedTuple):
    """``more``: there may be further fields."""

    name: str
    commands: list[str]
    fields: list[Field]
    more: bool


@functools.cache
def events() -> list[Event]:
    """The events of the page. Raises ValueError where it is malformed."""
    found = []
    for section in PAGE.read_text().split("\n## ")[1:]:
        head, *lines = section.splitlines()
        match = re.fullmatch(r"`(\w+)`: (.+)", head)
        if match is None:
            raise ValueError(f"no event: {head}")
        rows = [line for line in lines if line.startswith("| `")]
        more = "Further fields may follow." in lines
        found.append(Event(match[1], match[2].split(", "), [_field(row) for row in rows], more))
    return found


def _field(row: str) -> Field:
    match = re.fullmatch(r"\| `(\w+)` \| ([^|]+?)( or null)? \| (.+) \|", row)
    if match is None or match[2] not in TYPES:
        raise ValueError(f"no field: {row}")
    return Field(match[1], match[2], match[4].endswith(" (not always there)"), match[3] is not None)


def problems(line: dict[str, Any], command: str | None = None) -> list[str]:
    """How a line of ``--json`` differs from the page; nothing if it does not. ``command``: the first word of
    what printed it; None: any."""
    if line.get("schema") != SCHEMA:
        return [f"schema is {line.get('schema')!r}, not {SCHEMA}"]
    known = [
        event
        for event in events()
        if event.name == line.get("event")
        and (command is None or {command, "any command"} & {*event.commands})
    ]
    if not known:
        return [f"event {line.get('event')!r} is not in docs/events.md"]
    return min((_differences(line, event) for event in known), key=len)


def _differences(line: dict[str, Any], event: Event) -> list[str]:
    found = []
    for field in event.fields:
        if field.name not in line:
            found += [] if field.optional else [f"{event.name}: {field.name} is missing"]
        elif not ((line[field.name] is None and field.nullable) or TYPES[field.type](line[field.name])):
            found.append(f"{event.name}: {field.name} = {line[field.name]!r} is no {field.type}")
    extra = line.keys() - {"schema", "event"} - {field.name for field in event.fields}
    if extra and not event.more:
        found.append(f"{event.name}: {', '.join(sorted(extra))} is not in docs/events.md")
    return found
