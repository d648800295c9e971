"""Whether a separated voice stays nearly empty: then two people may be in one stem, or one person speaks."""

from __future__ import annotations

import numpy as np

EMPTY = 20.0  # dB below the loudest stem, over the whole recording
SILENCE = 1e-12  # mean power below which nobody speaks at all


class Balance:
    """The power of ``count`` stems as they pass by."""

    def __init__(self, count: int) -> None:
        self._sums, self._samples = np.zeros(count), 0

    def add(self, stems: np.ndarray) -> None:
        """float32 [count, n]"""
        self._sums += np.square(stems, dtype=np.float64).sum(axis=1)
        self._samples += stems.shape[1]

    def note(self) -> str | None:
        """A sentence for the user, if there is something to say."""
        power = self._sums / max(self._samples, 1)
        loudest, count = float(power.max()), len(power)
        empty = int((power < loudest / 10 ** (EMPTY / 10)).sum())
        if loudest <= SILENCE or not empty:
            return None
        return (
            f"{empty} of {count} stems {'is' if empty == 1 else 'are'} nearly empty: fewer than {count} "
            "people speak, or several of them are together in one stem"
        )
