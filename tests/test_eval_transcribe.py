"""`slyther eval transcribe`: rates against their definition, joins, intervals, the command."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tones
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import run_command

from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.evaluation.recognition import (
    Item,
    compare,
    evaluate_recognition,
    join,
    ratio_interval,
    read_items,
    score_text,
    summarise,
)
from slyther_cli.research.language.corpus import as_recognised
from slyther_cli.research.studies import whisper_reference

words = st.lists(st.sampled_from(["ab", "cd", "efg", "h"]), max_size=7)


pytestmark = pytest.mark.usefixtures("place")


def corpus(sayings, name="manifest.tsv", extra=""):
    """Recordings of (speaker, text) as tones, in a manifest."""
    lines = ["path\tspeaker\tsplit\ttranscript" + ("\tnormalized" if extra else "")]
    for i, (speaker, text) in enumerate(sayings):
        pause = np.zeros(round(tones.GAP * tones.RATE), np.float32)
        said = [tones.spoken(text)[0], pause, tones.beep(" "), pause]  # ends with a space, for joins
        sf.write(f"{speaker}-{i}.wav", np.concatenate(said), tones.RATE)
        lines.append(f"{speaker}-{i}.wav\t{speaker}\ttest\t{text.upper()}." + (f"\t{extra}" if extra else ""))
    with open(name, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    return Path(name)


def distance(a, b):
    """Levenshtein's, by recursion over tables."""
    rows = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, rows[0] = rows[0], i
        for j, y in enumerate(b, 1):
            above, rows[j] = rows[j], min(rows[j] + 1, rows[j - 1] + 1, above + (x != y))
    return rows[-1]


@given(words.filter(bool), words)
@settings(max_examples=60)
def test_errors_are_the_least_edits(said, heard):
    score = score_text(Item((), " ".join(said), ""), " ".join(heard), 1.0, 0.0, 0.0, 0)
    assert score.errors == distance(said, heard) and score.words == len(said)
    assert score.slips == distance(" ".join(said), " ".join(heard)) and score.characters == len(
        " ".join(said)
    )
    assert score.words - score.edits["deletions"] + score.edits["insertions"] == len(heard)


class Fixed:
    """Hears what it is told to, whatever sounds."""

    name, rate = "fixed", tones.RATE

    def __init__(self, *texts):
        self.texts = iter(texts)

    def __call__(self, samples):
        return next(self.texts)


def test_rates_are_all_edits_over_all_words():
    manifest = corpus([("ann", "hello abide"), ("bob", "all deal hello")])
    events = []
    (row,) = evaluate_recognition([Fixed("Hello, abode!", "deal hello")], [manifest], on_event=events.append)
    assert row["wer"]["value"] == pytest.approx(100 * 2 / 5)
    assert row["cer"]["value"] == pytest.approx(100 * (1 + 4) / (11 + 14))
    assert (row["substitutions"], row["deletions"], row["insertions"]) == (1, 1, 0)
    assert (row["items"], row["speakers"], row["words"], row["interval_over"]) == (2, 2, 5, "items")
    assert row["wer"]["low"] <= row["wer"]["value"] <= row["wer"]["high"]
    assert [event["said"] for event in events] == ["hello abide", "all deal hello"]
    assert row["seconds"] == pytest.approx(sum(event["seconds"] for event in events))
    assert row["cpu_per_second"] >= 0 and row["peak_extra_bytes"] >= 0


def test_references_and_results_are_normalised_alike():
    """Numbers, titles, marks and capitals count for nothing; the column normalized is preferred."""
    manifest = corpus([("ann", "all")], extra="Mr. Bell paid 21 dollars & left—don't!")
    (row,) = evaluate_recognition([Fixed("mister BELL paid twenty-one dollars and left don’t")], [manifest])
    assert row["wer"]["value"] == 0 and row["words"] == 9
    assert as_recognised("It was 9 a.m. when 2 of the AAA came at 10:30 A.M. Ay, sir!") == (
        "it was nine a m when two of the a a a came at ten thirty a m ay sir"
    )


def items(count):
    return [Item((f"{i}.wav",), f"w{i}", f"s{i // 4}") for i in range(count)]


@given(st.lists(st.floats(0.5, 200), min_size=1, max_size=40), st.sampled_from([1, 5, 20]))
@settings(max_examples=80)
def test_joins_hold_every_utterance_once(seconds, minutes):
    singles = items(len(seconds))
    joined = join(singles, seconds, minutes)
    assert [path for item in joined for path in item.paths] == [item.paths[0] for item in singles]
    assert " ".join(item.text for item in joined) == " ".join(item.text for item in singles)
    lengths = dict(zip((item.paths[0] for item in singles), seconds, strict=True))
    totals = [sum(lengths[path] for path in item.paths) for item in joined]
    assert all(total >= 30 * minutes for total in totals) or len(joined) == 1
    for item, total in zip(joined, totals, strict=True):  # none goes on after it is long enough
        if item is not joined[-1]:
            assert total - lengths[item.paths[-1]] < 60 * minutes


