"""Speech with text as a codec's codes: encoded once, kept in a mapped file, fed in batches of like
lengths."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from slyther_cli.english.phonemes import spell
from slyther_cli.errors import InputError, OutputError
from slyther_cli.files import whole
from slyther_cli.models.codec import Codec
from slyther_cli.models.vall_m import Batch
from slyther_cli.research.training.data import read_mono, read_table
from slyther_cli.research.training.phone_times import parse_phones, symbol_durations

LEVEL_DB = -25.0
FORMAT = 2  # of what is kept in the cache


@dataclass(frozen=True)
class Spoken:
    """symbols [S]; codes [T, n_codebooks] uint16; durations [S] frames, or None. ``sex`` and ``accent`` are
    as the manifest has them."""

    symbols: np.ndarray
    codes: np.ndarray
    durations: np.ndarray | None
    speaker: str
    text: str
    sex: str = ""
    accent: str = ""


@dataclass(frozen=True)
class Encoding:
    """How speech becomes codes: by ``codec``, whose weights ``key`` stands for, kept in the folder ``cache``;
    ``on_progress`` gets how many files are done, and of how many. ``n_codebooks``: only the first of them are
    used."""

    codec: Codec
    key: str
    cache: Path
    on_progress: Callable[[int, int], None] = lambda done, of: None
    n_codebooks: int | None = None


class SpokenCodes:
    """The utterances of one split with a transcript, in the order of their lengths, shortest first.

    Level: -25 dB RMS each. With ``aligned``, utterances need the column ``phones`` (as ``slyther train
    synthesize`` writes it), and those whose phones do not fit their text are left out; ``left_out`` counts
    them.

    Raises :class:`InputError`: a damaged manifest or file, nothing of this split. :class:`OutputError`: the
    cache cannot be written.
    """

    def __init__(
        self,
        manifests: Sequence[Path],
        split: str,
        encoding: Encoding,
        alphabet: str,
        aligned: bool,
        seconds: tuple[float, float] = (0.5, 20.0),
    ):
        rows = [(m.resolve().parent / r["path"], r) for m in manifests for r in _rows(m, split)]
        names = ", ".join(map(str, manifests))
        if not rows:
            raise InputError(f"no utterance of split {split!r} with a transcript in {names}")
        codec = encoding.codec
        codes, ends = encoded([path for path, _ in rows], encoding)
        codes = codes[:, : encoding.n_codebooks]
        self.items: list[Spoken] = []
        start = 0
        for end, (_, row) in zip(ends, rows, strict=True):
            symbols, durations = spell(row["transcript"], alphabet).symbols, None
            if aligned and symbols:
                phones = parse_phones(row.get("phones") or "")
                durations = symbol_durations(symbols, phones, end - start, codec.frame_rate)
            fits = seconds[0] <= (end - start) / codec.frame_rate <= seconds[1]
            if symbols and fits and (durations is not None or not aligned):
                about = (row.get("speaker", ""), row["transcript"], row.get("sex", ""), row.get("accent", ""))
                self.items.append(Spoken(np.array(symbols), codes[start:end], durations, *about))
            start = end
        self.left_out = len(rows) - len(self.items)
        if not self.items:
            need = " with timed phones (column phones) that fit the transcript" if aligned else ""
            raise InputError(f"no utterance of split {split!r}{need} in {names}")
        self.items.sort(key=lambda item: len(item.codes))
        self.seconds = sum(len(item.codes) for item in self.items) / codec.frame_rate

    def batch(self, rng: np.random.Generator, frames: int, join: float = 0.0) -> Batch:
        """Utterances of like lengths, about ``frames`` frames with padding; a share of ``join`` of them is
        followed by another of the same speaker."""
        stop = 1 + int(rng.integers(len(self.items)))
        while stop < len(self.items) and stop * len(self.items[stop - 1].codes) < frames:
            stop += 1  # so that the shortest are not alone in small batches
        count = max(1, min(stop, frames // len(self.items[stop - 1].codes)))
        start = stop - count
        chosen = self.items[start:stop]
        if join and rng.random() < join:
            chosen = [self._joined(start + i, rng) for i in range(max(1, len(chosen) // 2))]
        return collate(chosen)

    def _joined(self, place: int, rng: np.random.Generator) -> Spoken:
        """That utterance, and one that is not much longer."""
        item = self.items[place]
        for _ in range(8):
            other = self.items[rng.integers(min(len(self.items), place + 10))]
            if other.speaker == item.speaker:
                durations = None
                if item.durations is not None and other.durations is not None:
                    durations = np.concatenate((item.durations, other.durations))
                symbols = np.concatenate((item.symbols, other.symbols))
                codes = np.concatenate((item.codes, other.codes))
                return Spoken(symbols, codes, durations, item.speaker, f"{item.text} {other.text}")
        return item


def collate(items: Sequence[Spoken]) -> Batch:
    """Padded on the right: symbols and codes with 0, durations with 0."""
    n_symbols = torch.tensor([len(i.symbols) for i in items])
    n_frames = torch.tensor([len(i.codes) for i in items])
    symbols = torch.zeros(len(items), int(n_symbols.max()), dtype=torch.int64)
    codes = torch.zeros(len(items), items[0].codes.shape[1], int(n_frames.max()), dtype=torch.int64)
    durations = torch.zeros_like(symbols) if all(i.durations is not None for i in items) else None
    for row, item in enumerate(items):
        symbols[row, : len(item.symbols)] = torch.from_numpy(item.symbols)
        codes[row, :, : len(item.codes)] = torch.from_numpy(item.codes.astype(np.int64).T)
        if durations is not None and item.durations is not None:
            durations[row, : len(item.symbols)] = torch.from_numpy(item.durations)
    return Batch(symbols, n_symbols, codes, n_frames, durations)


def at_level(samples: np.ndarray, level_db: float = LEVEL_DB) -> np.ndarray:
    """At that RMS of what is not silence, less where a peak would clip."""
    power = np.square(samples.astype(np.float64))
    loud = power[power > power.max(initial=0.0) * 1e-4]
    if not len(loud) or not loud.mean() > 0:
        return samples
    scale = 10 ** (level_db / 20) / np.sqrt(loud.mean())
    return samples * np.float32(min(scale, 0.99 / np.abs(samples).max()))


def _rows(manifest: Path, split: str) -> list[dict[str, str]]:
    rows = read_table(manifest, ("path", "split"))
    return [r for r in rows if r["split"] == split and r.get("transcript", "").strip()]


def _key(paths: list[Path], codec_key: str) -> str:
    """A short hash of all that the codes depend on."""
    about: list = [FORMAT, codec_key]
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
        about.append([str(path), stat.st_size, stat.st_mtime_ns])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def encoded(paths: list[Path], encoding: Encoding) -> tuple[np.ndarray, list[int]]:
    """Codes of all files, one after the other [frames, n_codebooks], and where each ends. A file is sound, or
    with the ending .npy codes, as NumPy saves them: uint16 [frames, n_codebooks].

    Raises :class:`InputError`: a damaged file. :class:`OutputError`: the cache cannot be written."""
    codec, cache = encoding.codec, encoding.cache
    stem = cache / f"codes-{_key(paths, encoding.key)}"
    try:
        if not stem.with_suffix(".json").exists():
            _encode(paths, codec, stem, encoding.on_progress)
        ends = json.loads(stem.with_suffix(".json").read_text())
        return np.memmap(
            stem.with_suffix(".codes"), np.uint16, "r", shape=(ends[-1], codec.n_codebooks)
        ), ends
    except OSError as error:
        raise OutputError(f"{cache}: cannot hold the encoded speech: {error.strerror or error}") from None


def _encode(paths: list[Path], codec: Codec, stem: Path, on_progress: Callable[[int, int], None]) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    ends: list[int] = []
    with whole(stem.with_suffix(".codes")) as file:
        for path in paths:
            codes = _read_codes(path, codec) if path.suffix == ".npy" else _encode_file(path, codec)
            file.write(codes.tobytes())
            ends.append((ends[-1] if ends else 0) + len(codes))
            on_progress(len(ends), len(paths))
    with whole(stem.with_suffix(".json"), "w") as file:
        json.dump(ends, file)


def _encode_file(path: Path, codec: Codec) -> np.ndarray:
    samples = at_level(read_mono(path, codec.sample_rate))
    codes = codec.encode(torch.from_numpy(samples)[None].to(next(codec.parameters()).device))[0].T
    return codes.cpu().numpy().astype(np.uint16)


def _read_codes(path: Path, codec: Codec) -> np.ndarray:
    try:
        codes = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if codes.dtype != np.uint16 or codes.ndim != 2 or codes.shape[1] != codec.n_codebooks:
        raise InputError(f"{path}: are not codes, uint16 [frames, {codec.n_codebooks}]")
    if codes.max(initial=0) >= codec.codebook_size:
        raise InputError(f"{path}: has codes beyond {codec.codebook_size - 1}, the codec's last")
    return codes
