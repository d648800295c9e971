"""``config.json`` of a model folder: what it holds, and the check that it holds nothing else.

A config is read before anything is built, and may come from anywhere: every value is bounded here, so that
what follows (building the network on torch's meta device, see ``store``) can neither run away nor
allocate. Needs no torch.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slyther_cli.errors import ModelError
from slyther_cli.untrusted import read_json

FORMAT = 1
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "CARD.md"
TASKS = ("separate", "transcribe", "speak", "codec", "represent", "embed", "punctuate", "widen")

MAX_CONFIG_BYTES = 1 << 20
"""Of a whole number and its sign."""
MAX_INT = 1 << 20
"""No width, count or sample rate of a model that fits in memory comes near this."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_RESERVED = ("format", "name", "task", "architecture", "config", "source", "license", "metrics")


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` says. ``extra`` holds the entries that have no field of their own."""

    name: str
    task: str
    architecture: str
    config: dict[str, Any]
    """The keyword arguments of the network, as ``models.registry.build`` takes them."""
    source: str | None = None
    license: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    path: Path | None = None
    """The folder it was read from."""

    def to_json(self) -> dict[str, Any]:
        """The object that goes into ``config.json``."""
        out: dict[str, Any] = {"format": FORMAT, "name": self.name, "task": self.task}
        out |= {"architecture": self.architecture, "config": self.config}
        out |= {"source": self.source, "license": self.license, "metrics": self.metrics}
        return {k: v for k, v in out.items() if v is not None} | self.extra


def shorten(value: object, limit: int = 60) -> str:
    """A foreign value for a message: one line, printable, not longer than ``limit``."""
    text = "".join(c if c.isprintable() else "?" for c in str(value)[: limit + 1])
    return text if len(text) <= limit else text[: limit - 3] + "..."


def read_config(folder: str | Path) -> ModelConfig:
    """Read and check ``folder/config.json``.

    Raises ModelError: no such file, not JSON, another format version, an entry missing or out of bounds.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    try:
        if not path.is_file():
            raise ModelError(f"{folder} is not a model folder: it has no {CONFIG_FILE}")
        with open(path, "rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as e:
        raise ModelError(f"cannot read {path}: {e.strerror or e}") from e
    if len(raw) > MAX_CONFIG_BYTES:
        raise ModelError(f"{path} is larger than {MAX_CONFIG_BYTES} bytes: not a model config")
    try:
        data = read_json(raw)
    except (ValueError, RecursionError) as e:
        raise ModelError(f"{path} is damaged: {shorten(e, 100)}") from e
    return parse_config(data, folder)


def parse_config(data: object, folder: Path | None = None) -> ModelConfig:
    """Check a decoded ``config.json``. Raises ModelError with one line that names the entry at fault."""
    where = str(folder / CONFIG_FILE) if folder is not None else CONFIG_FILE
    if not isinstance(data, dict):
        raise ModelError(f"{where} is damaged: not a JSON object")
    version = data.get("format")
    if type(version) is not int:
        raise ModelError(f"{where} has no format number: not a slyther model")
    if version != FORMAT:
        raise ModelError(
            f"{where} has format {shorten(version)}, this slyther reads format {FORMAT}: update one of them"
        )
    for key in ("name", "task", "architecture"):
        if not isinstance(data.get(key), str):
            raise ModelError(f"{where}: {key!r} is missing or not text")
    for key in ("name", "architecture"):
        if not NAME.fullmatch(data[key]):
            raise ModelError(
                f"{where}: {key!r} may hold letters, digits, '.', '_' and '-', not {shorten(data[key])!r}"
            )
    if data["task"] not in TASKS:
        raise ModelError(f"{where}: unknown task {shorten(data['task'])!r}, known are {', '.join(TASKS)}")
    config = data.get("config")
    if not isinstance(config, dict):
        raise ModelError(f"{where}: 'config' is missing or not an object")
    for key, value in config.items():
        _check_value(where, key, value)
    for key in ("source", "license"):
        if not isinstance(data.get(key), str | None):
            raise ModelError(f"{where}: {key!r} is not text")
    metrics = data.get("metrics", {})
    if not isinstance(metrics, dict):
        raise ModelError(f"{where}: 'metrics' is not an object")
    return ModelConfig(
        name=data["name"],
        task=data["task"],
        architecture=data["architecture"],
        config=dict(config),
        source=data.get("source"),
        license=data.get("license"),
        metrics=dict(metrics),
        extra={k: v for k, v in data.items() if k not in _RESERVED},
        path=folder,
    )


def _check_value(where: str, key: str, value: object, depth: int = 0) -> None:
    """A network argument: text, flag, number in bounds, or a short list of these."""
    label = shorten(key)
    if not (isinstance(key, str) and key.isidentifier()):
        raise ModelError(f"{where}: {label!r} is no name of a setting")
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise ModelError(f"{where}: {label} = {shorten(value, 24)} is out of bounds")
    elif isinstance(value, float):
        if not (math.isfinite(value) and abs(value) <= MAX_INT):
            raise ModelError(f"{where}: {label} = {value} is out of bounds")
    elif isinstance(value, str):
        if len(value) > 1000:
            raise ModelError(f"{where}: {label} is too long a text")
    elif isinstance(value, list) and depth == 0 and len(value) <= 64:
        for item in value:
            _check_value(where, key, item, depth + 1)
    else:
        raise ModelError(f"{where}: {label} is neither a number, a flag, a text nor a short list of these")
