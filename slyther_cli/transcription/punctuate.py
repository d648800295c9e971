"""Marks and capitals for the words of a transcript, by a network that reads all of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from slyther_cli.checkpoints import store
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.tokens import END, SentencePieceTokenizer
from slyther_cli.errors import ModelError
from slyther_cli.models.punctuation import (
    EXCLAMATION,
    LOWER,
    MARKS,
    MIXED,
    QUESTION,
    STOP,
    TERMINAL,
    TITLE,
    UPPER,
)

DEFAULT_MODEL = "punctuation-en"
LONGEST_WORD = 100  # characters of a word that the network looks at
_APOSTROPHES = str.maketrans("’ʼ", "''")
_FIRST_LETTER = re.compile(r"(?:^|(?<=\s))[\W\d_]*[^\W\d_]")
_I = {"i": "I", "i'm": "I'm", "i've": "I've", "i'll": "I'll", "i'd": "I'd"}


@dataclass(frozen=True)
class Punctuated:
    """``words``: those of the transcript, one for one, with marks and capitals: joined by blanks they are the
    text. ``ends``: the numbers of the words that a sentence ends with."""

    words: list[str]
    ends: list[int]


class Punctuator:
    """The model of a name or folder, on the CPU.

    Raises :class:`ModelError`: it is not on this machine, damaged, or made for another task.
    """

    def __init__(self, model: str | os.PathLike[str] = DEFAULT_MODEL) -> None:
        self.network: Any
        self.network, about = store.load(model, expect_task="punctuate")
        assert about.path is not None
        self.name = about.name
        self.tokenizer = load_tokenizer(about.path)
        if not isinstance(self.tokenizer, SentencePieceTokenizer):
            raise ModelError(f"model {about.name}: its alphabet is not one of word pieces")
        self.forms = about.extra.get("forms", {})
        if not isinstance(self.forms, dict) or not all(
            isinstance(form, str) and form.lower() == word for word, form in self.forms.items()
        ):
            raise ModelError(f"model {about.name}: its forms are not words by themselves in small letters")

    def restore(self, words: Sequence[str], turns: Sequence[int] = ()) -> list[str]:
        """``words`` (in small letters, without marks) with marks and capitals; see :meth:`punctuate`."""
        return self.punctuate(words, turns).words

    def punctuate(self, words: Sequence[str], turns: Sequence[int] = ()) -> Punctuated:
        """``words`` with marks and capitals, and where sentences end; the first word begins one, the last one
        ends one, and so do those of each speaker's turn. ``turns``: the numbers of the words that another
        speaker begins with, above 0. A word that has capitals already keeps its letters."""
        if not words:
            return Punctuated([], [])
        marks, cases = read(self.network, self.tokenizer, words, ended=True)
        for first in (0, *turns):
            if first and marks[first - 1] not in TERMINAL:
                marks[first - 1] = STOP
            cases[first] = cases[first] if cases[first] != LOWER else TITLE
        settle(marks, cases)
        out = [
            written(word, int(mark), int(case), self.forms)
            for word, mark, case in zip(words, marks, cases, strict=True)
        ]
        return Punctuated(out, ends_of(marks, cases).tolist())


def read(
    network: Any, tokenizer: SentencePieceTokenizer, words: Sequence[str], ended: bool = False
) -> tuple[Any, Any]:
    """The marks and cases of a text that has words, as the network tells them, int64 [n] each; ``ended``: a
    sentence ends with the last one."""
    pieces = pieces_of(tokenizer, words)
    ahead = network.config.look_ahead if network.config.causal else 0
    pieces += [[END]] * ahead
    at = np.cumsum([len(ids) for ids in pieces])[ahead:] - 1
    flat = torch.tensor([i for ids in pieces for i in ids])
    marks, cases = network.read(flat, torch.from_numpy(at), ended=ended)
    return marks.numpy(), cases.numpy()


def pieces_of(tokenizer: SentencePieceTokenizer, words: Sequence[str]) -> list[list[int]]:
    """The ids of the pieces of each word, as the network takes them."""
    return tokenizer.encode_words([word[:LONGEST_WORD].lower().translate(_APOSTROPHES) for word in words])


def settle(marks: np.ndarray, cases: np.ndarray) -> None:
    """What follows a full stop begins with a capital, in place. After a question or exclamation mark the
    network has the word: '"Why so?" said he' has none."""
    after = np.flatnonzero(marks[:-1] == STOP) + 1
    cases[after[cases[after] == LOWER]] = TITLE


def ends_of(marks: np.ndarray, cases: np.ndarray) -> np.ndarray:
    """The numbers of the words that a sentence ends with: at a full stop, and at a question or exclamation
    mark that a capital or nothing follows."""
    capital = np.append(cases[1:] != LOWER, True)
    return np.flatnonzero((marks == STOP) | (np.isin(marks, (QUESTION, EXCLAMATION)) & capital))


def written(word: str, mark: int, case: int, forms: Mapping[str, str]) -> str:
    """A word in its case, with its mark. ``forms``: words in mixed case by those in small letters."""
    plain = word.translate(_APOSTROPHES)
    if plain in _I:
        word = _I[plain]
    elif word == word.lower():
        if case == MIXED and plain in forms:
            word = forms[plain]
        elif case == UPPER:
            word = word.upper()
        elif case != LOWER:
            word = _capital(word)
    sign = MARKS[mark]
    return word if sign and word.endswith(sign) else word + sign


def _capital(word: str) -> str:
    """The first letter as a capital: 'tis, 'Tis; of a name of several words, which a user added, each."""
    return _FIRST_LETTER.sub(lambda m: m[0].upper(), word)
