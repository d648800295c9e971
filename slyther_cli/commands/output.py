"""How slyther speaks: stdout is data, stderr is words.

Data are the paths of results, tables that were asked for, or with ``--json`` one object a line, each with
``"schema": 1`` and an ``"event"`` (``events`` has them all). Words are coloured, and progress is drawn, only
on a terminal that can (not with TERM=dumb). NO_COLOR keeps words plain, FORCE_COLOR colours them anywhere.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from slyther_cli import __version__
from slyther_cli.commands.bar import Bar
from slyther_cli.errors import escaped, printable
from slyther_cli.jobs.results import RESAMPLED

SCHEMA = 1
JSON_PROGRESS_EVERY = 1.0  # seconds
BAR_EVERY = 0.1
FIRST_WORDS, WORDS_EVERY = 5.0, 60.0  # how far a job is, with -v where no bar can be drawn


class StdoutError(BrokenPipeError):
    """Nothing more can be written to stdout, because a disk is full: it ends a job as a broken pipe does."""


json_asked = False
"""Whether this process prints JSON lines; ``app`` asks when it has an error to tell."""


def data(text: str) -> None:
    """A line on stdout, at once. Raises BrokenPipeError when nobody reads it any more."""
    if sys.stdout is None:
        return
    if not text.isprintable() and sys.stdout.isatty():
        text = escaped(text)
    as_it_is(text + "\n")


def as_it_is(text: str) -> None:
    """Text on stdout, at once. Raises BrokenPipeError when nobody reads it any more, StdoutError when it
    cannot be written."""
    if sys.stdout is None:
        return
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError:  # a file name that is no text, on its way to another program
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(text))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StdoutError(error.errno, error.strerror) from None


def json_line(event: str, **details: Any) -> None:
    """One JSON object on stdout. Numbers that are not finite, which JSON does not have, are null."""
    line: dict[str, Any] = {"schema": SCHEMA, "event": event}
    if event == "start":
        line["version"] = __version__
    line |= details
    try:
        text = json.dumps(line, default=str, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(line), default=str)
    data(text)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def words(text: str) -> None:
    """Lines on stderr, control characters escaped. A stderr that is gone is no reason to stop."""
    _write_words("\n".join(escaped(line) for line in text.split("\n")))


def _write_words(text: str) -> None:
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def error_line(message: str) -> None:
    """``slyther: error: ...`` on stderr, in one line."""
    mark = "error:"
    if can_colour(sys.stderr):
        mark = "\033[1;31merror:\033[0m"
    _write_words(f"slyther: {mark} {printable(' '.join(message.split()))}")


def can_draw(stream: Any) -> bool:
    """Whether the stream is a terminal that understands colours and moves."""
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    except ValueError:  # closed
        return False


def can_colour(stream: Any) -> bool:
    """Whether what is written there may have colours: see the head of this file."""
    if os.environ.get("NO_COLOR"):
        return False
    return os.environ.get("FORCE_COLOR", "") not in ("", "0") or can_draw(stream)


def debugging() -> bool:
    """Whether SLYTHER_DEBUG asks for tracebacks."""
    return os.environ.get("SLYTHER_DEBUG", "") not in ("", "0")


def traceback_of(error: BaseException) -> None:
    """The traceback on stderr, if SLYTHER_DEBUG asks for it; else how to get it."""
    if debugging():
        import traceback

        words("".join(traceback.format_exception(error)).rstrip())
    else:
        words("slyther: this is a bug; SLYTHER_DEBUG=1 shows where it happened")


def table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> Iterable[str]:
    """Aligned columns, as lines; numbers to the right."""
    every = [header, *rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(header))]
    right = [
        bool(rows) and all(row[i].replace(",", "").replace(".", "").isdigit() for row in rows)
        for i in range(len(header))
    ]
    for row in every:
        cells = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        yield "  ".join(cells).rstrip()


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """:func:`table` on stdout."""
    for line in table(rows, header):
        data(line)


def interval(value: float, low: float | None, high: float | None, form: str = ".1f") -> str:
    """ "37.3 [34.7, 39.9]", or the value alone where its interval is unknown."""
    bounds = "" if low is None else f" [{low:{form}}, {high:{form}}]"
    return f"{value:{form}}{bounds}"


def note_single(counts: Iterable[int], what: str, quiet: bool) -> None:
    """Say why a figure has no interval, if one of those that are of so many ``what`` is of one."""
    if not quiet and 1 in counts:
        words(f"slyther: of one {what} there is no interval: it needs more than one")


def size(count: int) -> str:
    """12 kB, 3.4 GB."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.5 or unit == "TB":
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    raise AssertionError


def clock(seconds: float) -> str:
    """12:34, or 1:02:03."""
    whole = max(0, round(seconds))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """ "0.85 s" below a minute, else as ``clock``."""
    return f"{seconds:.2f} s" if seconds < 60 else clock(seconds)


def times(factor: float) -> str:
    """5.3x, or 120x."""
    return f"{factor:.1f}x" if factor < 9.95 else f"{factor:.0f}x"


def speed(audio: float, wall: float) -> str:
    return f"{times(audio / wall)} real time" if wall > 0 else ""


