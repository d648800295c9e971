"""The bytes of an open file, wherever they are asked for, without mapping it: a mapped file that somebody
cuts short while it is read kills the process."""

import os

BLOCK = 1 << 18


class Contents:
    """Like ``bytes`` as far as slices, ``find`` and the length at the beginning go. What is no
    longer there is empty. Raises OSError when the file cannot be read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._begin, self._held = 0, b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: slice) -> bytes:
        """``contents[start:stop]``, 0 <= start."""
        start, stop = places.start, places.stop
        low = start - self._begin
        if not 0 <= low <= stop - self._begin <= len(self._held):
            self._begin, low = start, 0
            self._held = os.pread(self._descriptor, max(BLOCK, stop - start), start)
        return self._held[low : low + stop - start]

    def find(self, what: bytes, start: int) -> int:
        """The first place of ``what`` from ``start`` on, or -1."""
        while start < self._size:
            low = start - self._begin
            if not 0 <= low <= len(self._held) - len(what):
                self[start : start + BLOCK]
                low = 0
            found = self._held.find(what, low)
            if found >= 0:
                return self._begin + found
            after = self._begin + len(self._held) - len(what) + 1
            if after <= start:
                return -1
            start = after
        return -1
