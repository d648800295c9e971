"""Numbers in words, as recognisers hear them, read back: cardinals, ordinals, decimals, years, decades.

Every function reads a list of lower-case words from an index on and returns None, or what it found with
``stop``, the index after its last word. Lists end with empty words (``END``), so that the next ones can be
looked at.
"""

from __future__ import annotations

from typing import NamedTuple

Words = list[str]
END = ("", "", "", "")
"""What stands after the last word."""


def _numbered(words: str, first: int, step: int = 1) -> dict[str, int]:
    return {word: first + i * step for i, word in enumerate(words.split())}


UNITS = _numbered("one two three four five six seven eight nine", 1)
TEENS = _numbered("ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen", 10)
TENS = _numbered("twenty thirty forty fifty sixty seventy eighty ninety", 20, 10)
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LARGE = frozenset(SCALES) - {"thousand"}
"""Scales that stay words behind figures: 2.5 million."""
OH = ("oh", "o")
"""Zero, as it is said in years, times and telephone numbers."""
DIGITS = {"zero": "0", "oh": "0", "o": "0"} | {w: str(n) for w, n in UNITS.items()}
NUMERALS = frozenset({*UNITS, *TEENS, *TENS, *SCALES, "hundred", "zero"})
ORDINALS = (
    {"first": "one", "second": "two", "third": "three", "fifth": "five", "eighth": "eight", "ninth": "nine"}
    | {f"{w}th": w for w in ("four", "six", "seven", "ten", "eleven", *list(TEENS)[3:])}
    | {"twelfth": "twelve"}
    | {f"{w[:-1]}ieth": w for w in TENS}
    | {f"{w}th": w for w in ("hundred", *SCALES)}
)
"""The cardinal of an ordinal's last word."""
DECADES = {"tens": 10, "hundreds": 0} | {f"{w[:-1]}ies": n for w, n in TENS.items()}
_DECIMALS = 24  # places that are read at most


def word_set(words: str) -> frozenset[str]:
    return frozenset(words.split())


class Number(NamedTuple):
    """``year``: said as years are ("nineteen hundred", "two thousand eight"). ``bare``: "a hundred", with
    nothing behind it. ``scale``: "million", if the number is so many of them and nothing more."""

    value: int
    stop: int
    year: bool = False
    bare: bool = False
    scale: str = ""


class Found(NamedTuple):
    value: int
    stop: int


def below_hundred(w: Words, i: int) -> Found | None:
    """1 to 99."""
    if w[i] in TENS:
        one = UNITS.get(w[i + 1], 0)
        return Found(TENS[w[i]] + one, i + 1 + (one > 0))
    value = UNITS.get(w[i]) or TEENS.get(w[i])
    return Found(value, i + 1) if value else None


def _rest(w: Words, i: int) -> Found | None:
    """What may follow a hundred or a scale: 1 to 99, perhaps after "and"."""
    joined = w[i] == "and"
    found = below_hundred(w, i + joined)
    if not found or w[found.stop] == "hundred":  # "between one hundred and two hundred"
        return None
    if joined and found.value == 1 and w[found.stop] == "of":  # "a hundred, and one of them"
        return None
    return found


def _group(w: Words, i: int) -> Found | None:
    """1 to 999, and hundreds as in "twelve hundred". ``w[i]`` may be "a"."""
    found = Found(1, i + 1) if w[i] in ("a", "an") else below_hundred(w, i)
    if not found or w[found.stop] != "hundred":
        return found
    if found.value >= 10 and found.value % 10 == 0:
        return None
    rest = _rest(w, found.stop + 1)
    return Found(found.value * 100 + (rest.value if rest else 0), rest.stop if rest else found.stop + 1)


