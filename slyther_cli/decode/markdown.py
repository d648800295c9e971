"""Markdown: paragraphs to read, each with its time, below the names of their speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from slyther_cli.decode.recording import Recording
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import escaped

PAUSE = 1.5  # seconds of silence that end a paragraph
LONG = 600  # characters after which a paragraph ends with its sentence
LONGEST = 1200  # characters after which it ends with its segment
_SPECIAL = re.compile(r"[\\`*_\[\]<~|]|&(?=#?\w+;)")
_SENTENCE = re.compile(r"[.?!…][\"'”’)]*$")


class Markdown(Format):
    """A title, and paragraphs that end with a pause of 1.5 s, a change of speaker, or their length."""

    def __init__(self, recording: Recording) -> None:
        self._name = recording.name
        self._speaker: str | None = None
        self._end: float | None = None  # of the open paragraph, in seconds
        self._length, self._text = 0, ""  # its characters; its last segment

    def head(self) -> str:
        return f"# {_plain(escaped(self._name))}\n"

    def add(self, segment: Mapping[str, Any]) -> str:
        text, speaker, last = segment["text"].strip(), segment.get("speaker"), self._end
        changed = last is None or speaker != self._speaker
        parted = last is None or changed or segment["start"] - last >= PAUSE or self._is_full()
        before = "\n" if parted and last is not None else ""
        if changed and speaker:
            before += f"\n## {_plain(speaker)}\n"
        before += f"\n**{clock(segment['start'])}** " if parted else " "
        self._length = (0 if parted else self._length) + len(text)
        self._speaker, self._text = speaker, text
        self._end = segment["end"] if parted or last is None else max(last, segment["end"])
        return before + _plain(text)

    def tail(self) -> Iterator[str]:
        if self._end is not None:
            yield "\n"

    def _is_full(self) -> bool:
        return self._length >= (LONG if _SENTENCE.search(self._text) else LONGEST)


def clock(seconds: float) -> str:
    """``seconds``, cut to whole ones, as M:SS or H:MM:SS."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plain(text: str) -> str:
    """``text`` in one line, without what Markdown would take for a mark of its own."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
