"""Formats for research: CTM (timed words), RTTM (speaker turns), TextGrid (Praat).

CTM and RTTM as NIST's scoring tools (sclite, md-eval) read them, and TextGrid in Praat's long text format.
All take the segments that ``subtitles`` takes. Where a format orders by speaker, segments wait in a file.
"""

from __future__ import annotations

import heapq
import json
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from slyther_cli.decode.recording import Recording, one_word
from slyther_cli.decode.subtitles import WAITING, Format

TURN = 0.8  # seconds of pause that end a speaker's turn, as they end a segment
SHORTEST = 0.001  # seconds of an interval; an empty one would not be valid
ALONE = "S1"  # whose turns they are when nobody is named


class Spool:
    """Segments that wait: in memory up to 4 MB, then in a nameless file in ``folder`` (None: where temporary
    files go). Iterating gives all of them, as often as wanted."""

    def __init__(self, folder: Path | None) -> None:
        self._file: IO[str] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close
            WAITING, "w+", encoding="ascii", dir=None if folder is None else str(folder)
        )

    def add(self, segment: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(segment) + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        self._file.close()


class Ctm(Format):
    """A line a word: file, channel, start, duration, word, probability; seconds with three decimals.

    The channel is 1, or the speaker's label; speakers follow one another, since scoring tools want the
    lines sorted by channel. A word written with a space in it becomes several that share its time; a dash
    behind it is left out.
    """

    def __init__(self, recording: Recording, folder: Path | None = None) -> None:
        self._file, self._waiting = recording.word, Spool(folder)
        self._speakers: set[str] = set()

    def add(self, segment: Mapping[str, Any]) -> str:
        if not segment.get("speaker"):
            return self._lines(segment, "1")
        self._speakers.add(segment["speaker"])
        self._waiting.add(segment)
        return ""

    def tail(self) -> Iterator[str]:
        for speaker in sorted(self._speakers, key=_natural):
            for segment in self._waiting:
                if segment["speaker"] == speaker:
                    yield self._lines(segment, one_word(speaker))
        self._waiting.close()

    def _lines(self, segment: Mapping[str, Any], channel: str) -> str:
        lines = []
        for word in segment["words"]:
            pieces = word["word"].split()
            pieces = [piece for piece in pieces if any(map(str.isalnum, piece))] or pieces
            step = (word["end"] - word["start"]) / max(len(pieces), 1)
            for i, piece in enumerate(pieces):
                times = f"{word['start'] + i * step:.3f} {step:.3f}"
                lines.append(f"{self._file} {channel} {times} {piece} {word['probability']:.3f}\n")
        return "".join(lines)


class Rttm(Format):
    """A SPEAKER line a turn, by their start: file, channel 1, start, duration, speaker.

    A turn goes on until its speaker is silent for 0.8 s. Where segments have no speaker, all are "S1".
    """

    def __init__(self, recording: Recording) -> None:
        self._file = recording.word
        self._open: dict[str, tuple[float, float]] = {}  # speaker: start and end of the turn
        self._done: list[tuple[float, str, float]] = []  # a heap of start, speaker, end

    def add(self, segment: Mapping[str, Any]) -> str:
        now, speaker = segment["start"], segment.get("speaker") or ALONE
        for other, (start, end) in [*self._open.items()]:
            if now - end >= TURN:
                heapq.heappush(self._done, (start, other, end))
                del self._open[other]
        start, end = self._open.get(speaker, (now, now))
        self._open[speaker] = start, max(end, segment["end"])
        return "".join(self._lines(min(start for start, _ in self._open.values())))

    def tail(self) -> Iterator[str]:
        for speaker, (start, end) in self._open.items():
            heapq.heappush(self._done, (start, speaker, end))
        return self._lines(math.inf)

    def _lines(self, until: float) -> Iterator[str]:
        while self._done and self._done[0][0] <= until:
            start, speaker, end = heapq.heappop(self._done)
            times = f"{start:.3f} {end - start:.3f}"
            yield f"SPEAKER {self._file} 1 {times} <NA> <NA> {one_word(speaker)} <NA> <NA>\n"


class TextGrid(Format):
    """Tiers "words" and "segments"; of several speakers, "S1 words", "S1 segments" and so on.

    The intervals of a tier fill the recording, with empty ones where nothing is said. Praat wants their
    number before them, so the segments wait.
    """

    def __init__(self, recording: Recording, folder: Path | None = None) -> None:
        self._recording, self._waiting = recording, Spool(folder)
        self._speakers: set[str] = set()

    def add(self, segment: Mapping[str, Any]) -> str:
        self._speakers.add(segment.get("speaker") or "")
        self._waiting.add(segment)
        return ""

    def tail(self) -> Iterator[str]:
        speakers = sorted(self._speakers, key=_natural) or [""]
        tiers = [(speaker, kind) for speaker in speakers for kind in ("words", "segments")]
        end = max(self._recording.seconds or 0.0, SHORTEST)
        end = max([end, *(stop for tier in tiers for _, stop, _ in self._intervals(*tier, 0.0))])
        yield 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
        yield f"xmin = 0\nxmax = {_number(end)}\ntiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
        for i, (speaker, kind) in enumerate(tiers, 1):
            count = sum(1 for _ in self._intervals(speaker, kind, end))
            name = f"{speaker} {kind}" if speaker else kind
            yield f'    item [{i}]:\n        class = "IntervalTier"\n        name = {_quoted(name)}\n'
            yield f"        xmin = 0\n        xmax = {_number(end)}\n        intervals: size = {count}\n"
            for j, (start, stop, text) in enumerate(self._intervals(speaker, kind, end), 1):
                yield f"        intervals [{j}]:\n            xmin = {_number(start)}\n"
                yield f"            xmax = {_number(stop)}\n            text = {_quoted(text)}\n"
        self._waiting.close()

    def _intervals(self, speaker: str, kind: str, end: float) -> Iterator[tuple[float, float, str]]:
        """Start, end and text of the intervals of one tier, from 0 to ``end`` without a gap."""
        at = 0.0
        for start, stop, text in self._said(speaker, kind):
            start = max(start, at)
            if start > at:
                yield at, start, ""
            at = max(stop, start + SHORTEST)
            yield start, at, text
        if at < end:
            yield at, end, ""

    def _said(self, speaker: str, kind: str) -> Iterator[tuple[float, float, str]]:
        for segment in self._waiting:
            if (segment.get("speaker") or "") == speaker:
                if kind == "segments":
                    yield segment["start"], segment["end"], segment["text"].strip()
                else:
                    for word in segment["words"]:
                        yield word["start"], word["end"], word["word"].strip()


def _natural(speaker: str) -> tuple[str, int, str]:
    """S2 before S10."""
    head = speaker.rstrip("0123456789")
    return head, int(speaker[len(head) :][-9:] or 0), speaker


def _number(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".")


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
