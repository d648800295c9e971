"""What the command modules share: how an app is made, and common options."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import completing, output
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.jobs.options import Options


def new_app(**settings: Any) -> typer.Typer:
    """A typer app with slyther's settings. Coloured help is for terminals only: it costs 0.1 s."""
    return typer.Typer(
        rich_markup_mode="rich" if output.can_colour(sys.stdout) else None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        **settings,
    )


def in_panel(title: str) -> Callable[..., Any]:
    """``typer.Option``, for the options in one panel of the help."""
    return functools.partial(typer.Option, rich_help_panel=title)


InputOption = in_panel("Input")
OutputOption = in_panel("Output")
ModelOption = in_panel("Model")
SpeedOption = in_panel("Memory and speed")
BatchOption = in_panel("Batch")

# Batches
Manifest = Annotated[
    str | None,
    BatchOption(
        help="Read more inputs from a list: a path a line (- is standard input), or a .tsv or .csv with a "
        "column path.",
        metavar="FILE",
    ),
]
Shard = Annotated[
    str | None,
    BatchOption(help="Process only part I of N of the inputs, to share them among machines.", metavar="I/N"),
]
Jobs = Annotated[
    int | None,
    BatchOption(
        "--jobs",
        "-j",
        min=1,
        max=1024,
        help="Worker processes, faster for many short recordings; by default 1, on a cluster as many as fit.",
        metavar="N",
    ),
]

Ray = Annotated[
    str | None,
    BatchOption(
        help="Run on a Ray cluster: its address, auto, or local for one on this machine.", metavar="ADDRESS"
    ),
]
RayGpus = Annotated[
    float | None,
    BatchOption(
        "--ray-gpus",
        min=0.0,
        max=64.0,
        help="GPUs per worker: 0.25 lets four workers share one; by default 1 where there are GPUs.",
        metavar="SHARE",
    ),
]

# How a command talks
Json = Annotated[bool, OutputOption("--json", help="Print events as JSON, one object a line, for programs.")]
Quiet = Annotated[bool, OutputOption("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[
    bool, OutputOption("--verbose", "-v", help="Print the model, device and processing plan.")
]

# What it computes with
SEPARATOR, RECOGNISER, VOICE = "mamba-tasnet-8k-2spk", "conmamba-ctc-16k-en", "vall-me-16k-en"
"""The models that come with slyther: the defaults of the tasks, named here for the help alone."""


def _model(default: str, task: str) -> Any:
    return ModelOption(
        "--model",
        "-m",
        help=f"Model to use, a name (`slyther models` lists them) or a folder; by default {default}.",
        metavar="NAME|PATH",
        autocompletion=completing.models(task),
    )


Separator = Annotated[str | None, _model(SEPARATOR, "separate")]
Recogniser = Annotated[str | None, _model(RECOGNISER, "transcribe")]
Voice = Annotated[str | None, _model(VOICE, "speak")]
Device = Annotated[
    str,
    SpeedOption(
        "--device",
        "-d",
        help="Where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N.",
        metavar="DEVICE",
        autocompletion=completing.devices,
    ),
]
Threads = Annotated[int | None, SpeedOption(min=1, max=4096, help="CPU threads; by default one per core.")]
MemoryLimit = Annotated[
    str | None,
    SpeedOption(
        help="Most working memory, as 1GB; what does not fit goes to a temporary file. By default half of "
        "the free memory.",
        metavar="SIZE",
    ),
]
WorkDir = Annotated[
    Path | None, SpeedOption(help="Folder for temporary files, by default the system's.", metavar="DIR")
]
JobDir = Annotated[
    Path | None,
    SpeedOption(
        help="Folder for temporary files, on a disk with room; by default the system's, with --resume "
        "slyther's cache.",
        metavar="DIR",
    ),
]

# Jobs over recordings
Inputs = Annotated[
    list[str] | None,
    typer.Argument(help="Recordings: files, folders, globs, or - for standard input.", metavar="INPUTS"),
]
Channel = Annotated[
    str,
    InputOption(help="Channel to use: mix (the mean of all channels) or a number from 1.", metavar="mix|N"),
]
Track = Annotated[
    int | None,
    InputOption(min=1, help="Audio track of a video file, from 1 up; by default the first.", metavar="N"),
]
Strict = Annotated[
    bool, InputOption("--strict", help="Refuse damaged recordings; by default gaps become silence.")
]
Flat = Annotated[
    bool,
    OutputOption(
        "--flat", help="Write all results into DIR itself instead of mirroring the folders of INPUTS."
    ),
]
Force = Annotated[bool, OutputOption("--force", help="Replace results that exist.")]
SkipExisting = Annotated[
    bool, BatchOption("--skip-existing", help="Skip inputs whose results exist, to finish a batch.")
]
Resume = Annotated[
    bool,
    BatchOption(
        "--resume",
        help="Keep unfinished work on disk, so that the same command continues after a crash or a kill.",
    ),
]
Raw = Annotated[
    str | None,
    InputOption(
        help="Read standard input as samples without a header: 16000, or 48000:2:f32 (types u8 s16 s24 s32 "
        "f32 f64).",
        metavar="RATE[:CHANNELS[:TYPE]]",
    ),
]
DryRun = Annotated[
    bool,
    BatchOption(
        "--dry-run", help="Print what would be done, and the memory and disk it takes; write nothing."
    ),
]

# Sound files
SoundFormat = Annotated[
    str,
    OutputOption(
        "--format",
        "-f",
        help="Sound format: wav or flac.",
        metavar="FORMAT",
        autocompletion=completing.of("wav", "flac"),
    ),
]
Subtype = Annotated[
    str,
    OutputOption(
        help="Bits per sample: 16, 24 or float (wav only).",
        metavar="BITS",
        autocompletion=completing.of("16", "24", "float"),
    ),
]

Pronunciations = Annotated[
    str | None,
    InputOption(
        help="Your pronunciations, for names: a word, two spaces, and phones (W IH1 N) or a respelling "
        "(sequel) a line.",
        metavar="FILE",
    ),
]

# How text is searched
Decode = Annotated[
    str | None,
    ModelOption(
        help="Search: greedy (fastest), beam (fewer errors, with a language model), joint (models with a "
        "decoder); by default beam where there is a language model, else greedy.",
        metavar="HOW",
        autocompletion=completing.of("greedy", "beam", "joint"),
    ),
]
LanguageModel = Annotated[
    str,
    ModelOption(
        help="Language model of the beam search: auto (the model's own), none, or a file.", metavar="LM"
    ),
]
LmWeight = Annotated[
    float | None,
    ModelOption(
        min=0.0, help=f"Weight of the language model; by default the model's own ({RECOGNISER}: 1.05)."
    ),
]
WordBonus = Annotated[
    float | None,
    ModelOption(help=f"Score per word, higher for more words; by default the model's own ({RECOGNISER}: 0)."),
]
BEAM = f"Hypotheses to keep, more is slower; by default the model's own ({RECOGNISER}: 250)."

# Evaluations
Split = Annotated[str, typer.Option(help="Split of the manifest to use.")]


def check_contradictions(**flags: bool) -> None:
    """``check_contradictions(force=force, skip_existing=skip_existing)``: at most one of them may be set.
    Raises UsageError."""
    named = [f"--{name.replace('_', '-')}" for name, is_set in flags.items() if is_set]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} contradict each other: choose one")


