"""``slyther train align``: when each phone of recorded speech was said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Force, Json, Quiet, check_new


def align(
    manifests: Annotated[
        list[Path], typer.Argument(help="Manifests (.tsv) with transcripts.", metavar="MANIFEST")
    ],
    out: Annotated[Path, typer.Option("--output", "-o", help="Manifest to write.", metavar="FILE")],
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Align recordings with their text by PocketSphinx, for the phone durations that voices learn.

    Recordings that do not fit their text, or say more than it, are left out. The path of FILE is printed.

    Exit codes: 0 done, 2 usage, 3 an input cannot be read or FILE not written, 130 and 143 when stopped.
    """
    output.json_asked = as_json
    from slyther_cli.audio.discover import check_target

    check_target(out, *manifests)
    check_new(out, force)
    from slyther_cli.research.studies.pocketsphinx_reference import PhoneAligner
    from slyther_cli.research.training.alignment import align_manifests

    bar = output.Bar()

    def tell(event: dict[str, Any]) -> None:
        if as_json:
            output.json_line(**event)
        elif not quiet and output.can_draw(sys.stderr):
            bar.draw("aligning", event["done"] / event["of"], f" {event['done']} of {event['of']}")

    with bar:
        counts = align_manifests(manifests, out, PhoneAligner(), tell)
    if as_json:
        output.json_line("summary", task="train_align", manifest=str(out), **counts)
        return
    if counts["left_out"] and not quiet:
        output.words(f"{counts['left_out']} utterances do not fit their text: left out")
    output.data(str(out))
