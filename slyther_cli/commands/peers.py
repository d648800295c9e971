"""Recognisers of others, by which ``slyther eval`` compares and judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slyther_cli.errors import UsageError

PEERS = "pocketsphinx or whisper:FOLDER"


def parse_peer(text: str) -> tuple[str, Path | None]:
    """``whisper:models/tiny.en`` -> the peer's name and the folder of its weights. Raises UsageError."""
    name, _, folder = text.partition(":")
    if text == "pocketsphinx":
        return name, None
    if name == "whisper" and folder:
        return name, Path(folder)
    raise UsageError(f"unknown peer {text}: {PEERS}")


def load_peer(name: str, folder: Path | None, threads: int | None) -> Any:
    """The peer, as ``research.evaluation.recognition.Hearing``. Raises UsageError: its package is missing;
    ModelError: its weights are."""
    if folder is None:
        from slyther_cli.research.studies.pocketsphinx_reference import PocketSphinx

        return PocketSphinx()
    from slyther_cli.research.studies.whisper_reference import Whisper

    return Whisper(folder, threads)
