"""Batches: manifests, shards, several processes, shared output folders, what failed and is done again."""

import contextlib
import csv
import io
import json
import os
import shutil
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tools import files_in, run_command

import slyther_cli
from slyther_cli import app, files
from slyther_cli.audio import discover
from slyther_cli.checkpoints import store
from slyther_cli.errors import DeviceError, InputError, OutputError, UsageError
from slyther_cli.jobs import inputs as job_inputs
from slyther_cli.jobs import locks, pool
from slyther_cli.jobs.work import Work
from slyther_cli.models import registry
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.separation import job as separation

SMALL = {"n_filters": 16, "d_model": 8, "n_layers": 2}
SLOW = {"n_filters": 64, "d_model": 64, "n_layers": 4}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    cache = tmp_path_factory.mktemp("cache")
    torch.manual_seed(1)
    for name, config in {"two": SMALL, "slow": SLOW}.items():
        model = registry.build("mamba-tasnet", config)
        start_from_fourier(model)
        how = {"name": name, "architecture": "mamba-tasnet", "config": config, "task": "separate"}
        store.save(cache / name, model, **how)
    return cache


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLYTHER_CACHE", str(models))
    monkeypatch.setattr(separation, "DEFAULT_MODEL", "two")
    return tmp_path


def write_noise(*names, seconds=0.1, seed=0):
    for i, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        x = np.random.default_rng(seed + i).standard_normal(round(8000 * seconds)).astype(np.float32)
        sf.write(name, 0.1 * x, 8000)
    return list(names)


def separate(capfd, *args):
    """(exit code, events, stderr) of `slyther separate --json`."""
    code, out, err = run_command(capfd, "separate", *args, "--json")
    return code, [json.loads(line) for line in out.splitlines()], err


def ends(events):
    """File -> how it ended."""
    return {
        e["file"]: e.get("status", "failed")
        for e in events
        if e["event"] in ("file_done", "error") and e["file"]
    }


def contents(folder):
    return {name: (Path(folder) / name).read_bytes() for name in files_in(folder)}


# Lists


@settings(max_examples=100)
@given(st.sets(st.text("abcdef/", min_size=1, max_size=4)), st.integers(1, 9), st.randoms())
def test_shards_are_all_of_it_once(names, count, rng):
    inputs = discover.once([Path(n) for n in names])
    parts = [job_inputs.part(inputs, (i, count)) for i in range(1, count + 1)]
    assert sorted(str(item) for one in parts for item in one) == sorted(map(str, inputs))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    rng.shuffle(inputs)  # another machine may list them in another order
    assert [{*p} for p in parts] == [{*job_inputs.part(inputs, (i, count))} for i in range(1, count + 1)]


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "١/٤", "1.0/2"])
def test_no_shard(text):
    with pytest.raises(UsageError, match="I/N"):
        job_inputs.parse_shard(text)


NAMES = st.text(st.characters(exclude_characters="\0\n\r\t", codec="utf-8"), min_size=1).filter(str.strip)


@settings(max_examples=100)
@given(st.lists(NAMES, min_size=1), st.sampled_from(["list.txt", "list.tsv", "list.csv", "list"]))
def test_manifests_say_what_was_put_in(tmp_path_factory, names, file):
    folder = tmp_path_factory.mktemp("m")
    text = io.StringIO(newline="")
    if file.endswith(".tsv"):
        text.write("speaker\tpath\n" + "".join(f"x\t{name}\n" for name in names))
    elif file.endswith(".csv"):
        csv.writer(text).writerows([["path", "more"], *([name, "x"] for name in names)])
    else:
        text.write("\n".join(names))
    (folder / file).write_bytes(text.getvalue().encode())
    assert job_inputs.read_manifest(str(folder / file)) == [folder / name for name in names]


