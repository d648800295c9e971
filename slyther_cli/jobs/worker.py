"""A process that works for ``pool``: ``python -m slyther_cli.jobs.worker FD NUMBER``.

It gets a job and says that it has started; then it gets one input after the other, and sends back events and
results. It ends when it is told to, when it gets SIGTERM, and when nobody is there any more.
"""

from __future__ import annotations

import pickle
import signal
import sys
import traceback
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from slyther_cli.errors import SlytherError


def portable(error: Exception) -> Exception:
    """The error as another process can have it, with its traceback as a note."""
    try:
        if not isinstance(error, SlytherError):
            error.add_note("".join(traceback.format_exception(error)).rstrip())
        pickle.loads(pickle.dumps(error))
        return error
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")


def share(job: Any, number: int) -> None:
    """On a machine with several GPUs every process takes the next one."""
    asked = job.options.device
    if asked not in ("auto", "cuda"):
        return
    from slyther_cli.jobs.setup import pick_device

    if pick_device(asked) == "cuda":
        import torch

        if (count := torch.cuda.device_count()) > 1:
            job.options = replace(job.options, device=f"cuda:{number % count}")


def serve(connection: Connection, number: int) -> None:
    job = connection.recv()

    def tell(event: dict[str, Any]) -> None:
        if isinstance(event.get("exception"), Exception):
            event = {**event, "exception": portable(event["exception"])}
        connection.send(("events", [event]))

    job.tell = tell
    try:
        share(job, number)
        connection.send(("started", None))
        while (item := connection.recv()) is not None:
            result = job.one(item)
            if result.error is not None:
                object.__setattr__(result, "error", portable(result.error))
            connection.send(("result", result))
    except SlytherError as error:  # what stops all of them
        connection.send(("stop", error))


def _stop(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main(arguments: list[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the first process decides
    signal.signal(signal.SIGTERM, _stop)
    try:
        serve(Connection(int(arguments[0])), int(arguments[1]))
    except (EOFError, ConnectionError):  # nobody is there any more
        sys.exit(1)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends already


if __name__ == "__main__":
    main(sys.argv[1:])
