"""Spoken words as people write them: english.written, and decode.written over recognised words."""

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode.words import Word
from slyther_cli.decode.written import WordWriter, written_words
from slyther_cli.english.normalise import normalise
from slyther_cli.english.written import LOOKAHEAD, Writer, written
from slyther_cli.english.written_context import VOCABULARY
from slyther_cli.english.written_numbers import ending

WRITTEN = """
three hundred and twelve | 312
three hundred twelve votes | 312 votes
there were twenty one of them | there were 21 of them
twelve thousand | 12,000
one thousand two hundred thirty four | 1,234
a hundred and fifty men | 150 men
one hundred years | 100 years
nine hundred ninety nine thousand nine hundred ninety nine | 999,999
two million five hundred thousand | 2,500,000
two million people | 2 million people
one point five million | 1.5 million
six billion | 6 billion
fifteen hundred families | 1,500 families
between twenty and thirty of them | between 20 and 30 of them
twenty or thirty miles | 20 or 30 miles
two to three million people | 2 to 3 million people
minus twenty | -20
minus five degrees | -5 degrees
about two thousand eight people | about 2,008 people
at nineteen hundred hours | at 1900 hours
at twenty three hundred hours | at 2300 hours
a hundred and eighty degree turn | a 180 degree turn
a hundred and fifty dollar fine | a $150 fine
a hundred and ten percent | 110%
minus point five percent | -0.5%
may two thousand flowers bloom | may 2,000 flowers bloom
route sixty six | route 66
page twelve | page 12
at ten | at 10
twenty first | 21st
the twenty first century | the 21st century
a nineteenth century house | a 19th century house
his tenth birthday | his 10th birthday
the twenty second amendment | the 22nd amendment
one hundred and third street | 103rd street
the thirteenth and the fourteenth | the 13th and the 14th
in nineteen eighty four | in 1984
nineteen eighty four's best film | 1984's best film
twenty twenty six | 2026
two thousand and eight | 2008
two thousand eight | 2008
in two thousand | in 2000
nineteen oh five | 1905
eighteen o three | 1803
twenty oh nine | 2009
nineteen hundred | 1900
he turned twenty one in twenty twenty one | he turned 21 in 2021
the class of nineteen ninety nine | the class of 1999
in ten sixty six | in 1066
in twelve fifteen | in 1215
fourteen ninety two | 1492
nineteen fourteen to nineteen eighteen | 1914 to 1918
nineteen fourteen nineteen eighteen | 1914 1918
seventeen eighteen to seventeen thirty two | 1718 to 1732
in nineteen eighty four twenty people died | in 1984 twenty people died
the nineteen eighties | the 1980s
eighteen hundreds | 1800s
the early two thousands | the early 2000s
the twenty twenties | the 2020s
nine forty five a m | 9:45 a.m.
at nine forty five pm today | at 9:45 p.m. today
nine oh five a m | 9:05 a.m.
nine p m | 9 p.m.
at nine forty five | at 9:45
at one thirty he went | at 1:30 he went
nine thirty in the morning | 9:30 in the morning
from nine thirty to ten forty five | from 9:30 to 10:45
between nine thirty and ten fifteen | between 9:30 and 10:15
at fifteen thirty | at 15:30
between two and three p m | between 2 and 3 p.m.
seven or eight p m | 7 or 8 p.m.
two thirty to three p m | 2:30 to 3 p.m.
between may first and may third | between May 1 and May 3
from may first to may third | from May 1 to May 3
march third nineteen ninety | March 3, 1990
march third | March 3
on may second | on May 2
may first eighteen seventy one | May 1, 1871
march twenty first twenty twenty | March 21, 2020
july twenty nine nineteen sixty nine | July 29, 1969
june twenty nineteen | June 2019
in june nineteen forty four | in June 1944
january the eighth | January 8
on april eleventh and twelfth | on April 11 and 12
december twenty seventh to january third | December 27 to January 3
the third of march nineteen ninety | the 3rd of March 1990
the fourth of july | the 4th of July
ninth of september nineteen sixty four | 9th of September 1964
seven may nineteen forty four | 7 May 1944
on the fourteenth of april twelve months after | on the 14th of April twelve months after
three hundred dollars | $300
one dollar | $1
twelve hundred dollars | $1,200
a hundred dollars | $100
a million dollars | $1 million
two point five million dollars | $2.5 million
a twenty dollar bill | a $20 bill
five to ten dollars | $5 to $10
two to three million dollars | $2 to $3 million
two dollars and fifty cents | $2.50
two dollars fifty | $2.50
a dollar fifty | $1.50
two pounds fifty | £2.50
two pounds and five pence | £2.05
five million pounds | £5 million
a ten pound note | a £10 note
three hundred pounds | 300 pounds
forty euros | €40
five cents | 5 cents
fifteen percent | 15%
fifteen per cent | 15%
zero percent | 0%
point five percent | 0.5%
two or three percent | 2 or 3%
between five and ten percent | between 5 and 10%
minus two point five percent | -2.5%
three point one four | 3.14
zero point five | 0.5
version one point two point three | version 1.2.3
five five five one two three four | 555-1234
five five five one two three four six seven eight | 555-123-4678
four one two six eight seven eight eight seven one | 412-687-8871
one four one two six eight seven eight eight seven one | 1-412-687-8871
oh two oh seven nine four six oh nine five eight | 02079460958
plus four four two oh seven nine four six oh nine five eight | +442079460958
call nine one one | call 911
one eight hundred five five five one two one two | 1-800-555-1212
oh seven seven double oh nine hundred one two three | 07700900123
five kilometers | 5 kilometers
two to three kilometers | 2 to 3 kilometers
one and a half kilometers and twelve miles | one and a half kilometers and 12 miles
five feet ten inches | 5 feet 10 inches
sixteen thousand or two fifths | 16,000 or two fifths
He paid three hundred dollars. | He paid $300.
At nine thirty a m. Twenty men came. | At 9:30 a.m. 20 men came.
March third, nineteen ninety: | March 3, 1990:
Twelve, thirteen, fourteen. | 12, 13, 14.
born on May. Second, nineteen, forty five, in | born on May 2, 1945, in
about six thousand, two, hundred, fifty eight. People | about 6,258. People
at nine, forty five, A. M, and at ten fifteen. P m | at 9:45 a.m., and at 10:15 p.m.
Five, five, five, one, two, three. Four. | 555-1234.
it is two. Point five miles | it is 2.5 miles
he was twenty, one of us. Gate twenty. Two. | he was 20, one of us. Gate 22.
around eight point. Three million. Thirty two of | around 8.3 million. 32 of
pages sixteen, twenty four, thirty two | pages 16, 24, 32
in nineteen eighty four, twenty people | in 1984, 20 people
TWENTY FIVE MEN | 25 MEN
"""
STAYS = """
one of them
two men
no one
that one
one or two
one or twenty of them
the second time
first of all
he may second the motion
we march first
they march third in the parade
it may first seem odd
june first met him in paris
a hundred
a thousand thanks
hundreds of men and thousands of women
the hundred and fifty men
half a million dollars
a few hundred dollars
one in ten
nine out of ten
nine to five
ten to one
twenty to nine
ten after ten
twenty past four
it costs nineteen ninety nine
a couple hundred dollars
forty five to fifty thousand dollars
five to twelve people
two to three hundred
ten or twelve thousand people
half past ten
quarter past eleven
quarter to ten
ten o'clock
nine eleven
seven forty seven
one twenty
twenty four seven
fifty fifty
twenty thirty people
fifteen twenty minutes
twenty twenty vision
twenty twenty hindsight
a buck fifty
between minus ten and minus five
double oh seven
constantine the eleventh
seventeen eighteen years old
thirteen fifteen
ten twenty
six foot two
six pounds ten
two feet
on his own two feet
two thirds of it
three quarters
a tenth of it
one twentieth
that one hundredth part
twelve and a half
ten and three quarters
three point fourteen
at one point two men came
at this point one man left
a three point shot
one two three four five six seven eight nine ten
nine eight seven six five four three
five two one three
room one oh one
my two cents
henry the eighth
louis the fourteenth
a thirty second delay
the thirty second spot
four and twenty blackbirds
four score and seven
three score and ten
twenty something
the eighties
zero
oh twenty of them
two million and a half
may i come in
an april day in march
minus the money
"""


