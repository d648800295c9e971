"""The scan benchmark measures every backend that runs here and leaves no setting changed."""

import pytest
import torch

from slyther_cli.scan import cpu, live_backend
from slyther_cli.studies.scan_speed import measure


def test_rows():
    threads, isa = torch.get_num_threads(), None if cpu.why_not else cpu._native.isa()
    rows = measure(length=200, channels=32, states=16, repeats=2, threads=1, device="cpu")
    kinds = {"reference": ["torch"], "cpu": [] if cpu.why_not else cpu._native.isas()}
    expected = {(b, i, p) for b, isas in kinds.items() for i in isas for p in ("forward", "backward")}
    assert {(r["backend"], r["isa"], r["pass"]) for r in rows} == expected
    assert all(r["gelem_per_s"] > 0 for r in rows)
    assert [r["speedup_over_reference"] for r in rows if r["backend"] == "reference"] == [1.0, 1.0]
    assert torch.get_num_threads() == threads and (isa is None or cpu._native.isa() == isa)


@pytest.mark.skipif(bool(cpu.why_not), reason=cpu.why_not)
def test_the_compiled_scan_is_worth_having():
    rows = measure(length=1000, channels=64, states=16, repeats=3, threads=1, device="cpu")
    best = {
        p: max(r["speedup_over_reference"] for r in rows if r["pass"] == p) for p in ("forward", "backward")
    }
    assert live_backend("cpu") == "cpu" and best["forward"] > 2 and best["backward"] > 2
