"""ELAN's format (EAF): a tier of segments and one of their words for each speaker, times in milliseconds.

Written by pympi-ling (MIT), which is optional. It builds the whole document in memory, about 3 KB for a word.
"""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slyther_cli.decode.recording import Recording
from slyther_cli.decode.subtitles import Format
from slyther_cli.errors import UsageError

SEGMENTS, WORDS = "segments", "words"  # kinds of tiers; the words of a segment lie within it
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def load_pympi() -> Any:
    """The package. Raises UsageError: it is not installed."""
    try:
        import pympi
    except ImportError:
        raise UsageError("-f eaf needs the package pympi-ling: pip install 'slyther-cli[elan]'") from None
    return pympi


class Eaf(Format):
    """Tiers "segments" and "words"; of several speakers, "S1 segments", "S1 words" and so on.

    The intervals of a tier are at least a millisecond long and do not overlap. ``folder``: where the file
    will be, from which it links to the recording.
    """

    def __init__(self, recording: Recording, folder: Path | None = None) -> None:
        pympi = load_pympi()
        self._to_string = pympi.Elan.to_string
        self._document = pympi.Eaf(author="slyther")
        self._document.adocument["DATE"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._document.header.update(MEDIA_FILE="", TIME_UNITS="milliseconds")
        self._document.remove_tier("default")
        self._document.add_linguistic_type(SEGMENTS)
        self._document.add_linguistic_type(WORDS, "Included_In")
        self._document.remove_linguistic_type("default-lt")
        self._ends: dict[str, int] = {}  # milliseconds where the last segment of a speaker ends
        if recording.source != "-":
            self._link(recording.source, folder or Path("."))

    def _link(self, source: str, folder: Path) -> None:
        path = os.path.abspath(source)
        beside = os.path.relpath(path, os.path.abspath(folder))
        kind = mimetypes.guess_type(source)[0] or "unknown"
        self._document.add_linked_file(_clean(f"file://{path}"), _clean(f"./{beside}"), kind)

    def add(self, segment: Mapping[str, Any]) -> str:
        speaker = segment.get("speaker") or ""
        whole, parts = self._tiers(speaker)
        start = at = max(_milliseconds(segment["start"]), self._ends[speaker])
        words = []
        for word in segment["words"]:
            begin = max(_milliseconds(word["start"]), at)
            at = max(_milliseconds(word["end"]), begin + 1)
            words.append((begin, at, _clean(word["word"])))
        self._ends[speaker] = max(_milliseconds(segment["end"]), at, start + 1)
        self._document.add_annotation(whole, start, self._ends[speaker], _clean(segment["text"]))
        for row in words:
            self._document.add_annotation(parts, *row)
        return ""

    def _tiers(self, speaker: str) -> tuple[str, str]:
        """The names of a speaker's tiers, made for the first segment."""
        whole, parts = (f"{speaker} {kind}".strip() for kind in (SEGMENTS, WORDS))
        if speaker not in self._ends:
            self._ends[speaker] = 0
            self._document.add_tier(whole, SEGMENTS, part=speaker or None)
            self._document.add_tier(parts, WORDS, whole, part=speaker or None)
        return whole, parts

    def tail(self) -> Iterator[str]:
        if not self._ends:
            self._tiers("")
        yield '<?xml version="1.0" encoding="UTF-8"?>\n'
        yield self._to_string(self._document) + "\n"


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)


def _clean(text: str) -> str:
    """``text`` without what XML cannot hold."""
    return _NO_XML.sub("\ufffd", text.strip())
