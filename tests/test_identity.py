"""Which stretches of two stems change sides: right on voices that are known, and never within speech."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.audio.resample import resampled
from slyther_cli.longform import identity, pieces, reunited
from slyther_cli.separation.speakers import embedder

EXAMPLES = Path(__file__).parents[1] / "examples"
RNG = np.random.default_rng


def talk(turns: list[tuple[int, int, int]], frames: int) -> np.ndarray:
    """Powers [2, frames] of (stem, from, to), each 30 dB lower in the other stem."""
    power = np.full((2, frames), 1e-9)
    for stem, start, end in turns:
        power[stem, start:end] += 1e-2
        power[1 - stem, start:end] += 1e-5
    return power


def powers_of(power: np.ndarray, product: np.ndarray | None = None) -> pieces.Powers:
    """``product``: by default of stems that have nothing to do with each other."""
    return pieces.Powers(power, np.zeros(power.shape[1]) if product is None else product)


def activity(power: np.ndarray) -> np.ndarray:
    return powers_of(power).activity()


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
    np.testing.assert_array_equal(activity(power), want)
    np.testing.assert_array_equal(activity(1e-6 * power), activity(power))


def test_pieces_end_in_the_middle_of_what_both_keep_silent():
    active = activity(talk([(0, 10, 60), (1, 80, 120), (0, 100, 150), (1, 153, 190)], 200))
    assert pieces.parted_at_silence(active).tolist() == [
        [0, 70],
        [70, 200],
    ]  # 150 to 153 is too short a silence
    assert pieces.parted_at_silence(np.zeros((2, 9), bool)).tolist() == [[0, 9]]
    assert pieces.parted_at_silence(np.zeros((2, 0), bool)).shape == (0, 2)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_pieces_cover_all_and_cut_nothing(seed):
    active = RNG(seed).random((2, 120)) < RNG(seed + 1).choice([0.02, 0.1, 0.5])
    cut = pieces.parted_at_silence(active)
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
    assert reunited._spans(cut, swap, 160) == [(16_000 * i, 16_000 * i + 16_000) for i in range(5, 40, 2)]
    assert reunited._spans(cut, np.arange(40) > 37, 1) == [(3800, 4000)]  # neighbours are joined


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
    fixed = np.array([False, True, False])
    assert identity.exchanged(np.array([-2.0, -9.0, -3.0]), fixed=fixed).tolist() == [True, False, True]


def test_what_tells_nothing_goes_with_the_piece_that_is_near():
    # stem 0 holds both: voice 0, then voice 1 with a word in front or behind that is too short to judge
    evidence, louder = np.array([2.0, 0.0, -2.0]), np.zeros(3, int)
    for pause, want in (
        ([np.inf, 0.6, 0.05], [False, True, True]),
        ([np.inf, 0.05, 0.6], [False, False, True]),
    ):
        swap = identity.exchanged(evidence, louder=louder, pause=np.array(pause))
        assert swap.tolist() == want
    # the word lies in the other stem: it is the near voice's, which has just been exchanged
    swap = identity.exchanged(evidence, louder=np.array([0, 1, 0]), pause=np.array([np.inf, 0.6, 0.01]))
    assert swap.tolist() == [False, False, True]


def test_turn_that_changes_stems_without_a_pause_ends_a_piece():
    power = talk([(0, 10, 60), (1, 60, 110)], 120)
    (change,) = pieces.side_changes(powers_of(power))
    assert abs(change - 60) <= 1
    cut, overlap = pieces.pieces(powers_of(power))
    assert cut.tolist() == [[0, change], [change, 120]] and not overlap.any()
    assert not len(pieces.side_changes(powers_of(talk([(0, 10, 60), (1, 61, 64)], 130))))  # too short a turn
    assert not len(pieces.side_changes(powers_of(np.zeros((2, 0)))))


def test_pieces_of_one_voice_are_judged_in_short_ones():
    rng = RNG(1)
    power = np.stack((1e-2 * rng.uniform(0.5, 1, 300), np.full(300, 1e-9)))
    power[0, 45], cut = 1e-3, np.array([[0, 100], [100, 200], [200, 300]])
    parts, of = pieces.short_pieces(powers_of(power), cut, np.array([False, True, False]))
    overlap = of == 1
    lengths = np.diff(parts, axis=1)[~overlap]
    assert np.abs(parts[:, 0] - 45).min() <= 1 and lengths.max() <= 60 and lengths.min() >= 20
    assert (
        parts[overlap].tolist() == [[100, 200]] and parts[0, 0] == 0 and (parts[1:, 0] == parts[:-1, 1]).all()
    )


def test_pauses_are_between_what_is_heard():
    said = np.zeros(100, bool)
    said[10:20] = said[25:40] = said[60:] = True
    cut = np.array([[0, 22], [22, 45], [45, 58], [58, 100]])
    np.testing.assert_allclose(pieces.pauses(said, cut), [np.inf, 0.1, np.inf, np.inf])


RATE = 8000


def spectrum(samples: np.ndarray) -> np.ndarray:
    """An embedding: where the power lies, in eight bands."""
    bands = np.abs(np.fft.rfft(samples, RATE))[: RATE // 2].reshape(8, -1).sum(1)
    return bands / np.linalg.norm(bands)


def conversation(seed: int, turns: int = 24, leak: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two voices by turns, at times both at once: as they are [2, n], and as a separator that loses B gives
    them: B's later turns in A's stem. What overlaps is right: it would stay as it is. ``leak``: how much of a
    voice sounds in the other stem."""
    rng, right, wrong = RNG(seed), [], []
    for i in range(turns):
        n = int(rng.uniform(0.8, 2.5) * RATE)
        t = np.arange(n) / RATE
        a, b = (sum(np.sin(2 * np.pi * f * k * t) for k in range(1, 4)) for f in (150, 620))
        both = i % 10 == 9
        pair = 0.1 * np.stack((a * (both or i % 2 == 0), b * (both or i % 2 == 1)))
        pair = pair + leak * pair[::-1] + 1e-5 * rng.standard_normal(pair.shape)
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
    a, b = 0.1 * rng.standard_normal((2, 16_000))
    stems = np.concatenate(((a, 0.3 * a + 0.03 * b), (a, b), np.zeros((2, 16_000))), 1)
    means = reunited._products(stems.reshape(2, -1, 160))
    powers = pieces.Powers(means[:2], means[2])
    assert powers.alike()[5:95].all() and not powers.alike()[105:].any()
    np.testing.assert_allclose(
        powers.correlation(np.array([[0, 100], [100, 200], [200, 300]])), [1, 0, 0], atol=0.03
    )
    strong, weak = powers.activity().sum(1)  # what leaks is no speech of its own
    assert strong == 200 and 100 <= weak <= 105
    assert powers.leaks(np.array([[0, 100]]), 12).tolist() == [True]
    assert powers.leaks(np.array([[0, 100]]), 9).tolist() == [False]


