"""The speaker network that comes with slyther, ready to embed sound of any rate."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from slyther_cli.audio.resample import resampled

DEFAULT_MODEL = "speaker-16k"


def embedder(rate: int, device: str = "cpu") -> Callable[[np.ndarray], np.ndarray]:
    """A function from one voice's samples [time] at ``rate`` to its embedding [dim], of length 1.

    Raises :class:`ModelError`: the network is not on this machine.
    """
    network = _loaded(device)

    @torch.inference_mode()
    def embed(samples: np.ndarray) -> np.ndarray:
        samples = resampled(samples, rate, network.config.sample_rate)
        return np.asarray(network.embed(torch.from_numpy(samples).to(device)).cpu())

    return embed


@lru_cache(maxsize=1)
def _loaded(device: str) -> Any:
    from slyther_cli.checkpoints import store

    return store.load(DEFAULT_MODEL, expect_task="embed")[0].to(device)
