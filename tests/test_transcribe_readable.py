"""Transcripts as people write them: marks, capitals and digits on words whose times stay."""

import json
from pathlib import Path

import numpy as np
import pytest
import tones
from marks_tools import SMALL, save_marks, set_by_hand

from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.decode.words import Word
from slyther_cli.transcription.readable import Readable

RATE = 16_000


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The models that hear tones, and "punctual": one of them that names a network for marks, which ends a
    sentence after "abide" and nowhere else."""
    folder = tones.cache(tmp_path_factory.mktemp("cache"))
    tokenizer = SentencePieceTokenizer.train(["hello abide all deal", "cab dob lead"] * 50, SMALL["vocab"])
    save_marks(folder, "marks", set_by_hand(SMALL, tokenizer, "abide"), SMALL, tokenizer)
    tones.save(folder, "punctual", punctuation="marks")
    tones.save(folder, "lost", punctuation="nowhere")
    tones.save(folder, "wrong", punctuation="tones")
    tones.save(folder, "odd", punctuation=7)
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


def words_of(capfd, *args):
    code, _, err = tones.transcribed(capfd, "talk.wav", "-f", "json", "-o", "out", "--force", *args)
    assert code == 0, err
    found = json.loads(Path("out/talk.json").read_text())
    return found["text"].split(), [w for s in found["segments"] for w in s["words"]]


def test_a_transcript_has_sentences_and_plain_is_as_recognised(capfd):
    tones.record()
    plain, spoken = words_of(capfd, "-m", "punctual", "--plain")
    text, written = words_of(capfd, "-m", "punctual")
    assert plain == words_of(capfd, "-m", "tones")[0] == ["hello", "abide", "all", "deal"]
    assert text == ["Hello", "abide.", "All", "deal."]
    assert [(w["start"], w["end"], w["probability"]) for w in written] == [
        (w["start"], w["end"], w["probability"]) for w in spoken
    ]


def test_empty_lines_part_paragraphs_where_sentences_end(capfd):
    parts = [tones.spoken(text, RATE)[0] for text in ("hello abide", "all deal")]
    tones.record(x=np.concatenate([parts[0], np.zeros(2 * RATE, np.float32), parts[1]]))
    for how, expected in (
        (("-m", "punctual"), "Hello abide.\n\nAll deal.\n"),
        (("-m", "punctual", "--plain"), "hello abide\nall deal\n"),
        (("-m", "tones"), "hello abide\nall deal\n"),
    ):
        code, out, err = tones.transcribed(capfd, "talk.wav", *how)
        assert code == 0 and out == expected, err
        assert tones.transcribed(capfd, "talk.wav", *how, "-o", "out", "--force")[0] == 0
        assert Path("out/talk.txt").read_text() == expected


def test_every_voice_is_read_by_itself(capfd):
    x, _ = tones.spoken("hello abide all deal", RATE)
    y, _ = tones.spoken("all deal", RATE)
    tones.record(x=np.stack([x, np.pad(y, (0, len(x) - len(y)))], 1))
    code, _, err = tones.transcribed(
        capfd, "talk.wav", "-m", "punctual", "--channel", "each", "-f", "json", "-o", "out"
    )
    assert code == 0, err
    said = {}
    for segment in json.loads(Path("out/talk.json").read_text())["segments"]:
        said[segment["speaker"]] = said.get(segment["speaker"], "") + segment["text"]
    assert said == {"S1": " Hello abide. All deal.", "S2": " All deal."}


def test_the_plan_tells_of_it(capfd):
    tones.record()
    for more, told in ((), True), (("--plain",), False):
        _, _, err = tones.transcribed(capfd, "talk.wav", "-m", "punctual", "--dry-run", *more)
        assert ("marks and capitals by marks" in err) is told


@pytest.mark.parametrize(
    ("model", "told"),
    [("lost", "nowhere"), ("wrong", "tones"), ("odd", "punctuation is 7, not the name of a model")],
)
def test_a_model_for_marks_that_cannot_be_is_one_line(capfd, model, told):
    tones.record()
    code, out, err = tones.transcribed(capfd, "talk.wav", "-m", model)
    assert code == 5 and out == "" and err.count("\n") == 1 and told in err
    assert tones.transcribed(capfd, "talk.wav", "-m", model, "--plain")[0] == 0


def test_numbers_are_single_words_with_the_times_of_all_that_was_said(models):
    readable = Readable(str(models / "marks"), lambda: Segmenter(RATE))
    said = [
        "we",
        "met",
        "at",
        "nine",
        "forty",
        "five",
        "a",
        "m",
        "and",
        "paid",
        "three",
        "hundred",
        "dollars",
    ]
    words = [Word(w, i * RATE // 2, i * RATE // 2 + 4000, 0.5, (i,)) for i, w in enumerate(said)]
    segments = list(readable([Segment(tuple(words[:5])), Segment(tuple(words[5:]))]))
    found = {word.text: word for segment in segments for word in segment.words}
    assert " ".join(found) == "We met at 9:45 a.m. and paid $300."
    time, money = found["9:45"], found["$300."]
    assert (time.start, money.start, money.end) == (words[3].start, words[10].start, words[12].end)
    assert list(readable([])) == []
