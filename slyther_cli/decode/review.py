"""A page to hear, read and correct a transcript in a browser: one file, without a network.

``review.html`` is the page, ``review.css`` and ``review.js`` go into it. Words, waveform and sound are
JSON in script blocks, which the script lays out. Segments are written as they come, the rest at the end.
"""

from __future__ import annotations

import base64
import html
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from slyther_cli.decode.paragraphs import Paragraphs
from slyther_cli.decode.recording import Recording
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import escaped

CHUNK = 3 * 2**16  # bytes of sound encoded at once; whole groups of base64
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


class Html(Format):
    """The page for ``recording``, which it links to, seen from ``folder``; or embeds, if it has its sound.
    ``plain``: without paragraphs."""

    def __init__(
        self,
        recording: Recording,
        folder: Path | None = None,
        language: str = "en",
        plain: bool = False,
    ) -> None:
        self._recording, self._folder, self._language = recording, folder or Path("."), language
        self._parts, self._paragraphs = _page(), None if plain else Paragraphs(sentences=True)
        self._separator = "\n"

    def head(self) -> str:
        return "".join(self._until("segments"))

    def add(self, segment: Mapping[str, Any]) -> str:
        words = [
            (word["word"].strip(), word["start"], word["end"], round(word["probability"], 3))
            for word in segment["words"]
        ]
        row = {"start": segment["start"], "end": segment["end"], "words": words}
        if segment.get("speaker"):
            row["speaker"] = segment["speaker"]
        if self._paragraphs is not None and self._paragraphs.begins(segment):
            row["begins"] = True
        before, self._separator = self._separator, ",\n"
        return before + in_script(row)

    def tail(self) -> Iterator[str]:
        yield from self._until("recording")
        name, stem = (escaped(text) for text in (self._recording.name, self._stem()))
        about = {
            "name": name,
            "stem": stem,
            "link": self._link(),
            "seconds": self._recording.seconds,
            "peaks": list(self._recording.peaks),
        }
        opus = self._recording.opus
        if opus is None:
            yield in_script(about)
        else:
            yield in_script(about)[:-1] + ', "sound": "data:audio/ogg;base64,'
            while chunk := opus.read(CHUNK):
                yield base64.b64encode(chunk).decode()
            yield '"}'
        yield from self._until("")

    def _until(self, place: str) -> Iterator[str]:
        """The page's next pieces, up to ``place``."""
        for text, name in self._parts:
            yield text
            if name == place:
                return
            yield {
                "language": html.escape(self._language),
                "title": html.escape(escaped(self._recording.name)),
                "style": (Path(__file__).with_suffix(".css")).read_text(encoding="utf-8"),
                "script": (Path(__file__).with_suffix(".js")).read_text(encoding="utf-8"),
            }[name]

    def _stem(self) -> str:
        source = self._recording.source
        return "transcript" if source == "-" else os.path.splitext(os.path.basename(source))[0]

    def _link(self) -> str | None:
        """The recording as a relative URL; None where there is none to link to."""
        if self._recording.source == "-":
            return None
        path = os.path.relpath(os.path.abspath(self._recording.source), os.path.abspath(self._folder))
        return quote(os.fsencode(path))


def in_script(value: Any) -> str:
    """``value`` as JSON that can stand in a script block of a page: ASCII, and without "<", ">", "&"."""
    return json.dumps(value).translate(_ESCAPES)


def _page() -> Iterator[tuple[str, str]]:
    """The page in pieces, each with the name of what stands behind it; "" behind the last."""
    pieces = re.split(r"\{\{(\w+)\}\}", _template())
    return iter(list(zip(pieces[::2], [*pieces[1::2], ""], strict=True)))


@cache
def _template() -> str:
    return Path(__file__).with_suffix(".html").read_text(encoding="utf-8")
