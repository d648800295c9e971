"""SI-SNR, SDR, assignment and the bootstrap: against other people's code and against what must hold."""

import math
import warnings
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.research.evaluation.metrics import assign, bootstrap_interval, sdr_matrix, si_snr_matrix
from slyther_cli.research.training.losses import LONE, best_assignment, pairwise_si_snr, pit_loss

pytestmark = pytest.mark.usefixtures("one_thread")


def stems(n: int, samples: int = 6000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Coloured targets, and estimates in another order with crosstalk, an echo and noise."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n, samples))
    targets = np.stack([np.convolve(x, np.hanning(12 + 9 * i), "same") for i, x in enumerate(white)])
    estimates = 0.7 * np.roll(targets, 1, 0) + 0.1 * targets + 0.3 * rng.standard_normal(targets.shape)
    estimates[:, 40:] += 0.2 * np.roll(targets, 1, 0)[:, :-40]
    return estimates, targets


@pytest.mark.parametrize("n", [2, 3])
def test_sdr_is_that_of_mir_eval(n):
    separation = pytest.importorskip("mir_eval.separation", reason="pip install mir_eval")
    estimates, targets = stems(n, 2000)
    choose = n == 2  # mir_eval takes seconds for three
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        heard = estimates if choose else np.roll(estimates, -1, 0)
        sdr, _, _, order = separation.bss_eval_sources(targets, heard, compute_permutation=choose)
    ours = sdr_matrix(heard, targets)
    for target, estimate in enumerate(order):
        assert assign(ours)[estimate] == target
        assert ours[estimate, target] == pytest.approx(sdr[target], abs=1e-6)


@pytest.mark.parametrize("n", [2, 3])
def test_sdr_is_that_of_fast_bss_eval(n):
    fast = pytest.importorskip("fast_bss_eval", reason="pip install fast_bss_eval")
    estimates, targets = stems(n, seed=1)
    ours = sdr_matrix(estimates, targets)
    mine = sorted(ours[range(n), assign(ours)])
    assert mine == pytest.approx(sorted(fast.sdr(targets, estimates)), abs=1e-6)


def test_sdr_forgives_a_filter_and_a_gain_but_not_noise():
    _, targets = stems(2)
    rng = np.random.default_rng(3)
    filtered = np.stack([np.convolve(x, rng.standard_normal(200))[: x.size] for x in targets])
    noise = rng.standard_normal(targets.shape) * 0.01
    assert np.diag(sdr_matrix(filtered, targets)).min() > 15  # cut at the end, else perfect
    assert sdr_matrix(targets + noise, targets) == pytest.approx(
        sdr_matrix(-7 * (targets + noise), targets), abs=1e-6
    )
    assert np.all(sdr_matrix(targets, targets).diagonal() > 100)


def test_the_edges_of_sdr():
    _, targets = stems(2)
    assert np.all(np.isneginf(sdr_matrix(0 * targets, targets)))
    assert np.all(np.isneginf(si_snr_matrix(0 * targets, targets)))
    with pytest.raises(ValueError, match="silent"):
        sdr_matrix(targets, np.stack([targets[0], 0 * targets[1]]))
    with pytest.raises(ValueError, match="samples"):
        sdr_matrix(targets[:, 1:], targets)
    tone = np.sin(np.arange(4000) * 0.3)  # its 512 delays are nearly dependent
    assert np.isfinite(sdr_matrix(targets[:, :4000], tone[None])).all()


@pytest.mark.parametrize("db", [-5.0, 0.0, 20.0])
def test_si_snr_of_known_noise(db):
    rng = np.random.default_rng(0)
    target, noise = (x - x.mean() for x in rng.standard_normal((2, 4000)))
    noise -= target * (noise @ target) / (target @ target)
    noise *= np.linalg.norm(target) / np.linalg.norm(noise) * 10 ** (-db / 20)
    for gain, offset in ((1, 0), (-0.1, 3)):
        found = si_snr_matrix((gain * (target + noise) + offset)[None], target[None])
        assert found[0, 0] == pytest.approx(db, abs=1e-6)


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(0, 1000))
def test_the_best_assignment_is_the_best_of_all(n, seed):
    scores = torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed))
    best, order = best_assignment(scores)
    for b in range(2):
        totals = [float(scores[b, range(n), p].mean()) for p in permutations(range(n))]
        assert float(best[b]) == pytest.approx(max(totals), abs=1e-6)
        assert sorted(order[b].tolist()) == list(range(n))
        assert assign(scores[b].numpy()) == tuple(order[b].tolist())


