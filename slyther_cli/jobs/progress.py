"""How far a whole batch is: how many inputs are done with, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

Event = dict[str, Any]


class Overall:
    """Passes events on to ``tell``; those of progress also get how far the batch is.

    ``seconds``: the length of each input by its name, 0 where it is not known before it is opened.
    """

    def __init__(self, tell: Callable[[Event], None], seconds: Mapping[str, float]) -> None:
        self.tell, self._lengths = tell, dict(seconds)
        self._running: dict[str, tuple[float, float, float]] = {}  # length, fraction, began
        self._waiting = sum(self._lengths.values())
        self._over = self._worked = 0.0  # seconds of sound: of inputs that are done; computed in this run
        self._files, self._started = 0, 0.0

    def __call__(self, event: Event) -> None:
        kind, name = event["event"], event.get("file")
        if kind == "progress":
            self._begin(event)
            event = event | self.state()
        elif kind in ("file_done", "error") and name is not None:
            self._end(name, event.get("status") == "done")
        self.tell(event)

    def state(self) -> Event:
        """The fields of progress that are of the whole batch."""
        here = sum(length * fraction for length, fraction, _ in self._running.values())
        new = sum(length * (fraction - began) for length, fraction, began in self._running.values())
        left = max(0.0, self._waiting + sum(length for length, _, _ in self._running.values()) - here)
        done, worked, wall = self._over + here, self._worked + new, time.monotonic() - self._started
        return {
            "files_done": self._files,
            "batch_fraction": done / (done + left) if done + left > 0 else 0.0,
            "batch_left_seconds": round(left * wall / worked, 1) if worked > 0 else None,
        }

    def _begin(self, event: Event) -> None:
        if not self._started:
            self._started = time.monotonic() - event["wall_seconds"]
        if event["file"] not in self._running:
            self._waiting -= self._lengths.pop(event["file"], 0.0)
        self._running[event["file"]] = (event["seconds"], event["fraction"], event["began"])

    def _end(self, name: str, done: bool) -> None:
        self._files += 1
        self._waiting -= self._lengths.pop(name, 0.0)
        length, _, began = self._running.pop(name, (0.0, 0.0, 0.0))
        if done:
            self._over += length
            self._worked += length * (1 - began)
