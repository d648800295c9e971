"""What ``slyther doctor`` tells of settings: where they come from, and what is wrong with them.

Otherwise a settings file is looked into only as far as the command that runs needs it, and a variable that
belongs to no option by nobody. Here all of it is, by the code that the commands use.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from slyther_cli.commands import settings
from slyther_cli.errors import UsageError

# of no option; docs/configuration.md says what they do
OTHERS = ("CACHE", "CONFIG", "DEBUG", "MODELS_URL", "OFFLINE", "SCAN")
PREFIX = "SLYTHER_"
Words = tuple[str, ...]
Said = Mapping[str, Any]
_usage_error: Any = typer.BadParameter.__mro__[1]  # click.UsageError, of whichever click typer brings along


def in_force(ctx: typer.Context, problems: list[str], advice: list[str]) -> dict[str, Any]:
    """The settings file and what it says, and the variables. ``problems`` gets what commands refuse to run
    with, ``advice`` what is set in vain; each with its fix."""
    root = ctx.find_root()
    commands: Any = root.command
    names = commands.list_commands(root)
    named = root.params.get("config")
    path = settings.default_file() if named is None else Path(named)
    out: dict[str, Any] = {"file": str(path), "state": "read"}
    said: Said = {}
    try:
        found, said = settings.read(named)
        if found is None:
            out["state"] = "not there" if named is None else "none is to be read"
    except UsageError as error:
        out["state"] = "cannot be read"
        problems.append(f"{error}: mend it, or leave it out with --config none")
    root.meta[settings.FILE] = path
    here = Path(settings.FILE)
    if named is None and here.exists() and here.resolve() != path.resolve():
        advice.append(
            f"{here} in this folder is not read, as no folder is searched: slyther --config {here} ..."
        )

    entries, good = list(_entries(said)), dict[str, Any]()
    out["said"] = {_called(words): value for words, value in entries}
    wrong: dict[str, None] = {}  # a set that keeps the order: one entry can be wrong for several commands
    for words, value in entries:
        faults = list(_faults(words, value, path, names, commands))
        wrong |= dict.fromkeys(faults)
        if not faults:
            _put(good, words, value)
    out["variables"] = {
        n: os.environ[n] for n in sorted(os.environ) if n.startswith(PREFIX) and os.environ[n]
    }
    known = {PREFIX + name for name in OTHERS}
    for name in names:
        command = commands.get_command(root, name)
        given = settings.defaults(good, path, names, name, command)
        wrong |= dict.fromkeys(_values(typer.Context(command, root, name, default_map=given), known))
    problems += wrong
    for name in out["variables"]:
        if name not in known:
            near = difflib.get_close_matches(name, sorted(known), 1)
            hint = f"did you mean {near[0]}?" if near else "docs/configuration.md says how they are called"
            advice.append(f"the variable {name} is of no option, so nobody reads it: {hint} (or unset it)")
    return out


def _entries(said: Said, words: Words = ()) -> Iterator[tuple[Words, Any]]:
    """(sections and key, value) of all that a file says; an empty section by itself."""
    for key, value in said.items():
        if isinstance(value, dict) and value:
            yield from _entries(value, (*words, key))
        else:
            yield (*words, key), value


def _put(said: dict[str, Any], words: Words, value: Any) -> None:
    for word in words[:-1]:
        said = said.setdefault(word, {})
    said[words[-1]] = value


def _called(words: Words) -> str:
    return f"[{'.'.join(words[:-1])}] {words[-1]}" if words[1:] else words[0]


def _faults(words: Words, value: Any, path: Path, names: list[str], commands: Any) -> Iterator[str]:
    """Why this entry, all by itself, cannot be."""
    said: dict[str, Any] = {}
    _put(said, words, value)
    for name in [words[0]] if words[0] in names else names:
        try:
            settings.defaults(said, path, names, name, commands.get_command(None, name))
        except UsageError as error:
            yield str(error)


def _values(ctx: Any, known: set[str]) -> Iterator[str]:
    """Values from variables and the file that the command of ``ctx``, or one below it, does not take;
    ``known`` gets the names of its variables."""
    for option in settings.options_of(ctx.command).values():
        known.update(option.envvar)
        value, source = option.consume_value(ctx, {})
        if source.name in ("ENVIRONMENT", "DEFAULT_MAP"):
            ctx.set_parameter_source(option.name, source)
            try:
                option.process_value(ctx, value)
            except _usage_error as error:
                yield error.format_message() + settings.origin(error)
    for name, inner in getattr(ctx.command, "commands", {}).items():
        yield from _values(
            typer.Context(inner, ctx, name, default_map=(ctx.default_map or {}).get(name)), known
        )
