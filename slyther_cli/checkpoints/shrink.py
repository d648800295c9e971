"""A model stored in fewer bits."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.average import check_free
from slyther_cli.checkpoints.config import CARD_FILE
from slyther_cli.errors import ModelError, UsageError

TYPES = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}


def shrink(
    model: str | os.PathLike[str], output: str | os.PathLike[str], to: str = "int8", only: str = ""
) -> Path:
    """Write ``model`` (a name or a folder) with its weights as ``to``, one of :data:`TYPES`, and all else as
    it is; return the new folder. It computes in float32 as before: files and downloads are smaller, no more.
    With int8, ``only`` tensors whose names begin so; all others as float16.

    Raises UsageError: another type, nothing that begins so, or ``output`` is there; ModelError, OutputError:
    as ``store`` does.
    """
    if to not in TYPES:
        raise UsageError(f"unknown type {to!r}; choose {', '.join(TYPES)}")
    if only and to != "int8":
        raise UsageError("only a part of a model can be stored as int8, not as another type")
    network, about = store.load(model)
    if not any(key.startswith(only) for key in network.state_dict()):
        raise UsageError(f"no tensor of {about.name} begins with {only!r}")
    assert about.path is not None
    check_free(output)
    card = about.path / CARD_FILE
    try:
        words = card.read_text(encoding="utf-8") if card.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{card} cannot be read: {error}") from None
    return store.save_like(about, Path(output), network, card=words, dtype=TYPES[to], only=only)
