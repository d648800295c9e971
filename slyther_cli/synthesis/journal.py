"""The sentences of a long text that are spoken already, kept so that a killed run can be gone on with.

One safetensors file a sentence: its codes, what the guard found, and the network's state after it, so that
what follows is the same as without the stop. States are small and constant; of all but the last sentence
they are taken away again. Work that nobody has gone on with for a month is removed.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from slyther_cli.errors import OutputError
from slyther_cli.layers.mamba import MambaState
from slyther_cli.models.vall_m import Context
from slyther_cli.models.vall_sampling import Said
from slyther_cli.synthesis.speech_check import Verdict

FORGOTTEN = 30 * 86400.0  # seconds
ABOUT = "about"  # the entry of the file's metadata with all that is no tensor


class Journal:
    """``key`` stands for the text, the weights and all settings; tensors come back on ``device``. Raises
    :class:`OutputError`."""

    def __init__(self, key: str, device: str = "cpu") -> None:
        from slyther_cli.checkpoints.places import cache_dir

        self.folder, self.device = cache_dir() / "speech" / key, device
        self._stripped: Context | None = None  # the last one that was read without its states
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            os.utime(self.folder)
            for other in self.folder.parent.iterdir():
                if other.stat().st_mtime < time.time() - FORGOTTEN:
                    shutil.rmtree(other, ignore_errors=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot keep the work: {error.strerror}") from None

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:07d}.safetensors"

    def read(self, index: int) -> tuple[Said, Verdict, int] | None:
        """That sentence, the guard's verdict and after how many tries, if it is there and whole. Without a
        state unless it is the last one."""
        try:
            found, about = _load(self._path(index), self.device)
            states = [
                MambaState(found[f"conv{i}"], found[f"ssm{i}"])
                for i in range(sum(k[:3] == "ssm" for k in found))
            ]
            context = Context([*states], found["last"])
            said = Said(found["codes"], context, bool(found["ended"]), float(found["rest"]))
            verdict = Verdict(tuple(about["problems"]), about["badness"], about["heard"])
            self._stripped = context if len(states) < about["states"] else None
            return said, verdict, about["tries"]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def check(self, context: Context | None) -> None:
        """Before a sentence is spoken after ``context``. Raises :class:`OutputError`, and takes the work
        away, if that is of a sentence whose successor is damaged: its states are gone."""
        if context is not None and context is self._stripped:
            self.remove()
            raise OutputError(f"{self.folder}: the kept work is damaged; the same command now begins anew")

    def write(self, index: int, said: Said, verdict: Verdict, tries: int) -> None:
        """Keep a sentence; takes away the states of the one before."""
        tensors = {
            "codes": said.codes.cpu(),
            "last": said.context.last.cpu(),
            "ended": torch.tensor(said.ended),
            "rest": torch.tensor(said.rest, dtype=torch.float64),
        }
        bare, states = set(tensors), 0
        for state in said.context.states or []:
            if isinstance(state, MambaState):  # VALL-E begins every sentence anew, after the prompt
                tensors[f"conv{states}"], tensors[f"ssm{states}"] = state.conv.cpu(), state.ssm.cpu()
                states += 1
        try:
            _save(self._path(index), tensors, asdict(verdict) | {"tries": tries, "states": states})
            before = self._path(index - 1)
            if before.exists():
                found, about = _load(before, "cpu")
                _save(before, {k: v for k, v in found.items() if k in bare}, about)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{self.folder}: cannot keep the work: {error}") from None

    def remove(self) -> None:
        """The work is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _load(path: Path, device: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt", device=device) as file:
        about = json.loads((file.metadata() or {})[ABOUT])
        return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118


def _save(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Whole or not at all, and on the disk before it has its name."""
    partial = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, {ABOUT: json.dumps(about)})
    with open(partial, "rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
