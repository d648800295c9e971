"""``--jobs N``: the inputs of a batch by several processes, each with the model loaded once.

A process has one input at a time and gets the next one when it is done: nothing waits in a queue, and a long
recording holds up nobody. Its events come back through a pipe: when the first process falls behind, the
others wait. Results do not depend on who computed them.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Pipe, wait

from slyther_cli.errors import DeviceError, SlytherError
from slyther_cli.tasks.batch import Batch, Work, nobody
from slyther_cli.tasks.results import Result

TRIES = 2
"""How often an input is begun whose process dies."""
PATIENCE = 10.0  # seconds that a process has to clean up
LEAST_MEMORY = 1_000_000_000  # bytes that a process may plan with, where nobody set a limit


def pool(job: Batch, work: Sequence[Work], jobs: int) -> Iterator[tuple[Work, Result]]:
    """Every input of ``work`` with its result, as they are done. Raises what stops all of them."""
    todo, tried, workers = deque(work), dict.fromkeys((item.index for item in work), 0), list[_Worker]()
    shared = _shared(job, jobs)
    try:
        for number in range(min(jobs, len(todo))):
            workers.append(_Worker(shared, number))
        while todo or any(worker.item for worker in workers):
            for worker in workers:
                if todo and worker.item is None:
                    item = todo.popleft()
                    tried[item.index] += 1
                    worker.give(item)
            for connection in wait([w.connection for w in workers if w.item]):
                worker = next(w for w in workers if w.connection is connection)
                assert worker.item is not None
                item = worker.item
                try:
                    kind, message = worker.connection.recv()
                except (EOFError, OSError):
                    code = worker.end()
                    workers[workers.index(worker)] = _Worker(shared, worker.number)
                    if tried[item.index] < TRIES:
                        todo.appendleft(item)
                    else:
                        yield item, job._told(job.result(str(item.source), "failed", error=_died(item, code)))
                    continue
                if kind == "event":
                    job.tell(message)
                elif kind == "stop":
                    raise message
                else:
                    worker.item = None
                    yield item, message
        for worker in workers:
            worker.dismiss()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.end()


def _shared(job: Batch, jobs: int) -> Batch:
    """The job as each process gets it: its share of the cores, and of the free memory."""
    from slyther_cli.longform.plan import _available

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = job.memory_limit or max(LEAST_MEMORY, _available() // 2 // jobs)
    threads = job.threads or max(1, cores // jobs)
    return replace(job, tell=nobody, threads=threads, memory_limit=limit, jobs=1)


def _died(item: Work, code: int) -> SlytherError:
    name = item.source
    if code == -9:
        return DeviceError(
            f"{name}: the process that worked on it was killed {TRIES} times, as happens when memory runs "
            "out: fewer --jobs, or a smaller --memory-limit"
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return SlytherError(f"{name}: the process that worked on it ended {TRIES} times, {how}")


class _Worker:
    def __init__(self, job: Batch, number: int) -> None:
        self.number = number
        self.item: Work | None = None
        self.connection, theirs = Pipe()
        path = os.pathsep.join(p for p in sys.path if p)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slyther_cli.tasks.worker", str(theirs.fileno()), str(number)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=2 if sys.stderr is not None else subprocess.DEVNULL,  # standard output has results alone
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._send(job)

    def give(self, item: Work) -> None:
        self.item = item
        self._send(item)

    def dismiss(self) -> None:
        self._send(None)

    def _send(self, what: object) -> None:
        with contextlib.suppress(OSError):  # it died: reading will tell
            self.connection.send(what)

    def terminate(self) -> None:
        """Ask it to end, unless it is idle, and ends by itself."""
        if self.item is not None:
            self.process.terminate()
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
