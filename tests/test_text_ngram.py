"""Language models: sums to one, against the definition, round trips, damage."""

import gzip
import itertools
import math
import struct
import zlib
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode.arpa import load_language_model, read_arpa, write_arpa
from slyther_cli.decode.ngram import ABSENT_UNKNOWN, BEGIN, END, HEADER, UNKNOWN
from slyther_cli.errors import ModelError, OutputError
from slyther_cli.research.language.blending import blend
from slyther_cli.research.language.kneser_ney import FALLBACK, perplexity, train
from slyther_cli.research.language.pruning import size_of

corpora = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8).map(" ".join), min_size=1, max_size=25
)
orders = st.integers(1, 4)
cutoffs = st.sampled_from([(1, 1, 1, 1), (1, 1, 2, 2), (1, 2, 2, 3), (1, 3, 3, 3)])


def outcomes(model):
    """All words that can follow."""
    return [model.words[i].decode() for i in range(len(model.words)) if model.words[i] != BEGIN.encode()]


def after(model, context):
    """The state after words, from the start of a sentence if the first is <s>."""
    state = ()
    for word in context:
        state = model.begin() if word == BEGIN else model.score(word, state)[1]
    return state


def same(left, right, sentences):
    contexts = [line.split()[:n] for line in sentences for n in range(4)]
    for context, word in itertools.product(contexts, outcomes(left)):
        state, other = after(left, [BEGIN, *context]), after(right, [BEGIN, *context])
        assert left.score(word, state)[0] == right.score(word, other)[0]


@given(corpora, orders, cutoffs, st.sampled_from([1, 3]))
@settings(max_examples=60)
def test_probabilities_sum_to_one_after_every_context(lines, order, cutoff, least_words):
    model = train(lines, order, least_counts=cutoff, least_word_count=least_words)
    contexts = {tuple([BEGIN, *line.split(), "?"][i : i + 3]) for line in lines for i in range(4)}
    for context in [(), ("a", "a", "a"), *sorted(contexts)[:20]]:
        state = after(model, context)
        total = math.fsum(math.exp(model.score(word, state)[0]) for word in outcomes(model))
        assert total == pytest.approx(1, abs=1e-5)


def kneser_ney(lines, order):
    """p(word | context) by the definition, with dictionaries and recursion; fixed discounts."""
    sentences = [[BEGIN, *line.split(), END] for line in lines]
    grams = {
        n: Counter(tuple(s[i : i + n]) for s in sentences for i in range(len(s) - n + 1))
        for n in range(1, order + 1)
    }
    vocabulary = {word for s in sentences for word in s} - {BEGIN} | {UNKNOWN}

    def count(gram):
        n = len(gram)
        if gram == (BEGIN,):
            return 0
        if n == order or gram[0] == BEGIN:
            return grams[n][gram]
        return sum(1 for longer in grams[n + 1] if longer[1:] == gram)

    def p(word, context):
        rows = [count((*context, w)) for w in vocabulary]
        lower = 1 / len(vocabulary) if not context else p(word, context[1:])
        if not sum(rows):
            return lower
        discount = [0, *FALLBACK]
        left = sum(discount[min(c, 3)] for c in rows) / sum(rows)
        c = count((*context, word))
        return max(c - discount[min(c, 3)], 0) / sum(rows) + left * lower

    return p, vocabulary


@given(corpora, orders)
@settings(max_examples=25)
def test_equals_the_definition(lines, order):
    with pytest.MonkeyPatch.context() as patch:
        fixed = np.array([0.0, *FALLBACK])
        patch.setattr("slyther_cli.research.language.kneser_ney._discounts", lambda counts: fixed)
        model = train(lines, order, least_counts=(1, 1, 1, 1))
    p, vocabulary = kneser_ney(lines, order)
    contexts = [(BEGIN,), (BEGIN, "a"), ("a", "b"), ("b", "a", "a"), tuple(lines[0].split()[:3])]
    for context in contexts:
        context = context[max(len(context) - order + 1, 0) :]
        for word in sorted(vocabulary):
            found = math.exp(model.score(word, after(model, context))[0])
            assert found == pytest.approx(p(word, context), rel=1e-4)


