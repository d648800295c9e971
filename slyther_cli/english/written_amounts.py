"""Money, shares, measures, ordinals and plain numbers, spoken, as they are written: rules of ``written``."""

from __future__ import annotations

from typing import NamedTuple

from slyther_cli.english.times import MONTHS
from slyther_cli.english.written_context import (
    AS_SAID,
    CENTS,
    COUNTED,
    MEASURES,
    MONEY,
    PARTS,
    Kinds,
    Match,
    coordinated,
    is_elliptical,
    is_number,
    is_plural,
    joins,
    runs_on,
)
from slyther_cli.english.written_numbers import (
    LARGE,
    ORDINALS,
    SCALES,
    Found,
    Words,
    below_hundred,
    cardinal,
    decimal,
    digits,
    ending,
    ordinal,
    word_set,
)

_DETERMINERS = word_set("the his her its their our my your this that")
_UNITS_WITH_PARTS = frozenset(MONEY) | {"feet", "foot"}
_OF_A_RANK = word_set(
    "century centuries birthday anniversary floor street avenue edition grade grader amendment"
)
_OF_SECONDS = word_set(
    "delay clip spot ad video mark rule break timer interval intervals commercial limit pause window "
    "segment sprint countdown silence head"
)
_RULERS = word_set(
    "henry louis lewis charles george edward richard william james philip francis frederick napoleon john "
    "paul pius leo benedict gregory clement innocent urban boniface julius peter nicholas ivan otto "
    "ferdinand leopold alfonso carl christian constantine ptolemy ramses ramesses stephen"
)


_OF_A_NOUN = word_set(
    "dollar euro pound degree foot inch mile yard meter metre kilometer kilometre gram kilogram kilo ounce "
    "ton liter litre gallon acre watt kilowatt megawatt volt megabyte gigabyte second minute hour day week "
    "month year page word seat room bed man woman person point piece story storey"
)


class Amount(NamedTuple):
    """``stop``: after what becomes figures; ``end``: after the scale ("million") that may follow. ``bare``:
    said without figures, as in "a million"."""

    text: str
    value: float
    stop: int
    end: int
    scale: str = ""
    bare: bool = False
    year: bool = False


def amount(w: Words, i: int) -> Amount | None:
    """A number, a decimal, either with "minus"; or zero."""
    sign = "-" if w[i] == "minus" else ""
    i += len(sign)
    if found := decimal(w, i):
        text, stop = found
        value = float(text.replace(",", "")) if text.count(".") == 1 else 0.0
        scale = w[stop] if w[stop] in LARGE else ""
        return Amount(sign + text, value, stop, stop + bool(scale), scale)
    if w[i] == "zero":
        return Amount("0", 0, i + 1, i + 1)
    number = cardinal(w, i)
    if not number:
        return None
    if number.scale:
        many = number.value // SCALES[number.scale]
        return Amount(f"{sign}{many:,}", many, number.stop - 1, number.stop, number.scale, number.bare)
    text = f"{sign}{number.value:,}"
    return Amount(text, number.value, number.stop, number.stop, "", number.bare, number.year)


def with_unit(w: Words, i: int, kinds: Kinds) -> Match | None:
    """Money, shares and measures, and ranges of them: "two or three percent"."""
    minus = w[i : i + 2] == ["minus", "point"]
    if w[i + minus] == "point":
        places = digits(w, i + minus + 1, 9)
        stop = i + minus + 1 + len(places)
        said = _percent(w, stop)
        return ("number", [(f"{'-' * minus}0.{places}%", stop + said - i)]) if places and said else None
    if w[i] == "a" and w[i + 1] in ("dollar", "euro", "pound"):
        sign = MONEY[w[i + 1]]
        cents = _cents(w, i + 2, sign)
        return ("number", [(f"{sign}1.{cents.value:02d}", cents.stop - i)]) if cents else None
    if coordinated(w, i, kinds):
        return None
    first = amount(w, i)
    if not first or (first.value < 2 and w[i - 1 : i + 2] == ["at", "one", "point"]):
        return None
    if tokens := _measured(w, i, first):
        return "number", _with_article(w, i, first, tokens)
    if not joins(w, i, first.end) or first.scale or first.bare or first.text.startswith("-"):
        return None
    start = first.end + 1
    second = amount(w, start)
    if not second or second.bare or (is_elliptical(w, first.value, start) and not second.scale):
        return None
    more = _measured(w, start, second)
    if not more and second.scale and not runs_on(w, second.end):
        more = _tokens(second, start)
    if not more:
        return None
    sign = more[0][0][0] if more[0][0][0] in PARTS else ""
    return "number", [*_tokens(first, i, before=sign), (AS_SAID, 1), *more]


