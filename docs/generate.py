"""Writes docs/reference/*.md and docs/slyther.1 from the commands themselves.

    python docs/generate.py            # write them
    python docs/generate.py --check    # exit with 1 if they are not what the commands say

tests/test_docs.py runs the check, so that they cannot drift.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import typer

from slyther_cli import app as application
from slyther_cli.commands.settings import kind_of

HERE = Path(__file__).resolve().parent
EXAMPLES = "\b\n"
NOTE = "<!-- Written by docs/generate.py from the commands: change those, and run it. -->"
EXIT_CODES = (
    ("0", "all done"), ("1", "unexpected error"), ("2", "usage"), ("3", "some inputs failed"),
    ("4", "all inputs failed"), ("5", "model or download"), ("6", "device or memory"),
    ("130, 143", "stopped by a signal"),
)  # fmt: skip


ENVIRONMENT = (
    "Every option can be set by a variable, SLYTHER_COMMAND_OPTION (SLYTHER_SEPARATE_FORMAT=flac), or in "
    "slyther.toml; the command line comes first, then the variable, then the file. SLYTHER_CACHE is the "
    "folder of models, SLYTHER_OFFLINE=1 forbids the network, SLYTHER_DEBUG=1 shows tracebacks."
)


class Option(NamedTuple):
    names: str
    help: str
    variable: str = ""
    panel: str = "Option"


class Page(NamedTuple):
    """One command. ``words``: how it is called. A paragraph of examples begins with EXAMPLES."""

    words: str
    usage: str
    paragraphs: list[str]
    arguments: list[Option]
    options: list[Option]
    below: list["Page"]


def pages() -> Page:
    """The whole program; its commands are ``below``."""
    return _page(typer.main.get_command(application.app), ("slyther",))


def _page(command: Any, words: tuple[str, ...]) -> Page:
    context = typer.Context(command, info_name=words[-1])
    text = " ".join(words)
    below = []
    if hasattr(command, "list_commands"):
        below = [_page(command.get_command(context, n), (*words, n)) for n in command.list_commands(context)]
    arguments, options = [], []
    for param in command.params:
        if getattr(param, "hidden", False):
            continue
        (arguments if param.param_type_name == "argument" else options).append(_option(param))
    said = "COMMAND [OPTIONS] ..." if below else " ".join(["[OPTIONS]", *(a.names for a in arguments)])
    help_text = command.help or ""
    found = [p for p in re.split(r"\n\s*\n", help_text.split("\f")[0]) if p.strip()]
    paragraphs = [p if p.startswith(EXAMPLES) else " ".join(p.split()) for p in found]
    return Page(text, f"{text} {said}", paragraphs, arguments, options, below)


def _option(param: Any) -> Option:
    """Without help of the library's own formatting, which changes from version to version."""
    if param.param_type_name == "argument":
        name = (param.metavar or param.name.upper()) + "..." * (param.nargs == -1)
        return Option(name if param.required else f"[{name}]", _sentence(param))
    flags = sorted(param.opts, key=lambda o: (o.startswith("--"), param.opts.index(o)))
    names = ", ".join(
        flag for flag in flags if not re.match(r"--\w+_\w+", flag)
    )  # without whisper's spellings
    if not param.is_flag:
        names += f" {param.metavar or kind_of(param) or 'TEXT'}"
    variables = param.envvar if isinstance(param.envvar, list) else [param.envvar] if param.envvar else []
    panel = getattr(param, "rich_help_panel", None) or "Option"
    return Option(names, _sentence(param), variables[0] if variables else "", panel)


def _sentence(param: Any) -> str:
    text = " ".join((getattr(param, "help", None) or "").split())
    default = param.default
    if getattr(param, "is_flag", False) or default is None or callable(default) or default in ("", (), []):
        return text
    return f"{text} [default: {default:g}]" if isinstance(default, float) else f"{text} [default: {default}]"


