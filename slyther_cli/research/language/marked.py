"""Printed text as words without marks, as recognisers write them, with the mark and the case of each.

Quotation marks go, brackets are commas, hyphens part words. A semicolon is a full stop before a pronoun,
which begins a clause of its own, and a comma elsewhere; an ellipsis is a full stop before a capital, else a
comma. Sentences with digits, signs or foreign letters go, and paragraphs that do not end as sentences do:
headings, verses, tables.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from slyther_cli.models.punctuation import (
    CASES,
    COLON,
    COMMA,
    DASH,
    EXCLAMATION,
    LOWER,
    MIXED,
    NONE,
    QUESTION,
    STOP,
    TERMINAL,
    TITLE,
    UPPER,
)

ANY = 255
"""The case of what is always written one way: I, I'm."""
_SEMICOLON, _ELLIPSIS, _INITIAL = 100, 101, 102  # marks that what stands around decides
_BAD = 128  # added to a mark: its sentence goes
_FROM = "’‘ʼʹʻ`´“”„«»–―…‒‐‑\u00a0"
_TO = "'''''''\"\"\"\"\"——…—-- "
_PLAIN = str.maketrans(_FROM, _TO)
_CLIPPED = re.compile(
    r"(?<![A-Za-z])'(?=(?:tis|twas|twere|twill|twould|em|til|gainst)(?![A-Za-z]))", re.IGNORECASE
)
_CLIP = "ʼ"
_WORD = re.compile(rf"({_CLIP}?[A-Za-z]+(?:'[A-Za-z]+)*)([^A-Za-z{_CLIP}]*)")
_ENDS = re.compile(r"[.?!…][\"')\]]*$")
_FINE = re.compile(r"[\s\"'—,.;:!?()…-]*")
_TITLES = {
    "mr": "mister", "mrs": "missus", "dr": "doctor", "st": "saint", "prof": "professor", "capt": "captain",
    "col": "colonel", "gen": "general", "lt": "lieutenant", "sgt": "sergeant", "rev": "reverend",
    "hon": "honorable", "gov": "governor", "jr": "junior", "sr": "senior",
}  # fmt: skip
_ALWAYS = ("mr", "mrs", "dr")  # those that are titles without a full stop too
_DROPPED = frozenset(
    "etc viz vol chap pp ibid cf messrs ms mme mlle ii iii iv vi vii viii ix xi xii xiii".split()  # noqa: SIM905
)
_PRONOUNS = frozenset(
    f"{who}{verb}" for who in ("i", "he", "she", "it", "we", "they", "you", "there")
    for verb in ("", "'s", "'m", "'re", "'ve", "'ll", "'d")
)  # fmt: skip
_I = frozenset(("i", "i'm", "i've", "i'll", "i'd"))
MOST_FORMS = 400
FEWEST = 5  # times that a form in mixed case must have been seen


@dataclass
class Marked:
    """A text: ``words`` int32 [n], ids of a :class:`Reader`'s vocabulary, with the ``marks`` and ``cases``
    uint8 [n] of :mod:`slyther_cli.models.punctuation`; a case may be ``ANY``."""

    words: np.ndarray
    marks: np.ndarray
    cases: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def part(self, start: int, stop: int | None) -> Marked:
        """Some of the words, in a row."""
        return Marked(self.words[start:stop], self.marks[start:stop], self.cases[start:stop])


