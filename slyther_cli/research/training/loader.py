"""Batches made beside the network while it computes, on threads or in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

from slyther_cli import runtime

Batch = TypeVar("Batch")
DEPTH = 4
LAST = 2**31  # a step that no run reaches


class BatchLoader(Generic[Batch]):
    """``BatchLoader(make)(step)`` is ``make(step)``; those of the next steps are begun meanwhile. What
    ``make`` raises is raised for its own step.

    One thread does beside a network on the CPU, which needs the cores. A GPU eats more than one can make: on
    any other ``device`` there are as many as cores, and ``make`` must bear being called by several at once.
    With ``processes`` they are processes there, where the system can fork: Python runs one thread at a time,
    and it is the network's that has to launch kernels. ``make`` then must leave the device alone and give
    tensors.
    """

    def __init__(self, make: Callable[[int], Batch], device: str = "cpu", processes: bool = False):
        self._source: _Threads[Batch] | _Processes[Batch]
        if processes and device != "cpu" and "fork" in multiprocessing.get_all_start_methods():
            self._source = _Processes(make)
        else:
            self._source = _Threads(make, 1 if device == "cpu" else runtime.cores())

    def __call__(self, step: int) -> Batch:
        return self._source.batch(step)


class _Threads(Generic[Batch]):
    def __init__(self, make: Callable[[int], Batch], threads: int):
        self._make, self._pool = make, ThreadPoolExecutor(threads)
        self._depth = max(DEPTH, 2 * threads)
        self._begun: dict[int, Future[Batch]] = {}

    def batch(self, step: int) -> Batch:
        for coming in range(step, step + self._depth):
            if coming not in self._begun:
                self._begun[coming] = self._pool.submit(self._make, coming)
        return self._begun.pop(step).result()


class _Processes(Generic[Batch]):
    """Two cores are left for the network and for what pins batches in memory."""

    def __init__(self, make: Callable[[int], Batch]):
        self._make, self._next = make, -1
        self._coming: Iterator[Batch] = iter(())

    def batch(self, step: int) -> Batch:
        if step != self._next:
            loader = DataLoader(
                _Steps(self._make),
                batch_size=None,
                sampler=range(step, LAST),
                num_workers=max(1, runtime.cores() - 2),
                multiprocessing_context="fork",  # ``make`` holds the network, which cannot be sent
                pin_memory=True,
            )
            self._coming = iter(loader)
        self._next = step + 1
        return next(self._coming)


class _Steps(Dataset):
    """The steps as torch's loader wants them."""

    def __init__(self, make: Callable[[int], object]):
        self.make = make

    def __getitem__(self, step: int) -> object:
        return self.make(step)