def test_manifests_of_odd_names(monkeypatch):
    Path("list.txt").write_bytes(b"\xef\xbb\xbfa\xff.wav\r\n\r\n/abs/b.wav\n c.wav\n")
    names = [os.fsencode(path) for path in job_inputs.read_manifest("list.txt")]
    assert names == [b"a\xff.wav", b"/abs/b.wav", b" c.wav"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"x/a.wav\nb.wav\n")))
    assert job_inputs.read_manifest("-") == [Path("x/a.wav"), Path("b.wav")]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("nowhere.txt", None, "cannot be read"),
        (".", None, "cannot be read"),
        ("list.txt", b"", "names no"),
        ("list.txt", b"\n \n", "names no"),
        ("list.txt", b"RIFF\0\0\0\0WAVE", "line 1"),
        ("list.tsv", b"a.wav\nb.wav\n", "column path"),
        ("list.tsv", b"path\tx\n\ty\n", "line 2"),
        ("list.csv", b'path\n"' + b"x" * 200_000 + b'"\n', "not a table"),
    ],
)
def test_what_is_no_manifest(capfd, name, data, words):
    if data is not None:
        Path(name).write_bytes(data)
    code, events, err = separate(capfd, "--manifest", name)
    assert code == 3 and len(err.splitlines()) == 1 and words in err and events[-1]["event"] == "error"


def test_a_manifest_beside_names(capfd):
    write_noise("a.wav", "m/b.wav", "m/c.wav")
    Path("m/list.txt").write_text("c.wav\nb.wav\n../a.wav\nmissing.wav\n")
    code, events, _ = separate(capfd, "a.wav", "m/b.wav", "--manifest", "m/list.txt", "-o", "out")
    assert code == 3 and events[0]["files"] == 4
    assert ends(events) == {"a.wav": "done", "m/b.wav": "done", "m/c.wav": "done", "m/missing.wav": "failed"}
    code, _, err = separate(capfd)
    assert code == 2 and "INPUTS" in err


def test_the_longest_first(capfd):
    write_noise("a.wav", seconds=0.1)
    write_noise("b.wav", seconds=0.3)
    write_noise("c.wav", seconds=0.2)
    Path("d.wav").write_text("no sound")
    code, events, _ = separate(capfd, "d.wav", "a.wav", "b.wav", "c.wav", "-o", "out")
    assert code == 3 and list(ends(events)) == ["b.wav", "c.wav", "a.wav", "d.wav"]
    results = slyther_cli.separate(["a.wav", "b.wav", "c.wav"], "again")
    assert [result.source for result in results] == ["a.wav", "b.wav", "c.wav"]


def test_shards(capfd):
    write_noise(*(f"in/{i}.wav" for i in range(7)))
    seen = []
    for i in (1, 2, 3):
        code, events, _ = separate(capfd, "in", "-o", "out", "--shard", f"{i}/3")
        assert code == 0 and events[0]["shard"] == f"{i}/3"
        seen += ends(events)
    assert sorted(seen) == [f"in/{i}.wav" for i in range(7)] and len(files_in("out")) == 14
    code, events, _ = separate(capfd, "in/0.wav", "-o", "more", "--shard", "2/2")
    assert code == 0 and events[-1]["files"] == 0 and not Path("more").exists()
    assert separate(capfd, "in", "--shard", "4/3")[0] == 2


def test_a_dry_run_writes_nothing(capfd, monkeypatch):
    write_noise("a.wav", "b.wav", "c.wav")
    assert separate(capfd, "a.wav", "-o", "out")[0] == 0
    Path("c.wav").write_text("no sound")
    before = contents(".")
    for more, first in ((["--skip-existing"], "skipped"), ([], "failed")):
        code, events, _ = separate(
            capfd, "a.wav", "b.wav", "c.wav", "-o", "out", "--dry-run", "-j", "2", *more
        )
        assert code == 3 and ends(events) == {"a.wav": first, "b.wav": "planned", "c.wav": "failed"}
        assert events[-1]["planned"] == 1
    assert contents(".") == before


# What failed