def test_discounts_follow_the_counts_of_counts():
    """Chen & Goodman: Y = n1 / (n1 + 2 n2), D1 = 1 - 2 Y n2 / n1 ..., read back from a unigram model."""
    counts = [1] * 8 + [2] * 4 + [3] * 2 + [4] * 1
    lines = [f"w{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    total, y = 2 * len(lines), 8 / (8 + 2 * 4)
    d = [1 - 2 * y * 4 / 8, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2]
    taken = 8 * d[0] + 4 * d[1] + 3 * d[2] + d[2]  # and of </s>
    model = train(lines, 1)
    uniform = taken / total / (len(counts) + 2)
    assert math.exp(model.score("w00", ())[0]) == pytest.approx((1 - d[0]) / total + uniform)
    assert math.exp(model.score("w08", ())[0]) == pytest.approx((2 - d[1]) / total + uniform)
    assert math.exp(model.score("w14", ())[0]) == pytest.approx((4 - d[2]) / total + uniform)
    assert math.exp(model.score("never", ())[0]) == pytest.approx(uniform)


TEXT = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog",
    "the mat is on the dog",
    "é naïve cat",
] * 2


def test_a_model_prefers_its_text():
    model = train(TEXT, 3)
    assert model.sentence("the cat sat on the mat")[0] > model.sentence("mat the on sat cat the")[0] + 5
    assert model.sentence("the cat sat")[1] == 4
    assert perplexity(model, TEXT) < perplexity(train(TEXT, 1), TEXT) < len(outcomes(model))
    assert math.isnan(perplexity(model, [""]))


def test_words_and_prefixes():
    model = train([*TEXT, "<s> once </s>"], 2, least_word_count=2)
    assert model.knows("cat") and model.knows("é")
    assert not any(model.knows(word) for word in ("ca", "cats", "", "once", BEGIN, END, UNKNOWN, "\ud800"))
    assert all(model.has_prefix(text) for text in ("c", "ca", "cat", "na", "naï", ""))
    assert not any(model.has_prefix(text) for text in ("cats", "zebra", "once"))
    assert model.score("zebra", ()) == model.score(UNKNOWN, ())


@given(corpora, orders, cutoffs)
@settings(max_examples=30)
def test_round_trips_are_exact(tmp_path_factory, lines, order, cutoff):
    folder = tmp_path_factory.mktemp("lm")
    model = train(lines, order, least_counts=cutoff)
    model.save(folder / "lm.bin")
    write_arpa(model, folder / "lm.arpa")
    write_arpa(load_language_model(folder / "lm.bin"), folder / "lm.arpa.gz")
    assert gzip.decompress((folder / "lm.arpa.gz").read_bytes()) == (folder / "lm.arpa").read_bytes()
    for name in ("lm.bin", "lm.arpa", "lm.arpa.gz"):
        same(model, load_language_model(folder / name), lines)
    load_language_model(folder / "lm.arpa").save(folder / "again.bin")
    assert (folder / "again.bin").read_bytes() == (folder / "lm.bin").read_bytes()
    assert len(list(folder.iterdir())) == 4


FOREIGN = """made by hand

\\data\\
ngram 1=4
ngram 2=3
ngram 3=1

\\1-grams:
-1.0 zoo -0.5
-99 <s> -0.25
-0.5 a\t-0.125
-2 </s>

\\2-grams:
-0.3 <s> a -0.0625
-0.2\ta a
-0.1\ta zoo

\\3-grams:
-0.05 <s> a zoo

\\end\\
"""


