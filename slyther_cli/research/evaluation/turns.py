"""Scoring a separation network on people who take turns: does each one stay in one stem? (no paper's)"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from slyther_cli.audio.level import MIXTURE_DB, heard_by
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.longform import plan_separation, separate_whole
from slyther_cli.research.evaluation.examples import Examples
from slyther_cli.research.evaluation.metrics import assign, bootstrap_interval, rounded
from slyther_cli.research.evaluation.separation import ALL, LIMIT_DB, conditions, group_of, stems_of
from slyther_cli.research.training.mixing import Mixer, MixingConfig

Event = dict[str, Any]
FRAME_S = 0.05
HEARD_DB = 40.0  # a voice is heard in frames no further than this below its loudest
LONE_S = 0.5  # the shortest stretch of one voice whose leakage is measured
FAILING = 0.25
ONE_PASS_S = 120.0  # longer recordings are separated segment by segment, with the same result
LEAST = 1e-12  # energy of a frame


@dataclass(frozen=True)
class TurnScore:
    """One conversation. ``wrong``: the share of the time in which one is heard alone that is louder in
    another's stem, with the best single assignment of stems to speakers. ``leakage_db``: the median, over the
    stretches of one voice, of the energy in the others' stems against that in its own."""

    name: str
    wrong: float
    leakage_db: float
    group: str = ""


def evaluate_turns(
    model,
    examples: Examples,
    mixing: MixingConfig | None = None,
    *,
    match_speakers: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Event:
    """Score ``model`` on conversations, in turns of one utterance. ``mixing``:
    ``conditions(taking_turns=True)``, or with more. ``match_speakers``: as ``separation.separate`` has it.

    Returns {"split", "seconds_each", "seed", "speakers", "examples", "groups": {"all" | a group: {"examples",
    "wrong": {"mean", "low", "high"}, "failing": how many conversations have more than a quarter of it,
    "leakage_db": {"median", "low", "high"}}}}; intervals are over conversations. ``on_event`` gets an
    "example" after each. Raises :class:`InputError`: the speech cannot be used. :class:`UsageError`: numbers
    without a meaning, nobody is ever heard alone.
    """
    count, seconds, seed = examples.count, examples.seconds, examples.seed
    if count < 1 or seconds < 1:
        raise UsageError("to evaluate turns takes one example or more, of 1 s or more")
    rate, n = model.config.sample_rate, model.config.n_speakers
    pool = examples.pool(rate)
    mixer = Mixer(pool, mixing or conditions(taking_turns=True), n, seed)
    samples, scores = round(seconds * rate), []
    for index in range(count):
        who = mixer.speakers(index, samples)
        mixture, sources = mixer.example(index, samples)
        stems = _stems(model, mixture, match_speakers)
        scores.append(score_turns("+".join(who), sources, stems, rate, group_of(pool, who)))
        if on_event is not None:
            so_far = float(np.mean([s.wrong for s in scores]))
            about = {"event": "example", "index": index + 1, "examples": count}
            on_event(about | vars(scores[-1]) | {"mean": so_far})
    made = {"split": examples.split, "seconds_each": seconds, "seed": seed, "speakers": len(pool.speakers)}
    return {**made, "examples": count, "groups": _by_group(scores, seed)}


def score_turns(
    name: str, sources: np.ndarray, stems: Iterable[np.ndarray], rate: int, group: str = ""
) -> TurnScore:
    """sources [n, samples]; stems [n, k] each, from left to right, that are as long together.

    Raises :class:`UsageError` when nobody is heard alone for ``LONE_S``."""
    frame = round(FRAME_S * rate)
    said = next(_frame_energies([sources], frame))
    given = np.concatenate(list(_frame_energies(stems, frame)), 1)
    heard = said > said.max(1, keepdims=True) * 10 ** (-HEARD_DB / 10)
    lone = np.where(heard.sum(0) == 1, heard.argmax(0), -1)
    n, loudest = len(sources), given.argmax(0)
    times = np.array([[np.sum((lone == k) & (loudest == i)) for k in range(n)] for i in range(n)], float)
    speaker_of = np.array(assign(times))
    stem_of = np.argsort(speaker_of)
    runs = [r for r in _runs(lone) if lone[r.start] >= 0 and (r.stop - r.start) * FRAME_S >= LONE_S]
    if not runs:
        raise UsageError(f"{name}: nobody is heard alone for {LONE_S:g} s; longer conversations are needed")
    leaks = []
    for r in runs:
        energy = given[:, r].sum(1) + LEAST
        own = energy[stem_of[lone[r.start]]]
        leaks.append(float(np.clip(10 * np.log10((energy.sum() - own) / own), -LIMIT_DB, LIMIT_DB)))
    right = times[range(n), speaker_of].sum()
    return TurnScore(name, float(1 - right / times.sum()), float(np.median(leaks)), group)


def _frame_energies(blocks: Iterable[np.ndarray], frame: int) -> Iterator[np.ndarray]:
    """[n, k] blocks of samples -> [n, frames] each, of whole frames; what is left at the end goes."""
    rest: np.ndarray | None = None
    for block in blocks:
        x = block if rest is None else np.concatenate([rest, block], 1)
        whole = x.shape[1] // frame * frame
        frames = x[:, :whole].reshape(len(x), -1, frame)
        rest = x[:, whole:]
        yield np.einsum("nfs,nfs->nf", frames, frames, dtype=np.float64)


def _runs(labels: np.ndarray) -> list[slice]:
    """The stretches of one label each."""
    edges = [0, *(np.flatnonzero(np.diff(labels)) + 1), len(labels)]
    return [slice(a, b) for a, b in pairwise(edges)]


def _stems(model, mixture: np.ndarray, match_speakers: bool = False) -> Iterator[np.ndarray]:
    """[samples] -> [n, k] from left to right, in bounded memory; ``match_speakers``: as ``separate`` has
    it."""
    rate = model.config.sample_rate
    if match_speakers:
        from slyther_cli.longform.reunited import reunited
        from slyther_cli.separation.speakers import embedder

        yield from reunited(_stems(model, mixture), rate, embedder(rate))
        return
    if len(mixture) <= ONE_PASS_S * rate:
        yield stems_of(model, mixture, "a conversation")
        return
    model.eval()
    heard = heard_by(model, lambda: [mixture], rate, MIXTURE_DB)
    for stems in map(heard.undo, separate_whole(model, heard, plan_separation(model, len(mixture)))):
        if not np.isfinite(stems).all():
            raise ModelError("the model gives values that are not finite for a conversation")
        yield stems


def _by_group(scores: Sequence[TurnScore], seed: int) -> Event:
    names = sorted({s.group for s in scores} - {""})
    groups = {ALL: list(scores)} | {g: [s for s in scores if s.group == g] for g in names}
    return {name: _summary(members, seed) for name, members in groups.items()}


def _summary(scores: Sequence[TurnScore], seed: int) -> Event:
    wrong, leakage = [s.wrong for s in scores], [s.leakage_db for s in scores]
    entry: Event = {"examples": len(scores), "failing": sum(w > FAILING for w in wrong)}
    for name, values, kind, of in (
        ("wrong", wrong, "mean", np.mean),
        ("leakage_db", leakage, "median", np.median),
    ):
        low, high = bootstrap_interval(values, seed, of=of)
        entry[name] = {kind: round(float(of(values)), 4), "low": rounded(low, 4), "high": rounded(high, 4)}
    return entry
