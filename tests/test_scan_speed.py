"""The scan benchmark measures every backend that runs here and leaves no setting changed."""

import pytest
import torch

from slyther_cli import scan
from slyther_cli.research.studies import scan_speed
from slyther_cli.research.studies.scan_speed import REFERENCE_FRAMES, measure
from slyther_cli.scan import cpu, live_backend


def test_rows():
    threads, isa = torch.get_num_threads(), None if cpu.why_not else cpu._native.isa()
    rows = measure(length=200, channels=32, states=16, repeats=2, threads=1, device="cpu")
    kinds = {"reference": ["torch"], "cpu": [] if cpu.why_not else cpu._native.isas()}
    expected = {(b, i, p) for b, isas in kinds.items() for i in isas for p in ("forward", "backward")}
    assert {(r["backend"], r["isa"], r["pass"]) for r in rows} == expected
    assert all(r["gelem_per_s"] > 0 for r in rows)
    assert [r["speedup_over_reference"] for r in rows if r["backend"] == "reference"] == [1.0, 1.0]
    assert torch.get_num_threads() == threads and (isa is None or cpu._native.isa() == isa)


def test_the_reference_gets_a_part_of_a_long_sequence(monkeypatch):
    seen = []

    def passes(inputs, where):
        seen.append((scan.live_backend(), inputs.u.shape[1]))
        return {"forward": 0.5, "backward": 2.0}

    monkeypatch.setattr(scan_speed, "_time_passes", passes)
    rows = measure(length=REFERENCE_FRAMES + 1000, channels=8, states=4, repeats=1, device="cpu")
    assert dict(seen) == {r["backend"]: 5000 for r in rows} | {"reference": 4000}
    updates = {backend: frames * 8 * 4 / 1e9 for backend, frames in seen}
    for r in rows:
        seconds = 0.5 if r["pass"] == "forward" else 2.0
        assert r["gelem_per_s"] == pytest.approx(updates[r["backend"]] / seconds)
        assert r["speedup_over_reference"] == pytest.approx(1.0 if r["backend"] == "reference" else 1.25)


@pytest.mark.skipif(bool(cpu.why_not), reason=cpu.why_not)
def test_the_compiled_scan_is_worth_having():
    rows = measure(length=1000, channels=64, states=16, repeats=3, threads=1, device="cpu")
    best = {
        p: max(r["speedup_over_reference"] for r in rows if r["pass"] == p) for p in ("forward", "backward")
    }
    assert live_backend("cpu") == "cpu" and best["forward"] > 2 and best["backward"] > 2
