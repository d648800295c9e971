"""Words into segments: where they break, and what holds for any words."""

import itertools
import math
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode.segments import Segmenter
from slyther_cli.decode.words import Word

RATE = 1000  # samples a second, so that samples are milliseconds


def spoken(text, *, start=0, length=300, gap=50, gaps=()):
    """Words of ``length`` ms, ``gap`` ms apart; ``gaps``: {index of a word: ms before it}."""
    words, gaps = [], dict(gaps)
    for i, word in enumerate(text.split()):
        start += gaps.get(i, gap if i else 0)
        words.append(Word(word, start, start + length, 0.5, (1, 2)))
        start += length
    return words


def texts(words, **options):
    segmenter = Segmenter(RATE, **options)
    return [one.text for one in segmenter.push(words) + segmenter.flush()]


anything = st.lists(
    st.builds(
        Word,
        st.text("abc.,", min_size=1, max_size=30),
        st.integers(0, 60_000),
        st.integers(0, 60_000),
        st.floats(0, 1),
        st.just((1,)),
        st.sampled_from([None, "S1"]),
    ),
    max_size=60,
)


@given(anything, st.booleans(), st.lists(st.integers(0, 60), max_size=5))
@settings(max_examples=100)
def test_any_words_give_ordered_segments_of_bounded_size(words, in_order, cuts):
    if in_order:
        words = sorted(words, key=lambda word: word.start)
    options = {"max_seconds": 5.0, "max_line_width": 20, "max_line_count": 2, "pause": 0.7}
    segmenter = Segmenter(RATE, **options)
    segments, last = [], 0
    for cut in [*sorted(cuts), len(words)]:
        segments += segmenter.push(words[last:cut])
        last = max(last, cut)
    segments += segmenter.flush()
    assert [word.text for one in segments for word in one.words] == [word.text for word in words]
    edges = [edge for one in segments for edge in (one.start, one.end)]
    assert edges == sorted(edges)
    for one in segments:
        assert 0 < one.end - one.start <= 5 * RATE
        assert len({word.speaker for word in one.words}) == 1
        lines = textwrap.wrap(one.text, 20, break_long_words=False, break_on_hyphens=False)
        assert len(one.words) == 1 or len(lines) <= 2
        assert all(b.start - a.end < 700 for a, b in itertools.pairwise(one.words))
    whole = Segmenter(RATE, **options)
    assert whole.push(words) + whole.flush() == segments


def test_well_behaved_times_are_left_alone():
    words = spoken("one two three four five six seven", gaps={3: 900})
    segmenter = Segmenter(RATE)
    segments = segmenter.push(words) + segmenter.flush()
    assert [word for one in segments for word in one.words] == words
    assert [one.text for one in segments] == ["one two three", "four five six seven"]


def test_a_segment_tells_whether_its_length_ended_it():
    segmenter = Segmenter(RATE, max_line_width=9, max_line_count=1)
    words = spoken("one two three four", gaps={3: 900})
    found = segmenter.push(words[:3]) + segmenter.advance(words[2].end + 900) + segmenter.push(words[3:])
    found += segmenter.flush()
    assert [(one.text, one.cut) for one in found] == [("one two", True), ("three", False), ("four", False)]


def test_a_pause_ends_a_segment():
    words = spoken("a b c d", gaps={2: 500})
    assert texts(words, pause=0.5) == ["a b", "c d"]
    assert texts(words, pause=0.501) == ["a b c d"]


def test_too_long_breaks_at_the_longest_gap_and_not_after_a_leaning_word():
    words = spoken("the cat sat on the mat and the dog ran far away", gap=0, gaps={6: 400})
    assert texts(words, max_line_width=40, max_line_count=1) == [
        "the cat sat on the mat",
        "and the dog ran far away",
    ]
    words = spoken("people came out of the old house slowly", gap=0)
    assert texts(words, max_line_width=20, max_line_count=1)[0] == "people came out"


def test_sentences_end_segments_once_they_fill_half_a_line():
    words = spoken("yes. this sentence is a good long one. and more", gap=10)
    assert texts(words, max_seconds=60) == ["yes. this sentence is a good long one.", "and more"]


def test_half_past_nine_ends_a_sentence_only_before_a_capital():
    words = spoken("we leave the old house at 9:30 a.m. and go home", gap=10, length=100)
    assert texts(words) == ["we leave the old house at 9:30 a.m. and go home"]
    words = spoken("we leave the old house at 9:30 a.m. Then we go home", gap=10, length=100)
    assert texts(words) == ["we leave the old house at 9:30 a.m.", "Then we go home"]


@pytest.mark.parametrize("kept", ["9:30 a.m.", "$2 million", "May 2"])
def test_lines_do_not_part_times_sums_and_dates(kept):
    words = spoken(f"we all saw the old house {kept} of it", gap=0, length=100)
    first, _ = texts(words, max_line_width=26 + kept.index(" "), max_line_count=1)
    assert first == "we all saw the old house"


def test_a_long_word_is_cut_to_the_longest_cue():
    segmenter = Segmenter(RATE, max_seconds=2.0)
    (one,) = segmenter.push([Word("aah", 500, 60_000, 1.0)]) + segmenter.flush()
    assert (one.start, one.end) == (500, 2500)


def test_only_seconds_limit_when_lines_are_off():
    words = spoken(" ".join(["word"] * 100), length=100, gap=0)
    assert [len(t.split()) for t in texts(words, max_seconds=5, max_line_width=None)] == [50, 50]


def test_as_whispers_json_has_it():
    words = (Word("hello", 1234, 1500, 0.5, (1, 2), "S2"), Word("you", 1600, 1700, 1.0, (3,), "S2"))
    segmenter = Segmenter(48_000)
    (one,) = segmenter.push(words) + segmenter.flush()
    found = one.as_dict(4, 48_000)
    assert found.pop("avg_logprob") == pytest.approx(2 / 3 * math.log(0.5))
    assert 0 < found.pop("compression_ratio") < 2
    assert found == {
        "id": 4, "seek": 0, "start": 0.026, "end": 0.035, "text": " hello you", "tokens": [1, 2, 3],
        "temperature": 0.0, "no_speech_prob": 0.0, "speaker": "S2",
        "words": [
            {"word": " hello", "start": 0.026, "end": 0.031, "probability": 0.5},
            {"word": " you", "start": 0.033, "end": 0.035, "probability": 1.0},
        ],
    }  # fmt: skip
    assert list(one.as_dict(0, 48_000, words=False)) == [
        "id", "seek", "start", "end", "text", "tokens", "temperature", "avg_logprob", "compression_ratio",
        "no_speech_prob", "speaker",
    ]  # fmt: skip


def test_senseless_options():
    for options in ({"max_seconds": 0}, {"max_line_width": 0}, {"pause": -1}):
        with pytest.raises(ValueError, match="must be"):
            Segmenter(RATE, **options)
