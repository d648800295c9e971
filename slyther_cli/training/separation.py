"""Training a separation network: the configuration file, the batches, the validation (papers.md 1.4).

The file is TOML with the tables [model] (a preset's name and settings), [data], [mixing], [batch] and [loop];
see examples/train-separate.toml. Its paths are relative to its own folder.
"""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from slyther_cli.checkpoints.config import NAME
from slyther_cli.errors import ModelError, SlytherError, UsageError
from slyther_cli.models import registry
from slyther_cli.training.data import SpeechPool
from slyther_cli.training.loop import LoopConfig, Peers, check_folder
from slyther_cli.training.loop import train as run_loop
from slyther_cli.training.losses import best_assignment, pairwise_si_snr, pit_loss
from slyther_cli.training.mixing import Mixer, MixingConfig

AHEAD = 4  # batches made while the network computes
DEV_SEED = 12345


@dataclass(frozen=True)
class DataConfig:
    """``cache`` holds the resampled speech; by default "training" in slyther's cache folder."""

    manifests: tuple[str, ...] = ()
    cache: str = ""
    train_split: str = "train"
    dev_split: str = "dev"

    def pools(self, base: Path, rate: int) -> tuple[SpeechPool, SpeechPool]:
        """The speech to train on and to validate on."""
        from slyther_cli.checkpoints.places import cache_dir

        cache = base / Path(self.cache).expanduser() if self.cache else cache_dir() / "training"
        manifests = [base / Path(m).expanduser() for m in self.manifests]
        train, dev = (SpeechPool(manifests, s, rate, cache) for s in (self.train_split, self.dev_split))
        return train, dev


@dataclass(frozen=True)
class BatchConfig:
    """A batch holds about ``seconds`` of mixture; its examples' length is drawn from ``lengths`` (seconds),
    anew each step. Validation mixes ``dev_examples`` of ``dev_seconds``."""

    seconds: float = 12.0
    lengths: tuple[float, ...] = (2.0, 3.0, 4.0)
    dev_examples: int = 48
    dev_seconds: float = 4.0

    def __post_init__(self) -> None:
        if not self.lengths or min(*self.lengths, self.seconds, self.dev_seconds) < 0.1:
            raise UsageError("seconds, lengths and dev_seconds must be 0.1 or more")
        if self.dev_examples < 1:
            raise UsageError("dev_examples must be 1 or more")


