"""``slyther study length``: word error rates of several recognisers by the length of the recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.commands.options import Json, Quiet, Split, Threads
from slyther_cli.commands.parsing import listed
from slyther_cli.errors import UsageError


def length(
    manifest: Annotated[
        Path, typer.Option(help="TSV of speech (path, speaker, split, transcript).", metavar="TSV")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Name or folder of a recogniser; may be repeated. Needed unless --write is given.",
            metavar="NAME|PATH",
        ),
    ] = None,
    split: Split = "test",
    sets: Annotated[
        str,
        typer.Option(
            help="single: utterances as they are; 60: joins of 45 to 60 s; 70, 80, 90, 100: of that many "
            "seconds or up to ten less.",
            metavar="NAME,...",
        ),
    ] = "single,60,70,80,90,100",
    examples: Annotated[
        int | None, typer.Option(min=1, help="Number of recordings of each set; by default all.", metavar="N")
    ] = None,
    decode: Annotated[
        str, typer.Option(help="greedy (the CTC head) or joint (with the decoder).", metavar="HOW")
    ] = "greedy",
    beam: Annotated[int, typer.Option(min=1, max=1000, help="Hypotheses to keep in joint decoding.")] = 10,
    write: Annotated[
        Path | None,
        typer.Option(
            help="Write the recordings and a manifest of them, splits named as sets.", metavar="DIR"
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the curves: .svg, or .png with matplotlib.", metavar="FILE")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")
    ] = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Report word error rates by length, on recordings joined from a speaker's utterances.

    An utterance that would overshoot a set's longest discards what was joined before it, as in Speech-Mamba's
    study, so sets hold different words. Every recording is processed in one pass, without a language model;
    rates are percent with 95 % bootstrap intervals.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read or written, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    if not model and write is None:
        raise UsageError("name recognisers with --model, or a folder for the recordings with --write")
    import torch

    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.research.evaluation.recognition import import_jiwer
    from slyther_cli.research.studies import curves, efficiency_plot
    from slyther_cli.research.studies import length as study

    if plot is not None:
        efficiency_plot.check(plot)
    if model:
        import_jiwer()
    if threads:
        torch.set_num_threads(threads)
    where = pick_device(device)
    systems = [study.Hears(name, decode, beam, where) for name in model or []]
    if len({system.name for system in systems}) < len(systems):
        for system, name in zip(systems, model or [], strict=True):
            system.name = name
    made = study.make_sets(manifest, split, listed(sets), examples)
    for one in made:
        facts = {
            "recordings": len(one.items),
            "seconds": round(one.seconds, 1),
            "dropped": round(one.dropped, 1),
        }
        if as_json:
            output.json_line("length_set", set=one.name, **facts)
        elif not quiet:
            output.words(
                f"set {one.name}: {len(one.items)} recordings, {output.duration(one.seconds)}; "
                f"{output.duration(one.dropped)} of the split fit into none"
            )
    if write is not None:
        study.write_sets(made, systems[0].rate if systems else 16_000, write)
        if not as_json:
            output.data(str(write / "manifest.tsv"))
    if not systems:
        return
    tell = ExampleReporter(
        as_json, quiet, "hearing", "{index}/{examples} of set {set}, {system}: WER {wer:.0f} %"
    )
    with tell.bar:
        rows = study.measure(systems, made, seed, tell)
    for row in rows:
        if as_json:
            output.json_line("length", decode=decode, **row)
    if not as_json:
        header = ("system", *(f"{one.name}: WER %" for one in made), "parameters")
        names = [system.name for system in systems]
        cells = [_cells(name, [row for row in rows if row["system"] == name]) for name in names]
        output.note_single([row["items"] for row in rows], "recording", quiet)
        output.print_table(cells, header)
    if plot is not None:
        places = {one.name: i for i, one in enumerate(made)}
        lines = {
            system.name: [
                curves.Point(places[r["set"]], r["wer"]["value"], *_ends(r["wer"]))
                for r in rows
                if r["system"] == system.name
            ]
            for system in systems
        }
        title = f"{split}, {'joint' if decode == 'joint' else 'greedy CTC'}"
        curves.draw(lines, title, "set, most seconds", "word error rate, %", plot, [one.name for one in made])
        output.words(f"slyther: wrote {plot}")


def _ends(rate: dict[str, Any]) -> list[float]:
    """Of the error bar; without length where the interval is unknown."""
    return [rate["value"] if rate[k] is None else rate[k] for k in ("low", "high")]


def _cells(name: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    wers = (row["wer"] for row in rows)
    rates = (output.interval(wer["value"], wer["low"], wer["high"]) for wer in wers)
    return (name, *rates, f"{rows[0]['parameters']:,}")