def text_of(words):
    return " ".join(token.text for token in written(words.split()))


def say(text):
    return re.sub("[^a-z' ]", " ", normalise(text, letter_a="a").text).split()


@pytest.mark.parametrize("line", WRITTEN.strip().split("\n"))
def test_written(line):
    said, text = line.split(" | ")
    assert text_of(said) == text


@pytest.mark.parametrize("said", STAYS.strip().split("\n"))
def test_what_stays(said):
    assert text_of(said) == said


# Texts that speak says in words and that come back as they were.
DAYS = st.tuples(
    st.sampled_from("January February March April May June July August October December".split()),  # noqa: SIM905
    st.integers(1, 31),
    st.integers(1300, 2099).filter(lambda year: year % 100 >= 10 or year > 2000),
)
CANONICAL = st.one_of(
    st.integers(10, 10**6 - 1).filter(lambda n: not 1999 < n < 2100).map("{:,}".format),
    st.integers(10, 999)
    .filter(lambda n: n % 10 != 2 and n % 100)  # "twenty second", "hundredth": they need more
    .map(lambda n: f"{n}{ending(n)}")
    .map("the {}".format),
    st.integers(1300, 2099).map("in {}".format),
    st.integers(120, 202).map(lambda n: f"the {n * 10}s"),
    st.builds("at {}:{:02d} {}.m.".format, st.integers(1, 12), st.integers(1, 59), st.sampled_from("ap")),
    st.builds("at {}:{:02d}".format, st.sampled_from([1, 2, 3, 5, 10, 11, 12]), st.integers(1, 59)),
    st.integers(1, 999_999).map("${:,}".format),
    st.builds("${:,}.{:02d}".format, st.integers(1, 9999), st.integers(1, 99)),
    st.builds("£{}.{:02d}".format, st.integers(1, 999), st.integers(2, 99)),
    st.builds("${} {}".format, st.integers(1, 999), st.sampled_from(["million", "billion"])),
    st.integers(10, 10**5).map("€{:,}".format),
    st.integers(0, 9999).map("{:,}%".format),
    st.builds("{:,}.{}".format, st.integers(0, 9999), st.integers(1, 10**6)),
    st.builds("{}.{}%".format, st.integers(0, 99), st.integers(0, 9)),
    st.builds("{}-{:04d}".format, st.integers(222, 999), st.integers(1, 9999).filter(lambda n: n % 100)),
    DAYS.map(lambda day: f"on {day[0]} {day[1]}, {day[2]}"),
    DAYS.map(lambda day: f"on {day[0]} {day[1]}"),
    st.integers(2, 99).map("{} kilometers".format),
)  # fmt: skip


