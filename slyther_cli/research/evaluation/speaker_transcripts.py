"""Transcripts that tell who says what, read from the files in which they are exchanged.

STM: NIST's segment time marks: lines of file, channel, speaker, start, end, perhaps "<label>", and words.
SegLST: a JSON list of {"session_id", "speaker", "start_time", "end_time", "words"}, as CHiME and meeteval
have it. And what ``slyther transcribe -f json`` writes, a session of the file's name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli.errors import InputError
from slyther_cli.files import reason
from slyther_cli.untrusted import read_json

Sessions = dict[str, dict[str, str]]
"""By session and speaker all that is said, in order of time."""

NOBODY = "-"  # the speaker of a segment that names none
_LABEL = re.compile(r"<[^>]*>\s*")
_SCORING = re.compile(r"[{}]|\bignore_time_segment_in_scoring\b", re.IGNORECASE)


class _Segment(NamedTuple):
    session: str
    speaker: str
    start: float
    text: str


def read_sessions(paths: Sequence[Path]) -> Sessions:
    """All sessions of all files; a file's name says what it is (.stm, .json). Raises InputError."""
    segments = [segment for path in paths for segment in _read(path)]
    texts: dict[str, dict[str, list[str]]] = {}
    for segment in sorted(segments, key=lambda segment: segment.start):
        texts.setdefault(segment.session, {}).setdefault(segment.speaker, []).append(segment.text)
    found = {name: {who: " ".join(said) for who, said in texts[name].items()} for name in sorted(texts)}
    if not found:
        raise InputError(f"{', '.join(map(str, paths))}: no segment")
    return found


def _read(path: Path) -> Iterator[_Segment]:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if path.suffix.lower() not in (".stm", ".json"):
        raise InputError(f"{path}: neither .stm nor .json: STM, SegLST and slyther's json are read")
    try:
        if path.suffix.lower() == ".stm":
            yield from _stm(raw.decode("utf-8-sig"))
        else:
            yield from _json(read_json(raw), path.stem)
    except RecursionError:
        raise InputError(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def _stm(text: str) -> Iterator[_Segment]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split(maxsplit=5)
        if len(fields) < 5:
            raise ValueError(f"line {number}: not file, channel, speaker, start, end, words")
        session, _, speaker, start, end, *rest = fields
        said = _LABEL.sub("", rest[0].strip(), count=1) if rest and rest[0].startswith("<") else "".join(rest)
        if found := _SCORING.search(said):
            raise ValueError(f"line {number}: {found[0]!r} is an instruction to sclite, which is not read")
        try:
            times = float(start), float(end)
        except ValueError:
            raise ValueError(f"line {number}: start or end is no number") from None
        if not all(map(math.isfinite, times)):
            raise ValueError(f"line {number}: start or end is no number")
        yield _Segment(session, speaker, times[0], said)


def _json(value: Any, stem: str) -> Iterator[_Segment]:
    if isinstance(value, dict):  # slyther's and whisper's: start and text where SegLST has others
        rows, names = value.get("segments"), ("start", "text")
    else:
        rows, names = value, ("start_time", "words")
    if not isinstance(rows, list):
        raise ValueError("neither a list of segments nor a transcript that has one")
    for number, row in enumerate(rows, 1):
        start, text = (row.get(name) for name in names) if isinstance(row, dict) else (None, None)
        if isinstance(start, str):  # some write their times as text
            start = float(start) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", start) else None
        if not isinstance(text, str) or not isinstance(start, int | float) or isinstance(start, bool):
            raise ValueError(f"segment {number} has no {names[0]} or no {names[1]}")
        session = stem if isinstance(value, dict) else row.get("session_id")
        speaker = row.get("speaker") or NOBODY
        if not isinstance(session, str) or not isinstance(speaker, str):
            raise ValueError(f"segment {number}: session_id and speaker are texts")
        yield _Segment(session, speaker, float(start), text)
