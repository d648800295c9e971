"""Money, units, fractions and plain numbers as they are said: rules of :mod:`normalise_english`."""

from __future__ import annotations

import re

from slyther_cli.english.numbers import NUMBER, Rules, number, ordinal, spell_digits, year

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
LONG_UNITS = "|".join(
    unit for unit in _UNITS if len(unit) > 1 and unit.isalpha() and unit not in ("in", "ms")
)
_MONEY = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent"), "¥": ("yen", "")}
_SCALE = r"(?:\s+(hundred|thousand|million|billion|trillion)\b|(k|mn?|bn?|tn?)\b)?"
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "t": "trillion"}
_OF_BOTH = "bill note coin run walk race drive radius limit fine ticket"
_OF_MONEY = "prize reward fee deal loan contract budget bet tip gift bonus cheque check voucher stamp"
_OF_UNITS = "timer hike swim ride trip sprint dash zone lens bag bottle box tank jar delay"
_BILL = re.compile(rf"\s*[ -](?:{f'{_OF_BOTH} {_OF_MONEY}'.replace(' ', '|')})s?\b", re.I)
_RUN = re.compile(rf"\s*[ -](?:{f'{_OF_BOTH} {_OF_UNITS}'.replace(' ', '|')})s?\b", re.I)
_DOT = r"(?:\.(?=\s[a-z(\d]|,|-))?"  # an abbreviated unit's, not a sentence's
_LONG = 15  # digits of a number that is said as one


def _plural(unit: str, count: str) -> str:
    if count in ("1", "1.0"):
        return unit
    head, *rest = unit.split(" ", 1)
    head = {"foot": "feet", "inch": "inches", "penny": "pence", "yen": "yen", "hertz": "hertz"}.get(
        head, head if head.endswith("hertz") else head + "s"
    )
    return " ".join([head, *rest])


def _run_of_digits(m: re.Match[str]) -> str:
    """What is too long for a number, digit by digit; it would also cost the rules after this one time in the
    square of its length."""
    if sum(map(str.isdigit, m[2])) <= _LONG:
        return m[0]
    unit = f" {_plural(_MONEY[m[1]][0], '2')}" if m[1] else ""
    return f" {spell_digits(m[2].replace(',', ''))}{unit} "


def _money(m: re.Match[str]) -> str:
    sign, amount, scale = m[1], m[2], m[3] or (m[4] and _SCALES[m[4][0].lower()])
    unit, part = _MONEY[sign]
    whole, _, cents = amount.partition(".")
    single = _BILL.match(m.string, m.end()) and (scale or not cents.strip("0"))  # "a twenty dollar bill"
    if scale:
        return f" {number(amount)} {scale.lower()} {_plural(unit, '1' if single else '2')} "
    if len(cents) == 2 and part:
        said = f"{number(whole)} {_plural(unit, '1' if single else whole.replace(',', ''))}"
        if int(cents):
            said += f" and {number(str(int(cents)))} {_plural(part, str(int(cents)))}"
        return f" {said} "
    return f" {number(amount)} {_plural(unit, '1' if single else amount)} "


def _sign_behind(m: re.Match[str]) -> str:
    """ "5-10 million €" as "5 to €10 million"."""
    low = f"{m[1]} to " if m[1] else ""
    amount = re.sub(r"^(\d+),(\d\d)$", r"\1.\2", m[2])
    return f"{low}{m[5]}{amount}{' ' + m[3] if m[3] else m[4] or ''}"


def _unit(m: re.Match[str]) -> str:
    unit = m[3].lower()
    if m[3] == "M" and m[2] != "-":
        return f" {number(m[1])} million "
    alone = m[3] in ("in", "s", "m") and m[2] == " " and not m[0].endswith("in.")  # "5 in a row"
    if unit not in _UNITS or alone or m[3] in ("G", "S", "H"):  # 5G, 5S, 4H
        return m[0]
    if m[2] == "-" and (unit == "in" or (len(unit) == 1 and m[3] != "m")):  # "3-in-1", "3-D"
        return m[0]
    single = m[2] == "-" or _RUN.match(m.string, m.end())
    return f" {number(m[1])} {_plural(_UNITS[unit], '1' if single else m[1])} "


def _fraction(m: re.Match[str]) -> str:
    whole, top, bottom = m[1], int(m[2]), int(m[3])
    if not (1 <= top < bottom <= 20):
        return f"{whole or ''} {m[2]} slash {m[3]}{m[0][m.end(3) - m.start() :]}"
    part = {2: "half", 4: "quarter"}.get(bottom) or ordinal(m[3])
    if top > 1:
        part = "halves" if bottom == 2 else part + "s"
    share = f"{number(m[2])} {part}"
    if not m[4]:
        return f" {number(whole)} and {share} " if whole else f" {share} "
    unit = _UNITS[m[4].lower()]
    if whole:
        return f" {number(whole)} and {'a half' if bottom == 2 else share} {_plural(unit, '2')} "
    one = f"{'an' if unit[0] in 'aeiou' or unit == 'hour' else 'a'} {unit}"
    return f" half {one} " if bottom == 2 else f" {share} of {one} "


def _standing_number(m: re.Match[str]) -> str:
    digits = m[0]
    if re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", digits):
        return f" {year(digits)} "
    return f" {number(digits)} "


_OF_FRACTIONS = rf"(?:(?i:{LONG_UNITS})|km/h|in(?=\.\s[a-z])|[mhglLVW])"
FIRST: Rules = [
    (re.compile(r"([$£€¥]?)(\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)"), _run_of_digits),
    (re.compile(r"(?<![\w.,$£€¥-])(\d{1,2}(?: \d{3}){2,}|[1-9]\d{0,2}(?: \d{3})* 000)(?!\w| ?\d|[.,]\d)"),
     lambda m: m[0].replace(" ", ",")),
]  # fmt: skip
"""Before all others: numbers in another form."""

AMOUNTS: Rules = [
    (re.compile(r"(?<![\w.])-(?=[$£€¥]?\d)"), lambda m: " minus "),
    (re.compile(rf"(?<![\w.,$£€¥])(?:({NUMBER})\s?-\s?)?(\d+,\d\d(?!\d)|{NUMBER}){_SCALE}\s?([$£€¥])(?!\s?\d)",
                re.I), _sign_behind),
    (re.compile(r"([$£€¥])([\d,.]*\d)-[$£€¥]?(?=\d)"), lambda m: f"{m[2]} to {m[1]}"),
    (re.compile(rf"([$£€¥])\s?({NUMBER}){_SCALE}", re.I), _money),
    (re.compile(rf"(?<![\w.,-])({NUMBER})(?:-|\s-\s)(?=\d+\b(?!-))"), lambda m: f"{m[1]} to "),
    (re.compile(rf"(?:(?<![\w./,])(\d+)\s+)?\b(\d{{1,2}})/(\d{{1,2}})\b(?!/\d)"
                rf"(?:[ -]?({_OF_FRACTIONS})(?![a-zA-Z/]){_DOT})?"), _fraction),
    (re.compile(rf"({NUMBER})(-|\s?)(km/h|m/s|°[CFcf]?|[a-zA-Z]{{1,3}})(?![a-zA-Z/]){_DOT}"), _unit),
    (re.compile(r"\b(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", re.I), lambda m: ordinal(m[1])),
    (re.compile(NUMBER), _standing_number),
]  # fmt: skip
"""After dates and times; the last takes every number that is left."""
