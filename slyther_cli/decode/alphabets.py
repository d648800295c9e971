"""The alphabet of a model folder, whichever kind it is: characters, phones, SentencePiece pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slyther_cli.decode.phones import PHONES, PhoneTokenizer
from slyther_cli.decode.tokens import (
    CASES,
    HIGHEST_SIZE,
    PIECES_FILE,
    TOKENS_FILE,
    CharTokenizer,
    SentencePieceTokenizer,
    one_line,
    read_file,
)
from slyther_cli.errors import ModelError
from slyther_cli.untrusted import read_json


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer saved in a model folder. Raises ModelError if it is missing or damaged."""
    path = Path(folder) / TOKENS_FILE
    try:
        data = read_json(read_file(path))
        kind, case = data["type"], data["case"]
        if case not in CASES:
            raise ValueError(f"unknown case {case!r}")
        if kind == "characters":
            tokens, ends = data["tokens"], data.get("ends", False)
            if not isinstance(tokens, list) or len(tokens) >= HIGHEST_SIZE or not isinstance(ends, bool):
                raise ValueError("tokens must be a list, ends true or false")
            return CharTokenizer(tokens, case, ends)
        if kind == "phones":
            if data["phones"] != list(PHONES):
                raise ValueError("its phones are other ones than slyther's")
            return PhoneTokenizer(case)
        if kind != "sentencepiece":
            raise ValueError(f"unknown type {kind!r}")
        size = data["size"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is damaged: {one_line(error)}") from None
    tokenizer = SentencePieceTokenizer(
        read_file(path.parent / PIECES_FILE), case, str(path.parent / PIECES_FILE)
    )
    if tokenizer.size != size:
        raise ModelError(f"{path}: {size} tokens expected, {PIECES_FILE} has {tokenizer.size}")
    return tokenizer
