"""The sentences of a long text that are spoken already, kept so that a killed run can be gone on with.

One safetensors file a sentence: its codes, and the network's state after it, so that what follows is the
same as without the stop. States are small and constant; of all but the last sentence they are taken away
again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slyther_cli.errors import OutputError
from slyther_cli.layers.mamba import MambaState
from slyther_cli.models.vall_m import Context
from slyther_cli.models.vall_sampling import Said


class Journal:
    """``key`` stands for the text and all settings. Raises :class:`OutputError`."""

    def __init__(self, key: str) -> None:
        from slyther_cli.checkpoints.places import cache_dir

        self.folder = cache_dir() / "speech" / key
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot keep the work: {error.strerror}") from None

    def _path(self, index: int) -> Path:
        return self.folder / f"{index:07d}.safetensors"

    def read(self, index: int) -> Said | None:
        """That sentence, if it is there and whole. Without a state unless it is the last one."""
        try:
            found = load_file(self._path(index))
            states = [
                MambaState(found[f"conv{i}"], found[f"ssm{i}"])
                for i in range(sum(k[:3] == "ssm" for k in found))
            ]
            context = Context([*states], found["last"])
            return Said(found["codes"], context, bool(found["ended"]), float(found["rest"]))
        except (OSError, SafetensorError, KeyError):
            return None

    def write(self, index: int, said: Said) -> None:
        """Keep a sentence; takes away the states of the one before."""
        bare = {
            "codes": said.codes.cpu(),
            "last": said.context.last.cpu(),
            "ended": torch.tensor(said.ended),
            "rest": torch.tensor(said.rest, dtype=torch.float64),
        }
        full = dict(bare)
        for i, state in enumerate(said.context.states or []):
            if isinstance(state, MambaState):  # VALL-E begins every sentence anew, after the prompt
                full[f"conv{i}"], full[f"ssm{i}"] = state.conv.cpu(), state.ssm.cpu()
        try:
            self._save(self._path(index), full)
            before = self._path(index - 1)
            if before.exists():
                kept = {k: v for k, v in load_file(before).items() if k in bare}
                self._save(before, kept)
        except (OSError, SafetensorError) as error:
            raise OutputError(f"{self.folder}: cannot keep the work: {error}") from None

    def _save(self, path: Path, tensors: dict[str, torch.Tensor]) -> None:
        partial = path.with_suffix(f".{os.getpid()}.part")
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial)
        os.replace(partial, path)

    def remove(self) -> None:
        """The work is done."""
        shutil.rmtree(self.folder, ignore_errors=True)
