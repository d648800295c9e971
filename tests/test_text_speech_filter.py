"""Words where nobody speaks are left out: neither sure nor dense. What goes is told."""

import numpy as np
import pytest
import tones
from hypothesis import given
from hypothesis import strategies as st
from tones import record, transcribed

from slyther_cli.decode import speech_filter
from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.speech_filter import DENSE, SURE, SpeechFilter
from slyther_cli.decode.words import Word

RATE = 16_000
SAID = ["hello", "abide", "all"]


def like_speech(segment):
    """Of a segment that stands alone."""
    return SpeechFilter(RATE).keep([segment]) == [segment]


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
        assert like_speech(one) == (sure > SURE or dense > DENSE)
    moved = segment(pairs, seconds, start=86_400)
    assert like_speech(moved) == like_speech(one) or abs(dense - DENSE) < 0.01


def test_what_goes_is_counted():
    speech, music = segment([("hello", 0.9), ("all", 0.9)], 1), segment([("a", 0.4), ("ay", 0.5)], 2, start=7)
    parting = SpeechFilter(RATE)
    assert parting.note() is None
    assert parting.keep([speech, music, speech]) == [speech, speech]
    assert parting.keep([music]) == []
    assert "4 words were left out, the first at 7 s" in parting.note()
    everything = SpeechFilter(RATE, everything=True)
    assert everything.keep([music]) == [music] and everything.note() is None


def spoken(pairs, start=0.0, letter=0.19, gap=0.05):
    """Words of (text, probability), ``letter`` seconds a letter."""
    found = []
    for text, p in pairs:
        end = start + letter * len(text)
        found.append(Word(text, round(start * RATE), round(end * RATE), p))
        start = end + gap
    return found


def kept(said, **layout):
    """The words that are left of all."""
    segmenter, parting = Segmenter(RATE, **layout), SpeechFilter(RATE)
    segments = [one for word in said for one in segmenter.push([word])] + segmenter.flush()
    return [word for one in segments for word in parting.keep([one])], segments


@pytest.mark.parametrize("width", [8, 20])
def test_the_width_of_lines_loses_no_words(width):
    """Speech of which not every line is dense or sure by itself."""
    pairs = [("which", 0.8), ("brought", 0.7), ("them", 0.9), ("nearer", 0.3), ("still", 0.5), ("so", 0.4)]
    said = spoken(pairs)
    (whole,), _ = kept(said)
    lines, segments = kept(said, max_line_width=width, max_line_count=1)
    assert [word for one in lines for word in one.words] == said == [*whole.words]
    assert not all(like_speech(one) for one in segments)


def test_a_pause_begins_anew():
    """What was said before it does not count, nor what another voice said."""
    sure, not_sure = spoken([("nearer", 0.9)] * 3), [("it", 0.3), ("was", 0.3)]
    last = sure[-1].end / RATE
    for gap, left in ((0.79, 2), (0.81, 1)):
        after = Segment(tuple(spoken(not_sure, last + gap, letter=0.5)))
        assert len(SpeechFilter(RATE).keep([Segment(tuple(sure), cut=True), after])) == left
    other = Segment(tuple(word._replace(speaker="S2") for word in spoken(not_sure, last + 0.1, letter=0.5)))
    assert len(SpeechFilter(RATE).keep([Segment(tuple(sure)), other])) == 1


@given(words, words, st.floats(0.5, 7), st.floats(0.5, 7), st.floats(0, 2), st.booleans())
def test_what_passes_alone_passes_anywhere(first, second, a, b, gap, cut):
    one, two = segment(first, a), segment(second, b, start=a + gap)
    passed = SpeechFilter(RATE).keep([one._replace(cut=cut), two])
    assert all(part in [x._replace(cut=False) for x in passed] for part in (one, two) if like_speech(part))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return tones.cache(tmp_path_factory.mktemp("cache"))


def test_the_command_tells_it_and_can_keep_them(tmp_path, monkeypatch, models, capfd):
    monkeypatch.setattr(speech_filter, "SURE", 1.1)
    monkeypatch.setattr(speech_filter, "DENSE", 2.0)
    with tones.at_home(tmp_path, monkeypatch, models):
        said, _ = tones.spoken("hello abide all")
        lonely, _ = tones.spoken("a")
        record(x=np.concatenate([said, np.zeros(3 * RATE, np.float32), lonely, np.zeros(RATE, np.float32)]))
        for model in ("tones", "live"):
            code, out, err = transcribed(capfd, "talk.wav", "-m", model)
            assert code == 0 and out.split() == SAID
            assert "1 word was left out, the first at 5 s" in err
            assert transcribed(capfd, "talk.wav", "-m", model, "--all-words")[1].split() == [*SAID, "a"]
