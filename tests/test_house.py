"""Functions take few parameters: what an option is, a dataclass says once (``jobs.options``)."""

import ast
import inspect
from dataclasses import fields
from pathlib import Path

import pytest

from slyther_cli import separate, speak, transcribe
from slyther_cli.commands.separate import separate as separate_command
from slyther_cli.commands.speak import speak as speak_command
from slyther_cli.commands.transcribe import transcribe as transcribe_command
from slyther_cli.separation.options import SeparateOptions
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.transcription.options import TranscribeOptions

PACKAGE = Path(__file__).parents[1] / "slyther_cli"
MOST = 8
ON_THE_WHOLE = ("scan",)  # a scan takes the tensors that the papers name


def parameters(function):
    a = function.args
    return len([*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))])


def is_command(function):
    """Whether its parameters are the options of a command, which typer reads: one of them is annotated with
    what the help says of it."""
    notes = {ast.unparse(a.annotation) for a in function.args.args if a.annotation is not None}
    return any(note.startswith(("Annotated[", "opt.", "Json", "Device")) for note in notes)


def crowded():
    """``module.function`` of those with more than MOST parameters."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] in ON_THE_WHOLE:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            many = isinstance(node, ast.FunctionDef) and parameters(node) > MOST
            if many and not (parts[0] == "commands" and is_command(node)):
                yield ".".join((*parts, node.name))


def test_functions_take_few_parameters():
    assert not list(crowded())


@pytest.mark.parametrize(
    "command, options",
    [
        (separate_command, SeparateOptions),
        (transcribe_command, TranscribeOptions),
        (speak_command, SpeakOptions),
    ],
)
def test_commands_have_the_defaults_of_their_options(command, options):
    elsewhere = {"filename", "memory_limit"}  # --flat chooses the one, the other is a text there
    there = inspect.signature(command).parameters
    shared = [f for f in fields(options) if f.name in there.keys() - elsewhere]
    assert [f.name for f in shared if there[f.name].default != f.default] == [] and len(shared) >= 17
    missing = {f.name for f in fields(options)} - there.keys()
    assert missing <= {"existing", "formats", "beside", "words", "replace"}


def test_options_tell_what_was_given():
    """And every call says in help() what it takes; what it does not take is refused."""
    made = SeparateOptions(work_dir="there", existing="skip", subtype="24")
    assert made.given() == {"work_dir": "there", "existing": "skip", "subtype": "24"}
    assert set(made.shaping()) == {
        "channel", "track", "strict", "format", "subtype", "residual", "highband", "clip", "match_speakers",
    }  # fmt: skip
    assert TranscribeOptions(formats="txt") == TranscribeOptions() != TranscribeOptions(formats=["srt"])
    for function, options in (
        (separate, SeparateOptions),
        (transcribe, TranscribeOptions),
        (speak, SpeakOptions),
    ):
        assert {f.name for f in fields(options)} < set(inspect.signature(function).parameters)
        assert [f.name for f in fields(options) if f"``{f.name}``" not in function.__doc__] == []
        with pytest.raises(TypeError, match="clipp"):
            function("a.wav", "b.wav", clipp="none")
