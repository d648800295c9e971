"""Speech pools: the utterances of manifests, resampled once and kept as 16-bit samples in one mapped file.

A manifest is a TSV without quoting and with a header; needed columns: path (relative to the manifest), speaker, split;
used when there: duration_s, sex, transcript.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slyther_cli.errors import InputError


@dataclass(frozen=True)
class Utterance:
    """One row of a manifest. ``path`` is absolute."""

    path: Path
    speaker: str
    split: str
    transcript: str = ""


def read_manifest(path: Path) -> list[Utterance]:
    """Every row. Raises :class:`InputError` when the file cannot be read or a needed column is missing."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot read the manifest: {error}") from None
    missing = {"path", "speaker", "split"} - set(rows[0] if rows else {})
    if missing:
        raise InputError(f"{path}: not a manifest: no column {', '.join(sorted(missing))}")
    base = path.resolve().parent
    return [Utterance(base / r["path"], r["speaker"], r["split"], r.get("transcript") or "") for r in rows]


class SpeechPool:
    """The speech of one split by speaker: ``speakers[name]`` is a list of int16 arrays at ``rate``.

    Silence at both ends is trimmed (frames 40 dB below the utterance's loudest), and every utterance is scaled to the
    same level, -25 dB RMS, so that mixing levels mean what they say.
    """

    def __init__(self, manifests: list[Path], split: str, rate: int, cache: Path):
        utterances = [u for m in manifests for u in read_manifest(m) if u.split == split]
        if not utterances:
            raise InputError(f"no utterance of split {split!r} in {', '.join(map(str, manifests))}")
        self.rate = rate
        key = hashlib.sha1(json.dumps([split, rate, 2, [str(u.path) for u in utterances]]).encode()).hexdigest()[:16]
        stem = cache / f"pool-{split}-{rate}-{key}"
        if not stem.with_suffix(".json").exists():
            self._build(utterances, stem)
        index = json.loads(stem.with_suffix(".json").read_text())
        samples = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        self.speakers: dict[str, list[np.ndarray]] = {}
        for speaker, start, stop in index:
            self.speakers.setdefault(speaker, []).append(samples[start:stop])
        self.seconds = len(samples) / rate

    def _build(self, utterances: list[Utterance], stem: Path) -> None:
        import soundfile as sf
        import soxr

        stem.parent.mkdir(parents=True, exist_ok=True)
        index, pieces, total = [], [], 0
        for u in utterances:
            try:
                audio, rate = sf.read(u.path, dtype="float32", always_2d=True)
            except (OSError, sf.LibsndfileError) as error:
                raise InputError(f"{u.path}: {error}") from None
            mono = soxr.resample(audio.mean(1), rate, self.rate) if rate != self.rate else audio.mean(1)
            mono = trim_and_level(mono, self.rate)
            if len(mono) < self.rate // 4:
                continue
            index.append((u.speaker, total, total + len(mono)))
            pieces.append(np.clip(np.round(mono * 32767), -32768, 32767).astype(np.int16))
            total += len(mono)
        with tempfile.NamedTemporaryFile(dir=stem.parent, suffix=".npy", delete=False) as file:
            np.save(file, np.concatenate(pieces))
        os.replace(file.name, stem.with_suffix(".npy"))
        partial = stem.with_suffix(f".{os.getpid()}.tmp")
        partial.write_text(json.dumps(index))
        os.replace(partial, stem.with_suffix(".json"))


def trim_and_level(x: np.ndarray, rate: int, level_db: float = -25.0, floor_db: float = -40.0) -> np.ndarray:
    """[n] float -> without silent ends, at ``level_db`` RMS (less where a peak would clip). May come back empty."""
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
