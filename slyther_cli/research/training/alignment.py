"""Manifests of recorded speech with the times of their phones, which "aligned" voices learn from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slyther_cli.english.normalise import MARKS, normalise
from slyther_cli.errors import InputError, OutputError
from slyther_cli.files import whole
from slyther_cli.research.training.data import read_mono, read_table
from slyther_cli.research.training.phone_times import PAUSES

COLUMNS = ("path", "speaker", "split", "transcript", "phones")
LOUDEST_PAUSES = 0.33
"""Share of the loud 10 ms that may lie in pauses. With it and LONGEST_PHONE, of 250 utterances of six corpora
3 were left out with their own text, all noisy or by learners, and 11 in 12 with the first half of it."""
LONGEST_PHONE = 1.5  # seconds; learners of English hold some for 1.25


class Aligner(Protocol):
    """``research.studies.pocketsphinx_reference.PhoneAligner``, or another."""

    rate: int

    def __call__(self, samples: np.ndarray, words: list[str]) -> list[tuple[str, float]]: ...


def says_all(samples: np.ndarray, rate: int, phones: Sequence[tuple[str, float]]) -> bool:
    """Whether the phones (names, ends in seconds) are all that is said in float32 [n]. An aligner puts what a
    text lacks into its pauses, or into one endless phone."""
    frames = samples[: len(samples) // (rate // 100) * (rate // 100)].reshape(-1, rate // 100)
    level = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1))
    paused, begin, longest = np.ones(len(level), bool), 0.0, 0.0
    for name, end in phones:
        if name not in PAUSES:
            paused[round(begin * 100) : round(end * 100)] = False
            longest = max(longest, end - begin)
        begin = end
    floor, top = np.percentile(level, (5, 95))
    loud = level > max(0.1 * top, np.sqrt(floor * top))  # 20 dB below the loudest, above what hums all along
    return longest <= LONGEST_PHONE and np.sum(loud & paused) <= LOUDEST_PAUSES * np.sum(loud)


def align_manifests(
    manifests: Sequence[Path],
    out: Path,
    aligner: Aligner,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> dict[str, int]:
    """Write the utterances that have a transcript to the manifest ``out``, with a column ``phones`` as
    ``slyther train synthesize`` makes it: "SIL:0.12 HH:0.2 ..", names and ends in seconds.

    -> counts "aligned" and "left_out" (those whose sound does not fit their text,
    or says more than it). Raises
    :class:`InputError`, :class:`OutputError`.
    """
    rows = [
        (manifest.resolve().parent / row["path"], row)
        for manifest in manifests
        for row in read_table(manifest, ("path", "speaker", "split"))
        if row.get("transcript", "").strip()
    ]
    if not rows:
        raise InputError(f"no utterance with a transcript in {', '.join(map(str, manifests))}")
    done: list[list[str]] = []
    for number, (path, row) in enumerate(rows, 1):
        text = row.get("normalized") or row["transcript"]
        words = [word.rstrip("".join(MARKS)) for word in normalise(text)[0].split()]
        samples = read_mono(path, aligner.rate)
        phones = aligner(samples, words) if words else []
        if phones and says_all(samples, aligner.rate, phones):
            column = " ".join(f"{name}:{end:g}" for name, end in phones)
            done.append([str(path), row["speaker"], row["split"], text, column])
        on_event({"event": "progress", "done": number, "of": len(rows), "aligned": len(done)})
    try:
        with whole(out, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(
                file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
            )
            writer.writerow(COLUMNS)
            writer.writerows(done)
    except (OSError, csv.Error) as error:
        raise OutputError(f"{out}: cannot be written: {error}") from None
    return {"aligned": len(done), "left_out": len(rows) - len(done)}
