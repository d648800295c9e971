"""Whose a word is: what leaks from one voice into the other is written once, and overlapping speech twice."""

import json
from itertools import permutations

import numpy as np
import pytest
import soundfile as sf
import tones
from tones import transcribed

from slyther_cli.decode.words import Word
from slyther_cli.separation import job as separation
from slyther_cli.separation.balance import Balance
from slyther_cli.transcription.attribution import Attribution, Levels, Nearby, alike

RATE = 16_000


def words(text, times):
    return [Word(t, int(a * RATE), int(b * RATE), 0.9) for t, (a, b) in zip(text.split(), times, strict=True)]


def stem(path, loud, seconds=4.0, rate=RATE):
    """A tone whose level in dB is given by (from, to, dB); else -90 dB."""
    t = np.arange(round(seconds * rate)) / rate
    level = np.full(len(t), -90.0)
    for start, end, db in loud:
        level[round(start * rate) : round(end * rate)] = db
    sf.write(path, 10 ** (level / 20) * np.sin(2 * np.pi * 300 * t), rate, subtype="FLOAT")
    return path


def owned(tmp_path, loud, said, rate=RATE):
    paths = [stem(tmp_path / f"{i}.wav", levels, rate=rate) for i, levels in enumerate(loud)]
    levels = [Levels(path, RATE) for path in paths]
    owner = Attribution(levels, [lambda one=one: iter(one) for one in said], RATE)
    found = [[word.text for word in owner.own(i)] for i in range(len(said))]
    for one in levels:
        one.close()
    return found, owner


TIMES = [(0.2, 0.6), (1.0, 1.5), (2.0, 2.6)]


@pytest.mark.parametrize("rate", [8000, RATE, 44_100])
def test_leaked_speech_is_of_the_louder_stem(tmp_path, rate):
    loud = [(0, 1.6, -20), (1.9, 2.7, -45)], [(0, 1.6, -45), (1.9, 2.7, -20)]
    said = words("one day later", TIMES), words("on they letter", TIMES)
    found, owner = owned(tmp_path, loud, said, rate)
    assert found == [["one", "day"], ["letter"]] and owner.leaked == 3
    assert owner.note().startswith("3 words were left out")


def test_overlapping_speech_stays(tmp_path):
    loud = [(0, 3, -20)], [(0, 3, -26)]
    found, owner = owned(tmp_path, loud, (words("one two three", TIMES), words("far sky blue", TIMES)))
    assert found == [["one", "two", "three"], ["far", "sky", "blue"]] and owner.note() is None


def test_one_of_two_like_words_stays_though_their_spans_differ(tmp_path):
    """Each is louder where the other stem has the word; over both spans the first one is."""
    loud = [(0.0, 1.0, -30), (1.0, 2.0, -20)], [(0.0, 1.0, -26), (1.0, 2.0, -24)]
    said = words("hello", [(0.3, 0.9)]), words("hallo", [(0.95, 1.9)])
    found, owner = owned(tmp_path, loud, said)
    assert found == [["hello"], []] and owner.leaked == 1


def test_equally_loud_twins_are_said_once(tmp_path):
    loud = [(0, 3, -20)], [(0, 3, -20)], [(0, 3, -20)]
    found, _ = owned(tmp_path, loud, (words("yes", [(1, 2)]),) * 3)
    assert found == [["yes"], [], []]


def test_nearby_words_are_those_around(tmp_path):
    many = words(" ".join("abcdefgh"), [(i, i + 0.5) for i in range(8)])
    nearby = Nearby(iter(many), 1600)
    for word, wanted in (
        ((0, 0.2), "a"),
        ((1.55, 1.95), "bc"),
        ((3.7, 3.8), ""),
        ((5, 6.5), "fg"),
        ((9, 9), ""),
    ):
        assert "".join(w.text for w in nearby.of(words("x", [word])[0])) == wanted


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("hello", "hallo", True),
        ("going", "goin", True),
        ("a", "a", True),
        ("yes", "no", False),
        ("a", "b", False),
    ],
)
def test_alike(one, other, same):
    assert alike(one, other) == alike(other, one) == same


# The command, with a separation that leaks


def edits(one, other):
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(last + (a != b), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def cpwer(references, hypotheses):
    """The concatenated-permutation word error rate: of all pairings of speakers the best."""
    total = sum(map(len, references))
    return min(sum(map(edits, references, order)) for order in permutations(hypotheses)) / total


@pytest.fixture
def leaking(place, monkeypatch):
    """Two who speak in turn: the second stem begins; each has the other 14 dB lower, as loud as before."""
    texts, at, sound = ("bad bead hide", "all deal", "dial", "hello abide"), 8000, np.zeros((2, 20 * RATE))
    for turn, text in enumerate(texts):
        x, _ = tones.spoken(text)
        sound[1 - turn % 2, at : at + len(x)] += x
        sound[turn % 2, at : at + len(x)] += 0.2 * x
        at += len(x) + RATE
    stems = sound.astype(np.float32)[:, : at + RATE]
    sf.write("talk.wav", stems.sum(axis=0), RATE, subtype="FLOAT")

    def stems_of(self, name, file, reader, outputs, turn):
        for path, x in zip(outputs.values(), stems, strict=True):
            sf.write(path, x, RATE, subtype="FLOAT")
        return separation.SeparationResult(name, "done", outputs, RATE, stems.shape[1])

    monkeypatch.setattr(separation.Separation, "compute", stems_of)
    return texts


def test_what_leaks_is_written_once_and_who_begins_is_s1(capfd, leaking):
    code, out, err = transcribed(capfd, "talk.wav", "--separate", "--json")
    rows = [e for e in map(json.loads, out.splitlines()) if e["event"] == "segment"]
    said = {"S1": [], "S2": []}
    for row in rows:
        said[row["speaker"]] += row["text"].split()
    references = [(leaking[0] + " " + leaking[2]).split(), (leaking[1] + " " + leaking[3]).split()]
    assert code == 0 and cpwer(references, said.values()) == 0
    assert list(said.values()) == references and [row["id"] for row in rows] == list(range(4))
    assert [row["speaker"] for row in rows] == ["S1", "S2", "S1", "S2"]
    assert "8 words were left out of a voice" in err
    for form in ("txt", "srt", "vtt", "tsv", "json"):
        code, out, _ = transcribed(capfd, "talk.wav", "--separate", "-f", form)
        often = 3 if form == "json" else 1  # in the whole text, in a segment, in its words
        assert code == 0 and all(out.count(word) == often for word in ("bead", "deal", "dial", "abide"))


def test_with_words_left_out_of_json_the_rule_is_the_same(capfd, leaking):
    _, out, _ = transcribed(capfd, "talk.wav", "--separate", "--json", "--word_timestamps", "False")
    rows = [e for e in map(json.loads, out.splitlines()) if e["event"] == "segment"]
    assert [row["text"].strip() for row in rows] == list(leaking) and "words" not in rows[0]


# A stem that is nearly empty


def test_a_nearly_empty_stem_is_reported():
    rng = np.random.default_rng(0)
    for below, told in ((10, False), (19, False), (21, True), (60, True)):
        balance = Balance(2)
        for _ in range(5):
            x = rng.standard_normal((2, 4000)).astype(np.float32)
            balance.add(1e-3 * x * np.array([[10 ** (-below / 20)], [1]], np.float32))
        assert (balance.note() is not None) == told
    assert balance.note().startswith("1 of 2 stems is nearly empty: fewer than 2 people speak, or several")


def test_silence_is_not_reported():
    balance = Balance(2)
    balance.add(np.zeros((2, 100), np.float32))
    assert balance.note() is None
