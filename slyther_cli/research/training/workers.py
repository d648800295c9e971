"""Running a training task in one process, or in several that share the run on a CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.research.training.loop import check_folder, keeping
from slyther_cli.research.training.loop import train as run_loop


class _Run(NamedTuple):
    """What is trained, how, and where to."""

    kind: Callable[..., Any]
    config: Any
    config_path: Path
    folder: Path
    resume: bool
    device: str


class _Team(NamedTuple):
    """How many processes share a run, the file where they find each other, and torch's threads of each."""

    workers: int = 1
    meeting: str = ""
    threads: int = 0


def run(
    kind: Callable[..., Any],
    read: Callable[[Path], Any],
    config_path: Path,
    folder: Path,
    resume: bool,
    on_event: Callable[[dict], None],
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Train ``kind(config, base, device)``, a task for :mod:`slyther_cli.research.training.loop`, into
    ``folder``, with a copy of the configuration file, which ``read`` reads, beside the checkpoints.

    A task's ``about()`` is the dictionary of the "start" event. ``workers`` processes each get their share of
    torch's threads. ``on_event`` gets dictionaries whose "event" is start, train, skipped or validate. Raises
    :class:`UsageError`, :class:`InputError` (the speech), :class:`OutputError` and :class:`ModelError`.
    """
    config = read(config_path)
    if workers < 1 or (workers > 1 and device != "cpu"):
        raise UsageError("workers must be 1 or more, and 1 on a GPU")
    check_folder(folder, resume)
    run_ = _Run(kind, config, config_path, folder, resume, device)
    if workers == 1:
        _work(run_, _Team(), 0, on_event)
        return
    threads = max(1, torch.get_num_threads() // workers)
    kind(config, config_path.resolve().parent, device)  # errors show here, and caches are made once
    with tempfile.TemporaryDirectory() as meeting:
        spawn = torch.multiprocessing.get_context("spawn")
        team = _Team(workers, f"{meeting}/store", threads)
        others = [
            spawn.Process(target=_peer, args=(run_, team, rank), daemon=True) for rank in range(1, workers)
        ]
        for process in others:
            process.start()
        try:
            _work(run_, team, 0, on_event)
        except BaseException:
            for process in others:
                process.terminate()
            raise
        finally:
            for process in others:
                process.join()


def _peer(run_: _Run, team: _Team, rank: int) -> None:
    """A process beside the first one, which alone reports errors."""
    try:
        _work(run_, team, rank, lambda event: None)
    except (KeyboardInterrupt, SlytherError):
        raise SystemExit(1) from None


def _work(run_: _Run, team: _Team, rank: int, on_event: Callable[[dict], None]) -> None:
    from slyther_cli.runtime import keep_freed_memory

    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(team.threads or before)
    if team.workers > 1:
        meeting = f"file://{team.meeting}"
        dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=team.workers)
    try:
        task = run_.kind(run_.config, run_.config_path.resolve().parent, run_.device)
        if rank == 0:
            with keeping(run_.folder):
                text = run_.config_path.read_text(encoding="utf-8")
                (run_.folder / "config.toml").write_text(text, encoding="utf-8")
            parameters = sum(p.numel() for p in task.model.parameters())
            on_event({"event": "start", "model": run_.config.name, "parameters": parameters, **task.about()})
        run_loop(task, run_.config.loop, run_.folder, run_.resume, on_event)
    finally:
        torch.set_num_threads(before)
        if team.workers > 1:
            dist.destroy_process_group()
