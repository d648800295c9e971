"""`slyther train lm`: from text files and transcripts to a model, and what must not be in it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import run_command

from slyther_cli.decode.arpa import load_language_model
from slyther_cli.decode.ngram import UNKNOWN
from slyther_cli.research.language import kneser_ney, mixture
from slyther_cli.research.language.corpus import SHARED, Guard, paragraphs, sentences
from slyther_cli.research.language.mixture import train_mixture

PROSE = """“Well,” said Mr. Hale; "it was 3 o'clock—or later." I don't know!

The lamps were lit. The 2nd door
stood open, as it had since 1865.
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train_lm(capfd, *args):
    return run_command(capfd, "train", "lm", *args)


def manifest(rows, name="m.tsv"):
    """Rows of (split, transcript)."""
    lines = ["path\tspeaker\tsplit\ttranscript", *(f"{i}.wav\ts\t{a}\t{b}" for i, (a, b) in enumerate(rows))]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def test_text_becomes_what_recognisers_write():
    Path("a.txt").write_text(PROSE, encoding="utf-8")
    found = [line for text in paragraphs(Path("a.txt"), wrapped=True) for line in sentences(text)]
    assert found == [
        "well said mister hale it was three o'clock or later",
        "i don't know",
        "the lamps were lit",
        "the second door stood open as it had since eighteen sixty five",
    ]
    lines = [line for text in paragraphs(Path("a.txt")) for line in sentences(text)]
    assert lines[3:] == ["the second door", "stood open as it had since eighteen sixty five"]
    assert sentences("Это не по-английски. But this is.") == ["but this is"]
    assert sentences("") == sentences(" . ! ") == []


letters = st.lists(st.sampled_from("abc"), min_size=1, max_size=9).map(" ".join)


@given(st.lists(letters, min_size=1, max_size=12), st.lists(letters, max_size=3))
@settings(max_examples=150)
def test_what_is_kept_shares_no_run_with_what_is_protected(paragraph, protected):
    guard = Guard(protected)
    kept = guard(paragraph)
    assert guard.dropped == len(paragraph) - len(kept)
    runs = {tuple(p.split()[i : i + SHARED]) for p in protected for i in range(len(p.split()) - SHARED + 1)}
    for line in kept:
        words = line.split()
        assert not any(tuple(words[i : i + SHARED]) in runs for i in range(len(words)))
        assert line not in protected
    if not runs:
        assert kept == [line for line in paragraph if line not in protected]


def test_a_run_may_span_two_sentences():
    guard = Guard(["five six seven eight nine ten"])
    text = ["one two", "four five six seven", "eight nine ten", "eleven five six seven"]
    assert guard(text) == ["one two", "eleven five six seven"] and guard.dropped == 2


def test_the_command_learns_text_and_train_transcripts_only(capfd):
    Path("a.txt").write_text("The cat sat. " * 3 + "\nOnce a secret dev sentence was written in a book.\n")
    table = manifest(
        [("train", "A DOG RAN"), ("dev", "A SECRET DEV SENTENCE WAS WRITTEN"), ("test", "HIDDEN")]
    )
    code, out, err = train_lm(capfd, "a.txt", "--manifest", table, "-o", "lm.bin", "--arpa", "lm.arpa")
    assert code == 0 and out == "lm.bin\n"
    assert "a.txt: 3 sentences, 9 words, 1 left out" in err and "100.0% unknown" not in err
    model = load_language_model("lm.bin")
    assert all(model.knows(word) for word in ("the", "cat", "sat", "a", "dog", "ran"))
    assert not any(model.knows(word) for word in ("secret", "written", "book", "hidden"))
    again = load_language_model("lm.arpa")
    assert again.sentence("a cat sat") == model.sentence("a cat sat")
    assert model.sentence("the cat sat")[0] > model.sentence("sat the dog")[0]


