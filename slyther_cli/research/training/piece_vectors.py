"""Vectors of word pieces by counting, for an embedding to begin with: what stands beside a piece, which marks
stand around it, how it is written.

Positive pointwise mutual information of neighbours, then a singular value decomposition (Levy, Goldberg and
Dagan 2015). A network that begins with them need not learn from its few steps what 10 million words tell in a
minute.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from slyther_cli.models.punctuation import LOWER, MARKS

SPREAD = 0.5  # standard deviation of a vector's numbers
FEWEST = 2  # times that two pieces must have stood together
TOLD = 2 * len(MARKS) + 1  # numbers of a vector that tell of marks and case


def piece_vectors(
    pieces: np.ndarray, marks: np.ndarray, cases: np.ndarray, size: int, dim: int, seed: int = 0
) -> Tensor:
    """A text's ``pieces`` int64 [n], with ``marks`` and ``cases`` int64 [n], negative where they are not
    known -> float32 [size, dim], of mean 0. Raises ValueError if ``dim`` is too small."""
    if dim <= TOLD:
        raise ValueError(f"vectors of pieces have more than {TOLD} numbers, not {dim}")
    known = marks >= 0
    before = np.append(-1, marks[:-1])
    columns = [
        _log_odds(pieces[known], marks[known], size, len(MARKS)),
        _log_odds(pieces[before >= 0], before[before >= 0], size, len(MARKS)),
        _log_odds(pieces[cases >= 0], (cases[cases >= 0] != LOWER).astype(int), size, 2)[:, 1:],
    ]
    beside = torch.cat(
        [_associated(pieces[:-1], pieces[1:], size), _associated(pieces[1:], pieces[:-1], size)], 1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        u, s, _ = torch.svd_lowrank(beside, q=min(dim - TOLD, size), niter=2)
    found = torch.cat([torch.from_numpy(np.concatenate(columns, 1)).float(), u * s.sqrt()], 1)
    found = found - found.mean(0)
    parts = [
        SPREAD * part / part.std().clamp(min=1e-6) for part in found.split([TOLD, found.shape[1] - TOLD], 1)
    ]
    return torch.nn.functional.pad(torch.cat(parts, 1), (0, dim - found.shape[1]))


def _log_odds(pieces: np.ndarray, kinds: np.ndarray, size: int, count: int) -> np.ndarray:
    """How much likelier a kind is at a piece than elsewhere: log of the ratio [size, count], towards 0 for
    rare pieces."""
    cells = np.bincount(pieces * count + kinds, minlength=size * count).reshape(size, count).astype(float)
    share = (cells.sum(0) + 1) / (cells.sum() + count)
    trust = 5.0
    return np.log((cells + trust * share) / (cells.sum(1, keepdims=True) + trust) / share)


def _associated(pieces: np.ndarray, others: np.ndarray, size: int) -> Tensor:
    """Positive pointwise mutual information of pairs in nats, sparse [size, size]."""
    pairs, counts = np.unique(pieces * size + others, return_counts=True)
    pairs, counts = pairs[counts >= FEWEST], counts[counts >= FEWEST].astype(float)
    row, column = pairs // size, pairs % size
    of_row, of_column = (np.bincount(x, counts, size) for x in (row, column))
    smooth = of_column**0.75  # rare neighbours are overrated otherwise
    value = np.log(counts / of_row[row] / (smooth[column] / max(smooth.sum(), 1e-9)))
    keep = value > 0
    index = torch.from_numpy(np.stack([row[keep], column[keep]]))
    return torch.sparse_coo_tensor(
        index, torch.from_numpy(value[keep]).float(), (size, size), check_invariants=True
    ).coalesce()
