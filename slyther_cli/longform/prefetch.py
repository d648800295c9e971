"""A tape that is read ahead and written behind, so that a device computes while its tape is copied.

One thread does everything that touches the tape below, in the order in which it was asked for: what was
stored is there for every load asked for after it. At most ``AHEAD`` stores wait, and callers ask for at most
``AHEAD`` loads ahead (``tape.in_order``), so neither memory grows with the recording.

For a CUDA device the thread copies on a stream of its own, between pinned host memory and the device, beside
the computation:

    store   the thread's stream waits for what was computed so far, copies to the host, then the tape is
            written; the parts are held until then
    load    the tape is read, copied to the device, and given out when the copy is complete

The thread waits for each of its copies, so nothing that it touched is ever used too early or freed too
early. Without a device there is nothing to copy, and all the rest is the same: so the tests run it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from slyther_cli.longform.tape import FileTape, MemoryTape, Tape

AHEAD = 3  # tiles
AnyTape = TypeVar("AnyTape", MemoryTape, FileTape)


class PrefetchTape:
    """``tape``, which is in host memory or a file, for tensors on ``device``. Closes ``tape`` with itself.

    Whatever fails in the thread is raised by the next call that stores, loads or syncs, and by all after it.
    """

    ahead = AHEAD

    def __init__(self, tape: MemoryTape | FileTape, device: torch.device | str = "cpu"):
        self.tape, self.device = tape, torch.device(device)
        self._stream = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None
        self._thread = ThreadPoolExecutor(1, "slyther-tape")
        self._begun: list[tuple[tuple[int, ...], Future[list[Tensor]]]] = []
        self._room = threading.Semaphore(AHEAD)
        self._failed: BaseException | None = None

    def store(self, sweep: int, index: int, *parts: Tensor) -> None:
        """As :meth:`MemoryTape.store`; ``parts`` must not be changed any more."""
        computed = torch.cuda.current_stream(self.device).record_event() if self._stream else None
        self._check()
        self._room.acquire()
        storing = self._thread.submit(self._done, self._store, computed, sweep, index, parts)
        storing.add_done_callback(lambda _: self._room.release())

    def expect(self, sweep: int, index: int, frames: int, *columns: int) -> None:
        """Begin a load; ``load`` with the same arguments gives what it brought."""
        self._check()
        loading = self._thread.submit(self._done, self._load, sweep, index, frames, columns)
        self._begun.append(((sweep, index, frames, *columns), loading))

    def load(self, sweep: int, index: int, frames: int, *columns: int) -> list[Tensor]:
        """As :meth:`FileTape.load`, on the device."""
        place = (sweep, index, frames, *columns)
        if all(begun != place for begun, _ in self._begun):
            self.expect(*place)
        at = next(i for i, (begun, _) in enumerate(self._begun) if begun == place)
        parts = self._begun.pop(at)[1].result()
        if self._stream:
            for part in parts:  # its memory is the stream's: not to be given away before it was used here
                part.record_stream(torch.cuda.current_stream(self.device))
        return parts

    def sync(self) -> None:
        """Everything stored before the call is on the disk after it (:meth:`FileTape.sync`)."""
        assert isinstance(self.tape, FileTape)
        self._thread.submit(self._done, lambda: None).result()
        self.tape.sync()

    def size(self) -> int:
        """Bytes of the file."""
        assert isinstance(self.tape, FileTape)
        return self.tape.size()

    def forget(self) -> None:
        """What was expected and not loaded, and that something failed: the caller begins anew."""
        self._thread.submit(lambda: None).result()
        self._begun.clear()
        self._failed = None

    def close(self) -> None:
        """What waits, a few tiles, is still written: a mark that is being saved may count on it."""
        self._thread.shutdown()
        self._begun.clear()
        self.tape.close()

    def _check(self) -> None:
        if self._failed:
            raise self._failed

    # In the thread

    def _done(self, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            self._check()  # what comes after a store that failed would be read or kept without it
            beside = torch.cuda.stream(self._stream) if self._stream else contextlib.nullcontext()
            with torch.inference_mode(), beside:
                return act(*arguments)
        except BaseException as error:
            self._failed = error
            raise

    def _store(
        self, computed: torch.cuda.Event | None, sweep: int, index: int, parts: tuple[Tensor, ...]
    ) -> None:
        if self._stream and computed:
            self._stream.wait_event(computed)
        self.tape.store(sweep, index, *parts)
        self._settle()

    def _load(self, sweep: int, index: int, frames: int, columns: tuple[int, ...]) -> list[Tensor]:
        parts = self.tape.load(sweep, index, frames, *columns)
        parts = [part.to(self.device, non_blocking=True) for part in parts]
        self._settle()
        return parts

    def _settle(self) -> None:
        if self._stream:
            self._stream.synchronize()


def beside(tape: AnyTape, device: torch.device | str) -> AnyTape | PrefetchTape:
    """``tape``, in host memory or a file, as a computation on ``device`` uses it: on the CPU as it is."""
    return PrefetchTape(tape, device) if torch.device(device).type == "cuda" else tape


def open_tape(where: str, floats: int, folder: Path, device: torch.device | str) -> Tape:
    """The tape of a plan: ``where`` is its ``tape``, ``folder`` its ``work_dir``; slots of ``floats``.

    Raises :class:`OutputError` when a file cannot be made in the folder.
    """
    pinned = torch.device(device).type == "cuda"
    if where == "device":
        return MemoryTape(floats, device)
    if where == "memory":
        return beside(MemoryTape(floats, pinned=pinned), device)
    return beside(FileTape(floats, folder, pinned=pinned), device)
