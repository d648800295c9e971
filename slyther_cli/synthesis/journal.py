"""The sentences of a long text that are spoken already, kept so that a killed run can be gone on with.

One safetensors file a sentence: its codes, what the speech check found, and the network's state after it, so
that what follows is the same as without the stop. States are small and constant; of all but the last sentence
they are taken away again. Every file has a checksum, and names the sentence before it. Work that nobody has
gone on with for a month is removed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from slyther_cli.errors import OutputError, UsageError
from slyther_cli.files import Taken, WorkFolder
from slyther_cli.layers.mamba import MambaState
from slyther_cli.models.vall_m import Context
from slyther_cli.models.vall_sampling import Said
from slyther_cli.synthesis.speech_check import Verdict

LAYOUT = 3  # of the files: others are not gone on with
FORGOTTEN = 30 * 86400.0  # seconds
ABOUT, SUM = "about", "sum"  # the entries of a file's metadata: all that is no tensor, and the checksum
BARE = ("codes", "last", "ended", "rest", "durations")
NAME = re.compile(r"(\d{7})\.safetensors")
Kept = tuple[dict[str, torch.Tensor], dict[str, Any]]


class Journal:
    """``key`` stands for the text, the file it goes to, the weights, the machine and all settings; tensors
    come back on ``device``. ``codes``: books and codes in each, which what is kept must fit. ``notes``: what
    the user should know; with damaged work a run does not go on. Locked until ``close``.

    Raises :class:`OutputError`; :class:`UsageError` when another process works on it."""

    def __init__(self, key: str, codes: tuple[int, int], device: str = "cpu") -> None:
        from slyther_cli.checkpoints.places import cache_dir

        self.folder = cache_dir() / "speech" / key
        self.device, self._codes, self._before = device, codes, -1
        self.notes: list[str] = []
        try:
            self._work = WorkFolder(self.folder)
        except Taken:
            raise UsageError("another slyther speaks this text into this file: wait for it") from None
        try:
            os.utime(self.folder)
            _forget(self.folder.parent)
            self._drop_damaged()
        except OSError as error:
            self.close()
            raise OutputError(f"{self.folder}: cannot keep the work: {error.strerror}") from None

    def read(self, index: int) -> tuple[Said, Verdict, int] | None:
        """That sentence, the verdict of the speech check and after how many tries, if it is there. Without a
        state unless it is the last one. Raises :class:`OutputError`: damaged since the journal was opened."""
        name = _name(index)
        if not self._work.has(name):
            return None
        kept = self._whole(name)
        if kept is None:
            raise OutputError(f"{self.folder / name} was damaged while it was in use: start again")
        found, about = ({k: v.to(self.device) for k, v in kept[0].items()}, kept[1])
        states = [MambaState(found[f"conv{i}"], found[f"ssm{i}"]) for i in range(_states(found))]
        context = Context([*states], found["last"])
        durations = found.get("durations")
        said = Said(found["codes"], context, bool(found["ended"]), float(found["rest"]), durations)
        self._before = index
        return said, Verdict(tuple(about["problems"]), about["badness"], about["heard"]), about["tries"]

    def write(self, index: int, said: Said, verdict: Verdict, tries: int) -> None:
        """Keep a sentence; takes away the states of the one before."""
        tensors = {
            "codes": said.codes.cpu(),
            "last": said.context.last.cpu(),
            "ended": torch.tensor(said.ended),
            "rest": torch.tensor(said.rest, dtype=torch.float64),
        }
        if said.durations is not None:
            tensors["durations"] = said.durations.cpu()
        states = 0
        for state in said.context.states or []:
            if isinstance(state, MambaState):  # VALL-E begins every sentence anew, after the prompt
                tensors[f"conv{states}"], tensors[f"ssm{states}"] = state.conv.cpu(), state.ssm.cpu()
                states += 1
        about = asdict(verdict) | {"tries": tries, "states": states, "before": self._before}
        try:
            self._work.write(_name(index), _packed(tensors, about))
            before = self._whole(_name(self._before)) if self._before >= 0 else None
            if before is not None and _states(before[0]):
                bare = {key: before[0][key] for key in BARE if key in before[0]}
                self._work.write(_name(self._before), _packed(bare, before[1]))
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot keep the work: {error.strerror}") from None
        self._before = index

    def remove(self) -> None:
        """The work is done."""
        with contextlib.suppress(OSError):
            self._work.clear()
        self._work.end()

    def close(self) -> None:
        """Leave the work for a later run."""
        self._work.close()

    def _drop_damaged(self) -> None:
        """Keep the sentences up to the first that is damaged, if one can go on after them; else none."""
        names = sorted(name for name in os.listdir(self.folder) if NAME.fullmatch(name))
        good, before, last = 0, -1, True
        for name in names:
            kept = self._whole(name)
            if kept is None or kept[1]["before"] != before:
                break
            good, before, last = good + 1, int(name[:7]), _states(kept[0]) == kept[1]["states"]
        if good == len(names) and last:
            return
        if not last:  # the states after it are gone
            good = 0
        self._work.remove(*names[good:])
        anew = len(names) - good
        self.notes.append(f"the kept speech was damaged: {anew} of {len(names)} sentences are spoken anew")

    def _whole(self, name: str) -> Kept | None:
        """The tensors of a file, on the CPU, and what is no tensor; None if it is damaged."""
        try:
            data = self._work.read(name) or b""
            tensors = load(data)
            head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            if head[SUM] != _sum(head[ABOUT], tensors):
                return None
            about = json.loads(head[ABOUT])
            return (tensors, about) if self._fits(tensors, about) else None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def _fits(self, found: dict[str, torch.Tensor], about: dict[str, Any]) -> bool:
        """Whether all is there and of its type, and every number one that can be."""
        codes, last, rest = found["codes"], found["last"], found["rest"]
        books, size = self._codes
        whole = all(t.dtype == torch.int64 for t in (codes, last)) and codes.dim() == 2 and last.dim() == 2
        if not whole or len(codes) != books or (codes.numel() and not 0 <= codes.min() <= codes.max() < size):
            return False
        durations = found.get("durations", codes.new_zeros(0))
        if durations.dtype != torch.int64 or durations.dim() != 1 or (durations < 0).any():
            return False
        if "durations" in found and int(durations.sum()) != codes.shape[1]:
            return False
        numbers = [about[key] for key in ("tries", "states", "before")]
        states = [found[f"{kind}{i}"] for i in range(_states(found)) for kind in ("conv", "ssm")]
        return (
            all(type(n) is int and n >= -1 for n in numbers)
            and bool((last >= -1).all() and (last <= size).all())
            and found["ended"].dtype == torch.bool
            and all(t.is_floating_point() and bool(torch.isfinite(t).all()) for t in (rest, *states))
            and found["ended"].numel() == rest.numel() == 1
            and isinstance(about["problems"], list)
            and all(isinstance(problem, str) for problem in about["problems"])
            and isinstance(about["badness"], int | float)
            and math.isfinite(about["badness"])
            and (about["heard"] is None or isinstance(about["heard"], str))
        )


def _name(index: int) -> str:
    return f"{index:07d}.safetensors"


def _states(tensors: dict[str, torch.Tensor]) -> int:
    return sum(key.startswith("ssm") for key in tensors)


def _packed(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> bytes:
    tensors, text = {k: v.contiguous() for k, v in tensors.items()}, json.dumps(about)
    return save(tensors, {ABOUT: text, SUM: _sum(text, tensors)})


def _sum(text: str, tensors: dict[str, torch.Tensor]) -> str:
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors):
        total.update(f"{key} {tensors[key].dtype} {tuple(tensors[key].shape)}".encode())
        total.update(tensors[key].numpy().tobytes())
    return total.hexdigest()


def _forget(folder: Path) -> None:
    """Take away work that nobody has gone on with for a month; what is no folder of ours stays."""
    for other in folder.iterdir():
        with contextlib.suppress(OSError):
            status = other.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_mtime < time.time() - FORGOTTEN:
                shutil.rmtree(other, ignore_errors=True)
