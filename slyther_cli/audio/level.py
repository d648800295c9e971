"""How loud a recording is, and how models hear it: without what lies below speech, and always equally loud.

    samples -> HighPass -> gain to the level that the model was trained at -> the model -> (stems) / gain

The level is that of the loud part of the speech, so that neither pauses nor a click count. A whole recording
has one gain, found in a pass of its own (``Whole``). A causal model, which hears a sound while it comes, has
a gain that follows slowly (``Running``), be it for a stream or for a file: both give the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.audio.highpass import Floats, HighPass

Blocks = Callable[[], Iterable[npt.NDArray[np.float32]]]

SPEECH_DB, MIXTURE_DB = -24.0, -17.0
"""Levels, in dB of full scale, of what recognisers and separators were trained on: read speech as
LibriSpeech has it, and mixtures that peak at 0.9 (``research.training.mixing``)."""
FRAMES = 50  # a second
FLOOR_DB = -200.0  # of a frame; below is digital silence
BINS, BIN_DB = 40_000, 0.01  # of the levels that are counted
LOWEST_DB = -100.0  # nothing is taken to be quieter
LOUDEST = (0.05, 0.5)
"""Share of the frames, and seconds at most, that may be louder than the loud part of speech."""
OF_LONG = 0.001  # share of the frames in long recordings
ABOVE_DB, BELOW_DB = 6.0, 20.0
"""Of that: louder frames count as if they were so loud, quieter ones are pauses."""


class Meter:
    """The level of samples at ``rate``, of which what lies below speech was taken out. Constant in memory."""

    def __init__(self, rate: int):
        self._frame = max(1, rate // FRAMES)
        self._held = np.zeros(0)
        self._counts, self._powers = np.zeros(BINS, np.int64), np.zeros(BINS)

    def push(self, samples: Floats) -> None:
        held = np.concatenate([self._held, samples])
        whole = len(held) - len(held) % self._frame
        self._count(np.square(held[:whole]).reshape(-1, self._frame).mean(1))
        self._held = held[whole:]

    def level(self) -> float:
        """The root mean square of the frames in which somebody speaks; 0 where all is silent."""
        if not self._counts.any() and len(self._held):
            self._count(np.square(self._held).mean(keepdims=True))
        total = int(self._counts.sum())
        if not total:
            return 0.0
        share, seconds = LOUDEST
        passed = max(min(seconds * FRAMES, share * total), OF_LONG * total, min(3, total // 4))
        down = np.cumsum(self._counts[::-1])
        top = BINS - 1 - int(np.argmax(down > int(passed)))
        most, least = (round(db / BIN_DB) for db in (ABOVE_DB, BELOW_DB))
        cut, low = min(top + most, BINS - 1), max(0, top - least)
        louder = self._counts[cut:].sum()
        power = self._powers[low:cut].sum() + louder * 10 ** ((FLOOR_DB + cut * BIN_DB) / 10)
        return float(np.sqrt(power / (self._counts[low:cut].sum() + louder)))

    def _count(self, powers: Floats) -> None:
        powers = powers[powers > 10 ** (FLOOR_DB / 10)]
        bins = ((10 * np.log10(powers) - FLOOR_DB) / BIN_DB).astype(np.int64).clip(0, BINS - 1)
        np.add.at(self._counts, bins, 1)
        np.add.at(self._powers, bins, powers)


def level_of(blocks: Iterable[npt.NDArray[np.float32]], rate: int) -> float:
    """The level of a recording (``Meter.level``), blocks [n] at ``rate``."""
    meter, clean = Meter(rate), HighPass(rate)
    for block in blocks:
        meter.push(clean.push(block))
    meter.push(clean.flush())
    return meter.level()


class Whole:
    """A recording as a model hears it: called, it begins ``blocks()`` anew, float32 [n] at ``rate``, and
    gives blocks that are as many samples in all, at the level ``target`` in dB.

    ``level``: what it is to be taken for, where other sounds belong to it; else it is measured, in a pass of
    its own when it is first asked for. ``undo`` brings what a model made of it back to the recording's level.
    """

    def __init__(self, blocks: Blocks, rate: int, target: float, level: float | None = None):
        self._blocks, self._rate, self._target, self._level = blocks, rate, target, level

    @property
    def level(self) -> float:
        """Of the recording; 0 where all is silent."""
        if self._level is None:
            self._level = level_of(self._blocks(), self._rate)
        return self._level

    @property
    def gain(self) -> float:
        return 10 ** (self._target / 20) / max(self.level, 10 ** (LOWEST_DB / 20))

    def __call__(self) -> Iterator[npt.NDArray[np.float32]]:
        gain, clean = self.gain, HighPass(self._rate)
        for block in self._blocks():
            yield (clean.push(block) * gain).astype(np.float32)
        yield (clean.flush() * gain).astype(np.float32)

    def undo(self, stems: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[..., n] -> the same, as loud as the recording."""
        return (stems / self.gain).astype(np.float32)