class Reader:
    """Reads texts one by one; ``vocabulary`` and ``forms`` grow by what they hold."""

    def __init__(self) -> None:
        self.vocabulary: list[str] = []
        self.forms: Counter[str] = Counter()
        """Words as printed in mixed case, and how often."""
        self._ids: dict[str, int] = {}
        self._raw: dict[str, int] = {}
        self._printed: list[str] = []
        self._of_raw: list[tuple[int, int]] = []  # id, case
        self._tails: dict[str, int] = {}

    def read(self, paragraphs: Iterable[str]) -> Marked:
        """The sentences of a text; emphasis by capitals goes with :func:`settle`."""
        texts = (_plain(paragraph) for paragraph in paragraphs)
        return self._resolved(
            *self._taken(t for t in texts if _ENDS.search(t) and not t.startswith(("#", "|")))
        )

    def read_fragment(self, text: str) -> Marked | None:
        """A text that may begin and end anywhere; None if not all of its words can be taken."""
        taken = self._taken([_plain(text)])
        found = self._resolved(*taken)
        return found if len(found) == len(taken[0]) > 0 and not re.match(r"\W*\d", text) else None

    def _taken(self, texts: Iterable[str]) -> tuple[np.ndarray, np.ndarray]:
        """The printed words of texts, and what stands after each."""
        raws: list[int] = []
        tails: list[int] = []
        for text in texts:
            for word, tail in _WORD.findall(text):
                raw, mark = self._raw.get(word), self._tails.get(tail)
                raws.append(self._new_raw(word) if raw is None else raw)
                tails.append(self._new_tail(tail) if mark is None else mark)
        return np.array(raws, np.int64), np.array(tails, np.int64)

    def id(self, word: str) -> int:
        """Of a word in small letters."""
        found = self._ids.get(word)
        if found is None:
            found = self._ids[word] = len(self.vocabulary)
            self.vocabulary.append(word)
        return found

    def _new_raw(self, raw: str) -> int:
        printed = raw.replace(_CLIP, "'")
        word = printed.lower()
        case = case_of(printed)
        if word in _I:
            case = ANY
        self._raw[raw] = len(self._of_raw)
        self._of_raw.append((self.id(word), case))
        self._printed.append(printed)
        return self._raw[raw]

    def _new_tail(self, tail: str) -> int:
        mark = _mark(tail)
        if not _FINE.fullmatch(tail):
            mark += _BAD
        self._tails[tail] = mark
        return mark

    def _resolved(self, raws: np.ndarray, tails: np.ndarray) -> Marked:
        if not len(raws):
            none = np.zeros(0, np.uint8)
            return Marked(none.astype(np.int32), none, none)
        table = np.array(self._of_raw, np.int64)
        words, cases = table[raws, 0], table[raws, 1].astype(np.uint8)
        bad, marks = tails >= _BAD, tails % _BAD
        about = _About(self)
        titled = (about.title[words] >= 0) & ((marks == STOP) | about.always[words])
        marks[titled & (marks == STOP)] = NONE
        marks[about.letter[words] & (marks == STOP)] = NONE
        words = np.where(titled, about.title[words], words)
        follows = np.append(words[1:], -1)
        capital = np.append(np.isin(cases[1:], (TITLE, UPPER, MIXED, ANY)), True)
        clause = np.append(about.pronoun[follows[:-1]], False)
        ends = marks == _SEMICOLON
        begins = np.flatnonzero(ends & clause) + 1
        cases[begins[cases[begins] == LOWER]] = TITLE
        marks = np.where(ends, np.where(clause, STOP, COMMA), marks)
        marks = np.where(marks == _ELLIPSIS, np.where(capital, STOP, COMMA), marks)
        over = np.isin(marks, TERMINAL)
        sentence = np.concatenate(([0], np.cumsum(over)[:-1]))
        wrong = np.bincount(sentence[bad | about.dropped[words]], minlength=sentence[-1] + 2) > 0
        after = sentence[np.minimum(np.flatnonzero(bad) + 1, len(sentence) - 1)]  # "... ended. 12 men came"
        wrong[after] = True
        keep = ~wrong[sentence]
        for raw, count in zip(*np.unique(raws[keep & (cases == MIXED)], return_counts=True), strict=True):
            self.forms[self._printed[raw]] += int(count)
        return Marked(words[keep].astype(np.int32), marks[keep].astype(np.uint8), cases[keep])


class _About:
    """What is known of the words of a vocabulary, arrays by id."""

    def __init__(self, reader: Reader) -> None:
        title = {reader.id(short): reader.id(whole) for short, whole in _TITLES.items()}
        names = reader.vocabulary
        self.title = np.full(len(names), -1)
        self.title[list(title)] = list(title.values())
        self.always = np.array([name in _ALWAYS for name in names])
        self.letter = np.array([len(name) == 1 and name not in "iao" for name in names])
        self.pronoun = np.array([name in _PRONOUNS for name in names])
        self.dropped = np.array([name in _DROPPED for name in names])


def case_of(word: str) -> int:
    """The case of a printed word; of a single letter, small or title."""
    letters = [c for c in word if c.isalpha()]
    if not letters or word == word.lower():
        return LOWER
    if letters[0].isupper() and all(c.islower() for c in letters[1:]):
        return TITLE
    return UPPER if all(c.isupper() for c in letters) else MIXED


def _plain(text: str) -> str:
    """Plain quotes and dashes, no emphasis, no accents."""
    text = text.strip()
    if not text.startswith(("#", "|")):
        text = text.replace("_", "").replace("*", "").strip()
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.translate(_PLAIN).replace("…", "\0")).replace("\0", "…")
        text = "".join(c for c in text if not unicodedata.combining(c))
    return _CLIPPED.sub(_CLIP, text)


def _mark(tail: str) -> int:
    """The mark in what stands between two words."""
    if "?" in tail:
        return QUESTION
    if "!" in tail:
        return EXCLAMATION
    if "…" in tail or re.search(r"\.\s*\.", tail):
        return _ELLIPSIS
    for sign, mark in (
        (".", STOP),
        (":", COLON),
        (";", _SEMICOLON),
        (",", COMMA),
        ("(", COMMA),
        (")", COMMA),
    ):
        if sign in tail:
            return mark
    return DASH if "—" in tail or "--" in tail or re.search(r"\s-\s", tail) else NONE


def common_forms(forms: Counter[str]) -> dict[str, str]:
    """Of words in mixed case the commonest form by the word in small letters, the most frequent of them."""
    found: dict[str, str] = {}
    for form, count in forms.most_common():
        if count >= FEWEST and len(found) < MOST_FORMS:
            found.setdefault(form.lower(), form)
    return found


def settle(texts: list[Marked], size: int) -> None:
    """Take emphasis out, in place: words in capitals that are mostly written otherwise get their usual case,
    or a capital where a sentence begins. ``size``: of the vocabulary."""
    counts = np.zeros((size, len(CASES)), np.int64)
    for text in texts:
        known = text.cases != ANY
        cells = text.words[known].astype(np.int64) * len(CASES) + text.cases[known]
        counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
    usual = counts.argmax(1).astype(np.uint8)
    for text in texts:
        loud = (text.cases == UPPER) & (usual[text.words] != UPPER)
        begins = np.concatenate(([True], np.isin(text.marks[:-1], TERMINAL)))
        text.cases = np.where(loud, np.where(begins, TITLE, usual[text.words]), text.cases).astype(np.uint8)
