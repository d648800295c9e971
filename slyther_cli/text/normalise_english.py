"""English as it is said: numbers, money, dates, times and abbreviations in words, for speech synthesis.

:func:`normalise` returns small letters, apostrophes, blanks and the marks ``, . ? ! ; :`` only, and says what
it had to leave out. Numbers become words by num2words.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

MARKS = ",.?!;:"
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905

_ABBREVIATIONS = {
    "mr": "mister", "mrs": "missus", "ms": "miz", "dr": "doctor", "prof": "professor", "st": "saint",
    "jr": "junior", "sr": "senior", "capt": "captain", "col": "colonel", "gen": "general",
    "lt": "lieutenant", "sgt": "sergeant", "gov": "governor", "sen": "senator", "rev": "reverend",
    "hon": "honorable", "messrs": "messers", "mt": "mount", "ft": "fort", "co": "company",
    "corp": "corporation", "ltd": "limited",
    "ave": "avenue", "blvd": "boulevard", "rd": "road",
    "inc": "incorporated", "vol": "volume", "vs": "versus", "etc": "et cetera", "fig": "figure",
    "no": "number",
    "jan": "january", "feb": "february", "mar": "march", "apr": "april", "jun": "june", "jul": "july",
    "aug": "august", "sep": "september", "sept": "september", "oct": "october", "nov": "november",
    "dec": "december", "approx": "approximately", "dept": "department", "est": "established",
}  # fmt: skip
_UNITS = {
    "km": "kilometer", "m": "meter", "cm": "centimeter", "mm": "millimeter", "kg": "kilogram", "g": "gram",
    "mg": "milligram", "l": "liter", "ml": "milliliter", "ft": "foot", "in": "inch", "lb": "pound",
    "lbs": "pound", "oz": "ounce", "h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "s": "second",
    "sec": "second", "ms": "millisecond", "hz": "hertz", "khz": "kilohertz", "mhz": "megahertz",
    "ghz": "gigahertz", "kb": "kilobyte", "mb": "megabyte", "gb": "gigabyte", "tb": "terabyte", "w": "watt",
    "kw": "kilowatt", "v": "volt", "mph": "mile per hour", "km/h": "kilometer per hour",
    "m/s": "meter per second",
    "°": "degree", "°c": "degree Celsius", "°f": "degree Fahrenheit",
}  # fmt: skip
_MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "")}
_SYMBOLS = {"&": " and ", "@": " at ", "%": " percent ", "+": " plus ", "=": " equals ",
            "×": " times ", "÷": " divided by ", "§": " section ", "°": " degrees ", "©": " copyright ",
            "™": "", "®": "", "/": " slash "}  # fmt: skip
_A = "\x01"  # the letter, until it is known whether its name is wanted; no text brings one
_BEFORE_RANGES = re.compile("pp?|pages?|lines?|verses?|years?|ad|in|from|between|of|about|some|around", re.I)
_LONG_UNITS = "|".join(
    unit for unit in _UNITS if len(unit) > 1 and unit.isalpha() and unit not in ("in", "ms")
)
_AFTER_RANGES = re.compile(rf"\s*(?:%|°|(?:{_LONG_UNITS}|ad|bce?|ce)\b)", re.I)
_CALLING = "call calling dial dialling dialing phone telephone tel fax ring text number".split()  # noqa: SIM905
_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SCALE = r"(?:\s+(hundred|thousand|million|billion|trillion)\b|(k|mn?|bn?|tn?)\b)?"
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
_ROMAN = r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})\b"
_PARTS = "chapter part book act scene section volume canto war appendix figure table".replace(" ", "|")
_KINGS = "Henry Louis Charles George Edward Richard William James Philip Francis Frederick Napoleon Alexander"
_RULERS = frozenset(f"{_KINGS} Peter Nicholas Ivan Otto Elizabeth Mary Catherine John Paul Pius Leo".split())


class Normalised(NamedTuple):
    """``dropped``: characters that have no sound here, each once, in order."""

    text: str
    dropped: str


def normalise(text: str, letter_a: str = "ay") -> Normalised:
    """Words in small letters and marks. An empty ``text`` in the result: there is nothing to say.

    ``letter_a``: what a letter A that is said by its name becomes. "ay" is not taken for the article;
    recognisers write "a".
    """
    text, dropped = _plain_characters(text)
    for pattern, say in _ROMANS:
        text = pattern.sub(say, text)
    if text.upper() == text:
        text = text.lower()
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
    for symbol, words in _SYMBOLS.items():
        text = text.replace(symbol, words)
    text = _ACRONYM.sub(lambda m: _acronym(m[0]), text)
    text = re.sub(r"[^a-z'" + re.escape(MARKS) + _A + r"\s]", " ", text.lower()).replace(_A, letter_a)
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", text)  # quotes, not apostrophes
    text = " ".join(text.split())
    text = re.sub(rf"\s*([{MARKS}])", r"\1", text)
    text = re.sub(rf"[{MARKS}]*([.?!])[{MARKS}]*", r"\1", text)  # of several marks the strongest
    text = re.sub(r"[,;:]+([,;:])", r"\1", text)
    text = re.sub(rf"([{MARKS}])(?=[^\s])", r"\1 ", text).lstrip(MARKS + " ")
    return Normalised(text, dropped)


def _plain_characters(text: str) -> tuple[str, str]:
    """ASCII and the signs that are read, and what had to go. Accents are taken off letters."""
    keep: list[str] = []
    dropped: dict[str, None] = {}
    text = re.sub("[¼-¾⅐-⅞]", lambda m: f" {unicodedata.normalize('NFKC', m[0])} ", text)
    text = text.replace("²", " squared ").replace("³", " cubed ")
    for c in unicodedata.normalize("NFKC", text):
        c = _QUOTES.get(c, c)
        base = "".join(b for b in unicodedata.normalize("NFD", c) if not unicodedata.combining(b))
        base = _LIGATURES.get(base, base)
        if all(b.isprintable() or b.isspace() if b.isascii() else b in "£€¥°×÷§©™®" for b in base):
            keep.append(base)
        elif unicodedata.category(c)[0] in "ZC":
            keep.append(" ")
        else:
            keep.append(" ")
            dropped[c] = None
    return "".join(keep), "".join(dropped)


_QUOTES = {"’": "'", "‘": "'", "ʼ": "'", "“": " ", "”": " ", "„": " ", "«": " ", "»": " ", "…": ".", "–": "-",
           "—": ", ", "―": ", ", "‐": "-", "‑": "-", "−": "-", '"': " ", "·": " ", "•": " ",
           "⁄": "/"}  # fmt: skip
_LIGATURES = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
              "đ": "d", "þ": "th", "ð": "th"}  # fmt: skip


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


def year(digits: str) -> str:
    """ "1999" -> "nineteen ninety nine", "1905" -> "nineteen oh five"."""
    return number(digits, to="year")


def _words(said: str) -> str:
    return said.replace("-", " ").replace(",", "").replace(" and ", " ")


def _plural(unit: str, count: str) -> str:
    if count in ("1", "1.0"):
        return unit
    head, *rest = unit.split(" ", 1)
    head = {"foot": "feet", "inch": "inches", "penny": "pence", "yen": "yen", "hertz": "hertz"}.get(
        head, head if head.endswith("hertz") else head + "s"
    )
    return " ".join([head, *rest])


def _money(m: re.Match[str]) -> str:
    sign, amount, scale = m[1], m[2], m[3] or (m[4] and _SCALES[m[4][0].lower()])
    unit, part = _MONEY[sign]
    whole, _, cents = amount.partition(".")
    if scale:
        return f" {number(amount)} {scale} {_plural(unit, '2')} "
    if len(cents) == 2 and part:
        said = f"{number(whole)} {_plural(unit, whole.replace(',', ''))}"
        if int(cents):
            said += f" and {number(str(int(cents)))} {_plural(part, str(int(cents)))}"
        return f" {said} "
    return f" {number(amount)} {_plural(unit, amount)} "


def _date(year_: str, month: int, day: int, whole: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return whole
    return f" {MONTHS[month - 1]} {number(str(day), 'ordinal')}, {year(year_)} "


def _clock(m: re.Match[str]) -> str:
    hour, minute, half = int(m[1]), int(m[2]), m[3]
    if hour > 24 or minute > 59:
        return m[0]
    tail = f" {_A if half in 'aA' else 'p'} m " if half else " "
    if not minute:
        return f" {number(str(hour))}" + (tail if half else " o'clock ")
    return f" {number(str(hour))} {'oh ' if minute < 10 else ''}{number(str(minute))}{tail}"


def _hour(m: re.Match[str]) -> str:
    return f" {number(m[1])} {_A if m[2] in 'aA' else 'p'} m "


def _by_digit(m: re.Match[str]) -> str:
    """ "555-1234" -> "five five five, one two three four"."""
    plus = " plus " if m[0].startswith("+") else " "
    return plus + ", ".join(spell_digits(group) for group in re.findall(r"\d+", m[0]))


def _telephone(m: re.Match[str]) -> str:
    """Three digits and four: a telephone number, unless what stands around tells of a range."""
    before = (m[1] or "").rstrip(".: \n\t").lower()
    if _AFTER_RANGES.match(m.string, m.end()) or _BEFORE_RANGES.fullmatch(before):
        return m[0]
    if m[3].endswith("00") and before not in _CALLING:
        return m[0]
    return f"{m[1] or ''} {spell_digits(m[2])}, {spell_digits(m[3])}"


def _month_day(m: re.Match[str]) -> str:
    return f"{m[1]} {number(m[2], 'ordinal')}{', ' + year(m[3]) if m[3] else ''}"


def _unit(m: re.Match[str]) -> str:
    unit = m[2].lower()
    if m[2] == "M":
        return f" {number(m[1])} million "
    alone = m[2] in ("in", "s", "m") and " " in m[0]  # "5 in a row"
    if unit not in _UNITS or alone or m[2] in ("G", "S", "H"):  # 5G, 5S, 4H
        return m[0]
    return f" {number(m[1])} {_plural(_UNITS[unit], m[1])} "


def _roman(numeral: str) -> int:
    values = [{"I": 1, "V": 5, "X": 10}[c] for c in numeral]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))


def _fraction(m: re.Match[str]) -> str:
    whole, top, bottom = m[1], int(m[2]), int(m[3])
    if not (1 <= top < bottom <= 20):
        return f"{whole or ''} {m[2]} slash {m[3]}"
    part = {2: "half", 4: "quarter"}.get(bottom) or number(m[3], "ordinal")
    if top > 1:
        part = "halves" if bottom == 2 else part + "s"
    return f" {number(whole)} and {number(m[2])} {part} " if whole else f" {number(m[2])} {part} "


def _standing_number(m: re.Match[str]) -> str:
    digits = m[0]
    if re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", digits):
        return f" {year(digits)} "
    return f" {number(digits)} "


def _acronym(word: str) -> str:
    """Capitals: said as a word when long enough and with a vowel, else letter by letter."""
    plain = word.removesuffix("s") if word.endswith("s") else word
    tail = "s" if plain != word else ""
    if len(plain) > 3 and re.search("[AEIOUY]", plain):
        return word.lower()
    said = " ".join(plain.lower()).replace("a", _A)
    return f" {said}{chr(39) + tail if tail else ''} "


def _address(m: re.Match[str]) -> str:
    text = re.sub(r"^\w+://", "", m[0]).rstrip("/.")
    spoken = {".": " dot ", "@": " at ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon "}
    text = re.sub(r"\bwww\b", "w w w", text)
    return " ".join(("".join(spoken.get(c, c) for c in text)).split()) + " "


def _after_name(m: re.Match[str]) -> str:
    """ "Henry the eighth", "Chapter 4"."""
    n = str(_roman(m[2]))
    return f"{m[1]}the {number(n, 'ordinal')}" if m[1].strip() in _RULERS else m[1] + n


_ACRONYM = re.compile(r"\b[A-Z]{2,}s?\b(?!')")
_MONTH_NAMES = (
    "|".join(m.capitalize() for m in MONTHS) + "|" + "|".join(f"{m[:3].capitalize()}\\.?" for m in MONTHS)
)
Say = Callable[[re.Match[str]], str]
_ROMANS: list[tuple[re.Pattern[str], Say]] = [
    (re.compile(rf"\b((?:[A-Z][a-z]+|(?i:{_PARTS}|vol\.))\s+)({_ROMAN})"), _after_name),
    (re.compile(rf"\b((?:{_PARTS.title()}|{_PARTS.upper()})\s+)([VX]|I(?!\s+(?!of\b|and\b|to\b)[a-z]))\b(?!')"),
     lambda m: f"{m[1]}{_roman(m[2])}"),  # not "Part I liked"
]  # fmt: skip
_RULES: list[tuple[re.Pattern[str], Say]] = [
    (re.compile(r"\bNos?\.\s*(?=\d)"), lambda m: "number "),
    (re.compile(r"\bpp\.\s*(?=\d)"), lambda m: "pages "),
    (re.compile(r"\bp\.\s*(?=\d)"), lambda m: "page "),
    (re.compile(r"#(?=\s?\d)"), lambda m: " number "),
    (re.compile(r"#(?=[A-Za-z])"), lambda m: " hashtag "),
    (re.compile(r"(?<!\w)'(\d0)s\b|(?<=\bthe )([2-9]0)s\b"),
     lambda m: re.sub("y$", "ies", number(m[1] or m[2]))),
    (re.compile(r"\b\(?(\d{3})\)?[-. ](\d{3})[-.](\d{4})\b"), _by_digit),
    (re.compile(r"(?<![\w+])\+\d{1,3}(?:[ -]?\(?\d{2,4}\)?){2,5}(?![\w-])"),
     _by_digit),  # +44 20 7946 0958
    (re.compile(r"(?<![\w.,-])0\d{2,4}(?:[ -]\d{3,4}){2}(?![\w-])"), _by_digit),  # 020 7946 0958
    (re.compile(r"(?<![\w.,-])(?:\d{5}-\d{4}|(?=(?:-?\d){9})\d+(?:-\d+){2,})(?![\w-])"),
     _by_digit),  # ZIP codes, ISBN
    (re.compile(r"(?:\b([A-Za-z]+\.?:?\s+))?(?<![\w.,$£€¥(-])(\d{3})-(\d{4})(?![\w-]|[.,]\d)"), _telephone),
    (re.compile(r"(?<=\bcall )(?:911|112|999)\b(?!\s+[a-z])|(?<=\bdial )(?:911|112|999)\b", re.I), _by_digit),
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])"),
     lambda m: f" {' point '.join(map(number, m[0].split('.')))} "),
    (re.compile(r"(?<![\w.])\.(?=\d)"), lambda m: "0."),
    (re.compile(r"(?<=\d)\s*\*\s*(?=\d)"), lambda m: " times "),
    (re.compile(r"(?:(?<=\b\w)\s+|(?<=\d)\s*)([<>])(=?)(?:\s+(?=[\w-])|(?=-?\d))"),
     lambda m: f" {'less' if m[1] == '<' else 'greater'} than {'or equal to ' if m[2] else ''}"),
    (re.compile(r"\b(?:https?://|www\.)[^\s,;!?]+|\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+"), _address),
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b"), lambda m: _date(m[1], int(m[2]), int(m[3]), m[0])),
    (re.compile(r"\b(\d{1,2})/(\d{1,2})/(\d{4})\b"), lambda m: _date(m[3], int(m[1]), int(m[2]), m[0])),
    (re.compile(r"\b(\d{1,2}):(\d{2})(?::\d{2})?(?:\s*([ap])\.?m\b\.?)?", re.I), _clock),
    (re.compile(r"\b(\d{1,2})\s*([ap])\.?m\b\.?", re.I), lambda m: _hour(m)),
    (re.compile(rf"\b({_MONTH_NAMES})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?\b"), _month_day),
    (re.compile(r"(?<![\w.])-(?=[$£€¥]?\d)"), lambda m: " minus "),
    (re.compile(r"([$£€¥])([\d,.]*\d)-[$£€¥]?(?=\d)"), lambda m: f"{m[2]} to {m[1]}"),
    (re.compile(rf"([$£€¥])\s?({_NUMBER}){_SCALE}", re.I), _money),
    (re.compile(r"\b(1[1-9]\d0|20\d0)s\b"), lambda m: re.sub("y$", "ies", year(m[1])) + (
        "" if year(m[1]).endswith("y") else "s")),
    (re.compile(r"(?<![\w.,-])(\d+)(?:-|\s-\s)(?=\d+\b(?!-))"), lambda m: f"{m[1]} to "),
    (re.compile(rf"({_NUMBER})\s?(km/h|m/s|°[CFcf]?|[a-zA-Z]{{1,3}})(?![a-zA-Z/])"),
     _unit),
    (re.compile(r"\b(\d+)(?:st|nd|rd|th)\b", re.I), lambda m: number(m[1][:12], "ordinal")),
    (re.compile(r"(?:(?<![\w./,])(\d+)\s+)?\b(\d{1,2})/(\d{1,2})\b"), _fraction),
    (re.compile(rf"{_NUMBER}"), _standing_number),
    (re.compile(r"\b(e\.g\.|i\.e\.)", re.I), lambda m: "for example" if m[1][0] in "eE" else "that is"),
    (re.compile(r"\b([A-Za-z])\.(?:([A-Za-z])\.)+"), lambda m: _acronym(m[0].replace(".", "").upper())),
    (re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.(?=\s|,|$)", re.I), lambda m: _abbreviation(m)),
    (re.compile(r"\b([A-Z])\.(?=\s+[A-Z])"), lambda m: _acronym(m[1])),
    (re.compile(r"(?<=\w\w)\.(?=[a-z]{2,4}\b)"), lambda m: " dot "),
    (re.compile(r"[()\[\]{}]"), lambda m: ", "),
    (re.compile(r"\s+-+\s+|--+"), lambda m: ", "),
]  # fmt: skip
_ROADS = {"st": "street", "dr": "drive"}
_WORDS_TOO = frozenset(("no", "est", "sen", "mar", "fig"))
"""Abbreviations that are words too: only with a capital, and not at the end, are they read in full."""


def _abbreviation(m: re.Match[str]) -> str:
    word = m[1].lower()
    rest = m.string[m.end() :].lstrip()
    if word in _WORDS_TOO and (m[1] != m[1].capitalize() or word == "no" or not rest):
        return m[0]
    after_name = re.search(r"[A-Z][\w']*\s+$", m.string[: m.start()])
    if word in _ROADS and after_name and not rest[:1].isupper():  # "12 Main St., Boston", not "St. Mary"
        return _ROADS[word] + ("" if rest else ".")
    return _ABBREVIATIONS[word] + ("" if rest else ".")
