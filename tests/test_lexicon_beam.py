"""Phones as units, the words that they may be, and the search for those words."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.lexicon import Lexicon, hot_words, load_words, save_words
from slyther_cli.decode.lexicon_beam import (
    LexiconBeam,
    LexiconOptions,
    PlainLexiconBeam,
    SpokenWords,
    lexicon_beam,
)
from slyther_cli.decode.phones import PHONES, PhoneTokenizer
from slyther_cli.decode.realign import Realigner
from slyther_cli.decode.words import Token, WordStream
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.errors import InputError, ModelError
from slyther_cli.research.language.kneser_ney import train

UNITS = PhoneTokenizer()
TEXTS = ["the cat sat", "the cat can see the sea", "see the dog", "the dog sat", "a cat can", "the sea"] * 3
EVERYTHING = {"beam": 100_000, "beam_prune_logp": -1e9, "token_prune_min_logp": -1e9}


@pytest.fixture(scope="module")
def lm():
    return train(TEXTS, 3)


@pytest.fixture(scope="module")
def lexicon(lm):
    return Lexicon(lm)


def heard(text, rng, frames=(1, 3), pause=(0, 2), level=6.0, noise=1.0):
    """Log-probabilities [n, 79] of a text's phones, with noise."""
    rows = []
    for unit in UNITS.encode(text):
        for row, (low, high) in ((unit, frames), (0, pause)):
            for _ in range(rng.integers(low, high + 1)):
                x = rng.normal(0, noise, UNITS.size)
                x[row] += level
                rows.append(x)
    x = np.array(rows)
    return x - np.logaddexp.reduce(x, axis=1, keepdims=True)


def found(search, lexicon, log_probs, pieces=1):
    tokens = [token for part in np.array_split(log_probs, pieces) for token in search.push(part)]
    return [*tokens, *search.flush()]


def read(lm, lexicon, text, seed):
    """What is found in the noisy phones of a text."""
    x = heard(text, np.random.default_rng(seed))
    return words(lexicon, found(lexicon_beam(lexicon, lm, LexiconOptions()), lexicon, x))


def words(lexicon, tokens):
    return SpokenWords(lexicon, UNITS).decode(token.id for token in tokens)


class TestPhones:
    def test_a_word_begins_with_units_of_its_own(self):
        assert UNITS.decode(UNITS.encode("the cat")) == "DH-AH K-AE-T"
        assert UNITS.size == 79
        assert UNITS.begins_word.sum() == 39

    def test_words_that_the_dictionary_lacks_are_said_by_the_spelling_rules(self):
        assert UNITS.decode(UNITS.encode("blorping")) == "B-L-AO-R-P-IH-NG"

    @pytest.mark.parametrize("text", ["3 cats", "größe", "'"])
    def test_what_is_not_in_english_letters_has_no_phones(self, text):
        with pytest.raises(ValueError, match="English letters"):
            UNITS.encode(text)

    def test_saved_and_loaded_it_is_the_same(self, tmp_path):
        UNITS.save(tmp_path)
        again = load_tokenizer(tmp_path)
        assert isinstance(again, PhoneTokenizer)
        assert again.encode("the dog") == UNITS.encode("the dog")

    def test_other_phones_are_refused(self, tmp_path):
        UNITS.save(tmp_path)
        path = tmp_path / "tokens.json"
        path.write_text(path.read_text().replace('"ZH"', '"XX"'))
        with pytest.raises(ModelError, match="other ones"):
            load_tokenizer(tmp_path)


