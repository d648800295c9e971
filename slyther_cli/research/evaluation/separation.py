"""Scoring a separation network on mixtures whose sources are known: SI-SNR and SDR, and what was gained.

Two kinds of test material: pairs mixed here from the speech of a manifest's split (levels as in papers.md
1.4, fully overlapped, of different speakers), and ready-made mixtures named by a table, such as WSJ0-2mix or
Libri2Mix. Every mixture runs through the network in one pass, as in the papers; ``longform`` gives the same
(docs/longform.md). Sources and mixtures are compared without what lies below speech, as the stems are
(``audio.highpass``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slyther_cli.audio.highpass import filtered
from slyther_cli.audio.level import MIXTURE_DB, heard_by
from slyther_cli.errors import InputError, ModelError, UsageError
from slyther_cli.research.evaluation.examples import Examples
from slyther_cli.research.evaluation.metrics import (
    assign,
    bootstrap_interval,
    rounded,
    sdr_matrix,
    si_snr_matrix,
)
from slyther_cli.research.training.data import SpeechPool, read_mono, read_table
from slyther_cli.research.training.mixing import Mixer, MixingConfig

Event = dict[str, Any]
SCORES = ("si_snr", "si_snri", "sdr", "sdri")
ALL = "all"
LIMIT_DB = 100.0
IN_BOTH_DB = 10.0  # a voice whose stems are no further apart is in both
DIRECT_DB = 3.0  # in a room: the direct sound against its reverberation
TELEPHONE_HZ = 300.0, 3400.0
GAP_S = -0.8, 0.6  # between turns


@dataclass(frozen=True)
class Score:
    """One example. All in dB, the mean over its speakers; an "i" at the end is the improvement over the
    mixture.

    ``group``: "same sex", "different sex", or "" where it is not known."""

    name: str
    seconds: float
    si_snr: float
    si_snri: float
    sdr: float
    sdri: float
    group: str = ""


def conditions(
    room_s: float | None = None,
    noise_db: float | None = None,
    telephone: bool = False,
    conversation: bool = False,
    alone: bool = False,
    taking_turns: bool = False,
) -> MixingConfig:
    """Mixtures as in papers.md 1.4, at the voices' own speed; in a room that rings for ``room_s`` seconds,
    with steady noise ``noise_db`` below the speech, heard over a telephone (300 to 3,400 Hz), in a
    conversation: with pauses of up to 4 s in either voice, so that often one is heard alone; ``alone``: of
    the first voice only; ``taking_turns``: one utterance after the other, by either in turn, with gaps of
    -0.8 to 0.6 s.

    Raises :class:`UsageError` for a room of no time."""
    (low, high), db = TELEPHONE_HZ, noise_db or 0.0
    rooms: dict[str, Any] = {} if room_s is None else {"rooms": 1.0, "room_s": (room_s, room_s)}
    return MixingConfig(
        speed=(1.0,),
        direct_db=(DIRECT_DB, DIRECT_DB),
        **rooms,
        noise=float(noise_db is not None),
        snr_db=(db, db),
        narrow=float(telephone),
        low_hz=(low, low),
        high_hz=(high, high),
        turns=float(conversation),
        alone=float(alone),
        taking_turns=float(taking_turns),
        gap_s=GAP_S,
        whole=1.0,
        again=0.0,
    )


def evaluate_separation(
    model,
    examples: Examples,
    mixing: MixingConfig | None = None,
    *,
    on_event: Callable[[Event], None] | None = None,
) -> Event:
    """Score ``model`` on mixtures of as many speakers as it separates.

    ``mixing``: of what :func:`conditions` says, or of voices alone. Stems are compared with what the
    microphone hears of each voice, without the noise. ``on_event`` gets an "example" after each. Returns what
    :func:`summarise` does, and how the mixtures were made; with ``conditions(alone=True)`` the groups are
    "all", "women" and "men", each {"examples", "apart_db": {"mean", "low", "high"}, "in_both": the share with
    less than 10 dB}. Raises :class:`InputError`: the speech cannot be used. :class:`UsageError`: numbers
    without a meaning.
    """
    count, seconds, seed = examples.count, examples.seconds, examples.seed
    if count < 1 or seconds < 0.1:
        raise UsageError("to evaluate takes one example or more, of 0.1 s or more")
    rate, n = model.config.sample_rate, model.config.n_speakers
    pool = examples.pool(rate)
    mixer = Mixer(pool, mixing or conditions(), n, seed)
    made = {"split": examples.split, "seconds_each": seconds, "seed": seed, "speakers": len(pool.speakers)}
    if mixer.config.alone == 1:
        return {**made, **_score_alone(model, mixer, count, seconds, on_event)}

    def mixtures() -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        for index in range(count):
            who = mixer.speakers(index)
            yield "+".join(who), group_of(pool, who), *mixer.example(index, round(seconds * rate))

    scores = _score(model, mixtures(), rate, count, on_event)
    return {**made, **summarise(scores, seed)}


def _score_alone(
    model, mixer: Mixer, examples: int, seconds: float, on_event: Callable[[Event], None] | None
) -> Event:
    """Whether a voice that nobody else speaks beside stays in one stem: how many dB its loudest stem is above
    all others together."""
    rate = mixer.pool.rate
    groups: dict[str, list[float]] = {ALL: []}
    for index in range(examples):
        who = mixer.speakers(index)[0]
        stems = stems_of(model, mixer.example(index, round(seconds * rate))[0], who)
        energy = np.sort(np.square(stems, dtype=np.float64).sum(1)) + 1e-12
        apart = float(np.clip(10 * np.log10(energy[-1] / energy[:-1].sum()), 0, LIMIT_DB))
        group = {"F": "women", "M": "men"}.get(mixer.pool.sex[who], "")
        for name in {ALL, group} - {""}:
            groups.setdefault(name, []).append(apart)
        if on_event is not None:
            done = {"event": "example", "index": index + 1, "examples": examples, "name": who}
            on_event({**done, "group": group, "apart_db": apart, "mean": float(np.mean(groups[ALL]))})
    return {
        "examples": examples,
        "seconds": round(examples * seconds, 3),
        "groups": {
            name: {
                "examples": len(values),
                "apart_db": _mean(values, mixer.seed),
                "in_both": round(float(np.mean(np.less(values, IN_BOTH_DB))), 4),
            }
            for name, values in sorted(groups.items())
        },
    }


def evaluate_mixtures(
    model,
    table: Path,
    examples: int | None = None,
    seed: int = 0,
    *,
    on_event: Callable[[Event], None] | None = None,
) -> Event:
    """Score ``model`` on ready-made mixtures: a TSV with the columns mix, s1, s2 (s3, ...), paths of sound
    files relative to the table, and optionally ``group``, by which figures are also given.

    The first ``examples`` rows, or all. Files of another rate are resampled to the model's. Raises
    :class:`InputError`: a damaged table or file, lengths that differ, a silent source; nothing is left out,
    because a mean over what happened to be readable could be compared with nothing.
    """
    rate, n = model.config.sample_rate, model.config.n_speakers
    columns = ["mix", *(f"s{k + 1}" for k in range(n))]
    rows = read_table(table, columns)[:examples]
    if not rows:
        raise InputError(f"{table}: the table has no rows")
    if f"s{n + 1}" in rows[0]:
        raise InputError(f"{table}: has more than the {n} speakers that the model separates")
    base = table.resolve().parent

    def mixtures() -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
        for row in rows:
            sounds = [read_mono(base / row[c], rate) for c in columns]
            if len({len(s) for s in sounds}) > 1:
                lengths = ", ".join(f"{c} {len(s)}" for c, s in zip(columns, sounds, strict=True))
                raise InputError(
                    f"{table}: {row['mix']} and its sources differ in length ({lengths} samples)"
                )
            if not all(s.any() for s in sounds[1:]):
                raise InputError(f"{table}: {row['mix']} has a silent source")
            yield row["mix"], row.get("group", ""), sounds[0], np.stack(sounds[1:])

    return summarise(_score(model, mixtures(), rate, len(rows), on_event), seed)


@torch.inference_mode()
def stems_of(model, mixture: np.ndarray, name: str) -> np.ndarray:
    """[samples] -> [n, samples], as ``slyther separate`` gives them; ``name`` says of which example. Raises
    :class:`ModelError`."""
    model.eval()
    device = next(model.parameters()).device
    heard = heard_by(model, lambda: [mixture], model.config.sample_rate, MIXTURE_DB)
    levelled = torch.from_numpy(np.concatenate([*heard()])).to(device)
    estimates = heard.undo(model(levelled[None])[0].cpu().numpy())
    if not np.isfinite(estimates).all():
        raise ModelError(f"the model gives values that are not finite for {name}")
    return estimates


def _score(
    model,
    mixtures: Iterable[tuple[str, str, np.ndarray, np.ndarray]],
    rate: int,
    count: int,
    on_event: Callable[[Event], None] | None,
) -> list[Score]:
    scores: list[Score] = []
    for name, group, mixture, sources in mixtures:
        estimates = stems_of(model, mixture, name)
        said = np.stack([filtered(x, rate) for x in sources])
        scores.append(score_example(name, group, filtered(mixture, rate), said, estimates, rate))
        if on_event is not None:
            mean = float(np.mean([s.si_snri for s in scores]))
            done = {"event": "example", "index": len(scores), "examples": count, **asdict(scores[-1])}
            on_event({**done, "mean_si_snri": round(mean, 3)})
    return scores


def score_example(
    name: str, group: str, mixture: np.ndarray, sources: np.ndarray, estimates: np.ndarray, rate: int
) -> Score:
    """mixture [samples], sources and estimates [n, samples] at ``rate`` Hz.

    Estimates go with the sources that give the highest mean, for SI-SNR and SDR each on its own. Every figure
    is kept within +-100 dB, so that one silent or perfect stem does not make a mean infinite. Raises
    :class:`InputError` when a source is silent.
    """
    n = len(sources)
    values: dict[str, float] = {}
    try:
        for kind, matrix in (("si_snr", si_snr_matrix), ("sdr", sdr_matrix)):
            found = np.clip(matrix(np.concatenate([estimates, mixture[None]]), sources), -LIMIT_DB, LIMIT_DB)
            value = float(found[range(n), assign(found[:n])].mean())
            values |= {kind: value, f"{kind}i": value - float(found[n].mean())}
    except ValueError as error:
        raise InputError(f"{name}: {error}") from None
    return Score(name, len(mixture) / rate, **values, group=group)


def summarise(scores: Sequence[Score], seed: int = 0) -> Event:
    """Mean and 95 % bootstrap interval of every score, over all and by group.

    {"examples", "seconds", "groups": {"all" | a group: {"examples", a score: {"mean", "low", "high"}}}}
    """
    names = sorted({s.group for s in scores if s.group})
    groups: dict[str, list[Score]] = {ALL: list(scores)} | {
        g: [s for s in scores if s.group == g] for g in names
    }
    report: Event = {
        "examples": len(scores),
        "seconds": round(sum(s.seconds for s in scores), 3),
        "groups": {},
    }
    for name, members in groups.items():
        entry: Event = {"examples": len(members)}
        for kind in SCORES:
            entry[kind] = _mean([getattr(s, kind) for s in members], seed)
        report["groups"][name] = entry
    return report


def _mean(values: Sequence[float], seed: int) -> Event:
    """The mean and its interval."""
    low, high = bootstrap_interval(values, seed)
    return {"mean": round(float(np.mean(values)), 3), "low": rounded(low), "high": rounded(high)}


def group_of(pool: SpeechPool, speakers: Sequence[str]) -> str:
    sexes = {pool.sex[s] for s in speakers}
    if not sexes <= {"F", "M"}:
        return ""
    return "same sex" if len(sexes) == 1 else "different sex"
