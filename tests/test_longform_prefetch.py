"""A tape read ahead and written behind: the same to the bit as the plain one, whatever is slow or fails."""

import errno
import os
import random
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longform_tools import ConvLayer, LeakyLayer, in_blocks, noise, small_model
from test_longform_resume import NURSERY, TILE, WIDTH, a_job, journal, kill_often, lived, run
from torch import nn

from slyther_cli.errors import DeviceError, OutputError
from slyther_cli.layers.mamba import MambaLayer
from slyther_cli.longform import plan as planning
from slyther_cli.longform import plan_separation, prefetch, separate_whole
from slyther_cli.longform.prefetch import AHEAD, PrefetchTape
from slyther_cli.longform.sweep import sweep, tape_floats
from slyther_cli.longform.tape import CHUNK_BYTES, FileTape, MemoryTape, in_order, slot_bytes

KINDS = [lambda i: MambaLayer(WIDTH, 4), lambda i: LeakyLayer(WIDTH, i), lambda i: ConvLayer(WIDTH)]


def stack(n, first=0):
    torch.manual_seed(1)
    return nn.ModuleList(KINDS[(first + i) % 3](i) for i in range(n)).eval()


def swept(layers, x, tile, tape):
    tiles = lambda first: iter(x.split(tile, 1)[first:])  # noqa: E731
    try:
        with torch.inference_mode():
            return torch.cat([y.clone() for y in sweep(layers, tiles, tape, WIDTH, tile=tile)], 1)
    finally:
        tape.close()


class SlowTape(FileTape):
    """Takes now and then a moment; knows how many tiles are in work, and which thread touched it."""

    def __init__(self, *args, seed=0, **more):
        super().__init__(*args, **more)
        self.rng, self.threads = random.Random(seed), set()

    def wait(self):
        self.threads.add(threading.current_thread().name)
        if self.rng.random() < 0.3:
            time.sleep(self.rng.choice([0.0, 1e-4, 2e-3]))

    def store(self, *args):
        self.wait()
        super().store(*args)

    def load(self, *args):
        self.wait()
        return super().load(*args)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tapes")


