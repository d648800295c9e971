"""How well a speaker network tells voices apart, and another one on the same trials:

    python -m slyther_cli.research.evaluation.speaker speaker-16k MANIFEST.. [--split test] [--narrow]
    [--turns]

Trials are stretches of one length: of one speaker in different utterances, of two speakers of one manifest.
Turns: stretches of 3 to 5 s of two speakers by turns, parted by 2-means (``longform.identity``).
In place of a model of ours: resemblyzer, where it is installed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slyther_cli.longform.identity import two_voices
from slyther_cli.research.training.data import SpeechPool, at_speed
from slyther_cli.research.training.speaker import RATE, equal_error_rate

Embed = Callable[[np.ndarray], np.ndarray]
LENGTHS = (2.0, 3.0, 5.0)
MOST, RESAMPLES, PAIRS, TURNS = 8, 200, 30, 24


def pieces(speech: Sequence[np.ndarray], seconds: float) -> Iterator[tuple[set[int], np.ndarray]]:
    """A speaker's utterances joined and cut: which of them a piece has, float32 samples."""
    owner = np.concatenate([np.full(len(x), i, np.int32) for i, x in enumerate(speech)])
    joined, size = np.concatenate(speech), int(seconds * RATE)
    for start in range(0, min(len(joined), MOST * size) - size + 1, size):
        whose = set(owner[[start, start + size - 1]].tolist())
        yield whose, at_speed(joined[start : start + size], RATE, 1.0, "")


def trials(pools: list[SpeechPool], seconds: float, embed: Embed) -> list[tuple[Any, Any, float]]:
    """Two speakers (the same one twice) and the cosine of each pair."""
    found = []
    for pool in pools:
        rows = [(name, own, embed(x)) for name, s in pool.speakers.items() for own, x in pieces(s, seconds)]
        for i, (a, mine, x) in enumerate(rows):
            for b, other, y in rows[:i]:
                if a != b or not mine & other:
                    found.append((a, b, float(x @ y)))
    return found


def rate_with_interval(found: list[tuple[Any, Any, float]], seed: int = 0) -> tuple[float, float, float]:
    """Equal error rate in %, and its 95 % interval over speakers (bootstrap)."""
    names = sorted({a for a, _, _ in found})
    number = {name: i for i, name in enumerate(names)}
    a, b = (np.array([number[row[k]] for row in found if row[1] in number]) for k in (0, 1))
    cosine = np.array([row[2] for row in found if row[1] in number])
    rng, rates = np.random.default_rng(seed), []
    for round_ in range(RESAMPLES + 1):
        times = np.bincount(rng.integers(len(names), size=len(names)), minlength=len(names))
        weight = np.ones_like(a) if not round_ else np.where(a == b, times[a], times[a] * times[b])
        same, different = (np.repeat(cosine[m], weight[m]) for m in (a == b, a != b))
        if len(same) and len(different):
            rates.append(100 * equal_error_rate(same, different))
    low, high = np.quantile(rates[1:], (0.025, 0.975))
    return rates[0], float(low), float(high)


def turns_right(pools: list[SpeechPool], embed: Embed, seed: int = 0) -> list[float]:
    """Of pairs of speakers of one pool, by turns: the share of turns that 2-means puts right."""
    rng, shares = np.random.default_rng(seed), []
    lively = [
        [s for s in pool.speakers.values() if sum(map(len, s)) > TURNS / 2 * 4 * RATE] for pool in pools
    ]
    lively = [speakers for speakers in lively if len(speakers) > 1]
    for number in range(PAIRS if lively else 0):
        speakers = lively[number % len(lively)]
        pair = [np.concatenate(speakers[i]) for i in rng.choice(len(speakers), 2, replace=False)]
        at, rows = [0, 0], []
        for turn in range(TURNS):
            size = int(rng.uniform(3, 5) * RATE)
            start = min(at[turn % 2], len(pair[turn % 2]) - size)
            rows.append(embed(at_speed(pair[turn % 2][start : start + size], RATE, 1.0, "")))
            at[turn % 2] = start + size
        x = np.stack((np.stack(rows), np.zeros_like(rows)), 1)
        voices = two_voices(x, np.tile([4.0, 0.0], (TURNS, 1)))
        found = np.zeros(TURNS) if voices is None else voices.evidence
        right = float(np.mean((found > 0) == (np.arange(TURNS) % 2 == 0)))
        shares.append(max(right, 1 - right))
    return shares


def narrow(embed: Embed) -> Embed:
    """Of sound that has been at 8 kHz in between."""
    import soxr

    return lambda x: embed(soxr.resample(soxr.resample(x, RATE, RATE // 2), RATE // 2, RATE))


def embedder(name: str) -> Embed:
    """Of a model of ours, or "resemblyzer"; the sound has speech throughout."""
    if name == "resemblyzer":
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False).embed_utterance  # type: ignore[no-any-return]
    from slyther_cli.checkpoints import store

    network: Any = store.load(name, expect_task="embed")[0]

    @torch.inference_mode()
    def ours(x: np.ndarray) -> np.ndarray:
        return np.asarray(network.embed(torch.from_numpy(x)))

    return ours


def main() -> None:
    about = argparse.ArgumentParser()
    about.add_argument("model", help="of ours, or resemblyzer")
    about.add_argument("manifests", nargs="+", type=Path)
    about.add_argument("--split", default="test")
    about.add_argument("--narrow", action="store_true", help="nothing above 4 kHz")
    about.add_argument("--turns", action="store_true", help="turns of two speakers instead of trials")
    about.add_argument("--cache", type=Path, default=Path("~/.cache/slyther/training").expanduser())
    asked = about.parse_args()
    pools = [SpeechPool([path], asked.split, RATE, asked.cache) for path in asked.manifests]
    embed = embedder(asked.model)
    if asked.narrow:
        embed = narrow(embed)
    if asked.turns:
        print(json.dumps({"by": asked.model, "turns_right": turns_right(pools, embed)}))
    for seconds in () if asked.turns else LENGTHS:
        found = trials(pools, seconds, embed)
        eer, low, high = (round(x, 2) for x in rate_with_interval(found))
        said = {"by": asked.model, "seconds": seconds, "eer": eer, "low": low, "high": high}
        print(json.dumps(said | {"trials": len(found)}), flush=True)


if __name__ == "__main__":
    main()
