"""When each word of a spoken sentence is said: a model that plans how long each of its symbols lasts knows.

What is shown is the text as it was written, "$3.50" and not "three dollars and fifty cents": the words that
were said are matched with those that each written word becomes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from slyther_cli.decode.recording import Recording
from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.transcript import TranscriptWriter
from slyther_cli.decode.words import Word
from slyther_cli.english.normalise import MARKS, normalise


class Timed(NamedTuple):
    """A written word, and the frames from its first sound to its last, the end exclusive."""

    text: str
    start: int
    end: int


def time_words(
    text: str, said: Sequence[str], symbols: Sequence[int], durations: Sequence[int]
) -> list[Timed]:
    """The words of a sentence as it is written, with times. ``said``, ``symbols``: of its spelling;
    ``durations``: frames of each symbol."""
    spans = list(_spans(symbols, durations))
    if len(spans) != len(said):
        raise ValueError(f"{len(said)} words, {len(spans)} runs of symbols")
    written = text.split()
    owners = _owners(written, said)
    out: list[Timed] = []
    silent = ""  # signs before the first word that is said
    for number, word in enumerate(written):
        own = [span for span, owner in zip(spans, owners, strict=True) if owner == number]
        if own:
            out.append(Timed(f"{silent} {word}".strip(), own[0][0], own[-1][1]))
            silent = ""
        elif out:
            out[-1] = out[-1]._replace(text=f"{out[-1].text} {word}")
        else:
            silent = f"{silent} {word}".strip()
    return out


def _spans(symbols: Sequence[int], durations: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last frame of each run of symbols between blanks and marks."""
    at, start = 0, -1
    for symbol, frames in zip(symbols, durations, strict=True):
        if symbol > len(MARKS) + 1:
            start = at if start < 0 else start
        elif start >= 0:
            yield start, at
            start = -1
        at += frames
    if start >= 0:
        yield start, at


def _owners(written: Sequence[str], said: Sequence[str]) -> list[int]:
    """The number of the written word that each word which is said belongs to; they never go back."""
    plain = [(word, number) for number, token in enumerate(written) for word in _spoken(token)]
    if not plain:
        return [0] * len(said)
    owners = [0] * len(said)
    matcher = SequenceMatcher(None, [word for word, _ in plain], list(said), autojunk=False)
    for _, from_, to, begin, end in matcher.get_opcodes():
        for place in range(begin, end):
            among = from_ + (place - begin) * (to - from_) // (end - begin)
            owners[place] = plain[min(among, len(plain) - 1) if to > from_ else max(0, from_ - 1)][1]
    return owners


@lru_cache(maxsize=10_000)
def _spoken(token: str) -> tuple[str, ...]:
    return tuple(word.strip(MARKS) for word in normalise(token).text.split())


class Subtitles:
    """The words of a recording into files, as they are spoken. ``paths``: format -> file. ``rate`` in Hz,
    ``hop`` samples a frame. All files appear with ``commit``, or none. Raises OutputError."""

    def __init__(self, paths: dict[str, Path], rate: int, hop: int, name: str) -> None:
        self._writer = TranscriptWriter(paths, recording=Recording(name))
        self._segmenter, self._rate, self._hop = Segmenter(rate), rate, hop
        self._count = 0

    def add(self, words: Sequence[Timed], at: int) -> None:
        """The words of a sentence that begins at sample ``at``."""
        new = [Word(w.text, at + w.start * self._hop, at + w.end * self._hop, 1.0) for w in words]
        self._write(self._segmenter.push(new))

    def part(self) -> None:
        """What follows is another paragraph."""
        self._write(self._segmenter.flush())

    def commit(self) -> None:
        self._write(self._segmenter.flush())
        self._writer.commit()

    def abort(self) -> None:
        self._writer.abort()

    def _write(self, segments: Sequence[Segment]) -> None:
        for segment in segments:
            self._writer.write(segment.as_dict(self._count, self._rate))
            self._count += 1
