"""Which stretches of two stems change sides: right on voices that are known, and never within speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.longform import identity, reunited

RNG = np.random.default_rng


def talk(turns: list[tuple[int, int, int]], frames: int) -> np.ndarray:
    """Powers [2, frames] of (stem, from, to), each 30 dB lower in the other stem."""
    power = np.full((2, frames), 1e-9)
    for stem, start, end in turns:
        power[stem, start:end] += 1e-2
        power[1 - stem, start:end] += 1e-5
    return power


def voices(who: np.ndarray, spread: float, seed: int = 0, dim: int = 32) -> np.ndarray:
    """Embeddings of who [..] (0, 1) around two centres whose cosine is 0.5."""
    rng = RNG(seed)
    centres = np.zeros((2, dim))
    centres[0, 0] = 1
    centres[1, :2] = 0.5, np.sqrt(0.75)
    x = centres[who] + spread * rng.standard_normal((*who.shape, dim)) / np.sqrt(dim)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_leakage_and_silence_are_no_speech():
    power = talk([(0, 10, 60), (1, 80, 120), (0, 100, 150)], 200)
    want = np.zeros((2, 200), bool)
    want[0, 10:60] = want[1, 80:120] = want[0, 100:150] = True
    np.testing.assert_array_equal(identity.activity(power), want)
    np.testing.assert_array_equal(identity.activity(1e-6 * power), identity.activity(power))


def test_pieces_end_in_the_middle_of_what_both_keep_silent():
    active = identity.activity(talk([(0, 10, 60), (1, 80, 120), (0, 100, 150), (1, 153, 190)], 200))
    assert identity.pieces(active).tolist() == [[0, 70], [70, 200]]  # 150 to 153 is too short a silence
    np.testing.assert_allclose(identity.speech_seconds(active, identity.pieces(active)), [[1, 0], [1, 1.54]])
    assert identity.pieces(np.zeros((2, 9), bool)).tolist() == [[0, 9]]
    assert identity.pieces(np.zeros((2, 0), bool)).shape == (0, 2)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_pieces_cover_all_and_cut_nothing(seed):
    active = RNG(seed).random((2, 120)) < RNG(seed + 1).choice([0.02, 0.1, 0.5])
    cut = identity.pieces(active)
    assert cut[0, 0] == 0 and cut[-1, 1] == 120 and (cut[1:, 0] == cut[:-1, 1]).all()
    assert (cut[:, 1] > cut[:, 0]).all() and not active[:, cut[1:, 0]].any()


@pytest.mark.parametrize("seed", range(5))
def test_turns_in_the_wrong_stem_come_back(seed):
    # 40 turns, A and B by turns; B's lie in A's stem, but for the first two; some pieces have both at once
    rng = RNG(seed)
    who, seconds = np.zeros((40, 2), int), np.zeros((40, 2))
    for i in range(40):
        stem = 0 if i > 3 else i % 2
        who[i] = (i % 2, 1 - i % 2) if stem == 0 else (1 - i % 2, i % 2)
        seconds[i, stem] = rng.uniform(1, 5)
        if i % 7 == 6:
            seconds[i] = rng.uniform(1, 3, 2)
    found = identity.two_voices(voices(who, 0.5, seed), seconds)
    assert found is not None and not found.one and 0.2 < found.centroids[0] @ found.centroids[1] < 0.65
    swap = identity.exchanged(found.evidence)
    np.testing.assert_array_equal(swap, who[:, 0] == 1)
    cut = np.stack((np.arange(40), np.arange(1, 41)), 1) * 100
    assert identity.spans(cut, swap) == [(100 * i, 100 * i + 100) for i in range(5, 40, 2)]


def test_two_at_once_are_never_one_voice():
    # both stems of the second piece sound like voice 0, the first one more
    x = voices(np.array([[0, 1], [0, 0], [0, 1]]), 0.0)
    x[1, 1] = identity._unit(x[1, 0] + 0.3 * x[0, 1])
    found = identity.two_voices(x, np.full((3, 2), 2.0))
    assert found is not None and not identity.exchanged(found.evidence).any()
    turned = identity.two_voices(np.concatenate((x[:1], x[1:2, ::-1], x[2:])), np.full((3, 2), 2.0))
    assert turned is not None and identity.exchanged(turned.evidence).tolist() == [False, True, False]


def test_what_is_right_is_left_and_one_voice_is_seen():
    who = np.tile([0, 1], (12, 1))
    found = identity.two_voices(voices(who, 0.8), np.full((12, 2), 3.0))
    assert found is not None and not identity.exchanged(found.evidence).any()
    alone = identity.two_voices(voices(0 * who, 0.5), np.full((12, 2), [3.0, 0.0]))
    assert alone is not None and alone.one
    assert identity.two_voices(voices(who, 0.5), np.full((12, 2), 0.1)) is None


def test_short_doubts_do_not_change_sides():
    assert not identity.exchanged(np.array([2.0, -0.29, 3.0])).any()
    assert identity.exchanged(np.array([2.0, -0.31, 3.0])).tolist() == [False, True, False]
    assert identity.exchanged(np.array([-2.0, 0.1, -3.0])).tolist() == [True] * 3
    assert not len(identity.exchanged(np.zeros(0)))


RATE = 8000


def spectrum(samples: np.ndarray) -> np.ndarray:
    """An embedding: where the power lies, in eight bands."""
    bands = np.abs(np.fft.rfft(samples, RATE))[: RATE // 2].reshape(8, -1).sum(1)
    return bands / np.linalg.norm(bands)


def conversation(seed: int, turns: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Two voices by turns, at times both at once: as they are [2, n], and as a separator that loses B gives
    them: B's later turns in A's stem. What overlaps is right: it would stay as it is."""
    rng, right, wrong = RNG(seed), [], []
    for i in range(turns):
        n = int(rng.uniform(0.8, 2.5) * RATE)
        t = np.arange(n) / RATE
        a, b = (sum(np.sin(2 * np.pi * f * k * t) for k in range(1, 4)) for f in (150, 620))
        both = i % 5 == 4
        pair = 0.1 * np.stack((a * (both or i % 2 == 0), b * (both or i % 2 == 1)))
        pair += 0.01 * pair[::-1] + 1e-5 * rng.standard_normal(pair.shape)
        pause = 1e-5 * rng.standard_normal((2, int(rng.uniform(0.15, 0.5) * RATE)))
        right += [pair, pause]
        wrong += [pair[::-1] if i > 3 and i % 2 and not both else pair, pause]
    return (np.concatenate(x, 1).astype(np.float32) for x in (right, wrong))


