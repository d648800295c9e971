"""Examples for a recogniser: utterances or joins of them, made noisy and warped in time, with their texts.

An example is a pure function of (seed, index), so that a resumed run sees what the unbroken one would have
seen. Sources: papers.md 2.6 (speed perturbation, SpecAugment) and 7.3 (joined utterances).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from slyther_cli.decode.tokens import Tokenizer
from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.training.augmentation import (
    band_limited,
    check_drawn,
    coloured,
    drawn,
    mp3_coded,
    noise,
    noisy,
    reverberant,
)
from slyther_cli.research.training.data import SpeechPool, at_speed
from slyther_cli.research.training.noises import unit_excerpt
from slyther_cli.research.training.teacher_states import Part


@dataclass(frozen=True)
class AugmentConfig:
    """``speed``: factors of speed perturbation. ``gain_db``: levels are shifted by up to so much. ``noise``:
    the share of examples with noise under them, ``snr_db`` (least, most) below the speech, and of these
    ``recorded_noise`` with a recording (``noises`` in [data]), the others with steady noise. ``narrow``: the
    share whose band ends somewhere in ``cutoff_hz``, as that of a telephone or of a lossy codec does.
    ``colour_db``: the deviation of a random equaliser. ``rooms``: the share in a simulated room where sound
    falls by 60 dB in ``room_s`` and is ``direct_db`` below the direct sound. ``coded``: the share that goes
    through MP3 at the end, at ``compression`` (:func:`mp3_coded`). ``silence_s``: up to so much silence
    before and after an example.

    ``joined``: the share of examples that are several utterances with pauses of ``pause_s`` between them, as
    long as one of ``joined_seconds``. ``wordless``: the share that has no speech, only noise or tones.
    SpecAugment: ``bands`` masks of up to ``band_width`` mel bands, and one mask of up to ``mask_s`` seconds
    for every ``mask_every_s``. Raises :class:`UsageError` on values without a meaning.
    """

    speed: tuple[float, ...] = (0.9, 1.0, 1.1)
    gain_db: float = 8.0
    colour_db: float = 0.0
    rooms: float = 0.0
    room_s: tuple[float, ...] = (0.1, 0.7)
    direct_db: tuple[float, ...] = (0.0, 12.0)
    noise: float = 0.3
    recorded_noise: float = 0.0
    snr_db: tuple[float, ...] = (8.0, 35.0)
    narrow: float = 0.3
    cutoff_hz: tuple[float, ...] = (3400.0, 7000.0)
    coded: float = 0.0
    compression: tuple[float, ...] = (0.8, 0.95)
    silence_s: float = 0.0
    joined: float = 0.3
    joined_seconds: tuple[float, ...] = (20.0, 40.0)
    pause_s: tuple[float, ...] = (0.1, 2.0)
    wordless: float = 0.01
    bands: int = 2
    band_width: int = 20
    mask_every_s: float = 2.5
    mask_s: float = 0.4

    def __post_init__(self) -> None:
        ranges = ("pause_s", "snr_db", "cutoff_hz", "room_s", "direct_db", "compression")
        shares = ("noise", "recorded_noise", "rooms", "narrow", "coded", "joined", "wordless")
        check_drawn(self, ranges, shares)
        if self.room_s[0] <= 0 or self.colour_db < 0:
            raise UsageError("room_s must be above 0, colour_db 0 or more")
        if not 0 <= self.compression[0] <= self.compression[1] < 0.98:
            raise UsageError("compression must be from 0 to below 0.98")
        if (
            min(self.pause_s[0], self.silence_s) < 0
            or not self.joined_seconds
            or min(self.joined_seconds) <= 0
        ):
            raise UsageError("pauses and silence must be 0 or more seconds, joined_seconds above 0")
        if min(self.bands, self.band_width, self.mask_s, self.gain_db) < 0 or self.mask_every_s <= 0:
            raise UsageError("bands, band_width, mask_s, gain_db must be 0 or more, mask_every_s above 0")


class Example(NamedTuple):
    """float32 samples, the tokens that they say, and the utterances that they are made of."""

    samples: np.ndarray
    tokens: list[int]
    parts: list[Part]


class TranscribedSpeech:
    """The utterances of a pool that have a text which ``tokenizer`` can write, by length.

    ``seconds`` float [n] ascending, ``texts``, ``tokens`` and ``paths`` [n]; ``left_out`` counts those
    without.
    ``noises``: recordings of noise, [samples] each. Raises :class:`InputError` when there is none.
    """

    def __init__(self, pool: SpeechPool, tokenizer: Tokenizer, noises: Sequence[np.ndarray] = ()):
        self.rate, self.noises = pool.rate, noises
        rows: list[tuple[str, np.ndarray, str, list[int], str]] = []
        self.left_out = 0
        for speaker in sorted(pool.speakers):
            of = pool.speakers[speaker], pool.transcripts[speaker], pool.paths[speaker]
            for samples, raw, path in zip(*of, strict=True):
                text = tokenizer.normalise(raw)
                try:
                    tokens = tokenizer.encode(text)
                except ValueError:
                    tokens = []
                if tokens:
                    rows.append((speaker, samples, text, tokens, path))
                else:
                    self.left_out += 1
        if not rows:
            raise InputError("the speech has no transcripts that the model's alphabet can write")
        rows.sort(key=lambda row: len(row[1]))
        columns = map(list, zip(*rows, strict=True))
        self.speakers, self.samples, self.texts, self.tokens, self.paths = columns
        self.seconds = np.array([len(s) / pool.rate for s in self.samples])
        self.hours = float(self.seconds.sum()) / 3600
        self._encode = tokenizer.encode

    def batch(
        self, c: AugmentConfig, rng: np.random.Generator, seconds: float, views: int = 1
    ) -> list[Example]:
        """About ``seconds`` of speech, a half more at most (or one utterance), of utterances about equally
        long.

        With two ``views`` the second half of the list has the utterances of the first, at the same speed and
        length, with rooms, noise and so on of their own.
        """
        spoken = self._spoken(c, rng, seconds / views)
        return [
            x._replace(samples=self._finished(c, rng, x.samples)) if x.tokens else x
            for _ in range(views)
            for x in spoken
        ]

    def _spoken(self, c: AugmentConfig, rng: np.random.Generator, seconds: float) -> list[Example]:
        """A batch of speech as it is, or without words and finished."""
        if rng.random() < c.joined:
            length = c.joined_seconds[rng.integers(len(c.joined_seconds))]
            return [self._join(c, rng, length) for _ in range(max(1, round(seconds / length)))]
        at = int(rng.choice(len(self.seconds), p=self.seconds / self.seconds.sum()))
        count = max(1, round(seconds / self.seconds[at]))
        near = np.arange(max(0, at - 2 * count), min(len(self.seconds), at + 2 * count + 1))
        picked = rng.choice(near, min(count, len(near)), replace=False)
        room = np.cumsum(self.seconds[picked]) <= 1.5 * seconds
        return [self._example(c, rng, int(i)) for i in picked[: max(1, int(room.sum()))]]

    def _example(self, c: AugmentConfig, rng: np.random.Generator, i: int) -> Example:
        if rng.random() < c.wordless:
            return Example(_wordless(rng, len(self.samples[i]), self.rate), [], [])
        speed = _speed(c, rng)
        speech = Example(self._speech(i, speed), self.tokens[i], [Part(self.paths[i], 0, speed)])
        return self._among_silence(c, rng, speech)

    def _join(self, c: AugmentConfig, rng: np.random.Generator, seconds: float) -> Example:
        """Utterances of one speaker, or of two in turns."""
        everyone = sorted(set(self.speakers))
        chosen = set(rng.choice(everyone, min(len(everyone), int(rng.integers(1, 3))), replace=False))
        own = [i for i, s in enumerate(self.speakers) if s in chosen]
        sound: list[np.ndarray] = []
        texts: list[str] = []
        parts: list[Part] = []
        total = 0
        while True:
            i, speed = own[rng.integers(len(own))], _speed(c, rng)
            speech = self._speech(i, speed)
            pause = np.zeros(int(drawn(rng, c.pause_s) * self.rate), np.float32)
            if sound and total + len(speech) + len(pause) > seconds * self.rate:
                break
            sound += [speech, pause]
            texts.append(self.texts[i])
            parts.append(Part(self.paths[i], total, speed))
            total += len(speech) + len(pause)
        joined = Example(np.concatenate(sound), self._encode(" ".join(texts)), parts)
        return self._among_silence(c, rng, joined)

    def _speech(self, i: int, speed: float) -> np.ndarray:
        return at_speed(self.samples[i], self.rate, speed, "QQ")

    def _among_silence(self, c: AugmentConfig, rng: np.random.Generator, x: Example) -> Example:
        if not c.silence_s:
            return x
        before, after = (int(n) for n in rng.uniform(0, c.silence_s, 2) * self.rate)
        moved = [part._replace(start=part.start + before) for part in x.parts]
        return Example(np.pad(x.samples, (before, after)), x.tokens, moved)

    def _finished(self, c: AugmentConfig, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        if c.colour_db:
            x = coloured(rng, x, c.colour_db)
        if c.rooms and rng.random() < c.rooms:
            x = reverberant(rng, x, self.rate, drawn(rng, c.room_s), drawn(rng, c.direct_db))
        if rng.random() < c.narrow:
            x = band_limited(x, self.rate, drawn(rng, c.cutoff_hz))
        if c.gain_db:
            x = x * np.float32(10 ** (rng.uniform(-c.gain_db, c.gain_db) / 20))
        if rng.random() < c.noise:
            recorded = c.recorded_noise and rng.random() < c.recorded_noise
            unit = unit_excerpt(rng, self.noises, len(x)) if recorded else noise(rng, len(x))
            x = noisy(x, unit, drawn(rng, c.snr_db))
        if c.coded and rng.random() < c.coded:
            x = mp3_coded(x, self.rate, drawn(rng, c.compression))
        return x


def _speed(c: AugmentConfig, rng: np.random.Generator) -> float:
    return c.speed[rng.integers(len(c.speed))]


def _wordless(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Silence, noise, chords of a few steady tones, or struck notes with or without drums; float32 [n]."""
    kind = rng.integers(4)
    level = np.float32(10 ** (-rng.uniform(10, 60) / 20))
    if kind == 0:
        return np.zeros(n, np.float32)
    if kind == 1:
        return noise(rng, n) * level
    if kind == 2:
        return _struck(rng, n, rate) * level
    t = np.arange(n, dtype=np.float32) / rate
    pitches = 110 * 2 ** (rng.integers(0, 36, 4) / 12)
    tones = sum(np.sin(2 * np.pi * p * k * t) / k for p in pitches for k in (1, 2, 3))
    beat = np.interp(t, np.arange(0, t[-1] + 1, 0.5), rng.uniform(0, 1, len(np.arange(0, t[-1] + 1, 0.5))))
    return (tones * beat * level / 4).astype(np.float32)


