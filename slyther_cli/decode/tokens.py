"""The alphabets that a CTC model writes in: single characters, or SentencePiece pieces.

Both are a :class:`Tokenizer`: ids from 0 to size - 1, id 0 always the CTC blank. They are saved beside
a model's weights as ``tokens.json`` (and ``tokenizer.model`` for SentencePiece, in its own format).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slyther_cli.errors import ModelError

BLANK = 0
END, UNKNOWN = 2, 3
"""Ids of pieces that :meth:`SentencePieceTokenizer.train` made: the end of a text, and what no piece has."""
TOKENS_FILE = "tokens.json"
PIECES_FILE = "tokenizer.model"
CASES = ("lower", "upper", "keep")
ENGLISH = (" ", "'", *"abcdefghijklmnopqrstuvwxyz")
SPACE = "▁"  # SentencePiece's mark for a space
HIGHEST_SIZE = 1_000_000
LONGEST_FILE = 64 * 2**20  # bytes

_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼʹ′`´＇", "'"))
_CLIPPED = "tis|twas|twere|twill|twould|em|til|cause|bout|round|neath|gainst"
_NOISE = re.compile(
    r"(?P<keep>(?<=[^\W_])'(?=[^\W_])|(?<!\w)'(?=(?:" + _CLIPPED + r")(?!\w))|(?<=\d)[.,:](?=\d))|[^\w\s]|_",
    re.IGNORECASE,
)


def normalise(text: str, case: str = "lower") -> str:
    """English transcript text as recognisers are trained and scored on it.

    Words parted by one space; typographic apostrophes made plain; an apostrophe stays inside a word
    (DON'T) and before the few words clipped in front ('TIS, 'EM), quotation marks go; hyphens part words,
    "&" is "and"; accents are dropped (café, cafe). Numbers are left alone: digits stay digits, with
    their inner points, commas and colons (3.5, 1,000, 10:30). ``case``: "lower", "upper" or "keep".

    >>> normalise("“Don’t,” she said - twice!")
    "don't she said twice"
    """
    if case not in CASES:
        raise ValueError(f"case must be one of {CASES}, not {case!r}")
    text = text.translate(_APOSTROPHES).replace("&", " and ")
    text = unicodedata.normalize("NFKD", text)
    text = unicodedata.normalize("NFC", "".join(c for c in text if not unicodedata.combining(c)))
    text = _NOISE.sub(lambda match: match["keep"] or " ", text)
    text = {"lower": text.lower(), "upper": text.upper(), "keep": text}[case]
    return " ".join(text.split())


class Tokenizer:
    """What decoding, alignment and training need to know of an alphabet.

    ``size`` counts the blank. ``begins_word`` bool [size]: a token that ends the word before it and opens
    the next (a bare space does). ``case`` is the writing that the model was trained on.
    """

    size: int
    begins_word: npt.NDArray[np.bool_]
    case: str
    _surfaces: list[str]

    def _set(self, surfaces: Sequence[str], case: str) -> None:
        if case not in CASES:
            raise ValueError(f"case must be one of {CASES}, not {case!r}")
        self._surfaces, self.size, self.case = list(surfaces), len(surfaces), case
        self.begins_word = np.array([surface.startswith(" ") for surface in surfaces], np.bool_)

    def normalise(self, text: str) -> str:
        """:func:`normalise` in this alphabet's case."""
        return normalise(text, self.case)

    def encode(self, text: str) -> list[int]:
        """Ids without blanks. Raises ValueError for a character that the alphabet cannot write."""
        raise NotImplementedError

    def surface(self, token: int) -> str:
        """What one token shows, with its leading space; "" for blank and control tokens."""
        return self._surfaces[token]

    def shows(self, token: int) -> bool:
        """Whether the token is a part of a word."""
        return bool(self._surfaces[token].strip())

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids, words parted by one space, none around."""
        return " ".join("".join(self._surfaces[i] for i in ids).split())

    def save(self, folder: Path) -> None:
        """Write ``tokens.json`` (and what belongs to it) into an existing folder."""
        raise NotImplementedError


class CharTokenizer(Tokenizer):
    """One id a character. ``characters``: distinct, without the blank, which is put before them.

    ``ends``: ids 1 and 2 are the start and the end of a text, for models with a decoder.
    """

    def __init__(self, characters: Iterable[str] = ENGLISH, case: str = "lower", ends: bool = False) -> None:
        characters = list(characters)
        if not all(isinstance(c, str) and len(c) == 1 and c.isprintable() for c in characters):
            raise ValueError("every character token must be one printable character")
        if len(set(characters)) < len(characters) or not characters:
            raise ValueError("character tokens must be distinct, and at least one")
        controls = ["", "", ""] if ends else [""]
        self._set([*controls, *characters], case)
        self._ids = {c: i for i, c in enumerate(characters, len(controls))}
        self._ends = ends

    def encode(self, text: str) -> list[int]:
        try:
            return [self._ids[c] for c in text]
        except KeyError as error:
            raise ValueError(f"{error.args[0]!r} is not among the characters of this model") from None

    def save(self, folder: Path) -> None:
        data = {"type": "characters", "case": self.case, "tokens": list(self._ids)}
        _write(folder, data | ({"ends": True} if self._ends else {}))


class SentencePieceTokenizer(Tokenizer):
    """Pieces of a SentencePiece model, given as the bytes of its own file.

    Id 0 must be a control or unknown piece, for it is the blank. Raises ModelError if the bytes are no
    model, if id 0 is a piece with text, or if the sentencepiece package is missing.
    """

    def __init__(self, model: bytes, case: str = "keep", where: str = PIECES_FILE) -> None:
        self.model, self._pieces = model, _processor(model, where)
        try:
            surfaces = [self._shown(i) for i in range(self._pieces.get_piece_size())]
        except UnicodeDecodeError:
            raise ModelError(f"{where} is damaged: a piece is not UTF-8") from None
        if not surfaces or surfaces[0]:
            raise ModelError(f"{where}: token 0 must be the blank, a control or unknown piece")
        self._set(surfaces, case)

    def _shown(self, i: int) -> str:
        kinds = (
            self._pieces.is_control,
            self._pieces.is_unknown,
            self._pieces.is_unused,
            self._pieces.is_byte,
        )
        if any(kind(i) for kind in kinds):
            return ""
        piece = self._pieces.id_to_piece(i).replace(SPACE, " ")
        return "".join(c for c in piece if c.isprintable())  # a text is no commands to a terminal

    @classmethod
    def train(
        cls, lines: Iterable[str], size: int, *, kind: str = "unigram", case: str = "lower"
    ) -> SentencePieceTokenizer:
        """Learn ``size`` pieces from text, normalised first. ``kind``: "unigram", "bpe" or "char".

        Ids 0 blank, 1 bos, 2 eos, as the published recipes have them (papers.md 2.5), 3 unknown.
        Raises ValueError when the text is too small for so many pieces.
        """
        import io

        sentencepiece = _package()
        out = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=(line for line in (normalise(raw, case) for raw in lines) if line),
                model_writer=out,
                vocab_size=size,
                model_type=kind,
                character_coverage=1.0,
                normalization_rule_name="identity",
                pad_id=BLANK,
                bos_id=1,
                eos_id=END,
                unk_id=UNKNOWN,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{size} pieces cannot be learnt from this text: {one_line(error)}") from None
        return cls(out.getvalue(), case)

    def encode(self, text: str) -> list[int]:
        ids = self._pieces.encode(text)
        for i in ids:
            if not self._surfaces[i]:
                raise ValueError(f"{text!r} has a character that is not among the pieces of this model")
        return ids

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """The ids of each word by itself, one or more; what no piece has is ``UNKNOWN``."""
        return [ids or [UNKNOWN] for ids in self._pieces.encode(list(words))]

    def save(self, folder: Path) -> None:
        (folder / PIECES_FILE).write_bytes(self.model)
        _write(folder, {"type": "sentencepiece", "case": self.case, "size": self.size})


def read_file(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > LONGEST_FILE:
        raise ModelError(f"{path} is too large for a tokenizer")
    return data


def _write(folder: Path, data: dict[str, Any]) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=1) + "\n"
    (folder / TOKENS_FILE).write_text(text, encoding="utf-8")


def _package() -> Any:
    try:
        import sentencepiece
    except ImportError:
        raise ModelError("this model needs the package sentencepiece: pip install sentencepiece") from None
    return sentencepiece


def _processor(model: bytes, where: str) -> Any:
    sentencepiece = _package()
    try:
        pieces = sentencepiece.SentencePieceProcessor()
        if not model or not pieces.LoadFromSerializedProto(model):
            raise RuntimeError("no pieces")
    except RuntimeError as error:
        raise ModelError(f"{where} is not a SentencePiece model: {one_line(error)}") from None
    return pieces


def one_line(error: BaseException) -> str:
    """The first line of an error, short."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