@dataclass(frozen=True)
class SeparationConfig:
    """``model`` is what is set apart from the preset's, or the architecture's, own values. ``start_from``:
    weights to go on from, a name or a folder; they bring their own settings."""

    name: str = "my-separator"
    architecture: str = "mamba-tasnet"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    data: DataConfig = field(default_factory=DataConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> SeparationConfig:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: {why}") from None
    for table, value in vars(SeparationConfig()).items():
        if table in raw and is_dataclass(value):
            raw[table] = _fill(type(value), raw[table], f"{path}: [{table}]")
    config: SeparationConfig = _fill(SeparationConfig, raw, str(path))
    if not config.data.manifests:
        raise UsageError(f"{path}: [data] manifests: name one or more")
    if not NAME.fullmatch(config.name):
        raise UsageError(f"{path}: name may hold letters, digits, '.', '_' and '-', not {config.name!r}")
    if config.start_from and config.model:
        raise UsageError(f"{path}: start_from brings its own [model]: leave one of them out")
    try:
        config = _from_preset(config)
        registry.parameter_count(config.architecture, config.model)
    except ModelError as error:
        raise UsageError(f"{path}: [model] {error}") from None
    return config


def _from_preset(config: SeparationConfig) -> SeparationConfig:
    """``preset`` in [model] replaced by that preset's settings."""
    settings = dict(config.model)
    preset = settings.pop("preset", None)
    if preset is None:
        return config
    if preset not in registry.PRESETS:
        raise ModelError(f"unknown preset {preset!r}; known: {', '.join(registry.PRESETS)}")
    architecture, values = registry.PRESETS[preset]
    return replace(config, architecture=architecture, model={**values, **settings})


def _fill(kind: type, values: Any, where: str) -> Any:
    """A dataclass from a TOML table, every value of the type that its default has."""
    if not isinstance(values, dict):
        raise UsageError(f"{where} must be a table")
    defaults = kind()
    known = [f.name for f in fields(defaults)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UsageError(f"{where}: unknown setting {', '.join(unknown)}; known: {', '.join(known)}")
    filled = {k: _typed(v, getattr(defaults, k), f"{where}: {k}") for k, v in values.items()}
    try:
        return kind(**filled)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _typed(value: Any, like: Any, where: str) -> Any:
    if isinstance(like, tuple):
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list")
        return tuple(_typed(v, like[0] if like else "", where) for v in value)
    if type(like) is float and type(value) is int:
        return float(value)
    if type(value) is not type(like):
        words = {int: "a whole number", float: "a number", str: "a text", dict: "a table"}
        raise UsageError(f"{where} must be {words.get(type(like), 'another kind of value')}, not {value!r}")
    return value


class SeparationTask:
    """What the loop needs; see :mod:`slyther_cli.training.loop`."""

    def __init__(self, config: SeparationConfig, base: Path, device: str = "cpu"):
        self.config, self.peers, self.device = config, Peers(), device
        self.architecture = config.architecture
        if config.start_from:
            from slyther_cli.checkpoints import store

            beside = base / config.start_from
            model, loaded = store.load(
                beside if beside.exists() else config.start_from, expect_task="separate"
            )
            self.architecture = loaded.architecture
            self.settings = registry.full_config(loaded.architecture, loaded.config)
        else:
            self.settings = registry.full_config(config.architecture, config.model)
            torch.manual_seed(config.loop.seed)
            model = registry.build(config.architecture, self.settings)
            model.start_from_fourier()
        self.model = model.to(device)
        self.rate, n = self.settings["sample_rate"], self.settings["n_speakers"]
        self.pool, dev = config.data.pools(base, self.rate)
        self.mixer = Mixer(self.pool, config.mixing, n, config.loop.seed)
        self.dev_mixer = Mixer(dev, MixingConfig(speed=(1.0,)), n, DEV_SEED)
        self._feeder = ThreadPoolExecutor(1)
        self._ahead: dict[int, Future] = {}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Mixtures [batch, samples] and sources [batch, n_speakers, samples] of that step, other ones for
        every peer."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, 1])
        seconds = b.lengths[rng.integers(len(b.lengths))]
        count = max(1, round(b.seconds / seconds))
        first = (step * self.peers.count + self.peers.rank) * 1000
        examples = [self.mixer.example(first + i, int(seconds * self.rate)) for i in range(count)]
        mixtures, sources = zip(*examples, strict=True)
        return torch.from_numpy(np.stack(mixtures)), torch.from_numpy(np.stack(sources))

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The PIT loss of that step's batch and its mean SI-SNR in dB."""
        for ahead in range(step, step + AHEAD):
            if ahead not in self._ahead:
                self._ahead[ahead] = self._feeder.submit(self.batch, ahead)
        mixtures, sources = self._ahead.pop(step).result()
        loss, scores = pit_loss(self.model(mixtures.to(self.device)), sources.to(self.device))
        return loss, float(scores.mean())

    @torch.inference_mode()
    def validate(self) -> dict[str, Any]:
        """SI-SNR improvement in dB on fully overlapped pairs of the dev speakers."""
        b = self.config.batch
        samples = int(b.dev_seconds * self.rate)
        gains = []
        for i in range(b.dev_examples):
            mixture, sources = (
                torch.from_numpy(x)[None].to(self.device) for x in self.dev_mixer.example(i, samples)
            )
            before, _ = best_assignment(pairwise_si_snr(mixture[:, None].expand_as(sources), sources))
            after, _ = best_assignment(pairwise_si_snr(self.model(mixture), sources))
            gains.append(float(after - before))
        mean, std = (round(float(f(gains)), 3) for f in (np.mean, np.std))
        return {"score": mean, "std": std, "examples": len(gains)}

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the weights as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        store.save(
            folder,
            self.model,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="separate",
            metrics={"dev_si_snri": metrics["score"], "steps": metrics["step"]},
        )


def train(
    config_path: Path,
    folder: Path,
    resume: bool,
    on_event: Callable[[dict], None],
    workers: int = 1,
    device: str = "cpu",
) -> None:
    """Train as ``config_path`` says, into ``folder``, with a copy of the file beside the checkpoints.

    ``workers`` processes share the run on a CPU; each gets its share of torch's threads. ``on_event`` gets
    dictionaries whose "event" is start, train, skipped or validate. Raises :class:`UsageError`,
    :class:`InputError` (the speech), :class:`OutputError` and :class:`ModelError`.
    """
    if workers < 1 or (workers > 1 and device != "cpu"):
        raise UsageError("workers must be 1 or more, and 1 on a GPU")
    config, base = read_config(config_path), config_path.resolve().parent
    check_folder(folder, resume)
    if workers == 1:
        _work(0, 1, config, config_path, folder, resume, on_event, device=device)
        return
    threads = max(1, torch.get_num_threads() // workers)
    SeparationTask(config, base)  # errors show here, in one process, and the speech pools are made once
    with tempfile.TemporaryDirectory() as meeting:
        spawn = torch.multiprocessing.get_context("spawn")
        shared = (workers, config, config_path, folder, resume)
        where = (f"{meeting}/store", threads)
        others = [
            spawn.Process(target=_peer, args=(rank, *shared, *where), daemon=True)
            for rank in range(1, workers)
        ]
        for process in others:
            process.start()
        try:
            _work(0, *shared, on_event, *where)
        except BaseException:
            for process in others:
                process.terminate()
            raise
        finally:
            for process in others:
                process.join()


def _peer(rank, workers, config, config_path, folder, resume, meeting, threads) -> None:
    """A process beside the first one, which alone reports errors."""
    try:
        _work(rank, workers, config, config_path, folder, resume, lambda event: None, meeting, threads)
    except (KeyboardInterrupt, SlytherError):
        raise SystemExit(1) from None


def _work(
    rank, workers, config, config_path, folder, resume, on_event, meeting="", threads=0, device="cpu"
) -> None:
    from slyther_cli.runtime import keep_freed_memory

    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    try:
        task = SeparationTask(config, config_path.resolve().parent, device)
        if rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
            text = config_path.read_text(encoding="utf-8")
            (folder / "config.toml").write_text(text, encoding="utf-8")
            on_event(
                {
                    "event": "start",
                    "model": config.name,
                    "config": task.settings,
                    "parameters": sum(p.numel() for p in task.model.parameters()),
                    "train_hours": round(task.pool.seconds / 3600, 2),
                    "speakers": len(task.pool.speakers),
                }
            )
        run_loop(task, config.loop, folder, resume, on_event)
    finally:
        torch.set_num_threads(before)
        if workers > 1:
            dist.destroy_process_group()
