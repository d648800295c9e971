"""Batches made beside the network while it computes, on threads or in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

Batch = TypeVar("Batch")
DEPTH = 4
LAST = 2**31  # steps that no run reaches


class Ahead(Generic[Batch]):
    """``Ahead(make)(step)`` is ``make(step)``; those of the next steps are begun meanwhile. What ``make``
    raises is raised for its own step.

    One thread does beside a network on the CPU, which needs the cores. A GPU eats more than one can make: on
    any other ``device`` there are as many as cores, and ``make`` must bear being called by several at once.
    With ``processes`` they are processes there: Python runs one thread at a time, and it is the network's
    that has to launch kernels. ``make`` then must not touch the device and has to give tensors.
    """

    def __init__(self, make: Callable[[int], Batch], device: str = "cpu", processes: bool = False):
        self._make, self._processes = make, processes and device != "cpu"
        threads = 1 if device == "cpu" else os.cpu_count() or 1
        self._threads = ThreadPoolExecutor(threads)
        self._depth = max(DEPTH, 2 * threads)
        self._begun: dict[int, Future[Batch]] = {}
        self._coming: Iterator[Batch] = iter(())
        self._next = -1

    def __call__(self, step: int) -> Batch:
        if self._processes:
            return self._from_processes(step)
        for coming in range(step, step + self._depth):
            if coming not in self._begun:
                self._begun[coming] = self._threads.submit(self._make, coming)
        return self._begun.pop(step).result()

    def _from_processes(self, step: int) -> Batch:
        if step != self._next:
            self._coming = iter(
                DataLoader(
                    _Steps(self._make),
                    batch_size=None,
                    sampler=range(step, LAST),
                    num_workers=max(1, (os.cpu_count() or 1) - 2),
                    multiprocessing_context="fork",  # ``make`` holds the network, which cannot be sent
                    pin_memory=True,
                )
            )
        self._next = step + 1
        return next(self._coming)


class _Steps(Dataset):
    """The steps as torch's loader wants them."""

    def __init__(self, make: Callable[[int], object]):
        self.make = make

    def __getitem__(self, step: int) -> object:
        return self.make(step)
