"""``--ray ADDRESS``: the inputs of a batch by actors of a Ray cluster, each with the model loaded once.

Every node has slyther installed, and sees the recordings, the output folder and the current folder under the
same paths. What an actor tells comes back as a stream of lists of events, with a bound on how many wait. An
actor that is lost, with its node or without, is replaced, and its input begun again elsewhere: with
``--resume``, and a ``--work-dir`` that all nodes see, inside the recording.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import slyther_cli
from slyther_cli import __version__
from slyther_cli.errors import DeviceError, SlytherError, UsageError
from slyther_cli.jobs.pool import LEAST_MEMORY, PATIENCE, Lost
from slyther_cli.jobs.work import Work, nobody
from slyther_cli.jobs.worker import portable

LOCAL = "local"
WAITING = 64  # lists of events of an actor that nobody has fetched
CONNECT = 20.0  # seconds to find a cluster
EVERY = 0.2  # seconds between two lists
PROGRESS_EVERY = 0.5  # seconds


class _Stopped(BaseException):
    """The command is over."""


class JobActor:
    """Ray actor: works on the inputs of one job and streams their events."""

    def __init__(self, job: Any, folder: str, version: str) -> None:
        if version != __version__:
            raise UsageError(f"a node of the cluster has slyther {__version__}, not {version}")
        try:
            os.chdir(folder)
        except OSError as error:
            raise UsageError(f"a node of the cluster does not have {folder}: {error.strerror}") from None
        if job.options.memory_limit is None:
            from slyther_cli.runtime import available_memory

            beside = max(1, (os.cpu_count() or 1) // (job.options.threads or 1))
            job = job.having(memory_limit=max(LEAST_MEMORY, available_memory() // 2 // beside))
        self.job, self.stopped, self._last = job, False, 0.0
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        job.tell = self._tell

    def started(self) -> None:
        """Answers when the actor has a place."""

    def stop(self) -> None:
        self.stopped = True

    def _tell(self, event: dict[str, Any]) -> None:
        if self.stopped:
            raise _Stopped
        if event["event"] in ("progress", "live"):
            if time.monotonic() - self._last < PROGRESS_EVERY:
                return
            self._last = time.monotonic()
        if isinstance(event.get("exception"), Exception):
            event = {**event, "exception": portable(event["exception"])}
        self.events.put(event)

    def work(self, item: Work) -> Iterator[tuple[str, Any]]:
        """What ``pool.Worker.receive`` gives, until the input is done."""
        found: list[tuple[str, Any]] = []

        def run() -> None:
            try:
                result = self.job.one(item)
                if result.error is not None:
                    object.__setattr__(result, "error", portable(result.error))
                found.append(("result", result))
            except SlytherError as error:  # what stops all of them
                found.append(("stop", error))
            except BaseException as error:
                found.append(("stop", DeviceError(f"{item.source}: {type(error).__name__}: {error}")))
            finally:
                self.events.put(None)

        thread = threading.Thread(target=run)
        thread.start()
        over = False
        while not over:
            events, end = [], time.monotonic() + EVERY
            while not over and (left := end - time.monotonic()) > 0:
                with contextlib.suppress(queue.Empty):
                    event = self.events.get(timeout=left)
                    over = event is None
                    events += [] if over else [event]
            if events:
                yield "events", events
        thread.join()
        yield found[0]


class Actors:
    """A pool for ``pool.work_through``. ``share``: of a GPU, for each actor; None: one where there are GPUs
    and the device does not forbid it. Raises UsageError: no Ray; DeviceError: no such cluster."""

    def __init__(self, job: Any, address: str, share: float | None) -> None:
        try:
            import ray
        except ImportError:
            raise UsageError("--ray needs the package ray: pip install 'slyther-cli[ray]'") from None
        if share is not None and share > 1 and share != int(share):
            raise UsageError(f"--ray-gpus {share:g}: beyond one, Ray gives whole GPUs only")
        self.ray = ray
        local = address == LOCAL
        path = {"env_vars": {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}} if local else {}
        how: dict[str, Any] = {"include_dashboard": False} if local else {"address": address}
        if local:
            os.environ.setdefault("RAY_worker_niceness", "0")  # as the processes of --jobs
        if not local:
            _check_listening(address)
        stopping = signal.getsignal(signal.SIGTERM)
        try:
            # the folder that its workers look for modules in first
            with contextlib.chdir(Path(slyther_cli.__file__).parents[1]):
                ray.init(**how, runtime_env=path, logging_level="error", log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            why = " ".join(str(error).split())[:200]
            raise DeviceError(f"no Ray cluster at {address}: {why}") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, stopping)  # Ray sets its own
        self.threads = job.options.threads or 1
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = job.options.device != "cpu" and any(node.get("GPU") for node in nodes)
        self.share = (1.0 if gpus else 0.0) if share is None else share
        self.count = sum(self._fitting(node) for node in nodes)
        if not self.count:
            ray.shutdown()
            if self.share and not any(node.get("GPU") for node in nodes):
                raise DeviceError("no node of the Ray cluster has a GPU: leave --ray-gpus out")
            most = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
            raise DeviceError(
                f"no node of the Ray cluster has room: the largest has {most.get('CPU', 0):g} CPUs and "
                f"{most.get('GPU', 0):g} GPUs: fewer --threads, or a smaller --ray-gpus"
            )
        shared = replace(job, tell=nobody).having(threads=self.threads, jobs=1, ray=None)
        self._job, self._folder = ray.put(shared), os.getcwd()
        self._class = ray.remote(JobActor)

    def _fitting(self, node: dict[str, float]) -> int:
        """How many actors a node has room for; a share of a GPU is of one and the same."""
        cpus = int(node.get("CPU", 0.0) // self.threads)
        if not self.share:
            return cpus
        gpus = node.get("GPU", 0.0)
        return min(cpus, int(gpus // self.share) if self.share >= 1 else int(gpus) * int(1 / self.share))

    def start(self, number: int) -> _Actor:
        made = self._class.options(
            num_cpus=self.threads, num_gpus=self.share, max_concurrency=2, max_restarts=0
        ).remote(self._job, self._folder, __version__)
        return _Actor(self.ray, made)

    def ready(self, workers: list[_Actor]) -> list[_Actor]:
        waited = [worker.waited for worker in workers]
        found, _ = self.ray.wait(waited, num_returns=1, fetch_local=False)
        return [worker for worker, on in zip(workers, waited, strict=True) if any(on is f for f in found)]

    def stop(self, workers: list[_Actor]) -> None:
        busy = [worker for worker in workers if worker.item is not None]
        with contextlib.suppress(Exception):  # whatever a broken cluster raises: they are let go
            stops = [worker.actor.stop.remote() for worker in busy]
            self.ray.wait(stops, num_returns=len(stops), timeout=PATIENCE) if stops else None
            end = time.monotonic() + PATIENCE
            for worker in busy:
                with contextlib.suppress(Lost, StopIteration):
                    while time.monotonic() < end and worker.receive()[0] == "events":
                        pass
        for worker in workers:
            with contextlib.suppress(Exception):
                self.ray.kill(worker.actor)
        self.ray.shutdown()


def _check_listening(address: str) -> None:
    """Ray itself takes minutes to tell. Raises DeviceError when nobody answers at HOST:PORT."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT).close()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise DeviceError(f"no Ray cluster at {address}: {why.lower()}") from None


class _Actor:
    def __init__(self, ray: Any, actor: Any) -> None:
        self.ray, self.actor = ray, actor
        self.item: Work | None = None
        self.starting = True
        self.waited = actor.started.remote()

    def give(self, item: Work) -> None:
        self.item = item
        self.waited = self.actor.work.options(
            num_returns="streaming", _generator_backpressure_num_objects=WAITING
        ).remote(item)

    def receive(self) -> tuple[str, Any]:
        try:
            if self.starting:
                self.ray.get(self.waited)
                self.starting = False
                return "started", None
            return self.ray.get(next(self.waited))
        except self.ray.exceptions.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, SlytherError) else None
            why = " ".join(str(error).split())[-200:]
            return "stop", cause or DeviceError(f"the Ray actor failed: {why}")
        except self.ray.exceptions.ActorDiedError as error:
            cause = getattr(error, "cause", None)
            text = " ".join(str(error).split())
            if "UsageError" in text:  # it refused to begin
                return "stop", UsageError(text.rpartition("UsageError:")[2].strip() or str(cause))
            raise Lost("with its Ray actor") from None
        except (self.ray.exceptions.RayError, StopIteration):
            raise Lost("with its Ray actor") from None