@settings(max_examples=400)
@given(CANONICAL)
def test_what_is_said_is_written_as_it_was(text):
    assert " ".join(token.text for token in written(say(text))) == text


WORDS = st.lists(
    st.one_of(
        st.sampled_from(sorted(VOCABULARY)),
        st.sampled_from("one two five nine ten nineteen twenty eighty hundred thousand oh point".split()),  # noqa: SIM905
        st.sampled_from(["house", "was", "one's", "dollars,", "ten.", "four,", "Twenty", "o'clock", "years"]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(WORDS)
def test_tokens_tile_the_words(words):
    tokens = written(words)
    assert [t.start for t in tokens] + [len(words)] == [0] + [t.stop for t in tokens]
    assert all(t.text and " " not in t.text and t.start < t.stop for t in tokens)


@settings(max_examples=200)
@given(WORDS, st.lists(st.integers(1, 70), min_size=1))
def test_a_stream_is_written_like_the_whole(words, sizes):
    writer, done, at, k = Writer(), [], 0, 0
    while at < len(words):
        size = sizes[k % len(sizes)]
        done += writer.push(words[at : at + size])
        at, k = at + size, k + 1
        assert min(at, len(words)) - (done[-1].stop if done else 0) <= LOOKAHEAD
    assert done + writer.flush() == written(words)


@given(st.lists(st.text("abcdefghij'ABC123$%:.,-", min_size=1), max_size=20))
def test_other_words_stay(words):
    words = [word for word in words if word.lower().strip(".,:") not in VOCABULARY]
    assert [token.text for token in written(words)] == words


@settings(max_examples=200)
@given(CANONICAL)
def test_what_is_written_stays(text):
    once = [token.text for token in written(say(text))]
    assert [token.text for token in written(once)] == once


def test_a_long_run_of_digits_and_numbers_is_read_to_its_end():
    run = [random.Random(1).choice("one two three four five six seven oh".split()) for _ in range(500)]  # noqa: SIM905
    assert "".join(token.text for token in written(run)) == "".join(
        {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "oh": "0"}[
            w
        ]
        for w in run
    )


def test_none_and_one():
    assert written([]) == [] and Writer().flush() == []
    assert written(["twelve"]) == [("12", 0, 1)]


@pytest.mark.parametrize("every, count", [(20, 300_000), (1, 40_000)])
def test_time_is_linear(every, count):
    """Prose in which every so-manieth word belongs to a number, or nothing but such words."""
    chance = random.Random(2)
    numbers = sorted(VOCABULARY)
    words = [chance.choice(numbers) if chance.random() * every < 1 else "house" for _ in range(count)]
    begun = time.process_time()
    assert written(words)[-1].stop == count
    assert time.process_time() - begun < 5


def spoken(text, *, gap=0, speaker=None):
    return [Word(w, 100 * k, 100 * k + 100 - gap, 0.5, (k,), speaker) for k, w in enumerate(text.split())]


def test_a_written_word_spans_its_spoken_words():
    words = spoken("it cost three hundred dollars at nine forty five a m")
    words[3] = words[3]._replace(probability=0.8, tokens=(3, 33, 333))
    done = written_words(words)
    assert [w.text for w in done] == ["it", "cost", "$300", "at", "9:45", "a.m."]
    assert done[2][1:3] == (200, 500) and done[2].tokens == (2, 3, 33, 333, 4)
    assert done[2].probability == pytest.approx((0.5 + 3 * 0.8 + 0.5) / 5)
    assert done[0] == words[0] and done[4][1:3] == (600, 900) and done[5][1:3] == (900, 1100)


def test_a_dash_is_a_mark_and_kept():
    words = ["in", "nineteen", "eighty", "four –", "at", "nine", "forty –", "no"]
    assert [token.text for token in written(words)] == ["in", "1984 –", "at", "9:40 –", "no"]


def test_pauses_and_other_speakers_part_numbers():
    two = [*spoken("twenty", speaker="S1"), *spoken("five", speaker="S2")]
    assert [w.text for w in written_words(two)] == ["20", "five"]
    words = spoken("twenty five", gap=60)
    assert [w.text for w in written_words(words, pause=60)] == ["20", "five"]
    assert [w.text for w in written_words(words, pause=61)] == ["25"]
    with pytest.raises(ValueError, match="pause"):
        WordWriter(pause=-1)


def test_words_in_a_stream():
    words = spoken("in nineteen eighty four there were three hundred and twelve of them")
    writer = WordWriter(pause=50)
    done = writer.push(words[:3])
    assert [w.text for w in done] == ["in"]
    assert writer.advance(320) == []
    done += writer.push(words[3:])
    assert done + writer.flush() == written_words(words)
    assert writer.push(words[2:3]) == []
    assert writer.advance(349) == [] and [w.text for w in writer.advance(350)] == ["80"]
    assert writer.advance(10_000) == []
