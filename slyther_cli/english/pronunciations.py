"""A user's own pronunciations: names and words that the dictionary does not have, or says otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from slyther_cli.english.normalise import MARKS, normalise
from slyther_cli.english.phonemes import CONSONANTS, VOWELS, pronounce
from slyther_cli.errors import InputError

MOST_BYTES = 4_000_000
Piece = tuple[str, tuple[str, ...]]


class Pronunciations:
    """What to say for a word, or for several in a row: other words, or phones of the CMU Pronouncing
    Dictionary.

    A line for each: what is written, a tab or two blanks, and how it is said. Phones are in capitals
    ("Nguyen  W IH1 N"); anything else is a respelling ("SQL  sequel"). "#" begins a comment.
    """

    def __init__(self, lines: Sequence[str], name: str = "pronunciations", phones: bool = True):
        """``phones``: whether the model reads them. Raises :class:`InputError`, with the line's number."""
        self._said: dict[tuple[str, ...], Piece] = {}
        self._written: dict[tuple[str, ...], str] = {}
        for number, line in enumerate(lines, 1):
            if line := line.partition("#")[0].strip():
                try:
                    self._add(line, phones)
                except ValueError as error:
                    raise InputError(f"{name}, line {number}: {error}") from None
        self._longest = max(map(len, self._said), default=0)

    def _add(self, line: str, phones: bool) -> None:
        written, _, said = (part.strip() for part in line.replace("\t", "  ").partition("  "))
        key = _words(written)
        if not key or not said:
            raise ValueError(f"not a word, two blanks or a tab, and how it is said: {line[:60]!r}")
        if said.upper() == said and any(c.isalpha() for c in said):
            if not phones:
                raise ValueError("this model reads no phones: write a respelling, in small letters")
            self._said[key] = (" ".join(key), _stressed(said.split()))
        elif words := _words(said):
            self._said[key] = (" ".join(words), ())
        else:
            raise ValueError(f"{said[:60]!r} has no sound in English")
        self._written[key] = written

    @classmethod
    def read(cls, path: str | os.PathLike[str], phones: bool = True) -> Pronunciations:
        """The entries of a UTF-8 file. Raises :class:`InputError`."""
        try:
            data = Path(path).read_bytes()
            if len(data) > MOST_BYTES:
                raise InputError(f"{path}: more than {MOST_BYTES:,} bytes are no list of pronunciations")
            lines = data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{path}: is not UTF-8 text") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {(error.strerror or str(error)).lower()}") from None
        return cls(lines, str(path), phones)

    def __len__(self) -> int:
        return len(self._said)

    def written(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What is written, as the user has it, and its phones; those of a respelling from the dictionary."""
        for key, (words, phones) in self._said.items():
            yield self._written[key], phones or tuple(p for word in words.split() for p in pronounce(word)[0])

    def __repr__(self) -> str:
        return f"Pronunciations({self._said})"

    def applied(self, words: Sequence[str]) -> Iterator[Piece]:
        """Normalised words, of which some end in a mark -> what is said for them, and its phones where they
        are known; the most words in a row first. A piece ends in its last word's mark."""
        at = 0
        while at < len(words):
            piece: Piece = (words[at], ())
            count = 1
            for many in range(min(self._longest, len(words) - at), 0, -1):
                run, last = words[at : at + many], words[at + many - 1].rstrip(MARKS)
                if found := self._said.get((*run[:-1], last)):
                    piece, count = (found[0] + run[-1][len(last) :], found[1]), many
                    break
            yield piece
            at += count


def _words(text: str) -> tuple[str, ...]:
    """The words of an entry as they come out in the middle of a sentence."""
    return tuple(word.strip(MARKS) for word in normalise(f"the {text} is").text.split()[1:-1])


def _stressed(phones: Sequence[str]) -> tuple[str, ...]:
    """Phones with a stress on every vowel: where none is written, on the first. Raises ValueError."""
    out, stressed = [], any(phone.endswith("1") for phone in phones)
    for phone in phones:
        plain = phone[:-1] if phone[-1] in "012" else phone
        if plain not in VOWELS and phone not in CONSONANTS:
            raise ValueError(f"{phone[:20]!r} is no phone; a respelling has small letters")
        if phone in VOWELS:
            phone, stressed = phone + ("0" if stressed else "1"), True
        out.append(phone)
    return tuple(out)
