"""Who speaks when: voices found by clustering, words given to them, and the error rate."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import distance

from slyther_cli.audio.highpass import filtered
from slyther_cli.decode.words import Word
from slyther_cli.errors import UsageError
from slyther_cli.longform import clustering
from slyther_cli.longform.clustering import find_voices, follow
from slyther_cli.research.evaluation import diarization as scoring
from slyther_cli.research.evaluation.diarization import error_rate, turns_of
from slyther_cli.transcription.diarization import attributed, embedded, windows

RATE = 16_000
DIM = 48


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def meeting(k, turns, seed, spread=0.9, words=8):
    """Words of 0.3 s, in turns with 0.6 s between, and an embedding for each of their windows: strangers'
    voices, windows as unlike as those of a true speaker network."""
    rng = np.random.default_rng(seed)
    centres = unit(rng.standard_normal((k, DIM)))
    who = np.concatenate((rng.permutation(k), rng.integers(k, size=max(0, turns - k))))[:turns]
    said, at = [], 0.5
    for speaker in who:
        for _ in range(int(rng.integers(words, 2 * words))):
            said.append(Word("w", round(at * RATE), round((at + 0.3) * RATE), 1.0, (), f"true{speaker}"))
            at += 0.35
        at += 0.6
    found = windows(said, RATE)
    middles = found.spans.mean(1)
    nearest = [min(said, key=lambda w, m=m: abs((w.start + w.end) / 2 - m)).speaker for m in middles]
    own = np.array([int(name[4:]) for name in nearest])
    x = unit(centres[own] + spread * rng.standard_normal((len(own), DIM)) / np.sqrt(DIM))
    return said, found, x.astype(np.float32)


# Clustering


@pytest.mark.parametrize("k", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("told", [True, False])
def test_voices_are_found_told_how_many_or_not(k, told):
    said, found, x = meeting(k, 12 * k, seed=k)
    out = attributed(said, found, x, RATE, k if told else None)
    pairs = {(a.speaker, b.speaker) for a, b in zip(said, out, strict=True)}
    assert len(pairs) == k and len({b for _, b in pairs}) == k
    seen = list(dict.fromkeys(word.speaker for word in out))
    assert seen == [f"S{i}" for i in range(1, k + 1)]  # by their first words
    assert [w._replace(speaker=None) for w in out] == [w._replace(speaker=None) for w in said]


def test_one_who_says_little_is_a_voice_if_told_so():
    rng = np.random.default_rng(3)
    a, b = unit(rng.standard_normal((2, DIM)))
    x = unit(np.array([a] * 60 + [b] * 2 + [a] * 60) + 0.5 * rng.standard_normal((122, DIM)) / np.sqrt(DIM))
    seconds, stretch = np.full(122, 0.75), np.arange(122) // 2
    assert len(find_voices(x, seconds, stretch)) == 1  # 1.5 s are too little to call it a voice
    two = find_voices(x, seconds, stretch, 2)
    assert (x @ two.T).argmax(1).tolist().count(int((two @ b).argmax())) == 2


def test_single_odd_pieces_are_no_voice_of_several():
    rng = np.random.default_rng(4)
    a, b = unit(rng.standard_normal((2, DIM)))
    who = np.repeat(np.arange(20) % 2, 10)
    x = unit(np.stack((a, b))[who] + 0.9 * rng.standard_normal((200, DIM)) / np.sqrt(DIM))
    x[[15, 55]] = unit(rng.standard_normal((2, DIM)))  # a cough and a door
    centroids = find_voices(x, np.full(200, 0.75), np.arange(200) // 4, 2)
    assert np.abs(centroids @ np.stack((a, b)).T).max(0).min() > 0.8


def test_many_windows_are_bounded(monkeypatch):
    """30,000 windows, 6 hours: no more than PIECES are compared in pairs, and all get their voice."""
    sizes, linked = [], distance.pdist

    def counted(pieces, *how):
        sizes.append(len(pieces))
        return linked(pieces, *how)

    monkeypatch.setattr(distance, "pdist", counted)
    monkeypatch.setattr(clustering, "PIECES", 500)
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((3, DIM)))
    who = np.repeat(rng.integers(3, size=3000), 10)
    x = unit(centres[who] + 0.9 * rng.standard_normal((len(who), DIM)) / np.sqrt(DIM))
    centroids = find_voices(x, np.full(len(who), 0.75), np.arange(len(who)) // 10)
    assert sizes == [500] and len(centroids) == 3
    assert (centroids @ centres.T).max(0).min() > 0.98


@pytest.mark.parametrize(("n", "count"), [(1, None), (1, 3), (2, 5), (2, 2), (3, 2)])
def test_as_few_windows_as_can_be(n, count):
    x = unit(np.random.default_rng(n).standard_normal((n, DIM)))
    found = find_voices(x, np.full(n, 0.6), np.arange(n), count)
    assert 1 <= len(found) <= min(n, count or n)
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    with pytest.raises(ValueError, match="one or more"):
        find_voices(x[:0], np.zeros(0), np.zeros(0, int), count)


def test_equal_embeddings_are_parted_into_as_many_as_asked():
    x = np.tile(unit(np.ones(DIM)), (30, 1))
    assert find_voices(x, np.full(30, 0.75), np.arange(30), 3).shape == (3, DIM)
    assert len(find_voices(x, np.full(30, 0.75), np.arange(30))) == 1


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_follow_finds_the_best_path(seed):
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 6)), int(rng.integers(1, 4))
    scores, cost = rng.standard_normal((n, k)), rng.random(n)

    def worth(path):
        changes = sum(cost[i] for i in range(1, n) if path[i] != path[i - 1])
        return sum(scores[i, label] for i, label in enumerate(path)) - changes

    best = max(map(worth, itertools.product(range(k), repeat=n)))
    assert np.isclose(worth(follow(scores, cost).tolist()), best)
    assert len(follow(scores[:0], cost[:0])) == 0


# Windows, and the sound in them


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0.02, 2)), min_size=1, max_size=30))
@settings(max_examples=60)
def test_windows_cover_the_words_and_no_long_pause(shape):
    words, at = [], 0
    for gap, length in shape:
        start = at + round(gap * RATE)
        at = start + max(1, round(length * RATE))
        words.append(Word("w", start, at, 1.0))
    spans, stretch, bounds = windows(words, RATE)
    assert (spans[:, 0] >= 0).all() and (np.diff(spans[:, 0]) >= 0).all() and (np.diff(stretch) >= 0).all()
    sizes = spans[:, 1] - spans[:, 0]
    assert sizes.min() >= round(0.6 * RATE) and sizes.max() <= round(1.5 * RATE)
    for number, (start, end) in enumerate(bounds.tolist()):
        own = spans[stretch == number]
        assert own[0, 0] <= start and own[-1, 1] >= end
        assert (own[1:, 0] - own[:-1, 0] <= 0.75 * RATE + 1).all()
        assert own[-1, 1] - end <= max(0.6 * RATE, start + 0.6 * RATE - end)
    assert np.isclose(windows(words, RATE).seconds(RATE).sum(), (bounds[:, 1] - bounds[:, 0]).sum() / RATE)


def test_embeddings_do_not_depend_on_blocks():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(9 * RATE).astype(np.float32)
    words = [Word("w", round(a * RATE), round(b * RATE), 1.0) for a, b in ((0, 0.2), (1, 4.1), (7, 9.2))]
    found, seen, done = windows(words, RATE), [], []

    def embed(part):
        seen.append(part)
        return unit(np.array([part.sum(), np.abs(part).sum()]))

    whole = embedded(found, [x], RATE, embed)
    clean = np.concatenate((filtered(x, RATE), np.zeros(RATE, np.float32)))  # silent beyond its end
    for (start, end), part in zip(found.spans.tolist(), seen, strict=True):
        np.testing.assert_array_equal(part, clean[start:end])
    for size in (1000, 44_100):
        blocks = (x[i : i + size] for i in range(0, len(x), size))
        np.testing.assert_array_equal(embedded(found, blocks, RATE, embed, done.append), whole)
    assert done.count(1.0) == 2 and all(0 <= share <= 1 for share in done)


# Words


def test_speakers_change_in_the_pause():
    # two windows on each side of a pause of 0.5 s; the words beside the pause sound a little like the other
    words = [Word("w", int(a * RATE), int((a + 0.25) * RATE), 1.0) for a in np.arange(0, 6, 0.3)]
    words = [w if i < 10 else w._replace(start=w.start + 5600, end=w.end + 5600) for i, w in enumerate(words)]
    found = windows(words, RATE)
    assert found.stretch.tolist().count(0) == found.stretch.tolist().count(1)
    own = found.stretch == 1
    x = unit(np.stack((np.where(own, 0.2, 1.0), np.where(own, 1.0, 0.2)), 1))
    edge = int(np.flatnonzero(own)[0])
    x[edge] = unit(np.array([1.0, 0.95]))
    out = attributed(words, found, x, RATE, 2)
    assert [w.speaker for w in out] == ["S1"] * 10 + ["S2"] * 10


def test_a_single_word_has_a_speaker():
    word = Word("w", 100, 200, 1.0)
    (out,) = attributed([word], windows([word], RATE), np.eye(DIM)[:1], RATE, 4)
    assert out.speaker == "S1"


# The error rate


def test_the_error_rate_by_hand():
    true = [(0.0, 10.0, "ann"), (12.0, 20.0, "ben"), (20.0, 24.0, "ann")]
    found = [(0.0, 4.0, "x"), (4.0, 9.0, "y"), (11.0, 20.0, "y"), (20.0, 25.0, "x")]
    # looked at: 0.25-9.75 (9.5 s), 12.25-19.75 (7.5 s), 20.25-23.75 (3.5 s) of speech, and pauses.
    # ann is x (3.75 + 3.5 s), ben is y: confused are 4-9 s; missed 9-9.75 s; 11-11.75 and 24.25-25 false
    score = error_rate(true, found)
    assert (score.speech, score.missed, score.false_alarm, score.confused) == (20.5, 0.75, 1.5, 5.0)
    assert np.isclose(score.rate, 7.25 / 20.5)
    assert error_rate(true, true).rate == 0.0
    assert error_rate(true, []).rate == 1.0 and error_rate([], found).rate == 0.0
    alone = error_rate(true, [(a, b, "x") for a, b, _ in true])
    assert (alone.confused, alone.missed) == (7.5, 0.0)


def test_a_label_for_each_true_speaker_at_most():
    # ann is heard as x and y: only one of them counts as her
    score = error_rate([(0, 10, "ann")], [(0, 6, "x"), (6, 10, "y")], collar=0.0)
    assert (score.confused, score.rate) == (4.0, 0.4)


def test_turns_of_words():
    words = [
        Word("w", a, b, 1.0, (), who)
        for a, b, who in ((0, 5, "a"), (9, 20, "a"), (29, 30, "a"), (30, 40, "b"))
    ]
    assert turns_of(words, 10) == [(0.0, 2.0, "a"), (2.9, 3.0, "a"), (3.0, 4.0, "b")]


class Pool:
    """Utterances that tell who speaks by their level, each of its own length."""

    rate = RATE

    def __init__(self, counts):
        rng = np.random.default_rng(0)
        self.speakers = {
            name: [np.full(int(rng.integers(RATE, 3 * RATE)), 1000 * (1 + i), np.int16) for _ in range(count)]
            for i, (name, count) in enumerate(counts.items())
        }
        self.transcripts = {
            name: [f"{name} says {i}" for i in range(len(said))] for name, said in self.speakers.items()
        }


def test_talks_are_as_asked():
    pool = Pool({"a": 60, "b": 60, "c": 4})
    for talk in scoring.talks(pool, 3, 120.0, 3, seed=1):
        seconds = {name: 0.0 for name in "abc"}
        for start, end, who in talk.turns:
            seconds[who] += end - start
            middle = talk.samples[round((start + 0.1) * RATE) : round((start + 0.5) * RATE)].mean() * 32768
            assert abs(middle - 1000 * (1 + "abc".index(who))) < 50
        everything = sum(seconds.values())
        assert 90 < everything < 135 and seconds["c"] < 13 and abs(seconds["a"] - seconds["b"]) < 12
        ordered = sorted(talk.turns)
        assert ordered == talk.turns
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(ordered))
        assert error_rate(talk.turns, turns_of(talk.bursts, RATE)).rate == 0.0
        assert set(talk.said) == set("abc") and talk.said["c"][:2] == ["c", "says"]
        assert sum(map(len, talk.said.values())) > 2 * len(talk.turns)
    pool.transcripts["a"] = [""] * 60
    assert next(scoring.talks(pool, 3, 120.0, 1, seed=1)).said is None
    first, again = (next(scoring.talks(pool, 2, 60.0, 1, seed=2)) for _ in range(2))
    assert first.turns == again.turns and np.array_equal(first.samples, again.samples)
    with pytest.raises(UsageError, match="3 speakers, too few for talks of 4"):
        next(scoring.talks(pool, 4, 60.0, 1, seed=0))


def test_the_command(tmp_path, monkeypatch, capfd):
    """Voices of voices.py, each in a band of its own: by their loudest frequency they are told apart."""
    from tools import run_command
    from voices import corpus

    from slyther_cli.transcription import diarization

    def by_pitch(rate, device):
        def embed(x):
            spectrum = np.abs(np.fft.rfft(x))
            pitch = spectrum.argmax() * rate / len(x)
            return np.eye(4)[int(np.searchsorted((140, 600, 1750), pitch))]

        return embed

    monkeypatch.setattr(diarization, "embedder", by_pitch)
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    manifest = corpus(tmp_path / "speech", splits=("test",), each=25)
    asked = ("eval", "diarization", "--manifest", str(manifest), "--true-activity", "--minutes", "1")
    code, out, err = run_command(capfd, *asked, "--speakers-in-talk", "2,4", "--talks", "2", "--json")
    assert code == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    assert [e["event"] for e in events] == ["example"] * 4 + ["summary"]
    rows = events[-1]["rows"]
    assert [(row["speakers"], row["known"]) for row in rows] == [(2, True), (2, False), (4, True), (4, False)]
    for row in rows:
        assert row["der"]["value"] < 0.05 and row["missed"] == 0 and row["right_number"] == 1
        assert row["der"]["low"] <= row["der"]["value"] <= row["der"]["high"] and row["talks"] == 2
    code, out, _ = run_command(capfd, *asked, "--speakers-in-talk", "2", "--talks", "1")
    assert code == 0 and out.splitlines()[0].split()[0] == "speakers" and "known" in out and "auto" in out
    for wrong, why in (("9", "4 speakers, too few for talks of 9"), ("0", "of one speaker or more")):
        code, _, err = run_command(capfd, *asked, "--speakers-in-talk", wrong)
        assert code == 2 and why in err
