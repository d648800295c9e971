"""The journal: a job that was killed at any moment goes on from its last mark, with the same result.

A job has a folder of its own below ``--work-dir``, named by its input and outputs, with three files:

    lock    held while a process works on the job
    tape    the activations (``tape.FileTape`` with a gap)
    mark    the last mark (``sweep.Mark``), the states of the layers, and what the job is: safetensors

A mark is kept every few seconds, by a thread beside the computation: first the tape is brought to the disk,
then the mark is written under another name, brought to the disk and renamed. Until that is done the engine
overwrites nothing that the mark before needs: the tape's gap gives it room to go on meanwhile, and where the
gap is used up, and at the end of a sweep, it waits. So the files of a killed process, or of a machine that
lost power, are always those of some mark.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from slyther_cli.errors import InputError, ModelError, OutputError, UsageError
from slyther_cli.files import DAMAGED, WENT_ON, Taken, WorkFolder
from slyther_cli.longform.prefetch import PrefetchTape, beside
from slyther_cli.longform.sweep import START, TILE, Mark
from slyther_cli.longform.tape import FileTape, TapeDamaged

EVERY = 5.0  # seconds between two marks
GAP_BYTES = 256 << 20
FORMAT = 2
EDGE = 1 << 20  # bytes of a recording's head and tail that are hashed

Facts = Mapping[str, Mapping[str, Any]]


class Journal:
    """One job's folder, locked. ``resumed`` says whether there is a mark to go on from; ``notes``, when the
    job has ended, what the user should know of that: with damaged work a job does not go on, but begins anew.

    ``facts``: what the job is, as "recording", "model", "options" and "engine", each a flat mapping of JSON
    values (:func:`job_facts`). Raises :class:`UsageError`: another process works on the job, or its files are
    of another recording, options or version; :class:`ModelError`: of another model; :class:`OutputError`: the
    folder cannot be written, or is not ours.
    """

    def __init__(
        self,
        work_dir: Path,
        name: str,
        facts: Facts,
        *,
        every: float | None = None,
        gap_bytes: int = GAP_BYTES,
    ):
        self.folder = work_dir / name
        self.facts = json.loads(json.dumps(facts))
        self.every, self.gap_bytes = EVERY if every is None else every, gap_bytes
        self._damaged = False
        self._saving: Future[Mark] | None = None
        self._thread = ThreadPoolExecutor(1, "slyther-journal")
        self._tape: FileTape | PrefetchTape | None = None
        self.notes: list[str] = []
        try:
            self._work = WorkFolder(self.folder)
        except Taken:
            raise UsageError(f"another slyther works on this job in {self.folder}: wait for it") from None
        try:
            self._safe, self._tape_bytes, self._gap = self._read()
        except BaseException:
            self.close()
            raise
        self.resumed = self._safe is not START
        if self.resumed:
            self.notes.append(WENT_ON)
        self._saved_at = time.monotonic()

    def open_tape(self, tile_floats: int, device: torch.device | str = "cpu") -> FileTape | PrefetchTape:
        """The job's tape; ``close`` closes it."""
        gap = self._gap or max(2, self.gap_bytes // (4 * tile_floats))
        self._gap = gap
        pinned = torch.device(device).type == "cuda"
        try:
            handle = self._work.open("tape", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot hold the work file: {error.strerror}") from None
        self._tape = beside(FileTape(tile_floats, self.folder, handle, gap, pinned), device)
        if self._tape.size() < self._tape_bytes:
            self._begin_anew("its tape is shorter than it was")
        self._safe = self._safe._replace(states=_moved(self._safe.states, device))
        return self._tape

    def start(self) -> Mark:
        """Where the engine begins (``sweep.Keeper``)."""
        return self._safe

    def passed(self, mark: Mark, end_of_sweep: bool) -> None:
        """Keep ``mark`` if it is time; wait where the tape must not be overwritten before a mark is kept."""
        if self._saving is not None and self._saving.done():
            self._wait()
        if end_of_sweep:
            self._wait()
            self._save_soon(mark)
            self._wait()
        elif self._saving is None and time.monotonic() - self._saved_at >= self.every:
            self._save_soon(mark)
        if mark.sweep and mark.read >= self._safe.read + self._gap:
            self._wait()
            if mark.read >= self._safe.read + self._gap:
                self._save_soon(mark)
                self._wait()

    def anew(self, why: TapeDamaged) -> None:
        """The tape is damaged: ``start`` is the beginning from now on. Raises ``why`` if it was so before."""
        if self._damaged:
            raise why
        self._damaged = True
        self._wait()
        if isinstance(self._tape, PrefetchTape):
            self._tape.forget()
        self._begin_anew("its tape does not hold what was written")

    def _begin_anew(self, why: str) -> None:
        self.notes = [DAMAGED.format(why)]
        self._safe = START
        try:
            self._work.remove("mark")
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write the journal: {error.strerror}") from None

    def remove(self) -> None:
        """The result is in its place: nothing of the job is left. The tape goes first: without it there is no
        work to go on from."""
        self._close_tape()
        self._work.remove("tape", "mark", "mark.new")
        self._work.end()

    def close(self) -> None:
        """Leave the job as it is, for a later run."""
        self._close_tape()
        self._work.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Marks on the disk

    def _save_soon(self, mark: Mark) -> None:
        self._saved_at = time.monotonic()
        self._saving = self._thread.submit(self._save, mark)

    def _wait(self) -> None:
        """Until the mark that is being saved is on the disk. Raises what saving it raised."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            self._safe = saving.result()

    def _save(self, mark: Mark) -> Mark:
        assert self._tape is not None
        self._tape.sync()
        tensors: dict[str, Tensor] = {}
        place = {
            "mark": [*mark[:4], _pack(mark.states, tensors)],
            "tape_bytes": self._tape.size(),
            "gap": self._gap,
            "facts": self.facts,
        }
        text = json.dumps(place)
        data = save(tensors, {"place": text, "sum": _checksum(text, tensors)})
        try:
            self._work.write("mark", data)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write the journal: {error.strerror}") from None
        return mark

    def _read(self) -> tuple[Mark, int, int]:
        """The mark to begin at, the least size of its tape, and the tape's gap."""
        try:
            # without a tape: killed while the work of a finished job was being removed
            data = self._work.read("mark") if self._work.has("tape") else None
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot read the journal: {error.strerror}") from None
        if data is None:
            return START, 0, 0
        try:
            tensors = load(data)
            # safetensors keeps metadata for open files only: read them from the head, as its format has it
            head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
            text = head["place"]
            if head["sum"] != _checksum(text, tensors):
                raise ValueError("checksum")
            place = json.loads(text)
            sweep, read, written, frames, states = place["mark"]
            tape_bytes, gap = place["tape_bytes"], place["gap"]
            if any(type(n) is not int or n < 0 for n in (sweep, read, written, frames, tape_bytes, gap)):
                raise ValueError("numbers")
            facts = {kind: dict(place["facts"][kind]) for kind in self.facts}
            mark = Mark(sweep, read, written, frames, _unpack(states, tensors))
        except (SafetensorError, ValueError, KeyError, TypeError, IndexError, RecursionError):
            self._begin_anew("its mark")
            return START, 0, 0
        self._compare(facts)
        return mark, tape_bytes, gap

    def _compare(self, theirs: Facts) -> None:
        for kind, words, error in (
            ("recording", "of another recording, or it has changed since", UsageError),
            ("model", "of another model", ModelError),
            ("options", "of a run with other options", UsageError),
            ("engine", "of another version of slyther or torch, or another processor", UsageError),
        ):
            if theirs[kind] != self.facts[kind]:
                difference = _difference(theirs[kind], self.facts[kind])
                raise error(
                    f"the unfinished work in {self.folder} is {words}{difference}; "
                    "remove that folder to start anew, or leave out --resume"
                )

    def _close_tape(self) -> None:
        self._thread.shutdown()  # waits for a mark that is being saved
        if self._tape is not None:
            self._tape.close()
            self._tape = None


def job_name(source: Path, outputs: list[Path]) -> str:
    """The name of the folder of the job that makes ``outputs`` of ``source``."""
    key = "\0".join(os.path.abspath(path) for path in (source, *outputs))
    stem = "".join(c if c.isascii() and c.isalnum() else "_" for c in source.stem)[:40]
    return f"slyther-{stem}-{hashlib.sha256(os.fsencode(key)).hexdigest()[:16]}"


def job_facts(
    source: Path, model: torch.nn.Module, name: str, options: Mapping[str, Any], device: str
) -> dict[str, Any]:
    """What a job is: results are the same only if all of this is.

    ``source``: the recording's file; its size, time and both ends are looked at. ``name``: of the model, for
    messages; its config and weights are hashed. ``options``: what else the stems depend on. Raises
    :class:`InputError` when the file cannot be read.
    """
    from slyther_cli import __version__
    from slyther_cli.runtime import kernels
    from slyther_cli.scan import live_backend

    try:
        with open(source, "rb") as file:
            status = os.fstat(file.fileno())
            edges = hashlib.sha256(file.read(EDGE))
            file.seek(max(0, status.st_size - EDGE))
            edges.update(file.read(EDGE))
    except OSError as error:
        raise InputError(f"{source} cannot be read: {error.strerror}") from None
    kind = torch.device(device).type
    return {
        "recording": {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns, "edges": edges.hexdigest()},
        "model": {"name": name, "sha256": _model_digest(model)},
        "options": dict(options),
        "engine": {
            "slyther": __version__,
            "torch": torch.__version__,
            "format": FORMAT,
            "tile": TILE,
            "scan": live_backend(kind),
            "device": kind,
            **kernels(device),
        },
    }


_digests: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def _model_digest(model: torch.nn.Module) -> str:
    """Of config and weights; once a model, since a batch of short recordings would do little else."""
    if model not in _digests:
        weights = hashlib.sha256(repr(getattr(model, "config", None)).encode())
        for key, tensor in sorted(model.state_dict().items()):
            weights.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            weights.update(memoryview(tensor.cpu().contiguous().numpy()).cast("B"))
        _digests[model] = weights.hexdigest()
    return _digests[model]


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """The first thing that differs, where a person can make something of it."""
    for key in sorted(theirs.keys() | ours.keys()):
        a, b = theirs.get(key), ours.get(key)
        if a != b and max(len(str(a)), len(str(b))) <= 40 and key != "mtime_ns":
            return f" ({key} {a}, now {b})"
    return ""


def _pack(state: Any, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON: null, the number of a tensor, or a list of those."""
    if isinstance(state, Tensor):
        tensors[str(len(tensors))] = state.detach().cpu().contiguous().clone()
        return len(tensors) - 1
    return None if state is None else [_pack(part, tensors) for part in state]


def _unpack(packed: Any, tensors: dict[str, Tensor]) -> Any:
    if type(packed) is int:
        return tensors[str(packed)]
    return None if packed is None else tuple(_unpack(part, tensors) for part in packed)


def _moved(state: Any, device: torch.device | str) -> Any:
    if isinstance(state, Tensor):
        return state.to(device)
    return None if state is None else tuple(_moved(part, device) for part in state)


def _checksum(text: str, tensors: dict[str, Tensor]) -> str:
    total = hashlib.sha256(text.encode())
    for key in sorted(tensors, key=int):
        total.update(key.encode() + str(tuple(tensors[key].shape)).encode())
        total.update(tensors[key].numpy().tobytes())
    return total.hexdigest()
