"""Where the segments of one recording go as they become final: files, events, the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from slyther_cli.tasks.coverage import Coverage
from slyther_cli.text.segments import Segment
from slyther_cli.text.transcript import TranscriptWriter

Event = dict[str, Any]
Row = tuple[dict[str, Any], int]  # a segment, and how many words it has


class Sink:
    """``put`` rows as whisper's json has them (``Segment.as_dict``), in order; ``commit`` makes the files.

    Leaving the context without commit removes what was written. ``kept``: the rows, if they are to be.
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
        self._writer = TranscriptWriter(outputs, part=part, **layout) if outputs else None

    def put(self, row: Mapping[str, Any], words: int) -> None:
        """A segment of so many words; it gets the next id."""
        row = {**row, "id": self.count}
        self.count, self.words = self.count + 1, self.words + words
        if self._writer is not None:
            self._writer.write(row)
        if self.keep:
            self.kept.append(row)
        self.tell({"event": "segment", "file": self.name, **row})

    def commit(self) -> None:
        if self._writer is not None:
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
