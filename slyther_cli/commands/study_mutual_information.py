"""``slyther study mutual-information``: what is left of the input after each layer."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output


class Way(StrEnum):
    utterance = "utterance"
    shared = "shared"
    pooled = "pooled"


def mutual_information(
    manifest: Annotated[Path, typer.Option(help="TSV of speech (path, speaker, split).", metavar="TSV")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or folder of a recogniser or a HuBERT.")
    ] = "conmamba-ctc-16k-en",
    split: Annotated[str, typer.Option(help="Split of the manifest to use.")] = "dev",
    way: Annotated[
        Way,
        typer.Option(
            help="utterance: an estimate for each, from fresh values; shared: as the papers' code, one "
            "network for all, never fresh; pooled: one for all frames, tested on others."
        ),
    ] = Way.utterance,
    examples: Annotated[int, typer.Option(min=1, help="Utterances, spread evenly over the split.")] = 20,
    seeds: Annotated[
        int, typer.Option(min=1, max=100, help="Estimates of each layer, each from other initial values.")
    ] = 3,
    seconds: Annotated[float, typer.Option(min=1, help="Use at most this much of an utterance.")] = 20,
    passes: Annotated[int, typer.Option(min=1, help="Passes over the frames of an estimate.")] = 100,
    batch: Annotated[int, typer.Option(min=2, help="Frames per step.")] = 128,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-4,
    unscaled: Annotated[
        bool, typer.Option("--unscaled", help="Do not scale every channel to unit variance.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", hidden=True)] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure the same network before any training, as a baseline.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the curve: .svg, or .png with matplotlib.", metavar="FILE")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as JSON, one object a line, for programs.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Estimate the mutual information of the first layer's input and each layer's output, by MINE.

    The baseline is the same estimate with the input's frames in another order, where there is nothing to be
    found. Nats, with 95 % bootstrap intervals over utterances and seeds (pooled: the range of the seeds). The
    defaults are the papers' (100 passes, batches of 128, rate 1e-4): with few frames they compare layers, and
    stay below the true value.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model.
    """
    output.json_asked = as_json
    import torch

    from slyther_cli.checkpoints import store
    from slyther_cli.research.studies import curves, efficiency_plot
    from slyther_cli.research.studies import mutual_information as study
    from slyther_cli.research.studies.mine import MineConfig

    if plot is not None:
        efficiency_plot.check(plot)
    c = study.Study(
        way.value, examples, seeds, seconds, unscaled or raw, MineConfig(lr=rate, passes=passes, batch=batch)
    )
    torch.set_num_threads(threads)
    network, about = store.load(model)
    if fresh:
        network = study.untrained(network, about.architecture, about.config)
    bar = output.Bar()

    def show_progress(done: int, of: int) -> None:
        if as_json:
            output.json_line("progress", done=done, of=of)
        elif not quiet and output.can_draw(sys.stderr):
            bar.draw("estimating", done / of, f" {done}/{of}")

    with bar:
        rows, found = study.measure(network, manifest, split, c, show_progress)
    for row in rows:
        if as_json:
            output.json_line("mutual_information", model=about.name, split=split, **row)
    if as_json:
        output.json_line("mutual_information_pattern", model=about.name, **found)
    else:
        header = ("layer", "nats", "95 %", "shuffled", *(f"seed {i}" for i in range(seeds)))
        output.print_table([_cells(row) for row in rows], header)
        output.data(_sentence(found))
    if plot is not None:
        lines = {
            name: [curves.Point(r["layer"], r[key]["value"], r[key]["low"], r[key]["high"]) for r in rows]
            for key, name in (("mi", "input and layer"), ("baseline", "shuffled"))
        }
        curves.draw(lines, f"{about.name}, {c.way}", "layer", "mutual information, nats", plot)
        output.words(f"slyther: wrote {plot}")


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    mi, other = row["mi"], row["baseline"]
    return (
        str(row["layer"]),
        f"{mi['value']:.3f}",
        f"{mi['low']:.3f} to {mi['high']:.3f}",
        f"{other['value']:.3f}",
        *(f"{v:.3f}" for v in mi["by_seed"]),
    )


def _sentence(found: dict[str, Any]) -> str:
    def with_interval(change: dict[str, Any]) -> str:
        between = f" ({change['low']:.3f} to {change['high']:.3f})" if "low" in change else ""
        return f"{change['value']:.3f}{between}"

    return (
        f"{found['shape']}: lowest after layer {found['lowest_layer']}; the fall to there is "
        f"{with_interval(found['fall'])} nats, "
        f"the rise from there to the last layer {with_interval(found['rise'])}"
    )