def test_utterances_come_in_their_natural_order():
    for i in (10, 9, 1):
        sf.write(f"b-{i}.wav", np.zeros(800), 16_000)
    sf.write("a-2.wav", np.zeros(800), 16_000)
    rows = [f"b-{i}.wav\tb\ttest\tt" for i in (10, 9, 1)]
    rows += ["a-2.wav\ta\ttest\tt", "x.wav\ta\ttrain\tt", "y.wav\ta\ttest\t"]
    with open("m.tsv", "w") as file:
        file.write("\n".join(["path\tspeaker\tsplit\ttranscript", *rows]))
    assert [item.name for item in read_items(Path("m.tsv"), "test")] == ["a-2", "b-1", "b-9", "b-10"]
    assert [item.name for item in read_items(Path("m.tsv"), "test", 2)] == ["a-2", "b-9"]
    with pytest.raises(InputError, match="no utterance with a transcript in split 'dev'"):
        read_items(Path("m.tsv"), "dev")


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Of samples drawn from a known rate, and speakers are varied where there are enough."""
    rng = np.random.default_rng(0)
    hits = 0
    for seed in range(60):
        wrong = rng.binomial(20, 0.3, size=40)
        low, high = ratio_interval(np.stack([wrong, np.full(40, 20)], 1), seed)
        hits += low <= 0.3 <= high
    assert 51 <= hits <= 60
    scores = [
        score_text(Item((), "a b", f"s{i % 9}"), "a b" if i % 9 else "a", 1.0, 0.0, 0.0, 0) for i in range(18)
    ]
    report = summarise(scores)
    assert report["interval_over"] == "speakers" and report["speakers"] == 9
    assert report["wer"]["low"] == 0 and report["wer"]["high"] > report["wer"]["value"]


def scored(item, errors):
    """As many of an item's ten words wrong."""
    said = " ".join(f"w{i}" for i in range(10))
    return score_text(item, " ".join(["x"] * errors + said.split()[errors:]), 1.0, 0.0, 0.0, 0)


def test_a_paired_interval_is_of_the_difference():
    """What is hard for both systems counts for neither; unpaired intervals of these two would overlap."""
    rng, items = (
        np.random.default_rng(1),
        [Item((Path(str(i)),), " ".join(f"w{i}" for i in range(10)), f"s{i % 3}") for i in range(60)],
    )
    hard = rng.integers(0, 9, 60)
    first = [scored(item, int(n)) for item, n in zip(items, hard, strict=True)]
    worse = [scored(item, int(n) + 1) for item, n in zip(items, hard, strict=True)]
    assert compare(worse, first) == {
        "value": pytest.approx(10),
        "low": pytest.approx(10),
        "high": pytest.approx(10),
        "share": 1.0,
    }
    a, b = summarise(first)["wer"], summarise(worse)["wer"]
    assert a["high"] > b["low"]
    some = compare([*worse[:20], *first[20:]], first)
    assert 0 < some["low"] < some["value"] < some["high"] and some["value"] == pytest.approx(10 / 3)
    none = compare(first, first)
    assert none["value"] == none["low"] == none["high"] == none["share"] == 0
    back = compare(first, worse)
    assert back["value"] == pytest.approx(-10) and back["share"] == 0


def test_peers_are_compared_with_the_first():
    manifest = corpus([("ann", "hello abide"), ("bob", "all deal hello")])
    other = Fixed("hello abide", "all deal")
    other.name = "other"
    rows = evaluate_recognition([Fixed("hello", "deal hello"), other], [manifest])
    assert "difference" not in rows[0]
    found = rows[1]["difference"]
    assert found["less"] == "fixed" and found["value"] == pytest.approx(-20)
    assert found["value"] == pytest.approx(rows[1]["wer"]["value"] - rows[0]["wer"]["value"])


def evaluate(capfd, *args):
    return run_command(capfd, "eval", "transcribe", *args)


def test_the_command_scores_a_model_of_known_answers(capfd):
    manifest = corpus([("ann", tones.SAID), ("bob", "hello deal"), ("bob", "abide all")])
    code, out, err = evaluate(capfd, "--manifest", manifest, "--model", "tones", "--by-length")
    lines = out.splitlines()
    assert code == 0 and lines[0].split()[:4] == ["speech", "joined", "system", "items"]
    assert [line.split()[1] for line in lines[1:]] == ["no", "1", "5", "20"]
    assert " 0.0 [0.0, 0.0] " in lines[1] and all("[" not in line for line in lines[2:])
    assert err == "slyther: of one recording there is no interval: it needs more than one\n"
    code, out, _ = evaluate(capfd, "--manifest", manifest, "--model", "tones", "--json", "--examples", 2)
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["event"] for event in events] == ["example", "example", "summary"]
    assert all(event["heard"] == event["said"] for event in events[:-1])
    (row,) = events[-1]["rows"]
    assert row["system"] == "tones" and row["wer"]["value"] == 0 and row["items"] == 2


