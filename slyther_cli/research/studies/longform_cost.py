"""What a long recording costs: memory and CPU time of ``slyther separate`` by length, beside one pass.

Every length is separated by the Python API, from a file to files, in a process of its own that first loads
all modules (the idle process), then counts its peak by the kernel's mark and its CPU time over all threads.
The sound is noise: neither depends on what is said.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.research.studies.separation_speed import (
    HOWS,
    Job,
    forget_peak,
    in_fresh_process,
    in_own_process,
    peak_memory,
)

Row = dict[str, Any]
Told = Callable[[Row], None]


def measure_memory(
    model: str,
    lengths: Sequence[float],
    limit: int,
    threads: int = 1,
    work_dir: Path | None = None,
    on_row: Told | None = None,
) -> list[Row]:
    """One row for every length in seconds, the shortest first.

    Keys: ``part`` "memory", ``model``, ``seconds``, ``threads``, ``limit_bytes``; ``idle_bytes``,
    ``peak_bytes``, ``extra_bytes`` (peak less idle), ``holds`` (whether that is within the limit);
    ``cpu_per_second``, ``wall_per_second`` (seconds a second of sound, loading the model included) and
    ``of_shortest``, the first as a share of the shortest length's; ``plan``; ``problem`` ("", or why there
    are no figures). Raises UsageError on lengths that are not above 0.
    """
    if not lengths or min(lengths) <= 0:
        raise UsageError("to measure takes lengths above 0 s")
    rows: list[Row] = []
    for seconds in sorted(lengths):
        job: Row = {"model": model, "seconds": seconds, "threads": threads, "limit_bytes": limit}
        with tempfile.TemporaryDirectory(dir=work_dir, prefix="slyther-bench-") as folder:
            make_noise(Path(folder) / "noise.wav", seconds)
            row = {"part": "memory", **job, "problem": ""}
            row |= in_fresh_process(__name__, {**job, "folder": folder}, threads)
        if not row["problem"]:
            row["holds"] = row["extra_bytes"] <= limit
            shortest = next((r for r in rows if not r["problem"]), row)
            row["of_shortest"] = round(row["cpu_per_second"] / shortest["cpu_per_second"], 3)
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def measure_speed(
    model: str, lengths: Sequence[float], runs: int = 3, threads: int = 1, on_row: Told | None = None
) -> list[Row]:
    """One row for every length: the network alone, in one pass and swept with its tape in a file.

    Keys: ``part`` "speed", ``model``, ``seconds``, ``threads``, ``runs``; ``one_pass`` and ``swept``, CPU
    seconds a second of sound (medians), ``ratio`` of the second to the first; ``problem``.
    """
    rows = []
    for seconds in lengths:
        row: Row = {"part": "speed", "model": model, "seconds": seconds, "threads": threads, "runs": runs}
        found = [in_own_process(Job(model, how, seconds, runs, threads)) for how in HOWS]
        row["problem"] = next((f["problem"] for f in found if f["problem"]), "")
        if not row["problem"]:
            row["one_pass"], row["swept"] = (f["cpu_per_second"] for f in found)
            row["ratio"] = round(row["swept"] / row["one_pass"], 3)
        rows.append(row)
        if on_row is not None:
            on_row(row)
    return rows


def make_noise(path: Path, seconds: float, rate: int = 8000) -> None:
    """A 16-bit WAV file of noise."""
    import numpy as np

    from slyther_cli.audio.writer import StemWriter

    rng, left = np.random.default_rng(0), round(seconds * rate)
    with StemWriter(path, rate, clip="none", frames=left) as file:
        while left:
            count = min(left, 1 << 16)
            file.write(0.1 * rng.standard_normal(count, np.float32))
            left -= count
        file.commit()


def run(job: Row) -> Row:
    """Measure in this process, which must be fresh."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401
    import torch

    from slyther_cli.longform import separation as engine  # noqa: F401
    from slyther_cli.models import mamba_tasnet  # noqa: F401
    from slyther_cli.separation.job import separate

    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    idle, cpu, wall = forget_peak(), time.process_time(), time.perf_counter()
    (result,) = separate(
        folder / "noise.wav",
        folder / "out",
        job["model"],
        memory_limit=job["limit_bytes"],
        work_dir=folder,
        device="cpu",
        threads=job["threads"],
    )
    cpu, wall, peak = time.process_time() - cpu, time.perf_counter() - wall, peak_memory()
    if result.error is not None:
        raise result.error
    return {
        "idle_bytes": idle,
        "peak_bytes": peak,
        "extra_bytes": peak - idle,
        "cpu_per_second": round(cpu / job["seconds"], 4),
        "wall_per_second": round(wall / job["seconds"], 4),
        "plan": list(result.plan),
    }


if __name__ == "__main__":
    try:
        print(json.dumps(run(json.loads(sys.argv[1]))))
    except SlytherError as error:
        sys.exit(str(error))
