"""What the command modules share: how an app is made, the options that several have, how sizes are read."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import completing, output
from slyther_cli.errors import OutputError, UsageError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}


def new_app(**settings: Any) -> typer.Typer:
    """A typer app in the manner of the house. Coloured help is for terminals; it costs 0.1 s."""
    return typer.Typer(
        rich_markup_mode="rich" if output.can_colour(sys.stdout) else None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        **settings,
    )


# Batches
Manifest = Annotated[
    str | None,
    typer.Option(
        help="More inputs: a path a line (- reads standard input), or a .tsv or .csv with a column path.",
        metavar="FILE",
    ),
]
Shard = Annotated[
    str | None, typer.Option(help="Only the I-th of N parts of the inputs, I from 1.", metavar="I/N")
]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        max=1024,
        help="Processes, each with the model; by default 1, on a cluster as many as have room.",
        metavar="N",
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(help="Work on a Ray cluster: its address, auto, or local for one here.", metavar="ADDRESS"),
]
RayGpus = Annotated[
    float | None,
    typer.Option(
        "--ray-gpus",
        min=0.0,
        max=64.0,
        help="Share of a GPU for each worker, as 0.25; by default 1 where there are GPUs.",
        metavar="SHARE",
    ),
]

# How a command talks
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only on stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also the model, the device and the plan.")]

# What it computes with
SEPARATOR, RECOGNISER, VOICE = "mamba-tasnet-8k-2spk", "conmamba-ctc-16k-en", "vall-me-16k-en"
"""The models that come with slyther: the defaults of the tasks, named here for the help alone."""


def _model(default: str, task: str) -> Any:
    return typer.Option(
        "--model",
        "-m",
        help=f"Name or folder of a model, by default {default}.",
        metavar="NAME|PATH",
        autocompletion=completing.models(task),
    )


Separator = Annotated[str | None, _model(SEPARATOR, "separate")]
Recogniser = Annotated[str | None, _model(RECOGNISER, "transcribe")]
Voice = Annotated[str | None, _model(VOICE, "speak")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        "-d",
        help="auto, cpu, cuda or cuda:N.",
        metavar="DEVICE",
        autocompletion=completing.devices,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, max=4096, help="CPU threads; by default one a core.")]
MemoryLimit = Annotated[
    str | None,
    typer.Option(
        help="Working memory, as 1GB; what does not fit goes to a file. By default half of what is free.",
        metavar="SIZE",
    ),
]
WorkDir = Annotated[
    Path | None, typer.Option(help="Folder for temporary files, by default the system's.", metavar="DIR")
]
JobDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder for temporary files, by default the system's; with --resume for the work that is kept, "
        "by default in slyther's cache.",
        metavar="DIR",
    ),
]

# Jobs over recordings
Inputs = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders, globs, or - for standard input.", metavar="INPUTS"),
]
Channel = Annotated[
    str, typer.Option(help="mix (the mean of all channels) or one, from 1 up.", metavar="mix|N")
]
Force = Annotated[bool, typer.Option("--force", help="Replace results that are there.")]
SkipExisting = Annotated[
    bool, typer.Option("--skip-existing", help="Leave out inputs whose results are there.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Keep the work in files: the same command goes on after a crash or a kill."
    ),
]
Raw = Annotated[
    str | None,
    typer.Option(
        help="Standard input is raw samples: 16000, or 48000:2:f32 (types u8 s16 s24 s32 f32 f64).",
        metavar="RATE[:CHANNELS[:TYPE]]",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]

# Sound files
SoundFormat = Annotated[
    str,
    typer.Option(
        "--format",
        "-f",
        help="wav or flac.",
        metavar="FORMAT",
        autocompletion=completing.of("wav", "flac"),
    ),
]
Subtype = Annotated[
    str,
    typer.Option(
        help="Bits a sample: 16, 24 or float (wav only).",
        metavar="BITS",
        autocompletion=completing.of("16", "24", "float"),
    ),
]

Pronunciations = Annotated[
    str | None,
    typer.Option(
        help="Your pronunciations: lines of a word, two blanks, and phones (W IH1 N) or a respelling "
        "(sequel).",
        metavar="FILE",
    ),
]

# How text is searched
Decode = Annotated[
    str | None,
    typer.Option(
        help="greedy, beam, or joint (models with a decoder); by default beam where there is a language "
        "model, else greedy.",
        metavar="HOW",
        autocompletion=completing.of("greedy", "beam", "joint"),
    ),
]
LanguageModel = Annotated[
    str, typer.Option(help="Language model: auto (the model's own), none, or a file.", metavar="LM")
]
LmWeight = Annotated[
    float | None,
    typer.Option(
        min=0.0, help=f"Weight of the language model; by default the model's own ({RECOGNISER}: 0.7)."
    ),
]
WordBonus = Annotated[
    float | None,
    typer.Option(help=f"Added for every word; by default the model's own ({RECOGNISER}: 3)."),
]
BEAM = f"Width of the beam; by default the model's own ({RECOGNISER}: 100)."

# Evaluations
Split = Annotated[str, typer.Option(help="Which of the manifest's splits.")]


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


def check_new(target: Path, force: bool) -> None:
    """Raises OutputError when a file is there that nobody said may be replaced."""
    from slyther_cli.audio.discover import shown

    if not force and os.path.lexists(target):
        raise OutputError(f"{shown(target)} is there already: --force replaces it")


def parse_size(text: str | None) -> int | None:
    """Bytes in "1GB", "500 MB", "1.5g", "2GiB", "1000000". Raises typer.BadParameter."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?)\s*([kmgt]?i?)b?\s*", text.lower())
    unit = (_UNITS | _BINARY).get(found[2]) if found else None
    if found is None or unit is None:
        raise typer.BadParameter(f"{text!r} is no size: write 500MB, 1GB or 2GiB")
    size = int(float(found[1]) * unit)
    if size < 1:
        raise typer.BadParameter(f"{text!r} is no memory at all")
    return size


def listed(text: str) -> list[str]:
    """The parts of "one, two"."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_seconds(text: str) -> list[float]:
    """The numbers of "4,16,60". Raises typer.BadParameter."""
    try:
        return [float(part) for part in listed(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of seconds: write 4,16,60") from None
