"""What separating costs: CPU-seconds a second of sound, and memory, beside a transformer (Speech Slytherin,
section 5).

Every measurement has a process of its own, so that neither memory nor caches of another one count. In it:
import, build the network, one run of the same length to warm up, then the runs that count. Time is the
process's CPU time over all its threads, so a busy neighbour takes little from it; the median counts. Memory
is the highest resident set since the network stood, by the kernel's own mark (Linux; elsewhere since the
process began); ``idle`` is what the process held before. Weights are random for the published sizes: speed
does not depend on them.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.runtime import same_python

PEERS = ("sepformer",)
HOWS = ("one-pass", "swept")
Row = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One measurement. ``how``: "one-pass", the whole recording in one forward as peers do it; "swept", as
    ``slyther separate`` does it, with the tape in a file. ``model``: a published size, a trained model's name
    or folder, or "sepformer"."""

    model: str
    how: str
    seconds: float
    runs: int = 3
    threads: int = 1


def measure(
    models: Sequence[str],
    durations: Sequence[float],
    against: Sequence[str] = (),
    runs: int = 3,
    threads: int = 1,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """One row for every model, way and duration, the peers last.

    Keys: those of :class:`Job`; ``parameters``, ``sample_rate``, ``cpu_per_second`` and ``wall_per_second``
    (seconds a second of sound, medians), ``idle_bytes``, ``peak_bytes``, ``extra_bytes`` (peak less idle),
    ``problem`` ("", or why there are no figures). Raises UsageError: nothing to measure, an unknown peer.
    """
    unknown = sorted(set(against) - set(PEERS))
    if unknown:
        raise UsageError(f"unknown peer {', '.join(unknown)}; known: {', '.join(PEERS)}")
    if not models or not durations or min(*durations, runs, threads) <= 0:
        raise UsageError("to measure takes models, and durations, runs and threads above 0")
    jobs = [Job(m, how, s, runs, threads) for m in models for how in HOWS for s in durations]
    jobs += [Job(peer, HOWS[0], s, runs, threads) for peer in against for s in durations]
    rows = []
    for job in jobs:
        rows.append(in_own_process(job))
        if on_row is not None:
            on_row(rows[-1])
    return rows


def in_own_process(job: Job) -> Row:
    """The row of a measurement made in a fresh interpreter. What goes wrong there is the row's
    ``problem``."""
    return {**asdict(job), "problem": "", **in_fresh_process(__name__, asdict(job), job.threads)}


def in_fresh_process(module: str, payload: dict[str, Any], threads: int) -> Row:
    """The JSON object that ``python -m module JSON`` prints last; or {"problem": why it did not}."""
    command, env = same_python(module, json.dumps(payload))
    env |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1:]
    if done.returncode == 0 and last:
        return json.loads(last[0])
    killed = f"killed by signal {-done.returncode}" if done.returncode < 0 else "it gave no result"
    return {"problem": last[0] if last else killed}


def run(job: Job) -> Row:
    """Measure in this process, which must be fresh."""
    import torch

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    model, rate = _build(job.model)
    samples = round(job.seconds * rate)
    mixture = 0.1 * torch.randn(samples)
    separate = _separator(model, job.how, mixture)
    idle = forget_peak()
    cpu, wall = [], []
    with torch.inference_mode():
        for _ in range(job.runs + 1):
            began = time.process_time(), time.perf_counter()
            separate()
            cpu.append(time.process_time() - began[0])
            wall.append(time.perf_counter() - began[1])
    peak = peak_memory()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "sample_rate": rate,
        "cpu_per_second": round(statistics.median(cpu[1:]) / job.seconds, 4),  # the first one warmed up
        "wall_per_second": round(statistics.median(wall[1:]) / job.seconds, 4),
        "idle_bytes": idle,
        "peak_bytes": peak,
        "extra_bytes": peak - idle,
    }


def _build(name: str) -> tuple[Any, int]:
    """The network in eval mode and its sample rate."""
    from slyther_cli.checkpoints import store
    from slyther_cli.models import registry

    if name in registry.PRESETS:
        model = registry.build(*registry.PRESETS[name]).eval()
    else:
        model = store.load(name, expect_task="separate")[0]
    return model, model.config.sample_rate


def _separator(model, how: str, mixture) -> Callable[[], None]:
    """A call that separates the mixture [samples] and lets go of the stems."""
    if how == "one-pass":
        batch = mixture[None]
        return lambda: (model(batch), None)[1]
    from slyther_cli.longform import plan_separation, separate_whole

    plan = plan_separation(model, len(mixture))
    if plan.tape == "memory":
        plan = replace(plan, tape="file")
    sound, block = mixture.numpy(), 1 << 16

    def blocks() -> Iterator:
        return (sound[i : i + block] for i in range(0, len(sound), block))

    def separate() -> None:
        for _ in separate_whole(model, blocks, plan):
            pass

    return separate


def forget_peak() -> int:
    """Bytes resident now; from here on the kernel marks a new peak where it can."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass
    return peak_memory()


def peak_memory() -> int:
    """The highest resident set in bytes. Not getrusage where it can be helped: after fork and exec its figure
    begins with that of the parent."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    try:
        print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
    except SlytherError as error:
        sys.exit(str(error))
