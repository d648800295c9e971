"""The command table, and how the process ends. Command modules load when they are called, not before."""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from slyther_cli import __version__
from slyther_cli.commands import output, settings
from slyther_cli.commands.options import new_app
from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.runtime import take_memory

TABLE = {
    "separate": "Separate the speakers of recordings into one file each.",
    "transcribe": "Transcribe English speech, with the times of every word.",
    "speak": "Speak an English text or book of any length, in one of the model's voices or like a recording.",
    "models": "List the available architectures and sizes, and where their weights are.",
    "weights": "List, show, download, import, average and quantize trained weights.",
    "train": "Train models on your own speech.",
    "eval": "Measure the accuracy of a model on data with references.",
    "bench": "Measure how fast slyther runs on this machine.",
    "study": "Repeat the papers' studies on your own models.",
    "doctor": "Report versions, devices, models and settings, and what is wrong with them.",
    "completion": "Print the shell script that completes commands and options with Tab.",
}
"""The commands, and how the help of each begins. Each has a module of slyther_cli.commands by its name, whose
``app`` is a typer app of one command or of a group; to list them loads none of these."""
COMPLETE = "_SLYTHER_COMPLETE"
EXIT_BROKEN_PIPE = 141
STDOUT_TROUBLE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF)
_usage_error = typer.BadParameter.__mro__[1]  # click.UsageError, of whichever click typer brings along
_click_error = typer.BadParameter.__mro__[2]


class _LazyGroup(TyperGroup):
    """Loads a command's module when the command is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(TABLE)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        loaded = self.commands
        self.commands = {name: TyperCommand(name, help=words) for name, words in TABLE.items()}
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = loaded

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in TABLE and cmd_name not in self.commands:
            module = importlib.import_module(f"slyther_cli.commands.{cmd_name}")
            command = typer.main.get_command(module.app)
            command.name = cmd_name
            settings.prepare(command, (cmd_name,))
            self.commands[cmd_name] = command
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        for name in TABLE:  # so that a mistyped name is compared with all of them
            if args and args[0] not in TABLE:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _show_version(asked: bool) -> None:
    if asked:
        output.data(f"slyther {__version__}")
        raise typer.Exit


app = new_app(cls=_LazyGroup, name="slyther")


@app.callback()
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version.", callback=_show_version, is_eager=True)
    ] = False,
    config: Annotated[
        str | None,
        typer.Option(
            help="Settings file instead of ~/.config/slyther/slyther.toml, or none for no file.",
            metavar="FILE",
            envvar="SLYTHER_CONFIG",
            show_envvar=False,
        ),
    ] = None,
) -> None:
    """Separate, transcribe and speak: recordings and texts of any length, as a whole, by Mamba networks."""
    name = ctx.invoked_subcommand
    if name is None or {"-h", "--help"} & set(ctx.obj or ()):
        return
    try:
        path, said = settings.read(config)
        if path is not None:
            ctx.meta[settings.FILE] = path
            command = ctx.command.get_command(ctx, name)  # type: ignore[attr-defined]
            ctx.default_map = {name: settings.defaults(said, path, list(TABLE), name, command)}
    except UsageError:
        if name != "doctor":  # which tells of it, and of all else
            raise


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived: unwinds like Ctrl-C does, so that temporary files are removed."""

    def __init__(self, number: int) -> None:
        self.number = number


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code of the process."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    output.json_asked = False
    if not output.debugging():
        warnings.filterwarnings("ignore", module=r"(torch|soundfile)(\.|$)")
    with _signals():
        try:
            try:
                code = _run(arguments)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
            return code
        except BaseException as error:
            try:
                return _report(error, arguments)
            except MemoryError:  # not even for these words
                os.write(2, b"slyther: error: not enough memory: set a smaller --memory-limit\n")
                return 6


def _run(arguments: list[str]) -> int:
    take_memory()  # with less, a library aborts or Python finds no words, here or there
    command = typer.main.get_command(app)
    settings.show_plainly(command)
    if COMPLETE in os.environ:  # the shell asks for completions
        from typer.completion import completion_init

        completion_init()
        command(prog_name="slyther", complete_var=COMPLETE)
    if not arguments:
        with contextlib.redirect_stdout(sys.stderr):
            _invoke(command, ["--help"])
        return 2
    return _invoke(command, arguments)


def _invoke(command: Any, arguments: list[str]) -> int:
    try:
        with command.make_context("slyther", arguments, obj=arguments) as context:
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    return 0


def _report(error: BaseException, arguments: Sequence[str]) -> int:
    """Say what ended the command, in one line; the exit code."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, BrokenPipeError) and not isinstance(error, output.StdoutError):
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        output.words("slyther: stopped")
        return 130
    if isinstance(error, Terminated):
        output.words("slyther: stopped by a signal")
        return 128 + error.number
    if isinstance(error, _click_error):
        message = _unknown_option(error) or error.format_message()  # type: ignore[attr-defined]
        hints = settings.origin(error) + _where_help(error) + _dashed_file(arguments)
        return _fail(message + hints, "usage", 2)
    if not isinstance(error, SlytherError):
        from slyther_cli.jobs.setup import out_of_memory

        command = next((word for word in arguments if word in TABLE), "")
        error = out_of_memory(error, command) or error
    if isinstance(error, SlytherError):
        kind = {2: "usage", 3: "file", 5: "model", 6: "device"}.get(error.exit_code, "unexpected")
        return _fail(str(error) + _dashed_file(arguments), kind, error.exit_code)
    if not isinstance(error, Exception):
        raise error
    if isinstance(error, OSError) and error.filename is None and error.errno in STDOUT_TROUBLE:
        _silence_stdout()
        output.error_line(f"cannot write to standard output: {str(error.strerror).lower()}")
        return 1
    _fail(f"unexpected {type(error).__name__}: {error}", "unexpected", 1)
    output.traceback_of(error)
    return 1


def _fail(message: str, kind: str, code: int) -> int:
    if output.json_asked:
        with contextlib.suppress(OSError):
            output.json_line("error", file=None, kind=kind, message=" ".join(message.split()), exit_code=code)
    output.error_line(message)
    return code


def _where_help(error: Any) -> str:
    context = getattr(error, "ctx", None)
    return f" (see `{context.command_path} --help`)" if context is not None else ""


def _unknown_option(error: Any) -> str:
    """What to say of an option that the command does not have, and those it has that are nearly the same."""
    typed, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if typed is None or context is None or not hasattr(error, "possibilities"):
        return ""
    options = [option for option in context.command.params if not getattr(option, "hidden", False)]
    known = [o for option in options for o in option.opts if o.startswith("--") and "_" not in o]
    near = [name for name in known if len(typed) > 4 and name.startswith(typed)]
    near += [name for name in difflib.get_close_matches(typed, known, 2, 0.8) if name not in near]
    return f"no such option: {typed}" + (f"; did you mean {' or '.join(near[:3])}?" if near else "")


def _dashed_file(arguments: Sequence[str]) -> str:
    """A hint where a file may have been read as options."""
    for argument in arguments:
        if argument == "--":
            break
        if argument.startswith("-") and len(argument) > 2 and os.path.lexists(argument):
            return f"; a file whose name begins with a dash is written ./{argument}"
    return ""


def _silence_stdout() -> None:
    """What is still in the buffer goes nowhere, so that the end of the process does not stumble over it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack while the command runs, unless they are ignored (nohup)."""

    def stop(number: int, frame: object) -> None:
        raise Terminated(number)

    before: dict[int, Any] = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
