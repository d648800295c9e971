"""``slyther bench efficiency``: Mamba against its Transformer counterpart, by duration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Device, Json
from slyther_cli.commands.parsing import parse_seconds, parse_size


class Task(StrEnum):
    separation = "separation"
    recognition = "recognition"
    synthesis = "synthesis"
    decoding = "decoding"


class Sizes(StrEnum):
    equal = "equal"
    published = "published"
    small = "small"


def efficiency(
    task: Annotated[
        Task,
        typer.Option(help="Task of the networks; decoding is the first stage of synthesis, frame by frame."),
    ],
    sizes: Annotated[
        Sizes,
        typer.Option(
            help="equal: Mamba made as large as its counterpart; published: as the papers compare them; "
            "small: equal, for a weak machine."
        ),
    ] = Sizes.equal,
    max_seconds: Annotated[
        float, typer.Option(min=1, max=1 << 20, help="Longest duration; from 1 s on by doubling.")
    ] = 16,
    lengths: Annotated[
        str | None,
        typer.Option(
            help="These durations instead, with commas; by default 1, 2, 4 .. s.",
            metavar="SECONDS,...",
            show_default=False,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Runs, of which the median counts.")] = 3,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            help="Most memory a network may take before it gives up; by default all.", metavar="SIZE"
        ),
    ] = None,
    device: Device = "auto",
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Plot the curves: .svg, or .png with matplotlib.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare Mamba with its Transformer counterpart in time and peak memory, by duration.

    Each length runs in a process of its own, is warmed up, and the median of several runs counts. Time is CPU
    time, on a GPU wall time; memory is the peak beside the weights. The last lines name the duration from
    which on Mamba stays ahead. Mamba runs in one pass here, as its counterpart does; `bench separate` and
    `bench longform` show what the sweeps save.
    """
    output.json_asked = as_json
    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.research.studies import efficiency as study
    from slyther_cli.research.studies import efficiency_plot

    if plot is not None:
        efficiency_plot.check(plot)
    limit = parse_size(memory_limit) or 0
    asked = sorted(parse_seconds(lengths)) if lengths else []
    where = pick_device(device)

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            output.json_line("bench_efficiency", **row)
        elif row["problem"]:
            output.words(f"slyther: {row['kind']}, {row['seconds']:g} s: {row['problem']}")
        else:
            output.words(f"slyther: {row['kind']}, {row['seconds']:g} s: {row['wall_seconds']:.2f} s")

    how = {"repeats": repeats, "device": where, "threads": threads, "memory_limit": limit}
    rows = study.measure(task.value, sizes.value, max_seconds, asked, tell, **how)
    done = [row for row in rows if not row["problem"]]
    found = {
        what: study.crossover(rows, key)
        for what, key in (("time", study.time_key(rows)), ("memory", "extra_bytes"))
    }
    for what, where_ahead in found.items():
        if as_json:
            output.json_line("bench_efficiency_crossover", task=task.value, what=what, **where_ahead)
    if not as_json and done:
        output.print_table(_cells(rows, study.time_key(rows)), _header(rows))
        for what, where_ahead in found.items():
            output.data(_sentence(what, where_ahead))
    if plot is not None and done:
        efficiency_plot.draw(rows, f"{task.value}, {sizes.value} sizes, {where}", plot)
        output.words(f"slyther: wrote {plot}")
    if not done:
        raise typer.Exit(1)


def _header(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    names = []
    for kind in ("mamba", "transformer"):
        row = next((r for r in rows if r["kind"] == kind and "parameters" in r), None)
        names.append(f"{row['architecture']} {row['parameters'] / 1e6:.1f} M" if row else kind)
    return ("sound s", "tokens", *(f"{name}: s" for name in names), "ratio", "memory", "memory", "ratio")


def _cells(rows: list[dict[str, Any]], key: str) -> list[tuple[str, ...]]:
    out = []
    for seconds in sorted({row["seconds"] for row in rows}):
        pair = [
            next(
                (r for r in rows if r["seconds"] == seconds and r["kind"] == kind and not r["problem"]), None
            )
            for kind in ("mamba", "transformer")
        ]
        tokens = next((str(r["tokens"]) for r in pair if r), "-")
        cells = [f"{seconds:g}", tokens]
        for what, show in ((key, "{:.3f}".format), ("extra_bytes", output.size)):
            cells += [show(r[what]) if r else "-" for r in pair]
            mamba, other = pair
            cells.append(f"{other[what] / max(mamba[what], 1e-9):.2f}" if mamba and other else "-")
        out.append(tuple(cells))
    return out


def _sentence(what: str, found: dict[str, Any]) -> str:
    start, behind, longest = found["from_seconds"], found["after_seconds"], found["longest_seconds"]
    if start is None:
        where = f"{found['ratio']:.2f} of Mamba's at {longest:g} s" if longest is not None else "not compared"
        return f"{what}: Mamba is not ahead at the longest sound measured (the counterpart needs {where})"
    if behind is None:
        return f"{what}: Mamba is ahead from the shortest sound measured on ({start:g} s)"
    return f"{what}: Mamba stays ahead from {start:g} s on (not yet at {behind:g} s)"
