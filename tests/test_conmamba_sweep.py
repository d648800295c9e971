"""A recognition encoder over whole recordings: swept and live equal to one pass, whatever the cuts."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import stirred

from slyther_cli.errors import DeviceError
from slyther_cli.longform import recognition
from slyther_cli.longform.journal import Journal
from slyther_cli.longform.recognition import LiveEncoder, encode_whole, plan_recognition
from slyther_cli.models.conmamba import ConMamba, ConMambaConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def small_encoder(n_layers=2, causal=False, kernel_size=31):
    torch.manual_seed(n_layers)
    sizes = {"d_model": 16, "n_layers": n_layers, "d_ffn": 24, "vocab": 11, "kernel_size": kernel_size}
    model = ConMamba(ConMambaConfig(**sizes, decoder="none", max_positions=1, causal=causal))
    model.start_from_s4d()
    model.normalize.glob_mean += 3
    model.normalize.glob_std *= 7
    return stirred(model)


def sound(n):
    x = np.random.default_rng(n).standard_normal(n).astype(np.float32) * 0.1
    x[: n // 4] *= 1e-7  # below the clip that the loud end sets
    return x


@torch.no_grad()
def one_pass(model, x):
    return model.encode(model.features(torch.from_numpy(x)[None]))[0]


def far(a, b):
    """Relative to the whole's loudest value."""
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())


@settings(max_examples=25)
@given(
    samples=st.integers(1, 160 * 4 * 150),
    blocks=st.integers(1, 5),
    tile=st.integers(15, 90),
    n_layers=st.integers(1, 4),
    kernel_size=st.sampled_from([3, 31]),
    file=st.booleans(),
)
def test_swept_is_one_pass(tmp_path_factory, samples, blocks, tile, n_layers, kernel_size, file):
    model, x = small_encoder(n_layers, kernel_size=kernel_size), sound(samples)
    plan = plan_recognition(model, samples, work_dir=tmp_path_factory.getbasetemp(), resume=file)
    assert plan.tape == ("file" if file else "memory") and plan.sweeps == n_layers + 1
    shares = []
    pieces = encode_whole(model, lambda: iter(np.array_split(x, blocks)), plan, shares.append, tile=tile)
    swept = torch.cat(list(pieces))
    assert len(swept) == model.frames(samples)
    assert far(swept, one_pass(model, x)) < 1e-5
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


@settings(max_examples=15)
@given(samples=st.integers(1, 50_000), cuts=st.lists(st.integers(0, 50_000), max_size=8))
def test_live_is_one_pass(samples, cuts):
    model, x = small_encoder(causal=True), sound(samples)
    live = LiveEncoder(model)
    parts = [live.push(block) for block in np.split(x, sorted(min(c, samples) for c in cuts))]
    assert far(torch.cat([*parts, live.flush()]), one_pass(model, x)) < 1e-5
    plan = plan_recognition(model, samples)
    assert plan.tape == "none" and plan.tape_bytes == 0
    whole = encode_whole(model, lambda: iter(np.array_split(x, 3)), plan)
    assert far(torch.cat(list(whole)), one_pass(model, x)) < 1e-5


def test_live_keeps_pace():
    """A frame is there 30 ms and half an FFT after its centre, and nothing piles up."""
    live, x = LiveEncoder(small_encoder(causal=True)), sound(16000 * 8)
    given = 0
    for i in range(0, len(x), 80):
        given += len(live.push(x[i : i + 80]))
        heard = i + 80
        assert given == max(0, (heard - 200 - 480) // 640 + 1)
    assert sum(map(len, live.frontend.held)) < 20
    with pytest.raises(TypeError, match="needs a causal model"):
        LiveEncoder(small_encoder())


@pytest.mark.parametrize("causal", [False, True])
def test_nothing_gives_nothing(causal):
    model = small_encoder(causal=causal)
    assert sum(map(len, encode_whole(model, lambda: iter([]), plan_recognition(model, 0)))) == 0


def test_a_level_only_known_at_the_end_counts_from_the_start():
    """The clip below the loudest value: the reason for the first of the two readings."""
    model, x = small_encoder(), sound(160 * 400)
    reads = []

    def blocks():
        reads.append(1)
        return iter(np.array_split(x, 4))

    swept = torch.cat(list(encode_whole(model, blocks, plan_recognition(model, len(x)), tile=32)))
    without_end = one_pass(model, x[: 160 * 90])[:10]
    assert len(reads) == 2 and far(swept, one_pass(model, x)) < 1e-5
    assert far(swept[:10], without_end) > 0.01


@torch.no_grad()
@pytest.mark.parametrize("tile", [16, 256, 300])
def test_the_first_tiles_can_be_passed_over(tile, monkeypatch):
    """What a resumed job does in sweep 0; the front end's own grid need not fit the tiles."""
    monkeypatch.setattr(recognition, "FRONT", 64)
    model, x = small_encoder(), sound(160 * 4 * 700 + 5)
    every = list(recognition._entering(model, iter([x]), 0.0, tile, 0))
    assert [t.shape[1] for t in every[:-1]] == [tile] * (len(every) - 1)
    for first in (1, len(every) - 1, len(every)):
        rest = list(recognition._entering(model, iter(np.array_split(x, 9)), 0.0, tile, first))
        assert len(rest) == len(every) - first
        assert all(torch.equal(a, b) for a, b in zip(rest, every[first:], strict=True))


@settings(max_examples=10)
@given(killed=st.lists(st.integers(1, 60), min_size=1, max_size=3), n_layers=st.integers(1, 3))
def test_a_killed_job_goes_on(tmp_path_factory, killed, n_layers):
    """Interrupted anywhere, with a tile of the convolution waiting for its neighbour."""
    model, x = small_encoder(n_layers), sound(160 * 4 * 400)
    plan = plan_recognition(model, len(x), work_dir=tmp_path_factory.mktemp("job"), resume=True)

    def run(stop_after):
        left = [stop_after]

        def on_progress(share):
            left[0] -= 1
            if left[0] == 0:
                raise KeyboardInterrupt

        facts = {kind: {} for kind in ("recording", "model", "options", "engine")}
        with Journal(plan.work_dir, "job", facts, every=0.0) as job:
            return torch.cat(
                list(encode_whole(model, lambda: iter([x]), plan, on_progress, job=job, tile=32))
            )

    resumed = None
    for stop_after in [*killed, -1]:
        try:
            resumed = run(stop_after)
        except KeyboardInterrupt:
            continue
    whole = torch.cat(list(encode_whole(model, lambda: iter([x]), plan, tile=32)))
    assert resumed is not None and torch.equal(resumed, whole)


def test_a_limit_too_small():
    with pytest.raises(DeviceError, match="too small"):
        plan_recognition(small_encoder(), 16000, memory_limit=1 << 20, work_dir=Path("/tmp"))


PEAK = """
import resource, sys, numpy as np
from pathlib import Path
from slyther_cli.longform.recognition import encode_whole, plan_recognition
from slyther_cli.models import registry
model = registry.build(*registry.PRESETS["conmamba-ctc-small"]).eval()
minutes = int(sys.argv[1])
plan = plan_recognition(model, minutes * 960_000, work_dir=Path(sys.argv[2]), resume=True)
block = np.random.default_rng(0).standard_normal(160_000).astype(np.float32)
for frames in encode_whole(model, lambda: iter([block] * (6 * minutes)), plan): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    peaks = []
    for minutes in (5, 60):
        command = [sys.executable, "-c", PEAK, str(minutes), str(tmp_path)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True).stdout) / 1024)
    assert peaks[1] < peaks[0] + 15, peaks  # MB; an hour's tape is 148
