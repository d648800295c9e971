"""Whether a separated voice stays nearly empty: then two people may be in one stem, or one person speaks."""

from __future__ import annotations

from collections.abc import Sequence

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

    def note(self, names: Sequence[str]) -> str | None:
        """A sentence for the user, if there is something to say. ``names``: of the stems."""
        power = self._sums / max(self._samples, 1)
        loudest = float(power.max())
        empty = [n for n, p in zip(names, power, strict=True) if p < loudest / 10 ** (EMPTY / 10)]
        if loudest <= SILENCE or not empty:
            return None
        full = " and ".join(name for name in names if name not in empty)
        return (
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} nearly empty: fewer than "
            f"{len(names)} people speak, or several of them are together in {full}"
        )