def heard(stems: np.ndarray, size: int, **options) -> tuple[np.ndarray, reunited.Found]:
    found: list[reunited.Found] = []
    blocks = iter(np.split(stems, range(size, stems.shape[1], size), 1))
    out = list(reunited.reunited(blocks, RATE, spectrum, on_found=found.append, **options))
    return np.concatenate(out, 1), found[0]


def test_one_voice_in_both_stems_is_told_from_two_people():
    rng = RNG(3)
    level = 10 ** rng.uniform(-4, -1, 200)  # one voice, 10 dB weaker in the other stem
    leak = np.stack((level, 0.1 * level * 10 ** rng.uniform(-0.1, 0.1, 200)))
    two = np.stack((level, 10 ** rng.uniform(-4, -1, 200)))
    silent = np.full((2, 60), 1e-12)
    power = np.concatenate((leak, two, silent, leak[:, :5]), 1)
    cut = np.array([[0, 200], [200, 400], [400, 460], [460, 465]])
    assert identity.one_leaks(power, cut).tolist() == [True, False, False, False]
    assert identity.one_leaks(np.zeros((2, 0)), np.zeros((0, 2), np.int64)).shape == (0,)


def test_turn_that_leaks_comes_back_and_overlap_stays():
    right, wrong = conversation(2)
    leaky = wrong + 0.25 * wrong[::-1]  # 12 dB below: as if both spoke, by level alone
    out, found = heard(leaky.astype(np.float32), 5000)
    assert len(found.spans) > 5
    a, b = np.abs(right[0]) > 0.02, np.abs(right[1]) > 0.02
    for stem, alone in ((0, a & ~b), (1, b & ~a)):
        louder = np.abs(out[stem, alone]) > np.abs(out[1 - stem, alone])
        assert louder.mean() > 0.95
    np.testing.assert_allclose(out.sum(0), 1.25 * wrong.sum(0), atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_voices_keep_their_stems(seed, monkeypatch, tmp_path):
    right, wrong = conversation(seed)
    out, found = heard(wrong, 5000)
    assert len(found.spans) > 5 and "were put into the other file" in str(found.notes(RATE))
    speech = np.abs(right).max(0) > 0.02
    np.testing.assert_array_equal(out[:, speech], right[:, speech])  # to the bit
    np.testing.assert_allclose(out.sum(0), wrong.sum(0), atol=1e-6)  # what is together stays together
    monkeypatch.setattr(reunited, "IN_MEMORY", 1000)  # a file
    monkeypatch.setattr(reunited, "BLOCK", 777)
    again, _ = heard(wrong, 12_345, folder=tmp_path)
    np.testing.assert_array_equal(again, out)
    assert not list(tmp_path.iterdir())


def test_what_is_right_is_given_as_it_came():
    right, _ = conversation(5)
    out, found = heard(right, 5000)
    assert not found.spans and found.notes(RATE) == []
    np.testing.assert_array_equal(out, right)


def test_one_voice_and_next_to_nothing_are_left_alone():
    right, _ = conversation(6)
    alone = np.stack((right[0], 0.01 * right[0]))
    out, found = heard(alone, 5000)
    assert "one voice only" in str(found.notes(RATE)) and np.array_equal(out, alone)
    for short in (np.zeros((2, 0), np.float32), right[:, :50], np.zeros((2, RATE), np.float32)):
        out = list(reunited.reunited(iter([short]), RATE, spectrum))
        np.testing.assert_array_equal(np.concatenate([np.zeros((2, 0), np.float32), *out], 1), short)


def test_sides_change_within_five_milliseconds(tmp_path):
    stems = np.stack((np.ones(1000, np.float32), np.zeros(1000, np.float32)))
    with open(tmp_path / "spool", "w+b") as spool:
        spool.write(np.ascontiguousarray(stems.T).tobytes())
        out = np.concatenate(list(reunited._exchanged(spool, [(300, 600)], 40)), 1)
    assert (out[0, :300] == 1).all() and (out[0, 340:600] == 0).all() and (out[0, 640:] == 1).all()
    assert (np.diff(out[0, 299:341]) < 0).all() and (out.sum(0) == 1).all()
