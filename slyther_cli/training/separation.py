"""Training a separation network: the configuration file, the batches, the validation (papers.md 1.4).

The file is TOML with the tables [model] (a preset's name and settings), [data], [mixing], [batch] and [loop]; see
examples/train-separate.toml.
"""

from __future__ import annotations

import os
import tempfile
import threading
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.training.data import SpeechPool
from slyther_cli.training.losses import best_assignment, pairwise_si_snr, pit_loss
from slyther_cli.training.loop import LoopConfig, Peers
from slyther_cli.training.loop import train as run_loop
from slyther_cli.training.mixing import Mixer, MixingConfig


@dataclass(frozen=True)
class DataConfig:
    manifests: tuple[str, ...] = ()
    cache: str = ""  # default: SLYTHER_CACHE or ~/.cache/slyther
    train_split: str = "train"
    dev_split: str = "dev"


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``seconds`` of mixture; its examples' length is drawn from ``lengths`` (seconds), anew each step."""

    seconds: float = 12.0
    lengths: tuple[float, ...] = (2.0, 3.0, 4.0)
    dev_examples: int = 48
    dev_seconds: float = 4.0


@dataclass(frozen=True)
class SeparationConfig:
    name: str = "my-separator"
    architecture: str = "mamba-tasnet"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""  # weights to go on from: a name or a folder
    data: DataConfig = DataConfig()
    mixing: MixingConfig = MixingConfig()
    batch: BatchConfig = BatchConfig()
    loop: LoopConfig = LoopConfig()


def read_config(path: Path) -> SeparationConfig:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None
    nested = {"data": DataConfig, "mixing": MixingConfig, "batch": BatchConfig, "loop": LoopConfig}
    for table, kind in nested.items():
        if table in raw:
            raw[table] = _fill(kind, raw[table], f"{path}: [{table}]")
    return _fill(SeparationConfig, raw, str(path))


def _fill(kind, values: dict, where: str):
    known = {f.name for f in fields(kind)}
    unknown = set(values) - known
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(sorted(unknown))}; known: {', '.join(sorted(known))}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


class SeparationTask:
    """What the loop needs; see :mod:`slyther_cli.training.loop`."""

    def __init__(self, config: SeparationConfig, base: Path):
        from slyther_cli.checkpoints.places import cache_dir

        self.config, self.peers = config, Peers()
        if config.start_from:
            from slyther_cli.checkpoints import store

            self.model, loaded = store.load(config.start_from, expect_task="separate")
            self.settings = loaded.config
        else:
            self.settings = registry.full_config(config.architecture, config.model)
            torch.manual_seed(config.loop.seed)
            self.model = registry.build(config.architecture, self.settings)
            self.model.start_from_fourier()
        self.rate, n = self.settings["sample_rate"], self.settings["n_speakers"]
        cache = Path(config.data.cache) if config.data.cache else cache_dir() / "training"
        manifests = [base / m for m in config.data.manifests]
        self.pool = SpeechPool(manifests, config.data.train_split, self.rate, cache)
        dev = SpeechPool(manifests, config.data.dev_split, self.rate, cache)
        self.mixer = Mixer(self.pool, config.mixing, n, config.loop.seed)
        self.dev_mixer = Mixer(dev, MixingConfig(speed=(1.0,)), n, 12345)
        self._ahead: Queue = Queue(maxsize=4)
        self._feeding = False

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, 1])
        seconds = b.lengths[rng.integers(len(b.lengths))]
        count = max(1, round(b.seconds / seconds))
        first = (step * self.peers.count + self.peers.rank) * 1000
        examples = [self.mixer.example(first + i, int(seconds * self.rate)) for i in range(count)]
        return tuple(torch.from_numpy(np.stack(x)) for x in zip(*examples, strict=True))  # type: ignore[return-value]

    def _feed(self, step: int) -> None:
        try:
            while True:
                self._ahead.put((step, self._batch(step)))
                step += 1
        except BaseException as error:  # hand it to the training thread, which is waiting
            self._ahead.put((step, error))

    def loss(self, step: int) -> tuple[Tensor, float]:
        if not self._feeding:
            self._feeding = True
            threading.Thread(target=self._feed, args=(step,), daemon=True).start()
        at, batch = self._ahead.get()
        if isinstance(batch, BaseException):
            raise batch
        assert at == step
        loss, scores = pit_loss(self.model(batch[0]), batch[1])
        return loss, float(scores.mean())

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """SI-SNR improvement in dB on fully overlapped pairs of the dev speakers."""
        b = self.config.batch
        gains = []
        for i in range(b.dev_examples):
            mixture, sources = (torch.from_numpy(x)[None] for x in self.dev_mixer.example(i, int(b.dev_seconds * self.rate)))
            before, _ = best_assignment(pairwise_si_snr(mixture[:, None].expand_as(sources), sources))
            after, _ = best_assignment(pairwise_si_snr(self.model(mixture), sources))
            gains.append(float(after - before))
        return {"score": round(float(np.mean(gains)), 3), "std": round(float(np.std(gains)), 3), "examples": len(gains)}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        from slyther_cli.checkpoints import store

        store.save(folder, self.model, name=self.config.name, architecture=self.config.architecture,
                   config=self.settings, task="separate", metrics={"dev_si_snri": metrics["score"], "steps": metrics["step"]})  # fmt: skip


def train(config_path: Path, folder: Path, resume: bool, on_event: Callable[[dict], None], workers: int = 1) -> None:
    """Train as ``config_path`` says, into ``folder``, with a copy of the file beside the checkpoints.

    ``workers`` processes share the run; each gets its share of the threads. Raises :class:`UsageError` and
    :class:`ModelError`.
    """
    config = read_config(config_path)
    if workers == 1:
        _work(0, 1, config, config_path, folder, resume, on_event)
        return
    with tempfile.NamedTemporaryFile() as meeting:
        spawn = torch.multiprocessing.get_context("spawn")
        others = [
            spawn.Process(target=_work, args=(rank, workers, config, config_path, folder, resume, None, meeting.name), daemon=True)
            for rank in range(1, workers)
        ]
        for process in others:
            process.start()
        _work(0, workers, config, config_path, folder, resume, on_event, meeting.name)
        for process in others:
            process.join()


def _work(rank, workers, config, config_path, folder, resume, on_event, meeting="") -> None:
    from slyther_cli.runtime import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    task = SeparationTask(config, config_path.resolve().parent)
    if rank == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.toml").write_text(config_path.read_text(encoding="utf-8"), encoding="utf-8")
        on_event({
            "event": "start", "parameters": sum(p.numel() for p in task.model.parameters()), "model": task.settings,
            "train_hours": round(task.pool.seconds / 3600, 2), "speakers": len(task.pool.speakers),
        })  # fmt: skip
    run_loop(task, config.loop, folder, resume, on_event)
    if workers > 1:
        dist.destroy_process_group()
