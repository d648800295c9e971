"""Manifests of well-known corpora, as they are downloaded.

A manifest has the columns path, speaker, sex, split, transcript (and normalized where the corpus has it);
paths are absolute. Splits are the corpus's own where it has some; of the others a part is held out.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slyther_cli.errors import InputError, OutputError

HELD_OUT = 0.05  # share of the speakers (LJ Speech: chapters) that is dev, and that is test
SEXES = {"f": "F", "female": "F", "female_feminine": "F", "m": "M", "male": "M", "male_masculine": "M"}
COLUMNS = ("path", "speaker", "sex", "split", "transcript", "normalized")


@dataclass(frozen=True)
class Row:
    """One utterance. ``start`` and ``stop``: seconds of ``path`` that it takes, None for all of it."""

    path: Path
    speaker: str
    split: str
    transcript: str
    sex: str = ""
    normalized: str = ""
    start: float | None = None
    stop: float | None = None


def librispeech(folder: Path) -> Iterator[Row]:
    """``train-clean-100/SPEAKER/CHAPTER/*.trans.txt`` and the like; train-*, dev-*, test-* are the splits."""
    sexes = {}
    for place in (folder, folder.parent):
        if (place / "SPEAKERS.TXT").is_file():
            for line in _lines(place / "SPEAKERS.TXT"):
                parts = [part.strip() for part in line.split("|")]
                if not line.startswith(";") and len(parts) > 1:
                    sexes[parts[0]] = _sex(parts[1])
    for table in sorted(folder.rglob("*.trans.txt")):
        speaker, part = table.parent.parent.name, table.parent.parent.parent.name
        split = next((s for s in ("dev", "test") if part.startswith(s)), "train")
        for line in _lines(table):
            name, _, text = line.partition(" ")
            path, sex = table.parent / f"{name}.flac", sexes.get(speaker, "")
            yield Row(path, speaker, split, text, sex)


def commonvoice(folder: Path) -> Iterator[Row]:
    """``train.tsv``, ``dev.tsv`` and ``test.tsv`` beside ``clips/``."""
    for split in ("train", "dev", "test"):
        table = folder / f"{split}.tsv"
        if table.is_file():
            for row in csv.DictReader(_lines(table), delimiter="\t", quoting=csv.QUOTE_NONE, restval=""):
                _needs(table, row, "path", "client_id", "sentence")
                path = folder / "clips" / row["path"]
                yield Row(path, row["client_id"][:16], split, row["sentence"], _sex(row.get("gender") or ""))


def ljspeech(folder: Path) -> Iterator[Row]:
    """``metadata.csv`` beside ``wavs/``: one voice, whose last chapters are held out."""
    table = folder / "metadata.csv"
    rows = [line.split("|") for line in _lines(table)] if table.is_file() else []
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise InputError(f"{table}: line {number} has no text")
    splits = hold_out(sorted({row[0].split("-")[0] for row in rows}))
    for row in rows:
        split = splits[row[0].split("-")[0]]
        yield Row(folder / "wavs" / f"{row[0]}.wav", "LJ", split, row[1], "F", row[-1])


def vctk(folder: Path) -> Iterator[Row]:
    """``txt/SPEAKER/*.txt`` beside ``wav48_silence_trimmed`` (0.92, its first microphone) or ``wav48``; the
    last speakers by name are held out."""
    sexes = {}
    if (folder / "speaker-info.txt").is_file():
        for line in _lines(folder / "speaker-info.txt"):
            parts = line.split()
            if len(parts) > 2:
                sexes["p" + parts[0].removeprefix("p")] = _sex(parts[2])
    splits = hold_out(sorted(p.name for p in folder.glob("txt/*/")))
    for text in sorted(folder.glob("txt/*/*.txt")):
        speaker = text.parent.name
        newer = folder / "wav48_silence_trimmed" / speaker / f"{text.stem}_mic1.flac"
        older = folder / "wav48" / speaker / f"{text.stem}.wav"
        path = newer if newer.exists() else older
        yield Row(path, speaker, splits[speaker], " ".join(_lines(text)), sexes.get(speaker, ""))


