"""Text for synthesis: nothing is lost or read wrongly, whatever is typed."""

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.english.letter_rules import apply_rules
from slyther_cli.english.markup import without_markup
from slyther_cli.english.normalise import LETTERS, MARKS, foreign_words, normalise, number
from slyther_cli.english.phonemes import ALPHABETS, espeak_missing, pronounce, spell
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.english.sentences import split_sentences
from slyther_cli.errors import InputError, ModelError
from slyther_cli.research.training.lexicon import align, learn_rules


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
        ("'90s; the 80s; a 90s timer", "nineties; the eighties; a ninety second timer"),
        ("5G, 5g, 5M, iPhone 5S", "five g, five grams, five million, iphone five s"),
        ("CHAPTER XI.", "chapter eleven."),
        ("Chapter I of vol. II: Henry VIII's war", "chapter one of volume two: henry the eighth's war"),
        ("Part I liked, an IV drip, Malcolm X", "part i liked, an i v drip, malcolm x"),
        ("A Commodore VIC-20; Part IVX", "a commodore v i c twenty; part i v x"),
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
        ("It lasted 1:23:45, or 0:00:05; at 12:30:15",
         "it lasted one hour twenty three minutes and forty five seconds, or five seconds; at twelve "
         "thirty and fifteen seconds"),
        ("5€ or 5 £ or 100¥; 1.50 €, 5-10 €, 5 million €, $5 £6",
         "five euros or five pounds or one hundred yen; one euro and fifty cents, five to ten euros, five "
         "million euros, five dollars six pounds"),
        ("p<0.05; >50% and <10%; age > 50, >=5",
         "p less than zero point zero five; more than fifty percent and less than ten percent; age greater"
         " than fifty, at least five"),
        ("2^10, 50¢, 1,000-2,000, 1.5-2 kg",
         "two to the power of ten, fifty cents, one thousand to two thousand, one point five to two "
         "kilograms"),
        ("1/2 lb, 2 1/2 lbs, 3/4 h and 2½ in. of it",
         "half a pound, two and a half pounds, three quarters of an hour and two and a half inches of it"),
        ("the 1,000th, 2,500th and 30th", "the one thousandth, two thousand five hundredth and thirtieth"),
        ("5/6/21, 13/06/2021, 2024/01/15, 13.06.2021",
         "may sixth, twenty twenty one, june thirteenth, twenty twenty one, january fifteenth, twenty "
         "twenty four, june thirteenth, twenty twenty one"),
        ("9/11, 24/7, 13/14/2021",
         "nine eleven, twenty four seven, thirteen slash fourteen slash twenty twenty one"),
        ("3 March 2021; the 7th of Dec 1941; Dec 7, Apr 1; Sept. 11; Dec 1941; a 3 May visit",
         "the third of march, twenty twenty one; the seventh of december, nineteen forty one; december "
         "seventh, april first; september eleventh; december nineteen forty one; a may third visit"),
        ("80s music. The 60s, the 70s and 80s; the 1980's, in her 30s",
         "eighties music. the sixties, the seventies and eighties; the nineteen eighties, in her thirties"),
        ("Henry V; Elizabeth I, World War I began",
         "henry the fifth; elizabeth the first, world war one began"),
        ("Charles I was king. I told Mary I was ill. King John I saw.",
         "charles the first was king. i told mary i was ill. king john the first saw."),
        ("a $20 bill, £5 notes, a 10 km run, a 10-km walk, a $5 million fine",
         "a twenty dollar bill, five pound notes, a ten kilometer run, a ten kilometer walk, a five "
         "million dollar fine"),
        ("16:9, 3:2, a ratio of 3:20; 60:40; John 3:2",
         "sixteen to nine, three to two, a ratio of three to twenty; sixty forty; john three two"),
        ("UCLA, YMCA, NASA, COVID; do NOT", "u c l ay, y m c ay, nasa, covid; do not"),
        ("UCLA.", "u c l ay."),
        ("5%-10%, 2-3 p.m., 9:00-11:30, 0<x<1, 2**3", "five percent to ten percent, two to three p m, "
         "nine o'clock to eleven thirty, zero less than x less than one, two to the power of three"),
        ("4155550123, 1 000 000, 10 000; 100 200 300",
         "four one five five five five zero one two three, one million, ten thousand; one hundred two "
         "hundred three hundred"),
        ("He arrived at 7 p.m. Then he left the U.S. She did not, by 7 Dec. He did.",
         "he arrived at seven p m. then he left the u s. she did not, by the seventh of december. he did."),
        ("6 ft. tall, 10 min. and stir, 12 oz. of gold, 5 lb.",
         "six feet tall, ten minutes and stir, twelve ounces of gold, five pounds."),
        ("## 3 Methods", "three methods"),
        ("# 2024 in review", "twenty twenty four in review"),
        ("**We** are *the* #1 in C#", "we are the number one in c sharp"),
        ("$1234567890123456; 0.12345678901234567",
         "one two three four five six seven eight nine zero one two three four five six dollars; "
         "zero point one two three four five six seven eight nine zero one two three four five six seven"),
        ("St. Mary's St., 12 Oak Dr. and Dr. Hale", "saint mary's street, twelve oak drive and doctor hale"),
        ("The U.S. FBI and FBI CIA men, the FBI's; J. S. Bach, a U.S. Navy man",
         "the u s, f b i and f b i, c i ay men, the f b i's; j s bach, a u s navy man"),
        ("See https://www.example.com/a/b_c.html?x=1&y=2.",
         "see w w w dot example dot com slash a slash b underscore c dot html question mark x equals one and "
         "y equals two."),
        ("(www.bbc.co.uk/news), ftp.example.net; a.io? EXAMPLE.COM!",
         "w w w dot bbc dot co dot u k slash news, ftp dot example dot net; a dot i o? example dot com!"),
        ("jo.doe@mail.example.org, me-1@x.de",
         "jo dot doe at mail dot example dot org, me dash one at x dot d e"),
        ("http://localhost:80/2024/555-1234 and a doc.txt",
         "localhost colon eighty slash twenty twenty four slash five hundred fifty five dash twelve thirty "
         "four and a doc dot txt"),
        ("**https://example.com** x.com/a,b", "example dot com x dot com slash a, b"),
        ("\u0663 of \u0967\u0968 and \uff11\u066b5", "three of twelve and one point five"),
    ],
)  # fmt: skip
def test_what_is_written_is_said_as_it_is_read(text, said):
    assert normalise(text).text == said