def test_reads_arpa_of_other_makers(tmp_path):
    path = tmp_path / "x.arpa"
    path.write_text(FOREIGN)
    model = read_arpa(path)

    def score(word, *context):
        return model.score(word, after(model, context))[0] / math.log(10)

    assert score("zoo", BEGIN, "a") == pytest.approx(-0.05)
    assert score("a", BEGIN, "a") == pytest.approx(-0.0625 - 0.2)  # back off to "a a"
    assert score(END, BEGIN, "a") == pytest.approx(-0.0625 - 0.125 - 2)
    assert score(END, "a", "zoo") == pytest.approx(-0.5 - 2)
    assert score("zoo", "zoo") == pytest.approx(-0.5 - 1)
    assert score("who", BEGIN) == pytest.approx(ABSENT_UNKNOWN - 0.25)
    assert after(model, ("a", "who")) == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("\\data\\", "data", "not an ARPA file"),
        ("ngram 2=3", "ngram 3=3", "line 5: orders"),
        ("ngram 1=4\n", "", "line 4: orders"),
        ("ngram 1=4", "ngram 1=99999999", "more than 16777216 words"),
        ("ngram 2=3", "ngram 2=4", "3 2-grams where 4 are announced"),
        ("ngram 2=3", "ngram 2=2", "line 17: more than the 2 2-grams"),
        ("-1.0 zoo", "x zoo", "line 9: a number expected"),
        ("-1.0 zoo", "1.0 zoo", "line 9: a log10 probability"),
        ("-1.0 zoo -0.5", "-1.0 zoo nan", "line 9: a log10 probability"),
        ("-1.0 zoo -0.5", "nan zoo", "line 9: a log10 probability"),
        ("-1.0 zoo -0.5", "-1.0", "line 9: a probability, 1 words"),
        ("-0.5 a", "-0.5 zoo", "line 11: the word 'zoo' stands there twice"),
        ("a zoo\n\n\\3", "a bear\n\n\\3", "'bear' is not among the 1-grams"),
        ("a zoo\n\n\\3", "a a\n\n\\3", "one of the 2-grams above stands there twice"),
        ("<s> a zoo", "zoo a zoo", "a 3-gram above has no entry for its first 2 words"),
        ("\\2-grams:", "\\4-grams:", "2-grams: expected"),
        ("\\end\\", "", "ends early"),
        ("zoo -0.5", "z\udc80o", "line 9: no UTF-8"),
    ],
)
def test_damaged_arpa_is_one_line(tmp_path, old, new, told):
    path = tmp_path / "x.arpa"
    assert old in FOREIGN
    path.write_text(FOREIGN.replace(old, new, 1), errors="surrogateescape")
    with pytest.raises(ModelError) as error:
        load_language_model(path)
    assert told in str(error.value) and "\n" not in str(error.value)