@settings(max_examples=12)
@given(
    n=st.integers(1, 5),
    first=st.integers(0, 2),
    frames=st.integers(1, 300),
    tile=st.integers(15, 90),
    gap=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_the_same_to_the_bit(folder, n, first, frames, tile, gap, seed):
    layers = stack(n, first)
    x = torch.randn(1, frames, WIDTH, generator=torch.Generator().manual_seed(seed))
    floats = tape_floats(layers, WIDTH, tile)
    plain = swept(layers, x, tile, MemoryTape(floats))
    slow = SlowTape(floats, folder, gap=gap, seed=seed)
    assert torch.equal(swept(layers, x, tile, PrefetchTape(slow)), plain)
    assert slow.threads <= {"slyther-tape_0"}  # one thread only, so what was stored is there to be loaded
    assert torch.equal(swept(layers, x, tile, PrefetchTape(MemoryTape(floats))), plain)


@settings(max_examples=12)
@given(
    n=st.integers(1, 4),
    frames=st.integers(1, 250),
    lives=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    every=st.sampled_from([0.0, 1e-3, 1e9]),
    power=st.none() | st.integers(0, 2**32).map(random.Random),  # not st.randoms: the clock says how much
)
def test_a_killed_job_goes_on(tmp_path_factory, n, frames, lives, every, power):
    """As in test_longform_resume, with the smallest gap: what was not on the disk is lost each time."""
    layers, folder = stack(n), tmp_path_factory.mktemp("work")
    x = torch.randn(1, frames, WIDTH, generator=torch.Generator().manual_seed(n))
    whole = run(layers, x, folder / "plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slyther_cli.longform.journal.beside", PrefetchTape)
        out = lived(layers, x, folder / "often", lives, power, every)
    assert torch.equal(out, whole)


def test_tiles_come_early_and_few_wait(tmp_path):
    """Loads are begun before they are due, no more than AHEAD + 1; stores wait for room beyond AHEAD."""
    begun, go = [], threading.Event()

    class Held(FileTape):
        def store(self, *args):
            go.wait(20)
            super().store(*args)

        def load(self, sweep, index, *args):
            begun.append(index)
            return super().load(sweep, index, *args)

    tape = PrefetchTape(Held(8, tmp_path))
    stored = []

    def store_all():
        for i in range(20):
            tape.store(0, i, torch.full((2, 4), float(i)))
            stored.append(i)

    thread = threading.Thread(target=store_all)
    thread.start()
    time.sleep(0.2)
    assert len(stored) == AHEAD
    go.set()
    thread.join(20)
    assert len(stored) == 20
    walk = in_order(tape, ((0, i, 2, 4) for i in range(20)))
    for i in range(20):
        (part,) = next(walk)
        assert torch.equal(part, torch.full((2, 4), float(i)))
        assert len(begun) <= i + 1 + AHEAD
        end = time.monotonic() + 20
        while len(begun) < min(20, i + 1 + AHEAD) and time.monotonic() < end:
            time.sleep(0.001)
        assert len(begun) == min(20, i + 1 + AHEAD)
    tape.close()


@settings(max_examples=10)
@given(asked=st.lists(st.integers(0, 5), max_size=30), seed=st.integers(0, 99))
def test_any_order_and_the_same_tile_again(folder, asked, seed):
    """As attention over a tape asks for them (``attended``), also without being expected."""
    tape = PrefetchTape(SlowTape(8, folder, seed=seed))
    for i in range(6):
        tape.store(0, i, torch.full((2, 3), float(i)), torch.full((2, 1), -float(i)))
    for i, parts in zip(asked, in_order(tape, ((0, i, 2, 3, 1) for i in asked)), strict=True):
        assert [part.unique().tolist() for part in parts] == [[i], [-i]]
    for i in asked[:5]:
        assert tape.load(0, i, 2, 3, 1)[0].tolist() == [[i, i, i]] * 2
    tape.close()


class FullTape(SlowTape):
    """The disk is full after so many tiles."""

    left = 10**9

    def store(self, *args):
        self.left -= 1
        if self.left < 0:
            raise OutputError(f"{self.folder}: cannot write the work file: {os.strerror(errno.ENOSPC)}")
        super().store(*args)


@settings(max_examples=10)
@given(n=st.integers(1, 4), tiles=st.integers(2, 9), left=st.integers(0, 40), seed=st.integers(0, 99))
def test_a_full_disk_is_told_wherever_it_happens(folder, n, tiles, left, seed):
    layers, x = stack(n), torch.randn(1, tiles * TILE - 3, WIDTH)
    tape = FullTape(tape_floats(layers, WIDTH, TILE), folder, seed=seed)
    tape.left = left
    if left < tiles * (n + n % 2):  # tiles that are stored in all
        with pytest.raises(OutputError, match="No space left"):
            swept(layers, x, TILE, PrefetchTape(tape))
    else:
        swept(layers, x, TILE, PrefetchTape(tape))
    assert not [t for t in threading.enumerate() if t.name.startswith("slyther-tape")]


@settings(max_examples=10)
@given(tiles=st.integers(2, 9), left=st.integers(0, 20), seed=st.integers(0, 99))
def test_no_mark_is_kept_of_tiles_that_could_not_be_written(tmp_path_factory, tiles, left, seed):
    """The journal hears of it too: what it kept before, the next run goes on from."""
    layers, x, folder = stack(3), torch.randn(1, tiles * TILE, WIDTH), tmp_path_factory.mktemp("full")
    whole = run(layers, x, folder / "plain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slyther_cli.longform.journal.beside", PrefetchTape)
        patch.setattr(FullTape, "left", left)
        patch.setattr("slyther_cli.longform.journal.FileTape", FullTape)
        floats = tape_floats(layers, WIDTH, TILE)
        again = lambda first: iter(x.split(TILE, 1)[first:])  # noqa: E731
        with journal(folder / "work", every=0.0, gap_bytes=0) as job, torch.inference_mode():
            pieces = sweep(layers, again, job.open_tape(floats), WIDTH, None, 0, job, TILE)
            if left < 4 * tiles:
                with pytest.raises(OutputError, match="No space left"):
                    list(pieces)
            else:
                list(pieces)
    assert torch.equal(run(layers, x, folder / "work", every=0.0, gap_bytes=0), whole)


def test_closing_ends_at_once_and_writes_what_waits(tmp_path):
    """As when a signal comes while tiles wait: nothing hangs, nothing is half there, and late calls fail."""
    path = tmp_path / "tape"
    tape = PrefetchTape(SlowTape(8, tmp_path, os.open(path, os.O_RDWR | os.O_CREAT)))
    for i in range(AHEAD):
        tape.store(0, i, torch.full((2, 4), float(i + 1)))
    for i in range(AHEAD):
        tape.expect(0, i, 2, 4)  # and nobody comes for them
    tape.close()
    slots = [path.read_bytes()[i * slot_bytes(8) :][:32] for i in range(AHEAD)]
    found = np.frombuffer(b"".join(slots), np.float32)
    assert np.array_equal(found, np.repeat(np.arange(1.0, AHEAD + 1), 8))
    for late in (tape.sync, lambda: tape.store(0, 0, torch.zeros(2, 4))):
        with pytest.raises(RuntimeError):
            late()


def test_whole_separations_are_the_same(tmp_path, monkeypatch):
    """The real engine's end to end, three tiles, through the tapes that a CUDA model would have."""
    model, x = small_model(3, stride=2), noise(2 * 2048 * 2 + 501)
    plan = plan_separation(model, len(x), work_dir=tmp_path)

    def stems(where):
        chosen = planning.replace(plan, tape=where)
        return np.concatenate(list(separate_whole(model, in_blocks(x, 3000), chosen)), 1)

    plain, opened = stems("memory"), []
    monkeypatch.setattr(prefetch, "beside", lambda tape, device: opened.append(tape) or PrefetchTape(tape))
    assert np.array_equal(stems("memory"), plain) and np.array_equal(stems("file"), plain)
    assert [type(tape) for tape in opened] == [MemoryTape, FileTape]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_command_really_killed(tmp_path):
    """By kill -9, SIGTERM and Ctrl-C: nothing hangs, and the stems are those of an uninterrupted run."""
    line = "journal.EVERY = "
    assert line in NURSERY
    patched = NURSERY.replace(
        line, f"from slyther_cli.longform import prefetch\njournal.beside = prefetch.PrefetchTape\n{line}"
    )
    for job in a_job(tmp_path, patched):
        assert kill_often(job, 12, seed=5)[1] > 0


@pytest.mark.parametrize("limited", [False, True])
def test_a_tape_goes_to_the_device_then_the_host_then_a_file(monkeypatch, tmp_path, limited):
    free = {"gpu": 0, "host": 0}
    monkeypatch.setattr(planning, "available_on", lambda device: free["gpu"])
    monkeypatch.setattr(planning, "available_memory", lambda: free["host"])
    slot, working = (6 << 20) // 4, 100 << 20
    tape = CHUNK_BYTES * 5  # 50 tiles, 10 a chunk
    need = working + 4 * slot * 2 * AHEAD + CHUNK_BYTES

    def planned(gpu, host, limit=None, device="cuda", **more):
        free.update(gpu=gpu, host=host)
        limits = planning.Limits(memory_limit=limit, work_dir=tmp_path, **more)
        return planning.swept(0, 50 * 2048, 8, slot, working, torch.device(device), limits)

    if limited:  # of the device and of the host each; and what is not there cannot be had
        assert planned(1 << 40, 1 << 40, need + tape).tape == "device"
        assert planned(need + tape, 1 << 40, 1 << 50).tape == "device"
        assert planned(need + tape - 1, 1 << 40, 1 << 50).tape == "memory"
        assert planned(1 << 40, 1 << 40, need + tape - 1).tape == "file"
        with pytest.raises(DeviceError, match="too small"):
            planned(1 << 40, 1 << 40, need - 1)
    else:
        wide = 2 * max(need + tape, tape)
        assert planned(wide, 0).tape == "device"
        assert planned(need + tape, 2 * tape).tape == "memory"  # half of the device is free for it
        assert planned(0, 2 * tape - 2).tape == "file"
        assert planned(wide, wide, resume=True).tape == "file"
        assert planned(wide, wide, device="cpu").tape == "memory"
    words = {
        "device": "in device memory",
        "memory": "in host memory, copied beside the computation",
        "file": f"in {tmp_path}, copied beside the computation",
    }
    for where, said in words.items():
        plan = planning.replace(planned(1 << 40, 1 << 40), tape=where, disk_bytes=5 << 20)
        assert said in " ".join(plan.describe())
    assert "copied" not in " ".join(planned(0, 1 << 40, device="cpu").describe())


def test_the_calls_for_a_device(monkeypatch, tmp_path):
    """No GPU here: the order of the calls that CUDA would get, by stand-ins. A store's copy waits for what
    computed it, each copy is waited for, and what was loaded is kept for the stream that uses it."""
    calls, main = [], SimpleNamespace(record_event=lambda: calls.append("record") or "event")
    side = SimpleNamespace(
        wait_event=lambda event: calls.append(f"wait {event}"), synchronize=lambda: calls.append("settle")
    )
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: main)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: prefetch.contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda part, stream: calls.append("kept"))

    class Told(FileTape):
        def store(self, *args):
            calls.append("store")
            super().store(*args)

        def load(self, *args):
            calls.append("load")
            return super().load(*args)

    tape = PrefetchTape(Told(8, tmp_path), "cuda:0")
    tape.device = torch.device("cpu")  # nothing can be moved to a device that is not there
    tape.store(0, 0, torch.ones(2, 4))
    tape.sync()
    assert calls == ["record", "wait event", "store", "settle"]
    del calls[:]
    assert torch.equal(tape.load(0, 0, 2, 4)[0], torch.ones(2, 4))
    assert calls == ["load", "settle", "kept"]
    tape.close()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
