"""``slyther bench``: how fast slyther runs on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import new_app

app = new_app(help="Measure how fast slyther runs on this machine.")


@app.callback()
def _bench() -> None:
    """Measure how fast slyther runs on this machine."""


@app.command("scan")
def scan(
    length: Annotated[int, typer.Option(min=16, max=10_000_000, help="Frames.")] = 4000,
    channels: Annotated[int, typer.Option(min=1, max=65_536)] = 256,
    states: Annotated[int, typer.Option(min=1, max=1024)] = 16,
    repeats: Annotated[int, typer.Option(min=1, max=1000, help="The best of so many counts.")] = 5,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Time the selective scan on every backend that can run here, beside the torch reference.

    The figure is 1e9 state updates (length x channels x states) a second: per CPU second, or per device.
    """
    output.json_asked = as_json
    from slyther_cli.studies.scan_speed import measure
    from slyther_cli.tasks.setup import pick_device

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
    for line in output.table(cells, ("backend", "on", "pass", "Gelem/s", "times reference")):
        output.data(line)


@app.command("separate")
def separate(
    models: Annotated[
        str, typer.Option(help="Published sizes (random weights) or trained models.", metavar="NAME,NAME")
    ] = "mamba-tasnet-xs,mamba-tasnet-m",
    durations: Annotated[
        str, typer.Option(help="Seconds of sound, each measured apart.", metavar="S,S,S")
    ] = "4,16,60",
    against: Annotated[
        str,
        typer.Option(help="A peer to measure beside them: sepformer (needs speechbrain).", metavar="PEER"),
    ] = "",
    runs: Annotated[int, typer.Option(min=1, max=1000, help="The median of so many counts.")] = 3,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Measure what separating costs on the CPU: time and memory, one pass and swept, for several lengths.

    CPU s/s are seconds of CPU time a second of sound, over all threads. Memory is the peak, and the peak less
    what the process held before. "one-pass" is the whole recording in one forward, as peers do it; "swept" is
    what `slyther separate` does, with its work file on disk.
    """
    output.json_asked = as_json
    from slyther_cli.studies.separation_speed import measure

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            output.json_line("bench_separate", **row)
        elif row["problem"]:
            output.words(f"slyther: {row['model']}, {row['how']}, {row['seconds']:g} s: {row['problem']}")

    rows = measure(_listed(models), _seconds(durations), _listed(against), runs, threads, tell)
    if not as_json:
        header = ("model", "parameters", "threads", "how", "sound s", "CPU s/s", "peak", "beside idle")
        for line in output.table([_cells(row) for row in rows if not row["problem"]], header):
            output.data(line)
    if all(row["problem"] for row in rows):
        raise typer.Exit(1)


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


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seconds(text: str) -> list[float]:
    try:
        return [float(part) for part in _listed(text)]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of seconds: write 4,16,60") from None
