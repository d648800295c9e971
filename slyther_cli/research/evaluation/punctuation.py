"""How well marks and capitals are restored: precision, recall and F1 of each, on texts whose own are known.

A recogniser's words are aligned with those of the true text by their fewest edits: a wrong word has the mark
and case of the one that it stands for, a lost one leaves its mark to the word before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.errors import InputError
from slyther_cli.models.punctuation import (
    COLON,
    COMMA,
    DASH,
    EXCLAMATION,
    LOWER,
    NONE,
    QUESTION,
    STOP,
    TERMINAL,
)
from slyther_cli.research.evaluation.metrics import bootstrap_interval, rounded
from slyther_cli.research.evaluation.recognition import import_jiwer
from slyther_cli.research.language.marked import ANY, Marked, Reader
from slyther_cli.research.language.misheard import Misheard
from slyther_cli.research.training.data import read_table
from slyther_cli.transcription.punctuate import read, settle

SCORED = {
    "full stop": STOP,
    "comma": COMMA,
    "question mark": QUESTION,
    "exclamation mark": EXCLAMATION,
    "colon": COLON,
    "dash": DASH,
}
ROWS = (*SCORED, "any mark", "sentence end", "capital")


def count(marks: np.ndarray, cases: np.ndarray, true_marks: np.ndarray, true_cases: np.ndarray) -> np.ndarray:
    """Of one text how many are right, told and true, of each of ``ROWS`` [rows, 3].

    "any mark" is right where both have one, whichever; "sentence end" likewise of . ? and !; "capital" counts
    words that are not in small letters alone, right if the case is the same; but none whose case is ``ANY``.
    """
    rows = [_both(marks == number, true_marks == number) for number in SCORED.values()]
    rows.append(_both(marks != NONE, true_marks != NONE))
    rows.append(_both(np.isin(marks, TERMINAL), np.isin(true_marks, TERMINAL)))
    known = true_cases != ANY
    told, true = (cases != LOWER) & known, (true_cases != LOWER) & known
    rows.append([int((told & true & (cases == true_cases)).sum()), int(told.sum()), int(true.sum())])
    return np.array(rows)


def _both(told: np.ndarray, true: np.ndarray) -> list[int]:
    return [int((told & true).sum()), int(told.sum()), int(true.sum())]


def f1(cells: np.ndarray) -> np.ndarray:
    """[..., 3] right, told, true -> F1 [...], 0 where nothing is told nor true."""
    right, told, true = np.moveaxis(np.asarray(cells, np.float64), -1, 0)
    return 2 * right / np.maximum(told + true, 1)


def score(
    network: Any, tokenizer: Any, words: Sequence[str], marks: np.ndarray, cases: np.ndarray
) -> np.ndarray:
    """:func:`count` of what a network makes of a text's words."""
    told_marks, told_cases = read(network, tokenizer, words)
    settle(told_marks, told_cases)
    return count(told_marks, told_cases, marks, cases)


def score_texts(
    network: Any,
    tokenizer: Any,
    reader: Reader,
    texts: Sequence[Marked],
    errors: float,
    seed: int,
    on_event: Callable[[dict], None],
) -> list[dict[str, Any]]:
    """The report of texts as they are, or with ``errors`` of their words wrong; every text counts by its
    words, and intervals are over texts."""
    misheard = Misheard(np.concatenate([text.words for text in texts]), reader.vocabulary)
    rng = np.random.default_rng(seed)
    cells = []
    for number, text in enumerate(texts, 1):
        text = misheard(text, errors, rng) if errors else text
        words = [reader.vocabulary[word] for word in text.words]
        cells.append(score(network, tokenizer, words, text.marks, text.cases))
        on_event({"event": "example", "index": number, "examples": len(texts), **_so_far(cells)})
    return report(cells, seed)


def score_transcripts(
    network: Any, tokenizer: Any, path: Path, seed: int, on_event: Callable[[dict], None]
) -> tuple[list[dict[str, Any]], int]:
    """The report of a recogniser's output: a TSV with the columns hypothesis and reference, a text with its
    marks and capitals; and how many rows are left out, whose reference has digits or foreign letters.

    Raises InputError: the file cannot be read, or no row can be taken.
    """
    reader, cells, left_out = Reader(), [], 0
    rows = read_table(path, ("reference", "hypothesis"))
    for number, row in enumerate(rows, 1):
        words, text = row["hypothesis"].lower().split(), reader.read_fragment(row["reference"])
        if text is None:
            left_out += 1
            continue
        marks, cases = carried(text, [reader.vocabulary[word] for word in text.words], words)
        if words:
            cells.append(score(network, tokenizer, words, marks, cases))
        on_event({"event": "example", "index": number, "examples": len(rows), **_so_far(cells)})
    if not cells:
        raise InputError(f"{path}: no row whose reference is words and marks alone")
    return report(cells, seed), left_out


def carried(text: Marked, words: Sequence[str], heard: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The marks and cases of a text whose ``words`` are these, on the words ``heard``: uint8 [len(heard)]."""
    marks, cases = np.full(len(heard), NONE, np.uint8), np.full(len(heard), ANY, np.uint8)
    if not heard:
        return marks, cases
    chunks = import_jiwer().process_words(" ".join(words), " ".join(heard)).alignments[0]
    for chunk in chunks:
        mine = slice(chunk.ref_start_idx, chunk.ref_end_idx)
        theirs = slice(chunk.hyp_start_idx, chunk.hyp_end_idx)
        if chunk.type in ("equal", "substitute"):
            marks[theirs], cases[theirs] = text.marks[mine], text.cases[mine]
    for chunk in chunks:
        before, left = chunk.hyp_start_idx - 1, text.marks[chunk.ref_start_idx : chunk.ref_end_idx]
        if chunk.type == "delete" and left.any() and before >= 0 and marks[before] == NONE:
            marks[before] = next((x for x in left if x in TERMINAL), left[left != NONE][0])
    return marks, cases


def _so_far(cells: Sequence[np.ndarray]) -> dict[str, float]:
    whole = np.sum(cells, 0) if cells else np.zeros((len(ROWS), 3))
    found = dict(zip(ROWS, f1(whole).tolist(), strict=True))
    return {"full_stop": found["full stop"], "comma": found["comma"], "capital": found["capital"]}


def report(cells: Sequence[np.ndarray], seed: int) -> list[dict[str, Any]]:
    """One dictionary for each of ``ROWS``: shares from 0 to 1, of all texts together; the F1 with its 95 %
    bootstrap interval over texts."""
    whole = np.stack(cells)
    out = []
    for number, name in enumerate(ROWS):
        mine = whole[:, number]
        right, told, true = mine.sum(0).tolist()
        low, high = bootstrap_interval(mine, seed, of=_f1_of_sums)  # type: ignore[arg-type]
        out.append(
            {
                "of": name,
                "true": true,
                "precision": rounded(right / told if told else None),
                "recall": rounded(right / true if true else None),
                "f1": {"value": rounded(float(f1(mine.sum(0)))), "low": rounded(low), "high": rounded(high)},
            }
        )
    return out


def _f1_of_sums(cells: np.ndarray, axis: int) -> np.ndarray:
    return f1(cells.sum(axis))
