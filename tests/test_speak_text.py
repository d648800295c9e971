"""Text for synthesis: nothing is lost or read wrongly, whatever is typed."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.errors import InputError, ModelError
from slyther_cli.text.letter_rules import apply_rules
from slyther_cli.text.markup import without_markup
from slyther_cli.text.normalise_english import LETTERS, MARKS, normalise, number
from slyther_cli.text.phonemes import ALPHABETS, espeak_missing, pronounce, spell
from slyther_cli.text.pronunciations import Pronunciations
from slyther_cli.text.sentences import split_sentences
from slyther_cli.training.lexicon import align, learn_rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mr. Hale paid $3.50!", "mister hale paid three dollars and fifty cents!"),
        ("on May 17, 1999", "on may seventeenth, nineteen ninety nine"),
        ("2024-05-17", "may seventeenth, twenty twenty four"),
        ("3:45 p.m.; 12% of it", "three forty five p m; twelve percent of it"),
        ("in 1905, the 1990s, 007", "in nineteen oh five, the nineteen nineties, zero zero seven"),
        ("£1,234,567.89", "one million two hundred thirty four thousand five hundred sixty seven pounds "
         "and eighty nine pence"),
        ("NASA, the FBI and J. R. Smith", "nasa, the f b i and j r smith"),
        ("No. 5? no. 1/2, the 21st", "number five? no. one half, the twenty first"),
        ("10-20 kg, 5km, -3", "ten to twenty kilograms, five kilometers, minus three"),
        ("20°C", "twenty degrees celsius"),
        ("$5 million; 100,000 words", "five million dollars; one hundred thousand words"),
        ("mail bob@example.com", "mail bob at example dot com"),
        ("a café — “naïve” ‘quote’ don’t", "a cafe, naive quote don't"),
        ("WHY ARE YOU HERE", "why are you here"),
        ("$1.5M, $5bn, £3k or $5-10; -$5", "one point five million dollars, five billion dollars, "
         "three thousand pounds or five to ten dollars; minus five dollars"),
        ("½ cup, 2½ cups, 2 1/2; 10²", "one half cup, two and one half cups, two and one half; ten squared"),
        ("at -5 °C, .5 kg, v1.2.3", "at minus five degrees celsius, zero point five kilograms, "
         "v one point two point three"),
        ("'90s; the 80s; a 90s timer", "nineties; the eighties; a ninety seconds timer"),
        ("5G, 5g, 5M, iPhone 5S", "five g, five grams, five million, iphone five s"),
        ("CHAPTER XI.", "chapter eleven."),
        ("Chapter I of vol. II: Henry VIII's war", "chapter one of volume two: henry the eighth's war"),
        ("Part I liked, an IV drip, Malcolm X", "part i liked, an i v drip, malcolm x"),
        ("555-123-4567; pp. 3-5; #5 #fun; 5*6", "five five five, one two three, four five six seven; "
         "pages three to five; number five hashtag fun; five times six"),
        ("call 555-1234; +44 20 7946 0958", "call five five five, one two three four; plus four four, "
         "two zero, seven nine four six, zero nine five eight"),
        ("pages 555-1234, 500-1000, 555-1234 km", "pages five hundred fifty five to twelve thirty four, "
         "five hundred to one thousand, five hundred fifty five to one thousand two hundred thirty four "
         "kilometers"),
        ("zip 12345-6789, dial 911", "zip one two three four five, six seven eight nine, dial nine one one"),
        ("at 9 a.m., the AAA", "at nine ay m, the ay ay ay"),
        ("if a < b, 3>2 and c >= -1; a -> b, <y> or x<y>z said\n> he", "if a less than b, three greater than "
         "two and c greater than or equal to minus one; a b, y or x y z said he"),
        ("# A heading of file.txt", "a heading of file dot txt"),
        ("St. Mary's St., 12 Oak Dr. and Dr. Hale", "saint mary's street, twelve oak drive and doctor hale"),
    ],
)  # fmt: skip
def test_what_is_written_is_said_as_it_is_read(text, said):
    assert normalise(text).text == said


@pytest.mark.parametrize(
    ("text", "left", "tags"),
    [
        ('Hi <break time="1.5s"/> <emphasis level="strong">you</emphasis>!', "Hi you!", "break emphasis"),
        ("<speak>One.<p>Two</p>\n<s>three</s></speak>", "One. Two three", "speak p s"),
        ("a < b and c > d, 1<2, x <y> z, press <Enter>", None, ""),
        ("if a <b and c> d", None, ""),
        ("<B>bold</B> R&amp;D &lt;b&gt; AT&T &copy;", "bold R&D <b> AT&T &copy;", "b"),
        ("<!-- not\nthis --><script>nor(this)</script>that <say-as\n interpret-as='date'>1</say-as>",
         "that 1", "comments and the like say-as"),
        ("<break time=1s", None, ""),
        ("İİ <!-- a --> İ <style>b</style > c <!-- d", "İİ İ c <!-- d", "comments and the like"),
    ],
)  # fmt: skip
def test_markup_is_taken_out(text, left, tags):
    got, found = without_markup(text)
    assert got.split() == (text if left is None else left).split()
    assert " ".join(name.strip("<>") for name in found) == tags


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<", ">", "/", "b", "break", " ", "a='1'", "=", "x", "&lt;", "<i>", "!--"]),
        max_size=12,
    )
)
def test_what_is_taken_out_is_only_markup(pieces):
    text = "".join(pieces)
    got, found = without_markup(text)
    if not found and "&" not in text:
        assert got == text
    assert got.count("x") == text.count("x") or "<!--" in text


def test_items_and_headings_are_sentences_of_their_own():
    text = "# Title\nTo buy:\n1. Tea. Green\n2. Two eggs\n- and\n  milk\nin 1984. Then it ended on pp. 3-5.\n"
    said = [s.text for s in split_sentences(text)]
    assert said == ["# Title", "To buy:", "1. Tea.", "Green", "2. Two eggs", "- and milk in 1984.",
                    "Then it ended on pp. 3-5."]  # fmt: skip
    assert " ".join(said) == " ".join(text.split())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=80))
def test_any_text_becomes_words_and_marks(text):
    said, dropped = normalise(text)
    assert set(said) <= set(LETTERS + MARKS + " ") and said == " ".join(said.split())
    assert normalise(said).text == said
    for alphabet in ("graphemes", "arpabet"):
        symbols = spell(text, alphabet).symbols
        assert all(0 < s < len(ALPHABETS[alphabet]) for s in symbols)
        assert bool(symbols) == any(c.isalpha() for c in said)
    assert all(c in text or c.isprintable() for c in dropped)


@given(st.integers(0, 10**15 - 1))
def test_numbers_are_read_back_as_they_were(n):
    small = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    units = {w: i for i, w in enumerate(f"{small} sixteen seventeen eighteen nineteen".split())}
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    units |= {w: 10 * i for i, w in enumerate(tens.split(), 2)}
    scales = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
    total = part = 0
    for word in number(str(n)).split():
        if word in scales:
            total, part = total + part * scales[word], 0
        else:
            part = part * 100 if word == "hundred" else part + units[word]
    assert total + part == n
    assert number(f"{n:,}") == number(str(n))


def test_unknown_words_are_spelled_by_rules_as_the_dictionary_does():
    assert pronounce("hale's") == (("HH", "EY1", "L", "Z"), True)
    assert pronounce("bus's")[0][-2:] == ("AH0", "Z")
    phones, known = pronounce("blargish")
    assert not known and phones[:2] == ("B", "L") and sum(p.endswith("1") for p in phones) == 1
    assert spell("Zyxolotl.", "arpabet").by_rule == ("zyxolotl",)
    assert spell("one two", "arpabet").spoken == 5


def test_rules_are_learnt_from_a_dictionary():
    random.seed(1)
    said = {"a": ("AA1",), "k": ("K",), "t": ("T",), "s": ("S",)}
    words = []
    for _ in range(400):  # h is silent, but makes a t before it a TH; x is two phones
        word = "".join(random.choice(["a", "k", "t", "s", "th", "x"]) for _ in range(5))
        phones = word.replace("th", "Θ").replace("x", "ks")
        words.append((word, tuple("TH" if c == "Θ" else said[c][0] for c in phones)))
    rules = learn_rules(align(words))
    for word, phones in (("thaxthat", "TH AA1 K S TH AA1 T"), ("tasaks", "T AA1 S AA1 K S")):
        assert " ".join(apply_rules(rules, word)) == phones


def test_alphabets_are_told_apart():
    with pytest.raises(ModelError, match="unknown alphabet"):
        spell("hello", "runes")
    if espeak_missing():
        with pytest.raises(ModelError, match="slyther-cli\\[speak\\]"):
            spell("hello", "espeak")
    else:
        ipa = "".join(ALPHABETS["espeak"][i] for i in spell("Why not, Bob?", "espeak").symbols)
        assert ipa.startswith(" wˌaɪ") and "," in ipa and ipa.endswith("?")


def test_long_texts_take_time_in_proportion():
    def seconds(n: int) -> float:
        began = time.process_time()
        assert len(list(split_sentences("a. b? c, " * n))) > n
        return time.process_time() - began

    small = seconds(2000)
    assert seconds(40000) < 20 * 5 * max(small, 0.01)


SAID = Pronunciations(
    ["# names", "Nguyen\tW IH N", "Siobhán  shiv on # a respelling", "St. Ives  AY1 V Z", "SQL  sequel"]
)


def phones_of(text, lexicon=None):
    return " ".join(ALPHABETS["arpabet"][s] for s in spell(text, "arpabet", lexicon).symbols).split()


def test_own_pronunciations_are_said():
    """Written anyhow, with any mark behind, alone or inside; and nothing else changes."""
    assert phones_of("Nguyen", SAID) == ["W", "IH1", "N", "."]
    assert phones_of("Ask NGUYEN, not me", SAID)[3:7] == ["W", "IH1", "N", ","]
    for text, plain in (
        ("Mr. Nguyen, hello", "Mr. win, hello"),
        ("We use SQL; he does not.", "We use sequel; he does not."),
        ("Is it SQL?", "Is it sequel?"),
    ):
        assert spell(text, "graphemes", Pronunciations(["SQL  sequel", "Nguyen  win"])) == spell(
            plain, "graphemes"
        )
    assert phones_of("near St. Ives.", SAID) == [*phones_of("near")[:-1], "AY1", "V", "Z", "."]
    assert phones_of("a saint", SAID) == phones_of("a saint")
    own = Pronunciations(["Xqzley  K W IH1 Z L IY"])
    assert spell("Xqzley", "arpabet").by_rule and not spell("Xqzley", "arpabet", own).by_rule


@given(st.text(max_size=60))
def test_a_lexicon_of_other_words_changes_nothing(text):
    assert spell(text, "arpabet", Pronunciations(["xqzzk  B AA1"])) == spell(text, "arpabet")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("Nguyen", "not a word, two blanks"),
        ("Nguyen W IH1 N", "not a word, two blanks"),
        ("  W IH1 N", "not a word, two blanks"),
        ("Nguyen  W IX1 N", "'IX1' is no phone"),
        ("Nguyen  W1 IH1 N", "'W1' is no phone"),
        ("Nguyen  !?", "no sound in English"),
        ("\u4f60  ni", "not a word"),
    ],
)
def test_lines_that_are_no_pronunciation(line, says):
    with pytest.raises(InputError, match=f"mine, line 2: .*{says}"):
        Pronunciations(["# one", line], "mine")


def test_phones_are_refused_by_a_model_of_letters(tmp_path):
    with pytest.raises(InputError, match="reads no phones"):
        Pronunciations(["Nguyen  W IH1 N"], phones=False)
    for content, says in ((b"\xff\xfe\x00", "not UTF-8"), (b"x" * 4_000_001, "no list")):
        (tmp_path / "list").write_bytes(content)
        with pytest.raises(InputError, match=says):
            Pronunciations.read(tmp_path / "list")
    with pytest.raises(InputError, match="cannot be read"):
        Pronunciations.read(tmp_path)