def test_decoding_is_as_asked(capfd):
    """The model "taught" brings a language model that is used, or not."""
    sf.write("a.wav", tones.spoken("helo abide")[0], tones.RATE)
    Path("m.tsv").write_text("path\tspeaker\tsplit\ttranscript\na.wav\ta\ttest\thelo abide\n")
    for how in ((), ("--lm", "none"), ("--decode", "greedy"), ("--lm-weight", "3", "--beam", "20")):
        code, out, _ = evaluate(capfd, "--manifest", "m.tsv", "--model", "taught", "--json", *how)
        assert code == 0 and json.loads(out.splitlines()[0])["heard"].split()[1] == "abide"


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--model", "none"], 2, "name a peer with --against"),
        (["--against", "whisper"], 2, "unknown peer whisper: pocketsphinx or whisper:FOLDER"),
        (["--against", "pocketsphinx:there"], 2, "unknown peer pocketsphinx:there"),
        (["--model", "missing"], 5, "missing"),
        (["--split", "nowhere"], 3, "no utterance with a transcript in split 'nowhere'"),
        (["--decode", "greedy", "--beam", "3"], 2, "contradicts"),
    ],
)
def test_wrong_use_is_one_line(capfd, args, code, told):
    manifest = corpus([("ann", "all")])
    args = args if "--model" in args else [*args, "--model", "tones"]
    got, out, err = evaluate(capfd, "--manifest", manifest, *args)
    assert got == code and out == "" and err.count("\n") == 1 and told in err


def test_damaged_speech_is_an_error_not_a_better_rate(capfd):
    manifest = corpus([("ann", "all"), ("bob", "deal")])
    with open("bob-1.wav", "wb") as file:
        file.write(b"RIFF")
    code, out, err = evaluate(capfd, "--manifest", manifest, "--model", "tones")
    assert code == 3 and out == "" and "bob-1.wav" in err and err.count("\n") == 1


def test_without_jiwer_it_says_how_to_get_it(capfd, monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    code, _, err = evaluate(capfd, "--manifest", corpus([("ann", "all")]), "--model", "tones")
    assert code == 2 and "pip install 'slyther-cli[eval]'" in err
    with pytest.raises(UsageError):
        evaluate_recognition([Fixed("all")], [])


def test_pocketsphinx_hears_the_same(capfd):
    pytest.importorskip("pocketsphinx")
    manifest = corpus([("ann", "all")])
    code, out, _ = evaluate(
        capfd, "--manifest", manifest, "--model", "tones", "--against", "pocketsphinx", "--json"
    )
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert code == 0 and [row["system"] for row in rows] == ["tones", "pocketsphinx"]
    assert rows[0]["wer"]["value"] == 0 and rows[1]["wer"]["value"] > 0  # tones are no speech
    assert rows[0]["seconds"] == rows[1]["seconds"] and rows[1]["cpu_per_second"] > 0


FASTER_WHISPER = """
from types import SimpleNamespace


class WhisperModel:
    def __init__(self, folder, device, compute_type, cpu_threads):
        if "broken" in folder:
            raise RuntimeError("unsupported model binary")
        assert (device, compute_type, cpu_threads) == ("cpu", "int8", 1)

    def transcribe(self, samples, language):
        assert samples.dtype == "float32" and language == "en"
        return iter([SimpleNamespace(text=" All"), SimpleNamespace(text=" right.")]), None
"""


def test_whisper_hears_the_same(capfd, monkeypatch):
    """With a stand-in for the package: which weights it gets, and what becomes of its text."""
    manifest = corpus([("ann", "all")])
    args = ["--manifest", manifest, "--model", "tones", "--threads", "1", "--against"]
    Path("lib").mkdir()
    Path("lib/faster_whisper.py").write_text(FASTER_WHISPER)
    monkeypatch.syspath_prepend(str(Path("lib").resolve()))
    monkeypatch.delitem(sys.modules, "faster_whisper", raising=False)
    for name in ("tiny.en", "broken"):
        Path(name).mkdir()
        for file in ("model.bin", "config.json", "tokenizer.json"):
            Path(name, file).write_text("{}")
    code, out, _ = evaluate(capfd, *args, "whisper:tiny.en", "--json")
    rows = json.loads(out.splitlines()[-1])["rows"]
    assert code == 0 and [row["system"] for row in rows] == ["tones", "whisper tiny.en"]
    assert rows[1]["wer"]["value"] == 100 and rows[1]["insertions"] == 1  # "all right" for "all"
    for folder, told in (("nowhere", "it has no model.bin"), ("broken", "unsupported model binary")):
        code, out, err = evaluate(capfd, *args, f"whisper:{folder}")
        assert code == 5 and out == "" and told in err and err.count("\n") == 1


def test_without_faster_whisper_it_says_how_to_get_it(capfd, monkeypatch):
    monkeypatch.setattr(whisper_reference.importlib.util, "find_spec", lambda name: None)
    code, _, err = evaluate(
        capfd, "--manifest", corpus([("ann", "all")]), "--model", "none", "--against", "whisper:x"
    )
    assert code == 2 and "pip install faster-whisper" in err