def cardinal(w: Words, i: int) -> Number | None:
    """From 1 to 999 trillion: "three hundred and twelve", "two thousand eight", "a hundred and one"."""
    scales: list[str] = []
    total, limit, j = 0, 10**15, i
    if w[i] in ("a", "an") and w[i + 1] != "hundred" and w[i + 1] not in SCALES:
        return None
    while limit > 1:
        joined = j > i and w[j] == "and"
        group = _rest(w, j) if joined else _group(w, j) if j == i or w[j] in NUMERALS else None
        if not group or (joined and w[group.stop] in SCALES):
            break
        size = SCALES.get(w[group.stop], 1)
        if size >= limit or group.value > (999 if scales or size > 1 else 9999):
            break
        if size > 1:
            scales.append(w[group.stop])
        total, limit, j = total + group.value * size, size, group.stop + (size > 1)
    if j == i:
        return None
    bare = w[i] in ("a", "an") and all(v == "hundred" or v in SCALES for v in w[i + 1 : j])
    hundreds = (w[i] in TEENS or w[i] == "twenty") and w[i + 1] == "hundred" and total < 2100
    thousand = w[i : i + 2] == ["two", "thousand"] and total < 2100
    scale = w[j - 1] if scales == [w[j - 1]] and scales[0] in LARGE else ""
    return Number(total, j, hundreds or thousand, bare, scale)


def ordinal(w: Words, i: int) -> Number | None:
    """ "twenty first", "tenth", "one hundred and third"."""
    j = i
    while w[j] in NUMERALS or w[j] in ("and", "a"):
        j += 1
    if w[j] not in ORDINALS:
        return None
    found = cardinal([*w[:j], ORDINALS[w[j]], *END], i)
    return found if found and found.stop == j + 1 else None


def ending(value: int) -> str:
    """ "st", "nd", "rd" or "th"."""
    return "th" if value % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th")


def digits(w: Words, i: int, most: int) -> str:
    """The digits that are said one by one from here on, at most so many."""
    stop = i
    while stop < i + most and w[stop] in DIGITS:
        stop += 1
    return "".join(DIGITS[v] for v in w[i:stop])


def dialled(w: Words, i: int, most: int) -> tuple[str, int]:
    """The digits of a telephone number from here on, ``most`` or a few more, and the index after them:
    "double seven" and "eight hundred" are said among them."""
    run, stop = "", i
    while len(run) < most:
        times = {"double": 2, "triple": 3}.get(w[stop], 1)
        digit = w[stop + (times > 1)]
        if digit not in DIGITS:
            break
        run, stop = run + DIGITS[digit] * times, stop + 1 + (times > 1)
        if w[stop] == "hundred" and digit in UNITS:
            run, stop = run + "00", stop + 1
    return run, stop


def decimal(w: Words, i: int) -> tuple[str, int] | None:
    """ "three point one four"; also "one point two point three", as versions are numbered."""
    if w[i] == "zero":
        text, j = "0", i + 1
    else:
        whole = cardinal(w, i)
        if not whole or whole.bare or whole.scale:
            return None
        text, j = f"{whole.value:,}", whole.stop
    points = 0
    while w[j] == "point" and (places := digits(w, j + 1, _DECIMALS)):
        text, j, points = f"{text}.{places}", j + 1 + len(places), points + 1
    if not points or w[j] in TEENS or w[j] in TENS or w[j] == "hundred":
        return None
    return text, j


def year(w: Words, i: int) -> Found | None:
    """1010 to 2099: "nineteen eighty four", "nineteen oh five", "nineteen hundred and five", "two thousand
    and eight"."""
    century = TEENS.get(w[i]) or (20 if w[i] == "twenty" else 0)
    if not century:
        whole = cardinal(w, i) if w[i : i + 2] == ["two", "thousand"] else None
        return Found(whole.value, whole.stop) if whole and whole.year else None
    found: Found | None
    if w[i + 1] in OH and w[i + 2] in UNITS:
        found = Found(UNITS[w[i + 2]], i + 3)
    elif w[i + 1] == "hundred":
        found = _rest(w, i + 2) or Found(0, i + 2)
    else:
        found = below_hundred(w, i + 1)
        if not found or found.value < 10:
            return None
    if w[found.stop] in SCALES or w[found.stop] == "hundred":
        return None
    return Found(century * 100 + found.value, found.stop)


def decade(w: Words, i: int) -> Found | None:
    """ "nineteen eighties", "eighteen hundreds", "two thousands"."""
    if w[i] == "two" and w[i + 1] == "thousands":
        return Found(2000, i + 2)
    century = TEENS.get(w[i]) or (20 if w[i] == "twenty" else 0)
    if century < 11 or w[i + 1] not in DECADES:
        return None
    return Found(century * 100 + DECADES[w[i + 1]], i + 2)
