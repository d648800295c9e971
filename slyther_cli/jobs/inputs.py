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

Row = tuple[int, str, str]  # the number of a line, a path, the folder of its results
LARGEST_MANIFEST = 1 << 30  # bytes
COLUMN, FOLDER = "path", "folder"


def read_manifest(name: str) -> list[Path]:
    """The paths that a manifest has; see :func:`read_places`."""
    return [path for path, _ in read_places(name)]


def read_places(name: str) -> list[tuple[Path, str]]:
    """The paths that a manifest has, in its order, each with the folder below the output folder that its
    results go into ("": that one itself). Relative paths are below the manifest's folder.

    A text file has a path a line, or ends each with a zero byte, as ``find -print0`` does; a .tsv or .csv has
    a header with a column "path", perhaps one "folder", and any others. "-" is such a text on standard input,
    below the current folder. Paths name files as they are: no globs, no folders to search. Raises InputError:
    it cannot be read, is no list of paths, or is empty.
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
    places = []
    for number, entry, folder in rows:
        if "\0" in entry:
            raise InputError(f"{label}: line {number} is no path: is this a manifest?")
        places.append((file_path(base / entry), folder))
    if not places:
        raise InputError(f"{label}: the manifest names no recordings")
    return places


def _lines(text: str) -> list[Row]:
    names = text.removesuffix("\0").split("\0")
    if text.endswith("\0") and all(name.strip() for name in names):
        return [(number, name, "") for number, name in enumerate(names, 1)]
    lines = enumerate(text.split("\n"), 1)
    return [(number, line.removesuffix("\r"), "") for number, line in lines if line.strip()]


def _column(text: str, label: str, name: str) -> list[Row]:
    tabs = name.lower().endswith(".tsv")
    how: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    try:
        lines = io.StringIO(text, newline="")
        reader = csv.DictReader(lines, restval="", **how)
        rows = [(reader.line_num, row.get(COLUMN, ""), row.get(FOLDER, "")) for row in reader]
    except csv.Error as error:
        raise InputError(f"{label}: not a table: {error}") from None
    if COLUMN not in (reader.fieldnames or []):
        raise InputError(f"{label}: the table has no column {COLUMN}; a list of bare paths is a .txt")
    empty = next((number for number, entry, _ in rows if not entry.strip()), None)
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
    up all of them, and differ by one input at most.

    >>> part(["c.wav", "a.wav", "b.wav"], parse_shard("2/2"))
    ['b.wav']
    """
    index, count = shard
    mine = set(sorted(map(str, inputs))[index - 1 :: count])
    return [item for item in inputs if str(item) in mine]


def longest_first(seconds: Sequence[float]) -> list[int]:
    """The order to work in, so that no long recording is left for the end, as numbers of inputs that are so
    long (:func:`length`). Standard input comes first; what cannot be read, and will fail at once, comes last;
    else as they are named."""
    return sorted(range(len(seconds)), key=lambda i: -seconds[i])


def length(source: Input) -> float:
    """Seconds, as the header tells; 0 of what cannot be read."""
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