def tedlium(folder: Path) -> Iterator[Row]:
    """``train``, ``dev`` and ``test`` (release 3: below ``legacy``), each with ``stm`` and ``sph``."""
    older = folder / "legacy"
    root = older if older.is_dir() else folder
    for split in ("train", "dev", "test"):
        for table in sorted((root / split / "stm").glob("*.stm")):
            for line in _lines(table):
                fields = line.split(maxsplit=6)
                if len(fields) < 7 or line.startswith(";;") or "ignore_time_segment" in fields[6]:
                    continue
                talk, _, speaker, start, stop, _, text = fields
                text = re.sub(r"\(\d+\)|<[^>]*>|\{[^}]*\}|\[[^]]*\]", " ", text)
                text = " ".join(re.sub(r" (?='\w)", "", text).split())
                path = table.parent.parent / "sph" / f"{talk}.sph"
                if text:
                    yield Row(path, speaker, split, text, start=float(start), stop=float(stop))


CORPORA: dict[str, Callable[[Path], Iterator[Row]]] = {
    f.__name__: f for f in (librispeech, commonvoice, ljspeech, vctk, tedlium)
}


def hold_out(names: Sequence[str]) -> dict[str, str]:
    """The split of each of the sorted ``names``: the last are test, those before them dev, the rest train."""
    count = max(1, round(HELD_OUT * len(names)))
    kinds = ["train"] * max(0, len(names) - 2 * count) + ["dev"] * count + ["test"] * count
    return dict(zip(names, kinds[-len(names) :] if names else [], strict=True))


def write_manifest(
    corpus: str, folder: Path, target: Path, on_recording: Callable[[int], None] = lambda count: None
) -> dict[str, int]:
    """Write the manifest of a corpus that lies in ``folder``; how many utterances each split has, and how
    many are ``missing``: listed, but without a recording.

    Utterances that are part of a longer recording (TED-LIUM) are cut out into FLAC files in a folder beside
    ``target``, of its name with ``-cuts``. ``on_recording`` gets the number of utterances done. Raises
    InputError: the folder holds no such corpus, or a table or recording of it cannot be read; OutputError.
    """
    from slyther_cli.files import reason, whole

    counts = {"train": 0, "dev": 0, "test": 0, "missing": 0}
    cuts = target.with_name(f"{target.stem}-cuts")
    try:
        with whole(target) as file:
            file.write(("\t".join(COLUMNS) + "\n").encode())
            for number, row in enumerate(CORPORA[corpus](folder.resolve()), 1):
                if not row.path.is_file():
                    counts["missing"] += 1
                    continue
                path = row.path if row.start is None else _cut(row, cuts, number)
                fields = (str(path), row.speaker, row.sex, row.split, row.transcript, row.normalized)
                file.write(("\t".join(" ".join(field.split()) for field in fields) + "\n").encode())
                counts[row.split] += 1
                on_recording(number)
            if not any(counts.values()):
                raise InputError(f"{folder}: no {corpus} corpus as it is downloaded: {_about(corpus)}")
            if not sum(counts[split] for split in ("train", "dev", "test")):
                raise InputError(f"{folder}: none of {counts['missing']} recordings that are listed is there")
    except UnicodeDecodeError as error:
        raise InputError(f"{folder}: a table is not UTF-8 text: {error}") from None
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {reason(error)}") from None
    return counts


def _cut(row: Row, cuts: Path, number: int) -> Path:
    import soundfile as sf

    from slyther_cli.files import make_folders, reason

    assert row.start is not None and row.stop is not None
    path = cuts / row.split / f"{row.path.stem}-{number:07d}.flac"
    try:
        with sf.SoundFile(row.path) as file:
            rate = file.samplerate
            file.seek(min(file.frames, int(row.start * rate)))
            sound = file.read(max(0, int((row.stop - row.start) * rate)), dtype="int16", always_2d=True)
    except (OSError, sf.LibsndfileError) as error:
        raise InputError(f"{row.path}: {getattr(error, 'error_string', error)}") from None
    try:
        make_folders(path.parent)
        sf.write(path, sound, rate, format="FLAC")
    except (OSError, sf.LibsndfileError) as error:
        why = getattr(error, "error_string", None) or reason(error)
        raise OutputError(f"{path} cannot be written: {why}") from None
    return path


def _about(corpus: str) -> str:
    return " ".join((CORPORA[corpus].__doc__ or "").split())


def _lines(path: Path) -> list[str]:
    """Its lines that are not empty. Raises InputError."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None


def _needs(table: Path, row: dict[str, str], *columns: str) -> None:
    missing = [c for c in columns if c not in row]
    if missing:
        raise InputError(f"{table}: no column {', '.join(missing)}")


def _sex(word: str) -> str:
    return SEXES.get(word.strip().lower(), "")