def test_the_loss_does_not_know_the_order_and_drops_what_is_solved():
    g = torch.Generator().manual_seed(0)
    targets = torch.randn(3, 2, 500, generator=g)
    estimates = (targets + 0.5 * torch.randn(3, 2, 500, generator=g)).requires_grad_()
    loss, score = pit_loss(estimates, targets)
    swapped, _ = pit_loss(estimates.flip(1), targets)
    assert torch.allclose(loss, swapped) and torch.allclose(loss, -score.mean())
    with torch.no_grad():
        estimates[0] = targets[0] * 2  # above the ceiling: no gradient any more
    loss, score = pit_loss(estimates, targets)
    loss.backward()
    assert estimates.grad[0].abs().max() == 0 < estimates.grad[1].abs().max()
    assert float(score[0]) > 60 and float(loss.detach()) == pytest.approx(-float(score[1:].mean()), abs=1e-5)
    pairs = pairwise_si_snr(estimates.detach(), targets)
    assert pairs.shape == (3, 2, 2)


def test_where_a_source_is_silent_the_other_is_to_be_in_one_stem():
    g = torch.Generator().manual_seed(0)
    targets = torch.randn(2, 2, 4000, generator=g)
    targets[1, 0] = 0
    voice = targets[1, 1]
    stems = targets + 0.1 * torch.randn(2, 2, 4000, generator=g)
    plain, before = pit_loss(stems[:1], targets[:1])
    for share in (0.0, 0.1, 0.4, 0.9):
        stems[1] = torch.stack([(1 - share) * voice, share * voice])  # each as like the voice as can be
        given = stems.clone().requires_grad_()
        loss, score = pit_loss(given, targets, 99.0)
        assert score[0] == before[0]
        if share:
            least = min(share, 1 - share)
            assert float(score[1]) == pytest.approx(-10 * math.log10(2 * least**2), abs=0.01)
            wanted = -float(score[0] + LONE * score[1]) / 2
            assert float(loss.detach()) == pytest.approx(wanted, abs=1e-5)
            loss.backward()
            moved = (given.grad[1] * voice).sum(-1)
            louder = int(share > 0.5)
            assert moved[louder] < 0 < moved[1 - louder]  # down the gradient, one grows
            assert given.grad.isfinite().all()
        else:
            assert float(score[1]) > 99 and float(loss.detach()) == pytest.approx(float(plain), abs=1e-5)
    nothing, score = pit_loss(stems.requires_grad_(), torch.zeros(2, 2, 4000))
    nothing.backward()
    assert score.max() < -99 and stems.grad.isfinite().all()


def test_what_is_good_already_weighs_less_where_asked():
    torch.manual_seed(0)
    targets, noise = torch.randn(3, 2, 4000), torch.randn(3, 2, 4000)
    level = 10 ** (-torch.tensor([5.0, 20.0, 40.0]) / 20)[:, None, None]

    def moved(**how):
        """The gradients' norms, one for each example alone."""
        norms = []
        for one in range(3):
            estimates = (targets + level * noise)[one : one + 1].requires_grad_()
            pit_loss(estimates, targets[one : one + 1], 99.0, **how)[0].backward()
            norms.append(float(estimates.grad.norm()))
        return torch.tensor(norms)

    share = moved(saturate_db=20.0) / moved()
    assert share.tolist() == pytest.approx([1 / (1 + 10**-1.5), 0.5, 1 / (1 + 10**2)], rel=0.1)
    share = moved(floor_db=5.0) / moved()
    assert share.tolist() == pytest.approx([0.5, 1 / (1 + 10**-1.5), 1], rel=0.1)
    loss, score = pit_loss(targets + level * noise, targets, saturate_db=60.0, floor_db=-60.0)
    assert float(loss) == pytest.approx(-float(score[:2].mean()), abs=0.01)  # the third is above the ceiling


def test_the_bootstrap_interval():
    x = np.random.default_rng(0).normal(5, 2, 400)
    low, high = bootstrap_interval(x, seed=1)
    assert (low, high) == bootstrap_interval(list(x), seed=1)
    width = 2 * 1.96 * x.std() / 20  # the normal approximation
    assert high - low == pytest.approx(width, rel=0.05) and low < x.mean() < high
    narrow = bootstrap_interval(x, level=0.5)
    assert low < narrow[0] < narrow[1] < high
    assert bootstrap_interval([3.0]) == (None, None)
    for bad in ([], [1.0, np.nan]):
        with pytest.raises(ValueError):
            bootstrap_interval(bad)
    with pytest.raises(ValueError):
        bootstrap_interval([1.0], level=1.0)
