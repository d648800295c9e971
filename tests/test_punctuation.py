"""Marks and capitals: reading printed text, a recogniser's errors, the network over any length, a run of the
training on a toy language, the scores, and words with marks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.models.punctuation import CASES, COMMA, LOWER, MARKS, NONE, QUESTION, STOP, TITLE, UPPER
from slyther_cli.research.evaluation.punctuation import ROWS, carried, count, report
from slyther_cli.research.language.marked import ANY, Marked, Reader, common_forms, settle
from slyther_cli.research.language.misheard import Misheard
from slyther_cli.research.training.piece_vectors import piece_vectors
from slyther_cli.research.training.punctuation import PunctuationTask, read_config
from slyther_cli.research.training.punctuation_data import IGNORED, Books, DamageConfig
from slyther_cli.transcription.punctuate import Punctuator, ends_of, read, written

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"vocab": 36, "d_model": 32, "n_layers": 2, "d_state": 4, "d_ffn": 32}
CONFIG = """
name = "toy"
[model]
vocab = 36
d_model = 32
n_layers = 2
d_state = 4
d_ffn = 32
CAUSAL
[data]
manifests = ["manifest.tsv"]
[damage]
share = 0.2
rates = [0.05, 0.1]
[batch]
stretches = 8
pieces = 64
dev_words = 400
[loop]
steps = STEPS
warmup = 5
optimizer = "muon"
lr = 1e-2
average = 0.9
log_seconds = 0.0
validate_minutes = 1000
"""


def as_text(reader, found):
    """What was read, written out again."""
    return " ".join(
        written(reader.vocabulary[word], mark, LOWER if case == ANY else case, {})
        for word, mark, case in zip(found.words, found.marks.tolist(), found.cases.tolist(), strict=True)
    )


def toy_book(rng, sentences):
    """A question begins with why; Anna and Bo are names; a comma stands before but."""
    nouns = ["cats", "dogs", "birds", "fish", "Anna", "Bo", "trees", "stones"]
    verbs = ["see", "like", "hear", "find"]
    lines = []
    for _ in range(sentences):
        words = [str(rng.choice(nouns)), str(rng.choice(verbs)), str(rng.choice(nouns))]
        if rng.random() < 0.3:
            words[-1] += ","
            words += ["but", str(rng.choice(verbs)), str(rng.choice(nouns))]
        asks = rng.random() < 0.3
        text = " ".join(["why", *words] if asks else words)
        lines.append(text[0].upper() + text[1:] + ("?" if asks else "."))
    return "\n".join(" ".join(lines[i : i + 4]) for i in range(0, len(lines), 4)) + "\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    rng = np.random.default_rng(0)
    rows = ["path\tsplit"]
    for name, split, size in (
        ("one", "train", 800),
        ("two", "train", 400),
        ("three", "dev", 80),
        ("four", "test", 80),
    ):
        (folder / f"{name}.txt").write_text(toy_book(rng, size))
        rows.append(f"{name}.txt\t{split}")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    return folder


def config(home, steps, causal=""):
    path = home / f"run{causal and '-causal'}.toml"
    path.write_text(CONFIG.replace("STEPS", str(steps)).replace("CAUSAL", causal))
    return path


@pytest.fixture(scope="module")
def toy(home):
    """A trained model, and the events of its training."""
    import contextlib
    import io

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(["train", "punctuation", "-c", str(config(home, 200)), "-o", str(home / "run"), "--json"])
    assert code == 0
    return home / "run" / "best", [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("printed", "restored"),
    [
        ("“Why so?” said Mr. Holmes.", "Why so? said Mister Holmes."),
        ("It was late; he went home; and slept.", "It was late. He went home, and slept."),
        ("The well-known C. B. Fry—a friend—came (late).", "The well known C B Fry – a friend – came, late."),
        ("I’m sure that _he_ is café-bred... But no!", "I'm sure that he is cafe bred. But no!"),
        ("Well... I think 'tis so.", "Well. I think 'tis so."),
        ("Good. In 1865 he came. They left: all of them.", "Good. They left: all of them."),
        ("Good. 12 men came. They left.", "They left."),
        ("CHAPTER TWO", ""),
        ("# Heading.", ""),
    ],
)
def test_printed_text_is_read(printed, restored):
    reader = Reader()
    assert as_text(reader, reader.read([printed])) == restored


def test_emphasis_goes_and_forms_are_kept():
    reader = Reader()
    text = reader.read(["We are SO glad. So it was so. NASA is so. " + "McDonald met NASA. " * 6])
    assert common_forms(reader.forms) == {"mcdonald": "McDonald"}
    settle([text], len(reader.vocabulary))
    assert as_text(reader, text).startswith("We are so glad. So it was so. NASA is so.")


def test_fragments_are_whole_or_nothing():
    reader = Reader()
    assert as_text(reader, reader.read_fragment("and then, Bo")) == "and then, Bo"
    assert reader.read_fragment("at 9 he") is None and reader.read_fragment("") is None
    assert reader.read_fragment("9 men") is None


WORDS = st.tuples(st.integers(0, 5), st.integers(0, len(MARKS) - 1), st.sampled_from([LOWER, TITLE, ANY]))
MARKED = st.lists(WORDS, min_size=1, max_size=40).map(
    lambda rows: Marked(np.array(rows, np.int32)[:, 0], *np.array(rows, np.uint8).T[1:])
)


@given(MARKED, st.floats(0, 1), st.integers(0, 5))
@settings(max_examples=60)
def test_errors_keep_lengths_together_and_add_no_marks(text, rate, seed):
    misheard = Misheard(text.words, [f"word{i}" for i in range(6)])
    found = misheard(text, rate, np.random.default_rng(seed))
    assert len(found.words) == len(found.marks) == len(found.cases)
    assert (found.marks > 0).sum() <= (text.marks > 0).sum()
    if rate == 0:
        assert all(
            np.array_equal(a, b) for a, b in zip(vars(found).values(), vars(text).values(), strict=True)
        )


def test_a_lost_word_leaves_its_mark_and_its_capital():
    text = Marked(
        np.arange(4, dtype=np.int32), np.array([2, 0, 2, 2], np.uint8), np.array([1, 1, 0, 0], np.uint8)
    )
    seen = set()
    for seed in range(300):
        found = Misheard(text.words, list("abcd"))(text, 0.3, np.random.default_rng(seed))
        if list(found.words) == [0, 2, 3] and found.cases[1] != ANY:
            assert found.cases[1] == TITLE
            seen.add("capital")
        if list(found.words) == [0, 1, 3] and found.cases[1] != ANY:
            assert found.marks[1] == STOP
            seen.add("mark")
    assert seen == {"capital", "mark"}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [1, 7, 64, 65])
def test_a_text_in_tiles_is_read_as_a_whole(causal, length):
    torch.manual_seed(0)
    network = registry.build("punctuator", {**SMALL, "causal": causal}).eval()
    pieces, at = torch.randint(0, 36, (length,)), torch.arange(0, length, 2)
    with torch.inference_mode():
        marks, cases = network(pieces[None])
    for tile in (1, 3, 64, 1000):
        for told, logits in zip(network.read(pieces, at, tile), (marks, cases), strict=True):
            best, second = logits[0, at].topk(2)[0].unbind(1)
            clear = best - second > 1e-4
            assert torch.equal(told[clear], logits[0, at].argmax(1)[clear])


def test_a_causal_network_tells_of_a_word_before_it_reads_on():
    torch.manual_seed(0)
    network = registry.build("punctuator", {**SMALL, "causal": True}).eval()
    pieces = torch.randint(0, 36, (1, 20))
    with torch.inference_mode():
        for whole, part in zip(network(pieces), network(pieces[:, :12]), strict=True):
            assert torch.allclose(whole[:, :12], part, atol=1e-5)


def test_a_text_that_ends_ends_a_sentence():
    torch.manual_seed(0)
    network = registry.build("punctuator", SMALL).eval()
    with torch.no_grad():
        network.marks.bias.copy_(torch.tensor([9.0, 0, -5, 5, -5, 0, 0]))
    marks, _ = network.read(torch.arange(9), torch.arange(9), ended=True)
    assert marks.tolist() == [NONE] * 8 + [QUESTION]


def test_training_learns_the_toy_language(toy, capsys):
    best, events = toy
    assert events[0]["event"] == "start" and events[0]["books"] == 2
    valid = [e for e in events if e["event"] == "validate"][-1]
    assert valid["comma"] > 95 and valid["question_mark"] > 90 and valid["capital"] > 95
    words = ["why", "anna", "like", "dogs", "but", "see", "birds", "cats", "see", "bo"]
    punctuator = Punctuator(best)
    assert " ".join(punctuator.restore(words)) == "Why Anna like dogs, but see birds? Cats see Bo."
    assert punctuator.punctuate(words).ends == [6, 9]
    by_two = punctuator.punctuate(words, turns=[4])  # somebody else begins with "but"
    assert " ".join(by_two.words) == "Why Anna like dogs. But see birds? Cats see Bo."
    assert by_two.ends == [3, 6, 9]
    folder = best.parent.parent
    assert (
        main(["eval", "punctuation", "--manifest", str(folder / "manifest.tsv"), "-m", str(best), "--json"])
        == 0
    )
    clean = json.loads(capsys.readouterr().out.splitlines()[-1])
    text = str(folder / "four.txt")
    assert main(["eval", "punctuation", text, "-m", str(best), "--errors", "0.3", "--json"]) == 0
    wrong = json.loads(capsys.readouterr().out.splitlines()[-1])
    commas = [next(row for row in told["rows"] if row["of"] == "comma") for told in (clean, wrong)]
    assert commas[0]["f1"]["value"] > 0.95 and 0.2 < commas[1]["f1"]["value"] < commas[0]["f1"]["value"]


def test_a_causal_run_has_targets_that_come_later(home):
    task = PunctuationTask(read_config(config(home, 1, "causal = true\nlook_ahead = 3")), home)
    pieces, marks, cases = task.batch(0)
    assert pieces.shape == marks.shape == cases.shape == (8, 64)
    plain = PunctuationTask(read_config(config(home, 1)), home)
    damage = DamageConfig(share=0.0)
    late = task.books.stretch(64, damage, 3, np.random.default_rng(1))
    now = plain.books.stretch(64, damage, 0, np.random.default_rng(1))
    targets = [x[1][x[1] != IGNORED] for x in (late, now)]
    assert len(targets[0]) > 20 and np.array_equal(targets[0], targets[1][: len(targets[0])])
    first = [np.flatnonzero(x[1] != IGNORED)[0] for x in (late, now)]
    assert first[0] > first[1]
    assert set(np.unique(late[2])) <= {IGNORED, LOWER, TITLE} and (late[2] == TITLE).sum() > 5
    words = ["cats", "see", "dogs"] * 4
    assert len(read(task.model.eval(), task.tokenizer, words)[0]) == 12


def test_batches_and_pieces_depend_on_the_seed_and_the_step_alone(home):
    tasks = [PunctuationTask(read_config(config(home, 5)), home) for _ in range(2)]
    tasks[0].batch(0)
    assert tasks[0].alphabet == tasks[1].alphabet
    assert torch.equal(tasks[0].model.embedding.weight, tasks[1].model.embedding.weight)
    for one, other in zip(tasks[0].batch(3), tasks[1].batch(3), strict=True):
        assert torch.equal(one, other)


def test_validation_leans_towards_marks_where_that_scores_higher(home):
    task = PunctuationTask(read_config(config(home, 1)), home)
    bias = task.model.marks.bias
    with torch.no_grad():
        task.model.marks.weight.zero_()
        bias.copy_(torch.tensor([0.0, -0.6, -5, -5, -5, -5, -5]))  # commas alone, if any mark
    told = task.validate()
    assert told["leaning"] == -0.75 and bias[NONE].item() == -0.75 and told["comma"] > 0


def test_a_run_goes_on_from_weights_with_their_pieces(toy, home, tmp_path):
    best, _ = toy
    text = (
        CONFIG[CONFIG.index("[data]") :]
        .replace("STEPS", "1")
        .replace("manifest.tsv", str(home / "manifest.tsv"))
    )
    (tmp_path / "more.toml").write_text(f'start_from = "{best}"\n' + text)
    task = PunctuationTask(read_config(tmp_path / "more.toml"), tmp_path)
    assert task.tokenizer.model == Punctuator(best).tokenizer.model
    assert torch.equal(task.model.embedding.weight, store.load(best)[0].embedding.weight)


def test_too_few_words_for_the_pieces_is_told(home):
    path = home / "many.toml"
    path.write_text(CONFIG.replace("STEPS", "1").replace("vocab = 36", "vocab = 5000").replace("CAUSAL", ""))
    with pytest.raises(UsageError, match="vocab: 5000 pieces cannot be learnt"):
        PunctuationTask(read_config(path), home)


def test_vectors_tell_what_stands_beside():
    rng = np.random.default_rng(0)
    pairs = rng.integers(0, 4, 4000)  # 0 or 1 before 4, 2 or 3 before 5
    pieces = np.stack([pairs, 4 + pairs // 2], 1).reshape(-1)
    marks = np.where(np.arange(8000) % 2, STOP, NONE)
    found = torch.nn.functional.normalize(piece_vectors(pieces, marks, np.full(8000, -1), 6, 24), dim=1)
    alike = found @ found.T
    assert alike[0, 1] > alike[0, 2] + 0.2 and alike[2, 3] > alike[2, 0] + 0.2 and alike[4, 5] > alike[4, 0]
    with pytest.raises(ValueError, match="more than"):
        piece_vectors(pieces, marks, marks, 6, 8)


@pytest.mark.parametrize(
    ("word", "mark", "case", "says"),
    [
        ("i", COMMA, LOWER, "I,"),
        ("i’m", NONE, LOWER, "I'm"),
        ("'tis", NONE, TITLE, "'Tis"),
        ("new york", COMMA, TITLE, "New York,"),
        ("mcdonald", STOP, CASES.index("mixed"), "McDonald."),
        ("macbeth", NONE, CASES.index("mixed"), "Macbeth"),
        ("bbc", QUESTION, UPPER, "BBC?"),
        ("a.m.", STOP, LOWER, "a.m."),
        ("iPhone", NONE, TITLE, "iPhone"),
        ("9:45", COMMA, TITLE, "9:45,"),
        ("well", MARKS.index(" –"), LOWER, "well –"),
        ("", STOP, TITLE, "."),
        ("дом", NONE, TITLE, "Дом"),
    ],
)
def test_words_are_written(word, mark, case, says):
    assert written(word, mark, case, {"mcdonald": "McDonald"}) == says


def test_sentences_end_at_stops_and_before_capitals():
    marks, cases = np.array([STOP, QUESTION, QUESTION, COMMA, QUESTION]), np.array([1, 1, 0, 1, 0])
    assert ends_of(marks, cases).tolist() == [0, 2, 4]


def test_any_words_of_any_number(toy):
    punctuator = Punctuator(toy[0])
    assert punctuator.restore([]) == [] and punctuator.punctuate([]).ends == []
    assert punctuator.restore(["dogs"])[0] in ("Dogs.", "Dogs?")
    odd = ["дом", "東京", "", "x" * 5000, "\0", "🙂", "9:45", "dogs"]
    out = punctuator.restore(odd)
    assert len(out) == len(odd) and out == punctuator.restore(odd)
    assert [w.rstrip(",.?!: –").lower() for w in out] == odd
    words = ("cats see dogs why bo like fish " * 42858).split()[:300_000]
    many = punctuator.punctuate(words)
    assert len(many.words) == 300_000 and many.ends[-1] == 299_999
    assert many.words[:2000] == punctuator.restore(words[:4000])[:2000]


def test_models_of_other_kinds_are_refused(toy, tmp_path, capsys):
    with pytest.raises(ModelError, match="to punctuate text takes another model"):
        Punctuator("speaker-16k")
    text = (toy[0] / "config.json").read_text()
    for name in ("model.safetensors", "tokens.json", "tokenizer.model"):
        (tmp_path / name).write_bytes((toy[0] / name).read_bytes())
    (tmp_path / "config.json").write_text(text.replace('"forms": {}', '"forms": {"a": "b"}'))
    with pytest.raises(ModelError, match="forms"):
        Punctuator(tmp_path)
    assert main(["eval", "punctuation"]) == 2 and "name texts" in capsys.readouterr().err
    (tmp_path / "empty.txt").write_text("no sentence\n")
    assert main(["eval", "punctuation", str(tmp_path / "empty.txt"), "-m", str(toy[0])]) == 3


def test_marks_are_carried_to_what_was_heard():
    reader = Reader()
    text = reader.read_fragment("So it was. Then, Bo came, and Anna left.")
    words = [reader.vocabulary[word] for word in text.words]
    marks, cases = carried(text, words, ["so", "it", "then", "bo", "came", "and", "anna"])
    assert marks.tolist() == [0, STOP, COMMA, 0, COMMA, 0, STOP]
    assert cases.tolist() == [TITLE, LOWER, TITLE, TITLE, LOWER, LOWER, TITLE]
    assert len(carried(text, words, [])[0]) == 0


def test_transcripts_are_scored(toy, tmp_path, capsys):
    rows = [
        "hypothesis\treference",
        "why anna see dogs\tWhy Anna see dogs?",
        "nine dogs\t9 dogs.",
        "cats like bo\tCats like Bo.",
    ]
    (tmp_path / "heard.tsv").write_text("\n".join(rows) + "\n")
    command = ["eval", "punctuation", "--transcripts", str(tmp_path / "heard.tsv"), "-m", str(toy[0])]
    assert main([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["left_out"] == 1 and [row["of"] for row in told["rows"]] == list(ROWS)
    capital = told["rows"][-1]
    assert capital["true"] == 4 and capital["f1"]["value"] > 0.8
    assert main(command) == 0 and "capital" in capsys.readouterr().out


def test_scores_count_right_told_and_true():
    marks, true_marks = np.array([STOP, COMMA, NONE, QUESTION]), np.array([STOP, NONE, COMMA, STOP])
    cases, true_cases = np.array([TITLE, TITLE, LOWER, UPPER]), np.array([TITLE, ANY, TITLE, TITLE])
    cells = dict(zip(ROWS, count(marks, cases, true_marks, true_cases).tolist(), strict=True))
    assert cells["full stop"] == [1, 1, 2] and cells["comma"] == [0, 1, 1]
    assert cells["any mark"] == [2, 3, 3] and cells["sentence end"] == [2, 2, 2]
    assert cells["capital"] == [1, 2, 3]
    rows = report([count(marks, cases, true_marks, true_cases)] * 3, 0)
    stop = rows[0]
    assert stop["f1"] == {"value": 0.667, "low": 0.667, "high": 0.667} and stop["recall"] == 0.5


def test_pieces_of_words(home):
    books = Books([home / "manifest.tsv"], "train", False, 36, None)
    assert isinstance(books.tokenizer, SentencePieceTokenizer)
    pieces, marks, _ = books.stretch(64, DamageConfig(share=0.0), 0, np.random.default_rng(0))
    ends = np.flatnonzero(marks != IGNORED)
    text = books.tokenizer.decode(pieces[: ends[-1] + 1].tolist())
    assert len(text.split()) == len(ends)


def test_the_example_is_as_the_shipped_model_was_trained():
    example = read_config(ROOT / "examples/train-punctuation.toml")
    assert example.damage.rates == (0.05, 0.25) and example.model["vocab"] == 6000


def test_the_shipped_model_writes_sentences(capsys):
    text = "i saw john in london he was well and how are you today"
    words = Punctuator().restore(text.split())
    assert words[:5] == ["I", "saw", "John", "in", "London."] and words[-1] == "today?"
    assert sum(file.stat().st_size for file in (ROOT / "weights/punctuation-en").iterdir()) < 6e6
    assert main(["models", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    row = next(row for row in rows if row["name"] == "punctuation-en")
    assert row["task"] == "punctuate" and row["weights"] == "shipped"
