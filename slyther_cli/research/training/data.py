"""Speech pools: the utterances of manifests, resampled once and kept as 16-bit samples in one mapped file.

A manifest is a TSV without quoting and with a header; needed columns: path (relative to the manifest),
speaker, split; used when there: sex, transcript, normalized (a transcript with its numbers written out),
possible_speakers (who it can be, where that is not known: names with spaces between, or nothing).
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slyther_cli import runtime
from slyther_cli.audio.discover import shown
from slyther_cli.errors import InputError, OutputError
from slyther_cli.files import whole


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest. ``path`` is absolute; ``sex`` is as the manifest has it, in capitals;
    ``possible`` are its possible_speakers, None without that column."""

    path: Path
    speaker: str
    split: str
    transcript: str = ""
    sex: str = ""
    possible: frozenset[str] | None = None


def read_table(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a TSV with a header; every row has a text in each of ``columns``.

    Raises :class:`InputError`: the file cannot be read, a column is missing, a row has none of its entries.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            rows, header = list(reader), reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: cannot read the table: {why}") from None
    missing = [c for c in columns if c not in header]
    if missing:
        raise InputError(f"{path}: not a table of this kind: no column {', '.join(missing)}")
    for number, row in enumerate(rows, 2):
        empty = [c for c in columns if not row[c]]
        if empty:
            raise InputError(f"{path}: line {number} has no {', '.join(empty)}")
    return rows


def read_manifest(path: Path) -> list[Utterance]:
    """Every row. Raises :class:`InputError` as :func:`read_table` does, and when there is none."""
    rows = read_table(path, ("path", "speaker", "split"))
    if not rows:
        raise InputError(f"{path}: the manifest has no rows")
    base = path.resolve().parent
    return [
        Utterance(
            base / r["path"],
            r["speaker"],
            r["split"],
            r.get("normalized") or r.get("transcript", ""),
            r.get("sex", "").upper(),
            frozenset(r["possible_speakers"].split()) if "possible_speakers" in r else None,
        )
        for r in rows
    ]


def read_mono(path: Path, rate: int) -> np.ndarray:
    """A sound file as float32 [samples] at ``rate``, its channels averaged. Raises :class:`InputError`."""
    import soundfile as sf
    import soxr

    try:
        audio, own_rate = sf.read(path, dtype="float32", always_2d=True)
    except (OSError, sf.LibsndfileError) as error:
        raise InputError(f"{path}: {getattr(error, 'error_string', error)}") from None
    mono = audio.mean(1)
    if not np.isfinite(mono).all():
        raise InputError(f"{path}: has samples that are not finite")
    return soxr.resample(mono, own_rate, rate) if own_rate != rate else mono


def at_speed(utterance: np.ndarray, rate: int, factor: float, quality: str) -> np.ndarray:
    """A pool's int16 samples -> float32 as if said ``factor`` times as fast, pitch and all; ``quality`` is
    soxr's."""
    x = np.asarray(utterance, np.float32) / 32768
    if factor == 1.0:
        return x
    import soxr

    return soxr.resample(x, rate * factor, rate, quality=quality)


class SpeechPool:
    """The speech of one split by speaker: ``speakers[name]`` is a list of int16 arrays at ``rate`` Hz,
    ``transcripts[name]`` the list of their texts, "" where the manifest has none, ``paths[name]`` of where
    they come from.

    Silence at both ends is trimmed (frames 40 dB below the utterance's loudest), and every utterance is
    scaled to the same level, -25 dB RMS, so that mixing levels mean what they say; what is then shorter than
    0.25 s is left out. ``sex[name]`` is what the manifest says, "" if nothing. The samples lie in ``cache``
    in a file of their own, made anew when an audio file or a speaker's name changes.

    Raises :class:`InputError`: a damaged manifest or audio file, no speech of this split.
    :class:`OutputError`: ``cache`` cannot be written.
    """

    def __init__(self, manifests: Sequence[Path], split: str, rate: int, cache: Path):
        utterances = [u for m in manifests for u in read_manifest(m) if u.split == split]
        names = ", ".join(map(str, manifests))
        if not utterances:
            raise InputError(f"no utterance of split {split!r} in {names}")
        self.rate = rate
        self.sex = {u.speaker: u.sex for u in utterances}
        self._possible = {u.speaker: u.possible for u in utterances if u.possible is not None}
        stem = cache / f"pool-{re.sub(r'[^0-9A-Za-z-]', '_', split)}-{rate}-{_key(utterances)}"
        if not stem.with_suffix(".json").exists():
            try:
                _build(utterances, rate, stem)
            except OSError as error:
                raise OutputError(
                    f"{cache}: cannot hold the speech pool: {error.strerror or error}"
                ) from None
        index = json.loads(stem.with_suffix(".json").read_text())
        if not index:
            raise InputError(f"nothing but silence in split {split!r} of {names}")
        samples = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        self.speakers: dict[str, list[np.ndarray]] = {}
        self.transcripts: dict[str, list[str]] = {}
        self.paths: dict[str, list[str]] = {}
        for number, start, stop in index:
            u = utterances[number]
            self.speakers.setdefault(u.speaker, []).append(samples[start:stop])
            self.transcripts.setdefault(u.speaker, []).append(u.transcript)
            self.paths.setdefault(u.speaker, []).append(str(u.path))
        self.seconds = len(samples) / rate

    def same(self, one: str, other: str) -> bool:
        """Whether these two speakers can be the same person, by the possible_speakers of both."""
        if one not in self._possible or other not in self._possible:
            return one == other
        a, b = self._possible[one], self._possible[other]
        return not a or not b or bool(a & b)

    def all_transcripts(self) -> list[str]:
        """Every text that is not empty."""
        return [text for texts in self.transcripts.values() for text in texts if text]


def _key(utterances: list[Utterance]) -> str:
    """A short hash of all that the pool's samples and index depend on."""
    rows: list[list] = [[4]]
    for u in utterances:
        try:
            status = u.path.stat()
        except (OSError, ValueError) as error:  # of a NUL in the name
            raise InputError(f"{shown(u.path)}: {getattr(error, 'strerror', error)}") from None
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise InputError(f"{shown(u.path)}: is not a file")
        rows.append([str(u.path), u.speaker, status.st_size, status.st_mtime_ns])
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def _build(utterances: list[Utterance], rate: int, stem: Path) -> None:
    """Write ``stem``.npy and then ``stem``.json, a few utterances in memory at a time."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    index, total = [], 0
    with whole(stem.with_suffix(".npy")) as file:
        _header(file, 0)
        for number, mono in enumerate(_levelled(utterances, rate)):
            if len(mono) < rate // 4:
                continue
            index.append((number, total, total + len(mono)))
            file.write(np.clip(np.round(mono * 32767), -32768, 32767).astype("<i2").tobytes())
            total += len(mono)
        file.seek(0)
        _header(file, total)
    with whole(stem.with_suffix(".json"), "w") as file:
        json.dump(index, file)


def _levelled(utterances: Sequence[Utterance], rate: int) -> Iterator[np.ndarray]:
    """Each utterance trimmed and levelled, in their order; a few ahead, on as many threads as cores: decoding
    and resampling do not hold Python's lock."""
    threads = runtime.cores()
    coming: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for u in utterances:
            coming.append(pool.submit(lambda path: trim_and_level(read_mono(path, rate), rate), u.path))
            if len(coming) > 2 * threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()


def _header(file, samples: int) -> None:
    """numpy's header; it keeps room for the first axis to grow, so it can be written again in place."""
    about = {"descr": "<i2", "fortran_order": False, "shape": (samples,)}
    np.lib.format.write_array_header_1_0(file, about)


def trim_and_level(x: np.ndarray, rate: int, level_db: float = -25.0, floor_db: float = -40.0) -> np.ndarray:
    """[n] float -> without silent ends, at ``level_db`` RMS (less where a peak would clip). May come back
    empty."""
    hop = rate // 100
    frames = x[: len(x) // hop * hop].reshape(-1, hop)
    if not len(frames):
        return x[:0]
    energy = (frames.astype(np.float64) ** 2).mean(1)
    loud = np.flatnonzero(energy > max(energy.max() * 10 ** (floor_db / 10), 1e-12))
    if not len(loud):
        return x[:0]
    x = x[max(0, loud[0] - 3) * hop : (loud[-1] + 4) * hop]
    scale = 10 ** (level_db / 20) / np.sqrt(np.mean(x.astype(np.float64) ** 2))
    return x * np.float32(min(scale, 0.99 / np.abs(x).max()))
