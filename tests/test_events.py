"""One stream of events: what ``--json`` prints is what docs/events.md says, in every command. Colours."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import documented_events
import numpy as np
import pytest
import soundfile as sf
import tones
from speak_tools import tiny_voices

from slyther_cli import app
from slyther_cli.commands import output


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tiny_voices(tones.cache(tmp_path_factory.mktemp("cache")))
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


def lines(capfd, *args):
    """The lines of a command with --json; each is checked."""
    app.main([*map(str, args), "--json"])
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    for line in found:
        assert not documented_events.problems(line, args[0]), line
    return found


def names(found):
    return [line["event"] for line in found if line["event"] not in ("progress", "note", "segment")]


def test_a_job(capfd):
    tones.record("a.wav")
    sf.write("b.wav", np.zeros(8000, np.float32), 16000)
    Path("bad.wav").write_text("no sound")
    for command in ("separate", "transcribe"):
        found = lines(capfd, command, "a.wav", "bad.wav", "b.wav", "-o", command)
        assert sorted(names(found)) == sorted(
            ["start", "plan", "file_done", "error", "plan", "file_done", "summary"]
        )
        assert found[0]["event"] == "start" and found[0]["schema"] == 1 and found[0]["files"] == 3
        assert found[0]["options"] == {}
        assert found[-1]["event"] == "summary" and found[-1]["failed"] == 1 and found[-1]["done"] == 2
        assert any(line["event"] == "progress" for line in found)
        again = lines(capfd, command, "a.wav", "b.wav", "-o", command, "--skip-existing")
        assert again[0]["options"] == {"existing": "skip"}
        assert [line["status"] for line in again if line["event"] == "file_done"] == ["skipped"] * 2
    assert any(line["event"] == "segment" and line["text"].strip() for line in found)


def test_speaking(capfd):
    found = lines(capfd, "speak", "Yes. No.", "-m", "aligned", "--guard", "none")
    assert names(found) == ["start", "sentence", "sentence", "file_done"] and found[0]["voice"] == "ann"
    assert names(lines(capfd, "speak", "--list-voices", "-m", "aligned")) == ["voice", "voice"]


@pytest.mark.parametrize(
    "args", [("models",), ("weights", "list"), ("weights", "show", "tones"), ("doctor",)]
)
def test_lists(capfd, args):
    assert lines(capfd, *args)


def test_every_error_is_an_event(capfd):
    for args in (("separate", "a.wav", "-m", "nobody"), ("weights", "show", "nobody"), ("speak", " ")):
        (found,) = lines(capfd, *args)[-1:]
        assert found["event"] == "error" and found["exit_code"] > 0


def test_what_the_page_would_find():
    """The check can fail."""
    good = {"schema": 1, "event": "note", "file": "-", "text": "x"}
    assert not documented_events.problems(good) and not documented_events.problems(good, "separate")
    assert documented_events.problems(good, "weights")
    assert documented_events.problems({**good, "schema": 2})
    assert documented_events.problems({**good, "event": "nothing"})
    assert documented_events.problems({**good, "more": 1})
    assert documented_events.problems({**good, "text": 3})
    assert documented_events.problems({**good, "text": None})
    assert documented_events.problems({key: good[key] for key in ("schema", "event", "file")})


def test_numbers_that_json_does_not_have(capfd):
    output.json_line("example", index=1, examples=1, wer=float("nan"), rows=[float("inf"), 2.0])
    line = json.loads(capfd.readouterr().out, parse_constant=lambda text: pytest.fail(text))
    assert line["wer"] is None and line["rows"] == [None, 2.0]


# Colours


def told(env, terminal):
    """What ``slyther nonsense`` says on a terminal, or into a pipe."""
    command = [sys.executable, "-m", "slyther_cli", "nonsense"]
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    if not terminal:
        return subprocess.run(command, env={**plain, **env}, stderr=subprocess.PIPE).stderr.decode()
    ours, theirs = pty.openpty()
    try:
        subprocess.run(command, env={**plain, "TERM": "xterm", **env}, stderr=theirs)
        return os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("env", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "0"}, False, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False, False),
    ],
)
def test_colours(env, terminal, coloured):
    assert ("\033[" in told(env, terminal)) is coloured