def _with_article(w: Words, i: int, a: Amount, tokens: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """The tokens of an amount; "a" stays if it is of a noun behind: "a hundred and fifty dollar fine"."""
    if w[i] not in ("a", "an") or w[a.end] not in _OF_A_NOUN or a.bare:
        return tokens
    (text, length), *more = tokens
    return [(AS_SAID, 1), (text, length - 1), *more]


def _tokens(a: Amount, i: int, *, before: str = "", behind: str = "", more: int = 0) -> list[tuple[str, int]]:
    """The amount with a sign ``before`` or ``behind`` it, which stands for ``more`` words after it."""
    text = f"-{before}{a.text[1:]}" if a.text.startswith("-") else before + a.text
    if a.scale:
        return [(text, a.stop - i), (a.scale + behind, a.end - a.stop + more)]
    return [(text + behind, a.stop - i + more)]


def _measured(w: Words, i: int, a: Amount) -> list[tuple[str, int]] | None:
    """The tokens of an amount that has a unit behind it."""
    unit = w[a.end]
    if said := _percent(w, a.end):
        return None if a.scale else _tokens(a, i, behind="%", more=said)
    if unit in MONEY:
        return _money(w, i, a)
    if a.bare or not a.value:
        return None
    if unit in CENTS:
        idiom = a.value == 2 and w[i - 1] in _DETERMINERS  # "my two cents"
        return None if idiom else _tokens(a, i)
    if unit in MEASURES or (unit == "degrees" and a.text.startswith("-")):
        return _tokens(a, i)
    if unit in ("feet", "foot"):
        inches = below_hundred(w, a.end + 1)
        return _tokens(a, i) if inches and w[inches.stop] in ("inch", "inches") else None
    return None


def _percent(w: Words, i: int) -> int:
    """How many words from here on say "percent"."""
    return 1 if w[i] == "percent" else 2 if w[i] == "per" and w[i + 1] == "cent" else 0


def _money(w: Words, i: int, a: Amount) -> list[tuple[str, int]] | None:
    """With cents. Pounds only where they cannot be a weight: with pence, in millions, as notes."""
    sign, unit, k = MONEY[w[a.end]], w[a.end], a.end
    plain = not a.scale and "." not in a.text and not a.bare
    if a.bare and (not unit.endswith("s") or w[i - 1] in ("half", "of", "like", "quarter")):
        return None
    if not a.value:
        return None
    if plain and (cents := _cents(w, k + 1, sign)):
        return [(f"{sign}{a.text}.{cents.value:02d}", cents.stop - i)]
    behind = ("sterling", "note", "notes", "coin", "coins")
    if sign == "£" and not a.scale and w[k + 1] not in behind:
        return None
    return _tokens(a, i, before=sign, more=1)


def _cents(w: Words, i: int, sign: str) -> Found | None:
    """What follows dollars: "and fifty cents", "fifty"."""
    joined = w[i] == "and"
    part = below_hundred(w, i + joined)
    if not part:
        return None
    if w[part.stop] in PARTS[sign]:
        return Found(part.value, part.stop + 1)
    follows = w[part.stop]
    if joined or runs_on(w, part.stop) or follows in COUNTED or is_plural(follows):
        return None
    return part if part.value >= (20 if sign == "£" else 10) else None  # up to nineteen may be shillings


def plain(w: Words, i: int, kinds: Kinds) -> Match | None:
    """Ordinals from ten on, decimals, and cardinals from ten on, by themselves."""
    if w[i - 1] in ("half", "past") or coordinated(w, i, kinds):
        return None
    if rank := ordinal(w, i):
        written = rank.value >= 10 and not rank.bare and _is_rank(w, i, rank.stop)
        return ("number", [(f"{rank.value:,}{ending(rank.value)}", rank.stop - i)]) if written else None
    after = w[i - 1] in _UNITS_WITH_PARTS and kinds[-2] == "kept"  # "six pounds ten"
    after = after or w[i - 1] in ("buck", "bucks")  # "a buck fifty"
    after = after or ((w[i - 1] in ORDINALS or w[i - 1] in MONTHS) and kinds[-1] == "year")  # "may ninth ten"
    found = None if after else amount(w, i)
    if not found or found.bare or runs_on(w, found.end):
        return None
    if "." in found.text:
        if w[i - 1 : i + 2] == ["at", "one", "point"]:
            return None
    elif (found.value < 10 and not found.scale) or _depends(w, i, found):
        return None
    text = found.text.replace(",", "") if _like_a_year(w, i, found) else found.text
    return "number", _with_article(w, i, found, _tokens(found._replace(text=text), i))


def _like_a_year(w: Words, i: int, a: Amount) -> bool:
    """Whether a number has no comma: "two thousand eight", "at twenty three hundred hours". What counts
    something has one: "two thousand people"."""
    follows, before = w[a.end], w[i - 1]
    if follows == "hours" and before in ("at", "by", "until", "before", "after", "since"):
        return a.value % 100 == 0 and a.value <= 2300
    counts = follows in COUNTED or is_plural(follows)
    return a.year and (not counts or before in ("in", "since", "the"))


def _is_rank(w: Words, i: int, stop: int) -> bool:
    """Not a fraction ("one twentieth"), a time ("a thirty second pause") or a king ("louis the tenth")."""
    last, follows, before = w[stop - 1], w[stop], w[i - 1]
    if follows in _OF_A_RANK:
        return True
    if before in ("a", "an", "one") or (before == "the" and w[i - 2] in _RULERS):
        return False
    if last == "second":
        return before in _DETERMINERS and follows not in _OF_SECONDS
    if last in ("hundredth", "thousandth", "millionth", "billionth"):
        return before in _DETERMINERS and follows not in ("part", "of")
    return True


def _depends(w: Words, i: int, a: Amount) -> bool:
    """Whether a number is half of what is said: "ten to one", "ten or twelve thousand", "ten past two"."""
    if w[a.end] in ("past", "after", "till") and is_number(w[a.end + 1]):
        return True
    if not joins(w, i, a.end):
        return False
    other = cardinal(w, a.end + 1 + (w[a.end + 1] == "minus"))
    if not other:
        return False
    small = other.value < 10 and not _measured(w, a.end + 1, amount(w, a.end + 1) or a)
    return (small and not runs_on(w, other.stop)) or (
        is_elliptical(w, a.value, a.end + 1) and not other.scale
    )
