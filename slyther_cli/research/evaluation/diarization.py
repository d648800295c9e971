"""Scoring who speaks when: conversations of unseen speakers with known turns, and the diarization error rate.

The rate is NIST's (Rich Transcription 2009, without overlap): of the time in which somebody speaks, the share
that is missed, said by nobody, or of another speaker, with the best mapping of the labels found to those that
are true; ``COLLAR`` seconds around the beginning and the end of every true turn are not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from slyther_cli.decode.words import Word
from slyther_cli.errors import UsageError
from slyther_cli.research.evaluation.cpwer import SpeakerErrors, pooled, speaker_errors
from slyther_cli.research.evaluation.metrics import bootstrap_interval, rounded
from slyther_cli.research.evaluation.recognition import import_jiwer
from slyther_cli.research.language.corpus import as_recognised
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.transcription.diarization import Diarizer, attributed, embedded, windows

Event = dict[str, Any]
Turn = tuple[float, float, str]
"""From and to, in seconds, and who speaks."""

COLLAR = 0.25
FRAME = 0.01  # seconds; the rate is counted in them
WITHIN_S, BETWEEN_S = (0.1, 0.6), (0.0, 1.0)  # seconds of silence within a turn, and between two
UTTERANCES = 3  # in a turn, at most
JOINED_S = 0.8  # seconds: words of one speaker that are closer belong to one turn
BURST_S = 0.35  # seconds of a word, where only true activity is known
QUIET_DB = 35.0  # activity: no more below the loud of an utterance


@dataclass(frozen=True)
class ErrorRate:
    """Seconds of speech, and of each kind of error."""

    speech: float
    missed: float
    false_alarm: float
    confused: float

    @property
    def rate(self) -> float:
        """The diarization error rate; 1.0 is all of it."""
        return (self.missed + self.false_alarm + self.confused) / self.speech if self.speech else 0.0


@dataclass(frozen=True)
class Talk:
    """A conversation: float32 [n] at ``rate``, its turns, the stretches of sound in them as words, and all
    that each speaker says (None where an utterance has no transcript)."""

    samples: np.ndarray
    turns: list[Turn]
    bursts: list[Word]
    said: dict[str, list[str]] | None


def error_rate(true: Sequence[Turn], found: Sequence[Turn], collar: float = COLLAR) -> ErrorRate:
    """Turns of which no two are at once; those of ``found`` under names of their own."""
    end = max((turn[1] for turn in (*true, *found)), default=0.0)
    frames = round(end / FRAME)
    said, names = _labels(true, frames)
    heard, labels = _labels(found, frames)
    scored = np.ones(frames, np.bool_)
    for start, stop, _ in true:
        for edge in (start, stop):
            scored[max(0, round((edge - collar) / FRAME)) : max(0, round((edge + collar) / FRAME))] = False
    said, heard = said[scored], heard[scored]
    both = (said >= 0) & (heard >= 0)
    together = np.zeros((len(names), len(labels)))
    np.add.at(together, (said[both], heard[both]), 1)
    right = together[linear_sum_assignment(-together)].sum()
    missed, alarm = ((said >= 0) & (heard < 0)).sum(), ((said < 0) & (heard >= 0)).sum()
    counts = ((said >= 0).sum(), missed, alarm, both.sum() - right)
    return ErrorRate(*(round(float(count) * FRAME, 6) for count in counts))


def turns_of(words: Sequence[Word], rate: int) -> list[Turn]:
    """The turns that words in order of time make: less than ``JOINED_S`` lie between those of one."""
    turns: list[Turn] = []
    for word in words:
        start, end, who = word.start / rate, word.end / rate, str(word.speaker)
        if turns and turns[-1][2] == who and start - turns[-1][1] < JOINED_S:
            turns[-1] = (turns[-1][0], end, who)
        else:
            turns.append((start, end, who))
    return turns


def talks(pool: SpeechPool, speakers: int, seconds: float, how_many: int, seed: int) -> Iterator[Talk]:
    """Conversations, each of other ``speakers`` if there are as many groups, of so many seconds of speech at
    most, as evenly shared as their utterances allow. No utterance comes twice in one, nobody talks into
    another's turn. Raises UsageError: the pool has fewer speakers."""
    names = sorted(pool.speakers)
    if len(names) < speakers:
        raise UsageError(f"the split has {len(names)} speakers, too few for talks of {speakers}")
    for index in range(how_many):
        rng = np.random.default_rng((seed, speakers, index))
        group = rng.choice(names, speakers, replace=False).tolist()
        yield _talk(pool, group, seconds, rng)


