"""English as it is said: numbers, money, dates, times and abbreviations in words, for speech synthesis.

:func:`normalise` returns small letters, apostrophes, blanks and the marks ``, . ? ! ; :`` only, and says what
it had to leave out. Numbers become words by num2words.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from slyther_cli.english.addresses import ADDRESSES
from slyther_cli.english.amounts import AMOUNTS, FIRST, LONG_UNITS
from slyther_cli.english.dictionary import lexicon
from slyther_cli.english.numbers import (
    A,
    Rules,
    before,
    number,
    ordinal,
    roman,
    spell_digits,
    stop_after,
)
from slyther_cli.english.sentences import ENDING
from slyther_cli.english.times import TIMES

MARKS = ",.?!;:"
SPELT = "\x02"
"""Around words that are spelled letter by letter: of two in a row one has to hear where the second begins. No
text brings one."""
LETTERS = "abcdefghijklmnopqrstuvwxyz'"

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
_SYMBOLS = {"&": " and ", "@": " at ", "%": " percent ", "+": " plus ", "=": " equals ",
            "×": " times ", "÷": " divided by ", "§": " section ", "°": " degrees ", "©": " copyright ",
            "™": "", "®": "", "/": " slash "}  # fmt: skip
_BEFORE_RANGES = re.compile("pp?|pages?|lines?|verses?|years?|ad|in|from|between|of|about|some|around", re.I)
_AFTER_RANGES = re.compile(rf"\s*(?:%|°|(?:{LONG_UNITS}|ad|bce?|ce)\b)", re.I)
_CALLING = "call calling dial dialling dialing phone telephone tel fax ring text number".split()  # noqa: SIM905
_ROMAN = r"(?=[IVX]{2})X{0,3}(?:IX|IV|V?I{0,3})(?<=[IVX])\b"
_PARTS = "chapter part book act scene section volume canto war appendix figure table".replace(" ", "|")
_KINGS = "Henry Louis Charles George Edward Richard William James Philip Francis Frederick Napoleon Alexander"
_POPES = "John Paul Pius Leo Benedict Gregory Clement Innocent Urban Boniface Julius Adrian Sixtus"
_OTHERS = "Peter Nicholas Ivan Otto Elizabeth Mary Catherine Ferdinand Leopold Wilhelm Ramesses Darius"
_RULERS = frozenset(f"{_KINGS} {_POPES} {_OTHERS}".split())
_WORDS_IN_CAPITALS = frozenset(
    "NO NOT AND BUT THE YOU ALL ANY ARE NOW YES HER HIS OUR MY DO TOO WHY HOW".split()  # noqa: SIM905
)
_SAID = frozenset("covid crispr jpeg json yaml norad brics jaxa isro potus scotus flotus fomo".split())  # noqa: SIM905
_SILENT = '-_`"'
_UNSAID = re.compile(rf"[^A-Za-z'{re.escape(MARKS)}{A}\s{re.escape(_SILENT)}]")


class Normalised(NamedTuple):
    """``dropped``: characters that have no sound here, each once, in order."""

    text: str
    dropped: str


def normalise(text: str, letter_a: str = "ay") -> Normalised:
    """Words in small letters and marks. An empty ``text`` in the result: there is nothing to say.

    ``letter_a``: what a letter A that is said by its name becomes. "ay" is not taken for the article;
    recognisers write "a".

    >>> normalise("Dr. Lee paid $3.50 at 9:45.").text
    'doctor lee paid three dollars and fifty cents at nine forty five.'
    """
    text, dropped = _plain_characters(text)
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", text)).strip()
    for pattern, say in _ROMANS:
        text = pattern.sub(say, text)
    if text.upper() == text and not _lone_acronym(text):
        text = text.lower()
    for pattern, say in _RULES:
        text = pattern.sub(say, text)
    for symbol, words in _SYMBOLS.items():
        text = text.replace(symbol, words)
    text = _ACRONYM.sub(lambda m: _acronym(m[0]), text)
    text = re.sub(rf"{SPELT}\s+{SPELT}", ", ", text).replace(SPELT, "")
    dropped = "".join(dict.fromkeys(dropped + "".join(_UNSAID.findall(text))))
    text = re.sub(rf"[^a-z'{re.escape(MARKS)}{A}\s]", " ", text.lower()).replace(A, letter_a)
    text = re.sub(r"(?<![a-z])'+|'+(?![a-z])", " ", text)  # quotes, not apostrophes
    text = " ".join(text.split())
    text = re.sub(rf"\s*([{MARKS}])", r"\1", text)
    text = re.sub(rf"[{MARKS}]{{2,}}", lambda m: m[0].rstrip(",;:")[-1:] or m[0][-1], text)
    text = re.sub(rf"([{MARKS}])(?=[^\s])", r"\1 ", text).lstrip(MARKS + " ")
    return Normalised(text, dropped)


def foreign_words(text: str) -> list[str]:
    """What a text has of other scripts than ours, word by word, each once."""
    found: dict[str, None] = {}
    word = ""
    for c in unicodedata.normalize("NFKC", text) + " ":
        kind = unicodedata.category(c)[0]
        if (kind == "M" and word) or (kind == "L" and _plain_characters(c)[1]):
            word += c
        elif word:
            found.setdefault(word)
            word = ""
    return list(found)


def _plain_characters(text: str) -> tuple[str, str]:
    """ASCII and the signs that are read, and what had to go. Accents are taken off letters."""
    keep: list[str] = []
    dropped: dict[str, None] = {}
    text = re.sub("[¼-¾⅐-⅞]", lambda m: f" {unicodedata.normalize('NFKC', m[0])} ", text)
    text = text.replace("²", " squared ").replace("³", " cubed ")
    for c in unicodedata.normalize("NFKC", text):
        c = _QUOTES.get(c, str(unicodedata.decimal(c, c)))
        base = "".join(b for b in unicodedata.normalize("NFD", c) if not unicodedata.combining(b))
        base = _LIGATURES.get(base, base)
        if all(b.isprintable() or b.isspace() if b.isascii() else b in "£€¥°×÷§©™®" for b in base):
            keep.append(base)
        elif unicodedata.category(c)[0] in "ZC" or c in _VARIANTS:
            keep.append(" ")
        else:
            keep.append(" ")
            dropped[c] = None
    return "".join(keep), "".join(dropped)


_QUOTES = {"’": "'", "‘": "'", "ʼ": "'", "“": " ", "”": " ", "„": " ", "«": " ", "»": " ", "…": ".", "–": "-",
           "—": ", ", "―": ", ", "‐": "-", "‑": "-", "−": "-", '"': " ", "·": " ", "•": " ",
           "⁄": "/", "≤": "<=", "≥": ">=", "≠": " is not equal to ", "≈": " approximately ",
           "±": " plus or minus ", "¢": " cents ", "٫": ".", "٬": ","}  # fmt: skip
_VARIANTS = "\ufe0e\ufe0f"  # of the emoji before
_LIGATURES = {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
              "đ": "d", "þ": "th", "ð": "th"}  # fmt: skip


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


def _acronym(word: str) -> str:
    """Capitals: said as a word when the dictionary has it, or when it is long; else letter by letter."""
    plain = word.removesuffix("s").removesuffix("'")
    tail = "s" if plain != word else ""
    if plain in _WORDS_IN_CAPITALS or (len(plain) > 3 and re.search("[AEIOUY]", plain) and _is_word(plain)):
        return word.lower()
    said = " ".join(plain.lower()).replace("a", A)
    return f" {SPELT}{said}{chr(39) + tail if tail else ''}{SPELT} "


def _letters(initials: str) -> str:
    said = " ".join(initials.replace(".", "").lower()).replace("a", A)
    return f" {SPELT}{said}{SPELT} " if len(said) > 1 else f" {said} "


def _is_word(capitals: str) -> bool:
    word = capitals.lower()
    return len(word) > 5 or word in _SAID or word in lexicon()[0]


def _lone_acronym(text: str) -> bool:
    """Whether a text is nothing but "UCLA."; of a text all in capitals nothing can be told."""
    word = text.strip(MARKS + " ")
    return word.isascii() and word.isalpha() and len(word) > 1 and not _is_word(word)


def _after_name(m: re.Match[str]) -> str:
    """ "Henry the eighth", "Chapter 4"."""
    n = str(roman(m[2]))
    return f"{m[1]}the {ordinal(n)}" if m[1].strip() in _RULERS else m[1] + n


def _ruler(m: re.Match[str]) -> str:
    """ "Henry V", "Elizabeth I"; but "I told Mary I saw it": what stands around must tell."""
    if m[2] == "I":
        titled = re.search(r"\b(?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser)\s+$", before(m))
        first = not before(m).strip() or re.search(r"[.!?:;]\s+$", before(m))
        did = first and _HE_DID.match(m.string, m.end())  # "Charles I was": no pronoun begins so
        if not (titled or did or _AFTER_FIRST.match(m.string, m.end())):
            return m[0]
    return f"{m[1]}the {ordinal(roman(m[2]))}"


def _compared(m: re.Match[str]) -> str:
    return f" {'less' if m[1] == '<' else 'greater'} than {'or equal to ' if m[2] else ''}"


def _bound(m: re.Match[str]) -> str:
    """ ">50", "<=3": of one number."""
    more = m[1] == ">"
    return f" {('at least' if more else 'at most') if m[2] else ('more' if more else 'less') + ' than'} "


_AFTER_FIRST = re.compile(
    r"'s\b|\s*(?:[.,;:!?)]|$)|\s+(?:of|and|in|to|on|from|at|by|with|for|is|has|became|ruled|reigned|died|"
    r"succeeded|began)\b"
)
_HE_DID = re.compile(
    r"\s+(?:was|had|did|made|took|gave|came|went|married|lost|won|founded|ordered|sent|granted)\b"
)
_ACRONYM = re.compile(r"\b[A-Z]{2,}(?:'?s)?\b(?!')")
_ROMANS: Rules = [
    (re.compile(rf"\b((?:[A-Z][a-z]+|(?i:{_PARTS}|vol\.))\s+)({_ROMAN})"), _after_name),
    (re.compile(rf"\b((?:{'|'.join(sorted(_RULERS))})\s+)([IVX])\b(?!'[a-rt-z]|\.\s*[A-Z])"), _ruler),
    (re.compile(r"\b(World War\s+)([IVX])\b(?!'[a-rt-z]|\s+(?:am|have|do|don't)\b)"),
     lambda m: f"{m[1]}{roman(m[2])}"),
    (re.compile(rf"\b((?:{_PARTS.title()}|{_PARTS.upper()})\s+)([VX]|I(?!\s+(?!of\b|and\b|to\b)[a-z]))\b(?!')"),
     lambda m: f"{m[1]}{roman(m[2])}"),  # not "Part I liked"
]  # fmt: skip
_SIGNED = r"-?[.$£€¥]?\d"
_BEFORE_NUMBERS: Rules = [
    *ADDRESSES,
    (re.compile(r"^#{1,6}\s+|^\*\s+|\s#+\s*$", re.M), lambda m: ""),  # Markdown's headings and items
    (re.compile(r"~~+"), lambda m: ""),
    (re.compile(r"(?<![\w*])(\*{1,3})(?=[^\s*])([^*]{1,300})(?<!\s)\1(?![\w*])"), lambda m: m[2]),  # emphasis
    *FIRST,
    (re.compile(r"\bNos?\.\s*(?=\d)"), lambda m: "number "),
    (re.compile(r"\bpp\.\s*(?=\d)"), lambda m: "pages "),
    (re.compile(r"\bp\.\s*(?=\d)"), lambda m: "page "),
    (re.compile(r"\b([CF])#(?!\w)"), lambda m: f"{m[1]} sharp"),
    (re.compile(r"#(?=\s?\d)"), lambda m: " number "),
    (re.compile(r"#(?=[A-Za-z])"), lambda m: " hashtag "),
    (re.compile(r"\b\(?(\d{3})\)?[-. ](\d{3})[-.](\d{4})\b"), _by_digit),
    (re.compile(r"(?<![\w+])\+\d{1,3}(?:[ -]?\(?\d{2,4}\)?){2,5}(?![\w-])"),
     _by_digit),  # +44 20 7946 0958
    (re.compile(r"(?<![\w.,-])0\d{2,4}(?:[ -]\d{3,4}){2}(?![\w-])"), _by_digit),  # 020 7946 0958
    (re.compile(r"(?<![\w.,-])(?:\d{5}-\d{4}|(?=(?:-?\d){9})\d+(?:-\d+){2,})(?![\w-])"),
     _by_digit),  # ZIP codes, ISBN
    (re.compile(r"(?:\b([A-Za-z]+\.?:?\s+))?(?<![\w.,$£€¥(-])(\d{3})-(\d{4})(?![\w-]|[.,]\d)"), _telephone),
    (re.compile(r"(?<=\bcall )(?:911|112|999)\b(?!\s+[a-z])|(?<=\bdial )(?:911|112|999)\b", re.I), _by_digit),
    (re.compile(r"(?<![\w.,$£€¥])(?!\d+000000\b)\d{10,}(?!\d|[.,]\d|\s?[$£€¥%])"), _by_digit),
    *TIMES,
    (re.compile(r"(?<![\d.])\d+(?:\.\d+){2,}(?![\d.])"),
     lambda m: f" {' point '.join(map(number, m[0].split('.')))} "),
    (re.compile(r"(?<![\w.])\.(?=\d)"), lambda m: "0."),
    (re.compile(r"(?<=\d)\s*\*\s*(?=\d)"), lambda m: " times "),
    (re.compile(r"(?<=[A-Za-z\d)])\s*(?:\^|(?<=\d)\*\*(?=\d))\s*(?=[-(]?[A-Za-z\d])"),
     lambda m: " to the power of "),
    (re.compile(r"(?:(?<=\b\w)\s+|(?<=[\d%])\s*)([<>])(=?)(?:\s+(?=[\w-])|(?=-?\d))"), _compared),
    (re.compile(r"(?<=\d)([<>])(=?)(?=[A-Za-z]\b(?!>))"), _compared),
    (re.compile(rf"(?:(?<=\w)(?<!<\w) ?|(?<=[%)]) ?)([<>])(=?) ?(?={_SIGNED})"), _compared),
    (re.compile(r"(?<=%)\s?-\s?(?=\d)"), lambda m: " to "),
    (re.compile(rf"(?:^|(?<=[\s(\[,;:/]))([<>])(=?)(?={_SIGNED})"), _bound),
    (re.compile(r"(?<!\w)~ ?(?=[$£€¥]?\d)"), lambda m: " about "),
]  # fmt: skip
_RULES: Rules = [
    *_BEFORE_NUMBERS,
    *AMOUNTS,
    (re.compile(r"\b(e\.g\.|i\.e\.)", re.I), lambda m: "for example" if m[1][0] in "eE" else "that is"),
    (re.compile(r"\b([A-Za-z])\.(?:([A-Za-z])\.)+"),
     lambda m: _letters(m[0]) + stop_after(m)),
    (re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.(?=\s|,|$)", re.I), lambda m: _abbreviation(m)),
    (re.compile(r"\b([A-Z])\.(?=\s+[A-Z])"), lambda m: _letters(m[1]) + stop_after(m)),
    (re.compile(r"(?<=\w\w)\.(?=[a-z]{2,4}\b)"), lambda m: " dot "),
    (re.compile(r"[()\[\]{}]"), lambda m: ", "),
    (re.compile(r"\s+-+\s+|--+"), lambda m: ", "),
]  # fmt: skip
_ROADS = {"st": "street", "dr": "drive"}
_WORDS_TOO = frozenset(("no", "est", "sen", "mar", "fig"))
"""Abbreviations that are words too: only with a capital, and not at the end, are they read in full."""


def _abbreviation(m: re.Match[str]) -> str:
    word = m[1].lower()
    rest = m.string[m.end() : m.end() + 40].lstrip()
    if word in _WORDS_TOO and (m[1] != m[1].capitalize() or word == "no" or not rest):
        return m[0]
    after_name = re.search(r"[A-Z][\w']*\s+$", before(m))
    stop = "" if rest and not (word in ENDING and stop_after(m)) else "."
    road = after_name and (stop or not rest[:1].isupper())  # "12 Main St., Boston", not "St. Mary"
    if word in _ROADS and road:
        return _ROADS[word] + stop
    return _ABBREVIATIONS[word] + stop
