"""Live transcripts with marks, capitals and digits: what the whole text gives, 2 s later at most, in whatever
blocks the sound comes."""

import json

import numpy as np
import pytest
import tones
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from marks_tools import SMALL, save_marks, set_by_hand
from test_text_stream import ALPHABET, HOP, RATE, spoken
from tools import from_file_as_stdin

from slyther_cli.decode.ctc import GreedyDecoder
from slyther_cli.decode.native_beam import beam_decoder
from slyther_cli.decode.segments import Segmenter
from slyther_cli.decode.stream import STEP, TextStream, TimedTextStream
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.decode.words import Word, WordStream
from slyther_cli.jobs.setup import choose_model
from slyther_cli.models import registry
from slyther_cli.transcription.live import LiveReadable, MarkStream
from slyther_cli.transcription.options import SearchOptions
from slyther_cli.transcription.punctuate import Punctuator
from slyther_cli.transcription.readable import live_punctuator, punctuation_of
from slyther_cli.transcription.recogniser import Recogniser

TALK = "hello abide all deal"


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Causal recognisers of tones: "punctual", whose "marks-live" sees one word ahead, "alone", whose model
    for marks has none beside it, and "wrong", where that is not causal. "random" is a causal punctuator."""
    folder = tones.cache(tmp_path_factory.mktemp("cache"))
    tokenizer = SentencePieceTokenizer.train([TALK, "cab dob lead"] * 50, SMALL["vocab"])
    whole, live = {**SMALL}, {**SMALL, "causal": True, "look_ahead": 1}
    for name in ("marks", "others", "others-live", "single"):
        save_marks(folder, name, set_by_hand(whole, tokenizer, "abide"), whole, tokenizer)
    save_marks(folder, "marks-live", set_by_hand(live, tokenizer, "all"), live, tokenizer)
    for name, marks in (("punctual", "marks"), ("wrong", "others"), ("alone", "single")):
        tones.save(folder, name, causal=True, punctuation=marks)
    config = {**SMALL, "n_layers": 2, "causal": True, "look_ahead": 3}
    torch.manual_seed(1)
    network = registry.build("punctuator", config)
    with torch.no_grad():
        network.marks.weight.mul_(4), network.cases.weight.mul_(4)
    save_marks(folder, "random", network, config, tokenizer)
    return folder


@pytest.fixture(scope="session")
def punctuator(models):
    return Punctuator(models / "random")


@pytest.fixture
def place(tmp_path, monkeypatch, models):
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


# One word after the other

VOCABULARY = [*TALK.split(), "cab", "dob", "lead", "i", "o'clock", "дом", ""]


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(VOCABULARY), max_size=30))
def test_a_stream_of_words_is_marked_as_the_whole_text(punctuator, words):
    stream, done = MarkStream(punctuator), []
    for i, word in enumerate(words):
        done += stream.push(word)
        assert len(done) == max(0, i - 2)  # three wait
    assert done + stream.flush() == punctuator.restore(words)


@settings(max_examples=40, deadline=None)
@given(words=st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=12), count=st.integers(0, 3))
def test_what_is_decided_early_is_as_of_a_text_that_ends_there(punctuator, words, count):
    """Its marks are, but that no sentence must end; and later words are as if nothing had been hurried."""
    stream, done = MarkStream(punctuator), []
    for word in words:
        done += stream.push(word)
    count = min(count, len(words) - len(done))
    early = stream.decide(count)
    known = len(done) + count - (count == len(words) - len(done))
    assert len(early) == count and (done + early)[:known] == punctuator.restore(words)[:known]
    more = ["hello", "all", "deal", "cab", "dob"]
    late = [text for word in more for text in stream.push(word)] + stream.flush()
    whole = punctuator.restore(words + more)
    assert len(done + early + late) == len(whole)
    assert late[-len(more) + 1 :] == whole[-len(more) + 1 :]


def test_a_network_goes_on_from_its_state(punctuator):
    network, pieces = punctuator.network, torch.randint(0, SMALL["vocab"], (30,))
    with torch.inference_mode():
        whole = network(pieces[None])
    found, states = [], None
    for part in pieces.split([1, 0, 4, 11, 14]):
        *told, states = network.step(part, states)
        found.append(told)
    for logits, parts in zip(whole, zip(*found, strict=True), strict=True):
        assert torch.allclose(torch.cat(parts), logits[0], atol=1e-5)


# Words with times


def readable(punctuator):
    return LiveReadable(punctuator, Segmenter(RATE), list)


def said(text, start=0.0, step=0.4):
    """A word every ``step`` seconds, each half as long."""
    times = [round((start + i * step) * RATE) for i in range(len(text.split()))]
    return [
        Word(word, at, at + round(step * RATE / 2), 0.9, (i,))
        for i, (word, at) in enumerate(zip(text.split(), times, strict=True))
    ]


def test_a_word_waits_for_the_next_and_for_two_seconds_at_most(models):
    stream = readable(Punctuator(models / "marks-live"))
    hello, abide, all_, deal = said(TALK)
    assert stream.push([hello]) == [] and stream.preview([abide]).text == "hello abide"
    assert stream.push([abide]) == [] and stream.preview([]).text == "Hello abide"
    second = RATE
    assert stream.hear(second) == [] and stream.hear(3 * second - 1) == []
    assert stream.advance(3 * second - 1) == []  # 2.2 s of silence, but what ends there is not known
    (late,) = stream.hear(3 * second)
    assert late.text == "Hello abide" and (late.start, late.end) == (hello.start, abide.end)
    later = [word._replace(start=word.start + 3 * second, end=word.end + 3 * second) for word in (all_, deal)]
    assert stream.push(later) == [] and [one.text for one in stream.flush()] == ["all deal."]
    stream = readable(Punctuator(models / "marks-live"))  # now it comes in time
    assert stream.push([hello, abide]) + stream.hear(second) == []
    (first,) = stream.push(later)
    assert first.text == "Hello abide." and [one.text for one in stream.flush()] == ["All deal."]


def test_numbers_are_written_when_they_are_over(models):
    stream = readable(Punctuator(models / "marks-live"))
    words = said("we paid three hundred dollars at nine forty five a m")
    assert stream.push(words[:5]) == [] and stream.preview([]).text == "We paid three hundred dollars"
    done = stream.push(words[5:]) + stream.flush()
    assert " ".join(one.text for one in done) == "We paid $300 at 9:45 a.m."
    money = next(word for one in done for word in one.words if word.text == "$300")
    assert (money.start, money.end) == (words[2].start, words[4].end)


def test_what_is_little_like_speech_is_judged_as_it_was_spoken(models):
    """ "$300" has four letters, "three hundred dollars" nineteen."""
    kept = []

    def keep(segments):
        kept.extend(segments)
        return []

    stream = LiveReadable(Punctuator(models / "marks-live"), Segmenter(RATE), keep)
    words = said("three hundred dollars") + said("all deal", start=4.0)
    assert stream.push(words) + stream.flush() == []
    assert [one.text for one in kept] == ["three hundred dollars", "all deal"]


def streamed(log_probs, punctuator, beam, cuts=()):
    """Segments, and for each the frames heard when it came."""
    decoder = beam_decoder(beam, tokenizer=ALPHABET, max_delay=60) if beam else GreedyDecoder()
    words = WordStream(ALPHABET, HOP, offset=-HOP // 2, pause=20)
    text = TimedTextStream(decoder, words, readable(punctuator))
    found = []
    for part in np.split(log_probs, sorted(cuts)):
        found += [(one, text.frames) for one in text.push(part)]
    return found + [(one, text.frames) for one in text.flush(len(log_probs) * HOP)]


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    frames=st.integers(1, 700),
    beam=st.sampled_from([0, 0, 4]),
    cuts=st.lists(st.integers(0, 700), max_size=12),
)
def test_blocks_do_not_matter(punctuator, seed, frames, beam, cuts):
    log_probs = spoken(frames, seed)
    whole = streamed(log_probs, punctuator, beam, range(1, frames))
    for how in ([min(cut, frames) for cut in cuts], ()):
        assert [one for one, _ in streamed(log_probs, punctuator, beam, how)] == [one for one, _ in whole]


@pytest.mark.parametrize("beam", [0, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_pause_ends_a_segment_two_seconds_later_at_most(punctuator, seed, beam):
    log_probs = spoken(1500, seed)
    decoder = beam_decoder(beam, tokenizer=ALPHABET, max_delay=60) if beam else GreedyDecoder()
    text = TextStream(decoder, WordStream(ALPHABET, HOP, offset=-HOP // 2, pause=20), Segmenter(RATE))
    plain = [(one, i + 1) for i in range(1500) for one in text.push(log_probs[i : i + 1])]
    ends = {one.end: frame for one, frame in plain if not one.cut}
    marked = streamed(log_probs, punctuator, beam, range(1, 1500))
    later = [frame - ends[one.end] for one, frame in marked if one.end in ends]
    assert len(later) > 5 and max(later) <= 2.0 * RATE / HOP + 2 * STEP
    assert any(one.text != " ".join(w.text.lower() for w in one.words) for one, _ in marked)


# The command


def heard(capfd, monkeypatch, model, *how):
    from_file_as_stdin(monkeypatch, "talk.wav")
    return tones.transcribed(capfd, "-", "-m", model, *how)


def test_live_words_have_marks(capfd, monkeypatch, place):
    words = tones.record()
    code, out, err = heard(capfd, monkeypatch, "punctual", "-v")
    assert code == 0 and out == "Hello abide. All deal.\n"
    assert "marks and capitals by marks-live, numbers in digits: a word waits for 1 more" in err
    told = heard(capfd, monkeypatch, "punctual", "--json")[1]
    rows = [json.loads(line) for line in told.splitlines()]
    (segment,) = [row for row in rows if row["event"] == "segment"]
    assert segment["text"] == " Hello abide. All deal."
    starts = [word["start"] for word in segment["words"]]
    assert np.allclose(starts, [start for start, _ in words], atol=0.1)
    code, out, err = heard(capfd, monkeypatch, "punctual", "-v", "--plain")
    assert (code, out) == (0, TALK + "\n") and "marks" not in err


def test_of_a_file_the_whole_is_read(capfd, place):
    tones.record()
    code, out, err = tones.transcribed(capfd, "talk.wav", "-m", "punctual", "-v")
    assert (code, out) == (0, "Hello abide. All deal.\n") and "by marks, numbers" in err


def test_without_a_causal_model_live_words_are_plain(capfd, monkeypatch, place):
    tones.record()
    code, out, err = heard(capfd, monkeypatch, "alone", "-v")
    assert (code, out) == (0, TALK + "\n")
    assert "plain words: single-live, which writes marks and capitals live, is not on this machine" in err
    code, out, err = heard(capfd, monkeypatch, "live", "-v")
    assert (code, out) == (0, TALK + "\n") and "marks" not in err
    code, out, err = heard(capfd, monkeypatch, "wrong")
    assert (code, out) == (5, "") and err.count("\n") == 1 and "it must be causal" in err


@pytest.mark.parametrize("decode", ["greedy", "beam"])
def test_the_sound_may_come_in_any_blocks(place, decode):
    beam = {} if decode == "greedy" else {"beam": 4}
    live = Recogniser(
        choose_model("transcribe", "punctual", "live"), search=SearchOptions(decode=decode, **beam)
    )
    pause = np.zeros(round(1.3 * RATE), np.float32)
    parts = [tones.spoken("hello abide")[0], pause, tones.spoken("all deal")[0], *[pause] * 8]
    x, marks = np.concatenate(parts), live_punctuator(punctuation_of(live.config))
    found, shown = [], set()
    for cuts in ((), range(160, len(x), 160), np.random.default_rng(0).integers(0, len(x), 40)):
        heard = list(live.live(iter(np.split(x, sorted(cuts))), marks=marks))
        found.append([one for done, _ in heard for one in done])
        shown |= {partial.text for _, partial in heard if partial}
    assert [one.text for one in found[0]] == ["Hello abide.", "All deal"]
    assert decode == "beam" or {"hello abi", "Hello abide", "all dea", "All deal"} <= shown
    texts = [[(w.text, w.start, w.end) for one in segments for w in one.words] for segments in found]
    assert texts[0] == texts[1] == texts[2]
