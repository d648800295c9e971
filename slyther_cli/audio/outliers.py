"""Single samples that are far beyond all others of a recording: damage that would drown the rest.

The measure is the loudest stretch of 20 ms, by the median of its samples' sizes: no few samples can move it,
and speech does not reach ``FAR`` times that. What does is cut down to ``LEFT`` times that, with its sign: to
what is usual where the recording is loud.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

FAR, LEFT = 100.0, 4.0
FRAMES = 50  # a second
LOOKED_AT = 8000  # samples a second, at least, of which the median is taken


class Loudest:
    """The largest median size of a frame so far, and the largest size: ``push`` mono samples [n] at
    ``rate``."""

    def __init__(self, rate: int):
        self._frame, self._held = max(1, rate // FRAMES), np.zeros(0, np.float32)
        self._stride = max(1, rate // LOOKED_AT)
        self.median = self.peak = 0.0

    def push(self, samples: FloatArray) -> None:
        held = np.concatenate([self._held, np.abs(samples)])
        whole = len(held) - len(held) % self._frame
        if whole:
            self.peak = max(self.peak, float(held[:whole].max()))
            self.median = float(self.medians(held[:whole].reshape(-1, self._frame))[-1])
        self._held = held[whole:]

    def flush(self) -> None:
        """The last frame is shorter."""
        if len(self._held):
            self.peak = max(self.peak, float(self._held.max()))
            self.median = float(self.medians(self._held[np.newaxis])[-1])

    def medians(self, sizes: FloatArray) -> FloatArray:
        """[frames, n] -> the largest median up to each [frames]."""
        found = np.median(sizes[:, :: self._stride], axis=1)
        return np.maximum.accumulate(np.maximum(found, np.float32(self.median)))

    @property
    def reach(self) -> float | None:
        """How large a sample may be; None if none is larger, or all is silent."""
        most = FAR * self.median
        return most if 0 < most < self.peak else None


class Bounded:
    """Cuts down what is beyond ``reach`` in mono samples at ``rate``, and counts it."""

    def __init__(self, reach: float | None, rate: int):
        self.reach, self._rate = reach, rate
        self._passed = self.count = self.first = 0  # samples

    def __call__(self, samples: FloatArray) -> FloatArray:
        if self.reach is not None:
            samples = self._cut(samples, np.float32(self.reach))
        self._passed += len(samples)
        return samples

    def _cut(self, samples: FloatArray, reach: npt.NDArray[np.float32] | np.float32) -> FloatArray:
        far = np.abs(samples) > reach
        if not far.any():
            return samples
        if not self.count:
            self.first = self._passed + int(far.argmax())
        self.count += int(far.sum())
        return np.where(far, np.sign(samples) * (reach * np.float32(LEFT / FAR)), samples)

    def notes(self) -> list[str]:
        """A sentence for the user, if there is something to say."""
        if not self.count:
            return []
        at = f"{self.first / self._rate:.2f} s"
        what = (
            f"1 sample, at {at}, is" if self.count == 1 else f"{self.count} samples, the first at {at}, are"
        )
        verb = "was" if self.count == 1 else "were"
        return [f"{what} far louder than all the rest and {verb} cut down: look for a fault in the recording"]


class BoundedLive(Bounded):
    """The same while the sound comes: a sample may be so much larger than the frames up to its own. Frames
    of 20 ms leave when they are complete; ``flush`` gives the rest."""

    def __init__(self, rate: int):
        super().__init__(None, rate)
        self._loudest, self.frame = Loudest(rate), max(1, rate // FRAMES)
        self._held = np.zeros(0, np.float32)

    def __call__(self, samples: FloatArray) -> FloatArray:
        held = np.concatenate([self._held, samples])
        whole = len(held) - len(held) % self.frame
        self._held = held[whole:]
        return self._frames(held[:whole], self.frame) if whole else held[:0]

    def flush(self) -> FloatArray:
        held, self._held = self._held, self._held[:0]
        return self._frames(held, len(held)) if len(held) else held

    def _frames(self, samples: FloatArray, length: int) -> FloatArray:
        medians = self._loudest.medians(np.abs(samples).reshape(-1, length))
        self._loudest.median = float(medians[-1])
        reach = np.where(medians > 0, FAR * medians, np.inf).astype(np.float32)
        samples = self._cut(samples, np.repeat(reach, length))
        self._passed += len(samples)
        return samples
