"""How well stems were separated: SI-SNR, SDR as in BSS Eval version 3, and how far a mean can be trusted.

Sources: Vincent, Gribonval & Fevotte 2006, "Performance measurement in blind audio source separation" (SDR
with a time-invariant filter allowed as distortion); the figure is that of
``mir_eval.separation.bss_eval_sources``. Scheibler 2022, "SDR, medium rare with fast computations": all that
it takes are correlations, by FFT, and one Toeplitz system a target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations

import numpy as np
import torch

from slyther_cli.research.training.losses import pairwise_si_snr

TAPS = 512
RESAMPLES = 10_000


def si_snr_matrix(estimates: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[n, samples] and [m, samples] -> SI-SNR in dB [n, m], estimate by target, in double precision.

    A constant estimate scores -inf.
    """
    e, t = (torch.from_numpy(np.atleast_2d(np.asarray(x, np.float64)))[None] for x in (estimates, targets))
    out = pairwise_si_snr(e, t)[0].numpy()
    out[np.ptp(e[0].numpy(), axis=1) == 0] = -np.inf  # zero over zero, which the eps of training calls 0 dB
    return out


def sdr_matrix(estimates: np.ndarray, targets: np.ndarray, taps: int = TAPS) -> np.ndarray:
    """[n, samples] and [m, samples] -> SDR in dB [n, m], estimate by target.

    What of an estimate is the target through any filter of ``taps`` coefficients counts as wanted, the rest
    as distortion. A silent estimate scores -inf, a perfect one up to rounding +inf or some 150 dB. Raises
    ValueError on a silent target, for which SDR is not defined, and on lengths that differ.
    """
    e, t = (np.atleast_2d(np.asarray(x, np.float64)) for x in (estimates, targets))
    if e.shape[1] != t.shape[1]:
        raise ValueError(f"estimates have {e.shape[1]} samples, targets {t.shape[1]}")
    if not t.any(axis=1).all():
        raise ValueError("SDR is not defined for a silent target")
    size = 1 << (e.shape[1] + taps - 1).bit_length()  # no wrapping around: the correlations are linear
    spectra_e, spectra_t = np.fft.rfft(e, size), np.fft.rfft(t, size)
    lags = np.arange(taps)
    out = np.empty((len(e), len(t)))
    for j, spectrum in enumerate(spectra_t):
        auto = np.fft.irfft(np.abs(spectrum) ** 2, size)[:taps]
        cross = np.fft.irfft(spectrum.conj() * spectra_e, size)[:, :taps]
        toeplitz = auto[np.abs(lags[:, None] - lags)]
        try:  # by torch, whose threads are fewer than numpy's and do not spin
            solved = torch.linalg.solve(torch.from_numpy(toeplitz), torch.from_numpy(cross.T))
            filters = solved.numpy()
        except torch.linalg.LinAlgError:  # a target of few frequencies
            filters = np.linalg.lstsq(toeplitz, cross.T, rcond=None)[0]
        wanted = (filters * cross.T).sum(0)
        rest = (e**2).sum(1) - wanted
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(wanted > 0, wanted / np.maximum(rest, 0), 0)
            out[:, j] = 10 * np.log10(ratio)
    return out


def assign(scores: np.ndarray) -> tuple[int, ...]:
    """[n, n] scores, estimate by target -> the target of each estimate, so that the mean is the highest."""
    n = len(scores)
    return max(permutations(range(n)), key=lambda order: float(scores[range(n), order].mean()))


Interval = tuple[float, float] | tuple[None, None]
"""The low and the high end; none where a single value tells of no spread."""


def bootstrap_interval(
    values: Sequence[float],
    seed: int = 0,
    level: float = 0.95,
    of: Callable[..., np.ndarray] = np.mean,
) -> Interval:
    """The percentile bootstrap interval of the mean (Efron 1979), or ``of`` what ``of(x, axis=1)`` gives.

    It says how the mean would vary over other examples drawn like these, from the same speakers. Raises
    ValueError without values, with values that are not finite, and on a level outside (0, 1).
    """
    x = np.asarray(values, np.float64)
    if not len(x) or not np.isfinite(x).all() or not 0 < level < 1:
        raise ValueError("bootstrap_interval takes finite values, one or more, and a level between 0 and 1")
    if len(x) == 1:
        return None, None
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [of(x[rng.integers(len(x), size=(100, len(x)))], axis=1) for _ in range(RESAMPLES // 100)]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def edits(reference: Sequence, hypothesis: Sequence) -> int:
    """The fewest insertions, deletions and substitutions that turn one sequence into the other
    (Levenshtein): of words for the word error rate, of characters for the character error rate.

    >>> edits("the cat sat".split(), "a cat sat down".split())
    2
    """
    row = list(range(len(hypothesis) + 1))
    for i, wanted in enumerate(reference, 1):
        corner, row[0] = row[0], i
        for j, got in enumerate(hypothesis, 1):
            corner, row[j] = row[j], min(corner + (wanted != got), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def rounded(value: float | None, digits: int = 3) -> float | None:
    """A figure for a report, which may be unknown."""
    return None if value is None else round(value, digits)
