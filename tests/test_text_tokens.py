"""Alphabets: what they encode, how text is normalised, and damaged folders."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.tokens import (
    ENGLISH,
    PIECES_FILE,
    TOKENS_FILE,
    CharTokenizer,
    SentencePieceTokenizer,
    normalise,
)
from slyther_cli.errors import ModelError

LINES = ["the cat sat on the mat", "hello world, again", "a quick brown fox's jump"] * 20


@pytest.fixture(scope="module", params=["unigram", "bpe", "char"])
def pieces(request):
    return SentencePieceTokenizer.train(LINES, 31 if request.param != "bpe" else 40, kind=request.param)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Don’t “stop” — the rock-'n'-roll;", "don't stop the rock n roll"),
        ("'Tis 'em, 'twas 'hello' and the dogs' bowl", "'tis 'em 'twas hello and the dogs bowl"),
        ("3.5, 1,000 & 10:30. No. 7!", "3.5 1,000 and 10:30 no 7"),
        ("Café naïve  Über\tﬁne", "cafe naive uber fine"),
        ("don''t a_b [noise] (x)/y", "don t a b noise x y"),
        ("'", ""),
        (" . , ", ""),
    ],
)
def test_normalise(text, told):
    assert normalise(text) == told
    assert normalise(text, "upper") == told.upper()


@given(st.text(), st.sampled_from(["lower", "upper", "keep"]))
@settings(max_examples=200)
def test_normalised_text_is_plain_and_stays_as_it_is(text, case):
    once = normalise(text, case)
    assert once == " ".join(once.split())
    assert not set(once) & set('"?!;()[]_-–’')
    if once.isascii():
        assert normalise(once, case) == once


def test_unknown_case():
    with pytest.raises(ValueError, match="case"):
        normalise("a", "title")


def test_characters():
    tokenizer = CharTokenizer()
    assert (tokenizer.size, tokenizer.begins_word.tolist()) == (29, [False, True] + [False] * 27)
    assert [tokenizer.surface(i) for i in range(tokenizer.size)] == ["", *ENGLISH]
    ids = tokenizer.encode("don't go")
    assert tokenizer.decode(ids) == "don't go" and 0 not in ids
    assert tokenizer.decode([1, 0, 1, *ids, 1, 1]) == "don't go"
    with pytest.raises(ValueError, match="'3'"):
        tokenizer.encode("b 3")
    for bad in (["ab"], ["a", "a"], [], [3]):
        with pytest.raises(ValueError, match="character"):
            CharTokenizer(bad)


def test_pieces(pieces):
    assert [pieces.surface(i) for i in range(4)] == [""] * 4
    assert pieces.begins_word.tolist() == [pieces.surface(i).startswith(" ") for i in range(pieces.size)]
    for line in LINES[:3]:
        text = pieces.normalise(line)
        ids = pieces.encode(text)
        assert pieces.decode(ids) == text and min(ids) > 3
        assert int(pieces.begins_word[ids].sum()) == len(text.split())
    with pytest.raises(ValueError, match="not among"):
        pieces.encode("z9")


def test_too_many_pieces():
    with pytest.raises(ValueError, match="400 pieces cannot be learnt"):
        SentencePieceTokenizer.train(["abc"], 400)


def test_saved_and_loaded(tmp_path, pieces):
    for tokenizer in (pieces, CharTokenizer(" éab'", "upper")):
        tokenizer.save(tmp_path)
        again = load_tokenizer(tmp_path)
        assert type(again) is type(tokenizer) and again.case == tokenizer.case
        assert [again.surface(i) for i in range(again.size)] == [
            tokenizer.surface(i) for i in range(tokenizer.size)
        ]
        assert again.normalise("Cat") == tokenizer.normalise("Cat")


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"\xff", b'{"type": "characters"}', b'{"type": "bytes", "case": "lower"}',
        b'{"type": "characters", "case": "lower", "tokens": "abc"}',
        b'{"type": "characters", "case": "lower", "tokens": ["ab"]}',
        b'{"type": "characters", "case": "lower", "tokens": [1]}',
        b'{"type": "characters", "case": ["lower"], "tokens": ["a"]}', b"[" * 100_000,
        b'{"type": "sentencepiece", "case": "lower"}',
    ],
)  # fmt: skip
def test_damaged_tokens(tmp_path, data):
    (tmp_path / TOKENS_FILE).write_bytes(data)
    with pytest.raises(ModelError, match="is damaged") as error:
        load_tokenizer(tmp_path)
    assert "\n" not in str(error.value)


def test_damaged_pieces(tmp_path):
    with pytest.raises(ModelError, match=r"tokens.json cannot be read: no such file"):
        load_tokenizer(tmp_path)
    pieces = SentencePieceTokenizer.train(LINES, 31)
    pieces.save(tmp_path)
    model = (tmp_path / PIECES_FILE).read_bytes()
    rng = np.random.default_rng(0)
    for n in [0, 1, 50, *rng.integers(0, len(model), 20).tolist()]:
        (tmp_path / PIECES_FILE).write_bytes(model[:n])
        with pytest.raises(ModelError) as error:
            load_tokenizer(tmp_path)
        assert "\n" not in str(error.value)
    for _ in range(50):  # whatever survives is a tokenizer of the right size; nothing else is raised
        data = bytearray(model)
        data[rng.integers(len(data))] = rng.integers(256)
        (tmp_path / PIECES_FILE).write_bytes(data)
        try:
            assert load_tokenizer(tmp_path).size == pieces.size
        except ModelError as error:
            assert "\n" not in str(error)
    (tmp_path / PIECES_FILE).write_bytes(model)
    settings_ = json.loads((tmp_path / TOKENS_FILE).read_text())
    (tmp_path / TOKENS_FILE).write_text(json.dumps(settings_ | {"size": 30}))
    with pytest.raises(ModelError, match="30 tokens expected"):
        load_tokenizer(tmp_path)


def test_blank_must_be_silent(tmp_path):
    """A model whose id 0 is a letter would lose that letter."""
    import io

    import sentencepiece

    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, vocab_size=28, model_type="char", unk_id=5,
        bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2,
    )  # fmt: skip
    with pytest.raises(ModelError, match="token 0 must be the blank"):
        SentencePieceTokenizer(out.getvalue())


def test_importing_loads_nothing_heavy():
    modules = "tokens words ctc align segments subtitles transcript ngram arpa"
    code = "import sys\n" + "".join(f"import slyther_cli.decode.{name}\n" for name in modules.split())
    code += "print(sorted({'torch', 'sentencepiece', 'scipy', 'soundfile'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
