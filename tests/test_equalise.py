"""A filter between the colours of two recordings: the spectrum moves, the length and the level do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.audio.equalise import WINDOW, Equaliser, matching_taps, mean_spectrum

RATE = 16_000


def coloured(seconds: float, seed: int, tilt_db: float) -> np.ndarray:
    """Noise that falls or rises by ``tilt_db`` from 0 Hz to the highest."""
    n = int(seconds * RATE)
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(n))
    gain = 10 ** (np.linspace(0, tilt_db, len(spectrum)) / 20)
    return np.fft.irfft(spectrum * gain, n).astype(np.float32) / 10


def through(equaliser: Equaliser, samples: np.ndarray) -> np.ndarray:
    return np.concatenate((equaliser.push(samples), equaliser.flush()))


@settings(max_examples=30)
@given(st.lists(st.integers(0, 3000), max_size=8), st.integers(0, 99))
def test_pieces_give_what_the_whole_gives(cuts, seed):
    rng = np.random.default_rng(seed)
    taps = rng.standard_normal(WINDOW - 1)
    sound = rng.standard_normal(6000).astype(np.float32)
    streamed = Equaliser(taps)
    pieces = np.split(sound, np.minimum(np.cumsum(cuts), len(sound)))
    found = np.concatenate([*(streamed.push(p) for p in pieces), streamed.flush()])
    assert len(found) == len(sound)
    np.testing.assert_allclose(found, through(Equaliser(taps), sound), atol=1e-3)
    np.testing.assert_allclose(found, np.convolve(sound, taps, "same"), atol=1e-3)


@pytest.mark.parametrize("tilt", [-9.0, 0.0, 6.0])
def test_the_colour_becomes_the_wanted_one_and_the_level_stays(tilt):
    own, wanted = coloured(4, 1, 0.0), coloured(3, 2, tilt) * 0.1  # of another level
    taps = matching_taps(mean_spectrum(own), mean_spectrum(wanted))
    new = coloured(4, 3, 0.0)
    moved = through(Equaliser(taps), new)
    change = 10 * np.log10(mean_spectrum(moved) / mean_spectrum(new))
    slope = np.polyfit(np.linspace(0, 1, len(change)), change, 1)[0]
    assert abs(slope - tilt) < 1.0
    assert abs(10 * np.log10(np.mean(moved**2) / np.mean(new**2))) < 0.5


def test_no_band_is_moved_without_bound():
    taps = matching_taps(mean_spectrum(coloured(2, 1, 0.0)), mean_spectrum(coloured(2, 2, -90.0)))
    assert np.abs(np.fft.rfft(taps, 4096)).max() < 10 ** (18 / 20)  # 12 dB, and the level kept
    silent = matching_taps(np.zeros(WINDOW // 2 + 1), np.zeros(WINDOW // 2 + 1))
    np.testing.assert_allclose(
        through(Equaliser(silent), coloured(1, 1, 0.0)), coloured(1, 1, 0.0), atol=1e-5
    )


def test_too_short_a_recording_has_no_colour():
    with pytest.raises(ValueError, match="512 samples"):
        mean_spectrum(np.zeros(WINDOW - 1, np.float32))
