"""A short soak (tests/soak.py takes an hour): memory and open files do not grow, and growth would be seen."""

import pytest
import soak


def rows(memory, files):
    return [(float(i), round(memory(i)), round(files(i))) for i in range(200)]


def test_growth_is_seen():
    flat = rows(lambda i: 4e8 + 1e7 * (i % 7), lambda i: 20 + i % 3)
    assert soak.verdict(flat)["flat"]
    assert not soak.verdict(rows(lambda i: 4e8 + 2e5 * i, lambda i: 20))["flat"]
    assert not soak.verdict(rows(lambda i: 4e8, lambda i: 20 + i // 20))["flat"]
    assert not soak.verdict(flat[:5])["flat"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["separate", "transcribe"])
def test_a_minute(tmp_path, task):
    soak.record(tmp_path / "recording.wav", 2)
    report = soak.soak(task, tmp_path, 60, "300MB", every=0.25)
    assert report["flat"] and not report["problems"], {k: v for k, v in report.items() if k != "rows"}
    assert report["exit_code"] in (0, 143)