@pytest.mark.parametrize("leak", [0.03, 0.4])
def test_voice_that_sounds_in_both_is_gathered_in_its_file(leak):
    (clean, _), (_, wrong) = conversation(2), conversation(2, leak=leak)
    out, found = heard(wrong, 5000)
    assert len(found.spans) > 5 and bool(found.gathered) == (leak > 0.1)
    assert ("in which one voice was heard in both files were put into one" in str(found.notes(RATE))) == (
        leak > 0.1
    )
    np.testing.assert_allclose(out.sum(0), wrong.sum(0), atol=1e-6)
    a, b = (np.convolve(np.abs(x) > 0.06, np.ones(800), "same") > 0 for x in clean)
    for stem, alone in ((0, a & ~b), (1, b & ~a)):
        own, other = (np.square(x[alone], dtype=np.float64).sum() for x in (out[stem], out[1 - stem]))
        assert other < 1e-3 * own
    both = np.convolve(a & b, np.ones(1600), "same") >= 1600  # of overlap everything is as it came
    assert both.any() and np.array_equal(out[:, both], wrong[:, both])


def test_where_there_is_much_overlap_the_separator_is_trusted():
    """Of 24 turns half overlap: nothing is gathered, and what would pay among turns is left."""
    rng = RNG(0)
    parts = []
    for i in range(24):
        x = 0.1 * rng.standard_normal((2, 8000))
        parts += [x if i % 2 else np.stack((x[0], 0.3 * x[0])), np.zeros((2, 2000))]
    stems = np.concatenate(parts, 1).astype(np.float32)
    out, found = heard(stems, 5000)
    assert not found.turns and found.notes(RATE) == []
    np.testing.assert_array_equal(out, stems)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_stems_sum_to_what_they_summed_to(seed):
    """Whatever the plan and its fades, also across blocks."""
    rng = RNG(seed)
    stems = rng.standard_normal((2, 4000)).astype(np.float32)
    edges = np.sort(rng.choice(np.arange(1, 4000), 6, replace=False))
    shares = rng.integers(0, 2, (7, 2)).astype(float)
    with tempfile.TemporaryFile() as spool:
        spool.write(np.ascontiguousarray(stems.T).tobytes())
        out = np.concatenate(list(reunited._given(spool, reunited.Plan(edges, shares), 40)), 1)
    np.testing.assert_allclose(out.sum(0), stems.sum(0), atol=1e-5)
    settled = np.min(np.abs(np.arange(4000)[:, None] - edges - 20), 1) > 20
    first = shares[np.searchsorted(edges, np.arange(4000), "right")].T
    np.testing.assert_array_equal(out[0, settled], (first * stems).sum(0)[settled].astype(np.float32))