class TestSearch:
    @pytest.mark.parametrize("kind", [LexiconBeam, PlainLexiconBeam])
    def test_finds_the_best_of_all_texts_with_its_exact_score(self, lm, lexicon, kind):
        options = LexiconOptions(**EVERYTHING, lm_weight=0.8, word_bonus=0.3)
        rng = np.random.default_rng(0)
        x = rng.normal(0, 1.5, (7, UNITS.size))
        x -= np.logaddexp.reduce(x, axis=1, keepdims=True)
        vocabulary = [w for w in ("a", "can", "cat", "dog", "sat", "sea", "see", "the")]
        best, best_text = -math.inf, ""
        for n in (0, 1, 2):  # three words are 6 phones and more, and beyond two histories merge
            for text in itertools.product(vocabulary, repeat=n):
                value = _ctc(x, UNITS.encode(" ".join(text)))
                state = lm.begin()
                for word in text:
                    score, state = lm.score(word, state)
                    value += 0.8 * score + 0.3
                if value > best:
                    best, best_text = value, " ".join(text)
        search = kind(lexicon, lm, options)
        assert words(lexicon, found(search, lexicon, x)) == best_text
        assert search.score == pytest.approx(best, abs=1e-9)

    def test_compiled_and_plain_find_the_same_tokens(self, lm, lexicon):
        rng = np.random.default_rng(1)
        for noise in (0.5, 1.5, 2.5):
            x = heard("the cat can see the dog", rng, noise=noise)
            for more in ({}, {"beam": 20, "max_delay": 8, "tied": 0.3, "blank_bonus": -1.0, "lm_pause": 2}):
                both = [kind(lexicon, lm, LexiconOptions(**more)) for kind in (LexiconBeam, PlainLexiconBeam)]
                fed = [search.push(x) for search in both]
                assert fed[0] == fed[1]
                assert both[0].partial() == both[1].partial()
                ends = [search.flush() for search in both]
                assert ends[0] == ends[1]
                assert both[0].score == pytest.approx(both[1].score, abs=1e-3)

    def test_nothing_depends_on_how_the_frames_are_fed(self, lm, lexicon):
        x = heard("the dog sat a cat can see the sea", np.random.default_rng(2), noise=2.0)
        options = LexiconOptions(max_delay=20)
        once = found(lexicon_beam(lexicon, lm, options), lexicon, x)
        assert found(lexicon_beam(lexicon, lm, options), lexicon, x, pieces=len(x)) == once
        assert words(lexicon, once)

    def test_homophones_are_told_apart_by_the_language_model(self, lm, lexicon):
        assert read(lm, lexicon, "the cat can see the sea", 3) == "the cat can see the sea"

    def test_words_are_given_out_before_the_end_and_wait_no_longer_than_allowed(self, lm, lexicon):
        x = heard("the dog sat " * 8, np.random.default_rng(4), noise=2.0)
        search = lexicon_beam(lexicon, lm, LexiconOptions(max_delay=15))
        late = []
        for frame in range(len(x)):
            late += [frame - token.start for token in search.push(x[frame : frame + 1])]
        assert len(late) > 50
        assert max(late) <= 15 + 20  # and the word that was open

    def test_an_unfinished_word_is_not_written(self, lm, lexicon):
        x = heard("the dog", np.random.default_rng(5))
        last = UNITS.encode("the dog")[-1]
        x = x[: np.flatnonzero(x.argmax(1) == last)[0]]
        tokens = found(lexicon_beam(lexicon, lm, LexiconOptions()), lexicon, x)
        assert words(lexicon, tokens) == "the"

    def test_silence_is_no_word_and_frames_without_hope_are_passed_over(self, lm, lexicon):
        x = np.full((30, UNITS.size), -20.0)
        x[:, 0] = 0.0
        x[10:12] = -np.inf
        assert found(lexicon_beam(lexicon, lm, LexiconOptions()), lexicon, x) == []

    def test_words_have_the_times_of_their_phones(self, lm, lexicon):
        ids, rows = UNITS.encode("the cat sat"), []
        for i, unit in enumerate(ids):
            rows += [unit, unit, 0, 0] if i != 4 else [unit, 0, 0, 0]
        x = np.full((len(rows), UNITS.size), -9.0)
        x[np.arange(len(rows)), rows] = -0.1
        stream = WordStream(SpokenWords(lexicon, UNITS), hop=10)
        realigner = Realigner(750)
        realigner.push_log_probs(x)
        tokens = found(lexicon_beam(lexicon, lm, LexiconOptions()), lexicon, x)
        exact = [*realigner.push(tokens), *realigner.flush()]
        got = [*stream.push(exact), *stream.flush()]
        assert [(w.text, w.start, w.end) for w in got] == [
            ("the", 0, 60), ("cat", 80, 170), ("sat", 200, 300),
        ]  # fmt: skip
        assert all(w.probability > 0.9 for w in got)

    def test_phones_of_no_known_word_are_shown_as_phones(self, lexicon):
        alphabet = SpokenWords(lexicon, UNITS)
        stream = WordStream(alphabet, hop=1)
        tokens = [Token(unit, i, i + 1, 0.0) for i, unit in enumerate(UNITS.encode("the cat"))]
        assert [w.text for w in [*stream.push(tokens), *stream.flush()]] == ["DH-AH", "K-AE-T"]

    def test_bad_options_are_refused(self):
        for wrong in ({"beam": 0}, {"lm_weight": -1.0}, {"tied": 1.5}, {"beam_prune_logp": 1.0}):
            with pytest.raises(ValueError, match="must"):
                LexiconOptions(**wrong)


