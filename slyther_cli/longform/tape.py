"""Tapes: what one sweep writes and the next one reads, tile by tile, in memory or in a file.

A tape holds for every tile some tensors [frames, columns] float32, one behind the other, in a slot of
constant size. ``store(sweep, ...)`` says which sweep writes and ``load(sweep, ...)`` which one wrote. A
memory tape overwrites in place and lends its own memory. A file tape may be given a ``gap``: then even sweeps
write from slot 0 on, odd ones from slot ``gap`` on, so that each walks towards free slots, and what it read
last is overwritten only ``gap`` tiles later:

    sweep 0 ->   |0 1 2 3 4 5 . . |
    sweep 1 <-   |. . 0 1 2 3 4 5 |     tile i of sweep 0 is overwritten by tile i - gap of sweep 1

That is what lets a killed job go on (see ``journal``) with one tape and a gap instead of two tapes.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
import xxhash
from torch import Tensor

from slyther_cli.errors import OutputError

CHUNK_BYTES = 64 << 20  # a memory tape grows by so much
SEAL = struct.Struct("<QQQQ")  # behind a tile in a file: sweep, index, bytes, their XXH3
SEAL_ROOM = 4096  # bytes of a slot, so that slots begin on a page


class TapeDamaged(OutputError):
    """The file does not give back what was written to it."""


class Tape(Protocol):
    """What the engine asks of a tape; see :class:`MemoryTape`. ``ahead``: how many loads are worth expecting
    before they are due (``in_order``).
    """

    @property
    def ahead(self) -> int: ...

    def store(self, sweep: int, index: int, *parts: Tensor) -> None: ...

    def expect(self, sweep: int, index: int, frames: int, *columns: int) -> None: ...

    def load(self, sweep: int, index: int, frames: int, *columns: int) -> list[Tensor]: ...

    def close(self) -> None: ...


def in_order(tape: Tape, places: Iterable[tuple[int, ...]]) -> Iterator[list[Tensor]]:
    """``tape.load`` of every one of ``places`` (sweep, index, frames, *columns), in turn. Those to come are
    expected as early as the tape can use that, so they must be stored before the walk begins.
    """
    expected: deque[tuple[int, ...]] = deque()
    for place in places:
        tape.expect(*place)
        expected.append(place)
        if len(expected) > tape.ahead:
            yield tape.load(*expected.popleft())
    while expected:
        yield tape.load(*expected.popleft())


class MemoryTape:
    """Slots of ``tile_floats`` floats in memory of the system's own, which goes back to it at ``close``.

    ``device`` "cuda..." keeps them there instead; ``pinned`` in host memory that such a device can copy from
    and to by itself.
    """

    gap = ahead = 0

    def __init__(self, tile_floats: int, device: torch.device | str = "cpu", pinned: bool = False):
        self.floats, self.device, self.pinned = tile_floats, torch.device(device), pinned
        self.slots: list[Tensor] = []

    def store(self, sweep: int, index: int, *parts: Tensor) -> None:
        """``parts`` [frames, columns], each, of tile ``index``."""
        while index >= len(self.slots):
            self.slots += _pages(chunk_slots(self.floats) * self.floats, self.device, self.pinned).split(
                self.floats
            )
        for place, part in zip(_split(self.slots[index], parts), parts, strict=True):
            place.copy_(part, non_blocking=self.pinned)

    def expect(self, sweep: int, index: int, frames: int, *columns: int) -> None:
        """Nothing to prepare."""

    def load(self, sweep: int, index: int, frames: int, *columns: int) -> list[Tensor]:
        """Tensors [frames, c] for c in ``columns``: the tape's own memory, lent until tile ``index`` is
        stored anew.
        """
        return _cut(self.slots[index], frames, columns)

    def close(self) -> None:
        self.slots.clear()


class FileTape:
    """The same in a file, through the kernel's page cache and buffers of one tile: the process does not grow.

    In ``folder`` it has no name and is gone when the process ends, however it ends; or it is the open file
    of the descriptor ``handle``, which is closed with it. ``pinned``: what is loaded lies in pinned memory.
    Raises :class:`OutputError` when it cannot be written or the disk is full, :class:`TapeDamaged` when a
    tile is not the one that was stored.
    """

    ahead = 0

    def __init__(
        self, tile_floats: int, folder: Path, handle: int | None = None, gap: int = 0, pinned: bool = False
    ):
        self.slot_bytes, self.gap, self.pinned, self.folder = slot_bytes(tile_floats), gap, pinned, folder
        self._last, self._syncing = 0, threading.Lock()
        try:
            if handle is None:
                folder.mkdir(parents=True, exist_ok=True)
                self.file = tempfile.TemporaryFile(dir=folder, prefix="slyther-tape-", buffering=0)  # noqa: SIM115
            else:
                self.file = os.fdopen(handle, "r+b", buffering=0)
        except OSError as error:
            raise OutputError(f"{folder}: cannot hold the work file: {error.strerror}") from None

    def store(self, sweep: int, index: int, *parts: Tensor) -> None:
        """As :meth:`MemoryTape.store`."""
        offset = self._slot(sweep, index)
        blocks = [_bytes(_on_host(part)) for part in parts]
        try:
            for data in (*blocks, memoryview(_seal(sweep, index, blocks))):
                while data:
                    n = os.pwrite(self.file.fileno(), data, offset)
                    data, offset = data[n:], offset + n
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write the work file: {error.strerror}") from None

    def expect(self, sweep: int, index: int, frames: int, *columns: int) -> None:
        """Nothing to do: each load has the kernel read the next one ahead."""

    def load(self, sweep: int, index: int, frames: int, *columns: int) -> list[Tensor]:
        """As :meth:`MemoryTape.load`, but the caller's to keep."""
        out = torch.empty(frames * sum(columns), pin_memory=self.pinned)
        data, seal = _bytes(out), bytearray(SEAL.size)
        try:
            self._read([data, memoryview(seal)], self._slot(sweep, index))
            self._expect(2 * index - self._last, sweep, len(data) + SEAL.size)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot read the work file: {error.strerror}") from None
        if seal != _seal(sweep, index, [data]):
            raise TapeDamaged(f"{self.folder}: the work file does not hold what was written to it")
        self._last = index
        return _cut(out, frames, columns)

    def _read(self, views: list[memoryview], offset: int) -> None:
        """Fill ``views``, one behind the other; from the end of the file on they are left as they are."""
        while views:
            n = os.preadv(self.file.fileno(), views, offset)
            offset += n
            if n == 0:
                return
            while views and n >= len(views[0]):
                n -= len(views.pop(0))
            if views:
                views[0] = views[0][n:]

    def sync(self) -> None:
        """Everything stored before the call is on the disk after it."""
        try:
            with self._syncing:
                os.fdatasync(self.file.fileno())
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write the work file: {error.strerror}") from None

    def size(self) -> int:
        """Bytes."""
        return os.fstat(self.file.fileno()).st_size

    def _slot(self, sweep: int, index: int) -> int:
        return (index + (self.gap if sweep % 2 else 0)) * self.slot_bytes

    def _expect(self, index: int, sweep: int, length: int) -> None:
        """Have the next tile in walking order read ahead; the kernel does so by itself to the right only."""
        if index >= 0 and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self.file.fileno(), self._slot(sweep, index), length, os.POSIX_FADV_WILLNEED)

    def close(self) -> None:
        with self._syncing:  # a journal's thread may be at it
            self.file.close()


