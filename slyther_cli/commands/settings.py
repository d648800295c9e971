"""Options from elsewhere than the command line: ``SLYTHER_*`` variables and slyther.toml.

The command line comes first, then the environment, then the file, then the default. Both reach the options
by typer's own ways (``envvar``, ``default_map``), so that values are read and checked as on the command line.
Which option is called what follows from its long name:

    slyther train separate --workers    SLYTHER_TRAIN_SEPARATE_WORKERS    [train.separate] workers

The options in EVERYWHERE may also be set for all commands at once: SLYTHER_DEVICE, device at the file's top.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from slyther_cli import untrusted
from slyther_cli.errors import UsageError

EVERYWHERE = ("device", "threads", "memory-limit", "work-dir", "json", "quiet", "verbose")
FILE = "slyther.toml"
NONE = "none"
PLACES = ("DIR", "FILE", "PATH", "TSV", "AUDIO")  # what stands for a file or a folder
CONTRADICTORY = (("force", "skip_existing"), ("quiet", "verbose"), ("voice", "prompt"))
Words = tuple[str, ...]
FLAG = "a flag is true or false"


def options_of(command: Any) -> dict[str, Any]:
    """Long name without dashes -> option of typer; those that can be set from elsewhere."""
    found = {}
    for option in command.params:
        long = next((o[2:] for o in option.opts if o.startswith("--")), None)
        if option.param_type_name == "option" and long not in (None, "help", "version", "config"):
            if not getattr(option, "hidden", False):
                found[long] = option
        elif long == "config" and command.name != "slyther":
            found[long] = option
    return found


def prepare(command: Any, path: Words) -> None:
    """Give the options of a command, or of a group's commands, their variables, and flags a --no-NAME that
    turns off what was turned on elsewhere. ``path``: the words that call it."""
    flags = []
    show_plainly(command)
    for name, option in options_of(command).items():
        names = [_variable(*path, name)] + [_variable(name)] * (name in EVERYWHERE)
        option.envvar, option.show_envvar = names, False
        if getattr(option, "is_flag", False) and not option.secondary_opts:
            flags.append((name, option))
    make_parser, parse_args = command.make_parser, command.parse_args

    def with_negatives(ctx: Any) -> Any:
        parser = make_parser(ctx)
        for name, option in flags:
            parser.add_option(option, [f"--no-{name}"], option.name, action="store_const", const=False)
        return parser

    def then_yield(ctx: Any, args: list[str]) -> Any:
        rest = parse_args(ctx, args)
        _yield_to_the_command_line(ctx)
        return rest

    for option in command.params:
        _refuse_no_name(option)
        _refuse_no_number(option)
    command.make_parser, command.parse_args = with_negatives, then_yield
    for name, inner in getattr(command, "commands", {}).items():
        prepare(inner, (*path, name))


def kind_of(option: Any) -> str | None:
    """What stands for its value: N, X, PATH, TEXT; None for one of several words. typer keeps the type in one
    way or another."""
    kind = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    name = (str(kind) if kind is not None else type(option.type).__name__).lower()
    kinds = (("int", "N"), ("float", "X"), ("path", "PATH"), ("str", "TEXT"), ("text", "TEXT"))
    return (
        None if "enum" in name or "choice" in name else next((w for part, w in kinds if part in name), None)
    )


def show_plainly(command: Any) -> None:
    """Keep Python's names of types, "<int range>" and "<list[str]>", out of a command's help, and the line
    ends of its docstring, except in paragraphs that begin with backspace: examples."""
    paragraphs = re.split(r"\n\s*\n", command.help or "")
    command.help = "\n\n".join(p if p[:1] == "\b" else " ".join(p.split()) for p in paragraphs) or None
    get_help = command.get_help_option

    def plain_help(ctx: Any) -> Any:
        option = get_help(ctx)
        if option is not None:
            _show_plainly(option)
        return option

    command.get_help_option = plain_help
    for option in command.params:
        _show_plainly(option)


def _show_plainly(option: Any) -> None:
    flag = getattr(option, "is_flag", False)
    if flag or (option.param_type_name == "argument" and option.metavar is not None):
        option.display_type_rich = lambda ctx: ""
    elif option.param_type_name == "option" and option.metavar is None:
        option.metavar = kind_of(option)


def _refuse_no_name(option: Any) -> None:
    """Let an option for a file or a folder refuse "", which would be the current folder."""
    if option.param_type_name != "option" or not set(PLACES) & set((option.metavar or "").split("|")):
        return
    consume = option.consume_value

    def checked(ctx: Any, opts: Any) -> Any:
        value, source = consume(ctx, opts)
        if "" in (value if isinstance(value, list | tuple) else (value,)):
            raise typer.BadParameter(
                "the name is empty (the current folder is called .)", ctx=ctx, param=option
            )
        return value, source

    option.consume_value = checked


def _refuse_no_number(option: Any) -> None:
    """Let an option refuse what Python takes for a number and nothing here can use: nan, inf, a whole one of
    more than 64 bits."""
    convert = option.process_value

    def checked(ctx: Any, value: Any) -> Any:
        value = convert(ctx, value)
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                raise typer.BadParameter(f"{one} is not a finite number", ctx=ctx, param=option)
            if isinstance(one, int) and not -(1 << 63) <= one < 1 << 63:
                raise typer.BadParameter("the number has more than 64 bits", ctx=ctx, param=option)
        return value

    option.process_value = checked


def _yield_to_the_command_line(ctx: Any) -> None:
    """Of two options that contradict each other, one from the command line puts out one from elsewhere."""
    for pair in CONTRADICTORY:
        if all(ctx.params.get(name) for name in pair):
            typed = [getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE" for name in pair]
            if typed[0] != typed[1]:
                name = pair[typed.index(False)]
                ctx.params[name] = False if ctx.params[name] is True else None


def _variable(*words: str) -> str:
    return "_".join(("SLYTHER", *words)).upper().replace("-", "_")


def default_file() -> Path:
    """Where the user's settings are looked for."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    folder = Path(base) if os.path.isabs(base) else Path("~/.config").expanduser()
    return folder / "slyther" / FILE