class TestLexicon:
    def test_a_user_s_pronunciation_stands_beside_the_dictionary_s(self, lm):
        own = Pronunciations(["Nguyen  W IH1 N", "cat  K IH1 T"])
        lexicon = Lexicon(lm, own)
        assert read(lm, lexicon, "the cat sat", 6) == "the cat sat"
        assert read(lm, lexicon, "the win sat", 6) == "the nguyen sat"
        assert read(lm, lexicon, "the kit sat", 6) == "the cat sat"

    def test_a_user_s_word_is_written_as_it_stands_in_the_file(self, lm):
        own = Pronunciations(["SQL  S IY1 K W AH0 L", "3M  TH R IY1 EH1 M", "café  K AE1 F EY2"])
        lexicon = Lexicon(lm, own, hot=hot_words("SQL"))
        assert lexicon.added == ["sql", "3m", "cafe"]
        assert read(lm, lexicon, "the sequel sat", 6) == "the sql sat"
        names, extra = lexicon.spoken.names.tolist(), lexicon.extra
        assert names.count(len(lm.words)) == 1  # a hot word is said as the file has it, and no other way
        assert extra[names.index(len(lm.words))] > extra[names.index(len(lm.words) + 1)]

    def test_many_words_take_linear_time(self, lm):
        class Many:
            def written(self):
                return ((f"name{i}", ("AA1", "R")) for i in range(40_000))

        begun = time.process_time()
        assert len(Lexicon(lm, Many()).added) == 40_000
        assert time.process_time() - begun < 8

    def test_a_hot_word_wins_where_it_sounds_alike(self, lm, lexicon):
        x = heard("the cat can see the sea", np.random.default_rng(7))
        hot = Lexicon(lm, hot=hot_words("SEA,"))
        options = LexiconOptions(lm_weight=0.5)
        assert words(hot, found(lexicon_beam(hot, lm, options), hot, x)) == "the cat can sea the sea"

    def test_a_hot_word_that_the_model_lacks_is_added(self, lm):
        hot = Lexicon(lm, hot=hot_words("Kubernetes, New York"))
        assert read(lm, hot, "the kubernetes sat", 8) == "the kubernetes sat"

    @pytest.mark.parametrize(
        ("text", "why"),
        [("Нгуен", "'Нгуен' is not written in English"), (" , ,", "no word in it"), ("a, 東京", "'東京'")],
    )
    def test_hot_words_in_other_scripts_are_refused(self, text, why):
        with pytest.raises(InputError, match=why):
            hot_words(text)

    def test_unknown_phones_are_refused_with_their_line(self):
        with pytest.raises(InputError, match=r"line 2: 'XQ' is no phone"):
            Pronunciations(["cat  K AE1 T", "dog  D XQ G"])

    def test_what_is_written_down_of_the_words_is_what_would_be_made(self, lm, lexicon, tmp_path):
        save_words(lm, tmp_path / "lexicon.npz")
        again = load_words(lm, tmp_path / "lexicon.npz")
        assert all(np.array_equal(a, b) for a, b in zip(again, lexicon.spoken, strict=True))

    def test_that_of_other_words_or_damaged_is_refused(self, lm, tmp_path):
        path = tmp_path / "lexicon.npz"
        save_words(train(["other words altogether"], 2), path)
        with pytest.raises(ModelError, match="of other words"):
            load_words(lm, path)
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(ModelError, match="damaged"):
            load_words(lm, path)

    def test_a_model_without_a_word_in_english_letters_is_refused(self):
        with pytest.raises(InputError, match="English letters"):
            Lexicon(train(["größe straße"], 2))


def _ctc(x, ids):
    """Logarithm of the sum over all alignments."""
    lengths = torch.tensor([len(x)]), torch.tensor([len(ids)])
    loss = functional.ctc_loss(
        torch.from_numpy(x)[:, None], torch.tensor([ids], dtype=torch.long), *lengths, reduction="sum"
    )
    return -float(loss)


def test_every_phone_has_letters_that_spell_it():
    from slyther_cli.decode.phones import SPELT

    assert set(SPELT) == set(PHONES)
