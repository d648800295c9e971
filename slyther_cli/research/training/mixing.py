"""Dynamic mixing: two (or more) speakers, drawn anew for every example (papers.md 1.4, and longer stretches).

An example is a pure function of (seed, index), so that a resumed run sees what the unbroken one would have
seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.training.augmentation import (
    between,
    check_drawn,
    coloured,
    drawn,
    noise,
    noisy,
    reverberant,
)
from slyther_cli.research.training.data import SpeechPool, at_speed
from slyther_cli.research.training.noises import unit_excerpt
from slyther_cli.research.training.turns import excerpt, take_turns

DRAWS = 1000  # of speakers, until they are surely others


@dataclass(frozen=True)
class MixingConfig:
    """``level_mean``/``level_std``: dB of each further source against the first, clipped at +-12 (papers.md
    1.4).

    What makes of one voice many: ``speed``, factors of which one is drawn for a source; ``colour_db``, the
    standard deviation of a random smooth equaliser's gain; ``invert``, half of the sources change their sign.

    What recordings do to voices: ``rooms``, the share of examples in a room that rings for ``room_s`` seconds
    (least, most; until 60 dB less), each source as near to the microphone as ``direct_db`` (direct sound
    against the rest) says; ``noise``, the share with noise ``snr_db`` below the speech: steady, or in the
    share ``recorded_noise`` of them a recording's; ``narrow``, the share that hears only from ``low_hz`` to
    ``high_hz`` (least, most), as over a telephone. Rooms and lines are part of a source, noise is of none.

    ``turns``: the share of examples that are conversations, with pauses of ``pause_s`` seconds (least, most)
    in which a speaker is silent; the rest overlap fully. ``taking_turns``: the share, among examples of
    ``taking_turns_from_s`` seconds or more, in which one speaks after the other: turns of ``turn_s`` seconds
    (least, most), or a whole utterance in the share ``whole``, with ``gap_s`` between them (below 0 they
    overlap), now and then (``again``) two by the same; speakers of ``spoken_s`` seconds of speech or more do.
    ``alone``: the share in which only the first source is heard, the others are zero. ``speaker_power``: a
    speaker is drawn with (number of utterances) ** power; ``same_sex``: the share of examples whose other
    speakers are drawn among those of the first one's sex.

    Raises :class:`UsageError` on values without a meaning.
    """

    level_mean: float = -2.51
    level_std: float = 2.66
    speed: tuple[float, ...] = (0.95, 1.0, 1.05)
    colour_db: float = 0.0
    invert: bool = False
    rooms: float = 0.0
    room_s: tuple[float, ...] = (0.1, 0.7)
    direct_db: tuple[float, ...] = (0.0, 12.0)
    noise: float = 0.0
    recorded_noise: float = 0.0
    snr_db: tuple[float, ...] = (8.0, 35.0)
    narrow: float = 0.0
    low_hz: tuple[float, ...] = (50.0, 400.0)
    high_hz: tuple[float, ...] = (2600.0, 4000.0)
    turns: float = 0.0
    pause_s: tuple[float, ...] = (0.2, 4.0)
    taking_turns: float = 0.0
    taking_turns_from_s: float = 0.0
    turn_s: tuple[float, ...] = (1.0, 6.0)
    gap_s: tuple[float, ...] = (-0.8, 0.8)
    whole: float = 0.2
    again: float = 0.15
    spoken_s: float = 8.0
    alone: float = 0.0
    same_sex: float = 0.0
    speaker_power: float = 0.5

    def __post_init__(self) -> None:
        ranges = ("pause_s", "room_s", "direct_db", "snr_db", "low_hz", "high_hz", "turn_s", "gap_s")
        shares = ("turns", "taking_turns", "whole", "again", "alone", "same_sex", "rooms", "narrow")
        check_drawn(self, ranges, (*shares, "noise", "recorded_noise"))
        if self.turn_s[0] < 0.1:
            raise UsageError("turn_s must be 0.1 or more")
        if min(self.pause_s[0], self.low_hz[0]) < 0 or self.room_s[0] <= 0:
            raise UsageError("pause_s and low_hz must be 0 or more, room_s above 0")
        if self.low_hz[1] >= self.high_hz[0]:
            raise UsageError("low_hz must be below high_hz")
        if min(self.level_std, self.colour_db) < 0:
            raise UsageError("level_std and colour_db must be 0 or more")


class Mixer:
    """``mixer.example(index, samples)`` -> (mixture [samples], sources [n_speakers, samples]), float32.

    The mixture is the sum of the sources, and of noise if there is any, and peaks at 0.9. Who says what how
    loud does not depend on rooms, noise and lines. Raises :class:`InputError` when the pool has fewer
    speakers than an example, or nothing tells the sex that ``same_sex`` asks for.
    """

    def __init__(
        self,
        pool: SpeechPool,
        config: MixingConfig,
        n_speakers: int,
        seed: int,
        noises: Sequence[np.ndarray] = (),
    ):
        self.noises = noises
        self.pool, self.config, self.n_speakers, self.seed = pool, config, n_speakers, seed
        self.names = sorted(pool.speakers)
        if len(self.names) < n_speakers:
            raise InputError(f"the speech has {len(self.names)} speakers; to mix takes {n_speakers}")
        weight = np.array([len(pool.speakers[n]) for n in self.names], float) ** config.speaker_power
        self.weight = weight / weight.sum()
        spoken = np.array([sum(map(len, pool.speakers[n])) for n in self.names]) / pool.rate
        talkers = self.weight * (spoken >= config.spoken_s)
        if config.taking_turns and (talkers > 0).sum() < n_speakers:
            raise InputError(f"fewer than {n_speakers} speakers have the {config.spoken_s:g} s to take turns")
        self.talkers = talkers / max(talkers.sum(), 1e-12)
        if config.recorded_noise and not noises:
            raise InputError("recorded_noise takes recordings: name their manifest as noises in [data]")
        self.sex = np.array([pool.sex[n] for n in self.names])
        if config.same_sex and not self.sex.astype(bool).any():
            raise InputError("same_sex asks for manifests with the column sex")

    def example(self, index: int, samples: int) -> tuple[np.ndarray, np.ndarray]:
        c, rng = self.config, np.random.default_rng([self.seed, index])
        chosen = self._draw(rng, self._takes_turns(index, samples))
        conversation = rng.random() < c.turns
        if self._takes_turns(index, samples):
            sources = self._in_turns(rng, chosen, samples)
        else:
            sources = np.stack([self._source(rng, name, samples, conversation) for name in chosen])
        around = np.random.default_rng([self.seed, index, 1])
        if around.random() < c.rooms:
            rings = drawn(around, c.room_s)
            sources = np.stack(
                [reverberant(around, x, self.pool.rate, rings, drawn(around, c.direct_db)) for x in sources]
            )
        for k in range(1, self.n_speakers):
            level = np.clip(rng.normal(c.level_mean, c.level_std), -12, 12)
            sources[k] *= np.float32(10 ** (level / 20))
        if np.random.default_rng([self.seed, index, 2]).random() < c.alone:
            sources[1:] = 0.0
        mixture = sources.sum(0)
        if around.random() < c.noise:
            snr_db = drawn(around, c.snr_db)
            mixture = noisy(mixture, self._noise(around, samples), snr_db)
        if around.random() < c.narrow:
            band = drawn(around, c.low_hz), drawn(around, c.high_hz)
            sources, mixture = (between(x, self.pool.rate, *band) for x in (sources, mixture))
        scale = np.float32(0.9 / max(1e-6, np.abs(mixture).max()))
        return mixture * scale, sources * scale

    def _takes_turns(self, index: int, samples: int) -> bool:
        c = self.config
        if not c.taking_turns or samples < c.taking_turns_from_s * self.pool.rate:
            return False
        return np.random.default_rng([self.seed, index, 3]).random() < c.taking_turns

    def _noise(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """At unit level."""
        if self.config.recorded_noise and rng.random() < self.config.recorded_noise:
            return unit_excerpt(rng, self.noises, samples)
        return noise(rng, samples)

    def speakers(self, index: int, samples: int = 0) -> list[str]:
        """Who speaks in that example of ``samples``, in the order of its sources."""
        rng = np.random.default_rng([self.seed, index])
        return self._draw(rng, self._takes_turns(index, samples))

    def _draw(self, rng: np.random.Generator, taking_turns: bool) -> list[str]:
        """Speakers of whom no two can be the same person."""
        for _ in range(DRAWS):
            names = self._draw_any(rng, taking_turns)
            if not any(self.pool.same(a, b) for a, b in combinations(names, 2)):
                return names
        raise InputError("the speakers' possible_speakers leave none to mix who are surely others")

    def _draw_any(self, rng: np.random.Generator, taking_turns: bool) -> list[str]:
        weight = self.talkers if taking_turns else self.weight
        chosen = rng.choice(len(self.names), self.n_speakers, replace=False, p=weight)
        known = self.sex[chosen[0]]
        if known and self.config.same_sex and rng.random() < self.config.same_sex:
            alike = np.flatnonzero(self.sex == known)
            alike = alike[(alike != chosen[0]) & (weight[alike] > 0)]
            if len(alike) >= self.n_speakers - 1:
                p = weight[alike] / weight[alike].sum()
                chosen[1:] = rng.choice(alike, self.n_speakers - 1, replace=False, p=p)
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
        return self._own_sound(rng, out)

    def _in_turns(self, rng: np.random.Generator, chosen: list[str], samples: int) -> np.ndarray:
        """[n_speakers, samples]: one after the other."""
        c, rate = self.config, self.pool.rate
        speeds = [c.speed[rng.integers(len(c.speed))] for _ in chosen]
        to_come: list[list[int]] = [[] for _ in chosen]  # nobody repeats before everything is said

        def said(k: int) -> np.ndarray:
            utterances = self.pool.speakers[chosen[k]]
            to_come[k] = to_come[k] or list(rng.permutation(len(utterances)))
            x = utterances[to_come[k].pop()]
            whole, seconds = rng.random() < c.whole, drawn(rng, c.turn_s)
            if not whole:
                x = excerpt(rng, x, int(seconds * rate * speeds[k]), rate)
            return at_speed(x, rate, speeds[k], "MQ")

        sources = take_turns(rng, said, len(chosen), samples, rate, c.gap_s, c.again)
        return np.stack([self._own_sound(rng, x) for x in sources])

    def _own_sound(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        """One speaker's [samples] as another might sound: an equaliser, a sign."""
        c = self.config
        if c.colour_db and x.any():
            x = coloured(rng, x, c.colour_db)
        return -x if c.invert and rng.random() < 0.5 else x
