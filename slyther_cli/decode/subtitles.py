"""Whisper's output files: txt, srt, vtt, tsv, json, byte for byte, written segment by segment.

Segments are dictionaries as whisper's json has them (``Segment.as_dict`` makes them): ``start`` and ``end``
in seconds, ``text``, and perhaps ``words`` of word, start, end; of ours, perhaps ``speaker``. The first
segment says whether there are words. Compared, byte for byte, with the output of openai/whisper 20250625.
Three differences, where whisper's files would be broken or it has nothing: an arrow is rewritten also
in text that is laid out from words; speakers are labelled ("[S1] text"), their cues in order of start; and
empty lines part the paragraphs of txt, unless it is plain.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from slyther_cli.decode.paragraphs import Paragraphs

PAUSE = 3.0  # seconds between the starts of two words that part cues laid out across segments
UNLIMITED = 1000  # characters or words: whisper's "no limit"
WAITING = 4 * 2**20  # bytes of json kept in memory
CHUNK = 2**16


def timestamp(seconds: float, *, hours: bool, mark: str) -> str:
    """``seconds`` as [HH:]MM:SS<mark>mmm, rounded to milliseconds; hours always, or from one hour on.

    >>> timestamp(3725.5, hours=True, mark=",")
    '01:02:05,500'
    """
    milliseconds = round(seconds * 1000.0)
    if milliseconds < 0:
        raise ValueError(f"negative time: {seconds}")
    minutes, milliseconds = divmod(milliseconds, 60_000)
    whole, minutes = divmod(minutes, 60)
    head = f"{whole:02d}:" if hours or whole else ""
    return f"{head}{minutes:02d}:{milliseconds // 1000:02d}{mark}{milliseconds % 1000:03d}"


class Part(NamedTuple):
    """One word of a cue: seconds, and its text with the space or line break before it."""

    start: float
    end: float
    text: str


class Cue(NamedTuple):
    """What is shown at one time: seconds, text (``label`` before it); ``parts`` if it is known by words."""

    start: float
    end: float
    label: str
    text: str
    parts: tuple[Part, ...] = ()


class CueMaker:
    """Lays segments out in lines and cues, in a stream, by whisper's rules.

    Segments without words are one cue each. Otherwise lines are filled word by word up to
    ``max_line_width`` characters. With both ``max_line_width`` and ``max_line_count``, cues are filled across
    segments up to that many lines, until more than 3 s lie between the starts of two words; else
    every segment starts a new cue, and so does every ``max_words_per_line``-th word in it.
    Ours: another speaker starts a new cue.
    """

    def __init__(
        self,
        max_line_width: int | None = None,
        max_line_count: int | None = None,
        max_words_per_line: int | None = None,
    ) -> None:
        self.across = max_line_width is not None and max_line_count is not None
        self.width, self.count = max_line_width or UNLIMITED, max_line_count
        self.words = max_words_per_line or UNLIMITED
        self._by_words: bool | None = None
        self._parts: list[Part] = []
        self._label = ""
        self._line = 0  # characters in the last line
        self._lines = 1
        self._last: float | None = None  # where the last word starts

    def push(self, segment: Mapping[str, Any]) -> Iterator[Cue]:
        """The cues that this segment completes."""
        if self._by_words is None:
            self._by_words = "words" in segment
        label = _label(segment)
        if not self._by_words:
            text = segment["text"].strip().replace("-->", "->")
            yield Cue(segment["start"], segment["end"], label, text)
            return
        for i, word in enumerate(segment["words"]):
            begins = bool(self._parts) and ((not self.across and i % self.words == 0) or label != self._label)
            yield from self._place(Part(word["start"], word["end"], word["word"]), label, begins)

    @property
    def start(self) -> float:
        """Seconds where the open cue begins; infinite if there is none."""
        return self._parts[0].start if self._parts else math.inf

    def flush(self) -> Iterator[Cue]:
        """The open cue, if there is one."""
        if self._parts:
            yield self._cue()

    def _place(self, part: Part, label: str, begins: bool) -> Iterator[Cue]:
        paused = self.across and self._last is not None and part.start - self._last > PAUSE
        room = self._line + len(part.text) <= self.width
        if self._line and room and not paused and not begins:
            self._line += len(part.text)
        else:
            text = part.text.strip()
            full = self.count is not None and (paused or self._lines >= self.count)
            opened = not self._parts
            if begins or (full and not opened):
                yield self._cue()
                opened = True
            elif self._line:
                self._lines += 1
                text = "\n" + text
            self._line = len(text.strip())
            if opened:
                self._label = label
                self._line += len(label)
            part = part._replace(text=text)
        self._parts.append(part)
        self._last = part.start

    def _cue(self) -> Cue:
        parts = tuple(part._replace(text=part.text.replace("-->", "->")) for part in self._parts)
        self._parts, self._lines = [], 1
        return Cue(parts[0].start, parts[-1].end, self._label, "".join(part.text for part in parts), parts)


class Format:
    """Turns segments into the text of one file, in a stream: ``head``, ``add`` for each, ``tail``."""

    def head(self) -> str:
        return ""

    def add(self, segment: Mapping[str, Any]) -> str:
        raise NotImplementedError

    def tail(self) -> Iterator[str]:
        return iter(())


class Txt(Format):
    """A line a segment. Ours, where text has sentences, unless it is ``plain``: an empty line between
    paragraphs."""

    def __init__(self, plain: bool = False) -> None:
        self._paragraphs = None if plain else Paragraphs(sentences=True)
        self._empty = True

    def add(self, segment: Mapping[str, Any]) -> str:
        parted = self._paragraphs is not None and self._paragraphs.begins(segment) and not self._empty
        self._empty = False
        return ("\n" if parted else "") + _label(segment) + segment["text"].strip() + "\n"


class Tsv(Format):
    """Columns start, end (integer milliseconds), text."""

    def head(self) -> str:
        return "start\tend\ttext\n"

    def add(self, segment: Mapping[str, Any]) -> str:
        text = _label(segment) + segment["text"].strip().replace("\t", " ")
        return f"{round(1000 * segment['start'])}\t{round(1000 * segment['end'])}\t{text}\n"


class _Cues(Format):
    """What srt and vtt share. ``highlight_words``: a cue for each word, with the word underlined.

    Segments of several speakers overlap, and one may be several cues: a speaker's cue waits until no other
    can begin before it. Without speakers nothing waits.
    """

    hours, mark = True, ","

    def __init__(self, highlight_words: bool = False, **layout: Any) -> None:
        self._maker, self._highlight = CueMaker(**layout), highlight_words
        self._numbers, self._order = itertools.count(1), itertools.count()
        self._waiting: list[tuple[float, int, Cue]] = []  # a heap, by start

    def add(self, segment: Mapping[str, Any]) -> str:
        self._wait(self._maker.push(segment))
        return "".join(self._shown(min(segment["start"], self._maker.start)))

    def tail(self) -> Iterator[str]:
        self._wait(self._maker.flush())
        return self._shown(math.inf)

    def _wait(self, cues: Iterable[Cue]) -> None:
        for cue in cues:
            for block in self._words(cue) if self._highlight and cue.parts else (cue,):
                start = block.start if cue.label else -math.inf
                heapq.heappush(self._waiting, (start, next(self._order), block))

    def _shown(self, until: float) -> Iterator[str]:
        """The blocks of the cues that begin so early, in seconds."""
        while self._waiting and self._waiting[0][0] <= until:
            cue = heapq.heappop(self._waiting)[2]
            label = self._name(cue.label.replace("-->", "->"))
            yield self._block(self._time(cue.start), self._time(cue.end), label + cue.text)

    def _words(self, cue: Cue) -> Iterator[Cue]:
        """A cue for each of its words, and for each gap between two."""
        last, texts = cue.start, [part.text for part in cue.parts]
        for i, part in enumerate(cue.parts):
            if self._time(part.start) != self._time(last):
                yield Cue(last, part.start, cue.label, cue.text)
            text = "".join([*texts[:i], _underlined(part.text), *texts[i + 1 :]])
            yield Cue(part.start, part.end, cue.label, text)
            last = part.end

    def _time(self, seconds: float) -> str:
        return timestamp(seconds, hours=self.hours, mark=self.mark)

    def _name(self, label: str) -> str:
        """A speaker's label, which the user may have written, as the format has text."""
        return label

    def _block(self, start: str, end: str, text: str) -> str:
        raise NotImplementedError


