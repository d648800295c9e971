"""Scoring recognisers where the words are known: word and character error rates, time, memory, by length.

All systems hear the same samples in the same run, and their texts and the references go through the same
normalisation (``research.language.corpus.as_recognised``: lower case, no punctuation, numbers and titles in
words; spellings such as colour and color stay different). WER and CER are jiwer's: the edits of all items
over all words.

Longer recordings are joins of the split's own utterances, in the order of their names, of one speaker as far
as they go: every utterance is in one join, so a WER by length is over the same words each time.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.evaluation.metrics import RESAMPLES, Interval
from slyther_cli.research.language.corpus import as_recognised
from slyther_cli.research.studies.separation_speed import forget_peak, peak_memory
from slyther_cli.research.training.data import read_mono, read_table

Event = dict[str, Any]
MINUTES = (0, 1, 5, 20)  # 0: single utterances
SPEAKERS = 8  # with so many, an interval varies speakers, else items
EDITS = ("substitutions", "deletions", "insertions")


class Hearing(Protocol):
    """A recogniser: samples float32 [n] at ``rate`` in, text out."""

    name: str
    rate: int

    def __call__(self, samples: np.ndarray) -> str: ...


@dataclass(frozen=True)
class Item:
    """One recording to be heard: utterances one after the other, with what is said in them."""

    paths: tuple[Path, ...]
    text: str
    speaker: str

    @property
    def name(self) -> str:
        more = f" to {self.paths[-1].stem}" if len(self.paths) > 1 else ""
        return self.paths[0].stem + more


def read_items(manifest: Path, split: str, examples: int | None = None) -> list[Item]:
    """The utterances of a split that have a text, by speaker and name; ``examples`` of them, spread evenly.

    A column ``normalized`` is preferred to ``transcript``. Raises InputError: there are none.
    """
    base = manifest.resolve().parent
    items = []
    for row in read_table(manifest, ("path", "speaker", "split")):
        text = as_recognised(row.get("normalized") or row.get("transcript", ""))
        if row["split"] == split and text:
            items.append(Item((base / row["path"],), text, row["speaker"]))
    if not items:
        raise InputError(f"{manifest}: no utterance with a transcript in split {split!r}")
    items.sort(key=lambda item: (item.speaker, _natural(item.name)))
    if examples and examples < len(items):
        items = [items[i * len(items) // examples] for i in range(examples)]
    return items


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def join(items: Sequence[Item], seconds: Sequence[float], minutes: float) -> list[Item]:
    """Joins of ``minutes`` or more, ``seconds`` being the items' lengths; a rest shorter than half of that
    goes to the join before it."""
    groups: list[list[int]] = [[]]
    total = 0.0
    for i, length in enumerate(seconds):
        if total >= 60 * minutes:
            groups.append([])
            total = 0.0
        groups[-1].append(i)
        total += length
    if len(groups) > 1 and total < 30 * minutes:
        groups[-2:] = [groups[-2] + groups[-1]]
    return [
        Item(
            tuple(path for i in group for path in items[i].paths),
            " ".join(items[i].text for i in group),
            "+".join(dict.fromkeys(items[i].speaker for i in group)),
        )
        for group in groups
    ]


@dataclass
class Score:
    """What one system made of one item. ``errors`` are word edits, ``slips`` character edits."""

    item: Item
    errors: int
    words: int
    slips: int
    characters: int
    edits: dict[str, int]
    seconds: float
    cpu: float
    wall: float
    extra_bytes: int
    heard: str


def evaluate_recognition(
    systems: Sequence[Hearing],
    manifests: Sequence[Path],
    split: str = "test",
    minutes: Sequence[float] = (0,),
    examples: int | None = None,
    seed: int = 0,
    *,
    on_event: Callable[[Event], None] = lambda event: None,
) -> list[Event]:
    """One row for each manifest, length and system.

    Keys: manifest, minutes, system, items, speakers, seconds (of speech), words, wer and cer in percent, each
    with ``low`` and ``high`` of a 95 % bootstrap interval over ``interval_over``, the kinds of edits, and
    what it cost: ``cpu_per_second`` and ``wall_per_second`` of speech, ``peak_extra_bytes`` above what the
    process held before. All systems but the first have ``difference``, see :func:`compare`. ``on_event``
    gets an "example" for each item heard. Raises UsageError: jiwer is missing; InputError: speech cannot be
    read.
    """
    import_jiwer()
    rows = []
    for manifest in manifests:
        items = read_items(manifest, split, examples)
        lengths = [seconds_of(item.paths[0]) for item in items]
        for length in minutes:
            chosen = join(items, lengths, length) if length else items
            where = {"manifest": str(manifest), "minutes": length}

            def report_event(event: Event, where: Event = where) -> None:
                on_event({**event, **where})

            found = evaluate_items(systems, chosen, report_event, seed)
            rows += [
                {"manifest": str(manifest), "split": split, "minutes": length, "system": name} | report
                for name, report in found.items()
            ]
    return rows


def evaluate_items(
    systems: Sequence[Hearing], items: Sequence[Item], on_event: Callable[[Event], None], seed: int = 0
) -> dict[str, Event]:
    """What :func:`summarise` says of each system by name, all of them having heard all ``items``."""
    found: dict[str, list[Score]] = {system.name: [] for system in systems}
    for number, item in enumerate(items, 1):
        for system in systems:
            score = _listen(system, item)
            found[system.name].append(score)
            on_event(_example(system.name, number, len(items), score))
    reports = {name: summarise(scores, seed) for name, scores in found.items()}
    first = systems[0].name if systems else ""
    for name in found:
        if name != first:
            reports[name]["difference"] = {"less": first, **compare(found[name], found[first], seed)}
    return reports


def import_jiwer() -> Any:
    """jiwer. Raises UsageError that says how to get it."""
    try:
        import jiwer
    except ImportError:
        raise UsageError(
            "to score transcripts needs the package jiwer: pip install 'slyther-cli[eval]'"
        ) from None
    return jiwer


def seconds_of(path: Path) -> float:
    """The length of a sound file. Raises InputError."""
    import soundfile as sf

    try:
        about = sf.info(path)
    except (OSError, sf.LibsndfileError) as error:
        raise InputError(f"{path}: {getattr(error, 'error_string', error)}") from None
    return about.frames / about.samplerate


def _listen(system: Hearing, item: Item) -> Score:
    samples = np.concatenate([read_mono(path, system.rate) for path in item.paths])
    idle = forget_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    heard = as_recognised(system(samples))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return score_text(item, heard, len(samples) / system.rate, cpu, wall, max(0, peak_memory() - idle))


def score_text(item: Item, heard: str, seconds: float, cpu: float, wall: float, extra_bytes: int) -> Score:
    """The edits between an item's text and what was heard, both normalised already."""
    jiwer = import_jiwer()
    words = jiwer.process_words(item.text, heard)
    characters = jiwer.process_characters(item.text, heard)
    edits = {kind: getattr(words, kind) for kind in EDITS}
    slips = sum(getattr(characters, kind) for kind in EDITS)
    return Score(
        item, sum(edits.values()), len(item.text.split()), slips, len(item.text), edits,
        seconds, cpu, wall, extra_bytes, heard,
    )  # fmt: skip


