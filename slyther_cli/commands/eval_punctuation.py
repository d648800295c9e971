"""``slyther eval punctuation``: how well marks and capitals are restored."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.errors import InputError, UsageError


def punctuation(
    texts: Annotated[
        list[Path] | None,
        typer.Argument(help="Text files, UTF-8, with their marks and capitals.", metavar="TEXT"),
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="TSV of text files (path, split), as for training.", metavar="TSV"),
    ] = None,
    transcripts: Annotated[
        Path | None,
        typer.Option(
            help="TSV with the columns hypothesis (a recogniser's words) and reference, instead of texts.",
            metavar="TSV",
        ),
    ] = None,
    split: opt.Split = "test",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or folder of a model.", metavar="NAME|PATH")
    ] = "punctuation-en",
    errors: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of the words of TEXT that are made wrong, as by a recogniser."
        ),
    ] = 0.0,
    words: Annotated[
        int | None, typer.Option(min=1, help="Words of each text; by default all.", metavar="N")
    ] = None,
    wrapped: Annotated[
        bool, typer.Option("--wrapped", help="Lines are wrapped: only an empty line ends a paragraph.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of errors and bootstrap.")] = 0,
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Take marks and capitals out of texts, restore them, and report precision, recall and F1 in percent.

    "any mark" is whether there is one, "sentence end" whether there is a full stop, a question or an
    exclamation mark, "capital" the words with one, but for I. F1 has a 95 % bootstrap interval over texts.
    --transcripts aligns a recogniser's words with the text (needs jiwer); rows with digits are left out.

    Exit codes: 0 done, 2 usage, 3 a text cannot be read, 5 model.
    """
    output.json_asked = as_json
    if bool(texts or manifest) == (transcripts is not None):
        raise UsageError("name texts, or a --manifest of them, or --transcripts")
    if transcripts is not None and errors:
        raise UsageError("--errors is for texts: --transcripts have errors of their own")
    import torch

    from slyther_cli.research.evaluation import punctuation as evaluation
    from slyther_cli.research.language.corpus import paragraphs
    from slyther_cli.research.language.marked import Reader, settle
    from slyther_cli.research.training.punctuation_data import read_books
    from slyther_cli.transcription.punctuate import Punctuator

    if threads:
        torch.set_num_threads(threads)
    loaded = Punctuator(model)
    network, pieces = loaded.network, loaded.tokenizer
    so_far = "{index}/{examples}, F1 of full stops {full_stop:.2f}, commas {comma:.2f}"
    tell = ExampleReporter(as_json, quiet, "evaluating", so_far)
    left_out = 0
    with tell.bar:
        if transcripts is not None:
            rows, left_out = evaluation.score_transcripts(network, pieces, transcripts, seed, tell)
        else:
            reader = Reader()
            found = list(read_books(manifest, split, wrapped, reader).values()) if manifest else []
            mine = [reader.read(paragraphs(path, wrapped)) for path in texts or ()]
            settle(mine, len(reader.vocabulary))
            found = [text.part(0, words) for text in found + mine if len(text)]
            if not found:
                raise InputError("the texts have no paragraph that ends as sentences do")
            rows = evaluation.score_texts(network, pieces, reader, found, errors, seed, tell)
    if as_json:
        output.json_line(
            "summary", task="eval_punctuation", model=loaded.name, errors=errors, left_out=left_out, rows=rows
        )
        return
    if left_out and not quiet:
        output.words(f"slyther: {left_out} rows are left out: their references are not words and marks alone")
    header = ("of", "number", "precision %", "recall %", "F1 %")
    output.print_table([_cells(row) for row in rows], header)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    precision, recall = ("-" if row[x] is None else f"{100 * row[x]:.1f}" for x in ("precision", "recall"))
    value, low, high = (x if x is None else 100 * x for x in row["f1"].values())
    return row["of"], f"{row['true']:,}", precision, recall, output.interval(value or 0.0, low, high)