def test_damaged_binary_is_one_line(tmp_path):
    path = tmp_path / "lm.bin"
    train(TEXT, 3).save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    cases = [whole[:n] for n in (0, 10, HEADER.size, len(whole) - 1)] + [whole + b"\0"]
    for place in [*range(16, HEADER.size), *rng.integers(HEADER.size, len(whole), 50).tolist()]:
        cases.append(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
    for data in cases:
        path.write_bytes(data)
        with pytest.raises(ModelError) as error:
            load_language_model(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="cannot be read"):
        load_language_model(tmp_path / "none")
    path.write_bytes(b"\x1f\x8b" + bytes(20))
    with pytest.raises(ModelError, match="cannot be read"):
        load_language_model(path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(FOREIGN.encode())[:-20])
    with pytest.raises(ModelError, match="cannot be read"):
        load_language_model(tmp_path / "cut.gz")


def test_a_forged_binary_cannot_reach_outside(tmp_path):
    """Right checksum, wrong contents: refused, or answers may be wrong, but nothing is read beyond the
    arrays."""
    path = tmp_path / "lm.bin"
    train(TEXT, 3).save(path)
    whole = bytearray(path.read_bytes())
    rng, refused = np.random.default_rng(1), 0
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(HEADER.size, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        fields = list(HEADER.unpack(data[: HEADER.size]))
        fields[7] = zlib.crc32(data[HEADER.size :])
        data[: HEADER.size] = HEADER.pack(*fields)
        path.write_bytes(data)
        try:
            model = load_language_model(path)
        except ModelError as error:
            assert "contradict" in str(error)
            refused += 1
            continue
        for line in TEXT:
            value, words = model.sentence(line)
            assert words == len(line.split()) + 1 and np.isfinite(value)
    assert 10 < refused < 50
    assert struct.calcsize(HEADER.format) == HEADER.size == 80


def test_what_cannot_be_trained_or_written(tmp_path):
    with pytest.raises(ValueError, match="no words"):
        train(["", "  "])
    for options in ({"order": 5}, {"order": 0}, {"least_counts": (2, 2, 2)}, {"least_counts": (1, 3, 2)}):
        with pytest.raises(ValueError, match="must"):
            train(TEXT, **options)
    for write in (lambda path: train(TEXT, 2).save(path), lambda path: write_arpa(train(TEXT, 2), path)):
        with pytest.raises(OutputError, match="cannot be written"):
            write(tmp_path / "none" / "lm")


def test_repeated_contexts_are_remembered_right():
    """The cache of scores gives what is computed afresh."""
    model, counts = train(TEXT, 3), defaultdict(set)
    for _ in range(2):
        for line in TEXT:
            state = model.begin()
            for word in line.split():
                counts[word, state].add(model.score(word, state))
                assert model.score(word, state) == model._score(word, state)
                state = model.score(word, state)[1]
    assert all(len(found) == 1 for found in counts.values())


@given(corpora, st.integers(2, 4), st.floats(0.3, 1.0))
@settings(max_examples=40)
def test_a_pruned_model_fits_and_sums_to_one(lines, order, share):
    whole = train(lines, order, least_counts=(1, 1, 1, 1))
    largest = int(size_of(whole) * share)
    model = train(lines, order, least_counts=(1, 1, 1, 1), largest=largest)
    assert size_of(model) <= largest or not len(model.levels[1].keys)
    assert size_of(model) <= size_of(whole)
    contexts = {tuple([BEGIN, *line.split()][i : i + 3]) for line in lines for i in range(4)}
    for context in [(), *sorted(contexts)[:20]]:
        state = after(model, context)
        total = math.fsum(math.exp(model.score(word, state)[0]) for word in outcomes(model))
        assert total == pytest.approx(1, abs=1e-5)


@given(corpora, corpora, orders, orders, st.floats(0.3, 1.0))
@settings(max_examples=40)
def test_a_blend_is_the_weighted_sum_of_two_models(lines, others, order, second, share):
    """For every n-gram of either, pruned or not; and sums to one after every context."""
    one = train(lines, order, least_counts=(1, 1, 1, 1))
    one = train(lines, order, least_counts=(1, 1, 1, 1), largest=int(size_of(one) * share))
    other = train(others, second, least_counts=(1, 1, 1, 1))
    model = blend(one, other, 0.25)
    assert model.order == max(order, second)

    def p(of, word, context):
        return math.exp(of.score(word, after(of, context))[0]) if of.words.find(word) >= 0 else 0.0

    for k in range(model.order):
        for ids, logp, _ in model.rows(k + 1):
            for gram, value in zip(ids[:50].tolist(), logp, strict=False):
                *context, word = (model.words[i].decode() for i in gram)
                wanted = 0.75 * p(one, word, context) + 0.25 * p(other, word, context)
                assert 10 ** float(value) == pytest.approx(wanted, rel=1e-4, abs=1e-30)
    contexts = {tuple([BEGIN, *line.split()][i : i + 3]) for line in [*lines, *others] for i in range(4)}
    for context in [(), *sorted(contexts)[:20]]:
        state = after(model, context)
        total = math.fsum(math.exp(model.score(word, state)[0]) for word in outcomes(model))
        assert total == pytest.approx(1, abs=1e-5)


def test_the_cost_of_an_ngram_is_the_divergence_without_it():
    """Stolcke's formula against the sum over all words of the models with and without one row."""
    from slyther_cli.research.language.pruning import _costs, _suffixes, _without

    model = train(TEXT, 3, least_counts=(1, 1, 1))
    p = [np.exp(level.logp.astype(float) * math.log(10)) for level in model.levels]
    suffixes = _suffixes(model)
    ones = [np.ones(len(level.logp), np.int64) for level in model.levels]
    costs = _costs(model, p, suffixes, ones)[2]
    for row, (ids, *_) in enumerate(zip(np.concatenate([r[0] for r in model.rows(3)]), strict=True)):
        kept = [np.ones(len(level.logp), bool) for level in model.levels]
        kept[2][row] = False
        less = _without(model, p, suffixes, kept)
        context = [model.words[i].decode() for i in ids[:2]]
        state, other = after(model, context), after(less, context)
        divergence = 0.0
        for word in outcomes(model):
            a, b = model.score(word, state)[0], less.score(word, other)[0]
            divergence += math.exp(a) * (a - b)
        assert costs[row] == pytest.approx(divergence, rel=1e-3, abs=1e-5)


def test_hard_pruning_by_entropy_beats_dropping_what_is_rare(tmp_path):
    rng = np.random.default_rng(0)
    words = np.array([f"w{i}" for i in range(40)])
    chain = rng.dirichlet(np.full(40, 0.1), 40)

    def sentence():
        at, out = int(rng.integers(40)), []
        for _ in range(int(rng.integers(4, 12))):
            at = int(rng.choice(40, p=chain[at]))
            out.append(words[at])
        return " ".join(out)

    text, unseen = [sentence() for _ in range(1500)], [sentence() for _ in range(200)]
    rare = train(text, 3, least_counts=(1, 10, 10))
    pruned = train(text, 3, least_counts=(1, 1, 1), largest=size_of(rare))
    pruned.save(tmp_path / "lm.bin")
    assert (tmp_path / "lm.bin").stat().st_size == size_of(pruned) <= size_of(rare)
    assert perplexity(pruned, unseen) < perplexity(rare, unseen)
