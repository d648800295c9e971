"""``slyther train synthesize``: training speech by other programs' voices."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, Quiet


def synthesize(
    texts: Annotated[
        list[Path],
        typer.Argument(help="UTF-8 texts, or manifests (.tsv: transcripts of split train).", metavar="TEXT"),
    ],
    folder: Annotated[
        Path, typer.Option("--output", "--output-dir", "-o", help="Folder for the speech.", metavar="DIR")
    ],
    hours: Annotated[float, typer.Option(help="Hours of speech to make.", metavar="HOURS")] = 1.0,
    voices: Annotated[
        str,
        typer.Option(
            help="Voices, with commas: espeak-ng, flite, festival, all, or one such as flite:slt.",
            metavar="LIST",
        ),
    ] = "all",
    vary: Annotated[float, typer.Option(help="Variation of speed and pitch, 0 to 1.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed: the same gives the same speech.")] = 0,
    rate: Annotated[int, typer.Option(help="Sample rate.", metavar="HZ")] = 16000,
    format: Annotated[str, typer.Option("--format", "-f", help="flac or opus.", metavar="FORMAT")] = "flac",
    workers: Annotated[int, typer.Option(min=1, max=256, help="Programs to run at a time.", metavar="N")] = 2,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make training speech with espeak-ng, flite and festival, where they are installed.

    The same call continues after a stop, and adds to DIR when asked for more hours. The manifest's path is
    printed.

    Exit codes: 0 done, 2 usage, 3 a text cannot be read or DIR not written, 130 and 143 when stopped.
    """
    output.json_asked = as_json
    from slyther_cli.research.training.synthetic import Plan
    from slyther_cli.research.training.synthetic import synthesize as run

    names = tuple(name.strip() for name in voices.split(",") if name.strip())
    bar = output.Bar()

    def tell(event: dict[str, Any]) -> None:
        if as_json:
            output.json_line(**event)
        elif event["event"] == "progress" and not quiet and output.can_draw(sys.stderr):
            share = min(1.0, event["hours"] / event["of"])
            bar.draw("speaking", share, f" {event['hours']:.2f} h, {event['utterances']} utterances")

    with bar:
        manifest = run(texts, folder, Plan(names, hours, seed, vary, rate, format), workers, tell)
    if as_json:
        output.json_line("summary", task="train_synthesize", manifest=str(manifest))
    else:
        output.data(str(manifest))
