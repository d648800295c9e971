"""Dynamic mixing: two (or more) speakers, drawn anew for every example (papers.md 1.4, and longer stretches).

An example is a pure function of (seed, index), so that a resumed run sees what the unbroken one would have
seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slyther_cli.errors import InputError, UsageError
from slyther_cli.training.data import SpeechPool


@dataclass(frozen=True)
class MixingConfig:
    """``level_mean``/``level_std``: dB of each further source against the first, clipped at +-12 (papers.md
    1.4).

    ``speed``: factors of speed perturbation. ``turns``: the share of examples that are conversations, with
    pauses of ``pause_s`` seconds (least, most) in which a speaker is silent; the rest overlap fully.
    ``speaker_power``: a speaker is drawn with (number of utterances) ** power. Raises :class:`UsageError` on
    values without a meaning.
    """

    level_mean: float = -2.51
    level_std: float = 2.66
    speed: tuple[float, ...] = (0.95, 1.0, 1.05)
    turns: float = 0.0
    pause_s: tuple[float, ...] = (0.2, 4.0)
    speaker_power: float = 0.5

    def __post_init__(self) -> None:
        if not self.speed or not all(0.5 <= s <= 2 for s in self.speed):
            raise UsageError("speed must hold factors from 0.5 to 2")
        if len(self.pause_s) != 2 or not 0 <= self.pause_s[0] <= self.pause_s[1]:
            raise UsageError("pause_s must hold the least and the most seconds of a pause")
        if not 0 <= self.turns <= 1 or self.level_std < 0:
            raise UsageError("turns must be from 0 to 1, level_std 0 or more")


class Mixer:
    """``mixer.example(index, samples)`` -> (mixture [samples], sources [n_speakers, samples]), float32.

    The mixture is the sum of the sources and peaks at 0.9. Raises :class:`InputError` when the pool has fewer
    speakers than an example.
    """

    def __init__(self, pool: SpeechPool, config: MixingConfig, n_speakers: int, seed: int):
        self.pool, self.config, self.n_speakers, self.seed = pool, config, n_speakers, seed
        self.names = sorted(pool.speakers)
        if len(self.names) < n_speakers:
            raise InputError(f"the speech has {len(self.names)} speakers; to mix takes {n_speakers}")
        weight = np.array([len(pool.speakers[n]) for n in self.names], float) ** config.speaker_power
        self.weight = weight / weight.sum()

    def example(self, index: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        c, rng = self.config, np.random.default_rng([self.seed, index])
        chosen = self._draw(rng)
        conversation = rng.random() < c.turns
        sources = np.stack([self._source(rng, name, samples, conversation) for name in chosen])
        for k in range(1, self.n_speakers):
            level = np.clip(rng.normal(c.level_mean, c.level_std), -12, 12)
            sources[k] *= np.float32(10 ** (level / 20))
        sources *= np.float32(0.9 / max(1e-6, np.abs(sources.sum(0)).max()))
        return sources.sum(0), sources

    def speakers(self, index: int) -> list[str]:
        """Who speaks in that example, in the order of its sources."""
        return self._draw(np.random.default_rng([self.seed, index]))

    def _draw(self, rng: np.random.Generator) -> list[str]:
        chosen = rng.choice(len(self.names), self.n_speakers, replace=False, p=self.weight)
        return [self.names[i] for i in chosen]

    def _source(self, rng: np.random.Generator, name: str, samples: int, conversation: bool) -> np.ndarray:
        """One speaker for the whole stretch: utterances end to end, or with pauses between them."""
        utterances = self.pool.speakers[name]
        out = np.zeros(samples, np.float32)
        at = 0
        if conversation and rng.random() < 0.5:
            at = int(rng.uniform(0, min(self.config.pause_s[1] * self.pool.rate, samples / 2)))
        first = not conversation
        while at < samples:
            piece = self._speed(rng, utterances[rng.integers(len(utterances))])
            if first and len(piece) > samples:
                # A random window, so that not all examples begin with a first word.
                start = rng.integers(len(piece) - samples + 1)
                piece = piece[start:]
            first = False
            piece = piece[: samples - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
            if conversation:
                least, most = self.config.pause_s
                at += int(rng.uniform(least, most) * self.pool.rate)
        return out

    def _speed(self, rng: np.random.Generator, piece: np.ndarray) -> np.ndarray:
        factor = self.config.speed[rng.integers(len(self.config.speed))]
        x = piece.astype(np.float32) / 32768
        if factor == 1.0:
            return x
        import soxr

        return soxr.resample(x, self.pool.rate * factor, self.pool.rate, quality="MQ")
