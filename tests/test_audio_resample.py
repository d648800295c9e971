"""Resampling: length, alignment, and independence from the cut into blocks."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.audio.resample import (
    QUALITY,
    StreamResampler,
    fit_length,
    reblock,
    resampled_length,
)

ROUND_TRIPS = [(44100, 8000), (16000, 8000), (11025, 8000), (48000, 8000), (8000, 16000), (22050, 16000)]
rates = st.sampled_from([4000, 8000, 11025, 16000, 22050, 44100, 48000, 44101, 96000])


def run(x, rate_in, rate_out, sizes=(10**9,), total=None):
    channels = None if x.ndim == 1 else len(x)
    resampler = StreamResampler(rate_in, rate_out, total, channels=channels)
    out, at, turn = [], 0, 0
    while at < x.shape[-1]:
        size = sizes[turn % len(sizes)]
        out.append(resampler.push(x[..., at : at + size]))
        at, turn = at + size, turn + 1
    out.append(resampler.flush())
    return np.concatenate(out, axis=-1)


def tones(t, top, seconds):
    """Tones up to ``top`` Hz at the times ``t``, under a window, so that the ends do not matter."""
    x = sum(np.sin(2 * np.pi * f * t + f) for f in (101.0, 440.0, 0.5 * top, 0.8 * top, top))
    return (0.15 * x * np.sin(np.pi * t / seconds) ** 2).astype(np.float32)


@pytest.mark.parametrize(
    ("frames", "rate_in", "rate_out", "expected"),
    [(0, 8000, 16000, 0), (1, 48000, 8000, 1), (7, 16000, 8000, 4), (50001, 48000, 8000, 8334), (5, 8, 8, 5)],
)
def test_length_rule(frames, rate_in, rate_out, expected):
    assert resampled_length(frames, rate_in, rate_out) == expected
    assert len(run(np.ones(frames, np.float32), rate_in, rate_out)) == expected


@settings(max_examples=40)
@given(
    n=st.integers(1, 30000),
    rate_in=rates,
    rate_out=rates,
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=4).filter(lambda s: sum(s) / len(s) > 50),
    seed=st.integers(0, 99),
)
def test_any_cut_gives_the_same_samples(n, rate_in, rate_out, sizes, seed):
    x = np.random.default_rng(seed).standard_normal(n).astype(np.float32)
    whole = run(x, rate_in, rate_out)
    assert len(whole) == resampled_length(n, rate_in, rate_out)
    np.testing.assert_array_equal(run(x, rate_in, rate_out, sizes), whole)
    if rate_in == rate_out:
        np.testing.assert_array_equal(whole, x)
    else:  # the same as soxr at one go over the signal and the silence after it
        padded = np.concatenate([x, np.zeros(2 * rate_in // rate_out + 20, np.float32)])
        np.testing.assert_allclose(
            whole, soxr.resample(padded, rate_in, rate_out, QUALITY)[: len(whole)], atol=2e-5
        )


# The share of the lower Nyquist frequency in use, and the ratio that the filter's 0.01 dB droop leaves.
@pytest.mark.parametrize(("share", "decibels"), [(0.5, 95), (0.9, 55)])
@pytest.mark.parametrize(("source", "model"), ROUND_TRIPS)
def test_round_trip_is_aligned_and_clean(source, model, share, decibels):
    n = source * 2 + 137
    top = share * 0.5 * min(source, model)
    x = tones(np.arange(n) / source, top, n / source)
    middle = run(x, source, model, (3000, 17, 4096))
    back = run(middle, model, source, (777,), total=n)
    assert len(back) == n
    assert 10 * np.log10(np.sum(np.square(x)) / np.sum(np.square(back - x))) > decibels
    # no delay on the way either: middle[k] is the signal at the time k / model
    direct = tones(np.arange(len(middle)) / model, top, n / source)
    assert 10 * np.log10(np.sum(np.square(direct)) / np.sum(np.square(middle - direct))) > decibels


@pytest.mark.parametrize(("source", "model"), ROUND_TRIPS)
def test_an_impulse_stays_where_it_is(source, model):
    x = np.zeros(source, np.float32)
    x[source // 2] = 1
    back = run(run(x, source, model), model, source, total=source)
    assert np.argmax(np.abs(back)) == source // 2
    reach = min(500, source // 2 - 1)
    around = back[source // 2 - reach : source // 2 + reach + 1]
    np.testing.assert_allclose(around, around[::-1], atol=2e-3)


@settings(max_examples=25)
@given(n=st.integers(1, 20000), source=rates, model=rates)
def test_back_to_exactly_the_source_length(n, source, model):
    x = np.full(n, 0.5, np.float32)
    middle = run(x, source, model)
    assert run(middle, model, source, total=n).shape == (n,)
    natural = resampled_length(len(middle), model, source)
    assert abs(natural - n) <= max(1, source / model)  # less than one sample of the model: below 0.3 ms


def test_channels_are_resampled_alike_and_apart():
    x = np.random.default_rng(0).standard_normal((3, 9000)).astype(np.float32)
    together = run(x, 8000, 44100, (1000,), total=49613)
    assert together.shape == (3, 49613)
    for one, alone in zip(together, x, strict=True):
        np.testing.assert_array_equal(one, run(alone, 8000, 44100, total=49613))


def test_total_out_cuts_and_fills():
    x = np.ones(100, np.float32)
    assert run(x, 8000, 8000, total=90).tolist() == [1] * 90
    assert run(x, 8000, 8000, total=103).tolist() == [1] * 100 + [0] * 3
    assert fit_length(np.ones((2, 3), np.float32), 5).tolist() == [[1, 1, 1, 0, 0]] * 2
    assert fit_length(np.ones((2, 3), np.float32), 2).shape == (2, 2)


def test_one_sample_keeps_its_value():
    up = run(np.ones(1, np.float32), 8000, 48000)
    assert len(up) == 6 and up[0] == pytest.approx(1, abs=0.2)
    down = run(np.ones(1, np.float32), 48000, 8000)
    assert len(down) == 1 and 0.1 < down[0] < 0.3  # a sixth of the energy: a real sample, not padding


def test_misuse_is_refused():
    resampler = StreamResampler(8000, 16000)
    with pytest.raises(ValueError, match="shape"):
        resampler.push(np.zeros((2, 5), np.float32))
    resampler.flush()
    with pytest.raises(ValueError, match="after flush"):
        resampler.push(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="after flush"):
        resampler.flush()
    with pytest.raises(ValueError, match="positive"):
        StreamResampler(0, 8000)


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(0, 40)), size=st.integers(1, 30))
def test_reblock(lengths, size):
    x = np.arange(sum(lengths), dtype=np.float32)
    blocks = list(reblock(np.split(x, np.cumsum(lengths)), size))
    assert all(len(b) == size for b in blocks[:-1])
    assert not blocks or 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate([x[:0], *blocks]), x)