def _struck(rng: np.random.Generator, n: int, rate: int) -> np.ndarray:
    """Notes that are struck and fade, several at a time, some with drums; peak about 1, float32 [n]."""
    x = np.zeros(n + 2 * rate, np.float32)
    beat, voices, drums = rng.uniform(0.12, 0.6), int(rng.integers(1, 5)), rng.random() < 0.5
    bright, fade = rng.uniform(0.8, 2.0), rng.uniform(1.0, 8.0)
    t = np.arange(2 * rate, dtype=np.float32) / rate
    shape = np.minimum(1, t * rng.uniform(20, 300)) * np.exp(-fade * t)
    hit = rng.standard_normal(rate // 5, np.float32) * np.exp(-40 * t[: rate // 5])
    for at in np.arange(0, n, max(1, int(beat * rate))):
        for _ in range(rng.integers(0, voices + 1)):
            pitch = 65 * 2 ** (rng.integers(0, 48) / 12)
            wobble = rng.uniform(0, 0.6) * np.sin(2 * np.pi * 5.5 * t)
            high = range(1, min(9, max(2, int(rate / 2 / pitch))))
            note = sum(np.sin(k * (2 * np.pi * pitch * t + wobble)) / k**bright for k in high)
            x[at : at + 2 * rate] += note * shape
        if drums and rng.random() < 0.7:
            x[at : at + len(hit)] += 2 * hit
    return x[:n] / max(1e-6, float(np.abs(x[:n]).max()))


def spec_augment(features: Tensor, c: AugmentConfig, rng: np.random.Generator, hop_s: float) -> Tensor:
    """Masks on normalised features [frames, bands], in place: what is masked becomes the mean, 0."""
    frames, bands = features.shape
    for _ in range(c.bands):
        width = int(rng.integers(0, min(c.band_width, bands) + 1))
        at = int(rng.integers(0, bands - width + 1))
        features[:, at : at + width] = 0
    for _ in range(round(frames * hop_s / c.mask_every_s)):
        width = min(int(rng.uniform(0, c.mask_s) / hop_s), frames)
        at = int(rng.integers(0, frames - width + 1))
        features[at : at + width] = 0
    return features


def padded(features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """[frames, bands] each -> [batch, most frames, bands], lengths [batch]."""
    lengths = torch.tensor([len(f) for f in features])
    return torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths
