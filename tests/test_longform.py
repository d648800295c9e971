"""Whole recordings by sweeps: equal to one pass, for all lengths, tiles and places of the tape."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longform_tools import ConvLayer, LeakyLayer, in_blocks, noise, off, small_model
from torch import nn

from slyther_cli.errors import DeviceError, InputError, OutputError
from slyther_cli.layers.mamba import MambaLayer
from slyther_cli.longform import plan as planning
from slyther_cli.longform import plan_separation, separate_whole
from slyther_cli.longform import separation as separating
from slyther_cli.longform.halo import drain, feed
from slyther_cli.longform.sweep import sweep, tape_floats
from slyther_cli.longform.tape import FileTape, MemoryTape
from slyther_cli.models.mamba_tasnet import LiveSeparator

WIDTH = 8
few = settings(max_examples=25)


def swept(layers, x, tile, tape="memory", folder=None, gap=0, **more):
    """x [1, frames, WIDTH] through the engine."""
    floats = tape_floats(layers, WIDTH, tile)
    where = MemoryTape(floats) if tape == "memory" else FileTape(floats, folder, gap=gap)
    tiles = lambda first: iter(x.split(tile, 1)[first:])  # noqa: E731
    with torch.inference_mode():
        out = [piece.clone() for piece in sweep(layers, tiles, where, WIDTH, tile=tile, **more)]
    where.close()
    return torch.cat(out, 1)


def one_pass(layers, x):
    with torch.inference_mode():
        for layer in layers:
            x = layer(x)
    return x


def stack(kind, n):
    torch.manual_seed(1)
    make = {
        "mamba": lambda i: MambaLayer(WIDTH, 4),
        "leaky": lambda i: LeakyLayer(WIDTH, i),
        "conv": lambda i: ConvLayer(WIDTH),
    }
    kinds = ["mamba", "leaky", "conv"] if kind == "mixed" else [kind]
    return nn.ModuleList(make[kinds[i % len(kinds)]](i) for i in range(n)).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tapes")


@pytest.mark.parametrize("kind", ["mamba", "leaky", "conv", "mixed"])
@few
@given(
    n=st.integers(1, 5),
    frames=st.integers(1, 130),
    tile=st.integers(15, 90),
    gap=st.integers(0, 4),
    seed=st.integers(0, 99),
)
def test_sweeps_equal_one_pass(kind, folder, n, frames, tile, gap, seed):
    layers = stack(kind, n)
    x = torch.randn(1, frames, WIDTH, generator=torch.Generator().manual_seed(seed))
    reference = one_pass(layers, x)
    in_memory = swept(layers, x, tile)
    assert off(in_memory, reference) < 1e-5
    assert torch.equal(in_memory, swept(layers, x, tile, "file", folder, gap))


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_nothing_is_done_twice_where_the_walk_turns(monkeypatch, n, tiles):
    """A layer projects every tile for both directions, but for the one at the turn, which is not loaded
    either: a recording of one tile costs what one pass does."""
    layers, counts = stack("mamba", n), {"project": 0, "load": 0}

    def counted(owner, name):
        inner = getattr(owner, name)

        def outer(*args):
            counts[name] += 1
            return inner(*args)

        monkeypatch.setattr(owner, name, outer)

    counted(MambaLayer, "project")
    counted(MemoryTape, "load")
    x = torch.randn(1, tiles * 16, WIDTH)
    assert off(swept(layers, x, 16), one_pass(layers, x)) < 1e-5
    assert counts == {"project": n * (2 * tiles - 1), "load": n * (tiles - 1) + n % 2 * tiles}


def test_a_recording_of_one_tile_is_read_once():
    model, read = small_model(), []
    blocks = lambda: read.append(1) or iter([noise(500)])  # noqa: E731
    list(separate_whole(model, blocks, plan_separation(model, 500)))
    assert len(read) == 1
    blocks = lambda: read.append(1) or iter([noise(9500)])  # noqa: E731
    list(separate_whole(model, blocks, plan_separation(model, 9500)))
    assert len(read) == 3


@few
@given(
    samples=st.integers(1, 3000),
    layers=st.integers(1, 4),
    tile=st.integers(1, 40).map(lambda k: 8 * k),
    other=st.integers(1, 40).map(lambda k: 8 * k),
    block=st.integers(1, 5000),
    speakers=st.integers(1, 3),
    consistent=st.booleans(),
    overlap=st.integers(2, 8),
    seed=st.integers(0, 99),
)
def test_separation_equals_one_pass(samples, layers, tile, other, block, speakers, consistent, overlap, seed):
    model = small_model(layers, speakers=speakers, consistent=consistent, overlap=overlap, seed=seed)
    x = noise(samples, seed)
    with torch.inference_mode():
        reference = model(torch.from_numpy(x)[None])[0]
    y = separate_in(model, x, tile, block)
    assert off(y, reference) < 1e-5
    assert not consistent or off(y.sum(0), x) < 1e-5
    z = separate_in(model, x, other, block // 3 + 1)
    if layers and all(model.encoder.frames(samples) % t >= 8 for t in (tile, other)):
        assert np.array_equal(y, z)  # products of fewer than 8 rows are summed in another order
    else:
        assert off(y, z) < 1e-5


def separate_in(model, x, tile, block, plan=None, monkeypatch=None, **more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separating, "TILE", tile)
        patch.setattr(separating, "sweep", lambda *a: sweep(*a, tile=tile))
        patch.setattr(separating, "tape_floats", lambda *a: tape_floats(*a, tile))
        plan = plan or plan_separation(model, len(x))
        return np.concatenate(list(separate_whole(model, in_blocks(x, block), plan, **more)), 1)


@pytest.mark.parametrize("samples", [1, 3, 4, 5, 8, 9, 2048 * 4, 2049 * 4, 2049 * 4 + 1, 2050 * 4, 40_000])
@pytest.mark.parametrize(("layers", "overlap"), [(1, 2), (2, 2), (3, 2), (1, 4), (2, 7)])
def test_lengths_about_the_tile_and_below_a_kernel(samples, layers, overlap, tmp_path):
    model, x = small_model(layers, overlap=overlap), noise(samples)
    with torch.inference_mode():
        reference = model(torch.from_numpy(x)[None])[0]
    plan = plan_separation(model, samples)
    assert plan.tape == "memory" and plan.frames == model.encoder.frames(samples)
    y = np.concatenate(list(separate_whole(model, in_blocks(x, 1000), plan)), 1)
    assert off(y, reference) < 1e-5
    in_file = dataclasses.replace(plan, tape="file", work_dir=tmp_path)
    z = np.concatenate(list(separate_whole(model, in_blocks(x, 777), in_file)), 1)
    assert np.array_equal(y, z)
    assert not list(tmp_path.iterdir())


def test_no_sound_gives_no_stems():
    model = small_model()
    blocks = list(separate_whole(model, in_blocks(noise(0), 10), plan_separation(model, 0)))
    assert sum(b.shape[1] for b in blocks) == 0


def test_a_recording_that_changes_while_it_is_read():
    model, turns = small_model(), iter([noise(9500), noise(9300)])  # two tiles: one is read once
    stems = separate_whole(model, lambda: iter([next(turns)]), plan_separation(model, 9500))
    with pytest.raises(InputError, match="changed"):
        list(stems)


@few
@given(
    samples=st.integers(1, 2000),
    layers=st.integers(1, 3),
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=9),
    consistent=st.booleans(),
    overlap=st.integers(2, 8),
)
def test_live_equals_one_pass(samples, layers, sizes, consistent, overlap):
    model = small_model(layers, causal=True, consistent=consistent, overlap=overlap)
    x = torch.from_numpy(noise(samples))
    with torch.inference_mode():
        reference = model(x[None])[0]
    live, at, out = LiveSeparator(model), 0, []
    while at < samples:
        size = sizes[len(out) % len(sizes)]
        out.append(live.push(x[at : at + size]))
        at = min(samples, at + size)
        given = sum(o.shape[1] for o in out)
        assert at - given < live.delay
    out.append(live.flush())
    assert off(torch.cat(out, 1), reference) < 1e-5
    plan = plan_separation(model, samples)
    assert plan.tape == "none" and not plan.working_bytes
    y = np.concatenate(list(separate_whole(model, in_blocks(x.numpy(), sizes[0]), plan)), 1)
    assert off(y, reference) < 1e-5


@few
@given(frames=st.integers(1, 300), tile=st.integers(15, 100), reverse=st.booleans(), seed=st.integers(0, 99))
def test_a_halo_gives_each_tile_its_neighbours(frames, tile, reverse, seed):
    """In either direction bit for bit what the whole recording, padded with zeros, has there."""
    halo, g = 15, torch.Generator().manual_seed(seed)
    u, along = torch.randn(1, frames, 3, generator=g), torch.randn(1, frames, 2, generator=g)
    weight = torch.randn(2 * halo + 1, 3, generator=g)

    def convolve(padded):
        n = padded.shape[1] - 2 * halo
        return sum(padded[:, j : j + n] * weight[j] for j in range(2 * halo + 1))

    whole = convolve(nn.functional.pad(u, (0, 0, halo, halo)))
    pieces = list(zip(u.split(tile, 1), along.split(tile, 1), strict=True))
    state, out = None, []
    for piece in pieces[::-1] if reverse else pieces:
        ready, state = feed(piece, state, halo, reverse)
        out += [] if ready is None else [ready]
    assert len(out) == len(pieces) - 1
    out += drain(state, halo, reverse)
    out = out[::-1] if reverse else out
    assert torch.equal(torch.cat([convolve(padded) for padded, _ in out], 1), whole)
    assert torch.equal(torch.cat([rest for _, rest in out], 1), along)


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_progress_runs_from_nothing_to_all(n):
    seen = []
    x = torch.randn(1, 100, WIDTH)
    swept(stack("conv", n), x, 16, on_progress=seen.append, frames_expected=100)
    assert seen == sorted(seen) and seen[0] > 0 and seen[-1] == 1.0
    assert max(b - a for a, b in zip([0, *seen], seen, strict=False)) < 0.2 if n > 1 else True


def test_the_plan_moves_the_tape_to_a_file_and_refuses_the_impossible(tmp_path, monkeypatch):
    model = small_model(4)
    hour = 3600 * 8000
    working = planning.working_bytes(model)
    small = plan_separation(model, hour, memory_limit=working + 1000, work_dir=tmp_path)
    large = plan_separation(model, hour, memory_limit=10**12, work_dir=tmp_path)
    assert (small.tape, large.tape) == ("file", "memory")
    assert small.sweeps == 5 and small.tape_bytes >= 4 * small.frames * (16 + 32)
    assert str(tmp_path) in " ".join(small.describe())
    assert plan_separation(model, 100, memory_limit=10**12, work_dir=tmp_path, resume=True).tape == "file"
    with pytest.raises(DeviceError, match="too small"):
        plan_separation(model, hour, memory_limit=working - 1)
    monkeypatch.setattr(planning.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match="--work-dir"):
        plan_separation(model, hour, memory_limit=working, work_dir=tmp_path / "new" / "folder")
    there = plan_separation(model, hour, work_dir=tmp_path, resume=True, held=10**12)  # by a killed run
    assert there.disk_bytes == there.tape_bytes + planning.GAP_BYTES


def test_a_tape_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="work file"):
        FileTape(8, tmp_path / "file")
    tape = FileTape(8, tmp_path)
    with pytest.raises(OutputError, match="does not hold what was written"):
        tape.load(0, 3, 2, 4)
