"""Words where nobody speaks are left out: neither sure nor dense. What goes is told."""

import numpy as np
import pytest
import tones
from hypothesis import given
from hypothesis import strategies as st
from tones import make, run

from slyther_cli.text import likely
from slyther_cli.text.likely import DENSE, SURE, Likely, like_speech
from slyther_cli.text.segments import Segment
from slyther_cli.text.words import Word

RATE = 16_000
SAID = ["hello", "abide", "all"]


def segment(words, seconds, start=0.0):
    """Of (text, probability) pairs, evenly over ``seconds``."""
    edges = np.linspace(start, start + seconds, len(words) + 1) * RATE
    return Segment(
        tuple(
            Word(text, int(a), int(b), p)
            for (text, p), a, b in zip(words, edges[:-1], edges[1:], strict=True)
        )
    )


words = st.lists(st.tuples(st.text("abc", min_size=1, max_size=9), st.floats(0, 1)), min_size=1, max_size=20)


@given(words, st.floats(0.05, 7))
def test_sure_or_dense_is_speech(pairs, seconds):
    one = segment(pairs, seconds)
    letters = sum(len(text) for text, _ in pairs)
    sure = sum(len(text) * p for text, p in pairs) / letters
    dense = letters / (seconds + 0.8)
    if abs(sure - SURE) > 1e-6 and abs(dense - DENSE) > 1e-3:
        assert like_speech(one, RATE) == (sure > SURE or dense > DENSE)
    moved = segment(pairs, seconds, start=86_400)
    assert like_speech(moved, RATE) == like_speech(one, RATE) or abs(dense - DENSE) < 0.01


def test_what_goes_is_counted():
    speech, music = segment([("hello", 0.9), ("all", 0.9)], 1), segment([("a", 0.4), ("ay", 0.5)], 2, start=7)
    parting = Likely(RATE)
    assert parting.note() is None
    assert parting.of([speech, music, speech]) == [speech, speech]
    assert parting.of([music]) == []
    assert "4 words were left out, the first at 7 s" in parting.note()
    everything = Likely(RATE, everything=True)
    assert everything.of([music]) == [music] and everything.note() is None


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tones.cache(tmp_path_factory.mktemp("cache"))


def test_the_command_tells_it_and_can_keep_them(tmp_path, monkeypatch, models, capfd):
    monkeypatch.setattr(likely, "SURE", 1.1)
    monkeypatch.setattr(likely, "DENSE", 2.0)
    with tones.at_home(tmp_path, monkeypatch, models):
        said, _ = tones.spoken("hello abide all")
        lonely, _ = tones.spoken("a")
        make(x=np.concatenate([said, np.zeros(3 * RATE, np.float32), lonely, np.zeros(RATE, np.float32)]))
        for model in ("tones", "live"):
            code, out, err = run(capfd, "talk.wav", "-m", model)
            assert code == 0 and out.split() == SAID
            assert "1 word was left out, the first at 5 s" in err
            assert run(capfd, "talk.wav", "-m", model, "--all-words")[1].split() == [*SAID, "a"]
