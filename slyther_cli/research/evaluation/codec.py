"""How much of speech a codec keeps, by the number of its codebooks, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from slyther_cli.models.codec import Codec
from slyther_cli.research.evaluation.examples import Examples
from slyther_cli.research.evaluation.metrics import bootstrap_interval
from slyther_cli.research.evaluation.opinion import opinion_measure
from slyther_cli.research.training.codec import Segments
from slyther_cli.research.training.losses import si_snr
from slyther_cli.research.training.spectral import MelDistance


def codebook_counts(codec: Codec) -> list[int]:
    """1, 2, 4 .. and all."""
    counts = [1 << i for i in range(8) if 1 << i < codec.n_codebooks]
    return [*counts, codec.n_codebooks]


def stoi_measure() -> Callable[..., float] | None:
    """``stoi(clean, other, rate)`` of pystoi (Taal et al. 2011), or None where it is not installed."""
    try:
        from pystoi import stoi
    except ImportError:
        return None
    return stoi


@torch.inference_mode()
def evaluate_codec(
    codec: Codec, examples: Examples, device: str, on_event: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Encode and decode ``examples``, at -25 dB.

    -> "codebooks": for each number of codebooks its kbit/s and the means of STOI (None without pystoi),
    predicted opinion (None without distillmos, or at another rate than 16 kHz), SI-SNR in dB and mel distance
    in nats, with the 95 % intervals of the first two over the examples; "recordings": the opinion of the
    examples as they are; "encode" and "decode": seconds of sound a second of CPU time (of the wall clock on a
    GPU), all codebooks, one example at a time. ``on_event`` gets the "example" events. Raises
    :class:`InputError`.
    """
    pool = examples.pool(codec.sample_rate)
    drawn, stoi = Segments(pool, examples.seed), stoi_measure()
    opinion = opinion_measure() if codec.sample_rate == 16_000 else None
    originals: list[float] = []
    mel = MelDistance(codec.sample_rate).to(device)
    samples = int(examples.seconds * codec.sample_rate) // codec.hop * codec.hop
    counts = codebook_counts(codec)
    rows: dict[int, list[list[float]]] = {k: [] for k in counts}
    spent = {"encode": 0.0, "decode": 0.0}
    for i in range(examples.count):
        x = torch.from_numpy(drawn.draw(i, samples))[None].to(device)
        codes = _timed(codec.encode, x, spent, "encode")
        if opinion is not None:
            originals.append(opinion(_numpy(x)))
        for k in counts:
            if k == codec.n_codebooks:
                y = _timed(codec.decode, codes, spent, "decode")
            else:
                y = codec.decode(codes[:, :k])
            heard = float("nan") if stoi is None else float(stoi(_numpy(x), _numpy(y), codec.sample_rate))
            mos = float("nan") if opinion is None else opinion(_numpy(y))
            rows[k].append([heard, mos, float(si_snr(y, x)), float(mel(y, x))])
        scored = {"index": i + 1, "examples": examples.count, "si_snr": rows[counts[-1]][-1][2]}
        on_event({"event": "example", **scored})
    table = []
    for k in counts:
        values = np.array(rows[k])
        table.append(
            {
                "codebooks": k,
                "kbps": k * codec.frame_rate * float(np.log2(codec.codebook_size)) / 1000,
                "stoi": None if stoi is None else _estimate(values[:, 0], examples.seed),
                "mos": None if opinion is None else _estimate(values[:, 1], examples.seed),
                "si_snr": float(values[:, 2].mean()),
                "mel": float(values[:, 3].mean()),
            }
        )
    recordings = _estimate(np.array(originals), examples.seed) if originals else None
    heard_seconds = examples.count * samples / codec.sample_rate
    speeds = {name: heard_seconds / value for name, value in spent.items()}
    counted = {"examples": examples.count, "speakers": len(pool.speakers)}
    return {"codebooks": table, "recordings": recordings, **speeds, **counted}


def _estimate(values: np.ndarray, seed: int) -> dict[str, float | None]:
    """Mean and 95 % interval."""
    low, high = bootstrap_interval(values.tolist(), seed)
    return {"mean": float(values.mean()), "low": low, "high": high}


def _timed(call: Callable[[Any], Any], x: Any, spent: dict[str, float], name: str) -> Any:
    clock = time.perf_counter if x.is_cuda else time.process_time  # a shared core says nothing of the codec
    began = clock()
    out = call(x)
    if x.is_cuda:
        torch.cuda.synchronize()
    spent[name] += clock() - began
    return out


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x[0].cpu().numpy()
