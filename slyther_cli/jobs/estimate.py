"""What a job will take on this machine, measured with a little noise before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ENOUGH = 0.3  # seconds of work that tell
LONGEST = 64  # seconds of noise


def cost(work: Callable[[np.ndarray], object], rate: int) -> float:
    """Seconds that ``work`` takes for a second of sound, float32 [n] at ``rate``. The first, short noise is
    for what is made once."""
    import numpy as np

    noise = 0.1 * np.random.default_rng(0).standard_normal(LONGEST * rate).astype(np.float32)
    seconds, took = 1, 0.0
    work(noise[:rate])
    while took < ENOUGH and seconds < LONGEST:
        seconds *= 2
        started = time.monotonic()
        work(noise[: seconds * rate])
        took = time.monotonic() - started
    return took / seconds


def together(estimates: Sequence[float], jobs: int) -> float:
    """Seconds until so many processes have done all inputs."""
    return max(sum(estimates) / max(jobs, 1), max(estimates, default=0.0))
