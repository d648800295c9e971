"""The concatenated minimum-permutation WER: by hand, by all permutations, by meeteval; and its files."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import rendered, run_command

from slyther_cli.errors import InputError
from slyther_cli.research.evaluation.cpwer import score_sessions, speaker_errors
from slyther_cli.research.evaluation.metrics import edits
from slyther_cli.research.evaluation.speaker_transcripts import NOBODY, read_sessions

TEXTS = st.dictionaries(
    st.sampled_from("ABCDE"), st.lists(st.sampled_from(["a", "b", "c"]), max_size=6), min_size=1
)
STM = """;; CATEGORY "0" "" ""
talk 1 Ann 0.0 2.5 <o,f0,female> Good morning, Ben.
talk 1 Ben 2.0 3.0 Good morning!

talk 1 Ann 7.0 9.0 It is nine forty-five.
talk 1 Ann 3.5 5.0 how are you
other 1 Cem 0 1
other 1 Dora 1 2 yes
"""
SEGLST = [
    {"session_id": "talk", "speaker": "S1", "start_time": 2.1, "end_time": 3, "words": "good morning"},
    {"session_id": "talk", "speaker": "S2", "start_time": "0.1", "end_time": "2", "words": "good morning"},
    {"session_id": "talk", "speaker": "S2", "start_time": 3, "end_time": 9, "words": "how are you it's 9:45"},
    {"session_id": "other", "speaker": "S1", "start_time": 0, "end_time": 2, "words": "oh yes"},
]


def by_permutations(reference, hypothesis):
    size = max(len(reference), len(hypothesis))
    said, heard = ([*x.values(), *[[]] * (size - len(x))] for x in (reference, hypothesis))
    return min(sum(map(edits, said, order)) for order in itertools.permutations(heard))


@given(TEXTS, TEXTS)
@settings(max_examples=80)
def test_no_permutation_is_better(reference, hypothesis):
    score = speaker_errors(reference, hypothesis)
    assert score.errors == by_permutations(reference, hypothesis)
    assert score.words == sum(map(len, reference.values()))
    assert sorted(a for a, _ in score.pairs if a) == sorted(reference)
    assert sorted(b for _, b in score.pairs if b) == sorted(hypothesis)
    paired = sum(edits(reference.get(a, []), hypothesis.get(b, [])) for a, b in score.pairs)
    assert paired == score.errors


def test_eight_speakers():
    rng = np.random.default_rng(0)
    said = {f"r{i}": rng.choice([*"abcdefgh"], 30).tolist() for i in range(8)}
    order = rng.permutation(8).tolist()
    heard = {f"h{j}": said[f"r{i}"][:-1] for j, i in enumerate(order)}
    score = speaker_errors(said, heard)
    assert (score.substitutions, score.deletions, score.insertions) == (0, 8, 0)
    assert set(score.pairs) == {(f"r{i}", f"h{j}") for j, i in enumerate(order)}


def test_one_speaker_found_in_place_of_two_and_two_in_place_of_one():
    score = speaker_errors({"Ann": ["a", "b", "c"], "Ben": ["d"]}, {"S1": ["a", "b", "d", "c"]})
    assert (score.substitutions, score.deletions, score.insertions) == (0, 1, 1)
    assert score.pairs == (("Ann", "S1"), ("Ben", None))
    score = speaker_errors({"Ann": ["a", "b", "c"]}, {"S1": ["a"], "S2": ["b", "c"]})
    assert (score.deletions, score.insertions) == (1, 1) and set(score.pairs) == {("Ann", "S2"), (None, "S1")}


@given(TEXTS, TEXTS)
@settings(max_examples=40)
def test_as_meeteval_has_it(reference, hypothesis):
    wer = pytest.importorskip("meeteval.wer", reason="needs meeteval (pip install meeteval)")
    score = speaker_errors(reference, hypothesis)
    other = wer.cp_word_error_rate(
        *({who: " ".join(words) for who, words in x.items()} for x in (reference, hypothesis))
    )
    assert (other.errors, other.length) == (score.errors, score.words)


# Files


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref.stm").write_text(STM)
    (tmp_path / "hyp.json").write_text(json.dumps(SEGLST))
    return tmp_path


def test_files_are_read_in_order_of_time(files):
    true = read_sessions([files / "ref.stm"])
    assert true == {
        "talk": {"Ann": "Good morning, Ben. how are you It is nine forty-five.", "Ben": "Good morning!"},
        "other": {"Cem": "", "Dora": "yes"},
    }
    found = read_sessions([files / "hyp.json"])
    assert found["talk"] == {"S2": "good morning how are you it's 9:45", "S1": "good morning"}
    rows, total = score_sessions(true, found)
    assert [row["session"] for row in rows] == ["other", "talk"]
    # "ben" is lost, "it is" is "it's", "nine forty five" is the same; "oh" is too much
    talk = {"words": 13, "substitutions": 1, "deletions": 2, "insertions": 0, "cpwer": round(3 / 13, 4)}
    assert rows[1].items() >= talk.items()
    assert rows[1]["pairs"] == [["Ann", "S2"], ["Ben", "S1"]]
    assert rows[0]["cpwer"] == 1.0 and sorted(rows[0]["pairs"]) == [["Cem", None], ["Dora", "S1"]]
    assert total["cpwer"]["value"] == round(4 / 14, 4) and total["sessions"] == 2
    assert total["cpwer"]["low"] <= total["cpwer"]["value"] <= total["cpwer"]["high"]


def test_what_transcribe_writes_is_read(files):
    segments = [
        {"start": 0.0, "end": 1.0, "text": " Good morning.", "speaker": "S1", "words": []},
        {"start": 1.0, "end": 2.0, "text": " Yes.", "words": []},
    ]
    (files / "talk.json").write_text(rendered("json", segments))
    assert read_sessions([files / "talk.json"]) == {"talk": {"S1": " Good morning.", NOBODY: " Yes."}}


def test_the_command(files, capfd):
    asked = ("eval", "diarization", "--reference", "ref.stm", "--hypothesis", "hyp.json")
    code, out, err = run_command(capfd, *asked)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert lines[0][-1] == "%" and [line[0] for line in lines[1:]] == ["other", "talk", "all"]
    assert lines[2][1:] == ["2", "/", "2", "13", "1", "2", "0", "23.1"] and lines[3][5] == "28.6"
    code, out, _ = run_command(capfd, *asked, "--json")
    (event,) = map(json.loads, out.splitlines())
    assert code == 0 and event["event"] == "summary" and event["task"] == "eval_diarization"
    assert event["words"] == 14 and len(event["rows"]) == 2


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.stm", "talk 1 Ann 0.0\n", "line 1: not file, channel, speaker, start, end, words"),
        ("a.stm", "talk 1 Ann zero 1 yes\n", "line 1: start or end is no number"),
        ("a.stm", "talk 1 Ann 0 inf yes\n", "line 1: start or end is no number"),
        ("a.stm", "talk 1 Ann 0 1 { oh / o } yes\n", "is an instruction to sclite"),
        ("a.stm", ";; nothing\n", "no segment"),
        ("a.stm", b"talk 1 Ann 0 1 \xff\n", "utf-8"),
        ("a.txt", "yes", "neither .stm nor .json"),
        ("a.json", "{", "a.json"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.json", '{"text": "yes"}', "neither a list of segments nor"),
        ("a.json", "[7]", "segment 1 has no start_time or no words"),
        ("a.json", '[{"session_id": "a", "start_time": "x", "words": "a"}]', "segment 1 has no start_time"),
        ("a.json", '[{"session_id": 7, "start_time": 0, "words": "a"}]', "session_id and speaker are texts"),
        ("a.json", '[{"session_id": "x", "start_time": 0, "words": "a"}]', "session 'other' is only in the"),
    ],
)
def test_bad_files_are_one_line(files, capfd, name, text, why):
    (files / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    code, out, err = run_command(capfd, "eval", "diarization", "--reference", "ref.stm", "--hypothesis", name)
    assert code == 3 and out == "" and err.count("\n") == 1 and why in err


def test_what_cannot_be_compared(files, capfd):
    for asked, code, why in (
        (("--reference", "ref.stm"), 2, "go together"),
        (
            ("--hypothesis", "ref.stm", "--manifest", "x.tsv", "--reference", "ref.stm"),
            2,
            "without --manifest",
        ),
        ((), 2, "name the speech with --manifest, or transcripts"),
        (("--reference", "gone.stm", "--hypothesis", "hyp.json"), 3, "gone.stm"),
    ):
        got, _, err = run_command(capfd, "eval", "diarization", *asked)
        assert got == code and err.count("\n") == 1 and why in err
    with pytest.raises(InputError, match="no words"):
        score_sessions({"a": {"x": ""}}, {"a": {"y": "b"}})
