"""Dates, times of day, durations and decades as they are said: rules of :mod:`normalise_english`."""

from __future__ import annotations

import re

from slyther_cli.english.numbers import A, Rules, before, decade, number, ordinal, stop_after, year

MONTHS = "january february march april may june july august september october november december".split()  # noqa: SIM905

_SHORT = r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?"
_MONTH = f"({'|'.join(m.capitalize() for m in MONTHS)}|{_SHORT})"
_YEAR = r"(?:(?:,\s*|\s+)([12]\d{3})\b)?"
_DETERMINERS = "the|a|an|its|his|her|their|our|my|this|every|each"
_OF_AN_ERA = (
    "music songs? films? movies? band pop rock disco hits? fashion styles? hair kids? era nostalgia party "
    "night tv television shows? icons? stars? sounds? classics? vibes? look culture"
).replace(" ", "|")
_BEFORE_CLOCKS = re.compile(r"\b(?:at|by|until|till|since|before|after|from|to)\s+$", re.I)
_RATIOS = re.compile(r"\b(?:ratios?|odds|scale|aspect)\s+(?:\w+\s+)?$", re.I)
_BOOKS = (
    "Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Ruth Samuel Kings Chronicles Ezra Nehemiah "
    "Esther Job Psalms? Proverbs Ecclesiastes Isaiah Jeremiah Ezekiel Daniel Hosea Joel Amos Micah Matthew "
    "Mark Luke John Acts Romans Corinthians Galatians Ephesians Philippians Colossians Thessalonians "
    "Timothy Titus Hebrews James Peter Jude Revelation"
).replace(" ", "|")
_VERSES = re.compile(rf"\b(?:{_BOOKS})\s+$")


def _month(name: str) -> str:
    return next(month for month in MONTHS if month.startswith(name[:3].lower()))