def read(named: str | None) -> tuple[Path | None, dict[str, Any]]:
    """The file and what it says; nothing for "none", and where nobody named one and there is none.

    Raises UsageError: it cannot be read, or is no TOML.
    """
    if named == NONE:
        return None, {}
    if named == "":
        raise UsageError("--config names no file: leave it out, or write none")
    path = Path(named) if named else default_file()
    try:
        with open(path, "rb") as file:
            data = file.read(untrusted.BIGGEST + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if named is None:
            return None, {}
        raise UsageError(f"the settings {path} cannot be read: {str(error.strerror).lower()}") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"the settings {path} cannot be read: {str(why).lower()}") from None
    try:
        return path, untrusted.read_toml(data)
    except ValueError as error:
        raise UsageError(f"the settings {path} are no TOML: {error}") from None


def defaults(said: Mapping[str, Any], path: Path, commands: list[str], name: str, command: Any) -> Any:
    """What a file says of the command ``name``, as its ``default_map``; ``commands`` there are.

    Raises UsageError: a key that is not known, or a value that cannot be.
    """
    common = {}
    for key, value in said.items():
        if key in EVERYWHERE:
            common[key] = value
        elif key not in commands:
            raise UsageError(_unknown(path, key, [*EVERYWHERE, *(f"[{c}]" for c in commands)]))
        elif not isinstance(value, dict):
            raise UsageError(f"{path}: {key} is a command: write [{key}], and its options below")
    return _section(said.get(name, {}), common, path, (name,), command)


def _section(
    said: Mapping[str, Any], common: Mapping[str, Any], path: Path, words: Words, command: Any
) -> Any:
    where = f"[{'.'.join(words)}] "
    options, inner = options_of(command), getattr(command, "commands", {})
    found: dict[str, Any] = {}
    for name, sub in inner.items():
        if not isinstance(said.get(name, {}), dict):
            raise UsageError(f"{path}: {where}{name} is a command: write [{'.'.join((*words, name))}]")
        found[name] = _section(said.get(name, {}), common, path, (*words, name), sub)
    for name, value in common.items():
        if name in options:
            found[options[name].name] = _value(options[name], value, f"{path}: {name}")
    for name, value in said.items():
        if name in options:
            found[options[name].name] = _value(options[name], value, f"{path}: {where}{name}")
        elif name not in inner:
            raise UsageError(_unknown(path, where + name, [where + known for known in (*options, *inner)]))
    return found


def _value(option: Any, value: Any, where: str) -> Any:
    """As it would be written on the command line. Raises UsageError."""
    if getattr(option, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{where} = {value!r}: {FLAG}")
        return value
    if isinstance(value, list) and option.multiple:
        return [_value_of_one(item, where) for item in value]
    one = _value_of_one(value, where)
    return [one] if option.multiple else one


def _value_of_one(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where} = {value!r}: this takes a number or a text in quotes")
    return value if isinstance(value, str) else repr(value)


def _unknown(path: Path, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"{path}: {key} is not known; {hint}"


def origin(error: Any) -> str:
    """ " (from ...)" for a usage error about a value that was not on the command line."""
    ctx, option = getattr(error, "ctx", None), getattr(error, "param", None)
    if ctx is None or option is None:
        return ""
    source = getattr(ctx.get_parameter_source(option.name), "name", "")
    if source == "ENVIRONMENT":
        names = [option.envvar] if isinstance(option.envvar, str) else option.envvar or []
        return f" (from the variable {next((n for n in names if os.environ.get(n)), '')})"
    if source == "DEFAULT_MAP":
        return f" (from {ctx.find_root().meta.get(FILE)})"
    return ""