class Reporter:
    """Events of a task, told to whoever asked: as JSON lines, or as words, a bar and the results' paths."""

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False, going_on: str = ""
    ) -> None:
        """``going_on``: how to go on with a job that was stopped, in words."""
        global json_asked
        self.going_on = going_on
        self.json = json_asked = as_json
        self.quiet, self.verbose = quiet, verbose
        self._bar = Bar()
        self._last = self._next_words = 0.0

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind in ("progress", "live"):
            every = JSON_PROGRESS_EVERY if self.json else BAR_EVERY
            if time.monotonic() - self._last < every:
                return
            self._last = time.monotonic()
        else:
            self._drop_bar()
        if self.json:
            self._as_json(kind, event)
        handler = getattr(self, f"_{kind}", None)
        if handler is not None:
            handler(event)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._drop_bar()
        if self.going_on and kind is not None and not issubclass(kind, Exception):
            self.say(f"slyther: {self.going_on}")

    def _as_json(self, kind: str, event: dict[str, Any]) -> None:
        details = {key: value for key, value in event.items() if key not in ("event", "exception")}
        if kind == "progress":
            details |= {"wall_seconds": round(event["wall_seconds"], 3), **_pace(event)}
        json_line(kind, **details)

    def say(self, text: str) -> None:
        """Words of ordinary importance."""
        if not self.quiet:
            words(text)

    def _start(self, event: dict[str, Any]) -> None:
        if self.verbose:
            words(f"slyther {__version__}: model {event['model']}")

    def _plan(self, event: dict[str, Any]) -> None:
        self._next_words = time.monotonic() + FIRST_WORDS
        if self.verbose:
            for line in (f"device {event['device']}", *event["lines"]):
                words(f"{_name(event)}: {line}")

    def _progress(self, event: dict[str, Any]) -> None:
        drawing = can_draw(sys.stderr)
        if self.json or self.quiet or not (drawing or self.verbose):
            return
        name, fraction, text = _name(event), event["fraction"], _file_pace(event)
        label = _shorten(name)
        if event["files"] > 1:
            done, left = f"{event['files_done']}/{event['files']}", event["batch_left_seconds"]
            of_all = "" if left is None else f"{clock(left)} left of all"
            if drawing:
                label, fraction, text = f"[{done} done] {label}", event["batch_fraction"], f" {of_all}"
            else:
                text += f"; {done} files done" + (of_all and f", {of_all}")
        if drawing:
            self._bar.draw(label, fraction, text)
        elif time.monotonic() >= self._next_words:
            self._next_words = time.monotonic() + WORDS_EVERY
            words(f"{name}:{text}")

    def _live(self, event: dict[str, Any]) -> None:
        if not self.json and not self.quiet and can_draw(sys.stderr):
            heard, written = clock(event["heard_seconds"]), clock(event["written_seconds"])
            self._bar.draw(_name(event), None, f"{heard} heard, {written} written")

    def _note(self, event: dict[str, Any]) -> None:
        self.say(f"{_name(event)}: {event['text']}")

    def _drop_bar(self) -> None:
        self._bar.clear()
        self._last = 0.0

    def _file_done(self, event: dict[str, Any]) -> None:
        name, status = _name(event), event["status"]
        for note in event["notes"]:
            if self.verbose or not note.startswith(RESAMPLED):
                self.say(f"{name}: {note}")
        if not self.json:
            for path in event["outputs"].values():
                data(path)
        length = duration(event["seconds"])
        if status == "skipped":
            self.say(f"{name}: skipped" + ", its results are there" * bool(event["outputs"]))
        elif status == "planned":
            self.say(f"{name}: {length} of sound{_estimated(event)}, nothing written (dry run)")
        else:
            wall = event["wall_seconds"]
            self.say(f"{name}: {length} of sound in {duration(wall)}, {speed(event['seconds'], wall)}")

    def _error(self, event: dict[str, Any]) -> None:
        error_line(event["message"])
        if event["kind"] == "unexpected" and event.get("exception") is not None:
            traceback_of(event["exception"])

    def _summary(self, event: dict[str, Any]) -> None:
        if event["files"] < 2:
            return
        parts = [f"{event[s]} {s}" for s in ("done", "skipped", "planned", "failed") if event[s]]
        text = f"{event['files']} files: {', '.join(parts)}"
        if event["done"]:
            audio, wall = event["audio_seconds"], event["wall_seconds"]
            text += f"; {duration(audio)} of sound in {duration(wall)}, {speed(audio, wall)}"
        self.say(text + _estimated(event))


def exit_code(errors: Sequence[Exception | None]) -> int:
    """The process's exit code for the inputs of a job, each with its error or None.

    0 all done; 1 one failed in a way that is a bug; 3 some failed; 6 all failed and all for want of memory or
    device; 4 all failed.
    """
    codes = [getattr(error, "exit_code", 1) for error in errors if error is not None]
    if not codes:
        return 0
    if 1 in codes:
        return 1
    if len(codes) < len(errors):
        return 3
    return 6 if set(codes) == {6} else 4


def _pace(event: dict[str, Any]) -> dict[str, Any]:
    fraction, wall = event["fraction"], event["wall_seconds"]
    done = fraction - event.get("began", 0.0)  # in this run
    left = wall * (1 - fraction) / done if done > 0 else None
    pace = event["seconds"] * done / wall if wall > 0 else 0.0
    return {"speed": round(pace, 3), "left_seconds": None if left is None else round(left, 1)}


def _file_pace(event: dict[str, Any]) -> str:
    """How far a recording is, in words."""
    pace, length = _pace(event), event["seconds"]
    text = f" {clock(event['fraction'] * length)}/{clock(length)}, {times(pace['speed'])}"
    return text if pace["left_seconds"] is None else text + f", {clock(pace['left_seconds'])} left"


def _estimated(event: dict[str, Any]) -> str:
    """What a dry run says of the time; nothing where it says nothing."""
    return f", an estimated {duration(event['estimate_seconds'])} here" if "estimate_seconds" in event else ""


def _name(event: dict[str, Any]) -> str:
    from slyther_cli.audio.discover import shown

    return "standard input" if event["file"] == "-" else shown(event["file"])


def _shorten(name: str, width: int = 32) -> str:
    return name if len(name) <= width else "..." + name[3 - width :]