@pytest.mark.parametrize(
    ("text", "left_out"),
    [
        ("a -> b, 5 * x, $ and \\ ☺", "☺>*$\\"),
        ("a 5* hotel", "*"),
        ('a well-known **bold** `word`, "said" snake_case (he)', ""),
        ("p<0.05, 2^10, 5 €, ~5, 5 ≤ 6 ± 1 ≠ 2", ""),
    ],
)
def test_what_is_left_out_is_reported(text, left_out):
    assert normalise(text).dropped == left_out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello \u4f60\u597d world, caf\xe9 na\xefve \U0001f600", ["\u4f60\u597d"]),
        (
            "\u041f\u0440\u0438\u0432\u0435\u0442, \u0939\u093f\u0928\u094d\u0926\u0940-x",
            ["\u041f\u0440\u0438\u0432\u0435\u0442", "\u0939\u093f\u0928\u094d\u0926\u0940"],
        ),
        ("5 \u20ac, \xbd, \xdf, e\u0301", []),
    ],
)
def test_words_of_other_scripts_are_found_whole(text, words):
    assert foreign_words(text) == words


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He arrived at 7 p.m. Then he left.", ["He arrived at 7 p.m.", "Then he left."]),
        ("He lives in the U.S. She does not.", ["He lives in the U.S.", "She does not."]),
        ("The U.S. Navy and J. R. Smith met the U.N. Council.", None),
        ("Apple Inc. The end. He said no. So did I.",
         ["Apple Inc.", "The end.", "He said no.", "So did I."]),
        ("It is 6 ft. tall, 5 lb. 3 oz. of No. 5, says Dr. No in Dec. 1941.", None),
        ("## 3. Methods", None),
    ],
)  # fmt: skip
def test_full_stops_of_abbreviations(text, sentences):
    assert [s.text for s in split_sentences(text)] == (sentences or [text])


def test_quoted_lines():
    assert [s.text for s in split_sentences("> He saw\n> 5 of us.\n>> And me")] == [
        "He saw 5 of us.",
        ">> And me",
    ]


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


@settings(max_examples=200)
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


@settings(max_examples=300)
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


@pytest.mark.parametrize(
    "piece", [",000", "1", "0.1", ",", "a.", "1-", "Mr. ", "  ", "." * 9 + "x", "$", "'"]
)
def test_odd_texts_take_time_in_proportion(piece):
    """Half a minute and more where a rule looks at all the rest of the text from every place in it."""
    text = piece * (30000 // len(piece)) + "x"
    began = time.process_time()
    normalise(text)
    list(split_sentences(text))
    assert time.process_time() - began < 5


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
