"""Killed jobs: the same command goes on, and the result is that of an uninterrupted run."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longform_tools import ConvLayer, in_blocks, noise, small_model
from torch import nn

from slyther_cli import files
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, ModelError, OutputError, UsageError
from slyther_cli.layers.mamba import MambaLayer
from slyther_cli.longform import plan_separation, separate_whole
from slyther_cli.longform.journal import Journal, job_facts, job_name
from slyther_cli.longform.sweep import START, sweep, tape_floats
from slyther_cli.longform.tape import FileTape, TapeDamaged, slot_bytes
from slyther_cli.models import registry
from slyther_cli.scan.cpu import _native
from slyther_cli.separation.job import separate

FACTS = {
    "recording": {"bytes": 1},
    "model": {"name": "a"},
    "options": {"channel": "mix"},
    "engine": {"tile": 2},
}
WIDTH, TILE = 8, 16


class Killed(BaseException):
    pass


def journal(folder, facts=FACTS, **more):
    return Journal(folder, "job", facts, **more)


class LossyTape(FileTape):
    """Knows what was written and not yet brought to the disk, and can lose any of it, as a machine that loses
    power does.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.risky, self.lock, self.path = [], threading.Lock(), self.folder / "tape"

    def store(self, sweep, index, *parts):
        offset = self._slot(sweep, index)
        with self.lock:
            self.risky.append((offset, os.pread(self.file.fileno(), self.slot_bytes, offset)))
            super().store(sweep, index, *parts)

    def sync(self):
        with self.lock:
            count = len(self.risky)
        super().sync()
        with self.lock:
            del self.risky[:count]

    def lose(self, rng):
        with open(self.path, "r+b") as file:
            for offset, before in reversed(self.risky):
                if rng.random() < 0.7:
                    file.seek(offset)
                    file.write(before[: rng.choice([len(before), len(before) // 2])])


def run(layers, x, folder, stop_after=None, loses=None, **more):
    """One process's life, killed after so many tiles; None if it was killed. ``loses``: a random generator;
    what was not on the disk by then is lost.
    """
    left = stop_after

    def on_progress(share):
        nonlocal left
        if left is not None:
            left -= 1
            if left == 0:
                raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slyther_cli.longform.journal.FileTape", LossyTape)
        with journal(folder, **more) as job, torch.inference_mode():
            tape = job.open_tape(tape_floats(layers, WIDTH, TILE))
            tiles = lambda first: iter(x.split(TILE, 1)[first:])  # noqa: E731
            try:
                pieces = sweep(layers, tiles, tape, WIDTH, on_progress, x.shape[1], job, TILE)
                return torch.cat([p.clone() for p in pieces], 1)
            except Killed:
                pass
    if loses:
        getattr(tape, "tape", tape).lose(loses)  # a PrefetchTape has one below
    return None


def lived(layers, x, folder, lives, power, every):
    """What comes out after being killed as often as ``lives`` says, with the smallest gap."""
    for life in [*lives, None]:
        out = run(layers, x, folder, life, power, every=every, gap_bytes=0)
        if out is not None:
            return out


@settings(max_examples=40)
@given(
    n=st.integers(1, 4),
    frames=st.integers(1, 250),
    lives=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    every=st.sampled_from([0.0, 1e-3, 1e9]),
    conv=st.booleans(),
    power=st.none() | st.integers(0, 2**32).map(random.Random),  # not st.randoms: the clock says how much
)
def test_a_job_goes_on_wherever_it_was_killed(tmp_path_factory, n, frames, lives, every, conv, power):
    """``power``: what the disk had not yet is lost each time. ``every`` of 1e9 keeps marks only where the
    tape would else be overwritten: with the smallest gap, it is overwritten as far as it ever can be.
    """
    torch.manual_seed(0)
    layers = nn.ModuleList(ConvLayer(WIDTH) if conv else MambaLayer(WIDTH, 4) for _ in range(n)).eval()
    x = torch.randn(1, frames, WIDTH)
    folder = tmp_path_factory.mktemp("work")
    whole = run(layers, x, folder / "once")
    assert torch.equal(lived(layers, x, folder / "often", lives, power, every), whole)


def test_a_mark_saves_work(tmp_path):
    layers, x = nn.ModuleList(MambaLayer(WIDTH, 4) for _ in range(3)).eval(), torch.randn(1, 10 * TILE, WIDTH)
    assert run(layers, x, tmp_path, 25, every=0.0) is None
    with journal(tmp_path) as job:
        assert job.resumed and job.start().sweep == 2 and job.start().read >= 1
        assert job.start().frames == 160


def mark_of(folder, facts=FACTS):
    layers, x = nn.ModuleList(MambaLayer(WIDTH, 4) for _ in range(2)).eval(), torch.randn(1, 8 * TILE, WIDTH)
    run(layers, x, folder, 13, every=0.0, facts=facts)
    return folder / "job" / "mark"


@pytest.mark.parametrize(
    ("kind", "error", "words"),
    [
        ("recording", UsageError, "another recording"),
        ("model", ModelError, "another model"),
        ("options", UsageError, "other options"),
        ("engine", UsageError, "another version"),
    ],
)
def test_work_of_another_job_is_refused(tmp_path, kind, error, words):
    mark_of(tmp_path)
    with pytest.raises(error, match=words) as caught:
        journal(tmp_path, {**FACTS, kind: {"name": "b"}})
    assert str(tmp_path) in str(caught.value) and "start anew" in str(caught.value)
    journal(tmp_path).close()  # and still there for the one that it belongs to


def test_a_damaged_mark_is_not_gone_on_from_whatever_the_damage(tmp_path):
    mark = mark_of(tmp_path)
    good, rng = mark.read_bytes(), random.Random(0)
    damaged = [b"", good[:7], good[:-1], good + b"x", b"\xff" * 200, good[:8] + b"{}" + good[10:]]
    for _ in range(150):
        at = rng.randrange(len(good))
        damaged.append(good[:at] + bytes([good[at] ^ (1 << rng.randrange(8))]) + good[at + 1 :])
    for data in damaged:
        mark.write_bytes(data)
        with journal(tmp_path) as job:
            assert job.start() == START and not job.resumed and not mark.exists()
            assert job.notes == [files.DAMAGED.format("its mark")]
    mark.write_bytes(good)
    os.truncate(mark.with_name("tape"), 100)
    with journal(tmp_path) as job:
        assert job.resumed and job.notes == [files.WENT_ON]
        job.open_tape(tape_floats([MambaLayer(WIDTH, 4)], WIDTH, TILE))
        assert job.start() == START and job.notes == [files.DAMAGED.format("its tape is shorter than it was")]


def damage_a_tape(path, how, rng, slot):
    """Something happens to a tape's file, in every tile."""
    data = bytearray(path.read_bytes())
    if how == "flip":
        for at in range(0, len(data), 97):
            data[at] ^= 1 << rng.randrange(8)
    elif how == "hole":
        data = bytes(len(data))
    elif how == "swap":  # whole tiles with their checksums, in each other's places
        data = data[slot:] + data[:slot]
    else:
        data = data[: slot // 2]
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["flip", "hole", "swap", "cut"])
@pytest.mark.parametrize("stop", [9, 14, 25, 33])
def test_a_damaged_tape_is_found_and_all_done_anew(tmp_path, how, stop):
    """Killed in each of the sweeps of three layers and in the last pass; the result is that of one run."""
    torch.manual_seed(0)
    layers, x = nn.ModuleList(MambaLayer(WIDTH, 4) for _ in range(3)).eval(), torch.randn(1, 8 * TILE, WIDTH)
    whole = run(layers, x, tmp_path / "once")
    floats = tape_floats(layers, WIDTH, TILE)
    assert run(layers, x, tmp_path, stop, every=0.0, gap_bytes=12 * floats) is None
    damage_a_tape(tmp_path / "job" / "tape", how, random.Random(stop), slot_bytes(floats))
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "close", lambda job, close=Journal.close: (told.extend(job.notes), close(job)))
        assert torch.equal(run(layers, x, tmp_path), whole)
    assert len(told) == 1 and "all done anew" in told[0]
    with journal(tmp_path) as job:
        job.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["once"]


def test_tiles_given_before_the_damage_was_found_are_not_given_again(tmp_path):
    torch.manual_seed(0)
    layers, x = nn.ModuleList(MambaLayer(WIDTH, 4) for _ in range(2)).eval(), torch.randn(1, 8 * TILE, WIDTH)
    whole = run(layers, x, tmp_path / "once")
    tiles = lambda first: iter(x.split(TILE, 1)[first:])  # noqa: E731
    with journal(tmp_path) as job, torch.inference_mode():
        tape = job.open_tape(tape_floats(layers, WIDTH, TILE))
        pieces, got = sweep(layers, tiles, tape, WIDTH, None, x.shape[1], job, TILE), []
        for piece in pieces:
            got.append(piece.clone())
            if len(got) == 3:
                slot = tape._slot(1, 6)
                os.pwrite(tape.file.fileno(), bytes([os.pread(tape.file.fileno(), 1, slot)[0] ^ 1]), slot)
        assert torch.equal(torch.cat(got, 1), whole) and "all done anew" in job.notes[0]


def test_a_disk_that_damages_all_that_is_written_ends_the_job(tmp_path, monkeypatch):
    class Bad(FileTape):
        def store(self, sweep, index, *parts):
            super().store(sweep, index, *parts)
            os.pwrite(self.file.fileno(), b"?", self._slot(sweep, index) + 3)

    monkeypatch.setattr("slyther_cli.longform.journal.FileTape", Bad)
    layers, x = nn.ModuleList([MambaLayer(WIDTH, 4)]).eval(), torch.randn(1, 4 * TILE, WIDTH)
    with (
        journal(tmp_path) as job,
        torch.inference_mode(),
        pytest.raises(TapeDamaged, match="what was written"),
    ):
        tape = job.open_tape(tape_floats(layers, WIDTH, TILE))
        list(sweep(layers, lambda first: iter(x.split(TILE, 1)[first:]), tape, WIDTH, keeper=job, tile=TILE))


@pytest.mark.parametrize("name", ["ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA"])
def test_work_of_another_kind_of_processor_is_another_job(tmp_path, monkeypatch, name):
    sound, model = tmp_path / "a.wav", small_model()
    sound.write_bytes(b"x")
    monkeypatch.delenv(name, raising=False)
    before = job_facts(sound, model, "m", {}, "cpu")
    assert before["engine"]["kernels"] == torch.backends.cpu.get_cpu_capability()
    assert before["engine"]["isa"] == (_native.isa() if _native else "none")
    monkeypatch.setenv(name, "default")
    after = job_facts(sound, model, "m", {}, "cpu")
    assert after["engine"] == before["engine"] | {name: "default"}
    Journal(tmp_path, "job", before).close()
    mark = mark_of(tmp_path / "x", before)
    with pytest.raises(UsageError, match="or another processor"):
        Journal(mark.parents[1], "job", after)


def test_torch_on_other_kernels_is_another_engine(tmp_path):
    """In a process of its own: what is chosen is chosen at the start."""
    code = "from slyther_cli.runtime import kernels; print(kernels()['kernels'])"
    env = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "DEFAULT"


def test_folders_that_cannot_hold_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="work files"):
        journal(tmp_path / "file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="not ours"):
        journal(tmp_path)


def test_one_process_at_a_time_and_nothing_left(tmp_path):
    with journal(tmp_path), pytest.raises(UsageError, match="another slyther"):
        journal(tmp_path)
    with journal(tmp_path) as job:
        job.open_tape(100)
        with Journal(tmp_path, "other", FACTS) as other:  # a job beside it
            other.open_tape(100)
            other.remove()
        assert [p.name for p in tmp_path.iterdir()] == ["job"]
        job.remove()
    assert not list(tmp_path.iterdir())


def test_a_disk_that_fails_in_the_background_is_reported(tmp_path, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    layers, x = nn.ModuleList([MambaLayer(WIDTH, 4)]).eval(), torch.randn(1, 8 * TILE, WIDTH)
    monkeypatch.setattr("slyther_cli.files.os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        run(layers, x, tmp_path, every=0.0)


def test_facts_tell_jobs_apart(tmp_path):
    sound, model = tmp_path / "a.wav", small_model()
    sound.write_bytes(b"x" * 3_000_000)
    facts = job_facts(sound, model, "m", {"channel": "mix"}, "cpu")
    assert facts == job_facts(sound, small_model(), "m", {"channel": "mix"}, "cpu")
    assert facts["model"] != job_facts(sound, small_model(seed=1), "m", {}, "cpu")["model"]
    status = sound.stat()
    sound.write_bytes(b"x" * 2_999_999 + b"y")
    os.utime(sound, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert facts["recording"] != job_facts(sound, model, "m", {}, "cpu")["recording"]
    with pytest.raises(InputError):
        job_facts(tmp_path / "none.wav", model, "m", {}, "cpu")
    names = {job_name(sound, [tmp_path / out]) for out in ("1", "2", "../1")}
    assert len(names) == 3 and all(name.startswith("slyther-a-") for name in names)


def test_separation_goes_on_with_the_same_stems(tmp_path):
    model, x = small_model(3, stride=2), noise(40_000)
    plan = plan_separation(model, len(x), work_dir=tmp_path, resume=True)
    whole = np.concatenate(list(separate_whole(model, in_blocks(x, 9000), plan)), 1)
    tiles = 0

    def stop(share):
        nonlocal tiles
        tiles += 1
        if tiles in (5, 17, 40):
            raise Killed

    stems = None
    while stems is None:
        with journal(tmp_path, every=0.0) as job:
            try:
                stems = np.concatenate(
                    list(separate_whole(model, in_blocks(x, 9000), plan, stop, job=job)), 1
                )
            except Killed:
                continue
    assert tiles > 40 and np.array_equal(stems, whole)


# The command, really killed


MODEL = {"n_filters": 64, "d_model": 64, "n_layers": 3}
# Runs ``slyther separate ARGUMENTS`` for every list on stdin, in a process of its own that has all modules
# loaded already (importing torch takes longer than the work), and prints its id; for an id, waits for the
# process and prints its exit status.
NURSERY = """
import json, os, sys
import slyther_cli.commands.separate
from slyther_cli import app
from slyther_cli.longform import journal, separation
from slyther_cli.models import mamba_tasnet, registry
from slyther_cli.separation.job import separate

journal.EVERY = 0.02  # seconds: marks are kept as often as can be
for line in sys.stdin:
    asked = json.loads(line)
    if isinstance(asked, int):
        print(os.waitstatus_to_exitcode(os.waitpid(asked, 0)[1]), flush=True)
        continue
    *arguments, die, said = asked
    child = os.fork()
    if child == 0:
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if die:
            journal.Journal.remove = lambda job: os.kill(os.getpid(), 9)
        os._exit(app.main(["separate", *arguments]))
    print(child, flush=True)
"""


class Command:
    """``slyther separate`` with the job's recording and model."""

    def __init__(self, folder, nursery):
        self.folder = folder
        self.nursery = subprocess.Popen(
            [sys.executable, "-c", nursery],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self.said = {}

    def ask(self, what):
        self.nursery.stdin.write(json.dumps(what) + "\n")
        self.nursery.stdin.flush()
        return int(self.nursery.stdout.readline())

    def start(self, out, *options, work="work", die=False):
        """The id of the process."""
        folder, said = self.folder, self.folder / f"said-{len(self.said)}"
        command = [folder / "talk.wav", "-m", folder / "model", "-o", folder / out, "--threads", "1"]
        command += ["--work-dir", folder / work, *options]
        pid = self.ask([*map(str, command), die, str(said)])
        self.said[pid] = said
        return pid

    def wait(self, pid):
        """Its exit code (below 0: the signal that killed it) and what it said."""
        return self.ask(pid), self.said[pid].read_text()

    def run(self, out, *options, **more):
        return self.wait(self.start(out, *options, **more))

    def stop_when(self, happened, number, out, *options, **more):
        """Its id, when it has been sent the signal as soon as something had happened."""
        pid = self.start(out, *options, **more)
        end = time.monotonic() + 200
        while not happened() and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(pid, number)
        return pid

    def kill_when(self, happened, out, *options, **more):
        pid = self.stop_when(happened, signal.SIGKILL, out, *options, **more)
        assert self.wait(pid)[0] == -9, "it ended before it could be killed"


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A folder with a model, a recording and the stems of an uninterrupted run; the command to run there; and
    the seconds that it took.
    """
    yield from a_job(tmp_path_factory.mktemp("jobs"))


def a_job(folder, nursery=NURSERY):
    torch.manual_seed(1)
    model = registry.build("mamba-tasnet", MODEL)
    store.save(folder / "model", model, name="m", task="separate", architecture="mamba-tasnet", config=MODEL)
    sf.write(folder / "talk.wav", noise(16_000 * 40), 16_000)
    command = Command(folder, nursery)
    pid = command.start("whole")
    started = time.monotonic()
    assert command.wait(pid)[0] == 0
    yield folder, command, time.monotonic() - started
    command.nursery.stdin.close()
    command.nursery.stdout.close()
    command.nursery.wait()


def same(folder, out, killed=False):
    """Whether the stems are those of the uninterrupted run, and nothing else is there; a killed process
    leaves its lock."""
    names = ["talk_s1.wav", "talk_s2.wav"]
    assert sorted(p.name for p in (folder / out).iterdir() if p.suffix != ".lock" or not killed) == names
    return all((folder / out / n).read_bytes() == (folder / "whole" / n).read_bytes() for n in names)


def kill_often(job, kills, seed):
    """Kill runs until there were so many kills; every run that ends has the stems of the uninterrupted one.
    Returns the number of jobs that ended, and of those that had gone on from a killed run's work.
    """
    folder, command, seconds = job
    rng, done, finished, resumed = random.Random(seed), 0, 0, 0
    while done < kills or not resumed:
        assert done < 4 * kills
        pid = command.start("out", "--resume")
        if done < kills or finished:
            time.sleep(rng.uniform(0, 0.9 * seconds))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        code, said = command.wait(pid)
        if code == 0:
            assert same(folder, "out"), said
            assert not list((folder / "work").glob("*/tape"))
            resumed += "went on" in said
            finished += 1
            shutil.rmtree(folder / "out")
        else:  # -15, -2: before the command was ready for signals
            assert code in (-9, -15, -2, 130, 143), said
            assert "Traceback" not in said or code in (-15, -2), said
            done += 1
    return finished, resumed


def test_kills_at_random_moments(job):
    assert kill_often(job, 6, seed=3)[1] > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments(job):
    finished, resumed = kill_often(job, 50, seed=4)
    print(f"50 kills, {finished} jobs ended, {resumed} of them after a kill")
    assert resumed > 5


def test_two_runs_on_one_work_folder(job):
    """The same job twice: one does it, the other says so. Another job beside it is not disturbed."""
    folder, command, _ = job
    begun = lambda: list((folder / "shared").glob("*/mark"))  # noqa: E731
    first = command.stop_when(begun, signal.SIGSTOP, "both", "--resume", work="shared")
    code, said = command.run("both", "--resume", work="shared")
    assert code == 4 and "another slyther works on this job" in said
    assert command.run("third", "--resume", work="shared")[0] == 0
    os.kill(first, signal.SIGCONT)
    assert command.wait(first)[0] == 0
    assert same(folder, "both") and same(folder, "third") and not list((folder / "shared").iterdir())


def test_a_kill_between_the_stems_and_the_end(job):
    """The stems are there, and so is the work: the same command ends the job and does not complain."""
    folder, command, _ = job
    assert command.run("late", "--resume", work="late-work", die=True)[0] == -9
    assert same(folder, "late", killed=True) and list((folder / "late-work").iterdir())
    code, said = command.run("late", "--resume", work="late-work")
    assert code == 0 and "went on" in said
    assert same(folder, "late") and not list((folder / "late-work").iterdir())
    before = [p.stat().st_mtime_ns for p in sorted((folder / "late").iterdir())]
    code, said = command.run("late", "--resume", work="late-work")
    assert code == 0 and "skipped" in said
    assert before == [p.stat().st_mtime_ns for p in sorted((folder / "late").iterdir())]


def test_work_without_its_tape_is_no_work(job):
    """A kill while the work of a finished job is being removed."""
    folder, command, _ = job
    work = folder / "half-work"
    command.kill_when(lambda: list(work.glob("*/mark")), "half", "--resume", work="half-work")
    next(work.glob("*/tape")).unlink()
    assert command.run("half", "--resume", work="half-work")[0] == 0 and same(folder, "half")


def test_what_a_killed_run_left_beside_its_results_goes_away(job):
    folder, command, _ = job
    hidden = lambda: list((folder / "beside").glob(".slyther-*"))  # noqa: E731
    command.kill_when(hidden, "beside", "--resume", work="beside-work")
    assert hidden()
    assert command.run("beside", "--resume", work="beside-work")[0] == 0 and same(folder, "beside")


def test_another_recording_or_model_or_other_options_are_refused_by_the_command(job):
    folder, command, _ = job
    work = folder / "refusing"
    command.kill_when(lambda: list(work.glob("*/mark")), "never", "--resume", work="refusing")
    model = registry.build("mamba-tasnet", MODEL)
    store.save(folder / "new", model, name="m2", task="separate", architecture="mamba-tasnet", config=MODEL)
    for options, exit_code, words in [
        (["--channel", "1"], 4, "other options (channel mix, now 1)"),
        (["--subtype", "24"], 4, "other options (subtype 16, now 24)"),
        (["-m", folder / "new"], 4, "another model (name m, now m2)"),
    ]:
        code, said = command.run("never", "--resume", *options, work="refusing")
        assert code == exit_code and words in said and "start anew" in said
    os.utime(folder / "talk.wav")
    code, said = command.run("never", "--resume", work="refusing")
    assert code == 4 and "another recording" in said and "Traceback" not in said
    assert not list((folder / "never").glob("talk*"))


def test_what_cannot_be_resumed(job, tmp_path):
    folder, _, _ = job
    results = separate(folder / "talk.wav", tmp_path / "dry", folder / "model", resume=True, dry_run=True)
    assert "work file" in " ".join(results[0].plan)
    os.mkfifo(tmp_path / "fifo")
    for source in ("-", tmp_path / "fifo"):
        (result,) = separate(source, tmp_path / "out", folder / "model", resume=True, work_dir=tmp_path)
        assert isinstance(result.error, InputError) and "cannot be read again" in str(result.error)
    assert not Path(tmp_path / "out").exists()
