"""How loud a recording is must not matter, nor what lies below speech: filter, level, outliers."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from scipy import signal

from slyther_cli.audio.highpass import PASS_HZ, STOP_DB, STOP_HZ, HighPass, taps
from slyther_cli.audio.level import SPEECH_DB, Running, Whole, level_of
from slyther_cli.audio.live import LiveReader, raw_header
from slyther_cli.audio.outliers import FAR
from slyther_cli.audio.reader import AudioReader

RATE = 8000


def db(ratio):
    return 20 * np.log10(ratio)


def tone(hz, seconds=2.0, amplitude=0.1):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def speech(seconds=4.0, seed=0):
    """Noise in syllables and words, as loud as speech: float32 [n]."""
    rng, n = np.random.default_rng(seed), round(seconds * RATE)
    t = np.arange(n) / RATE
    shape = np.clip(np.sin(2 * np.pi * 4 * t), 0, 1) * (np.sin(2 * np.pi * 0.7 * t) > -0.5)
    return (0.1 * shape * np.convolve(rng.standard_normal(n), [1, 1.2, 0.6], "same")).astype(np.float32)


def in_pieces(step, x, sizes):
    out, at, turn = [], 0, 0
    while at < len(x):
        size = sizes[turn % len(sizes)]
        out.append(step.push(x[at : at + size]))
        at, turn = at + size, turn + 1
    return np.concatenate([*out, step.flush()])


def whole(x, **how):
    return Whole(lambda: [x], RATE, SPEECH_DB, **how)


def heard(x):
    return np.concatenate([*whole(x)()])


# The filter


@pytest.mark.parametrize(("hz", "kept"), [(50, 0.0), (20, 0.0), (85, 1.0), (200, 1.0), (3900, 1.0)])
def test_what_lies_below_speech_goes_and_the_rest_stays_in_its_place(hz, kept):
    x = tone(hz)
    y = in_pieces(HighPass(RATE), x, [len(x)])
    middle = slice(RATE // 2, -RATE // 2)
    assert np.abs(y - kept * x)[middle].max() < 0.002 * 0.1


def test_a_constant_goes_up_to_the_ends():
    x = np.cos(2 * np.pi * 300 * (np.arange(2 * RATE) + 0.5) / RATE)  # its own mirror image
    assert np.abs(in_pieces(HighPass(RATE), x + 0.5, [1000]) - x).max() < 2e-3
    assert np.abs(in_pieces(HighPass(RATE), np.full(3000, 0.5), [3000])).max() < 1e-12


@pytest.mark.parametrize("step", [160, 8192])
@pytest.mark.parametrize("length", [0, 1, 5, 483, 484, 485, 969, 9000, 30_000])
def test_the_filter_gives_as_many_samples_whatever_the_blocks(step, length):
    x = np.random.default_rng(1).standard_normal(length)
    at_once = in_pieces(HighPass(RATE, step), x, [max(1, length)])
    assert len(at_once) == length
    for sizes in ([1, 7, 300], [5000, 1]):
        assert np.array_equal(in_pieces(HighPass(RATE, step), x, sizes), at_once)
    assert np.abs(in_pieces(HighPass(RATE), x, [999]) - at_once).max(initial=0) < 1e-12


def test_no_more_is_held_back_than_is_said():
    clean, came, gave = HighPass(RATE, 160), 0, 0
    for _ in range(200):
        came, gave = came + 37, gave + len(clean.push(np.ones(37)))
        assert came - gave < clean.delay


# The level


def test_the_level_is_that_of_speech_not_of_pauses_clicks_and_other_noises():
    x = speech(8)
    level = level_of([x], RATE)
    assert db(level / 0.1) == pytest.approx(0, abs=3)
    quiet = np.zeros(5 * RATE, np.float32) + 1e-4 * speech(5, seed=1)
    click, thump = x.copy(), x.copy()
    click[RATE] = 5.0
    thump[RATE : RATE + 400] += 5 * np.random.default_rng(2).standard_normal(400).astype(np.float32)
    for other in (np.concatenate([quiet, x, quiet]), click, thump, x + 0.05, x + tone(50, 8)):
        assert abs(db(level_of([other], RATE) / level)) < 1.0


@pytest.mark.parametrize("gain", [-70, -20.5, 20])
def test_recordings_of_all_levels_are_heard_alike(gain):
    x, factor = speech(), 10 ** (gain / 20)
    y, loud = heard(x), (x * np.float32(factor))
    again = whole(loud)
    found = np.concatenate([*again()])
    assert np.abs(found - y).max() < 1e-3 * np.abs(y).max()
    assert again.undo(found) == pytest.approx(whole(x).undo(y) * factor, abs=1e-3 * factor)
    assert level_of([found], RATE) == pytest.approx(10 ** (SPEECH_DB / 20), rel=3e-3)


def test_silence_stays_silence_and_one_word_has_a_level():
    for silent in (np.zeros(5000, np.float32), np.full(5000, 0.05, np.float32), np.zeros(0, np.float32)):
        assert np.abs(heard(silent)).max(initial=0) < 1e-6 and len(heard(silent)) == len(silent)
    assert level_of([tone(300, 0.01)], RATE) == pytest.approx(0.1 / np.sqrt(2), rel=0.1)


def test_a_level_that_is_given_is_not_measured():
    assert whole(speech(), level=0.5).gain == pytest.approx(10 ** (SPEECH_DB / 20) / 0.5)


# The level while the sound comes


@pytest.mark.parametrize("gain", [-60, 15])
def test_a_running_level_is_the_same_for_all_levels_and_blocks(gain):
    x, factor = speech(6), np.float32(10 ** (gain / 20))
    first = Running(RATE, SPEECH_DB)
    y = in_pieces(first, x, [1000])
    second = Running(RATE, SPEECH_DB, lambda: np.split(x * factor, [1, 50, 9999]))
    again = np.concatenate([*second()])
    assert len(y) == len(again) == len(x)
    assert np.abs(again - y).max() < 1e-4 * np.abs(y).max()
    back = np.concatenate([second.undo(part) for part in np.split(again, [700, 20_000])])
    assert np.abs(back - factor * first.undo(y)).max() < 1e-4 * factor
    for sizes in ([1], [4000, 3]):
        assert np.array_equal(in_pieces(Running(RATE, SPEECH_DB), x, sizes), y)


def test_a_running_level_is_soon_that_of_the_whole_and_follows_slowly():
    noise = 1e-3 * speech(3, seed=3)
    y = in_pieces(Running(RATE, SPEECH_DB), np.concatenate([noise, speech(6), 0.1 * speech(40)]), [RATE])
    at = [level_of([y[s * RATE : e * RATE]], RATE) for s, e in ((4, 5), (5, 9), (10, 11), (44, 49))]
    target = 10 ** (SPEECH_DB / 20)
    assert abs(db(at[0] / target)) < 6 and abs(db(at[1] / target)) < 3
    assert db(at[2] / target) < -12 and abs(db(at[3] / target)) < 3


def test_a_running_level_gives_what_it_has_in_time():
    follow, came, gave = Running(RATE, SPEECH_DB), 0, 0
    for block in np.split(speech(2), 100):
        came, gave = came + len(block), gave + len(follow.push(block))
        assert came - gave < follow.delay < 0.1 * RATE


# Outliers


def from_file(path, **how):
    with AudioReader(path, rate=RATE, **how) as reader:
        reader.settle()
        return np.concatenate([*reader.blocks(1000)]), reader.notes


@pytest.mark.parametrize("rate", [RATE, 44_100])
@pytest.mark.parametrize("size", [200, 1e9, -1e6])
def test_an_outlier_is_cut_down_and_reported(tmp_path, size, rate):
    x = np.repeat(speech(), 1 if rate == RATE else 5)
    sf.write(tmp_path / "x.wav", x, rate, subtype="FLOAT")
    at = round(1.5 * rate)
    x[at] = size
    x[-1] = size
    sf.write(tmp_path / "outlier.wav", x, rate, subtype="FLOAT")
    (good, quiet), (bad, told) = from_file(tmp_path / "x.wav"), from_file(tmp_path / "outlier.wav")
    assert np.abs(good - bad).max() < 2.5 and not any("louder" in note for note in quiet)
    apart = np.abs(good - bad) > 0.02
    assert apart[: round(1.4 * RATE)].sum() == apart[round(1.6 * RATE) : -RATE // 10].sum() == 0
    assert any("2 samples, the first at 1.50 s, are far louder than all the rest" in note for note in told)


def test_what_is_loud_for_longer_is_no_outlier(tmp_path):
    x = np.zeros(3 * RATE, np.float32)
    x[::3] = 1e-4
    x[RATE : RATE + 300] = tone(400, 300 / RATE)  # a word in what is all but silent
    sf.write(tmp_path / "x.wav", x, RATE, subtype="FLOAT")
    found, notes = from_file(tmp_path / "x.wav")
    assert np.array_equal(found, x) and not notes


def test_an_outlier_in_a_stream(tmp_path):
    x = speech()
    x[2 * RATE], good = 1e9, x.copy()
    head = raw_header(f"{RATE}:1:f32")
    fmt = head[head.index(b"fmt ") + 8 :][:16]
    assert struct.unpack("<H", fmt[:2]) == (3,)
    reader = LiveReader(io.BytesIO(x.tobytes()), fmt, None, "x", "mix", RATE)
    found = np.concatenate([ready for _, ready in reader.blocks()])
    assert len(found) == len(x) and 0 < found[2 * RATE] < FAR
    good[2 * RATE] = found[2 * RATE]
    assert np.array_equal(found, good)
    assert any(note.startswith("1 sample, at 2.00 s, is far louder") for note in reader.notes)


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_the_high_pass_is_what_scipy_designs(rate):
    count, beta = signal.kaiserord(STOP_DB, (PASS_HZ - STOP_HZ) / (rate / 2))
    low = signal.firwin(count | 1, (STOP_HZ + PASS_HZ) / 2, window=("kaiser", beta), fs=rate)
    wanted = -low / low.sum()
    wanted[len(wanted) // 2] += 1
    np.testing.assert_allclose(taps(rate), wanted, rtol=0, atol=1e-15)


def test_products_start_without_what_takes_long_to_import():
    code = "import sys, slyther_cli.synthesis.job, slyther_cli.transcription.job; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "slyther_cli.audio.highpass" in done.stdout.split()
    assert not {"scipy.signal", "scipy.stats", "scipy.cluster"} & set(done.stdout.split())