def test_failures_are_recorded_and_retried(capfd):
    write_noise("a.wav", "b.wav", "c.wav")
    for name in ("b.wav", "c.wav"):
        Path(name).rename(name + ".good")
        Path(name).write_text("no sound")
    assert separate(capfd, "a.wav", "b.wav", "c.wav", "-o", "out")[0] == 3
    table = Path("out/slyther-failures.tsv")
    rows = [line.split("\t") for line in table.read_text().splitlines()]
    assert rows[0] == ["path", "kind", "message", "folder"] and {r[0] for r in rows[1:]} == {
        os.path.abspath("b.wav"),
        os.path.abspath("c.wav"),
    }
    assert all(row[1] == "file" and "not a sound file" in row[2] for row in rows[1:])
    Path("b.wav.good").rename("b.wav")
    code, events, _ = separate(capfd, "a.wav", "b.wav", "c.wav", "-o", "out", "--skip-existing")
    assert code == 3 and ends(events) == {"a.wav": "skipped", "b.wav": "done", "c.wav": "failed"}
    assert [line.split("\t")[0] for line in table.read_text().splitlines()[1:]] == [os.path.abspath("c.wav")]
    Path("c.wav.good").rename("c.wav")
    code, events, _ = separate(capfd, "--manifest", table, "-o", "out")  # the table is a manifest
    assert code == 0 and list(ends(events).values()) == ["done"]
    assert separate(capfd, "a.wav", "b.wav", "c.wav", "-o", "out", "--skip-existing")[0] == 0
    assert files_in("out") == sorted(f"{n}_{s}.wav" for n in "abc" for s in ("s1", "s2"))


def test_one_failing_file_leaves_no_trace(capfd):
    Path("a.wav").write_text("no sound")
    assert separate(capfd, "a.wav", "-o", "out")[0] == 4 and not Path("out").exists()


# Two runs in one folder


def test_a_claim_is_one_processes_at_a_time(tmp_path):
    paths = [tmp_path / "new/folder/x_s1.wav", tmp_path / "new/folder/x_s2.wav"]
    with locks.claim(paths):
        with pytest.raises(locks.Taken), locks.claim(paths):
            raise AssertionError
        with locks.claim([tmp_path / "new/folder/y_s1.wav"]):
            pass
    assert files_in() == [] and not (tmp_path / "new").exists()
    with locks.claim(paths):
        pass


