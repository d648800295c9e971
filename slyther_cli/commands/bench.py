"""``slyther bench``: how fast slyther runs on this machine."""

from __future__ import annotations

from typing import Annotated

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