def _talk(pool: SpeechPool, group: list[str], seconds: float, rng: np.random.Generator) -> Talk:
    rate, budget, turns = pool.rate, seconds * pool.rate, list[tuple[str, list[tuple[np.ndarray, str]]]]()
    by_length = sorted(group, key=lambda name: sum(map(len, pool.speakers[name])))
    for left, name in zip(range(len(group), 0, -1), by_length, strict=True):
        share, length, taken = budget / left, 0, list[tuple[np.ndarray, str]]()
        for i in rng.permutation(len(pool.speakers[name])):
            utterance = pool.speakers[name][i]
            if taken and length + len(utterance) > share:
                break
            taken.append((utterance, pool.transcripts[name][i]))
            length += len(utterance)
        budget -= length
        while taken:
            size = int(rng.integers(1, UTTERANCES + 1))
            turns.append((name, taken[:size]))
            taken = taken[size:]
    parts, bursts, at = list[np.ndarray](), list[Word](), 0
    texts: dict[str, list[str]] = {name: [] for name in group}
    for i in rng.permutation(len(turns)):
        name, said = turns[i]
        for number, (utterance, text) in enumerate(said):
            texts[name].append(as_recognised(text))
            x = np.asarray(utterance, np.float32) / 32768
            gap = round(rate * rng.uniform(*(WITHIN_S if number else BETWEEN_S)))
            parts += [np.zeros(gap, np.float32), x]
            at += gap
            bursts += [Word("", at + a, at + b, 1.0, (), name) for a, b in _bursts(x, rate)]
            at += len(x)
    hiss = 1e-4 * rng.standard_normal(at).astype(np.float32)  # no recording is digitally silent
    every = {name: " ".join(said).split() for name, said in texts.items()}
    known = all(text for said in texts.values() for text in said)
    return Talk(np.concatenate(parts) + hiss, turns_of(bursts, rate), bursts, every if known else None)