def markdown(page: Page) -> str:
    """One file for a command of the first level, with those below it."""
    lines = [NOTE, ""]
    for depth, inner in _walk(page):
        lines += [f"{'#' * (depth + 1)} {inner.words}", ""]
        for paragraph in inner.paragraphs:
            lines += [_block(paragraph), ""]
        lines += [f"    {inner.usage}", ""]
        for title, rows in (("Argument", inner.arguments), *_panels(inner.options).items()):
            if rows:
                variable = any(row.variable for row in rows)
                lines += [
                    f"| {title} | |{' Variable |' if variable else ''}",
                    "|---" * (3 if variable else 2) + "|",
                ]
                for row in rows:
                    cells = [f"`{row.names}`", row.help] + [
                        f"`{row.variable}`" if row.variable else ""
                    ] * variable
                    lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
                lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _block(paragraph: str) -> str:
    """Examples as code, below their title."""
    if not paragraph.startswith(EXAMPLES):
        return paragraph
    title, *lines = paragraph.removeprefix(EXAMPLES).splitlines()
    return "\n".join([title.strip(), "", *("    " + line.strip() for line in lines)])


def _panels(options: list[Option]) -> dict[str, list[Option]]:
    """The options of each panel of the help, in order; those without one come last."""
    panels: dict[str, list[Option]] = {}
    for option in sorted(options, key=lambda o: o.panel == "Option"):
        panels.setdefault(option.panel, []).append(option)
    return panels


def _walk(page: Page, depth: int = 0) -> Iterator[tuple[int, Page]]:
    yield depth, page
    for inner in page.below:
        yield from _walk(inner, depth + 1)


def index(top: Page) -> str:
    lines = [NOTE, "", "# Commands", "", *top.paragraphs, "", "| Command | |", "|---|---|"]
    for page in top.below:
        first = page.paragraphs[0] if page.paragraphs else ""
        lines.append(f"| [{page.words}]({page.words.split()[1]}.md) | {first} |")
    lines += ["", "Exit codes: " + ", ".join(f"{code} {words}" for code, words in EXIT_CODES) + "."]
    lines += ["", "Options of all commands:", "", "| Option | |", "|---|---|"]
    lines += [f"| `{o.names}` | {o.help} |" for o in top.options]
    return "\n".join(lines) + "\n"


def manual(top: Page) -> str:
    """man 1 slyther."""
    out = [
        '.\\" Written by docs/generate.py from the commands.',
        '.TH SLYTHER 1 "" "slyther" "User Commands"',
    ]
    out += [".SH NAME", _roff("slyther - separate, transcribe and speak with Mamba state-space models")]
    out += [".SH SYNOPSIS", ".B slyther", _roff("COMMAND [OPTIONS] ..."), ".SH DESCRIPTION"]
    out += [_roff(p) for p in top.paragraphs]
    out += [".SH OPTIONS", *_listed(top.options), ".SH COMMANDS"]
    for depth, page in _walk(top):
        if depth:
            out += [".SS " + _roff(page.words), ".nf", _roff(page.usage), ".fi"]
            for paragraph in page.paragraphs:
                out += [".PP", *_roff_block(paragraph)]
            out += _listed([*page.arguments, *page.options])
    out += [".SH EXIT STATUS"]
    for code, words in EXIT_CODES:
        out += [".TP", f".B {code}", _roff(words)]
    out += [".SH ENVIRONMENT", _roff(ENVIRONMENT)]
    return "\n".join(out) + "\n"


def _listed(options: list[Option]) -> Iterator[str]:
    for option in options:
        yield from (".TP", f".B {_roff(option.names)}", _roff(option.help or "-"))


def _roff_block(paragraph: str) -> list[str]:
    if not paragraph.startswith(EXAMPLES):
        return [_roff(paragraph)]
    return [".nf", *map(_roff, paragraph.removeprefix(EXAMPLES).splitlines()), ".fi"]


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return "\\&" + text if text[:1] in ".'" else text


def files() -> dict[Path, str]:
    top = pages()
    found = {HERE / "reference" / f"{page.words.split()[1]}.md": markdown(page) for page in top.below}
    return {HERE / "reference" / "index.md": index(top), **found, HERE / "slyther.1": manual(top)}


def drifted() -> list[str]:
    """Files that are not what the commands say, are missing, or belong to no command."""
    wanted = files()
    wrong = [p for p, text in wanted.items() if not p.is_file() or p.read_text(encoding="utf-8") != text]
    wrong += [p for p in (HERE / "reference").glob("*.md") if p not in wanted]
    return sorted(str(p.relative_to(HERE.parent)) for p in wrong)


def main() -> int:
    if sys.argv[1:] == ["--check"]:
        wrong = drifted()
        for name in wrong:
            print(f"{name} is not what the commands say: run python docs/generate.py", file=sys.stderr)
        return bool(wrong)
    (HERE / "reference").mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