def at_level(
    samples: npt.NDArray[np.float32], rate: int, target: float
) -> tuple[npt.NDArray[np.float32], float]:
    """A whole recording [n] as a model hears it, and its level: 0 where all is silent."""
    heard = Whole(lambda: [samples], rate, target)
    return np.concatenate([*heard()]), heard.level


RECENT, LOUD = 50, 10  # frames: as loud as the LOUD loudest of the last RECENT is the running level at least
FALL_S, PAUSE_DB = 10.0, 30.0  # its time constant in speech; frames so much quieter are a pause
PAUSE_FALL_DB = 0.2  # a second in a pause
SILENT_DB = 60.0  # a frame so much quieter is silence and tells nothing
PEAKS_DB = 3.0  # the running level follows the loud frames: so much above the level of the whole
AT_ONCE_DB = 6.0  # a frame that is so much louder is turned down at once, though the level waits for more
DOWN = 8  # in this part of a frame


class Running:
    """The same while the sound comes: ``push`` [n] gives what is ready, ``flush`` the rest; or called, as
    :class:`Whole` is, for a whole recording. ``undo`` takes what a model made of it, in order.

    Of a frame of 20 ms the level is known at its end; fewer than ``delay`` samples are held back. The bits
    do not depend on the blocks.
    """

    def __init__(self, rate: int, target: float, blocks: Blocks | None = None):
        self._rate, self._target, self._blocks = rate, target, blocks
        self._frame = max(1, rate // FRAMES)
        self._fall = 1 - np.exp(-self._frame / rate / FALL_S)
        self._start()
        self.delay = self._clean.delay  # whole frames come from it

    def _start(self) -> None:
        self._clean = HighPass(self._rate, self._frame)
        self._held, self._gains = np.zeros(0), np.zeros(0)  # not yet levelled; not yet undone
        self._db: float | None = None  # the running level, once there was a sound
        self._gain_db = 0.0  # at the end of the frame before
        self._recent: deque[float] = deque(maxlen=RECENT)

    def __call__(self) -> Iterator[npt.NDArray[np.float32]]:
        assert self._blocks is not None
        self._start()
        for block in self._blocks():
            yield self.push(block)
        yield self.flush()

    def push(self, samples: npt.ArrayLike) -> npt.NDArray[np.float32]:
        return self._levelled(self._clean.push(samples), False)

    def flush(self) -> npt.NDArray[np.float32]:
        return self._levelled(self._clean.flush(), True)

    def undo(self, stems: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """[..., n], the next samples, as loud as the sound was."""
        gains, self._gains = np.split(self._gains, [stems.shape[-1]])
        return (stems / gains).astype(np.float32)

    def _levelled(self, clean: Floats, last: bool) -> npt.NDArray[np.float32]:
        held, at = np.concatenate([self._held, clean]), 0
        gains = []
        while len(held) - at >= self._frame or (last and at < len(held)):
            frame = held[at : at + self._frame]
            gains.append(self._follow(frame))
            at += len(frame)
        self._held = held[at:]
        self._gains = np.concatenate([self._gains, *gains])
        return (held[:at] * np.concatenate([np.zeros(0), *gains])).astype(np.float32)

    def _follow(self, frame: Floats) -> Floats:
        """The gain [n] over a frame: from that before to that of the level up to its end."""
        db = 10 * np.log10(max(float(np.square(frame).mean()), 10 ** (FLOOR_DB / 10)))
        first, before = self._db is None, self._gain_db
        if db > FLOOR_DB or not first:
            level = max(self._hear(db), db - AT_ONCE_DB, LOWEST_DB)
            self._gain_db = self._target + PEAKS_DB - level
        steps = np.arange(1, len(frame) + 1) / len(frame)
        before = self._gain_db if first else before
        if self._gain_db < before:
            steps = np.minimum(1.0, DOWN * steps)
        return 10 ** ((before + (self._gain_db - before) * steps) / 20)

    def _hear(self, db: float) -> float:
        """The running level after another frame."""
        self._recent.append(db)
        loud = sorted(self._recent)[-LOUD if len(self._recent) >= LOUD else -1]
        level = loud if self._db is None else self._db
        if loud > level:
            level = loud
        elif level - PAUSE_DB < db < level:
            level += (db - level) * self._fall
        elif level - SILENT_DB < db < level:
            level -= PAUSE_FALL_DB * self._frame / self._rate
        self._db = level
        return level


def heard_by(
    model: Any, blocks: Blocks, rate: int, target: float, level: float | None = None
) -> Whole | Running:
    """A recording as ``model`` hears it. ``level``: see :class:`Whole`."""
    if getattr(model.config, "causal", False):
        return Running(rate, target, blocks)
    return Whole(blocks, rate, target, level)
