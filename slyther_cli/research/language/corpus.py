"""Plain text as the sentences that a language model learns from, and what must be kept out of it.

A sentence comes as recognisers write it: lower case, no punctuation, numbers in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from slyther_cli.decode.tokens import normalise
from slyther_cli.english.normalise import normalise as spoken
from slyther_cli.english.sentences import split_sentences
from slyther_cli.errors import InputError

SHARED = 6  # words in a row that must not be shared with protected text
LONGEST_LINE = 10**6  # characters; a line beyond is no prose
_WRITTEN = re.compile(r"[\d$£€%]|\b(?:mrs?|dr|st|messrs|capt|col|gen|lt|rev|prof|jr|sr|etc|hon)\b\.?", re.I)
_LETTERS = re.compile(r"[a-z' ]+")


def as_recognised(text: str) -> str:
    """Text as a recogniser writes what it hears: numbers and titles in words, then ``tokens.normalise``."""
    if _WRITTEN.search(text):
        text = spoken(text, letter_a="a").text
    return normalise(text)


def sentences(paragraph: str) -> list[str]:
    """The sentences of a paragraph, as heard; those with letters that English does not have go."""
    pieces = (as_recognised(piece.text) for piece in split_sentences(paragraph, LONGEST_LINE))
    return [line for line in pieces if _LETTERS.fullmatch(line)]


def paragraphs(path: Path, wrapped: bool = False) -> Iterator[str]:
    """The lines of a UTF-8 file; ``wrapped``: an empty line ends a paragraph instead.

    Raises InputError: the file cannot be read or is no text.
    """
    held: list[str] = []
    try:
        with open(path, encoding="utf-8-sig") as file:
            while line := file.readline(LONGEST_LINE):
                if "\0" in line:
                    raise InputError(f"{path}: is no text file")
                line = line.strip()
                if line and wrapped:
                    held.append(line)
                    continue
                if held:
                    yield " ".join(held)
                    held = []
                if line:
                    yield line
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise InputError(
            f"{path}: is not UTF-8 text; `iconv -f latin1 -t utf-8` converts older files"
        ) from None
    if held:
        yield " ".join(held)


class Guard:
    """Keeps sentences out that have ``SHARED`` words in a row in common with protected ones.

    ``dropped`` counts them. Shorter protected sentences are kept out where they stand alone.
    """

    def __init__(self, protected: Iterable[str]) -> None:
        self.dropped = 0
        self._runs: set[tuple[str, ...]] = set()
        self._short: set[tuple[str, ...]] = set()
        for line in protected:
            words = tuple(as_recognised(line).split())
            self._runs.update(words[i : i + SHARED] for i in range(len(words) - SHARED + 1))
            if len(words) < SHARED:
                self._short.add(words)

    def __call__(self, paragraph: list[str]) -> list[str]:
        """The sentences of a paragraph without those that touch a shared run, which may span two."""
        if not self._runs and not self._short:
            return paragraph
        words = [word for line in paragraph for word in line.split()]
        owner = [i for i, line in enumerate(paragraph) for _ in line.split()]
        bad = {i for i, line in enumerate(paragraph) if tuple(line.split()) in self._short}
        for i in range(len(words) - SHARED + 1):
            if tuple(words[i : i + SHARED]) in self._runs:
                bad.update(owner[i : i + SHARED])
        self.dropped += len(bad)
        return [line for i, line in enumerate(paragraph) if i not in bad]
