"""Batches made on threads of their own while the network computes."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")
DEPTH = 4


class Ahead(Generic[Batch]):
    """``Ahead(make)(step)`` is ``make(step)``; those of the next steps are begun meanwhile. What ``make``
    raises is raised for its own step.

    One thread does beside a network on the CPU, which needs the cores. A GPU eats more than one can make: on
    any other ``device`` there are as many as cores, and ``make`` must bear being called by several at once.
    """

    def __init__(self, make: Callable[[int], Batch], device: str = "cpu"):
        threads = 1 if device == "cpu" else os.cpu_count() or 1
        self._make, self._threads = make, ThreadPoolExecutor(threads)
        self._depth = max(DEPTH, 2 * threads)
        self._begun: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        for coming in range(step, step + self._depth):
            if coming not in self._begun:
                self._begun[coming] = self._threads.submit(self._make, coming)
        return self._begun.pop(step).result()
