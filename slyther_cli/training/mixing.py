"""Dynamic mixing: two (or more) speakers, drawn anew for every example (papers.md 1.4, and longer stretches).

An example is a pure function of (seed, index), so that a resumed run sees what the unbroken one would have
seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from slyther_cli.errors import InputError, UsageError
from slyther_cli.training.data import SpeechPool, at_speed


@dataclass(frozen=True)
class MixingConfig:
    """``level_mean``/``level_std``: dB of each further source against the first, clipped at +-12 (papers.md
    1.4).

    What makes of one voice many: ``speed``, factors of which one is drawn for a source; ``colour_db``, the
    standard deviation of a random smooth equaliser's gain; ``invert``, half of the sources change their sign.

    ``turns``: the share of examples that are conversations, with pauses of ``pause_s`` seconds (least, most)
    in which a speaker is silent; the rest overlap fully. ``speaker_power``: a speaker is drawn with (number
    of utterances) ** power.

    Raises :class:`UsageError` on values without a meaning.
    """

    level_mean: float = -2.51
    level_std: float = 2.66
    speed: tuple[float, ...] = (0.95, 1.0, 1.05)
    colour_db: float = 0.0
    invert: bool = False
    turns: float = 0.0
    pause_s: tuple[float, ...] = (0.2, 4.0)
    speaker_power: float = 0.5

    def __post_init__(self) -> None:
        if not self.speed or not all(0.5 <= s <= 2 for s in self.speed):
            raise UsageError("speed must hold factors from 0.5 to 2")
        if len(self.pause_s) != 2 or not 0 <= self.pause_s[0] <= self.pause_s[1]:
            raise UsageError("pause_s must hold the least and the most seconds of a pause")
        if not 0 <= self.turns <= 1 or min(self.level_std, self.colour_db) < 0:
            raise UsageError("turns must be from 0 to 1, level_std and colour_db 0 or more")


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
        c, utterances = self.config, self.pool.speakers[name]
        speed = c.speed[rng.integers(len(c.speed))]
        out = np.zeros(samples, np.float32)
        at = 0
        if conversation and rng.random() < 0.5:
            at = int(rng.uniform(0, min(c.pause_s[1] * self.pool.rate, samples / 2)))
        first = not conversation
        while at < samples:
            piece = at_speed(utterances[rng.integers(len(utterances))], self.pool.rate, speed, "MQ")
            if first and len(piece) > samples:
                # A random window, so that not all examples begin with a first word.
                start = rng.integers(len(piece) - samples + 1)
                piece = piece[start:]
            first = False
            piece = piece[: samples - at]
            out[at : at + len(piece)] = piece
            at += len(piece)
            if conversation:
                least, most = c.pause_s
                at += int(rng.uniform(least, most) * self.pool.rate)
        if c.colour_db:
            out = coloured(rng, out, c.colour_db)
        return -out if c.invert and rng.random() < 0.5 else out


def coloured(rng: np.random.Generator, x: np.ndarray, deviation_db: float, waves: int = 5) -> np.ndarray:
    """[samples] -> the same shape and level through a zero-phase filter: its gain in dB is a sum of slow
    waves over frequency, of random heights."""
    spectrum = np.fft.rfft(x, 2 * len(x))  # padded, so that nothing wraps around
    heights = rng.normal(0, deviation_db * (2 / waves) ** 0.5, waves)
    grid = np.linspace(0, 1, 256)
    shapes = np.cos(np.pi * np.outer(np.sqrt(grid), np.arange(1, waves + 1)))  # finer at low frequencies
    gain = np.interp(np.linspace(0, 1, len(spectrum)), grid, 10 ** (shapes @ heights / 20))
    y = np.fft.irfft(spectrum * gain)[: len(x)]
    level = np.sqrt(np.square(x, dtype=float).mean() / max(np.square(y).mean(), 1e-20))
    return (y * level).astype(np.float32)
