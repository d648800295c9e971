"""``slyther bench separate``: measurements in processes of their own, and what happens when they cannot be
made."""

import json

import pytest
import torch

from slyther_cli.app import main
from slyther_cli.errors import UsageError
from slyther_cli.research.studies.separation_speed import Job, in_own_process, measure, run


def test_the_command_measures_in_a_fresh_process(capsys):
    torch.zeros(1 << 26)  # 256 MB here must not be seen there
    command = [
        "bench",
        "separate",
        "--models",
        "mamba-tasnet-xs",
        "--durations",
        "0.5",
        "--runs",
        "1",
        "--json",
    ]
    assert main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["how"], row["problem"]) for row in rows] == [("one-pass", ""), ("swept", "")]
    for row in rows:
        assert row["event"] == "bench_separate" and row["parameters"] == 2_210_176 and row["threads"] == 1
        assert row["cpu_per_second"] > 0 and 0 < row["extra_bytes"] < 300e6
        assert row["peak_bytes"] == row["idle_bytes"] + row["extra_bytes"]


def test_a_trained_model_is_named_by_its_folder_and_trouble_is_a_row(tmp_path):
    row = in_own_process(Job(str(tmp_path / "none"), "one-pass", 0.1))
    assert "no such model folder" in row["problem"] and "Traceback" not in row["problem"]


def test_what_is_measured_is_installed_not_the_source_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "slyther_cli").mkdir()
    (tmp_path / "slyther_cli" / "__init__.py").write_text("raise SystemExit('the source, not built')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH")
    assert in_own_process(Job("mamba-tasnet-xs", "one-pass", 0.1, runs=1))["problem"] == ""


def test_what_makes_no_sense(capsys):
    with pytest.raises(UsageError, match="unknown peer"):
        measure(["mamba-tasnet-xs"], [1.0], ["demucs"])
    for models, durations in (([], [1.0]), (["a"], []), (["a"], [-1.0])):
        with pytest.raises(UsageError):
            measure(models, durations)
    assert main(["bench", "separate", "--durations", "4,x"]) == 2
    assert "4,16,60" in capsys.readouterr().err


def test_the_peer_is_the_published_one():
    row = run(Job("sepformer", "one-pass", 0.4, runs=1, threads=torch.get_num_threads()))
    assert row["parameters"] == 25_679_361 and row["cpu_per_second"] > 0
