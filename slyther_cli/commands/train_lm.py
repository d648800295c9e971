"""``slyther train lm``: a word n-gram model from plain text, for decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Force, Json, Quiet, check_new
from slyther_cli.commands.parsing import parse_size
from slyther_cli.errors import UsageError


def train_lm(
    texts: Annotated[
        list[Path] | None,
        typer.Argument(help="Text files, UTF-8: a sentence or a paragraph a line.", metavar="TEXT"),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Model file to write; needed unless --arpa is given.", metavar="FILE"
        ),
    ] = None,
    arpa: Annotated[
        Path | None,
        typer.Option(
            help="Also, or instead, write ARPA text; gzipped if the name ends in .gz.", metavar="FILE"
        ),
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="TSV of speech (path, split, transcript): transcripts of its train split are learnt, those "
            "of its dev split tell the perplexity; text that shares six words in a row with any but train "
            "is left out. May be repeated.",
            metavar="TSV",
        ),
    ] = None,
    order: Annotated[int, typer.Option(min=1, max=4, help="Longest n-grams, in words.")] = 3,
    max_size: Annotated[
        str | None,
        typer.Option(
            help="Prune the least useful n-grams until the file has this size, as 12MB; by default none.",
            metavar="SIZE",
        ),
    ] = None,
    least_word_count: Annotated[
        int, typer.Option(min=1, help="Treat words that occur less often as unknown.", metavar="N")
    ] = 1,
    mix: Annotated[
        bool,
        typer.Option(
            "--mix", help="Weight each text by how well it predicts the dev transcripts, not by its length."
        ),
    ] = False,
    blend: Annotated[
        str | None,
        typer.Option(
            help="Then add another model's probabilities with a weight between 0 and 1, as lm2.bin:0.1.",
            metavar="FILE:WEIGHT",
        ),
    ] = None,
    wrapped: Annotated[
        bool, typer.Option(help="Lines are wrapped: only an empty line ends a paragraph.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a language model on text (modified Kneser-Ney), for `slyther transcribe --lm FILE`.

    Text is split into sentences and normalised: lower case, no punctuation, numbers in words. It takes about
    130 MB of memory per million words. The path of the model is printed on stdout.

    Exit codes: 0 done, 2 usage, 3 a file cannot be read or written.
    """
    output.json_asked = as_json
    largest = parse_size(max_size)
    if not texts and not manifest:
        raise UsageError("name text files, or transcripts with --manifest")
    if target is None and arpa is None:
        raise UsageError("say where the model goes: -o lm.bin, or --arpa lm.arpa")
    if target is not None and target == arpa:
        raise UsageError("-o and --arpa name the same file: choose two names")
    from slyther_cli.audio.discover import check_target

    for path in filter(None, (target, arpa)):
        if not path.resolve().parent.is_dir():
            raise UsageError(f"{path}: the folder does not exist")
        check_target(path, *(texts or []), *(manifest or []))
        check_new(path, force)
    from slyther_cli.decode.arpa import load_language_model, write_arpa
    from slyther_cli.research.language.training import LanguageModelOptions, train_language_model

    added = None
    if blend is not None:
        other, weight = parse_blend(blend)
        added = load_language_model(other), weight

    def tell(event: dict) -> None:
        kind = event.pop("event")
        if as_json:
            output.json_line(kind, **event)
        elif not quiet:
            left_out = f", {event['left_out']:,} left out" if event["left_out"] else ""
            output.words(
                f"{event['file']}: {event['sentences']:,} sentences, {event['words']:,} words{left_out}"
            )

    model, report = train_language_model(
        texts or [],
        manifest or [],
        LanguageModelOptions(
            order=order,
            largest=largest,
            least_word_count=least_word_count,
            wrapped=wrapped,
            mix=mix,
            blend=added,
        ),
        tell,
    )
    if target is not None:
        model.save(target)
    if arpa is not None:
        write_arpa(model, arpa)
    if as_json:
        output.json_line("summary", task="train_lm", model=str(target or arpa), **report)
        return
    output.data(str(target or arpa))
    if not quiet:
        rows = " + ".join(f"{n:,}" for n in report["ngrams"])
        output.words(f"{rows} n-grams, {output.size(report['bytes'])}")
        for name, weight in report["weights"].items():
            output.words(f"weight of {name}: {weight:.3f}")
        for name, value in report["dev_perplexity"].items():
            output.words(
                f"perplexity of {name}: {value['perplexity']:.0f}, {value['unknown']:.1%} unknown words"
            )


def parse_blend(text: str) -> tuple[Path, float]:
    """The file and the weight of ``lm2.bin:0.1``. Raises UsageError."""
    file, _, number = text.rpartition(":")
    try:
        weight = float(number)
    except ValueError:
        weight = -1.0
    if not file or not 0 < weight < 1:
        raise UsageError(f"--blend {text}: write a model and its weight between 0 and 1, as lm2.bin:0.1")
    return Path(file), weight
