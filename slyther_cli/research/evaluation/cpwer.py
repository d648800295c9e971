"""Words and who says them in one figure: the concatenated minimum-permutation word error rate, cpWER.

Source: Watanabe et al. 2020, "CHiME-6 challenge: tackling multispeaker speech recognition for unsegmented
recordings". All that a speaker says in a session is one text. Speakers of the reference and of the hypothesis
are paired so that the edits are fewest; one without a partner is all deletions or all insertions. The edits
of a pairing are a sum over its pairs, so the best of all permutations is that of the assignment problem
(Hungarian algorithm), exactly and for any number of speakers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from slyther_cli.errors import InputError
from slyther_cli.research.evaluation.recognition import EDITS, import_jiwer, ratio_interval
from slyther_cli.research.evaluation.speaker_transcripts import Sessions
from slyther_cli.research.language.corpus import as_recognised

Event = dict[str, Any]


@dataclass(frozen=True)
class SpeakerErrors:
    """The edits of one session, of ``words`` in its reference. ``pairs``: the speakers of the reference and
    of the hypothesis that belong together, None where one has no partner."""

    words: int
    substitutions: int
    deletions: int
    insertions: int
    pairs: tuple[tuple[str | None, str | None], ...]

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def speaker_errors(
    reference: Mapping[str, Sequence[str]], hypothesis: Mapping[str, Sequence[str]]
) -> SpeakerErrors:
    """The words of each speaker, in the order in which they are said. Raises UsageError: jiwer is missing."""
    said, heard = list(reference), list(hypothesis)
    size = max(len(said), len(heard))
    counts = np.zeros((size, size, len(EDITS)), np.int64)
    for i in range(size):
        for j in range(size):
            counts[i, j] = _edits(
                reference[said[i]] if i < len(said) else (), hypothesis[heard[j]] if j < len(heard) else ()
            )
    rows, columns = linear_sum_assignment(counts.sum(2))
    pairs = tuple(
        (said[i] if i < len(said) else None, heard[j] if j < len(heard) else None)
        for i, j in zip(rows.tolist(), columns.tolist(), strict=True)
    )
    substitutions, deletions, insertions = counts[rows, columns].sum(0).tolist()
    words = sum(map(len, reference.values()))
    return SpeakerErrors(words, substitutions, deletions, insertions, pairs)


def score_sessions(reference: Sessions, hypothesis: Sessions, seed: int = 0) -> tuple[list[Event], Event]:
    """A row for each session, and the figures of all: "words", the kinds of edits, and "cpwer", which is a
    share for a session (None without words), and {"value", "low", "high"} for all, with a 95 % bootstrap
    interval over sessions.

    Both texts are normalised as a recogniser writes. Raises InputError: the sessions are not the same, or no
    word is in the reference.
    """
    if lost := [*(reference.keys() ^ hypothesis.keys())]:
        name = min(lost)
        place = "reference" if name in reference else "hypothesis"
        raise InputError(f"session {name!r} is only in the {place}: both must have the same")
    rows, scores = list[Event](), list[SpeakerErrors]()
    for name, texts in reference.items():
        score = speaker_errors(_words(texts), _words(hypothesis[name]))
        scores.append(score)
        rows.append(
            {
                "session": name,
                "reference_speakers": len(texts),
                "hypothesis_speakers": len(hypothesis[name]),
                "words": score.words,
                **{kind: getattr(score, kind) for kind in EDITS},
                "cpwer": round(score.errors / score.words, 4) if score.words else None,
                "pairs": [list(pair) for pair in score.pairs],
            }
        )
    total = {kind: sum(getattr(score, kind) for score in scores) for kind in ("words", *EDITS)}
    if not total["words"]:
        raise InputError("the reference has no words")
    return rows, {"sessions": len(rows), **total, "cpwer": pooled(scores, seed)}


def pooled(scores: Sequence[SpeakerErrors], seed: int = 0) -> Event:
    """The edits of all sessions over all their words, and the ends of its interval, as shares."""
    sums = np.array([(score.errors, score.words) for score in scores])
    value = sums[:, 0].sum() / sums[:, 1].sum()
    low, high = ratio_interval(sums[sums[:, 1] > 0], seed)
    ends = {"value": float(value), "low": low, "high": high}
    return {name: None if x is None else round(x, 4) for name, x in ends.items()}


def _words(texts: Mapping[str, str]) -> dict[str, list[str]]:
    return {speaker: as_recognised(text).split() for speaker, text in texts.items()}


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> tuple[int, int, int]:
    """Substitutions, deletions, insertions."""
    if not reference or not hypothesis:
        return 0, len(reference), len(hypothesis)
    found = import_jiwer().process_words(" ".join(reference), " ".join(hypothesis))
    return found.substitutions, found.deletions, found.insertions
