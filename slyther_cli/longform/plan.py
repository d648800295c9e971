"""The plan: where the tape lies and what a job will need, chosen from the memory limit before anything is
computed.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from slyther_cli.errors import DeviceError, OutputError
from slyther_cli.longform.journal import GAP_BYTES
from slyther_cli.longform.prefetch import AHEAD
from slyther_cli.longform.sweep import TILE
from slyther_cli.longform.tape import CHUNK_BYTES, chunk_slots
from slyther_cli.runtime import available_memory, temporary_folder
from slyther_cli.scan import live_backend

# Bytes that computing takes beside the tape, whatever the recording's length. Measured with all presets
# (tests/test_longform_memory.py), rounded up: libraries and audio blocks, copies of the weights on their way
# in, and the buffers of one tile.
BASE_BYTES = 64 << 20
COPIES_OF_WEIGHTS = 2
FLOATS_PER_CHANNEL = 3
# The reference of the scan keeps a tile as tensors of one frame besides: their objects, and their values for
# every channel of the model.
REFERENCE_BYTES = 16 << 20
REFERENCE_FLOATS = 12
PIECE = 512  # frames whose masks are made at once: they are as wide as all filters for all speakers together


@dataclass(frozen=True)
class Plan:
    """``tape`` is "none" (a causal model keeps nothing), "device" (a GPU's memory), "memory" (the host's) or
    "file". Sizes in bytes, beside the idle process, and as much again on a GPU. ``disk_bytes``: of the work
    file at its largest; with ``resume`` it is more than the tape. ``beside``: the tape is copied from and to
    a GPU beside the computation.
    """

    samples: int
    frames: int
    sweeps: int
    segment: int
    tape: str
    tape_bytes: int
    working_bytes: int
    work_dir: Path
    disk_bytes: int = 0
    beside: bool = False

    def describe(self) -> list[str]:
        """Plain lines for ``-v``."""
        if self.tape == "none":
            return [f"causal model: one pass over {self.frames} frames, nothing stored"]
        place = {"device": "device memory", "memory": "host memory" if self.beside else "memory"}
        tape = f"tape of {_size(self.tape_bytes)} in {place.get(self.tape)}"
        if self.tape == "file":
            tape = f"tape in a work file of {_size(self.disk_bytes)} in {self.work_dir}"
        if self.beside and self.tape != "device":
            tape += ", copied beside the computation"
        return [
            f"{self.frames} frames, {self.sweeps} sweeps in segments of {self.segment}",
            f"{tape}, working memory at most {_size(self.working_bytes)}",
        ]


def one_pass(samples: int, frames: int, work_dir: Path | None) -> Plan:
    """The plan of a causal network."""
    return Plan(samples, frames, 1, TILE, "none", 0, 0, Path(work_dir or temporary_folder()))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a plan must keep to. ``memory_limit``: bytes beside the idle process, of the host and of a GPU
    each; None: half of what is free. ``work_dir``: of a tape in a file. ``resume``: the tape must be in one.
    ``held``: bytes of the file that a killed run left, which need no more room."""

    memory_limit: int | None = None
    work_dir: Path | None = None
    resume: bool = False
    held: int = 0


def swept(
    samples: int, frames: int, layers: int, slot: int, working: int, device: torch.device, limits: Limits
) -> Plan:
    """The plan of ``layers`` bidirectional layers: ``slot`` floats of tape a tile, ``working`` bytes beside
    the tape. The tape's place is the first that has room: a GPU's memory, the host's, a file; with ``resume``
    a file. Errors: see :func:`slyther_cli.longform.plan_separation`.
    """
    folder, cuda = Path(limits.work_dir or temporary_folder()), device.type == "cuda"
    memory_limit, resume = limits.memory_limit, limits.resume
    tiles = -(-frames // TILE)
    tape_bytes = taken = 4 * slot * tiles
    if cuda:  # tiles on their way, and memory that is taken by the chunk
        working += 4 * slot * 2 * AHEAD + CHUNK_BYTES
        taken = CHUNK_BYTES * -(-tiles // chunk_slots(slot))
    plan = Plan(samples, frames, layers + 1, TILE, "file", tape_bytes, working, folder, beside=cuda)
    if memory_limit is not None and working > memory_limit:
        raise DeviceError(
            f"--memory-limit {_size(memory_limit)} is too small: this model needs {_size(working)} to work in"
        )
    for where in ("device", "memory") if cuda else ("memory",):
        free = available_on(device) if where == "device" else available_memory()
        room = free // 2 if memory_limit is None else memory_limit - working
        if taken <= room and not resume and (where == "memory" or working + taken <= free):
            return replace(plan, tape=where)
    disk = tape_bytes + (min(tape_bytes, max(GAP_BYTES, 8 * slot)) if resume else 0)
    _check_disk(folder, disk, limits.held)
    return replace(plan, disk_bytes=disk)


def keeping(plan: Plan, need: int, held: int = 0) -> str:
    """A line for ``-v``, of results of ``need`` bytes that are kept in a file beside the tape's. ``held``: as
    in ``Limits``. Raises :class:`OutputError`: the disk has no room for both."""
    _check_disk(plan.work_dir, plan.disk_bytes + need, held)
    return f"results of {_size(need)} kept in a temporary file in {plan.work_dir} to match voices"


_counted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def count_weights(model) -> int:
    """How many numbers a network has learnt; counted once, as that takes as long as 20 ms of sound."""
    if model not in _counted:
        _counted[model] = sum(p.numel() for p in model.parameters())
    return _counted[model]


def working_bytes(model) -> int:
    """What a job needs beside the tape, an upper bound. Grows with the network only."""
    c = model.config
    floats = TILE * (6 * c.d_model + c.n_filters) + PIECE * 2 * c.n_speakers * c.n_filters
    base = BASE_BYTES + scan_bytes(c.d_model, model.decoder.weight.device)
    return base + 4 * (COPIES_OF_WEIGHTS * count_weights(model) + FLOATS_PER_CHANNEL * floats)


def scan_bytes(d_model: int, device: torch.device) -> int:
    """What the scan that runs there needs beyond the tile's tensors: nothing, unless it is the reference."""
    if live_backend(device) != "reference":
        return 0
    return REFERENCE_BYTES + 4 * REFERENCE_FLOATS * TILE * d_model


def _check_disk(folder: Path, need: int, held: int) -> None:
    existing = next((p for p in [folder, *folder.parents] if p.exists()), Path("/"))
    free = shutil.disk_usage(existing).free
    if free + held < need:
        raise OutputError(
            f"{folder}: work files need {_size(need)}, {_size(free)} are free; choose another --work-dir"
        )


def available_on(device: torch.device) -> int:
    """Bytes of a GPU that are free, with those that torch keeps at hand."""
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + held


def _size(n: int) -> str:
    for unit in ("B", "kB", "MB"):
        if n < 1000:
            return f"{n:.0f} {unit}"
        n = n / 1000  # type: ignore[assignment]
    return f"{n:.1f} GB"
