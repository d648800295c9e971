"""Configuration files of the trainings: TOML tables into dataclasses, every value checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from slyther_cli import untrusted
from slyther_cli.checkpoints.config import NAME
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.noises import read_noises

Settings = TypeVar("Settings")
TABLES = "tables"


def model_place(name: str, base: Path) -> Path | str:
    """What a configuration in ``base`` means by a model: a folder relative to it, else a model's name."""
    beside = base / name
    return beside if beside.exists() else name


def table_paths(names: Sequence[str], base: Path) -> list[Path]:
    """Where the manifests are that a configuration in ``base`` names."""
    return [base / Path(name).expanduser() for name in names]


@dataclass(frozen=True)
class DataConfig:
    """``manifests`` are relative to the configuration's folder. ``cache`` holds the resampled speech; by
    default "training" in slyther's cache folder. ``noises``: manifests of recorded noise (columns path,
    split), for ``recorded_noise`` of the examples."""

    manifests: tuple[str, ...] = ()
    noises: tuple[str, ...] = ()
    cache: str = ""
    train_split: str = "train"
    dev_split: str = "dev"

    def cache_folder(self, base: Path) -> Path:
        """Where ``cache`` is."""
        from slyther_cli.checkpoints.places import cache_dir

        return base / Path(self.cache).expanduser() if self.cache else cache_dir() / "training"

    def manifest_paths(self, base: Path) -> list[Path]:
        """Where ``manifests`` are."""
        return table_paths(self.manifests, base)

    def pools(self, base: Path, rate: int) -> tuple[SpeechPool, SpeechPool]:
        """The speech to train on and to validate on."""
        cache, manifests = self.cache_folder(base), self.manifest_paths(base)
        train, dev = (SpeechPool(manifests, s, rate, cache) for s in (self.train_split, self.dev_split))
        return train, dev

    def recordings(self, base: Path, rate: int) -> list[np.ndarray]:
        """The recorded noise of the training split, [samples] each."""
        manifests = table_paths(self.noises, base)
        return read_noises(manifests, self.train_split, rate) if manifests else []


def read_settings(path: Path, kind: type[Settings]) -> Settings:
    """The dataclass ``kind`` from a TOML file; its fields that are dataclasses are tables of the file, those
    whose metadata name a dataclass as ``TABLES`` lists of tables, or of texts that are its first field.

    ``kind`` has ``name``, ``architecture``, ``model`` (what is set apart from the preset's, or the
    architecture's, own values; "preset" in it names one), ``start_from`` and ``data``; maybe ``CHANGES``, the
    settings that [model] may change in what ``start_from`` names. The default ``architecture`` says which
    task is trained for.
    Raises :class:`UsageError` on anything that the file should not hold.
    """
    try:
        with open(path, "rb") as file:
            raw = untrusted.read_toml(file.read(untrusted.BIGGEST + 1))
        _check_numbers(raw)
    except (OSError, ValueError) as error:  # no text, no TOML, nested without end
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{path}: {why}") from None
    for table, value in vars(kind()).items():
        if table in raw and is_dataclass(value):
            raw[table] = _fill(type(value), raw[table], f"{path}: [{table}]")
    config: Any = _fill(kind, raw, str(path))
    if not config.data.manifests:
        raise UsageError(f"{path}: [data] manifests: name one or more")
    if not NAME.fullmatch(config.name):
        raise UsageError(f"{path}: name may hold letters, digits, '.', '_' and '-', not {config.name!r}")
    if config.start_from and config.model:
        changes = getattr(kind, "CHANGES", ())
        if not set(config.model) <= set(changes):
            but = f"; beside it [model] may have {', '.join(changes)}" if changes else ""
            raise UsageError(f"{path}: start_from brings its own [model]: leave one of them out{but}")
        return config
    try:
        config = _from_preset(config)
        registry.parameter_count(config.architecture, config.model)
        default: Any = kind()
        task, wanted = (registry.architecture_of(c.architecture).task for c in (config, default))
        if task != wanted:
            raise ModelError(f"{config.architecture} is made to {task}; what is trained here, to {wanted}")
    except ModelError as error:
        raise UsageError(f"{path}: [model] {error}") from None
    return config


def _check_numbers(value: Any) -> None:
    """Raises ValueError for a number that TOML does not have: beyond 64 bits, not finite."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        if isinstance(inner, int) and not -(1 << 63) <= inner < 1 << 63:
            raise ValueError("a number has more than 64 bits")
        if isinstance(inner, float) and not math.isfinite(inner):
            raise ValueError("a number is not finite")
        _check_numbers(inner)


def starting_model(config: Any, base: Path, task: str) -> tuple[Any, str, dict[str, Any]]:
    """The network that training starts with, its architecture and all its settings; with initial values
    unless ``start_from`` names weights, a folder (relative to ``base``) or a model's name.

    Raises :class:`ModelError`.
    """
    if config.start_from:
        from slyther_cli.checkpoints import store

        model, loaded = store.load(model_place(config.start_from, base), expect_task=task)
        return model, loaded.architecture, registry.full_config(loaded.architecture, loaded.config)
    settings = registry.full_config(config.architecture, config.model)
    return registry.build(config.architecture, settings), config.architecture, settings


def _from_preset(config: Any) -> Any:
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
    for f in fields(defaults):
        if TABLES in f.metadata and f.name in values:
            values = {**values, f.name: _tables(f.metadata[TABLES], values[f.name], f"{where}: {f.name}")}
    filled = {k: _typed(v, getattr(defaults, k), f"{where}: {k}") for k, v in values.items()}
    try:
        return kind(**filled)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _tables(kind: type, values: Any, where: str) -> list[Any]:
    if not isinstance(values, list):
        raise UsageError(f"{where} must be a list")
    first = fields(kind)[0].name
    return [
        _fill(kind, {first: v} if isinstance(v, str) else v, f"{where} {i}") for i, v in enumerate(values, 1)
    ]


def _typed(value: Any, like: Any, where: str) -> Any:
    if isinstance(like, tuple):
        if isinstance(value, list) and value and is_dataclass(value[0]):
            return tuple(value)
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list")
        return tuple(_typed(v, like[0] if like else "", where) for v in value)
    if type(like) is float and type(value) is int:
        return float(value)
    if type(value) is not type(like):
        words = {int: "a whole number", float: "a number", str: "a text", dict: "a table"}
        raise UsageError(f"{where} must be {words.get(type(like), 'another kind of value')}, not {value!r}")
    return value