class Srt(_Cues):
    """Numbered cues; hours always, a decimal comma."""

    def _block(self, start: str, end: str, text: str) -> str:
        return f"{next(self._numbers)}\n{start} --> {end}\n{text}\n\n"


class Vtt(_Cues):
    """Hours only from one hour on, a decimal point."""

    hours, mark = False, "."

    def head(self) -> str:
        return "WEBVTT\n\n"

    def _name(self, label: str) -> str:
        return label.replace("&", "&amp;").replace("<", "&lt;")

    def _block(self, start: str, end: str, text: str) -> str:
        return f"{start} --> {end}\n{text}\n\n"


class Json(Format):
    """``text``, ``segments``, ``language``. The text comes first in the file, so the segments wait: in memory
    up to 4 MB, then in a nameless file in ``folder`` (None: where temporary files go)."""

    def __init__(self, language: str = "en", folder: Path | None = None) -> None:
        self.language = language
        self._waiting: IO[str] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by tail
            WAITING, "w+", encoding="ascii", dir=None if folder is None else str(folder)
        )
        self._separator = ""

    def head(self) -> str:
        return '{"text": "'

    def add(self, segment: Mapping[str, Any]) -> str:
        self._waiting.write(self._separator + json.dumps(segment))
        self._separator = ", "
        return json.dumps(segment["text"])[1:-1]

    def tail(self) -> Iterator[str]:
        yield '", "segments": ['
        self._waiting.seek(0)
        while chunk := self._waiting.read(CHUNK):
            yield chunk
        self._waiting.close()
        yield f'], "language": {json.dumps(self.language)}}}'


def _label(segment: Mapping[str, Any]) -> str:
    speaker = segment.get("speaker")
    return f"[{speaker}] " if speaker else ""


def _underlined(text: str) -> str:
    word = text.lstrip()
    return f"{text[: len(text) - len(word)]}<u>{word}</u>"
