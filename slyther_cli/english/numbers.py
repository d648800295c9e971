"""Numbers in English words, by num2words: cardinals, ordinals, years, decades, digits, Roman numerals."""

from __future__ import annotations

import re
from collections.abc import Callable

from slyther_cli.english.sentences import begins_sentence

Say = Callable[[re.Match[str]], str]
Rules = list[tuple[re.Pattern[str], Say]]
NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
A = "\x01"
"""The letter, until it is known whether its name is wanted; no text brings one."""


def number(digits: str, to: str = "cardinal") -> str:
    """A number in words: "1,234.5" -> "one thousand two hundred thirty four point five"."""
    from num2words import num2words

    plain = digits.replace(",", "")
    if to == "cardinal" and (len(plain.partition(".")[0]) > 15 or re.match(r"0\d", plain)):
        return spell_digits(plain)
    whole, point, fraction = plain.partition(".")
    if to == "cardinal" and point:
        return f"{_words(num2words(int(whole)))} point {spell_digits(fraction)}"
    return _words(num2words(int(whole), to=to))


def spell_digits(digits: str) -> str:
    """ "90.4" -> "nine zero point four"."""
    names = "zero one two three four five six seven eight nine".split()  # noqa: SIM905
    return " ".join("point" if d == "." else names[int(d)] for d in digits)


def ordinal(digits: str | int) -> str:
    return number(str(digits), "ordinal")


def year(digits: str) -> str:
    """ "1999" -> "nineteen ninety nine", "1905" -> "nineteen oh five"."""
    return number(digits, to="year")


def decade(digits: str) -> str:
    """ "80" -> "eighties", "1900" -> "nineteen hundreds"."""
    if digits == "00":
        return "two thousands"
    said = year(digits) if len(digits) == 4 else number(digits)
    return f"{said[:-1]}ies" if said.endswith("y") else f"{said}s"


def roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[c] for c in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _words(said: str) -> str:
    return said.replace("-", " ").replace(",", "").replace(" and ", " ")


def before(m: re.Match[str], length: int = 40) -> str:
    """So many characters before a match."""
    return m.string[max(0, m.start() - length) : m.start()]


def stop_after(m: re.Match[str]) -> str:
    """The full stop that is an abbreviation's and the sentence's at once."""
    ends = m[0].endswith(".") and (m.end() == len(m.string) or begins_sentence(m.string, m.end()))
    return "." if ends else ""
