"""``voice.safetensors`` of a speech model's folder: the voice it speaks in when no prompt is given.

A few seconds of speech as the codec's codes, with the symbols of what is said in it, and, for models that
know how long a symbol lasts, their durations.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from slyther_cli.checkpoints.config import shorten
from slyther_cli.errors import ModelError
from slyther_cli.models.vall_sampling import Voice

VOICE_FILE = "voice.safetensors"
MOST_FRAMES = 10_000
LARGEST = 16 << 20  # bytes


def write_voice(folder: Path, voice: Voice) -> None:
    """Raises OSError, SafetensorError."""
    tensors = {"symbols": voice.symbols, "codes": voice.codes}
    if voice.durations is not None:
        tensors["durations"] = voice.durations
    save_file({k: v.to(torch.int32).contiguous() for k, v in tensors.items()}, folder / VOICE_FILE)


def read_voice(
    folder: Path, n_symbols: int, n_codebooks: int, codebook_size: int, aligned: bool
) -> Voice | None:
    """The folder's voice, None if it has none. Raises :class:`ModelError` when it does not fit the model."""
    path = folder / VOICE_FILE
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path} is damaged: no voice is larger than {LARGEST >> 20} MiB")
        found = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged or cannot be read: {shorten(error, 120)}") from error
    symbols, codes, durations = (found.get(k) for k in ("symbols", "codes", "durations"))
    fits = (
        symbols is not None
        and codes is not None
        and (durations is not None or not aligned)
        and all(t.dtype == torch.int32 for t in found.values())
        and symbols.dim() == 1
        and 0 < len(symbols) <= MOST_FRAMES
        and codes.dim() == 2
        and codes.shape[0] == n_codebooks
        and codes.shape[1] <= MOST_FRAMES
        and bool((symbols >= 0).all() and (symbols < n_symbols).all())
        and bool((codes >= 0).all() and (codes < codebook_size).all())
    )
    if fits and durations is not None and symbols is not None and codes is not None:
        fits = durations.shape == symbols.shape and bool((durations >= 0).all())
        fits = fits and int(durations.sum()) == codes.shape[1]
    if not fits or symbols is None or codes is None:
        raise ModelError(f"{path} does not fit the model: pull or save it again")
    return Voice(symbols.long(), codes.long(), None if durations is None else durations.long())
