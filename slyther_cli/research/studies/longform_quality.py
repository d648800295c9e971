"""Do speakers keep their sides, and does quality fall with length? SI-SNRi of whole recordings under one
assignment, beside recordings cut into shorter ones, and beside windows with overlap-add.

All ways see the same sound and are scored in the same cells of 10 s in which both speak. What differs is how
much the network sees at once, and for how long one assignment of stems to speakers has to hold:

    whole, L seconds     the recording is cut into pieces of L seconds, each separated as one, with one
                         assignment a piece; the longest L is the whole recording
    windows, W seconds   windows of W seconds, half overlapped, each separated on its own; their stems are put
                         into the order that correlates best with the window before, and added under a Hann
                         window (as toolkits do it); one assignment for the whole recording

Scores come from sums of products in every cell, which add up to those of any stretch of cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch

from slyther_cli.errors import UsageError
from slyther_cli.research.evaluation.metrics import bootstrap_interval, rounded
from slyther_cli.research.studies.longform_recordings import Pairs, recording

CELL = 10.0  # seconds
QUIET = 0.1  # a speaker below this share of their mean power does not speak in a cell
Row = dict[str, Any]
Stems = Iterator[np.ndarray]


def measure(
    model: Any,
    name: str,
    pairs: Pairs,
    *,
    lengths: Sequence[float] = (10.0, 60.0, 600.0, 3600.0),
    windows: Sequence[float] = (10.0, 30.0),
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """One row for every way, over a recording of each of the ``pairs``, as long as the longest of ``lengths``
    (seconds).

    Keys: ``part`` "quality", ``model``, ``how`` "whole" or "windows", ``seconds`` (of a piece, or a window),
    ``total_seconds``, ``pieces``, ``speakers``, ``split``, ``seed``; ``si_snri``, the mean over pieces of the
    improvement under the piece's one assignment, over its whole length; ``cell_si_snri``, ``low``, ``high``,
    the mean over the cells and its 95 % bootstrap interval; ``cells``; ``swapped``, the share of cells in
    which the other assignment would be better; ``by_tenth``, the cells' mean in every tenth of a piece.

    Raises UsageError: lengths that are not multiples of 10 s or do not divide the longest. InputError: the
    speech cannot be used.
    """
    total = max(lengths, default=0.0)
    if not total or any(x <= 0 or x % CELL or total % x for x in lengths):
        raise UsageError(f"lengths must be multiples of {CELL:g} s, each a divisor of the longest")
    if any(w <= 0 for w in windows) or pairs.count < 1:
        raise UsageError("windows must be longer than 0 s, and there must be a recording or more")
    if model.config.n_speakers != 2:
        raise UsageError(f"the recordings have two speakers, model {name} gives {model.config.n_speakers}")
    rate = model.config.sample_rate
    ways = [("whole", x) for x in sorted(lengths)] + [("windows", w) for w in windows]
    scores: dict[tuple[str, float], list[Piece]] = {way: [] for way in ways}
    made, rows = [], []
    for pair in range(pairs.count):
        chosen, voices = recording(pairs, pair, total, rate)
        made.append("+".join(chosen))
        for how, seconds in ways:
            length = round((seconds if how == "whole" else total) * rate)
            for at in range(0, voices.shape[1], length):
                part = voices[:, at : at + length]
                mixture = part.sum(0)
                stems = whole(model, mixture) if how == "whole" else windowed(model, mixture, seconds)
                scores[how, seconds].append(Piece(stems, mixture, part, round(CELL * rate), speaking(voices)))
            if pair == pairs.count - 1:
                row = {
                    "part": "quality",
                    "model": name,
                    "how": how,
                    "seconds": seconds,
                    "total_seconds": total,
                }
                row |= {
                    "speakers": made,
                    "split": pairs.split,
                    "seed": pairs.seed,
                    **summarise(scores[how, seconds]),
                }
                rows.append(row)
                if on_row is not None:
                    on_row(row)
    return rows


def whole(model: Any, mixture: np.ndarray) -> Stems:
    """The recording as one, swept: blocks [n_speakers, n]."""
    from slyther_cli.longform import plan_separation, separate_whole

    plan = plan_separation(model, len(mixture))
    if plan.tape == "memory":
        plan = dataclasses.replace(plan, tape="file")
    block = 1 << 16
    return separate_whole(
        model, lambda: (mixture[i : i + block] for i in range(0, len(mixture), block)), plan
    )


@torch.inference_mode()
def windowed(model: Any, mixture: np.ndarray, seconds: float) -> Stems:
    """Windows of ``seconds``, half overlapped, re-ordered by correlation and added: blocks [2, n]."""
    hop = max(1, round(seconds * model.config.sample_rate / 2))
    fade = np.sin(np.pi * (np.arange(hop) + 0.5) / (2 * hop)) ** 2  # with its reverse it adds up to one
    fade = fade.astype(np.float32)
    padded = np.concatenate([np.zeros(hop, np.float32), mixture, np.zeros(2 * hop, np.float32)])
    before: np.ndarray | None = None  # the second half of the window before
    given = 0
    for at in range(0, len(mixture) + hop, hop):
        window = torch.from_numpy(padded[at : at + 2 * hop])
        stems = model(window[None].to(model.decoder.weight.device))[0].cpu().numpy()
        if before is not None:
            stems = stems[list(_like(before, stems[:, :hop]))]
            block = (before * fade[::-1] + stems[:, :hop] * fade)[:, : len(mixture) - given]
            given += block.shape[1]
            yield block
        before = stems[:, hop:]


def _like(before: np.ndarray, now: np.ndarray) -> tuple[int, ...]:
    """The order of ``now`` [n, samples] in which its rows correlate best with those of ``before``."""
    a, b = (x - x.mean(1, keepdims=True) for x in (before, now))
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None]
    alike = (a @ b.T) / np.maximum(scale, 1e-12)
    orders = permutations(range(len(now)))
    return max(orders, key=lambda order: sum(alike[i, j] for i, j in enumerate(order)))


def speaking(voices: np.ndarray) -> np.ndarray:
    """[2, samples] -> the power of each speaker over the whole recording [2]."""
    return np.array([np.dot(v, v) / len(v) for v in voices])


class Piece:
    """Scores of one piece: sums in cells of ``cell`` samples, of two stems and the mixture against two
    voices. ``power`` [2]: of the voices, as in :func:`speaking`.
    """

    def __init__(
        self, stems: Stems, mixture: np.ndarray, voices: np.ndarray, cell: int, power: np.ndarray
    ) -> None:
        count = len(mixture) // cell
        self.sums = np.zeros((count, 3, 2, 6))
        held, done = np.zeros((2, 0), np.float32), 0
        for block in stems:
            held = np.concatenate([held, block], 1)
            while held.shape[1] >= cell and done < count:
                at = slice(done * cell, (done + 1) * cell)
                estimates = np.concatenate([held[:, :cell], mixture[None, at]]).astype(np.float64)
                self.sums[done] = sums_of(estimates, voices[:, at].astype(np.float64))
                held, done = held[:, cell:], done + 1
        if done < count:
            raise AssertionError(f"{done} of {count} cells came")
        energy = self.sums[:, 0, :, 4]  # [cells, 2]
        self.both = np.all(energy > QUIET * power * cell, axis=1)  # [cells]
        whole_piece = si_snr_of(self.sums.sum(0))  # [3, 2]
        self.order = max(((0, 1), (1, 0)), key=lambda o: whole_piece[[0, 1], o].sum())
        self.si_snri = float((whole_piece[[0, 1], self.order] - whole_piece[2, list(self.order)]).mean())
        cells = si_snr_of(self.sums)  # [cells, 3, 2]
        kept = cells[:, [0, 1], self.order].mean(1)
        other = cells[:, [0, 1], self.order[::-1]].mean(1)
        self.gains = kept - cells[:, 2].mean(1)
        self.swapped = other > kept


def sums_of(estimates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n, samples], [m, samples] -> [n, m, 6]: count, sum e, sum t, sum ee, sum tt, sum et."""
    n, m = len(estimates), len(targets)
    out = np.empty((n, m, 6))
    out[..., 0] = estimates.shape[1]
    out[..., 1], out[..., 2] = estimates.sum(1)[:, None], targets.sum(1)[None]
    out[..., 3], out[..., 4] = (estimates**2).sum(1)[:, None], (targets**2).sum(1)[None]
    out[..., 5] = estimates @ targets.T
    return out


