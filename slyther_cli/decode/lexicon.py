"""The words that a recogniser of phones can write, with their pronunciations.

They are the words of the language model, as the dictionary says them or, where it has none, the spelling
rules; a user's own pronunciations stand beside those or add words, and hot words are scored higher.

    python -m slyther_cli.decode.lexicon lm.bin lexicon.npz

writes down how the words of a language model are said: beside both, a model starts without asking the rules.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from slyther_cli.decode.ngram import LN10, SPECIAL, UNKNOWN, NGram
from slyther_cli.decode.phones import PHONES, WORD, units
from slyther_cli.decode.tokens import normalise
from slyther_cli.english.dictionary import variants
from slyther_cli.english.phonemes import pronounce, shorten
from slyther_cli.english.pronunciations import Pronunciations
from slyther_cli.errors import InputError, ModelError

LEXICON_FILE = "lexicon.npz"
LONGEST = 48  # phones of a word
HOT = 4.0  # natural logarithm by which a hot word is likelier
UNHEARD = -5 * LN10  # log p, at least, of a word that the user adds and the language model lacks


class Spoken(NamedTuple):
    """Pronunciations in arrays: ``names`` int32 [n] the numbers of their words; the phones of the i-th (from
    0, in the order of ``PHONES``) are ``phones`` uint8 [starts[i] : starts[i + 1]]; ``starts`` int64 [n + 1].
    """

    names: np.ndarray
    starts: np.ndarray
    phones: np.ndarray

    @classmethod
    def of(cls, rows: Iterable[tuple[int, Sequence[str]]]) -> Spoken:
        """From numbers of words and phones, of which the usable ones are taken."""
        kept = [(name, units(phones)) for name, phones in rows if 0 < len(phones) <= LONGEST]
        starts = np.cumsum([0, *(len(row) for _, row in kept)], dtype=np.int64)
        phones = np.array([(unit - 1) % len(PHONES) for _, row in kept for unit in row], np.uint8)
        return cls(np.array([name for name, _ in kept], np.int32), starts, phones)

    def __add__(self, other: Any) -> Spoken:
        starts = np.concatenate([self.starts, self.starts[-1] + other.starts[1:]])
        return Spoken(np.append(self.names, other.names), starts, np.append(self.phones, other.phones))


class Lexicon:
    """Word i is the i-th of the language model; after those come the words that the user adds, ``added``.

    ``spoken``: how they are said; ``model`` int32 [n]: the word of each pronunciation in the language model,
    or -1; ``extra`` float64 [n]: natural logarithm, added to its score. ``known``: how the language model's
    words are said, if somebody wrote it down. Raises :class:`InputError` when there is no word at all.
    """

    def __init__(
        self,
        lm: NGram,
        own: Pronunciations | None = None,
        hot: Sequence[str] = (),
        known: Spoken | None = None,
    ) -> None:
        self._words = lm.words
        self._added: dict[str, int] = {}
        self.compiled: Any = None  # what the compiled search makes of it
        raised = dict.fromkeys(word for phrase in hot for word in phrase.split())
        written = own.written() if own else ()
        rows = [(self._number(normalise(word) or word), phones) for word, phones in written]
        mine = {name for name, _ in rows}
        for word in raised:
            if (name := self._number(word)) not in mine and name >= len(lm.words):
                rows.append((name, pronounce(word)[0]))
        self.spoken = (known or words_of(lm)) + Spoken.of(rows)
        if not len(self.spoken.names):
            raise InputError("the language model has no word that is written in English letters")
        outside = self.spoken.names >= len(lm.words)
        self.model = np.where(outside, -1, self.spoken.names).astype(np.int32)
        hot_names = [self._number(word) for word in raised]
        self.added = list(self._added)
        unheard = max(0.0, UNHEARD - lm.score(UNKNOWN, ())[0])
        self.extra = unheard * outside + HOT * np.isin(self.spoken.names, hot_names)

    def _number(self, word: str) -> int:
        found = self._words.find(word)
        if found >= 0 and word not in SPECIAL:
            return found
        return self._added.setdefault(word, len(self._words) + len(self._added))

    def name(self, number: int) -> str:
        """The text of a word."""
        n = len(self._words)
        return self._words[number].decode("utf-8", "replace") if number < n else self.added[number - n]

    def entries(self) -> Iterator[tuple[int, list[int], int, float]]:
        """Of every pronunciation the number of its word, its phones from 0, ``model`` and ``extra``."""
        names, starts, phones = self.spoken
        for i, name in enumerate(names.tolist()):
            row = phones[starts[i] : starts[i + 1]].tolist()
            yield name, row, int(self.model[i]), float(self.extra[i])


def asked_for(
    lm: NGram, folder: Path | None, own: str | os.PathLike[str] | None, hotwords: str | None
) -> Lexicon:
    """The lexicon with a user's file of pronunciations and hot words, if there are any. ``folder``: of the
    model that ``lm`` came with. Raises :class:`InputError`, :class:`ModelError`."""
    mine = None if own is None else Pronunciations.read(own)
    if mine is not None and not len(mine):
        raise InputError(f"{os.fspath(own or '')}: has no pronunciation in it")
    listed = None if folder is None else folder / LEXICON_FILE
    known = load_words(lm, listed) if listed and listed.is_file() else None
    return Lexicon(lm, mine, hot_words(hotwords) if hotwords is not None else (), known)


def words_of(lm: NGram) -> Spoken:
    """How the words of a language model are said: those in English letters."""
    words = ((i, lm.words[i].decode("utf-8", "replace")) for i in range(len(lm.words)))
    known = ((i, word) for i, word in words if word not in SPECIAL and WORD.fullmatch(word))
    return Spoken.of((i, phones) for i, word in known for phones in said(word))


def said(word: str) -> Iterator[tuple[str, ...]]:
    """The pronunciations of a word, the dictionary's first one first."""
    yield pronounce(word)[0]
    yield from variants().get(word, ())


