"""`--ray`: a real Ray cluster of several workers on this machine, killed in mid-file. Needs Ray itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

import slyther_cli
from slyther_cli import app
from slyther_cli.checkpoints import store
from slyther_cli.errors import DeviceError
from slyther_cli.jobs.cluster import Actors
from slyther_cli.models import registry
from slyther_cli.research.training.fourier_start import start_from_fourier

SLOW = {"n_filters": 64, "d_model": 64, "n_layers": 4}
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def place(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the package ray is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(1)
    model = registry.build("mamba-tasnet", SLOW)
    start_from_fourier(model)
    how = {"name": "slow", "architecture": "mamba-tasnet", "config": SLOW, "task": "separate"}
    store.save(tmp_path / "cache/slow", model, **how)
    for i in range(3):
        x = np.random.default_rng(i).standard_normal(8000 * 60).astype(np.float32)
        sf.write(f"{i}.wav", 0.1 * x, 8000)
    Path("bad.wav").write_text("no sound")
    return tmp_path


def contents(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.suffix == ".wav"}


def actors():
    """Process ids of the cluster's slyther actors."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_workers_killed_in_mid_file(place):
    """Every file done once, results those of one process, though all workers are killed in mid-file."""
    files = ["bad.wav", *(f"{i}.wav" for i in range(3))]
    how = {"model": "slow", "threads": 1, "resume": True, "work_dir": "work"}
    slyther_cli.separate(files, "alone", **how)
    killed, events = [], []

    def on_event(event):
        events.append(event)
        if event["event"] == "progress" and 0.3 < event["fraction"] < 0.9 and not killed:
            killed.extend(actors())
            for worker in killed:
                os.kill(worker, signal.SIGKILL)

    results = slyther_cli.separate(files, "out", ray="local", jobs=2, on_event=on_event, **how)
    assert killed and [r.status for r in results] == ["failed", *["done"] * 3]
    assert contents("out") == contents("alone") and not list(Path("work").iterdir())
    done = [event["file"] for event in events if event["event"] == "file_done"]
    assert sorted(done) == files[1:]  # once each
    notes = [note for event in events if event["event"] == "file_done" for note in event["notes"]]
    assert "went on from the work of an earlier run" in notes
    assert not actors()


def test_a_node_lost_in_mid_file(place):
    """Of two nodes one is taken away: what it had is gone on with on the other."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")
    files = ["0.wav", "1.wav"]
    how = {"model": "slow", "threads": 1, "resume": True, "work_dir": "work"}
    slyther_cli.separate(files, "alone", **how)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    second = cluster.add_node(num_cpus=1)
    lost, events = [], []

    def on_event(event):
        events.append(event)
        begun = {e["file"] for e in events if e["event"] == "progress"}
        if event["event"] == "progress" and len(begun) == 2 and event["fraction"] < 0.9 and not lost:
            lost.append(second)
            cluster.remove_node(second, allow_graceful=False)

    try:
        results = slyther_cli.separate(files, "out", ray=cluster.address, on_event=on_event, **how)
    finally:
        cluster.shutdown()
    assert lost and [r.status for r in results] == ["done", "done"]
    assert contents("out") == contents("alone") and not list(Path("work").iterdir())
    done = [event["file"] for event in events if event["event"] == "file_done"]
    assert sorted(done) == files


def test_two_halves_of_a_gpu_and_a_third_that_waits(place):
    """Ray counts the shares: of three actors of half a GPU two work at a time on one. The GPU is Ray's
    number alone here, and the work is a CPU's."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")
    files = ["0.wav", "1.wav", "2.wav"]
    how = {"model": "slow", "threads": 1, "device": "cpu"}
    slyther_cli.separate(files, "alone", **how)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "num_gpus": 1})
    events, left = [], []

    def on_event(event):
        events.append(event)
        if event["event"] == "progress" and len(actors()) == 2:
            left.append(ray.available_resources().get("GPU", 0.0))

    try:
        results = slyther_cli.separate(
            files, "out", ray=cluster.address, ray_gpus=0.5, jobs=3, on_event=on_event, **how
        )
        with pytest.raises(DeviceError, match=r"1 GPUs: .*smaller --ray-gpus"):
            slyther_cli.separate(files, "more", ray=cluster.address, ray_gpus=2, **how)
    finally:
        cluster.shutdown()
    assert [r.status for r in results] == ["done"] * 3 and contents("out") == contents("alone")
    at_work, most = set(), 0
    for event in events:
        if event["event"] == "plan":
            at_work.add(event["file"])
        elif event["event"] == "file_done":
            at_work.remove(event["file"])
        most = max(most, len(at_work))
    assert most == 2 and 0.0 in left  # both halves were taken


def test_how_many_fit_on_a_node():
    pool = object.__new__(Actors)
    for threads, share, node, fitting in (
        (1, 0.0, {"CPU": 4.0}, 4),
        (3, 0.0, {"CPU": 4.0}, 1),
        (1, 0.5, {"CPU": 8.0, "GPU": 1.0}, 2),
        (1, 0.3, {"CPU": 8.0, "GPU": 2.0}, 6),
        (1, 0.6, {"CPU": 8.0, "GPU": 2.0}, 2),  # a share is of one GPU: not three on two
        (1, 0.25, {"CPU": 2.0, "GPU": 1.0}, 2),
        (1, 2.0, {"CPU": 8.0, "GPU": 5.0}, 2),
        (1, 0.5, {"CPU": 8.0}, 0),
    ):
        pool.threads, pool.share = threads, share
        assert pool._fitting(node) == fitting, (threads, share, node)


def test_what_the_cluster_cannot(place, capfd):
    assert app.main(["separate", "0.wav", "1.wav", "-m", "slow", "--ray", "127.0.0.1:9", "-q"]) == 6
    err = capfd.readouterr().err
    assert "no Ray cluster at 127.0.0.1:9" in err and "Traceback" not in err
    args = ["separate", "0.wav", "-m", "slow", "--ray", "local", "--threads", "4000", "-q"]
    assert app.main(args) == 6 and "CPUs" in capfd.readouterr().err
    if not torch.cuda.is_available():
        args = ["separate", "0.wav", "-m", "slow", "--ray", "local", "--ray-gpus", "0.5", "-q"]
        assert app.main(args) == 6 and "leave --ray-gpus out" in capfd.readouterr().err
    args = ["separate", "0.wav", "-m", "slow", "--ray", "local", "--ray-gpus", "1.5", "-q"]
    assert app.main(args) == 2 and "whole GPUs" in capfd.readouterr().err


def test_actors_run_what_is_installed_in_a_folder_with_another_source(place):
    Path("slyther_cli").mkdir()
    Path("slyther_cli/__init__.py").write_text("raise SystemExit('the source, not built')")
    assert app.main(["separate", "0.wav", "-o", "out", "-m", "slow", "--ray", "local"]) == 0
    assert len(contents("out")) == 2


def test_without_ray(place):
    code = (
        "import sys; sys.modules['ray'] = None; from slyther_cli.app import main; "
        "sys.exit(main(['separate', '0.wav', '-m', 'slow', '--ray', 'local']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2 and "slyther-cli[ray]" in done.stderr and not Path("separated").exists()
