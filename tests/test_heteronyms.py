"""Words that are read in two ways: how often the right one is chosen, and what overrules it."""

import re
from pathlib import Path

import pytest

from slyther_cli.english.heteronyms import choose_readings, readings
from slyther_cli.english.normalise import MARKS, normalise
from slyther_cli.english.phonemes import ALPHABETS, pronounce, spell
from slyther_cli.english.pronunciations import Pronunciations

HERE = Path(__file__).parent
GROUP = re.compile(r"([a-z]+) ((?:[A-Z]+[012]?(?: |$))+)")


def sentences(held_out: bool) -> list[tuple[str, tuple[str, ...], str]]:
    """(word, phones, sentence) of our own sentences; of each group every second one is held out."""
    rows, count = [], 0
    for line in (HERE / "heteronyms.txt").read_text().splitlines():
        if found := GROUP.fullmatch(line):
            word, phones, count = found[1], tuple(found[2].split()), 0
        elif line and not line.startswith("#"):
            if count % 2 == held_out:
                rows.append((word, phones, line))
            count += 1
    return rows


def of_novels() -> list[tuple[str, tuple[str, ...], str]]:
    lines = (HERE / "heteronyms_novels.txt").read_text().splitlines()
    parts = [line.partition("\t") for line in lines if line and not line.startswith("#")]
    return [(about.split()[0], tuple(about.split()[1:]), sentence) for about, _, sentence in parts]


def accuracy(rows, choose) -> float:
    """The share of sentences in which ``choose`` (word, its place, normalised words, sentence) is right."""
    right = 0
    for word, phones, sentence in rows:
        words = normalise(sentence).text.split()
        plain = [w.rstrip(MARKS) for w in words]
        assert plain.count(word) == 1, sentence
        right += choose(word, plain.index(word), words, sentence) == phones
    return right / len(rows)


def chosen(word, place, words, sentence):
    return choose_readings(words, sentence)[place]


def first(word, place, words, sentence):
    return pronounce(word)[0]


@pytest.mark.parametrize(
    ("rows", "before", "least"),
    [(sentences(False), 0.50, 0.97), (sentences(True), 0.50, 0.97), (of_novels(), 0.62, 0.94)],
    ids=["own", "own, held out", "novels"],
)
def test_the_reading_is_right_far_more_often_than_the_first_one(rows, before, least):
    assert len(rows) > 150
    assert accuracy(rows, first) < before
    assert accuracy(rows, chosen) >= least


def test_there_are_many_words_and_both_of_their_readings_can_be_said():
    table = readings()
    base = {word for word, _, _ in sentences(False)}
    assert len(base) >= 40 and base <= table.keys() and len(table) > 150
    for ways in table.values():
        for way in ways:
            assert set(way.phones) <= set(ALPHABETS["arpabet"])
            assert sum(phone.endswith("1") for phone in way.phones) == 1


def said(text: str, lexicon: Pronunciations | None = None) -> list[str]:
    """The phones of each word."""
    symbols = [ALPHABETS["arpabet"][s] for s in spell(text, "arpabet", lexicon).symbols]
    return " ".join(symbols).replace(" . ", "   ").split("   ")


def test_a_text_is_spelled_with_the_readings_and_a_lexicon_wins():
    text = "I read it. The wind's howl and her tears; they wind the clock."
    found = spell(text, "arpabet")
    assert dict(found.readings)["wind's"] == "W IH1 N D Z" and dict(found.readings)["wind"] == "W AY1 N D"
    mine = Pronunciations(["tears  T EH1 R Z", "read  red"])
    other = spell(text, "arpabet", mine)
    assert "tears" not in dict(other.readings) and "read" not in dict(other.readings)
    assert other.symbols != found.symbols
    assert not spell(text, "graphemes").readings


@pytest.mark.parametrize(
    ("text", "word", "phones"),
    [
        ("He is a Polish count.", "polish", "P OW1 L IH0 SH"),
        ("We polish shoes.", "polish", "P AA1 L IH0 SH"),
        ("WE POLISH SHOES.", "polish", "P AA1 L IH0 SH"),
        ("They met in August.", "august", "AA1 G AH0 S T"),
        ("The book of Job is old.", "job", "JH OW1 B"),
        ("Job offers are rare.", "job", "JH AA1 B"),
    ],
)
def test_a_capital_tells(text, word, phones):
    assert dict(spell(text, "arpabet").readings)[word] == phones


def test_odd_texts_are_no_trouble():
    for text in ("", "read", "read.", "?!", "read read read", "Read, READ; read's", "the 'lead' 3 read"):
        spell(text, "arpabet")
