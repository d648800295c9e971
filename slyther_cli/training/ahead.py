"""Batches made on a thread of their own while the network computes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")
DEPTH = 4


class Ahead(Generic[Batch]):
    """``Ahead(make)(step)`` is ``make(step)``; that of the next steps is begun meanwhile. What ``make``
    raises is raised for its own step."""

    def __init__(self, make: Callable[[int], Batch]):
        self._make, self._thread = make, ThreadPoolExecutor(1)
        self._begun: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        for coming in range(step, step + DEPTH):
            if coming not in self._begun:
                self._begun[coming] = self._thread.submit(self._make, coming)
        return self._begun.pop(step).result()
