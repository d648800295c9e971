"""Manifests of recorded speech with the times of their phones, which "aligned" voices learn from."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slyther_cli.errors import InputError, OutputError
from slyther_cli.text.normalise_english import MARKS, normalise
from slyther_cli.training.data import read_mono, read_table

COLUMNS = ("path", "speaker", "split", "transcript", "phones")


class Aligner(Protocol):
    """``studies.pocketsphinx_reference.PhoneAligner``, or another."""

    rate: int

    def __call__(self, samples: np.ndarray, words: list[str]) -> list[tuple[str, float]]: ...


def align_manifests(
    manifests: Sequence[Path],
    out: Path,
    aligner: Aligner,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> dict[str, int]:
    """Write the utterances that have a transcript to the manifest ``out``, with a column ``phones`` as
    ``slyther train synthesize`` makes it: "SIL:0.12 HH:0.2 ..", names and ends in seconds.

    -> counts "aligned" and "left_out" (those whose sound does not fit their text). Raises
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
        phones = aligner(read_mono(path, aligner.rate), words) if words else []
        if phones:
            told = " ".join(f"{name}:{end:g}" for name, end in phones)
            done.append([str(path), row["speaker"], row["split"], text, told])
        on_event({"event": "progress", "done": number, "of": len(rows), "aligned": len(done)})
    partial = out.with_suffix(f".{os.getpid()}.tmp")
    try:
        with open(partial, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(
                file, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n"
            )
            writer.writerow(COLUMNS)
            writer.writerows(done)
        os.replace(partial, out)
    except (OSError, csv.Error) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{out}: cannot be written: {error}") from None
    return {"aligned": len(done), "left_out": len(rows) - len(done)}