def save_words(lm: NGram, path: str | os.PathLike[str]) -> None:
    """Write down how the words of ``lm`` are said."""
    np.savez_compressed(
        path, vocabulary=_vocabulary(lm), phones_of=np.array(PHONES), **words_of(lm)._asdict()
    )


def load_words(lm: NGram, path: Path) -> Spoken:
    """What :func:`save_words` wrote. Raises :class:`ModelError`: unreadable, damaged, of other words."""
    try:
        with np.load(path, allow_pickle=False) as file:
            spoken = Spoken(*(file[name] for name in Spoken._fields))
            same = int(file["vocabulary"]) == _vocabulary(lm) and tuple(file["phones_of"]) == PHONES
    except (OSError, ValueError, KeyError, EOFError, zlib.error, TypeError, BadZipFile) as error:
        raise ModelError(f"{path} is damaged: {' '.join(str(error).split())[:160]}") from None
    if not same:
        raise ModelError(f"{path} is of other words than the language model beside it")
    if not _sound(spoken, len(lm.words)):
        raise ModelError(f"{path} is damaged: its parts contradict each other")
    return spoken


def _vocabulary(lm: NGram) -> int:
    return zlib.crc32(lm.words.text.tobytes())


def _sound(spoken: Spoken, words: int) -> bool:
    names, starts, phones = spoken
    kinds = (names.dtype, starts.dtype, phones.dtype) == (np.int32, np.int64, np.uint8)
    if not kinds or not names.ndim == starts.ndim == phones.ndim == 1 or len(starts) != len(names) + 1:
        return False
    lengths = np.diff(starts)
    fits = starts[0] == 0 and starts[-1] == len(phones) and bool(((lengths > 0) & (lengths <= LONGEST)).all())
    return bool(fits and (names >= 0).all() and (names < words).all() and (phones < len(PHONES)).all())


def hot_words(text: str) -> list[str]:
    """Names and words parted by commas, as ``normalise`` writes them. Raises :class:`InputError`."""
    parts = [part for part in text.split(",") if part.strip()]
    phrases = [normalise(part) for part in parts]
    for part, phrase in zip(parts, phrases, strict=True):
        if not phrase or not all(WORD.fullmatch(word) for word in phrase.split()):
            raise InputError(
                f"--hotwords: {shorten(part.strip())!r} is not written in English letters: respell it"
            )
    if not phrases:
        raise InputError("--hotwords: there is no word in it")
    return phrases


if __name__ == "__main__":
    save_words(NGram.load(sys.argv[1]), sys.argv[2])
