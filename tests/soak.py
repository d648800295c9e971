"""Does slyther stay as large as it is? Runs a command for long, looking at its memory and its open files.

    python tests/soak.py                        # an hour: half of it separate, half transcribe
    python tests/soak.py --minutes 10 --limit 300MB -o soak.csv

A recording of --sound minutes is made of examples/, and a batch of links to it is given to
``slyther separate`` and to ``slyther transcribe`` with --memory-limit. A thread notes, every second, the
resident memory and the number of open files of the process and its children. Flat means, from the first
recording that was done on: the highest of the last quarter of the samples is no more than ALLOWED above the
highest of the first, and no more files are open. Exit code 1 if it is not.
"""

import argparse
import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile as sf

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
ALLOWED = 16 << 20  # bytes
FEWEST = 8  # samples that say something
PAGE = os.sysconf("SC_PAGE_SIZE")


class Sampler(threading.Thread):
    """Rows (seconds, bytes, files) of the process ``pid`` and what it started, until ``stop``."""

    def __init__(self, pid: int, every: float) -> None:
        super().__init__(daemon=True)
        self.pid, self.every, self.rows = pid, every, list[tuple[float, int, int]]()
        self._done, self._began = threading.Event(), time.monotonic()

    def run(self) -> None:
        while not self._done.wait(self.every):
            memory = files = 0
            for pid in (self.pid, *children(self.pid)):
                try:
                    memory += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
                    files += len(os.listdir(f"/proc/{pid}/fd"))
                except (OSError, IndexError, ValueError):  # it has ended
                    continue
            if memory:
                self.rows.append((time.monotonic() - self._began, memory, files))

    def stop(self) -> list[tuple[float, int, int]]:
        self._done.set()
        self.join()
        return self.rows


def children(pid: int) -> list[int]:
    try:
        found = [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return found + [c for child in found for c in children(child)]


def record(path: Path, minutes: float) -> None:
    """The examples, one after the other and again, at different levels, 8 kHz."""
    voices = [sf.read(p, dtype="float32", always_2d=True) for p in sorted(EXAMPLES.glob("*.flac"))]
    left, rng = round(minutes * 60 * 8000), np.random.default_rng(0)
    with sf.SoundFile(path, "w", 8000, 1, "PCM_16", format="WAV") as file:
        for x, rate in itertools.cycle(voices):
            mono = x.mean(1)[:: max(1, rate // 8000)][:left] * rng.uniform(0.2, 1)
            file.write(np.concatenate([mono, np.zeros(min(4000, left - len(mono)), np.float32)]))
            left -= min(left, len(mono) + 4000)
            if left <= 0:
                return


def soak(task: str, folder: Path, seconds: float, limit: str, every: float = 1.0) -> dict:
    """One command for so long; what was seen."""
    (recording,) = folder.glob("*.wav")
    batch = folder / "batch"
    batch.mkdir(exist_ok=True)
    for i in range(500):
        if not (batch / f"{i:03}.wav").exists():
            os.link(recording, batch / f"{i:03}.wav")
    command = [sys.executable, "-m", "slyther_cli", task, str(batch), "-o", str(folder / task), "--force"]
    command += ["--memory-limit", limit, "--threads", "1", "--work-dir", str(folder), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    sampler = Sampler(process.pid, every)
    sampler.start()
    threading.Timer(seconds, lambda: process.poll() is None and process.send_signal(signal.SIGTERM)).start()
    done, problems, settled = 0, [], None
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "file_done":
            done += 1
            settled = settled or len(sampler.rows)
        problems += [event["message"]] if event["event"] == "error" else []
        for path in event.get("outputs", {}).values() if event["event"] == "file_done" else ():
            Path(path).unlink()  # a soak fills no disk
    code, rows = process.wait(), sampler.stop()
    report = {
        "task": task,
        "seconds": round(seconds),
        "files_done": done,
        "exit_code": code,
        "problems": problems,
    }
    return report | verdict(rows if settled is None else rows[settled:]) | {"rows": rows}


def verdict(rows: list[tuple[float, int, int]]) -> dict:
    """Whether it is flat, from the first recording that was done on: by then all is loaded."""
    if len(rows) < FEWEST:
        return {"flat": False, "why": f"{len(rows)} samples are too few: soak for longer"}
    quarter = len(rows) // 4
    first, last = rows[:quarter], rows[-quarter:]
    out = {"samples": len(rows)}
    for name, at in (("memory", 1), ("files", 2)):
        out |= {f"{name}_first": max(r[at] for r in first), f"{name}_last": max(r[at] for r in last)}
        out[f"{name}_peak"] = max(r[at] for r in rows)
    out["flat"] = (
        out["memory_last"] <= out["memory_first"] + ALLOWED and out["files_last"] <= out["files_first"]
    )
    return out


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60, help="in all")
    parser.add_argument("--sound", type=float, default=20, help="minutes of the recording")
    parser.add_argument("--limit", default="300MB", help="for --memory-limit")
    parser.add_argument("--task", choices=("separate", "transcribe", "both"), default="both")
    parser.add_argument("-o", "--output", type=Path, help="all samples, as CSV")
    asked = parser.parse_args()
    tasks = ("separate", "transcribe") if asked.task == "both" else (asked.task,)
    reports = []
    with tempfile.TemporaryDirectory(prefix="slyther-soak-") as name:
        record(Path(name, "recording.wav"), asked.sound)
        for task in tasks:
            report = soak(task, Path(name), asked.minutes * 60 / len(tasks), asked.limit)
            reports.append(report)
            print(json.dumps({k: v for k, v in report.items() if k != "rows"}), flush=True)
    if asked.output:
        with open(asked.output, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("task", "seconds", "memory", "files"))
            writer.writerows((r["task"], *row) for r in reports for row in r["rows"])
    return 0 if all(r["flat"] and not r["problems"] for r in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
