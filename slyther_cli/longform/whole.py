"""Separation networks that take a recording whole: the dual-path ones (DPMamba, Sepformer).

They cut a recording into chunks by nature and norm over all of it, so no sweep gives their result: a
recording must fit in memory. The plan says so before anything is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from slyther_cli.errors import DeviceError, UsageError
from slyther_cli.longform.networks import SeparationNetwork
from slyther_cli.longform.plan import BASE_BYTES, Plan, _size, available_on, count_weights
from slyther_cli.runtime import available_memory, temporary_folder

FLOATS_PER_FILTER = 64
"""Floats held at the peak for a frame and filter: 40 measured with DPMamba XS and Sepformer, rounded up."""


class WholePlan(Plan):
    """A plan without sweeps; its ``tape`` is "whole"."""

    def describe(self) -> list[str]:
        need = _size(self.working_bytes)
        return [f"{self.frames} frames at once, about {need}: this model takes a recording whole"]


def plan_whole(
    model: SeparationNetwork, samples: int, memory_limit: int | None, work_dir: Path | None, resume: bool
) -> WholePlan:
    """On the model's device. Raises DeviceError: the recording does not fit. UsageError: there is no work to
    resume."""
    if resume:
        raise UsageError("this model takes a recording whole and keeps no work: leave --resume out")
    c, frames = model.config, model.encoder.frames(samples)
    weights = count_weights(model)
    fixed = BASE_BYTES + 8 * weights
    a_frame = 4 * c.n_filters * FLOATS_PER_FILTER
    need = fixed + a_frame * frames
    device = model.decoder.weight.device
    free = available_on(device) if device.type == "cuda" else available_memory()
    limit = memory_limit if memory_limit is not None else free // 2
    if need > limit:
        most = max(0, (limit - fixed) // a_frame * c.stride // c.sample_rate)
        raise DeviceError(
            f"this model takes a recording whole, which needs {_size(need)}; {_size(limit)} are there, room "
            f"for {most} s: separate with a mamba-tasnet, which takes any length"
        )
    folder = Path(work_dir or temporary_folder())
    return WholePlan(samples, frames, 1, frames, "whole", 0, need, folder)


def separate_whole_at_once(
    model: SeparationNetwork, blocks: Iterator[np.ndarray], on_progress: Callable[[float], None] | None
) -> Iterator[np.ndarray]:
    """Stems [n_speakers, n] of the whole recording at once."""
    held = list(blocks)
    if not sum(map(len, held)):
        return
    device = next(model.parameters()).device
    yield model(torch.from_numpy(np.concatenate(held)).to(device)[None])[0].cpu().numpy()
    if on_progress:
        on_progress(1.0)
