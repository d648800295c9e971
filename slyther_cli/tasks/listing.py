"""Which recordings a batch has, and in which order: manifests, shards, the longest first."""

from __future__ import annotations

import csv
import io
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from slyther_cli.audio.discover import AUDIO_EXTENSIONS, Input, file_path, shown
from slyther_cli.audio.layout import HIGHEST_RATE, LOWEST_RATE
from slyther_cli.errors import InputError, UsageError

LARGEST_MANIFEST = 1 << 30  # bytes
COLUMN = "path"


def read_manifest(name: str) -> list[Path]:
    """The paths that a manifest has, in its order; relative ones are below its folder.

    A text file has a path a line; a .tsv or .csv has a header with a column "path", and any others. "-" is a
    list of lines on standard input, below the current folder. Paths name files as they are: no globs, no
    folders to search. Raises InputError: it cannot be read, is no list of paths, or is empty.
    """
    label = "standard input" if name == "-" else shown(name)
    try:
        if name == "-":
            data = sys.stdin.buffer.read(LARGEST_MANIFEST + 1) if sys.stdin is not None else b""
        else:
            with open(name, "rb") as file:
                data = file.read(LARGEST_MANIFEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{label}: the manifest cannot be read: {why.lower()}") from None
    if len(data) > LARGEST_MANIFEST:
        raise InputError(f"{label}: larger than {LARGEST_MANIFEST >> 30} GB is no manifest")
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    base = Path(".") if name == "-" else Path(name).parent
    rows = _column(text, label, name) if name.lower().endswith((".tsv", ".csv")) else _lines(text)
    paths = []
    for number, entry in rows:
        if "\0" in entry:
            raise InputError(f"{label}: line {number} is no path: is this a manifest?")
        paths.append(file_path(base / entry))
    if not paths:
        raise InputError(f"{label}: the manifest names no recordings")
    return paths


def _lines(text: str) -> list[tuple[int, str]]:
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.removesuffix("\r")) for number, line in lines if line.strip()]


def _column(text: str, label: str, name: str) -> list[tuple[int, str]]:
    tabs = name.lower().endswith(".tsv")
    how: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    try:
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, restval="", **how)
        rows = [(reader.line_num, row.get(COLUMN, "")) for row in reader]
    except csv.Error as error:
        raise InputError(f"{label}: not a table: {error}") from None
    if COLUMN not in (reader.fieldnames or []):
        raise InputError(f"{label}: the table has no column {COLUMN}; a list of bare paths is a .txt")
    empty = next((number for number, entry in rows if not entry.strip()), None)
    if empty is not None:
        raise InputError(f"{label}: line {empty} has no {COLUMN}")
    return rows


def parse_shard(text: str) -> tuple[int, int]:
    """(I, N) of "I/N", I from 1 to N. Raises UsageError."""
    found = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise UsageError(f"--shard {text}: write I/N, I from 1 to N, as 3/16")
    return index, count


def part(inputs: Sequence[Input], shard: tuple[int, int]) -> list[Input]:
    """Of N parts the I-th: every N-th input by name, so that the parts of the same inputs are disjoint, make
    up all of them, and differ by one input at most."""
    index, count = shard
    mine = set(sorted(map(str, inputs))[index - 1 :: count])
    return [item for item in inputs if str(item) in mine]


def longest_first(inputs: Sequence[Input]) -> list[int]:
    """The order to work in, so that no long recording is left for the end, as numbers of ``inputs``. Standard
    input comes first; what cannot be read, and will fail at once, comes last; else as they are named."""
    return sorted(range(len(inputs)), key=lambda i: -_seconds(inputs[i]))


def _seconds(source: Input) -> float:
    """As the header tells."""
    if source == "-":
        return float("inf")
    import soundfile

    from slyther_cli.audio.containers import has_mp3
    from slyther_cli.audio.ffmpeg import duration

    try:
        if not os.path.isfile(source):  # a pipe must not be opened twice
            return 0.0
        if has_mp3(source):
            return duration(source)
        about = soundfile.info(os.fspath(source))
        fits = LOWEST_RATE <= about.samplerate <= HIGHEST_RATE
        return about.frames / about.samplerate if fits else 0.0
    except (OSError, RuntimeError, ValueError, TypeError):
        if source.suffix.lower() not in AUDIO_EXTENSIONS:
            return 0.0
    return duration(source)