class TestOnADevice:
    """Whole recordings, with the tape in each of its places."""

    def stems(self, model, x, plan, where, folder):
        chosen = planning.replace(plan, tape=where, work_dir=folder)
        return np.concatenate(list(separate_whole(model, in_blocks(x, 3000), chosen)), 1)

    def test_every_place_of_the_tape_gives_the_same(self, tmp_path):
        model, x = small_model(3, stride=2, d_model=64), noise(2 * 2048 * 9 + 501)
        plan = plan_separation(model, len(x))
        on_cpu = self.stems(model, x, plan, "memory", tmp_path)
        model.cuda()
        plan = plan_separation(model, len(x))
        assert plan.tape == "device" and plan.beside
        stems = [self.stems(model, x, plan, where, tmp_path) for where in ("device", "memory", "file")]
        assert np.array_equal(stems[0], stems[1]) and np.array_equal(stems[0], stems[2])
        assert np.allclose(stems[0], on_cpu, rtol=0, atol=1e-3 * np.abs(on_cpu).max())

    def test_device_memory_does_not_grow(self, tmp_path):
        model, peaks = small_model(2, stride=2, d_model=64).cuda(), []
        for tiles in (10, 40):
            x = noise(2 * 2048 * tiles)
            plan = plan_separation(model, len(x))
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.stems(model, x, plan, "file", tmp_path)
            peaks.append(torch.cuda.max_memory_reserved())
        assert peaks[1] <= peaks[0] + (8 << 20)
