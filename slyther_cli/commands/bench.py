"""``slyther bench``: how fast slyther runs on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.bench_efficiency import efficiency
from slyther_cli.commands.bench_transcribe import transcribe
from slyther_cli.commands.options import Device, Json, WorkDir, new_app
from slyther_cli.commands.parsing import listed, parse_seconds, parse_size

app = new_app(help="Measure how fast slyther runs on this machine.")


app.command("efficiency")(efficiency)
app.command("transcribe")(transcribe)


@app.command("scan")
def scan(
    length: Annotated[int, typer.Option(min=16, max=10_000_000, help="Length in frames.")] = 4000,
    channels: Annotated[int, typer.Option(min=1, max=65_536)] = 256,
    states: Annotated[int, typer.Option(min=1, max=1024)] = 16,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="Runs, of which the best counts.")] = 5,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Time the selective scan on every backend available here, beside the torch reference.

    The unit is 1e9 state updates (length x channels x states) per second: CPU seconds, or seconds of a GPU.
    """
    output.json_asked = as_json
    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.research.studies.scan_speed import measure

    sizes = {"length": length, "channels": channels, "states": states, "repeats": repeats, "threads": threads}
    rows = measure(**sizes, device=pick_device(device))
    if as_json:
        for row in rows:
            output.json_line("bench_scan", **row, **sizes)
        return
    cells = [
        (
            str(row["backend"]),
            str(row["isa"]),
            str(row["pass"]),
            f"{row['gelem_per_s']:.3f}",
            f"{row['speedup_over_reference']:.1f}",
        )
        for row in rows
    ]
    output.print_table(cells, ("backend", "on", "pass", "Gelem/s", "times reference"))


@app.command("separate")
def separate(
    models: Annotated[
        str, typer.Option(help="Published sizes (random weights) or trained models.", metavar="NAME,NAME")
    ] = "mamba-tasnet-xs,mamba-tasnet-m",
    durations: Annotated[str, typer.Option(help="Durations in seconds.", metavar="S,S,S")] = "4,16,60",
    against: Annotated[
        str,
        typer.Option(help="Also measure a peer: sepformer.", metavar="PEER"),
    ] = "",
    runs: Annotated[int, typer.Option(min=1, max=1000, help="Runs, of which the median counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    as_json: Json = False,
) -> None:
    """Measure CPU time and memory of separation by duration, in one pass and swept.

    CPU s/s is CPU time per second of sound, over all threads. Memory is the peak, and the peak above what the
    process held before. "one-pass" is the whole recording in one forward pass, as peers do it; "swept" is
    what `slyther separate` does, with its temporary file on disk.
    """
    output.json_asked = as_json
    from slyther_cli.research.studies.separation_speed import measure

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            output.json_line("bench_separate", **row)
        elif row["problem"]:
            output.words(f"slyther: {row['model']}, {row['how']}, {row['seconds']:g} s: {row['problem']}")

    rows = measure(listed(models), parse_seconds(durations), listed(against), runs, threads, tell)
    if not as_json:
        header = ("model", "parameters", "threads", "how", "sound s", "CPU s/s", "peak", "beside idle")
        output.print_table([_cells(row) for row in rows if not row["problem"]], header)
    if all(row["problem"] for row in rows):
        raise typer.Exit(1)


@app.command("longform")
def longform(
    parts: Annotated[
        str,
        typer.Option(
            help="memory, speed, quality; by default the first two, and quality with --manifest.",
            metavar="PART,PART",
        ),
    ] = "",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Trained model.", metavar="NAME|PATH")
    ] = "mamba-tasnet-8k-2spk",
    lengths: Annotated[
        str,
        typer.Option(
            help="Seconds of sound. By default memory 60,600,3600; speed 10,60; quality 10,60,600,3600.",
            metavar="S,S,S",
        ),
    ] = "",
    memory_limit: Annotated[
        str, typer.Option(help="Memory limit to measure under.", metavar="SIZE")
    ] = "500MB",
    manifest: Annotated[
        Path | None, typer.Option(help="TSV of speech, for quality (docs/training.md).", metavar="TSV")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the manifest to use.")] = "test",
    windows: Annotated[
        str, typer.Option(help="Windows to compare with, in seconds.", metavar="S,S")
    ] = "10,30",
    pairs: Annotated[
        int, typer.Option(min=1, max=1000, help="Recordings for quality, of two voices each.")
    ] = 1,
    same_sex: Annotated[
        bool, typer.Option("--same-sex", help="Two men or two women in every recording.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the pauses and turns.")] = 0,
    runs: Annotated[
        int, typer.Option(min=1, max=1000, help="Runs for speed, of which the median counts.")
    ] = 3,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    work_dir: WorkDir = None,
    as_json: Json = False,
) -> None:
    """Measure memory, time and quality of long recordings, swept, in one pass and in windows.

    memory: the whole job, from file to files, under --memory-limit, each length in a process of its own.
    speed: CPU seconds per second of sound of the network alone, in one pass and swept. quality: SI-SNRi of
    two voices joined from real utterances, under one assignment for the whole recording, beside shorter
    pieces and windows with overlap-add. The quality of an hour takes eight times as long as separating it.
    """
    output.json_asked = as_json
    chosen = listed(parts) or ["memory", "speed", *(["quality"] if manifest else [])]
    unknown = sorted(set(chosen) - {"memory", "speed", "quality"})
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)} is no part: choose of memory, speed, quality")
    if "quality" in chosen and manifest is None:
        raise typer.BadParameter("quality needs speech: name a --manifest")
    from slyther_cli.research.studies import longform_cost
    from slyther_cli.research.studies.longform_recordings import Pairs

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            output.json_line("bench_longform", **row)
        elif row.get("problem"):
            output.words(f"slyther: {row['part']}, {row['seconds']:g} s: {row['problem']}")

    def asked(default: str) -> list[float]:
        return parse_seconds(lengths or default)

    rows: list[dict[str, Any]] = []
    for part in chosen:
        if part == "memory":
            limit = parse_size(memory_limit)
            assert limit is not None
            new = longform_cost.measure_memory(model, asked("60,600,3600"), limit, threads, work_dir, tell)
        elif part == "speed":
            new = longform_cost.measure_speed(model, asked("10,60"), runs, threads, tell)
        else:
            assert manifest is not None
            chosen_pairs = Pairs(manifest, split, pairs, same_sex, seed)
            new = _quality(model, chosen_pairs, asked("10,60,600,3600"), windows, threads, tell)
        rows += new
        if not as_json:
            output.print_table(*_longform_table(part, [r for r in new if not r.get("problem")]))
    if all(row.get("problem") for row in rows):
        raise typer.Exit(1)


