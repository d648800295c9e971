"""Dynamic mixing: two (or more) speakers, drawn anew for every example (papers.md 1.4, and longer stretches).

An example is a pure function of (seed, index), so that a resumed run sees what the unbroken one would have seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slyther_cli.training.data import SpeechPool


@dataclass(frozen=True)
class MixingConfig:
    """``level_mean``/``level_std``: dB of each further source against the first, clipped at +-12 (papers.md 1.4).

    ``speed``: factors of speed perturbation. ``turns``: the share of examples that are conversations, with pauses and
    stretches where a speaker is silent; the rest overlap fully. ``noise_db``: at most so much white noise against the mixture.
    """

    level_mean: float = -2.51
    level_std: float = 2.66
    speed: tuple[float, ...] = (0.95, 1.0, 1.05)
    turns: float = 0.0
    pause_s: tuple[float, float] = (0.2, 4.0)
    speaker_power: float = 0.5  # draw a speaker with (number of utterances) ** power


class Mixer:
    """``mixer.example(index, samples)`` -> (mixture [samples], sources [n_speakers, samples]), float32."""

    def __init__(self, pool: SpeechPool, config: MixingConfig, n_speakers: int, seed: int):
        self.pool, self.config, self.n_speakers, self.seed = pool, config, n_speakers, seed
        self.names = sorted(pool.speakers)
        if len(self.names) < n_speakers:
            raise ValueError(f"{len(self.names)} speakers in the pool; {n_speakers} are needed")
        weight = np.array([len(pool.speakers[n]) for n in self.names], float) ** config.speaker_power
        self.weight = weight / weight.sum()

    def example(self, index: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        c, rng = self.config, np.random.default_rng([self.seed, index])
        chosen = rng.choice(len(self.names), self.n_speakers, replace=False, p=self.weight)
        conversation = rng.random() < c.turns
        sources = np.stack([self._source(rng, self.names[i], samples, conversation) for i in chosen])
        for k in range(1, self.n_speakers):
            level = np.clip(rng.normal(c.level_mean, c.level_std), -12, 12)
            sources[k] *= np.float32(10 ** (level / 20))
        sources *= np.float32(0.9 / max(1e-6, np.abs(sources.sum(0)).max()))
        return sources.sum(0), sources

    def _source(self, rng, name: str, samples: int, conversation: bool) -> np.ndarray:
        """One speaker for the whole stretch: utterances end to end, or with pauses between them."""
        utterances = self.pool.speakers[name]
        out = np.zeros(samples, np.float32)
        at = 0
        if conversation and rng.random() < 0.5:
            at = int(rng.uniform(0, min(self.config.pause_s[1] * self.pool.rate, samples / 2)))
        first = not conversation
        while at < samples:
            piece = self._speed(rng, utterances[rng.integers(len(utterances))])
            if first and len(piece) > samples:  # a random window, so that not all examples begin with a first word
                start = rng.integers(len(piece) - samples + 1)
                piece = piece[start:]
            first = False
            piece = piece[: samples - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
            if conversation:
                at += int(rng.uniform(*self.config.pause_s) * self.pool.rate)
        return out

    def _speed(self, rng, piece: np.ndarray) -> np.ndarray:
        factor = self.config.speed[rng.integers(len(self.config.speed))]
        x = piece.astype(np.float32) / 32768
        if factor == 1.0:
            return x
        import soxr

        return soxr.resample(x, self.pool.rate * factor, self.pool.rate, quality="MQ")