def test_nothing_is_done_twice(capfd):
    """Two runs at once over the same inputs, each file by one of them."""
    names = write_noise(*(f"in/{i:02}.wav" for i in range(24)), seconds=0.05)
    runs = [[], []]

    def work(events):
        slyther_cli.separate("in", "out", existing="skip", threads=1, on_event=events.append)

    threads = [threading.Thread(target=work, args=(events,)) for events in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = [name for events in runs for name, how in ends(events).items() if how == "done"]
    assert sorted(done) == names and len(files_in("out")) == 48
    assert all(len(ends(events)) == 24 for events in runs)


def test_a_file_that_another_writes(capfd):
    write_noise("a.wav")
    with locks.claim([Path("out/a_s1.wav")]):
        code, events, err = separate(capfd, "a.wav", "-o", "out")
        assert code == 4 and "another slyther" in err and "--skip-existing" in err
        code, events, _ = separate(capfd, "a.wav", "-o", "out", "--skip-existing")
        assert code == 0 and ends(events) == {"a.wav": "skipped"}
        assert events[-2]["notes"] == ["another slyther works on it"] and events[-2]["outputs"] == {}
        assert app.main(["separate", "a.wav", "-o", "out", "--skip-existing"]) == 0
        out, err = capfd.readouterr()
        assert not out and "results are there" not in err
        assert separate(capfd, "a.wav", "-o", "out", "--force")[0] == 4
    assert separate(capfd, "a.wav", "-o", "out")[0] == 0


def test_a_file_system_without_locks(capfd, monkeypatch):
    def refuses(handle, flags):
        raise OSError(files.errno.ENOLCK, "No locks available")

    write_noise("a.wav")
    monkeypatch.setattr(files.fcntl, "flock", refuses)
    code, _, err = separate(capfd, "a.wav", "-o", "out")
    assert code == 0 and "has no locks" in err and files_in("out") == ["a_s1.wav", "a_s2.wav"]


# Several processes


def tidy(events):
    """Events by file, without what differs between any two runs."""
    found = {}
    for event in events:
        if event["event"] not in ("progress", "start", "summary"):
            kept = {k: v for k, v in event.items() if k not in ("wall_seconds", "exit_code") and k != "lines"}
            found.setdefault(event["file"], []).append(kept)
    return found


def test_several_processes_do_what_one_does(capfd):
    write_noise(*(f"in/{i}.wav" for i in range(5)), seconds=0.4)
    write_noise("in/done.wav")
    Path("in/bad.wav").write_text("no sound")
    assert separate(capfd, "in/done.wav", "-o", "out")[0] == 0
    how = ("in", "-o", "out", "--skip-existing", "--threads", "1")
    code, alone, err = separate(capfd, *how)
    wanted = contents("out")
    for name in files_in("out"):
        if not name.startswith("done"):
            (Path("out") / name).unlink()
    many_code, many, many_err = separate(capfd, *how, "--jobs", "2")
    assert many_code == code == 3 and contents("out") == wanted
    assert many[0].pop("jobs") == many[0]["options"].pop("jobs") == 2 and many[0] == alone[0]
    assert tidy(many) == tidy(alone)
    assert {k: v for k, v in many[-1].items() if k != "wall_seconds"} == {
        k: v for k, v in alone[-1].items() if k != "wall_seconds"
    }
    errors, many_errors = ([x for x in e.splitlines() if "error" in x] for e in (err, many_err))
    assert errors == many_errors and len(errors) == 1


@pytest.mark.slow
def test_what_stops_all_stops_all_processes(capfd):
    write_noise("a.wav", "b.wav")
    code, events, err = separate(capfd, "a.wav", "b.wav", "-j", "2", "--channel", "nine")
    assert code == 2 and len(err.splitlines()) == 1 and events[-1]["kind"] == "usage"
    assert not Path("separated").exists()


def test_standard_input_is_not_for_several(capfd):
    write_noise("a.wav")
    assert separate(capfd, "a.wav", "-", "-j", "2")[0] == 2
    assert separate(capfd, "-", "--manifest", "-")[0] == 2


class Unlucky:
    """A pool in this process, of workers that are lost as ``losses`` say: "" not, "before" or "after" the
    work."""

    def __init__(self, job, losses):
        self.job, self.losses, self.given = replace(job, tell=job.tell), list(losses), []

    def start(self, number):
        return UnluckyWorker(self)

    def ready(self, workers):
        return workers[:1]

    def stop(self, workers):
        assert all(worker.item is None for worker in workers)


class UnluckyWorker:
    item, starting = None, False

    def __init__(self, unlucky):
        self.pool = unlucky

    def give(self, item):
        self.item = item
        self.pool.given.append(item.index)

    def receive(self):
        how = self.pool.losses.pop(0) if self.pool.losses else ""
        if how == "before":
            raise pool.Lost("before")
        result = self.pool.job.one(self.item)
        if how == "after":
            raise pool.Lost("after")
        return "result", result


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["", "before", "after"]), max_size=8), st.integers(1, 3), st.booleans())
def test_lost_workers(monkeypatch, losses, count, resume):
    """Every input is done once, by whoever is left, unless it takes three workers with it."""
    if not Path("in").exists():
        write_noise("in/a.wav", "in/b.wav", "in/c.wav", seconds=0.02)
    shutil.rmtree("out", ignore_errors=True)
    pools, events = [], []

    def by_others(job, work):
        pools.append(Unlucky(job, losses))
        yield from pool.work_through(job, work, pools[0], count)

    monkeypatch.setattr(separation.Separation, "_by_others", by_others)
    how = {"threads": 1, "resume": resume, "work_dir": "work", "jobs": 2}
    results = slyther_cli.separate("in", "out", on_event=events.append, **how)
    assert [r.source for r in results] == ["in/a.wav", "in/b.wav", "in/c.wav"]
    computed = [e["file"] for e in events if e["event"] == "file_done" and e["status"] == "done"]
    assert len(set(computed)) == len(computed)
    for i, result in enumerate(results):
        tries = pools[0].given.count(i)
        assert 1 <= tries <= pool.TRIES
        if result.status == "failed":
            assert tries == pool.TRIES and "lost 3 times" in str(result.error)
        else:
            assert all(path.exists() for path in result.outputs.values())
    assert len(pools[0].given) <= 3 + sum(map(bool, losses))


def test_jobs_run_what_is_installed_in_a_folder_with_another_source(capfd, monkeypatch):
    write_noise("a.wav", "b.wav", seconds=0.02)
    Path("slyther_cli").mkdir()
    Path("slyther_cli/__init__.py").write_text("raise SystemExit('the source, not built')")
    monkeypatch.delenv("PYTHONSAFEPATH")
    code, _, err = separate(capfd, "a.wav", "b.wav", "-o", "out", "--jobs", "2")
    assert code == 0 and "not built" not in err


