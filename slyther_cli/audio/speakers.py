"""Whether each channel of a recording has a speaker of its own, as in recordings of telephone calls."""

import numpy as np
import numpy.typing as npt

MOMENT = 4096  # samples
FAR_ABOVE = 10.0  # times the power of any other channel
MOSTLY = 0.6  # of a channel's power
MOST = 8  # channels


class Speakers:
    """``apart``: most of the power of each channel falls into moments when it is far above the others."""

    def __init__(self, channels: int) -> None:
        self._power, self._alone = np.zeros(channels), np.zeros(channels)
        self._held = np.zeros((0, channels))  # the beginning of the next moment

    def hear(self, squares: npt.NDArray[np.float64]) -> None:
        """Take samples squared [n, channels]."""
        channels = len(self._power)
        if not 1 < channels <= MOST:
            return
        squares = np.concatenate([self._held, squares])
        count = len(squares) // MOMENT
        self._held = squares[count * MOMENT :].copy()
        powers = squares[: count * MOMENT].reshape(count, MOMENT, channels).sum(axis=1)
        ordered = np.sort(powers, axis=1)
        alone = (powers == ordered[:, -1:]) & (ordered[:, -1:] > FAR_ABOVE * ordered[:, -2:-1])
        self._alone += np.where(alone, powers, 0).sum(axis=0)
        self._power += powers.sum(axis=0)

    @property
    def apart(self) -> bool:
        return bool((self._alone > MOSTLY * self._power).all())
