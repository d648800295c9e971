"""`slyther doctor` on settings: what is in force is listed, what is wrong is told with its fix."""

import json
import os

import pytest

from slyther_cli import app
from slyther_cli.commands import doctor_faults


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(doctor_faults, "faults", list)  # of the installation: tests/test_doctor.py
    for name in [name for name in os.environ if name.startswith("SLYTHER_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config/slyther").mkdir(parents=True)
    return tmp_path / "config/slyther/slyther.toml"


def doctor(capfd, *before):
    """(exit code, settings, problems, advice about settings)"""
    code = app.main([*before, "doctor", "--json"])
    report = json.loads(capfd.readouterr().out)
    advice = [line for line in report["advice"] if not line.startswith("SLOW")]  # without a compiler
    return code, report["settings"], report["problems"], advice


def test_what_is_in_force(home, capfd, monkeypatch, tmp_path):
    code, found, problems, advice = doctor(capfd)
    assert code == 0 and found == {"file": str(home), "state": "not there", "said": {}, "variables": {}}
    assert not problems and not advice
    home.write_text("threads = 2\n[separate]\nformat = 'flac'\n[train.separate]\nworkers = 3\n")
    monkeypatch.setenv("SLYTHER_DEVICE", "cpu")
    monkeypatch.setenv("SLYTHER_TRANSCRIBE_FORMAT", "srt,json")
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path))
    code, found, problems, advice = doctor(capfd)
    assert code == 0 and not problems and not advice and found["state"] == "read"
    assert found["said"] == {"threads": 2, "[separate] format": "flac", "[train.separate] workers": 3}
    assert set(found["variables"]) == {"SLYTHER_CACHE", "SLYTHER_DEVICE", "SLYTHER_TRANSCRIBE_FORMAT"}
    assert app.main(["doctor"]) == 0
    out = capfd.readouterr().out
    assert "  said: [separate] format: flac\n" in out and "  variables: SLYTHER_DEVICE: cpu\n" in out


def test_everything_that_is_wrong_is_told_at_once(home, capfd, monkeypatch):
    home.write_text(
        "thread = 2\ndevice = 'cpu'\n[seperate]\n[separate]\nforce = 'yes'\nformat = 'flac'\nformt = 'wav'\n"
        "speakers = 0\n[train.separate]\nworkers = 'many'\n"
    )
    monkeypatch.setenv("SLYTHER_SEPERATE_THREADS", "3")
    monkeypatch.setenv("SLYTHER_TRANSCRIBE_JOBS", "lots")
    code, found, problems, advice = doctor(capfd)
    assert code == 2 and found["state"] == "read"
    for words in ("did you mean threads?", "did you mean [separate]?", "true or false", "[separate] format?",
                  "SLYTHER_TRANSCRIBE_JOBS", "--speakers", "--workers"):  # fmt: skip
        assert sum(words in line for line in problems) == 1, (words, problems)
    assert len(problems) == 7 and sum("slyther.toml" in line for line in problems) == 6
    (line,) = advice
    assert "SLYTHER_SEPERATE_THREADS" in line and "did you mean SLYTHER_SEPARATE_THREADS?" in line


@pytest.mark.parametrize("text", ["[separate", "\udcff", "a = " + "[" * 5000])
def test_a_file_that_is_none(home, capfd, text):
    home.write_text(text, errors="surrogateescape")
    code, found, problems, _ = doctor(capfd)
    assert code == 2 and found["state"] == "cannot be read"
    assert len(problems) == 1 and str(home) in problems[0] and "--config none" in problems[0]
    code, found, problems, _ = doctor(capfd, "--config", "none")
    assert code == 0 and found["state"] == "none is to be read" and not problems


def test_a_file_in_the_current_folder_is_not_read(home, capfd, tmp_path):
    (tmp_path / "slyther.toml").write_text("threads = 1\n")
    code, found, _, advice = doctor(capfd)
    assert code == 0 and not found["said"] and "--config slyther.toml" in advice[0]
    code, found, _, advice = doctor(capfd, "--config", "slyther.toml")
    assert code == 0 and found["said"] == {"threads": 1} and not advice
    code, found, problems, _ = doctor(capfd, "--config", "nowhere.toml")
    assert code == 2 and found["file"] == "nowhere.toml" and "no such file" in problems[0]