def _date(year_: str, month: int, day: int, whole: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return whole
    return f" {MONTHS[month - 1]} {ordinal(day)}, {year(year_)} "


def _iso(m: re.Match[str]) -> str:
    said = _date(m[1], int(m[3]), int(m[4]), m[0])
    return said if said == m[0] or not m[5] else f"{said}at {m[5]}"


def _written_date(m: re.Match[str]) -> str:
    """The month first, as Americans write it, unless that cannot be, or full stops part it."""
    first, second, year_ = int(m[1]), int(m[3]), m[4]
    if len(year_) == 2:
        year_ = ("20" if int(year_) < 50 else "19") + year_
    if first > 12 or (m[2] == "." and second <= 12):
        first, second = second, first
    return _date(year_, first, second, m[0].replace("/", " slash "))


def _month_day(m: re.Match[str]) -> str:
    if not (1 <= int(m[2]) <= 31):
        return m[0]
    until = f" to {ordinal(m[3])}" if m[3] else ""
    return f"{_month(m[1])} {ordinal(m[2])}{until}{', ' + year(m[4]) if m[4] else ''}"


def _day_month(m: re.Match[str]) -> str:
    if not (1 <= int(m[2]) <= 31):
        return m[0]
    year_ = f", {year(m[4])}" if m[4] else stop_after(m)
    if m[1] and m[1].lower() != "the":  # "its 3 March meeting"
        return f"{m[1]} {_month(m[3])} {ordinal(m[2])}{year_}"
    return f"the {ordinal(m[2])} of {_month(m[3])}{year_}"


def _clock(m: re.Match[str]) -> str:
    hour, minute, half = int(m[1]), int(m[2]), m[3]
    if minute > 59 or _RATIOS.search(before(m, 24)):
        return m[0]
    if hour > 24:  # minutes and seconds, or shares: "sixty forty"
        return f" {number(m[1])} {'oh ' if 0 < minute < 10 else ''}{number(str(minute))} "
    tail = f" {A if half in 'aA' else 'p'} m{stop_after(m)} " if half else " "
    if not (hour or minute or half):
        return " midnight " if len(m[1]) == 2 else " zero "
    if not minute:
        return f" {number(str(hour))}" + (tail if half else " o'clock ")
    return f" {number(str(hour))} {'oh ' if minute < 10 else ''}{number(str(minute))}{tail}"


def _with_seconds(m: re.Match[str]) -> str:
    """ "1:23:45": how long, unless "at" or "p.m." tells that it is when."""
    hours, minutes, seconds, half = int(m[1]), int(m[2]), m[3].removeprefix("0"), m[4]
    if minutes > 59 or float(seconds) >= 60:
        return m[0]
    if half or (hours <= 24 and _BEFORE_CLOCKS.search(before(m, 24))):
        shown = f"{'oh ' if minutes < 10 else ''}{number(str(minutes))}" if minutes else "o'clock"
        clock = f"{number(str(hours))} {shown}"
        more = f" and {_counted(seconds, 'second')}" if float(seconds) else ""
        tail = f" {A if half in 'aA' else 'p'} m{stop_after(m)}" if half else ""
        return f" {clock}{more}{tail} "
    parts = [_counted(str(n), unit) for n, unit in ((hours, "hour"), (minutes, "minute")) if n]
    if float(seconds) or not parts:
        parts.append(_counted(seconds, "second"))
    return f" {' '.join(parts[:-1])}{' and ' if parts[:-1] else ''}{parts[-1]} "


def _counted(count: str, unit: str) -> str:
    return f"{number(count)} {unit}{'' if count == '1' else 's'}"


def _hour(m: re.Match[str]) -> str:
    return f" {number(m[1])} {A if m[2] in 'aA' else 'p'} m{stop_after(m)} "


def _ratio(m: re.Match[str]) -> str:
    between = " " if _VERSES.search(before(m, 24)) else " to "
    return f" {between.join(map(number, m[0].split(':')))} "


def _decades(m: re.Match[str]) -> str:
    return re.sub(r"([2-9]0)'?s", lambda d: decade(d[1]), m[0])


_TWO_DIGITS = r"[2-9]0'?s"
TIMES: Rules = [
    (re.compile(r"(?:(?<=\d)|(?<=[ap]m)|(?<=[ap]\.m\.))\s?-\s?(?=\d{1,2}(?::\d\d)?\s?[ap]\.?m\b)"
                r"|(?<=\d:\d\d)\s?-\s?(?=\d{1,2}:\d\d\b)", re.I), lambda m: " to "),
    (re.compile(r"(?<=\d0s)-(?='?\d+0s\b)"), lambda m: " to "),
    (re.compile(r"(?<!\w)'(\d0)'?s\b"), lambda m: decade(m[1])),
    (re.compile(rf"\b(?:the|early|late|mid|his|her|their|my|your|our)[ -]{_TWO_DIGITS}"
                rf"(?:(?:,? (?:and|or|to|through) |, |-|/){_TWO_DIGITS})*\b", re.I), _decades),
    (re.compile(rf"(?<![\w.,']){_TWO_DIGITS}(?=[ -](?:{_OF_AN_ERA})\b)", re.I), _decades),
    (re.compile(r"\b(1[1-9]\d0|20\d0)'?s\b"), lambda m: decade(m[1])),
    (re.compile(r"\b(\d{4})([-/])(\d{1,2})\2(\d{1,2})\b(?:[T ](\d\d:\d\d(?::\d\d)?)\b)?"), _iso),
    (re.compile(r"(?<![\w/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?![\w/-]|[.,]\d)"), _written_date),
    (re.compile(r"(?<![\w/.-])(\d{1,2})(/)(\d{1,2})/(\d{2})(?![\w/-]|[.,]\d)"), _written_date),
    (re.compile(r"(?<![\w/.,])(9/11|7/11|24/7|50/50|20/20)(?![\w/]|[.,]\d)"),
     lambda m: " ".join(map(number, m[0].split("/")))),
    (re.compile(r"(?<![\w:.])(\d{1,3}):(\d\d):(\d\d(?:\.\d+)?)(?![\d:])(?:\s*([ap])\.?m\b\.?)?", re.I),
     _with_seconds),
    (re.compile(r"\b(\d{1,2}):(\d\d)(?!\d|:\d)(?:\s*([ap])\.?m\b\.?)?", re.I), _clock),
    (re.compile(r"(?<![\w:.])\d{1,4}(?::\d{1,4})+(?![\w:])"), _ratio),
    (re.compile(r"\b(\d{1,2})\s*([ap])\.?m\b\.?", re.I), _hour),
    (re.compile(rf"\b{_MONTH}\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:\s?-\s?(\d{{1,2}})\b)?{_YEAR}\b"
                r"(?![.:/]\d|,\d{3}\b|\s?%)"), _month_day),
    (re.compile(rf"(?:\b({_DETERMINERS})\s+)?(?<![\w.,:/$£€¥-])(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?"
                rf"{_MONTH}(?![a-z]){_YEAR}", re.I), lambda m: _day_month(m) if m[3][0].isupper() else m[0]),
    (re.compile(rf"\b({_SHORT})\s+(?=[12]\d{{3}}\b)"), lambda m: f"{_month(m[1])} "),
]  # fmt: skip
"""In the order in which they are to be tried."""
