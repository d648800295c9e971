"""Whisper as a peer, run by faster-whisper (CTranslate2) on the CPU in eight bits, with its defaults: beam of
five, English, windows of 30 seconds.

Source: Radford et al. 2023, "Robust Speech Recognition via Large-Scale Weak Supervision". The weights are the
user's: a folder as CTranslate2 converts them (model.bin, config.json, tokenizer.json, vocabulary).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.errors import ModelError, UsageError


class Whisper:
    """Samples float32 [n] at 16 kHz in, text out. ``threads``: of the CPU, None for the library's choice.

    Raises UsageError: faster-whisper is missing; ModelError: ``folder`` holds no such model.
    """

    rate = 16000

    def __init__(self, folder: Path, threads: int | None = None):
        if importlib.util.find_spec("faster_whisper") is None:
            raise UsageError("--against whisper needs the package faster-whisper: pip install faster-whisper")
        for needed in ("model.bin", "config.json", "tokenizer.json"):
            if not (folder / needed).is_file():
                raise ModelError(f"{folder}: no Whisper as faster-whisper reads it: it has no {needed}")
        from faster_whisper import WhisperModel

        self.name = f"whisper {folder.resolve().name}"
        options: dict[str, Any] = {"device": "cpu", "compute_type": "int8", "cpu_threads": threads or 0}
        try:
            self._model = WhisperModel(str(folder), **options)
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelError(f"{folder}: faster-whisper cannot load it: {error}") from None

    def __call__(self, samples: np.ndarray) -> str:
        segments, _ = self._model.transcribe(np.ascontiguousarray(samples), language="en")
        return " ".join(segment.text.strip() for segment in segments)