def named(inputs: list[str] | None, manifest: str | None) -> list[str]:
    """The inputs of a job. Raises UsageError when there are none."""
    if not inputs and manifest is None:
        raise UsageError("name recordings: INPUTS, or a list of them with --manifest")
    return inputs or []


def existing(force: bool, skip_existing: bool) -> Any:
    """What becomes of results that are there: "replace", "skip" or "refuse"."""
    check_contradictions(force=force, skip_existing=skip_existing)
    return "replace" if force else "skip" if skip_existing else "refuse"


def going_on(inputs: list[str], resume: bool, force: bool, dry_run: bool) -> str:
    """What to say when a job is stopped: how a later run goes on with it, if one can."""
    if dry_run or "-" in inputs:
        return ""
    if resume:
        return "the same command goes on from here"
    instead = " in place of --force" if force else ""
    return f"what is done is kept: the same command with --resume{instead} does the rest"


def template(named: str | None, flat: bool, default: str) -> str:
    """The template of the results' names; ``flat`` leaves the folders of the default out. Raises UsageError:
    both are asked for."""
    check_contradictions(flat=flat, filename=named is not None)
    return named or (default.removeprefix("{folder}/") if flat else default)


def taken(options: type[Options], parameters: Mapping[str, Any], **others: Any) -> dict[str, Any]:
    """The options that a product's function takes, from the parameters of its command: those that are named
    as a field of ``options`` is; ``others`` are what the command makes of the rest, or instead of one.

        results = separate(inputs, **taken(SeparateOptions, locals(), memory_limit=parse_size(memory_limit)))
    """
    names = {field.name for field in fields(options)}
    return {name: value for name, value in parameters.items() if name in names} | others


def check_new(target: Path, force: bool) -> None:
    """Raises OutputError when a file is there that nobody said may be replaced."""
    from slyther_cli.audio.discover import shown

    if not force and os.path.lexists(target):
        raise OutputError(f"{shown(target)} is there already: --force replaces it")
