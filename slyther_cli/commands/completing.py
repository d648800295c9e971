"""What a shell may offer for the value of an option. Called at every press of a key: no torch."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path


def models(task: str) -> Callable[[str], list[str]]:
    """Names of the models for ``task`` on this machine; a path is left to the shell."""

    def complete(incomplete: str) -> list[str]:
        from slyther_cli.checkpoints import places
        from slyther_cli.errors import SlytherError

        try:
            return [name for name, folder, _ in places.available() if _task(folder) == task]
        except SlytherError:  # no cache folder to look into
            return []

    return complete


def _task(folder: Path) -> str:
    """What the model is for; nothing where that cannot be read."""
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.errors import SlytherError

    try:
        return read_config(folder).task
    except SlytherError:
        return ""


def voices(incomplete: str) -> list[str]:
    """Names of the default model's voices."""
    from slyther_cli.checkpoints.voice import list_voices
    from slyther_cli.errors import SlytherError
    from slyther_cli.synthesis.voices import choose_speech_model

    try:
        return [entry.name for entry in list_voices(choose_speech_model(None))]
    except SlytherError:
        return []


def published(incomplete: str) -> list[str]:
    """Names of models that can be pulled."""
    from slyther_cli.checkpoints import catalogue

    return list(catalogue.ENTRIES)


def devices(incomplete: str) -> list[str]:
    count = len(glob.glob("/dev/nvidia[0-9]*"))
    return ["auto", "cpu", *["cuda"] * bool(count), *(f"cuda:{i}" for i in range(count))]


def of(*names: str) -> Callable[[str], list[str]]:
    """One of ``names``."""

    def complete(incomplete: str) -> list[str]:
        return list(names)

    return complete


def several_of(*names: str) -> Callable[[str], list[str]]:
    """Several of ``names``, with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        return [before + comma + name for name in names if name not in before.split(",")]

    return complete