def _bursts(x: np.ndarray, rate: int) -> list[tuple[int, int]]:
    """Where an utterance has sound: spans of samples of ``BURST_S`` at most, as words have."""
    hop = round(FRAME * rate)
    frames = np.square(x[: len(x) // hop * hop].reshape(-1, hop), dtype=np.float64).mean(1)
    level = np.convolve(frames, np.ones(5) / 5, "same")
    active = level > np.quantile(level, 0.95) * 10 ** (-QUIET_DB / 10)
    edges = np.flatnonzero(np.diff(active, prepend=False, append=False))
    spans, most = list[tuple[int, int]](), round(BURST_S / FRAME)
    for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        spans += [(hop * a, hop * min(a + most, stop)) for a in range(start, stop, most)]
    return spans


def evaluate_diarization(
    recognise: Callable[[np.ndarray], list[Word]] | None,
    pool: SpeechPool,
    speakers: Sequence[int] = (2, 3, 5),
    minutes: float = 10.0,
    how_many: int = 10,
    seed: int = 0,
    *,
    device: str = "cpu",
    on_event: Callable[[Event], None] | None = None,
) -> list[Event]:
    """A row for each number of speakers and for both ways, the number known or not: {"speakers", "known",
    "talks", "minutes" (of sound, of all talks), "der", "missed", "false_alarm", "confused" (each {"value",
    "low", "high"} or a share, of the mean talk), "right_number" (the share of talks with as many labels)},
    and "cpwer" (likewise, the edits of all talks over their words) if there are words: of a recogniser, and
    in the manifest for every utterance.

    ``recognise`` gives the words of samples [n] of the pool; None takes the stretches of sound that the talks
    were made of, so that nothing is missed. ``on_event`` gets an "example" after each talk. Raises UsageError
    as ``talks`` does, or that jiwer is missing, ModelError: no speaker network.
    """
    if minutes <= 0 or how_many < 1 or not speakers or min(speakers) < 1:
        raise UsageError("to evaluate speakers takes one talk or more, of one speaker or more")
    if recognise is not None and any(any(texts) for texts in pool.transcripts.values()):
        import_jiwer()  # before hours of listening
    rate = pool.rate
    diarizer, rows, done = Diarizer(rate, None, device), list[Event](), 0
    for number in speakers:
        results: dict[bool, list[tuple[ErrorRate, int]]] = {True: [], False: []}
        edits: dict[bool, list[SpeakerErrors]] = {True: [], False: []}
        length = 0.0
        for talk in talks(pool, number, 60 * minutes, how_many, seed):
            words = talk.bursts if recognise is None else recognise(talk.samples)
            length += len(talk.samples) / rate
            found = windows(words, rate) if words else None
            heard = embedded(found, [talk.samples], rate, diarizer.embed) if found else None
            for known in (True, False):
                named = []
                if found is not None and heard is not None:
                    named = attributed(words, found, heard, rate, number if known else None)
                score = error_rate(talk.turns, turns_of(named, rate))
                results[known].append((score, len({word.speaker for word in named})))
                if recognise is not None and talk.said is not None:
                    edits[known].append(speaker_errors(talk.said, _texts(named)))
            done += 1
            if on_event is not None:
                about = {"event": "example", "index": done, "examples": how_many * len(speakers)}
                shares = {"der": results[False][-1][0].rate, "der_known": results[True][-1][0].rate}
                on_event(about | {"speakers": number, "heard": results[False][-1][1]} | shares)
        about = {"speakers": number, "talks": how_many, "minutes": round(length / 60, 1)}
        for known in (True, False):
            row = about | {"known": known} | _summary(results[known], number, seed)
            rows.append(
                row | ({"cpwer": pooled(edits[known], seed)} if len(edits[known]) == how_many else {})
            )
    return rows


def _texts(words: Sequence[Word]) -> dict[str, list[str]]:
    """The words of each speaker."""
    said: dict[str, list[str]] = {}
    for word in words:
        said.setdefault(str(word.speaker), []).append(word.text)
    return {name: as_recognised(" ".join(texts)).split() for name, texts in said.items()}


def _summary(scores: Sequence[tuple[ErrorRate, int]], number: int, seed: int) -> Event:
    rates = [score.rate for score, _ in scores]
    low, high = bootstrap_interval(rates, seed)
    entry: Event = {
        "der": {"value": round(float(np.mean(rates)), 4), "low": rounded(low), "high": rounded(high)}
    }
    for kind in ("missed", "false_alarm", "confused"):
        shares = [getattr(score, kind) / max(score.speech, FRAME) for score, _ in scores]
        entry[kind] = round(float(np.mean(shares)), 4)
    return entry | {"right_number": round(float(np.mean([heard == number for _, heard in scores])), 3)}


def _labels(turns: Sequence[Turn], frames: int) -> tuple[np.ndarray, list[str]]:
    """Who speaks in each frame, by number, -1 nobody; and the names."""
    names = list(dict.fromkeys(who for _, _, who in turns))
    labels = np.full(frames, -1)
    for start, end, who in turns:
        labels[round(start / FRAME) : round(end / FRAME)] = names.index(who)
    return labels, names
