"""Written English as it is read aloud: numbers, money and titles in words, for language models and scoring.

Rules, no dictionary: "Mr. Hale paid $1,200 on the 3rd in 1865" becomes "mister Hale paid one thousand two
hundred dollars on the third in eighteen sixty five". What has several readings gets the commonest.
"""

from __future__ import annotations

import re

ONES = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "st": "saint",
    "messrs": "messieurs",
    "capt": "captain",
    "col": "colonel",
    "gen": "general",
    "lieut": "lieutenant",
    "sergt": "sergeant",
    "rev": "reverend",
    "prof": "professor",
    "jr": "junior",
    "esq": "esquire",
    "etc": "et cetera",
    "&c": "et cetera",
}
CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}
LONGEST = 15  # digits; longer ones are read one by one

_TITLE = re.compile(r"(?<![\w&])(" + "|".join(map(re.escape, TITLES)) + r")\.(?!\w)|\b(Mr|Mrs|Dr)\b", re.I)
_MONEY = re.compile(r"([$£€])\s?(\d[\d,]*)(?:\.(\d\d))?(?!\d)(?:\s+(hundred|thousand|million|billion))?")
_NUMBER = re.compile(r"(\d[\d,]*\d|\d)(?:\.(\d+))?(st|nd|rd|th|s)?\b(\s?%)?", re.I)


def spoken(text: str) -> str:
    """``text`` with its numbers, sums of money and titles written out. Leaves all else alone."""
    text = _TITLE.sub(lambda m: TITLES[(m[1] or m[2]).lower()], text)
    if not any(c.isdigit() for c in text):
        return text
    return _NUMBER.sub(_number, _MONEY.sub(_money, text))


def cardinal(n: int) -> str:
    """0 to 10 ** 15 - 1 in words: 1204 is "one thousand two hundred four"."""
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")
    scale, name = next(pair for pair in SCALES if pair[0] <= n)
    rest = n % scale
    return f"{cardinal(n // scale)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(n: int) -> str:
    """21 is "twenty first"."""
    *before, last = cardinal(n).split()
    last = ORDINALS.get(last) or (last[:-1] + "ieth" if last.endswith("y") else last.rstrip("t") + "th")
    return " ".join([*before, last])


def year(n: int) -> str:
    """1865 is "eighteen sixty five", 1905 "nineteen oh five", 1900 "nineteen hundred"."""
    high, low = divmod(n, 100)
    if n % 1000 < 10:
        return cardinal(n)
    return f"{cardinal(high)} " + ("hundred" if not low else f"oh {ONES[low]}" if low < 10 else cardinal(low))


def _number(match: re.Match[str]) -> str:
    digits, decimals, ending, percent = match[1], match[2], (match[3] or "").lower(), match[4]
    plain = digits.replace(",", "")
    n = int(plain)
    if len(plain) > LONGEST or (len(plain) > 1 and plain[0] == "0"):
        words = " ".join(ONES[int(d)] for d in plain)
    elif ending in ("st", "nd", "rd", "th") and not decimals:
        return ordinal(n)
    elif len(digits) == 4 and 1100 <= n < 2100 and not decimals and not percent:
        words = year(n)
    else:
        words = cardinal(n)
    if decimals:
        words += " point " + " ".join(ONES[int(d)] for d in decimals)
    if ending == "s":
        words = words[:-1] + "ies" if words.endswith("y") else words + "s"
    elif ending:
        words += f" {ending}"
    return words + (" percent" if percent else "")


def _money(match: re.Match[str]) -> str:
    unit, small = CURRENCIES[match[1]]
    plain, cents, scale = match[2].replace(",", ""), int(match[3] or 0), match[4]
    if len(plain) > LONGEST:
        return match[0]
    n = int(plain)
    words = cardinal(n)
    if scale:
        if match[3]:
            words += " point " + " ".join(ONES[int(d)] for d in match[3])
        return f"{words} {scale} {unit}s"
    words += f" {unit}" + ("" if n == 1 else "s")
    if cents:
        many = "pence" if small == "penny" else f"{small}s"
        words += f" and {cardinal(cents)} {small if cents == 1 else many}"
    return words
