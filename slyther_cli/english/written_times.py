"""Telephone numbers, dates, times of day and years, spoken, as they are written: rules of ``written``."""

from __future__ import annotations

from itertools import pairwise

from slyther_cli.english.times import MONTHS
from slyther_cli.english.written_context import COUNTED, Kinds, Match, is_number, is_plural, runs_on
from slyther_cli.english.written_numbers import (
    OH,
    UNITS,
    Found,
    Words,
    below_hundred,
    decade,
    digits,
    ordinal,
    word_set,
    year,
)

_BEFORE_YEARS = word_set(
    "in since of by until till from to before after during year circa around about late early mid summer "
    "spring autumn fall winter the and between through olympics election"
)
_BEFORE_OLD_YEARS = word_set("in since year circa") | frozenset(MONTHS)
_BEFORE_CLOCKS = word_set("at by until till since before after from between")
_PLACES = word_set("live lives lived living resides located situated address house stands based")
_BEFORE_DATES = word_set(
    "on of by until till since from before after for dated through and is was it's monday tuesday "
    "wednesday thursday friday saturday sunday"
)
_AFTER_ORDINALS = word_set(
    "grader graders grade class quarter half place party parties person round world time hand lady street"
)
_AMBIGUOUS_MONTHS = word_set("may march april june august")
_CALLING = word_set("call calls called calling dial dials dialed dialled dialing")


def by_digit(w: Words, i: int) -> Match | None:
    """Seven digits or more, one by one. What is said in order is counted, not dialled."""
    plus = w[i] == "plus"
    run = digits(w, i + plus, 31)
    if w[i - 1] in _CALLING and run in ("911", "999", "112"):
        return "number", [(run, 3)]
    if len(run) == 31:
        run = run[:24]  # at least seven more follow
    elif is_number(w[i + plus + len(run)]) or w[i + plus + len(run)] == "point":
        return None
    steps = {int(b) - int(a) for a, b in pairwise(run)}
    if len(run) < (9 if plus or w[i] in OH else 7) or steps in ({1}, {-1}):
        return None
    text = run
    if len(run) == 7:
        text = f"{run[:3]}-{run[3:]}"
    elif len(run) == 10 and run[0] != "0" and not plus:
        text = f"{run[:3]}-{run[3:6]}-{run[6:]}"
    elif len(run) == 11 and run[0] == "1" and not plus:
        text = f"1-{run[1:4]}-{run[4:7]}-{run[7:]}"
    return "number", [("+" * plus + text, len(run) + plus)]


def _year_of_date(w: Words, i: int) -> Found | None:
    found = year(w, i)
    return found if found and found.value >= 1300 and w[found.stop] not in COUNTED else None


def date(w: Words, i: int) -> Match | None:
    """ "march third nineteen ninety". Verbs and modals are months only where it is plain: "on may first"."""
    if w[i] not in MONTHS:
        return None
    the = w[i + 1] == "the"
    day = ordinal(w, i + 1 + the)
    if day and day.value <= 31:
        last = ordinal(w, day.stop + 1) if w[day.stop] in ("to", "through", "and", "or") else None
        if last and not day.value < last.value <= 31:
            last = None
        stop = last.stop if last else day.stop
        when = _year_of_date(w, stop)
        early = day.value < 4 and (w[i] in _AMBIGUOUS_MONTHS or w[i - 1] == "in")
        unclear = early or (the and w[i] in ("may", "march"))
        if not when and ((unclear and w[i - 1] not in _BEFORE_DATES) or w[stop] in _AFTER_ORDINALS):
            return None
        comma = "," if when else ""
        tokens = [(w[i].capitalize(), 1), (f"{day.value}{'' if last else comma}", day.stop - i - 1)]
        if last:
            tokens += [(w[day.stop], 1), (f"{last.value}{comma}", last.stop - day.stop - 1)]
    else:
        number = below_hundred(w, i + 1)
        when = _year_of_date(w, number.stop) if number and number.value <= 31 else None
        if not number or not when:
            return None
        stop = number.stop
        tokens = [(w[i].capitalize(), 1), (f"{number.value},", stop - i - 1)]
    return "year", tokens + ([(str(when.value), when.stop - stop)] if when else [])