def _quality(model, pairs, lengths, windows, threads, tell) -> list[dict[str, Any]]:
    import torch

    from slyther_cli.checkpoints import store
    from slyther_cli.research.studies.longform_quality import measure

    torch.set_num_threads(threads)
    network = store.load(model, expect_task="separate")[0]
    chosen = parse_seconds(windows) if windows else []
    return measure(network, model, pairs, lengths=lengths, windows=chosen, on_row=tell)


def _longform_table(part: str, rows: list[dict[str, Any]]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Cells and header of a part's table."""
    header: tuple[str, ...]
    if part == "memory":
        header = ("sound s", "limit", "beside idle", "peak", "CPU s/s", "of shortest")
        return [
            (
                f"{r['seconds']:g}",
                output.size(r["limit_bytes"]),
                output.size(r["extra_bytes"]) + ("" if r["holds"] else " (over)"),
                output.size(r["peak_bytes"]),
                f"{r['cpu_per_second']:.4f}",
                f"{r['of_shortest']:.2f}",
            )
            for r in rows
        ], header
    if part == "speed":
        header = ("sound s", "one pass CPU s/s", "swept CPU s/s", "swept / one pass")
        return [
            (f"{r['seconds']:g}", f"{r['one_pass']:.4f}", f"{r['swept']:.4f}", f"{r['ratio']:.2f}")
            for r in rows
        ], header
    header = ("how", "s", "pieces", "SI-SNRi", "in cells", "95 %", "cells", "swapped")
    return [
        (
            r["how"],
            f"{r['seconds']:g}",
            str(r["pieces"]),
            f"{r['si_snri']:.2f}",
            f"{r['cell_si_snri']:.2f}",
            "-" if r["low"] is None else f"{r['low']:.2f} to {r['high']:.2f}",
            str(r["cells"]),
            f"{100 * r['swapped']:.1f} %",
        )
        for r in rows
    ], header


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["model"],
        f"{row['parameters']:,}",
        str(row["threads"]),
        row["how"],
        f"{row['seconds']:g}",
        f"{row['cpu_per_second']:.3f}",
        output.size(row["peak_bytes"]),
        output.size(row["extra_bytes"]),
    )
