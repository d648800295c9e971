"""How long a recording is, told by those who read it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np


class Counted:
    """``blocks()`` of float32 [n], read anew at every call. ``samples``: those that the last reading gave so
    far."""

    def __init__(self, blocks: Callable[[], Iterable[np.ndarray]]):
        self.blocks, self.samples = blocks, 0

    def __call__(self) -> Iterator[np.ndarray]:
        self.samples = 0
        for block in self.blocks():
            self.samples += len(block)
            yield block