def si_snr_of(sums: np.ndarray) -> np.ndarray:
    """[..., 6] -> SI-SNR in dB [...], as ``research.evaluation.metrics.si_snr_matrix`` has it; kept within
    +-100 dB."""
    count, e, t, ee, tt, et = np.moveaxis(sums, -1, 0)
    ee, tt, et = ee - e * e / count, tt - t * t / count, et - e * t / count
    wanted = et * et / np.maximum(tt, 1e-20)
    rest = np.maximum(ee - wanted, 1e-20)
    return np.clip(10 * np.log10(np.maximum(wanted, 1e-20) / rest), -100, 100)


def summarise(pieces: Sequence[Piece]) -> Row:
    """The figures of one way; see :func:`measure`."""
    gains = np.concatenate([p.gains[p.both] for p in pieces])
    swapped = np.concatenate([p.swapped[p.both] for p in pieces])
    if not len(gains):
        raise UsageError("there is no cell in which both speak: take longer recordings")
    places = [np.flatnonzero(p.both) * 10 // len(p.both) for p in pieces]
    tenths = np.concatenate(places)
    # The cells of one recording hang together: they tell of no other recording.
    low, high = bootstrap_interval(gains.tolist()) if len(pieces) > 1 else (None, None)
    return {
        "pieces": len(pieces),
        "si_snri": round(float(np.mean([p.si_snri for p in pieces if p.both.any()])), 3),
        "cells": len(gains),
        "cell_si_snri": round(float(gains.mean()), 3),
        "low": rounded(low),
        "high": rounded(high),
        "swapped": round(float(swapped.mean()), 4),
        "by_tenth": [
            round(float(gains[tenths == i].mean()), 2) if (tenths == i).any() else None for i in range(10)
        ],
    }
