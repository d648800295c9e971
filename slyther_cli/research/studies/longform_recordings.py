"""Long recordings of two speakers, joined from real utterances, whose parts are known.

Each speaker talks in runs, utterance after utterance in the order of the reading where a ``chapters.tsv``
lies beside the manifest (columns chapter, speaker, first_utt, last_utt; files are named CHAPTER-NUMBER.*),
else in the manifest's order. Short pauses lie between utterances; every few utterances the speaker is silent
for some seconds and the other has the word. Both do so on their own, so there are turns, overlaps and
silence. When all runs are used up, they come again in another order, against other words of the other one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from slyther_cli.errors import InputError
from slyther_cli.research.training.data import Utterance, read_manifest, read_mono, read_table

LEVEL_DB = -28.0  # RMS of each speaker while speaking
PAUSE = (0.1, 0.6)  # seconds between utterances
TURN = (2, 7)  # utterances before the speaker is silent
SILENCE = (2.0, 12.0)  # seconds that the other has the word

Runs = list[list[np.ndarray]]


def speakers(manifest: Path, split: str) -> dict[str, list[list[Utterance]]]:
    """The runs of every speaker of the split, those with most files first.

    Speakers of chapters come before others. Raises InputError: a damaged table, fewer than two speakers.
    """
    rows = [u for u in read_manifest(manifest) if u.split == split]
    chapters = manifest.resolve().parent / "chapters.tsv"
    found: dict[str, list[list[Utterance]]] = {}
    if chapters.exists():
        for row in read_table(chapters, ("chapter", "speaker", "first_utt", "last_utt")):
            run = _chapter(row["chapter"], row["first_utt"], row["last_utt"], rows, chapters)
            if run:
                found.setdefault(row["speaker"], []).append(run)
    in_chapters = set(found)
    for u in rows:
        if u.speaker not in in_chapters:
            found.setdefault(u.speaker, [[]])[0].append(u)
    if len(found) < 2:
        raise InputError(f"{manifest}: split {split!r} has {len(found)} speakers; to mix takes 2")
    order = sorted(found, key=lambda s: (s not in in_chapters, -sum(map(len, found[s])), s))
    return {s: found[s] for s in order}


def pairs_of(runs: dict[str, list[list[Utterance]]], same_sex: bool = False) -> list[list[str]]:
    """The first two of :func:`speakers`, the next two, ...; with ``same_sex`` those of each sex apart, and
    none whose sex the manifest does not tell.
    """
    if not same_sex:
        names = list(runs)
        return [names[i : i + 2] for i in range(0, len(names) - 1, 2)]
    of_sex: dict[str, list[str]] = {}
    for name, (first, *_) in runs.items():
        if first[0].sex in ("F", "M"):
            of_sex.setdefault(first[0].sex, []).append(name)
    return [names[i : i + 2] for names in of_sex.values() for i in range(0, len(names) - 1, 2)]


@dataclass(frozen=True)
class Pairs:
    """Of whom recordings are made: ``count`` pairs of speakers of ``split``, of two men or two women with
    ``same_sex``; another ``seed`` makes other recordings of them."""

    manifest: Path
    split: str = "test"
    count: int = 1
    same_sex: bool = False
    seed: int = 0


def recording(made_of: Pairs, pair: int, seconds: float, rate: int) -> tuple[list[str], np.ndarray]:
    """The names of pair number ``pair`` of :func:`pairs_of` and their voices, [2, samples] float32 at
    ``rate``, to be added.

    The same for the same arguments; a shorter one is the beginning of a longer one. Raises InputError when
    there is no such pair, or a file cannot be read.
    """
    runs = speakers(made_of.manifest, made_of.split)
    pairs = pairs_of(runs, made_of.same_sex)
    if pair >= len(pairs):
        of_one = " of one sex" if made_of.same_sex else ""
        raise InputError(
            f"{made_of.manifest}: split {made_of.split!r} has {len(pairs)} pairs of speakers{of_one}"
        )
    chosen = pairs[pair]
    samples = round(seconds * rate)
    voices = np.stack(
        [
            track(np.random.default_rng([made_of.seed, pair, i]), _levelled(runs[name], rate), samples, rate)
            for i, name in enumerate(chosen)
        ]
    )
    return chosen, voices


def track(rng: np.random.Generator, runs: Runs, samples: int, rate: int) -> np.ndarray:
    """One speaker for ``samples`` samples: the runs one behind the other, with pauses and silences."""
    out = np.zeros(samples, np.float32)
    at, left = int(rng.uniform(0, 3) * rate), int(rng.integers(*TURN))
    while True:
        for index in rng.permutation(len(runs)):
            for piece in runs[index]:
                if at >= samples:
                    return out
                piece = piece[: samples - at]
                out[at : at + len(piece)] = piece
                left -= 1
                at += len(piece) + int(rng.uniform(*(PAUSE if left else SILENCE)) * rate)
                left = left or int(rng.integers(*TURN))


def _chapter(name: str, first: str, last: str, rows: Sequence[Utterance], table: Path) -> list[Utterance]:
    """The utterances of a chapter from number ``first`` to ``last``, in order."""
    if not first.isdecimal() or not last.isdecimal():
        raise InputError(f"{table}: chapter {name} has no numbers of utterances")
    found = {}
    for u in rows:
        number = re.fullmatch(re.escape(name) + r"-(\d+)", u.path.stem)
        if number and int(first) <= int(number[1]) <= int(last):
            found[int(number[1])] = u
    return [found[number] for number in sorted(found)]


def _levelled(runs: list[list[Utterance]], rate: int) -> Runs:
    """The sound of all runs, with one gain for the speaker."""
    sound = [[read_mono(u.path, rate) for u in run] for run in runs]
    power = sum(float(np.square(x, dtype=np.float64).sum()) for run in sound for x in run)
    count = sum(len(x) for run in sound for x in run)
    if not power:
        raise InputError(f"{runs[0][0].path}: nothing but silence")
    gain = np.float32(10 ** (LEVEL_DB / 20) / np.sqrt(power / count))
    return [[x * gain for x in run] for run in sound]