def test_notes_count_what_is_said_and_know_one_from_many():
    """A minute of noise in both stems, and two turns of B in A's stem."""
    right, wrong = conversation(2, turns=8)
    noise = 1e-4 * RNG(0).standard_normal(60 * RATE).astype(np.float32)
    _, found = heard(np.concatenate((wrong, np.stack((0.6 * noise, 0.4 * noise))), 1), 5000)
    assert found.spans and found.spans[-1][1] < right.shape[1] + 2 * RATE and not found.gathered
    found = reunited.Found([(0, 3200)], [(0, 80_000), (96_000, 104_000)], None, True)
    assert found.notes(RATE) == [
        "0.4 s in 1 stretch was put into the other file, by voice",
        "11 s in 2 stretches in which one voice was heard in both files were put into one",
    ]


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


@pytest.mark.parametrize("seconds, level", [(400, 1e-3), (80, 4e-3)])
def test_noise_is_no_voice_where_people_hardly_speak(seconds, level):
    """Two people take turns for twenty seconds, then there is noise: what is right stays right."""
    sounds = [sf.read(EXAMPLES / f"voice_{i}.flac", dtype="float32") for i in (1, 2)]
    voices = [resampled(x, rate, RATE) / np.sqrt(np.square(x).mean()) for x, rate in sounds]
    stems = np.zeros((2, seconds * RATE), np.float32)
    for i in range(10):
        turn = 0.05 * voices[i % 2][i // 2 * 2 * RATE :][: 2 * RATE]
        stems[i % 2, i * 18_400 :][: len(turn)] = turn
    stems += level * RNG(0).standard_normal(stems.shape[1]).astype(np.float32) * np.float32([[0.4], [0.6]])
    found: list[reunited.Found] = []
    out = reunited.reunited(iter([stems]), RATE, embedder(RATE), on_found=found.append)
    power, given = (np.square(x).reshape(2, -1, 160).mean(2) for x in (stems, np.concatenate([*out], 1)))
    said = power.max(0) > 1e-4
    assert 500 < said.sum() < 1000 and not found[0].spans and found[0].voices is not None
    assert sum(end - start for start, end in found[0].gathered) < 8 * RATE  # words, and no noise
    np.testing.assert_array_equal(power.argmax(0)[said], given.argmax(0)[said])


def test_background_is_quiet_and_steady():
    power = np.full((2, 160), 1e-9)
    power[0] = 1e-5 * RNG(0).uniform(0.8, 1.2, 160)  # noise, 25 dB below what is loud
    power[0, 100:] = 3e-3
    power[0, 40:80:2] = 1e-4  # something that varies
    cut = np.array([[0, 40], [40, 80], [80, 100], [100, 160]])
    assert powers_of(power).background(cut).tolist() == [True, False, False, False]


def test_loud_frames_are_those_of_speech():
    db = np.full(10_000, -60.0)
    db[:400], db[400:460] = -25, 0  # speech is seldom, bangs are more so
    assert pieces.loud_level(db) == -25
    assert pieces.loud_level(np.linspace(-30, 0, 1001)) == pytest.approx(-1.5)  # no matter where all is loud
    assert pieces.loud_level(np.full(5, -9.0)) == -9 and pieces.loud_level(np.zeros(0)) == 0


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
        plan = reunited.Plan(np.array([300, 600]), np.array([(1, 0), (0, 1), (1, 0)]))
        out = np.concatenate(list(reunited._given(spool, plan, 40)), 1)
    assert (out[0, :300] == 1).all() and (out[0, 340:600] == 0).all() and (out[0, 640:] == 1).all()
    assert (np.diff(out[0, 299:341]) < 0).all() and (out.sum(0) == 1).all()


def test_noise_in_both_stems_is_no_overlap():
    """A noisy pause three times as long as what is said: turns in the wrong file are still put right."""
    right, wrong = conversation(2, turns=8)
    pause = np.zeros((2, 3 * right.shape[1]), np.float32)
    noise = RNG(0).standard_normal((2, 4 * right.shape[1])).astype(np.float32)
    noise *= 10 ** (-27 / 20) * np.sqrt(np.square(right).mean())
    out, found = heard(np.concatenate((wrong, pause), 1) + noise, 5000)
    assert found.turns and found.spans
    speech = np.abs(right).max(0) > 0.05
    assert np.abs(out - np.concatenate((right, pause), 1))[:, : right.shape[1]][:, speech].max() < 0.05