def day_of_month(w: Words, i: int) -> Match | None:
    """ "the third of march": 3 March; with a year also "third of march" and "three march". The fourth of
    July is a holiday, unless it has a year."""
    the = w[i] == "the"
    rank = ordinal(w, i + the)
    day = rank or below_hundred(w, i + the)
    if not day or day.value > 31:
        return None
    of = w[day.stop] == "of"
    month, stop = w[day.stop + of], day.stop + of + 1
    if month not in MONTHS:
        return None
    when = _year_of_date(w, stop)
    if not when and not (the and rank and of and (day.value, month) != (4, "july")):
        return None
    tokens = [(str(day.value), day.stop + of - i), (month.capitalize(), 1)]
    return "year", tokens + ([(str(when.value), when.stop - stop)] if when else [])


def _half_of_day(w: Words, i: int) -> tuple[str, int]:
    if w[i] in ("a", "p") and w[i + 1] == "m":
        return f"{w[i]}.m.", 2
    if w[i] == "pm" or (w[i] == "am" and w[i + 1] not in ("i", "not")):
        return f"{w[i][0]}.m.", 1
    return "", 0


def clock(w: Words, i: int, kinds: Kinds) -> Match | None:
    """ "nine forty five a m"; or else "at" or the like before, or "in the morning" behind."""
    hour = below_hundred(w, i)
    if not hour or hour.value > 23:
        return None
    stop = hour.stop
    minute = None
    if w[stop] in OH and w[stop + 1] in UNITS:
        minute = Found(UNITS[w[stop + 1]], stop + 2)
    elif (found := below_hundred(w, stop)) and 10 <= found.value <= 59:
        minute = found
    stop = minute.stop if minute else stop
    shown = f"{hour.value}:{minute.value:02d}" if minute else str(hour.value)
    half, length = _half_of_day(w, stop)
    if half and hour.value <= 12:
        return "time", [(shown, stop - i), (half, length)]
    if not minute or runs_on(w, stop) or w[stop] in COUNTED or is_plural(w[stop]):
        return None
    if hour.value > 12:
        return ("time", [(shown, stop - i)]) if w[i - 1] == "at" else None
    part = w[stop] in ("tonight", "sharp") or w[stop : stop + 2] == ["at", "night"]
    part = part or (
        w[stop] in ("in", "this") and {"morning", "afternoon", "evening"} & set(w[stop + 1 : stop + 3])
    )
    before = w[i - 1]
    even = minute.value in (15, 30, 45)
    plain = before in _BEFORE_CLOCKS and w[i - 2] not in _PLACES and (hour.value, minute.value) != (9, 11)
    plain = plain or (before in ("around", "about") and even)
    plain = plain or (
        minute.value % 5 == 0 and (before == "it's" or w[i - 2 : i] in (["it", "is"], ["it", "was"]))
    )
    plain = plain or (before in ("to", "and", "or", "until", "till") and kinds[-2] == "time")
    return ("time", [(shown, stop - i)]) if part or plain else None


def standing_year(w: Words, i: int, kinds: Kinds) -> Match | None:
    if ten := decade(w, i):
        if ten.value >= 2000 and w[i - 1] not in ("the", "early", "late", "mid"):
            return None
        return "year", [(f"{ten.value}s", ten.stop - i)]
    found = year(w, i)
    if not found or w[i + 1] in ("hundred", "thousand") or w[found.stop] in COUNTED:
        return None
    century, rest = divmod(found.value, 100)
    known = w[i - 1] in _BEFORE_YEARS or w[i - 1] in MONTHS or kinds[-1] == "year"
    if century < 13:
        known = w[i - 1] in _BEFORE_OLD_YEARS
    elif century < 16:
        known = known or (rest > 20 and rest not in (95, 99) and rest % 10 != 0)
    elif century < 20:
        known = known or rest != century + 1
    elif rest == 20:
        known = w[found.stop] != "vision"
    else:
        known = known or rest % 10 != 0
    if not known or (is_number(w[found.stop]) and century < 16):
        return None
    return "year", [(str(found.value), found.stop - i)]
