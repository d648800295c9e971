"""Where the segments of one recording go as they become final: files, events, the result."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from slyther_cli.decode.recording import Recording
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.transcript import TranscriptWriter
from slyther_cli.transcription.coverage import Coverage

Event = dict[str, Any]
Row = tuple[dict[str, Any], int]  # a segment, and how many words it has
T = TypeVar("T")


class Sink:
    """``put`` rows as whisper's json has them (``Segment.as_dict``), in order; ``commit`` makes the files.

    Leaving the context without commit removes what was written. ``kept``: the rows, if they are to be.
    ``recording``: what the formats tell of it, to be completed before ``commit``.
    """

    def __init__(
        self,
        name: str,
        outputs: Mapping[str, Path],
        layout: Mapping[str, Any],
        keep: bool,
        tell: Callable[[Event], None],
        part: str | None = None,
    ) -> None:
        self.name, self.outputs, self.keep, self.tell = name, dict(outputs), keep, tell
        self.kept: list[dict[str, Any]] = []
        self.count = self.words = 0
        self.recording = Recording(name)
        how = {"part": part, "recording": self.recording, **layout}
        self._writer = TranscriptWriter(outputs, **how) if outputs else None

    def put(self, row: Mapping[str, Any], words: int) -> None:
        """A segment of so many words; it gets the next id."""
        row = {**row, "id": self.count}
        self.count, self.words = self.count + 1, self.words + words
        if self._writer is not None:
            with unstopped():
                self._writer.write(row)
        if self.keep:
            self.kept.append(row)
        self.tell({"event": "segment", "file": self.name, **row})

    def commit(self) -> None:
        if self._writer is not None:
            with unstopped():
                self._writer.commit()

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._writer is not None:
            self._writer.abort()


def row_of(segment: Segment, rate: int, words: bool, coverage: Coverage | None) -> Row:
    """The segment as a row, its words entered into the coverage."""
    if coverage is not None:
        for word in segment.words:
            coverage.word(word.start, word.end)
    return segment.as_dict(0, rate, words=words), len(segment.words)


class Named:
    """Puts names in place of labels. ``names``: by label. What is left over is told by ``note``."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self._names, self._labels = names, set[str]()

    def row(self, row: dict[str, Any]) -> dict[str, Any]:
        """The segment with its speaker's name."""
        label = row.get("speaker")
        if label is None:
            return row
        self._labels.add(label)
        return {**row, "speaker": self._names.get(label, label)}

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        left = [name for label, name in self._names.items() if label not in self._labels]
        if not left:
            return None
        heard = len(self._labels)
        there = f"{heard} speakers are" if heard > 1 else "one speaker is" if heard else "no speaker is"
        return f"nothing is said by {', '.join(left)}: {there} in the transcript"


class Stop:
    """Ctrl-C or a signal in this context ends it, and not the work: ``by`` is what came, to be raised later.

    The blocks of ``until`` then end, so that what was heard before is finished.
    """

    by: BaseException | None = None

    def until(self, blocks: Iterable[T]) -> Iterator[T]:
        with self:
            yield from blocks

    def __enter__(self) -> Stop:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if error is None or isinstance(error, Exception | GeneratorExit):
            return False
        self.by = error
        return True


@contextlib.contextmanager
def unstopped() -> Iterator[None]:
    """Signals wait until the end, since the writer takes its files away when it is interrupted."""
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():  # others get none
            for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if callable(signal.getsignal(one)):
                    before[one] = signal.signal(one, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)