def test_json_tells_what_is_in_the_model(capfd):
    table = manifest([("train", "A DOG RAN"), ("train", "THE DOG SAT"), ("dev", "A DOG SAT THERE")])
    code, out, _ = train_lm(capfd, "--manifest", table, "-o", "lm.bin", "--order", "2", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [event["event"] for event in events] == ["text", "summary"]
    report = events[-1]
    assert report["words"] == 6 and report["vocabulary"] == 5 and len(report["ngrams"]) == 2
    assert report["bytes"] == Path("lm.bin").stat().st_size
    dev = report["dev_perplexity"]["m.tsv"]
    assert dev["words"] == 4 and dev["unknown"] == 0.25 and 1 < dev["perplexity"] < 50


def test_size_and_rare_words(capfd):
    rows = [f"w{i % 7} w{i % 5} w{i % 3} x{i}" for i in range(120)]
    text = "\n".join(
        " ".join(f"{w[0]}{'abcdefghij'[int(d)]}" for w in r.split() for d in w[1:]) for r in rows
    )
    Path("a.txt").write_text(text)
    assert train_lm(capfd, "a.txt", "-o", "big.bin", "-q")[0] == 0
    assert train_lm(capfd, "a.txt", "-o", "small.bin", "--max-size", "3000B", "-q")[0] == 0
    assert Path("small.bin").stat().st_size <= 3000 < Path("big.bin").stat().st_size
    assert train_lm(capfd, "a.txt", "-o", "rare.bin", "--least-word-count", "30", "-q")[0] == 0
    rare, big = load_language_model("rare.bin"), load_language_model("big.bin")
    assert big.knows("xa") and len(rare.words) < len(big.words)
    assert rare.score(UNKNOWN, ())[0] > big.score(UNKNOWN, ())[0]


several = st.lists(st.lists(letters, min_size=1, max_size=8), min_size=1, max_size=3)


@given(several, st.lists(letters, min_size=1, max_size=3), st.integers(1, 3))
@settings(max_examples=40)
def test_a_mixture_is_the_weighted_sum_of_its_texts(texts, held_out, order):
    """For every n-gram, with each text's own model over the words of all; and sums to one."""
    model, weights = train_mixture(texts, held_out, order)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    ends = np.cumsum([sum(len(line.split()) + 2 for line in text) for text in texts])
    words, text = kneser_ney._read([line for text in texts for line in text], 1)
    tables = kneser_ney._count(text, order, words.find("<s>"))
    own = [mixture._own(tables, slice(a, b), words) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    for k in range(order):
        wanted = sum(w * 10.0 ** m.levels[k].logp.astype(float) for w, m in zip(weights, own, strict=True))
        assert 10.0 ** model.levels[k].logp.astype(float) == pytest.approx(wanted, rel=1e-4)
    every = [model.words[i].decode() for i in range(len(model.words)) if model.words[i] != b"<s>"]
    for line in held_out:
        state = model.begin()
        for word in line.split():
            total = math.fsum(math.exp(model.score(outcome, state)[0]) for outcome in every)
            assert total == pytest.approx(1, abs=1e-5)
            state = model.score(word, state)[1]


def test_a_text_like_the_held_out_one_weighs_most():
    rng = np.random.default_rng(0)

    def text(letters, lines):
        return [" ".join(rng.choice(list(letters), 8)) for _ in range(lines)]

    mixed, weights = train_mixture([text("abcdef", 20), text("uvwxyz", 200)], text("abcdef", 30), 2)
    assert weights[0] > 0.95
    counted = kneser_ney.train([*text("abcdef", 20), *text("uvwxyz", 200)], 2)
    unseen = text("abcdef", 30)
    assert kneser_ney.perplexity(mixed, unseen) < 0.75 * kneser_ney.perplexity(counted, unseen)
    same, alone = train_mixture([text("ab", 9), []], ["a b"], 2)
    assert alone == [1.0, 0.0] and len(same.words) == 5


def test_the_command_weighs_texts(capfd):
    Path("near.txt").write_text("A dog sat.\nThe dog ran there.\n")
    Path("far.txt").write_text("Stocks fell again today.\n" * 40)
    table = manifest([("train", "THE DOG SAT"), ("dev", "A DOG RAN"), ("dev", "THE DOG SAT THERE")])
    code, _, err = train_lm(capfd, "near.txt", "far.txt", "--manifest", table, "-o", "lm.bin", "--mix")
    assert code == 0 and load_language_model("lm.bin").knows("stocks")
    weights = {
        line.split()[2].rstrip(":"): float(line.split()[3]) for line in err.splitlines() if "weight" in line
    }
    assert weights["near.txt"] > 10 * weights["far.txt"]
    code, out, err = train_lm(capfd, "near.txt", "-o", "x.bin", "--mix")
    assert code == 2 and out == "" and "name a manifest" in err


def test_the_command_blends_models(capfd):
    Path("books.txt").write_text("The ship sailed home.\n" * 9)
    table = manifest([("train", "P I T T"), ("train", "ENTER FOUR"), ("dev", "P I T")])
    assert train_lm(capfd, "--manifest", table, "-o", "spoken.bin", "-q")[0] == 0
    perplexity = []
    for more in ((), ("--blend", "spoken.bin:0.5")):
        code, out, _ = train_lm(
            capfd, "books.txt", "--manifest", table, "-o", "lm.bin", "--force", "--json", *more
        )
        assert code == 0
        summary = json.loads(out.splitlines()[-1])
        perplexity.append(summary["dev_perplexity"][table]["perplexity"])
        assert Path("lm.bin").stat().st_size == summary["bytes"]
    assert perplexity[1] < perplexity[0]


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["-o", "lm.bin"], 2, "name text files"),
        (["a.txt"], 2, "say where the model goes"),
        (["a.txt", "-o", "no/lm.bin"], 2, "the folder does not exist"),
        (["none.txt", "-o", "lm.bin"], 3, "none.txt: no such file"),
        (["empty.txt", "-o", "lm.bin"], 3, "the text has no words"),
        (["binary.txt", "-o", "lm.bin"], 3, "is no text file"),
        (["latin.txt", "-o", "lm.bin"], 3, "iconv"),
        (["a.txt", "--manifest", "a.txt", "-o", "lm.bin"], 3, "no column path, split"),
        (["a.txt", "--max-size", "big", "-o", "lm.bin"], 2, "is no size"),
        (["a.txt", "--order", "7", "-o", "lm.bin"], 2, "--order"),
        ([".", "-o", "lm.bin"], 3, "directory"),
        (["a.txt", "-o", "a.txt"], 2, "would replace the input"),
        (["a.txt", "-o", "lm.bin", "--arpa", "a.txt"], 2, "would replace the input"),
        (["a.txt", "-o", "lm.bin", "--arpa", "lm.bin"], 2, "the same file"),
        (["a.txt", "-o", "lm.bin", "--blend", "a.txt"], 2, "a model and its weight"),
        (["a.txt", "-o", "lm.bin", "--blend", "a.txt:1.5"], 2, "between 0 and 1"),
        (["a.txt", "-o", "lm.bin", "--blend", "none.bin:0.1"], 5, "none.bin cannot be read"),
    ],
)
def test_wrong_use_is_one_line(capfd, args, code, told):
    Path("a.txt").write_text("The cat sat.\n")
    Path("empty.txt").write_text("\n. .\n")
    Path("binary.txt").write_bytes(b"\0\1\2" * 50)
    Path("latin.txt").write_bytes("déjà vu\n".encode("latin1"))
    got, out, err = train_lm(capfd, *args)
    assert got == code and out == "" and err.count("slyther: error: ") == 1 and told in err
    assert not Path("lm.bin").exists() and Path("a.txt").read_text() == "The cat sat.\n"


def test_what_is_there_is_left_unless_told(capfd):
    Path("a.txt").write_text("The cat sat.\n")
    Path("lm.bin").write_text("mine")
    for args in (["-o", "lm.bin"], ["-o", "new.bin", "--arpa", "lm.bin"]):
        code, out, err = train_lm(capfd, "a.txt", *args)
        assert code == 3 and out == "" and "lm.bin is there already: --force replaces it" in err
    assert Path("lm.bin").read_text() == "mine" and not Path("new.bin").exists()
    assert train_lm(capfd, "a.txt", "-o", "lm.bin", "--force", "-q")[0] == 0
    assert load_language_model("lm.bin").knows("cat")