def summarise(scores: Sequence[Score], seed: int = 0) -> Event:
    """Rates over all items with their intervals, and costs; see :func:`evaluate_recognition`."""
    groups, by_speaker = _groups(scores)
    seconds = sum(score.seconds for score in scores)
    report: Event = {
        "items": len(scores),
        "speakers": len({who for score in scores for who in score.item.speaker.split("+")}),
        "seconds": seconds,
        "words": sum(score.words for score in scores),
        "interval_over": "speakers" if by_speaker else "items",
    }
    for rate, wrong, of in (("wer", "errors", "words"), ("cer", "slips", "characters")):
        each = np.array([[getattr(s, wrong), getattr(s, of)] for s in scores])
        sums = np.array([each[group].sum(0) for group in groups])
        low, high = ratio_interval(sums, seed)
        wrongs, all_of = sums.sum(0)
        report[rate] = {"value": 100 * wrongs / all_of, **_ends(low, high)}
    for kind in EDITS:
        report[kind] = sum(score.edits[kind] for score in scores)
    report["cpu_per_second"] = sum(score.cpu for score in scores) / seconds
    report["wall_per_second"] = sum(score.wall for score in scores) / seconds
    report["peak_extra_bytes"] = max(score.extra_bytes for score in scores)
    return report


def _groups(scores: Sequence[Score]) -> tuple[list[list[int]], bool]:
    """What a bootstrap draws: the places of each speaker's scores where there are enough speakers, else each
    by itself."""
    speakers = sorted({score.item.speaker for score in scores})
    if len(speakers) < SPEAKERS:
        return [[i] for i in range(len(scores))], False
    return [[i for i, s in enumerate(scores) if s.item.speaker == who] for who in speakers], True


def compare(scores: Sequence[Score], first: Sequence[Score], seed: int = 0) -> Event:
    """WER of ``scores`` less that of ``first``, another system on the same items, in points: ``value``,
    ``low`` and ``high`` of its 95 % bootstrap interval, and ``share``, of the resamples where it is above 0.

    Paired: both are scored on the same draw, so what is hard for both does not count. Bisani & Ney 2004, who
    call the share the probability of improvement.
    """
    more = [(a.errors - b.errors, b.words) for a, b in zip(scores, first, strict=True)]
    sums = np.array([np.sum([more[i] for i in group], 0) for group in _groups(first)[0]])
    ratios = _resampled(sums, seed)
    low, high = np.quantile(ratios, [0.025, 0.975]) if len(sums) > 1 else (None, None)
    value = sums[:, 0].sum() / sums[:, 1].sum()
    rates = {"value": 100 * float(value), **_ends(low, high)}
    return rates | {"share": float(np.mean(ratios > 0))}


def ratio_interval(sums: np.ndarray, seed: int = 0, level: float = 0.95) -> Interval:
    """The percentile bootstrap interval of sum(sums[:, 0]) / sum(sums[:, 1]), rows drawn with replacement.

    Bisani & Ney 2004, "Bootstrap estimates for confidence intervals in ASR performance evaluation".
    """
    if len(sums) == 1:
        return None, None
    low, high = np.quantile(_resampled(sums, seed), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ends(*ends: float | None) -> dict[str, float | None]:
    """An interval's ends in percent."""
    return dict(zip(("low", "high"), (None if x is None else 100 * float(x) for x in ends), strict=True))


def _resampled(sums: np.ndarray, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    ratios = []
    for _ in range(RESAMPLES // 100):
        drawn = sums[rng.integers(len(sums), size=(100, len(sums)))].sum(1)
        ratios.append(drawn[:, 0] / drawn[:, 1])
    return np.concatenate(ratios)


def _example(system: str, index: int, examples: int, score: Score) -> Event:
    return {
        "event": "example",
        "system": system,
        "index": index,
        "examples": examples,
        "name": score.item.name,
        "seconds": score.seconds,
        "cpu_seconds": score.cpu,
        "wer": 100 * score.errors / score.words,
        "said": score.item.text,
        "heard": score.heard,
    }
