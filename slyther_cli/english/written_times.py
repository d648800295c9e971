"""Telephone numbers, dates, times of day and years, spoken, as they are written: rules of ``written``."""

from __future__ import annotations

from itertools import pairwise

from slyther_cli.english.times import MONTHS
from slyther_cli.english.written_context import (
    AS_SAID,
    COUNTED,
    Kinds,
    Match,
    is_number,
    is_plural,
    joins,
    runs_on,
)
from slyther_cli.english.written_numbers import (
    OH,
    UNITS,
    Found,
    Words,
    below_hundred,
    decade,
    dialled,
    ending,
    ordinal,
    word_set,
    year,
)

_BEFORE_YEARS = word_set(
    "in since of by until till from to before after during year circa around about late early mid summer "
    "spring autumn fall winter the and between through olympics election"
)
_BEFORE_OLD_YEARS = word_set("in since year circa") | frozenset(MONTHS)
_BEFORE_PRICES = word_set("for cost costs costing pay paid price only just")
_BEFORE_CLOCKS = word_set("at by until till since before after from between")
_PLACES = word_set("live lives lived living resides located situated address house stands based")
_BEFORE_DATES = word_set(
    "on of by until till since from before after between for dated through and is was it's monday tuesday "
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
    run, stop = dialled(w, i + plus, 31)
    if w[i - 1] in _CALLING and run in ("911", "999", "112"):
        return "number", [(run, stop - i)]
    if len(run) > 30:
        run, stop = dialled(w, i + plus, 24)  # at least six more follow
    elif is_number(w[stop]) or w[stop] == "point":
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
    return "number", [("+" * plus + text, stop - i)]


def _year_of_date(w: Words, i: int) -> Found | None:
    found = year(w, i)
    return found if found and found.value >= 1300 and w[found.stop] not in COUNTED else None


def date(w: Words, i: int, kinds: Kinds) -> Match | None:
    """ "march third (to fifth) (nineteen ninety)", "march nineteen ninety". "may" and "march" are often other
    words, so that early days need "on" or the like before them, or a year."""
    if w[i] not in MONTHS:
        return None
    month = (w[i].capitalize(), 1)
    the = w[i + 1] == "the"
    day = ordinal(w, i + 1 + the)
    if not day or day.value > 31:
        return _month_and_year(w, i)
    last = ordinal(w, day.stop + 1) if w[day.stop] in ("to", "through", "and", "or") else None
    if last and not day.value < last.value <= 31:
        last = None
    stop = last.stop if last else day.stop
    when = _year_of_date(w, stop)
    early = day.value < 4 and (w[i] in _AMBIGUOUS_MONTHS or w[i - 1] == "in")
    unclear = early or (the and w[i] in ("may", "march"))
    plain = w[i - 1] in _BEFORE_DATES or not (w[i - 1] or w[stop])  # or nothing else is said
    plain = plain or (w[i - 1] in ("to", "and", "or") and kinds[-2] == "year")
    if not when and ((unclear and not plain) or w[stop] in _AFTER_ORDINALS):
        return None
    comma = "," if when else ""
    tokens = [month, (f"{day.value}{'' if last else comma}", day.stop - i - 1)]
    if last:
        tokens += [(AS_SAID, 1), (f"{last.value}{comma}", last.stop - day.stop - 1)]
    return "year", tokens + ([(str(when.value), when.stop - stop)] if when else [])


def _month_and_year(w: Words, i: int) -> Match | None:
    """ "june nineteen nineteen eighty", "june nineteen eighty"."""
    month = (w[i].capitalize(), 1)
    day = below_hundred(w, i + 1)
    if day and day.value <= 31 and (when := _year_of_date(w, day.stop)):
        return "year", [month, (f"{day.value},", day.stop - i - 1), (str(when.value), when.stop - day.stop)]
    when = _year_of_date(w, i + 1)
    if not when or (when.value == 2000 and w[i] in ("may", "march")):
        return None
    return "year", [month, (str(when.value), when.stop - i - 1)]


def day_of_month(w: Words, i: int) -> Match | None:
    """ "(the) third of march" behind "the" or before a year; before a year also "seven may"."""
    rank = ordinal(w, i)
    day = rank or below_hundred(w, i)
    if not day or day.value > 31:
        return None
    of = w[day.stop] == "of"
    month, stop = w[day.stop + of], day.stop + of + 1
    if month not in MONTHS:
        return None
    when = _year_of_date(w, stop)
    if not when and not (rank and of and w[i - 1] == "the"):
        return None
    tokens = [(f"{day.value}{ending(day.value) if rank else ''}", day.stop - i)]
    tokens += [(AS_SAID, 1)] * of + [(month.capitalize(), 1)]
    return "year", tokens + ([(str(when.value), when.stop - stop)] if when else [])


def _half_of_day(w: Words, i: int) -> tuple[str, int]:
    if w[i] in ("a", "p") and w[i + 1] == "m":
        return f"{w[i]}.m.", 2
    if w[i] == "pm" or (w[i] == "am" and w[i + 1] not in ("i", "not")):
        return f"{w[i][0]}.m.", 1
    return "", 0


def _hour_and_minute(w: Words, i: int) -> tuple[int, int | None, int] | None:
    """ "nine", "nine forty five", "nine oh five": hour, minute, and the index after them."""
    hour = below_hundred(w, i)
    if not hour or hour.value > 23:
        return None
    stop = hour.stop
    if w[stop] in OH and w[stop + 1] in UNITS:
        return hour.value, UNITS[w[stop + 1]], stop + 2
    if (found := below_hundred(w, stop)) and 10 <= found.value <= 59:
        return hour.value, found.value, found.stop
    return hour.value, None, stop


def _shown(hour: int, minute: int | None) -> str:
    return str(hour) if minute is None else f"{hour}:{minute:02d}"


def clock(w: Words, i: int, kinds: Kinds) -> Match | None:
    """ "nine forty five a m", "two or three p m"; or else "at" or the like before, or "in the morning"
    behind."""
    found = _hour_and_minute(w, i)
    if not found:
        return None
    hour, minute, stop = found
    shown = _shown(hour, minute)
    half, length = _half_of_day(w, stop)
    if half and hour <= 12:
        return "time", [(shown, stop - i), (half, length)]
    if hour <= 12 and joins(w, i, stop) and (last := _hour_and_minute(w, stop + 1)):
        half, length = _half_of_day(w, last[2])
        before = w[stop] == "to" and minute is None and hour % 5 == 0 and w[i - 1] != "from"  # "ten to two"
        if half and last[0] <= 12 and not before:
            tokens = [(shown, stop - i), (AS_SAID, 1), (_shown(*last[:2]), last[2] - stop - 1)]
            return "time", [*tokens, (half, length)]
    if minute is None or runs_on(w, stop) or w[stop] in COUNTED or is_plural(w[stop]):
        return None
    if hour > 12:
        return ("time", [(shown, stop - i)]) if w[i - 1] == "at" else None
    known = _is_part_of_day(w, stop) or _is_clock_context(w, i, hour, minute)
    known = known or (w[i - 1] in ("to", "and", "or", "until", "till") and kinds[-2] == "time")
    return ("time", [(shown, stop - i)]) if known else None


def _is_part_of_day(w: Words, i: int) -> bool:
    if w[i] in ("in", "this"):
        return not {"morning", "afternoon", "evening"}.isdisjoint(w[i + 1 : i + 3])
    return w[i] in ("tonight", "sharp") or w[i : i + 2] == ["at", "night"]


def _is_clock_context(w: Words, i: int, hour: int, minute: int) -> bool:
    """Whether the words before ``i`` make a time of two numbers."""
    before = w[i - 1]
    if before in _BEFORE_CLOCKS:
        return w[i - 2] not in _PLACES and (hour, minute) != (9, 11)
    if before in ("around", "about"):
        return minute in (15, 30, 45)
    return minute % 5 == 0 and (before == "it's" or w[i - 2 : i] in (["it", "is"], ["it", "was"]))


def standing_year(w: Words, i: int, kinds: Kinds) -> Match | None:
    """Decades, and years where they are no counts ("fifteen twenty minutes") and no prices."""
    if ten := decade(w, i):
        if ten.value >= 2000 and w[i - 1] not in ("the", "early", "late", "mid"):
            return None
        return "year", [(f"{ten.value}s", ten.stop - i)]
    found = year(w, i)
    if not found or w[i + 1] in ("hundred", "thousand") or w[found.stop] in COUNTED:
        return None
    century, rest = divmod(found.value, 100)
    span = w[found.stop] in ("to", "and", "or", "through") and year(w, found.stop + 1)
    known = span or w[i - 1] in _BEFORE_YEARS or w[i - 1] in MONTHS or kinds[-1] == "year"
    if century < 13:
        known = w[i - 1] in _BEFORE_OLD_YEARS
    elif century < 16:
        known = known or (rest > 20 and rest not in (95, 99) and rest % 10 != 0)
    elif century < 20:
        known = known or rest != century + 1
    elif rest == 20:
        known = w[found.stop] not in ("vision", "hindsight")
    else:
        known = known or rest % 10 != 0
    price = w[i - 1] in _BEFORE_PRICES and rest in (49, 50, 95, 97, 98, 99)
    if not known or price or (is_number(w[found.stop]) and century < 16):
        return None
    return "year", [(str(found.value), found.stop - i)]
