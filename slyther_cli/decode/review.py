"""A page to hear, read and correct a transcript in a browser: one file, without a network.

``review.html`` is the page; ``page.css``, ``review.css``, ``review_edits.js`` and ``review.js`` go into it.
Words, waveform and sound are JSON in script blocks, which the script lays out. Segments are written as they
come, the rest at the end.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from slyther_cli.decode.page import in_script, link, pieces, style, text_of
from slyther_cli.decode.paragraphs import Paragraphs
from slyther_cli.decode.recording import Recording
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import escaped

CHUNK = 3 * 2**16  # bytes of sound encoded at once; whole groups of base64
HERE = Path(__file__)


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
        self._parts = pieces(HERE.with_suffix(".html"))
        self._paragraphs = None if plain else Paragraphs(sentences=True)
        self._separator, self._digest = "\n", hashlib.sha256()

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
        text = in_script(row)
        self._digest.update(text.encode())
        return before + text

    def tail(self) -> Iterator[str]:
        yield from self._until("recording")
        name, stem = (escaped(text) for text in (self._recording.name, self._stem()))
        about = {
            "id": self._digest.hexdigest()[:32],  # by which the browser knows the transcript again
            "name": name,
            "stem": stem,
            "link": link(self._recording.source, self._folder),
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
                "style": style(HERE.with_suffix(".css")),
                "script": text_of(HERE.with_name("review_edits.js")) + text_of(HERE.with_suffix(".js")),
            }[name]

    def _stem(self) -> str:
        source = self._recording.source
        return "transcript" if source == "-" else os.path.splitext(os.path.basename(source))[0]
