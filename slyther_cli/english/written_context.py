"""What the rules of ``written_times`` and ``written_amounts`` share: word lists, and what stands around."""

from __future__ import annotations

from slyther_cli.english.times import MONTHS
from slyther_cli.english.written_numbers import (
    DECADES,
    NUMERALS,
    OH,
    ORDINALS,
    SCALES,
    UNITS,
    Words,
    below_hundred,
    cardinal,
    word_set,
)

Match = tuple[str, list[tuple[str, int]]]
"""A kind, and tokens: each a text and the number of words that it stands for. Kinds: "year", "time" and
"number"; "kept" is what becomes of number words that stay."""
AS_SAID = ""
"""The text of a token of one word that stays as it is."""
Kinds = list[str]
"""What became of the three words before."""


MONEY = {"dollar": "$", "dollars": "$", "euro": "€", "euros": "€", "yen": "¥", "pound": "£", "pounds": "£"}
PARTS = {
    "$": word_set("cent cents"),
    "€": word_set("cent cents"),
    "£": word_set("pence penny"),
    "¥": word_set(""),
}
CENTS = word_set("cent cents pence")
MEASURES = word_set(
    "kilometer kilometers kilometre kilometres meter meters metre metres centimeter centimeters centimetre "
    "centimetres millimeter millimeters millimetre millimetres mile miles inch inches kilogram kilograms "
    "kilo kilos gram grams milligram milligrams liter liters litre litres milliliter milliliters millilitre "
    "millilitres hertz kilohertz megahertz gigahertz kilobyte kilobytes megabyte megabytes "
    "gigabyte gigabytes terabyte terabytes watt watts kilowatt kilowatts megawatt megawatts volt volts "
    "millisecond milliseconds"
)
"""Units beside which numbers below ten are figures, too. Not feet and pounds: people stand on two feet."""
COUNTED = MEASURES | word_set(
    "second seconds minute minutes hour hours day days week weeks month months year years people men women "
    "children person man woman times percent per dollars dollar pounds pound euros euro cents cent pence yen "
    "feet foot yards ounces degrees points votes seats pages"
)
FRACTIONS = word_set(
    "half halves third thirds quarter quarters fourths fifth fifths sixths sevenths eighth eighths ninths "
    "tenth tenths twelfths twentieths hundredths thousandths"
)
_PARTS_OF_ONE = frozenset(f for f in FRACTIONS if f.endswith("s")) | {"half"}
_COORDINATING = word_set("or to and nor in by of after past till point times plus minus over versus")
_STARTING = word_set("a an oh o minus plus point zero double triple")
_FOLLOWING = word_set(
    "hundred the and past after till m p am pm "
    "of or to in at this morning afternoon evening night per cent percent"
)

STARTS = (NUMERALS - {"hundred", *SCALES}) | frozenset(ORDINALS) | frozenset(MONTHS) | _STARTING
"""Words that a match can begin with."""
VOCABULARY = (
    STARTS | NUMERALS | _FOLLOWING | frozenset(MONEY) | CENTS | MEASURES | FRACTIONS | frozenset(DECADES)
    | word_set("feet foot sterling thousands through")
)  # fmt: skip
"""Words that a match can hold, or behind which rules look for more."""


def is_number(word: str) -> bool:
    return word in OH or word in NUMERALS


def is_plural(word: str) -> bool:
    return len(word) > 4 and word.endswith("s") and not word.endswith(("ss", "us", "'s"))


def runs_on(w: Words, stop: int) -> bool:
    """Whether a number that seems to end before ``stop`` goes on there in a way that is not written."""
    word = w[stop]
    if is_number(word) or word in _PARTS_OF_ONE or word in ("o'clock", "something", "odd", "score"):
        return True
    if word == "and" and w[stop + 1] in ("a", "an", *UNITS) and w[stop + 2] in FRACTIONS:
        return True
    return word == "point" and w[stop + 1] in NUMERALS


def coordinated(w: Words, i: int, kinds: Kinds) -> bool:
    """Whether a number that stayed in words stands before, as in "one or twenty", "nine out of ten"."""
    if w[i - 1] == "of" and w[i - 2] == "out":
        return kinds[-3] == "kept"
    return w[i - 1] in _COORDINATING and (kinds[-2] == "kept" or w[i - 2] in ("score", "quarter", "minutes"))


def joins(w: Words, i: int, stop: int) -> bool:
    """Whether ``w[stop]`` joins the number that began at ``i`` with another one."""
    before = w[i - 2] if w[i - 1] == "minus" else w[i - 1]
    return w[stop] in ("or", "to") or (w[stop] == "and" and before == "between")


def is_elliptical(w: Words, value: float, i: int) -> bool:
    """Whether ``value``, before a number at ``i``, lacks its scale: "ten or twelve thousand"."""
    head = below_hundred(w, i)
    if not head or head.value <= value:
        whole = cardinal(w, i)
        return bool(whole and whole.scale and whole.value // SCALES[whole.scale] > value)
    return w[head.stop] == "hundred" or w[head.stop] in SCALES
