"""Where a transcript's paragraphs begin: at pauses, changes of speaker, and for their length."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PAUSE = 1.5  # seconds of silence that end a paragraph
LONG = 600  # characters after which a paragraph ends with its sentence
LONGEST = 1200  # characters after which it ends with its segment
_SENTENCE = re.compile(r"[.?!…][\"'”’)]*$")


def ends_sentence(text: str, following: str = "") -> bool:
    """Whether a sentence ends with ``text``, before ``following``: with "9 a.m." only before a capital."""
    if text.endswith(("a.m.", "p.m.")):
        return following[:1].isupper()
    return bool(_SENTENCE.search(text))


class Paragraphs:
    """Is shown the segments of a transcript in order. ``sentences``: paragraphs end with a sentence and
    nowhere else, so that words without marks are a single one."""

    def __init__(self, sentences: bool = False) -> None:
        self._sentences = sentences
        self._speaker: str | None = None
        self._end: float | None = None  # of the open paragraph, in seconds
        self._length, self._text = 0, ""  # its characters; its last segment

    def begins(self, segment: Mapping[str, Any]) -> bool:
        """Whether a paragraph begins with this segment, as with the first."""
        text, speaker, last = segment["text"].strip(), segment.get("speaker"), self._end
        ended = ends_sentence(self._text, text)
        parted = last is None or self._parts(segment["start"] - last, speaker, ended)
        self._length = (0 if parted else self._length) + len(text)
        self._speaker, self._text = speaker, text
        self._end = segment["end"] if parted or last is None else max(last, segment["end"])
        return parted

    def _parts(self, pause: float, speaker: str | None, ended: bool) -> bool:
        if self._sentences and not ended:
            return False
        full = self._length >= (LONG if ended else LONGEST)
        return speaker != self._speaker or pause >= PAUSE or full
