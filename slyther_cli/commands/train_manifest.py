"""``slyther train manifest``: the manifest of a well-known corpus, as it is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from slyther_cli.commands import completing, output
from slyther_cli.commands.options import Force, Json, Quiet, check_new
from slyther_cli.errors import UsageError

CORPORA = ("librispeech", "commonvoice", "ljspeech", "vctk", "tedlium")
EVERY = 500  # utterances from one sign of life to the next


def manifest(
    corpus: Annotated[
        str,
        typer.Argument(
            help=f"Which corpus it is: {', '.join(CORPORA)}.",
            metavar="CORPUS",
            autocompletion=completing.of(*CORPORA),
        ),
    ],
    folder: Annotated[Path, typer.Argument(help="Where it lies, unpacked.", metavar="FOLDER")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Manifest to write.", metavar="FILE")],
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the manifest (.tsv) that trainings and evaluations read, for a corpus as it is downloaded.

    The corpus's own splits are kept; LJ Speech and VCTK have none, and a tenth of their chapters or speakers
    is held out. TED-LIUM's talks are cut into utterances in FILE-cuts. The path of FILE is printed.

    \b
    Examples:
      slyther train manifest librispeech ~/LibriSpeech -o librispeech.tsv
      slyther train manifest commonvoice ~/cv-corpus-21.0/en -o commonvoice.tsv

    Exit codes: 0 done, 2 usage, 3 the corpus cannot be read or FILE not written, 130 and 143 when stopped.
    """
    output.json_asked = as_json
    if corpus not in CORPORA:
        raise UsageError(f"the corpus {corpus!r} is not known: {', '.join(CORPORA)}")
    check_new(out, force)
    from slyther_cli.research.training.corpora import write_manifest

    bar = output.Bar()

    def tell(count: int) -> None:
        if not quiet and not as_json and count % EVERY == 0 and output.can_draw(sys.stderr):
            bar.draw("reading", None, f" {count:,} utterances")

    with bar:
        counts = write_manifest(corpus, folder, out, tell)
    if as_json:
        output.json_line("summary", task="train_manifest", manifest=str(out), **counts)
        return
    if not quiet:
        missing = f"; {counts['missing']:,} listed recordings are not there" if counts["missing"] else ""
        splits = ", ".join(f"{counts[split]:,} {split}" for split in ("train", "dev", "test"))
        output.words(f"{splits}{missing}")
    output.data(str(out))
