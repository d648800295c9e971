"""Tapes: rows of float32 that one sweep writes and the next one reads, in memory or in a file.

A file tape reads and writes with pread/pwrite into the caller's buffers, so its pages belong to the kernel's cache
and not to the process: memory stays constant whatever the length.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from slyther_cli.errors import OutputError

CHUNK = 1 << 16  # rows of one allocation of a memory tape


class MemoryTape:
    """[rows, width] float32 that grows in chunks. ``write`` and ``read`` take any range that was written before or follows."""

    def __init__(self, width: int):
        self.width = width
        self.chunks: list[Tensor] = []

    def write(self, start: int, rows: Tensor) -> None:
        """rows [n, width] at ``start``."""
        for chunk, at, offset, n in self._pieces(start, len(rows)):
            chunk[at : at + n].copy_(rows[offset : offset + n])

    def read(self, start: int, stop: int) -> Tensor:
        """[stop - start, width], a copy."""
        out = torch.empty(stop - start, self.width)
        for chunk, at, offset, n in self._pieces(start, stop - start):
            out[offset : offset + n].copy_(chunk[at : at + n])
        return out

    def _pieces(self, start: int, count: int):
        done = 0
        while done < count:
            index, at = divmod(start + done, CHUNK)
            while index >= len(self.chunks):
                self.chunks.append(torch.empty(CHUNK, self.width))
            n = min(count - done, CHUNK - at)
            yield self.chunks[index], at, done, n
            done += n

    def close(self) -> None:
        self.chunks.clear()


class FileTape:
    """The same in an unnamed temporary file of ``folder``; it is gone when the process ends, however it ends.

    Raises :class:`OutputError` when the folder cannot be written or the disk is full.
    """

    def __init__(self, width: int, folder: Path):
        self.width = width
        self.row_bytes = 4 * width
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = tempfile.TemporaryFile(dir=folder, prefix="slyther-tape-", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"{folder}: cannot hold the work file: {error.strerror}") from None
        self.folder = folder

    def write(self, start: int, rows: Tensor) -> None:
        data = memoryview(rows.contiguous().numpy()).cast("B")
        offset = start * self.row_bytes
        try:
            while data:
                n = os.pwrite(self.file.fileno(), data, offset)
                data, offset = data[n:], offset + n
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot write the work file: {error.strerror}") from None

    def read(self, start: int, stop: int) -> Tensor:
        out = torch.empty(stop - start, self.width)
        view, offset = memoryview(out.numpy()).cast("B"), start * self.row_bytes
        while view:
            n = os.preadv(self.file.fileno(), [view], offset)
            if n == 0:
                raise OutputError(f"{self.folder}: the work file ends before it should")
            view, offset = view[n:], offset + n
        return out

    def close(self) -> None:
        self.file.close()
