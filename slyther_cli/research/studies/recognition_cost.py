"""What transcribing costs: CPU-seconds a second of speech and peak memory, by length, beside a Conformer of
the same size.

The sound is real speech, the utterances of a manifest one after the other, again from the first where there
are too few. Every length is heard in a process of its own, from a file, as `slyther transcribe` does it: the
encoder over the whole recording, the search, the segments. The Conformer has the model's own settings, its
feed-forward parts made wider until it has as many parameters, and random weights; it computes the whole
recording in one pass, as it must, up to the CTC posteriors, without any search: compare it with our greedy
search. Time is CPU time over all threads; memory the peak above the process before the network was loaded.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slyther_cli.errors import InputError, SlytherError, UsageError
from slyther_cli.research.studies.separation_speed import forget_peak, in_fresh_process, peak_memory

Row = dict[str, Any]
CONFORMER = "conformer"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a measurement may use: ``memory_limit`` in bytes and ``time_limit`` in CPU-seconds of a Conformer,
    0 for none, ``threads`` of all, and ``work_dir`` for the sound; None is the system's."""

    memory_limit: int = 0
    time_limit: float = 0
    threads: int = 1
    work_dir: Path | None = None


def measure_cost(
    model: str,
    manifest: Path,
    split: str = "test",
    lengths: Sequence[float] = (10, 60),
    decode: Sequence[str] = ("greedy",),
    against: Sequence[str] = (CONFORMER,),
    bounds: Bounds | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """One row for every length in seconds and system, ours first, with each search of ``decode``.

    Keys: ``part`` "cost", ``system``, ``decode`` ("" for a Conformer), ``seconds``, ``threads``;
    ``parameters``; ``cpu_per_second`` and ``wall_per_second`` of speech, ``extra_bytes``, ``words`` (heard;
    none for a Conformer); ``problem`` ("", or why there are no figures). Where the Conformer comes to a limit
    of ``bounds``, longer sounds are not tried.
    Raises UsageError: nothing to measure; InputError: no speech.
    """
    if not lengths or min(lengths) <= 0:
        raise UsageError("to measure takes lengths above 0 s")
    if unknown := sorted(set(against) - {CONFORMER}):
        raise UsageError(f"unknown peer {', '.join(unknown)}; known: {CONFORMER}")
    rows: list[Row] = []
    ended = set[str]()
    b = bounds or Bounds()
    for seconds in sorted(lengths):
        with tempfile.TemporaryDirectory(dir=b.work_dir, prefix="slyther-bench-") as folder:
            sound = Path(folder) / "speech.wav"
            _join(manifest, split, sound, seconds)
            for system, how in [(model, how) for how in decode] + [(peer, "") for peer in against]:
                if system in ended:
                    continue
                row: Row = {"part": "cost", "system": system, "decode": how, "seconds": seconds}
                row |= {"threads": b.threads, "problem": ""}
                limits = {"memory_limit": b.memory_limit, "time_limit": b.time_limit}
                job = row | {"model": model, "sound": str(sound)} | limits
                row |= in_fresh_process(__name__, job, b.threads)
                if row["problem"] == "killed by signal 24":
                    row["problem"] = f"not done after {b.time_limit:g} CPU-seconds"
                if row["problem"] and system != model:
                    ended.add(system)
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    return rows


def _join(manifest: Path, split: str, path: Path, seconds: float, rate: int = 16_000) -> None:
    """Speech of so many seconds as a 16-bit WAV file."""
    from slyther_cli.audio.writer import StemWriter
    from slyther_cli.research.training.data import read_manifest, read_mono

    paths = [u.path for u in read_manifest(manifest) if u.split == split]
    if not paths:
        raise InputError(f"no utterance of split {split!r} in {manifest}")
    left = round(seconds * rate)
    with StemWriter(path, rate, clip="none", frames=left) as file:
        number = 0
        while left:
            samples = read_mono(paths[number % len(paths)], rate)[:left]
            if not len(samples):
                raise InputError(f"{paths[number % len(paths)]}: has no sound")
            file.write(samples)
            left, number = left - len(samples), number + 1
        file.commit()


def same_size(config: dict[str, Any], parameters: int) -> dict[str, Any]:
    """The settings of a Conformer with the model's sizes, CTC alone, and as many parameters, as near as the
    width of its feed-forward parts allows."""
    from slyther_cli.models import registry

    kept = registry.full_config(CONFORMER, {})
    heads = math.gcd(config["d_model"], config.get("n_heads", 4))
    config = {k: v for k, v in config.items() if k in kept} | {"decoder": "none", "n_heads": heads}
    one, two = (registry.parameter_count(CONFORMER, {**config, "d_ffn": width}) for width in (1, 2))
    return config | {"d_ffn": max(1, round((parameters - one) / (two - one)) + 1)}


# --- in the process that measures ---


def run(job: Row) -> Row:
    """Measure in this process, which must be fresh."""
    import soundfile  # noqa: F401
    import soxr  # noqa: F401
    import torch

    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    idle = forget_peak()
    parameters, hear = _conformer(job, idle) if job["system"] == CONFORMER else _ours(job)
    cpu, wall = time.process_time(), time.perf_counter()
    with torch.inference_mode():
        words = hear()
    cpu, wall, peak = time.process_time() - cpu, time.perf_counter() - wall, peak_memory()
    return {
        "parameters": parameters,
        "cpu_per_second": round(cpu / job["seconds"], 5),
        "wall_per_second": round(wall / job["seconds"], 5),
        "extra_bytes": peak - idle,
        "words": words,
    }


def _ours(job: Row) -> tuple[int, Callable[[], int]]:
    """Parameters, and a call that transcribes the file and counts the words."""
    from slyther_cli.audio.reader import AudioReader
    from slyther_cli.audio.streams import BLOCK
    from slyther_cli.jobs.setup import choose_model
    from slyther_cli.transcription.options import SearchOptions
    from slyther_cli.transcription.recogniser import Recogniser

    config = choose_model("transcribe", job["model"], job["model"])
    recogniser = Recogniser(config, search=SearchOptions(decode=job["decode"]))

    def hear() -> int:
        with AudioReader(job["sound"], "mix", recogniser.rate) as reader:
            assert reader.frames is not None
            plan = recogniser.plan(reader.frames)
            found = recogniser.segments(lambda: reader.blocks(BLOCK), plan)
            return sum(len(segment.text.split()) for segment in found)

    return sum(p.numel() for p in recogniser.model.parameters()), hear


def _conformer(job: Row, idle: int) -> tuple[int, Callable[[], None]]:
    """The same of a Conformer, in one pass."""
    import resource

    import torch

    from slyther_cli.checkpoints import store
    from slyther_cli.jobs.setup import choose_model
    from slyther_cli.models import registry
    from slyther_cli.research.training.data import read_mono

    path = choose_model("transcribe", job["model"], job["model"]).path
    assert path is not None
    model, about = store.load(path)
    count = sum(p.numel() for p in model.parameters())
    config = same_size(registry.full_config(about.architecture, about.config), count)
    del model
    network = registry.build(CONFORMER, config).eval()
    if job["time_limit"]:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        most = int(spent.ru_utime + spent.ru_stime + job["time_limit"]) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    if job["memory_limit"]:
        _limit_memory(job["memory_limit"])

    def hear() -> None:
        samples = torch.from_numpy(read_mono(Path(job["sound"]), config["sample_rate"]))
        network(network.features(samples[None])).log_softmax(-1)

    return sum(p.numel() for p in network.parameters()), hear


def _limit_memory(limit: int) -> None:
    """From here on, ``limit`` bytes at most beside what the process holds."""
    import resource

    try:
        with open("/proc/self/status") as file:
            used = next(int(line.split()[1]) << 10 for line in file if line.startswith("VmData:"))
    except (OSError, StopIteration):
        raise UsageError("--memory-limit needs Linux") from None
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (used + limit, hard))


def main(job: Row) -> Row:
    """:func:`run`, with a lack of memory as the row's problem."""
    from slyther_cli.jobs.setup import out_of_memory

    try:
        return run(job)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory(error) is None:
            raise
        return {"problem": f"more memory than {job['memory_limit'] / 1e9:g} GB needed"}


if __name__ == "__main__":
    try:
        print(json.dumps(main(json.loads(sys.argv[1]))))
    except SlytherError as error:
        sys.exit(str(error))