def test_what_was_there_before_is_not_a_lost_workers_work(monkeypatch):
    write_noise("a.wav", "b.wav", seconds=0.02)
    Path("out").mkdir()
    for name in ("a_s1.wav", "a_s2.wav"):
        Path("out", name).write_text("old")

    def by_others(job, work):
        yield from pool.work_through(job, work, Unlucky(job, ["before", "before"]), 1)

    monkeypatch.setattr(separation.Separation, "_by_others", by_others)
    results = slyther_cli.separate(["a.wav", "b.wav"], "out", existing="replace", jobs=2, threads=1)
    assert [r.status for r in results] == ["done", "done"]
    assert all(path.read_bytes()[:4] == b"RIFF" for r in results for path in r.outputs.values())


def test_a_file_called_like_standard_input(capfd):
    write_noise("a.wav")
    Path("a.wav").rename("-")
    for how in (["./-"], ["--manifest", "list.txt"]):
        Path("list.txt").write_text("-\n")
        code, events, _ = separate(capfd, *how, "-o", "out", "--force")
        assert (
            code == 0
            and ends(events) == {str(Path("-").absolute()): "done"}
            and files_in("out") == ["-_s1.wav", "-_s2.wav"]
        )


def test_workers_that_never_start():
    class Hopeless(Unlucky):
        def start(self, number):
            worker = UnluckyWorker(self)
            worker.starting = True
            worker.receive = lambda: (_ for _ in ()).throw(pool.Lost("no room"))
            return worker

    work = [Work(0, Path("a.wav"), {}, (0, 1))]
    job = separation.Separation.__new__(separation.Separation)
    job.tell = print
    unlucky = Hopeless.__new__(Hopeless)
    with pytest.raises(DeviceError, match="do not start: no room"):
        list(pool.work_through(job, work, unlucky, 2))


def test_work_that_is_given_up_leaves_nothing(monkeypatch):
    """The lock and the unfinished files of a process that was killed three times."""
    write_noise("a.wav", "b.wav", seconds=0.02)
    outputs = [Path("out/deep/a_s1.wav"), Path("out/deep/a_s2.wav")]

    class Killed(UnluckyWorker):
        def receive(self):
            if str(self.item.source) != "a.wav":
                return super().receive()
            outputs[0].parent.mkdir(parents=True, exist_ok=True)
            locks._lock_of(outputs).touch()
            for i in range(2):
                outputs[0].with_name(f".{locks.part_name(outputs)}-{i}.part").write_text("half")
            raise pool.Lost("killed")

    unlucky = Unlucky.__new__(Unlucky)
    unlucky.start = lambda number: Killed(unlucky)

    def by_others(job, work):
        Unlucky.__init__(unlucky, job, [])
        yield from pool.work_through(job, work, unlucky, 1)

    monkeypatch.setattr(separation.Separation, "_by_others", by_others)
    how = {"jobs": 2, "threads": 1, "filename": "deep/{track}_{stem}.{ext}"}
    results = slyther_cli.separate(["a.wav", "b.wav"], "out", **how)
    assert [r.status for r in results] == ["failed", "done"] and "lost 3 times" in str(results[0].error)
    assert files_in("out") == ["deep/b_s1.wav", "deep/b_s2.wav", "slyther-failures.tsv"]
    how["filename"] = "deeper/{track}_{stem}.{ext}"
    outputs[:] = [Path("out/deeper/a_s1.wav"), Path("out/deeper/a_s2.wav")]
    slyther_cli.separate(["a.wav"], "out", ray="none", **how)
    assert not Path("out/deeper").exists()


def test_a_process_lost_while_it_starts_is_no_try_of_a_file(monkeypatch):
    write_noise("a.wav", "b.wav", seconds=0.02)
    begin, give, started, given = pool._Process.__init__, pool._Process.give, [], []

    def start(self, job, number):
        begin(self, job, number)
        started.append(number)
        if len(started) <= 4:
            self.process.kill()

    def record(self, item):
        given.append(item.index)
        give(self, item)

    monkeypatch.setattr(pool._Process, "__init__", start)
    monkeypatch.setattr(pool._Process, "give", record)
    results = slyther_cli.separate(["a.wav", "b.wav"], "out", jobs=2, threads=1)
    assert [r.status for r in results] == ["done", "done"]
    assert sorted(given) == [0, 1] and len(started) == 6