def slot_bytes(tile_floats: int) -> int:
    """What a tile takes in a file."""
    return 4 * tile_floats + SEAL_ROOM


def _seal(sweep: int, index: int, blocks: list[memoryview]) -> bytes:
    total = xxhash.xxh3_64()
    for block in blocks:
        total.update(block)
    return SEAL.pack(sweep, index, sum(map(len, blocks)), total.intdigest())


def chunk_slots(tile_floats: int) -> int:
    """Slots by which a memory tape grows."""
    return max(1, CHUNK_BYTES // (4 * tile_floats))


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a dense tensor."""
    array: Any = tensor.numpy()
    return memoryview(array).cast("B")


def _on_host(part: Tensor) -> Tensor:
    """Dense, its values there. From a device by way of pinned memory, on the stream in use."""
    host = part.detach().to("cpu", non_blocking=True)
    if part.is_cuda:
        torch.cuda.current_stream(part.device).synchronize()
    return host.contiguous()


def _pages(floats: int, device: torch.device, pinned: bool) -> Tensor:
    """Memory past the allocator, whose freed blocks would stay with the process (see ``runtime``); in huge
    pages, which are much faster to get, and taken from the system only when they are written to.
    """
    if pinned or device.type != "cpu" or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.empty(floats, device=device, pin_memory=pinned)
    pages = mmap.mmap(-1, 4 * floats, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            pages.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(pages, dtype=torch.float32)


def _split(slot: Tensor, parts: tuple[Tensor, ...]) -> list[Tensor]:
    return _cut(slot, len(parts[0]), tuple(part.shape[1] for part in parts))


def _cut(flat: Tensor, frames: int, columns: tuple[int, ...]) -> list[Tensor]:
    """[floats] -> [frames, c] for c in ``columns``, one behind the other."""
    out, at = [], 0
    for c in columns:
        out.append(flat[at : at + frames * c].view(frames, c))
        at += frames * c
    return out
