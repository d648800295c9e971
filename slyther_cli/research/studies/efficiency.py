"""From which duration on Mamba beats its Transformer counterpart, in time and in memory (Speech Slytherin's
efficiency study; papers.md section 5).

Networks of equal size with random weights, batch 1, fp32, no gradients. Every length is measured in a process
of its own: build, one run to warm up, then the runs that count, of which the median is taken. Time is CPU
time over all threads (a busy neighbour takes little from it), and wall time beside it; on a GPU wall time
decides. Memory is the peak beside what the process held before, weights included in the latter. A model that
runs out of memory is not tried on longer sounds.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.research.studies.separation_speed import Row, forget_peak, in_fresh_process, peak_memory

KINDS = ("mamba", "transformer")
_CTC = {"n_fft": 512, "decoder": "none", "vocab": 31, "d_model": 256, "n_layers": 18}
_SMALL_CTC = {"n_fft": 512, "decoder": "none", "vocab": 31, "n_layers": 8, "max_positions": 1}
_SMALL_VOICE = {"d_model": 256, "n_layers": 6, "n_nar_layers": 4}

# task -> sizes -> (architecture, config) of Mamba and of the Transformer. "published" are the networks that
# the papers compare; "equal" makes Mamba as large as its counterpart (within 0.5 %), by its depth where it
# has no feed-forward part, else by that part's width; "small" are equal, too, and fit a weak machine.
PAIRS: dict[str, dict[str, tuple[tuple[str, dict[str, Any]], tuple[str, dict[str, Any]]]]] = {
    "separation": {
        "equal": (
            ("mamba-tasnet", {"n_filters": 256, "d_model": 256, "n_layers": 53}),
            ("sepformer", {}),
        ),
        "published": (
            ("mamba-tasnet", {"n_filters": 256, "d_model": 256, "n_layers": 32}),
            ("sepformer", {}),
        ),
        "small": (("mamba-tasnet", {}), ("sepformer", {"n_filters": 128, "n_layers": 3, "d_ffn": 423})),
    },
    "recognition": {
        "equal": (("conmamba", {**_CTC, "d_ffn": 874}), ("conformer", _CTC)),
        "published": (("conmamba", _CTC), ("conformer", _CTC)),
        "small": (("conmamba", {**_SMALL_CTC, "d_ffn": 576}), ("conformer", {**_SMALL_CTC, "d_ffn": 684})),
    },
    "synthesis": {
        "equal": (("vall-m", {"d_ffn": 2801}), ("vall-e", {})),
        "published": (("vall-m", {}), ("vall-e", {})),
        "small": (
            ("vall-m", {**_SMALL_VOICE, "d_ffn": 650}),
            ("vall-e", {**_SMALL_VOICE, "d_ffn": 1024, "n_heads": 4}),
        ),
    },
}
PAIRS["decoding"] = PAIRS["synthesis"]  # the first stage alone: what grows with what was said before
SIZES = ("equal", "published", "small")
TOKENS_A_SECOND = {"separation": 1000, "recognition": 25, "synthesis": 75, "decoding": 75}
SYMBOLS_A_SECOND = 14  # phonemes of read English
WARM_STEPS = 8


@dataclass(frozen=True)
class Job:
    """One length of one network. ``memory_limit``: bytes beside the idle process, 0 for none."""

    task: str
    kind: str
    sizes: str
    seconds: float
    repeats: int = 3
    device: str = "cpu"
    threads: int = 1
    memory_limit: int = 0


def measure(
    task: str,
    sizes: str = "equal",
    max_seconds: float = 16,
    lengths: Sequence[float] = (),
    on_row: Callable[[Row], None] | None = None,
    **how: Any,
) -> list[Row]:
    """One row for every length, ``lengths`` or 1, 2, 4 .. s up to ``max_seconds``, and network, Mamba first.
    ``how``: ``repeats``, ``device``, ``threads`` and ``memory_limit`` of a :class:`Job`.

    Keys: those of :class:`Job`; ``architecture``, ``parameters``, ``tokens``, ``cpu_seconds``,
    ``wall_seconds``, ``extra_bytes``, ``problem`` ("", or why there are no figures). Raises UsageError:
    nothing to measure.
    """
    if task not in PAIRS or sizes not in SIZES:
        raise UsageError(f"to measure takes one of {', '.join(PAIRS)}, in one of {', '.join(SIZES)}")
    like = Job(task, KINDS[0], sizes, max_seconds, **how)
    if not all(1 <= s <= 1 << 20 for s in (max_seconds, *lengths)) or min(like.repeats, like.threads) < 1:
        raise UsageError("to measure takes sounds of 1 s or more, repeats and threads of 1 or more")
    rows: list[Row] = []
    given_up: set[str] = set()
    for seconds in lengths or [1 << i for i in range(int(max_seconds).bit_length())]:
        for kind in KINDS:
            if kind in given_up:
                continue
            job = asdict(replace(like, kind=kind, seconds=seconds))
            row = {**job, "problem": "", **in_fresh_process(__name__, job, like.threads)}
            if row["problem"]:
                given_up.add(kind)
            rows.append(row)
            if on_row is not None:
                on_row(row)
    return rows


def time_key(rows: Sequence[Row]) -> str:
    """The clock that decides: CPU seconds, or wall seconds on a GPU."""
    return "wall_seconds" if any(row["device"] != "cpu" for row in rows) else "cpu_seconds"


def crossover(rows: Sequence[Row], key: str) -> dict[str, Any]:
    """From where on Mamba stays ahead in ``key``.

    ``from_seconds``: the first measured length from which on it needs less at every length (or the other one
    gave up), None where it does not at the longest; ``after_seconds``: the longest length where it is
    not ahead, None where there is none; ``longest_seconds``: the longest where both have figures;
    ``ratio``: there, the Transformer's figure over Mamba's.
    """
    at: dict[float, dict[str, Row]] = {}
    for row in rows:
        at.setdefault(row["seconds"], {})[row["kind"]] = row
    start = behind = longest = ratio = None
    for seconds in sorted(at):
        mamba, other = (at[seconds].get(kind) for kind in KINDS)
        if mamba is None or mamba["problem"]:
            if other is None or other["problem"]:
                continue
            start, behind = None, seconds
            continue
        lost = other is None or bool(other["problem"])
        if not lost:
            assert other is not None
            longest, ratio = seconds, other[key] / max(mamba[key], 1e-9)
        if lost or (other is not None and mamba[key] < other[key]):
            start = seconds if start is None else start
        else:
            start, behind = None, seconds
    return {"from_seconds": start, "after_seconds": behind, "longest_seconds": longest, "ratio": ratio}


# --- in the process that measures ---


def run(job: Job) -> Row:
    """Measure in this process, which must be fresh."""
    import torch

    from slyther_cli.jobs.setup import out_of_memory
    from slyther_cli.models import registry

    torch.set_num_threads(job.threads)
    torch.manual_seed(0)
    architecture, config = PAIRS[job.task][job.sizes][KINDS.index(job.kind)]
    model = registry.build(architecture, config).eval().to(job.device)
    found: Row = {
        "architecture": architecture,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": round(TOKENS_A_SECOND[job.task] * job.seconds),
    }
    warm, measured = _work(job, model)
    cuda = job.device != "cpu"
    idle = _limit(job)
    cpu, wall = [], []
    try:
        with torch.inference_mode():
            for i in range(job.repeats + 1):
                began = time.process_time(), time.perf_counter()
                (measured if i else warm)()
                if cuda:
                    torch.cuda.synchronize(job.device)
                cpu.append(time.process_time() - began[0])
                wall.append(time.perf_counter() - began[1])
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error) is None:
            raise
        return {**found, "problem": "out of memory"}
    peak = torch.cuda.max_memory_allocated(job.device) if cuda else peak_memory()
    return {
        **found,
        "cpu_seconds": round(statistics.median(cpu[1:]), 5),
        "wall_seconds": round(statistics.median(wall[1:]), 5),
        "extra_bytes": max(0, peak - idle),
    }


def _limit(job: Job) -> int:
    """Bytes held now; from here on there is a new peak, and ``memory_limit`` bytes at most beside them."""
    import torch

    if job.device != "cpu":
        held = torch.cuda.memory_allocated(job.device)
        torch.cuda.reset_peak_memory_stats(job.device)
        if job.memory_limit:
            total = torch.cuda.get_device_properties(job.device).total_memory
            torch.cuda.set_per_process_memory_fraction(
                min(1.0, (held + job.memory_limit) / total), job.device
            )
        return held
    if job.memory_limit:
        import resource

        used = 0
        try:
            with open("/proc/self/status") as file:
                used = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
        except (OSError, StopIteration):
            raise UsageError("--memory-limit needs Linux or a GPU") from None
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (used + job.memory_limit, hard))
    return forget_peak()


def _work(job: Job, model: Any) -> tuple[Callable[[], object], Callable[[], object]]:
    """What warms up and what is measured."""
    import torch

    c = model.config
    if job.task in ("synthesis", "decoding"):
        symbols = torch.randint(1, c.n_symbols, (1, max(1, round(SYMBOLS_A_SECOND * job.seconds))))
        symbols, frames = symbols.to(job.device), round(c.frame_rate * job.seconds)
        say = decode if job.task == "decoding" else speak
        return lambda: say(model, symbols, frames, WARM_STEPS), lambda: say(model, symbols, frames)
    sound = 0.1 * torch.randn(1, round(c.sample_rate * job.seconds), device=job.device)
    if job.task == "separation":
        once: Callable[[], object] = lambda: model(sound)  # noqa: E731
    else:
        once = lambda: model(model.features(sound))  # noqa: E731
    return once, once


def decode(model: Any, symbols: Any, frames: int, steps: int | None = None):
    """The first codebook [1, frames] of a text, frame by frame, the likeliest code (whether the network would
    end or not). ``steps``: only so many frames, to warm up."""
    import torch

    from slyther_cli.models.vall_m import Context

    said = []
    context = model.begin(model.read(symbols))
    for _ in range(frames if steps is None else min(steps, frames)):
        y, states = model.step(context)
        logits = model.code_logits(y, context.last[:, :0])[:, : model.config.codebook_size]
        context = Context(states, logits.argmax(-1, keepdim=True))
        said.append(context.last)
    return torch.cat(said, 1)


def speak(model: Any, symbols: Any, frames: int, steps: int | None = None):
    """All codes [1, n_codebooks, frames] of a text: the first codebook by :func:`decode`, then the others at
    once each."""
    import torch

    c = model.config
    first = decode(model, symbols, frames, steps)
    codes = torch.zeros(1, c.n_codebooks, frames, dtype=torch.int64, device=symbols.device)
    codes[:, 0, : first.shape[1]] = first
    text = model.read(symbols)
    none = torch.zeros(1, dtype=torch.int64, device=symbols.device)
    for level in range(c.n_codebooks - 1):
        codes[:, level + 1] = model.next_logits(text, codes, none + level, none).argmax(-1)
    return codes


if __name__ == "__main__":
    try:
        print(json.dumps(run(Job(**json.loads(sys.argv[1])))))
    except SlytherError as error:
        sys.exit(str(error))
