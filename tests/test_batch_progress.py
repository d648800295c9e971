"""How a batch tells of itself: files done and time left of all, what a dry run estimates, how to go on."""

import json
from pathlib import Path

import pytest
from tones import record, transcribed
from tools import files_in, from_file_as_stdin

from slyther_cli.jobs import estimate
from slyther_cli.jobs import progress as overall
from slyther_cli.jobs.estimate import cost, together
from slyther_cli.jobs.progress import Overall
from slyther_cli.transcription import recogniser
from slyther_cli.transcription.job import transcribe

pytestmark = pytest.mark.usefixtures("place")


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


def test_the_time_left_of_all(monkeypatch):
    told, clock = [], Clock()
    monkeypatch.setattr(overall, "time", clock)
    tell = Overall(told.append, {"a": 100.0, "b": 60.0, "c": 40.0, "there": 500.0, "bad": 0.0})

    def progress(name, length, fraction, wall, began=0.0):
        tell({"event": "progress", "file": name, "seconds": length, "fraction": fraction}
             | {"began": began, "wall_seconds": wall})  # fmt: skip
        return told[-1]

    tell({"event": "file_done", "file": "there", "status": "skipped"})  # no work, no time
    clock.now += 10
    event = progress("a", 100.0, 0.5, 10.0)
    assert event["files_done"] == 1 and event["batch_fraction"] == pytest.approx(50 / 200)
    assert event["batch_left_seconds"] == pytest.approx(150 / 5)  # 5 s of sound a second
    clock.now += 10
    tell({"event": "file_done", "file": "a", "status": "done"})
    tell({"event": "error", "file": "bad", "kind": "file"})
    event = progress("b", 60.0, 0.75, 0.1, began=0.5)  # half of it is of an earlier run
    assert event["files_done"] == 3 and event["batch_fraction"] == pytest.approx(145 / 200)
    assert event["batch_left_seconds"] == pytest.approx(55 * 20 / 115, abs=0.1)
    event = progress("c", 40.0, 0.5, 0.1)  # two at once
    assert event["batch_left_seconds"] == pytest.approx(35 * 20 / 135, abs=0.1)
    tell({"event": "error", "file": None, "kind": "usage"})
    assert progress("c", 40.0, 0.5, 0.1)["files_done"] == 3


def test_events_of_a_batch_say_how_far_it_is(capfd):
    for i in range(3):
        record(f"{i}.wav", text="all deal")
    events = []
    transcribe(["0.wav", "1.wav", "2.wav"], "out", on_event=events.append)
    seen = [
        (e["files_done"], e["batch_fraction"], e["batch_left_seconds"]) for e in events if "files_done" in e
    ]
    assert sorted({done for done, _, _ in seen}) == [0, 1, 2]
    assert [f for _, f, _ in seen] == sorted(f for _, f, _ in seen)
    assert seen[-1][1:] == (pytest.approx(1.0), 0.0)


def test_cost_is_that_of_a_second_of_sound(monkeypatch):
    clock, given = Clock(), []

    def work(x):
        given.append(len(x))
        clock.now += 0.05 * len(x) / 100 + 5 * (len(given) == 1)  # what is made once is not counted

    monkeypatch.setattr(estimate, "time", clock)
    assert cost(work, 100) == pytest.approx(0.05) and given == [100, 200, 400, 800]
    assert together([10, 20, 30], 1) == 60 and together([10, 20, 30], 2) == 30 and together([50, 1], 4) == 50
    assert together([], 2) == 0


def test_a_dry_run_estimates_the_time(capfd, monkeypatch):
    for i in range(2):
        record(f"{i}.wav", text="all deal")
    (alone,) = transcribe("0.wav", dry_run=True)
    assert 0 < alone.estimate < 60 * alone.seconds
    monkeypatch.setattr("slyther_cli.transcription.work.cost", lambda work, rate: 30.0)
    code, out, err = transcribed(capfd, "0.wav", "1.wav", "-o", "out", "--dry-run", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    for event in (e for e in events if e["event"] == "file_done"):
        assert event["estimate_seconds"] == pytest.approx(30 * event["seconds"], abs=0.1)
    assert events[-1]["estimate_seconds"] == pytest.approx(60 * alone.seconds, abs=0.1)
    assert code == 0 and err.count(", an estimated") == 3 and not Path("out").exists()
    _, out, _ = transcribed(capfd, "0.wav", "1.wav", "-o", "out", "--dry-run", "--json", "--jobs", "2")
    assert json.loads(out.splitlines()[-1])["estimate_seconds"] == pytest.approx(30 * alone.seconds, abs=0.1)
    sums = {}
    for how in ({}, {"channel": "each"}, {"separate": True}):
        monkeypatch.setattr("slyther_cli.separation.job.cost", lambda work, rate: 5.0)
        (r,) = transcribe("0.wav", dry_run=True, **how)
        sums[next(iter(how), "")] = r.estimate / r.seconds
    assert sums == pytest.approx({"": 30, "channel": 30, "separate": 65})


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "what is done is kept: the same command with --resume does the rest"),
        (("--resume",), "the same command goes on from here"),
        (
            ("--force",),
            "what is done is kept: the same command with --resume in place of --force does the rest",
        ),
        (("-q",), ""),
    ],
)
def test_who_stops_a_job_is_told_how_to_go_on(capfd, monkeypatch, more, words):
    record()

    def stopped(*args, **more):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(recogniser, "encode_whole", stopped)
    code, _, err = transcribed(capfd, "talk.wav", "-o", "out", "--work-dir", "work", *more)
    assert code == 130 and err.splitlines()[-1] == "slyther: stopped" and not files_in("out")
    assert err.splitlines()[-2:-1] == ([f"slyther: {words}"] if words else [])


def test_what_cannot_go_on_says_nothing_of_it(capfd, monkeypatch):
    record()
    from_file_as_stdin(monkeypatch, "talk.wav")

    def stopped(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(recogniser.Recogniser, "plan", stopped)
    for how in (("-",), ("talk.wav", "--dry-run")):
        code, _, err = transcribed(capfd, *how, "-o", "out")
        assert code == 130 and "stopped" in err and "--resume" not in err
