"""The inputs of a batch by several workers, each with the model loaded once: ``--jobs N`` processes here, or
the actors of ``cluster``.

A worker has one input at a time and gets the next one when it is done: nothing waits in a queue, and a long
recording holds up nobody. Its events come back while it works: when the first process falls behind, the
others wait. Results do not depend on who computed them.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Pipe, wait
from typing import Any, Protocol

from slyther_cli.errors import DeviceError
from slyther_cli.jobs.locks import abandoned
from slyther_cli.jobs.results import Result
from slyther_cli.jobs.work import Work, nobody
from slyther_cli.runtime import same_python

TRIES = 3
"""How often an input is begun whose worker is lost."""
PATIENCE = 10.0  # seconds that a process has to clean up
LEAST_MEMORY = 1_000_000_000  # bytes that a process may plan with, where nobody set a limit


class Lost(Exception):
    """A worker is gone, in the words of the exception."""


class Worker(Protocol):
    """``item``: what it works on. ``starting``: it cannot be given anything yet."""

    item: Work | None
    starting: bool

    def give(self, item: Work) -> None: ...

    def receive(self) -> tuple[str, Any]:
        """("events", list), ("result", Result), ("stop", error) or ("started", None); raises Lost."""


class Pool(Protocol):
    def start(self, number: int) -> Any: ...

    def ready(self, workers: list[Any]) -> list[Any]:
        """Those that have something to say; waits until there is one."""

    def stop(self, workers: list[Any]) -> None:
        """Let them go: those that work stop, and leave nothing half done."""


def work_through(job: Any, work: Sequence[Work], pool: Pool, count: int) -> Iterator[tuple[Work, Result]]:
    """Every input with its result, as they are done. Raises what stops all of them."""
    todo, tried, workers = deque(work), dict.fromkeys((item.index for item in work), 0), list[Any]()
    idle_losses = 0  # workers lost before they did anything, with none between that started
    try:
        for number in range(min(count, len(todo))):
            workers.append(pool.start(number))
        while todo or any(worker.item for worker in workers):
            for worker in workers:
                if todo and worker.item is None and not worker.starting:
                    item = todo.popleft()
                    tried[item.index] += 1
                    worker.give(item)
            for worker in pool.ready([w for w in workers if w.item or w.starting]):
                try:
                    kind, message = worker.receive()
                except Lost as lost:
                    item = worker.item
                    workers[workers.index(worker)] = pool.start(workers.index(worker))
                    if item is None:  # no input is to blame
                        idle_losses += 1
                        if idle_losses >= TRIES * count:
                            raise DeviceError(f"the processes do not start: {lost}") from None
                    elif tried[item.index] < TRIES:
                        todo.appendleft(replace(item, again=True))
                    else:
                        if isinstance(item.outputs, dict):
                            abandoned([*item.outputs.values()])
                        error = DeviceError(
                            f"{item.source}: the process that worked on it was lost {TRIES} times, {lost}"
                        )
                        yield item, job._report(job.result(str(item.source), "failed", error=error))
                    continue
                if kind == "started":
                    idle_losses = 0
                elif kind == "events":
                    for event in message:
                        job.tell(event)
                elif kind == "stop":
                    raise message
                elif kind == "result":
                    item, worker.item = worker.item, None
                    yield item, message
    finally:
        pool.stop(workers)


class Processes:
    """Processes of this machine (``worker``)."""

    def __init__(self, job: Any, count: int) -> None:
        from slyther_cli.runtime import available_memory, cores

        limit = job.options.memory_limit or max(LEAST_MEMORY, available_memory() // 2 // count)
        threads = job.options.threads or max(1, cores() // count)
        self.job = replace(job, tell=nobody).having(threads=threads, memory_limit=limit, jobs=1)

    def start(self, number: int) -> _Process:
        return _Process(self.job, number)

    def ready(self, workers: list[_Process]) -> list[_Process]:
        ready = wait([worker.connection for worker in workers])
        return [worker for worker in workers if worker.connection in ready]

    def stop(self, workers: list[_Process]) -> None:
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.end()


class _Process:
    def __init__(self, job: Any, number: int) -> None:
        self.item: Work | None = None
        self.starting = True
        self.connection, theirs = Pipe()
        command, env = same_python("slyther_cli.jobs.worker", str(theirs.fileno()), str(number))
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=2 if sys.stderr is not None else subprocess.DEVNULL,  # standard output has results alone
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._send(job)

    def give(self, item: Work) -> None:
        self.item = item
        self._send(item)

    def receive(self) -> tuple[str, Any]:
        try:
            kind, message = self.connection.recv()
            if kind == "started":
                self.starting = False
            return kind, message
        except (EOFError, OSError):
            code = self.end()
        if code == -9:
            raise Lost("killed, as happens when memory runs out: fewer --jobs, or a smaller --memory-limit")
        raise Lost(f"by signal {-code}" if code < 0 else f"with exit code {code}")

    def _send(self, what: object) -> None:
        with contextlib.suppress(OSError):  # it died: reading will tell
            self.connection.send(what)

    def stop(self) -> None:
        if self.item is not None or self.starting:
            self.process.terminate()
        else:
            self._send(None)
        with contextlib.suppress(OSError):
            self.connection.close()

    def end(self) -> int:
        """Wait until it has ended; its exit code."""
        with contextlib.suppress(OSError):
            self.connection.close()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
