"""Functions take few parameters: what an option is, a dataclass says once (``jobs.options``)."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "slyther_cli"
MOST = 8
ON_THE_WHOLE = ("scan",)  # a scan takes the tensors that the papers name
TOO_MANY = {  # what is still to be changed: this list only gets shorter
    "audio.writer.__init__",
    "checkpoints.store.save",
    "commands.bench._quality",
    "commands.train.run_training",
    "decode.ctc.__init__",
    "longform.plan.swept",
    "research.evaluation.codec.evaluate_codec",
    "research.evaluation.separation.evaluate_separation",
    "research.evaluation.turns.evaluate_turns",
    "research.studies.efficiency.measure",
    "research.studies.longform_quality.measure",
    "research.studies.recognition_cost.measure_cost",
    "research.training.codec_dataset.__init__",
    "research.training.workers._peer",
    "research.training.workers._work",
    "synthesis.job.speak",
}


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
            if isinstance(node, ast.FunctionDef) and parameters(node) > MOST:
                if not (parts[0] == "commands" and is_command(node)):
                    yield ".".join((*parts, node.name))


def test_functions_take_few_parameters():
    assert sorted(crowded()) == sorted(TOO_MANY)
