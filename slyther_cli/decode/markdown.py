"""Markdown: paragraphs to read, each with its time, below the names of their speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from slyther_cli.decode.paragraphs import Paragraphs
from slyther_cli.decode.recording import Recording
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import escaped

_SPECIAL = re.compile(r"[\\`*_\[\]<~|]|&(?=#?\w+;)|#(?=#*$)")


class Markdown(Format):
    """A title, and paragraphs that end with a pause of 1.5 s, a change of speaker, or their length."""

    def __init__(self, recording: Recording) -> None:
        self._name, self._paragraphs = recording.name, Paragraphs()
        self._speaker: str | None = None
        self._empty = True

    def head(self) -> str:
        return f"# {_plain(escaped(self._name))}\n"

    def add(self, segment: Mapping[str, Any]) -> str:
        speaker, text = segment.get("speaker"), _plain(segment["text"])
        if not self._paragraphs.begins(segment):
            return f" {text}"
        before = "" if self._empty else "\n"
        if speaker and (self._empty or speaker != self._speaker):
            before += f"\n## {_plain(speaker)}\n"
        self._speaker, self._empty = speaker, False
        return f"{before}\n**{clock(segment['start'])}** {text}"

    def tail(self) -> Iterator[str]:
        if not self._empty:
            yield "\n"


def clock(seconds: float) -> str:
    """``seconds``, cut to whole ones, as M:SS or H:MM:SS."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _plain(text: str) -> str:
    """``text`` in one line, without what Markdown would take for a mark of its own."""
    return _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