def children():
    """Process ids of the workers."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        if b"slyther_cli.jobs.worker" in words and parent == os.getpid():
            found.append(int(entry.name))
    return found


@pytest.mark.slow
def test_a_killed_process_is_replaced():
    """SIGKILL in mid-file: with --resume the work goes on inside it, and the result is the same."""
    write_noise("a.wav", "b.wav", seconds=60)
    how = {"model": "slow", "threads": 1, "resume": True, "work_dir": "work"}
    slyther_cli.separate(["a.wav", "b.wav"], "alone", **how)
    notes, killed = [], []

    def on_event(event):
        if event["event"] == "progress" and event["fraction"] > 0.5 and not killed:
            killed.extend(children())
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
        if event["event"] == "file_done":
            notes.extend(event["notes"])

    results = slyther_cli.separate(["a.wav", "b.wav"], "out", jobs=2, on_event=on_event, **how)
    assert [r.status for r in results] == ["done", "done"] and contents("out") == contents("alone")
    assert len(killed) == 2 and "went on from the work of an earlier run" in notes and not files_in("work")


@pytest.mark.slow
def test_a_process_that_always_dies():
    write_noise("a.wav", "b.wav", seconds=20)

    def on_event(event):
        if event["event"] == "progress" and event["fraction"] < 0.5:
            for worker in children():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)

    results = slyther_cli.separate(["a.wav", "b.wav"], "out", "slow", jobs=2, on_event=on_event)
    for result in results:
        assert "lost 3 times, killed" in str(result.error) and "--memory-limit" in str(result.error)
    assert files_in("out") == ["slyther-failures.tsv"]


def test_stopping_stops_the_processes(tmp_path):
    """What stops the first process stops all, and nothing half is left."""
    write_noise("a.wav", "b.wav", seconds=30)

    class Stop(BaseException):
        pass

    def on_event(event):
        if event["event"] == "progress":
            raise Stop

    with pytest.raises(Stop):
        slyther_cli.separate(["a.wav", "b.wav"], "out", "slow", jobs=2, threads=1, on_event=on_event)
    end = time.monotonic() + 10
    while children() and time.monotonic() < end:
        time.sleep(0.05)
    assert not children() and files_in() == ["a.wav", "b.wav"]


def test_errors_that_cannot_travel():
    from slyther_cli.jobs.worker import portable

    class Odd(Exception):
        def __reduce__(self):
            raise TypeError

    assert str(portable(InputError("x"))) == "x" and type(portable(OutputError("y"))) is OutputError
    assert "Odd: z" in str(portable(Odd("z")))
    assert "ZeroDivisionError" in "".join(portable(ZeroDivisionError("w")).__notes__)


def test_nothing_has_a_name_before_it_is_on_the_disk(place, monkeypatch):
    """Every file is brought there first, the folder with the names once, at the end."""
    done = []
    fsync, replace_ = os.fsync, os.replace

    def synced(handle):
        done.append(("sync", os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def named(old, new):
        done.append(("name", os.path.abspath(old)))
        replace_(old, new)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc")
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    files = write_noise(*(f"{i}.wav" for i in range(4)))
    assert [r.status for r in slyther_cli.separate(files, "out", threads=1)] == ["done"] * 4
    names = [what for kind, what in done if kind == "name"]
    assert len(names) == 8 and all(done.index(("sync", n)) < done.index(("name", n)) for n in names)
    assert done[-1] == ("sync", os.path.abspath("out")) and len(done) == 8 + 8 + 1


def test_lists_of_find_print0_are_read(monkeypatch):
    names = [b"a.wav", b"two\nlines.wav", b" x/\xff.wav"]
    Path("list.txt").write_bytes(b"".join(name + b"\0" for name in names))
    assert [os.fsencode(path) for path in job_inputs.read_manifest("list.txt")] == names
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.wav\0")))
    assert job_inputs.read_manifest("-") == [Path("a.wav")]
    for damaged in (b"a.wav\0b.wav\n", b"a.wav\0\0b.wav\0", b"\0"):
        Path("list.txt").write_bytes(damaged)
        with pytest.raises(InputError, match="is this a manifest"):
            job_inputs.read_manifest("list.txt")
