"""Memory of a swept job: below the plan's bound, and the same for a minute and for many."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
import numpy as np, torch
from slyther_cli.longform import plan_separation, separate_whole
from slyther_cli.models import registry

def peak():
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) * 1024

torch.set_num_threads(1)
sizes = {"n_filters": 32, "kernel_size": 32, "stride": 16, "d_model": 32, "n_layers": 2}
model = registry.build("mamba-tasnet", sizes).eval()
samples, folder = int(sys.argv[1]) * 8000, Path(sys.argv[2])

def blocks():
    rng = np.random.default_rng(0)
    for _ in range(samples // 8000):
        yield rng.standard_normal(8000).astype(np.float32)

limit = plan_separation(model, 8000).working_bytes
plan = plan_separation(model, samples, memory_limit=limit, work_dir=folder)
assert plan.tape == "file"
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
idle = peak()
given = sum(stems.shape[1] for stems in separate_whole(model, blocks, plan))
assert given == samples
print(peak() - idle, plan.working_bytes)
"""


def extra(seconds: int, folder) -> tuple[int, int]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seconds), str(folder)], capture_output=True, text=True, check=True
    )
    used, bound = map(int, done.stdout.split())
    return used, bound


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
def test_memory_stays_below_the_plan_and_does_not_grow(tmp_path):
    short, bound = extra(60, tmp_path)
    long, _ = extra(600, tmp_path)
    assert short < bound and long < bound
    assert long < short + (8 << 20)
