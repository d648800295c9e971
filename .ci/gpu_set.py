"""Changes settings of a training's configuration: python .ci/gpu_set.py CONFIG [TABLE.KEY=VALUE ...]."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any


def with_settings(raw: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """``raw`` with "table.key" set to each value."""
    for key, value in settings.items():
        *tables, last = key.split(".")
        table = raw
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value
    return raw


def asked(words: list[str]) -> dict[str, Any]:
    """TABLE.KEY=VALUE, the value as TOML writes it."""
    pairs = (word.split("=", 1) for word in words)
    return {key: tomllib.loads(f"value = {value}")["value"] for key, value in pairs}


def as_toml(raw: dict[str, Any]) -> str:
    """Settings, and tables of them; a table within a table on one line."""

    def text(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {text(v)}" for k, v in value.items()) + " }"
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        return json.dumps(value)

    lines = [f"{key} = {text(value)}" for key, value in raw.items() if not isinstance(value, dict)]
    for name, table in raw.items():
        if isinstance(table, dict):
            lines += [f"[{name}]", *(f"{key} = {text(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    config = Path(sys.argv[1])
    config.write_text(as_toml(with_settings(tomllib.loads(config.read_text()), asked(sys.argv[2:]))))
