"""How fast the selective scan runs here: every live backend and instruction set beside the torch reference.

A state update is one element of length x channels x states; the unit is 1e9 of them a second. On the CPU the
clock is the process's CPU time, so the figure is per core and a busy neighbour takes little from it; on a GPU
it is the device's own event clock and the figure is per device. Backends take turns within every repetition,
and the best repetition counts, so that all of them saw the same machine. The reference walks from frame to
frame in Python, on a GPU too: of longer sequences it gets REFERENCE_FRAMES, for the same figure in less time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from slyther_cli import scan
from slyther_cli.scan import ScanInputs, cpu

Row = dict[str, str | float]
REFERENCE_FRAMES = 4000


def measure(
    length: int = 4000,
    channels: int = 256,
    states: int = 16,
    repeats: int = 5,
    threads: int = 1,
    device: torch.device | str | None = None,
) -> list[Row]:
    """One row for each backend, instruction set and pass, the reference first.

    Keys: ``backend``, ``isa`` (instruction set, or the device's name), ``pass`` ("forward", as in inference,
    or "backward", without the forward before it), ``gelem_per_s``, ``speedup_over_reference``. ``device``:
    CUDA where there is one, unless given.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    frames = {"reference": min(length, REFERENCE_FRAMES)}
    inputs = {n: _inputs(n, channels, states, where) for n in {length, *frames.values()}}
    runners = list(_runners(where))
    best: dict[tuple[str, str, str], float] = {}
    with _threads(threads):
        for repeat in range(repeats + 1):  # the first one warms up: compilation, caches
            for backend, isa in runners:
                with _isa(isa if backend == "cpu" else ""), scan.use_backend(backend):
                    for name, seconds in _time_passes(inputs[frames.get(backend, length)], where).items():
                        key = (backend, isa, name)
                        if repeat:
                            best[key] = min(best.get(key, seconds), seconds)
    speeds = {key: frames.get(key[0], length) * channels * states / s / 1e9 for key, s in best.items()}
    return [
        {
            "backend": backend,
            "isa": isa,
            "pass": name,
            "gelem_per_s": speed,
            "speedup_over_reference": speed / speeds["reference", runners[0][1], name],
        }
        for (backend, isa, name), speed in speeds.items()
    ]


def _runners(where: torch.device) -> Iterator[tuple[str, str]]:
    """(backend, instruction set or device) of everything that can run there."""
    if where.type == "cuda":
        name = torch.cuda.get_device_name(where)
        yield "reference", name
        yield from ((b, name) for b in ("triton", "mamba_ssm") if not scan.backends()[b])
    else:
        yield "reference", "torch"
        if not cpu.why_not:
            yield from (("cpu", isa) for isa in cpu._native.isas())


def _inputs(length: int, channels: int, states: int, where: torch.device) -> ScanInputs:
    """What the scan of a freshly initialised Mamba sees, on a batch of one."""
    g = torch.Generator().manual_seed(0)
    B, C = torch.randn(1, length, 2 * states, generator=g).to(where).split(states, -1)
    return ScanInputs(
        u=torch.randn(1, length, channels, generator=g).to(where),
        delta=torch.randn(1, length, channels, generator=g).to(where),
        A=-torch.arange(1, states + 1, dtype=torch.float32, device=where).repeat(channels, 1),
        B=B,
        C=C,
        D=torch.ones(channels, device=where),
        z=torch.randn(1, length, channels, generator=g).to(where),
        delta_bias=torch.full((channels,), -4.0, device=where),
    )


def _time_passes(inputs: ScanInputs, where: torch.device) -> dict[str, float]:
    """Seconds of the forward and of the backward pass."""
    with torch.inference_mode():
        forward = _time(lambda: scan.selective_scan(inputs), where)
    leaves = (t.detach().requires_grad_() if isinstance(t, torch.Tensor) else t for t in inputs)
    y, _ = scan.selective_scan(ScanInputs._make(leaves))
    return {"forward": forward, "backward": _time(lambda: y.backward(torch.ones_like(y)), where)}


def _time(run: Callable[[], object], where: torch.device) -> float:
    if where.type == "cuda":
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3
    began = time.process_time()
    run()
    return time.process_time() - began


@contextmanager
def _threads(n: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _isa(name: str) -> Iterator[None]:
    if not name:
        yield
        return
    before = cpu._native.isa()
    cpu._native.use_isa(name)
    try:
        yield
    finally:
        cpu._native.use_isa(before)
