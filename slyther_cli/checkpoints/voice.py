"""The voices that come with a speech model: ``voice.safetensors`` in its folder, ``voices`` in config.json.

A voice is a few seconds of speech as the codec's codes, with the symbols of what is said in it, and, for
models that know how long a symbol lasts, their durations; the model goes on from it as from a prompt. Its
tensors are "NAME/symbols", "NAME/codes" and "NAME/durations". ``voices`` is a list of objects with "name" and
maybe "sex" and "accent", of which the first is the default. A folder without ``voices`` holds one without
"NAME/", which is called "default". Listing voices needs no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slyther_cli.checkpoints.config import NAME, ModelConfig, shorten
from slyther_cli.errors import ModelError, UsageError

if TYPE_CHECKING:
    from slyther_cli.models.vall_sampling import Voice

VOICE_FILE = "voice.safetensors"
UNNAMED = "default"
MOST_VOICES = 100
MOST_FRAMES = 10_000
LARGEST = 16 << 20  # bytes


@dataclass(frozen=True)
class VoiceEntry:
    """What is told of a voice. ``sex``: "female", "male"; ``accent``: such as "British"; "" is not told."""

    name: str
    sex: str = ""
    accent: str = ""

    def as_json(self) -> dict[str, str]:
        """The object in ``voices``."""
        return {key: value for key, value in asdict(self).items() if value}

    def __str__(self) -> str:
        return ", ".join(value for value in (self.sex, self.accent) if value)


def list_voices(config: ModelConfig) -> tuple[VoiceEntry, ...]:
    """The voices of a model, the default one first. Raises ModelError: ``voices`` are not as they should
    be."""
    told = config.extra.get("voices")
    if told is None:
        return (VoiceEntry(UNNAMED),) if config.path and (config.path / VOICE_FILE).is_file() else ()
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise ModelError(f"model {config.name}: 'voices' in its config is no list of objects")
    entries = tuple(VoiceEntry(*(one.get(key, "") for key in ("name", "sex", "accent"))) for one in told)
    if fault := entries_fault(entries):
        raise ModelError(f"model {config.name}: 'voices' in its config: {fault}")
    return entries


def entries_fault(entries: Sequence[VoiceEntry]) -> str:
    """What keeps these from being a model's voices; "" if nothing does."""
    if len(entries) > MOST_VOICES:
        return f"more than {MOST_VOICES}"
    for entry in entries:
        if not (isinstance(entry.name, str) and NAME.fullmatch(entry.name)):
            return f"a name may hold letters, digits, '.', '_' and '-', not {shorten(entry.name)!r}"
        for word in (entry.sex, entry.accent):
            if not (isinstance(word, str) and len(word) <= 40 and word.isprintable()):
                return f"sex and accent are short texts, not {shorten(word)!r}"
    twice = [entry.name for entry in entries if sum(entry.name == other.name for other in entries) > 1]
    return f"two are called {twice[0]}" if twice else ""


def find_voice(config: ModelConfig, name: str | None = None) -> VoiceEntry | None:
    """The voice of that name, without one the default; None: nobody asks for one, and the model has none.

    Raises UsageError: no such voice, with the names of those that there are; ModelError as
    :func:`list_voices`."""
    entries = list_voices(config)
    if name is None:
        return entries[0] if entries else None
    by_name = {entry.name: entry for entry in entries}
    if name in by_name:
        return by_name[name]
    if not entries:
        raise UsageError(f"model {config.name} has no voices of its own: leave --voice out, or take --prompt")
    near = difflib.get_close_matches(name.lower(), by_name, 1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"model {config.name} has no voice {shorten(name)!r}, only {', '.join(by_name)}{hint}")


def write_voices(folder: Path, voices: Mapping[str, Voice]) -> None:
    """Raises OSError, SafetensorError."""
    import torch
    from safetensors.torch import save_file

    tensors = {
        f"{name}/{key}": tensor.to(torch.int32).contiguous()
        for name, voice in voices.items()
        for key, tensor in voice._asdict().items()
        if tensor is not None
    }
    save_file(tensors, folder / VOICE_FILE)


def read_voice(
    folder: Path, name: str, n_symbols: int, n_codebooks: int, codebook_size: int, aligned: bool
) -> Voice:
    """The folder's voice of that name. Raises :class:`ModelError`: it is not there, damaged, or does not fit
    the model."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from slyther_cli.models.vall_sampling import Voice

    path = folder / VOICE_FILE
    try:
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path} is damaged: voices are not larger than {LARGEST >> 20} MiB")
        every = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} is damaged or cannot be read: {shorten(error, 120)}") from error
    before = "" if name == UNNAMED and "codes" in every else f"{name}/"
    found = [every.get(before + key) for key in ("symbols", "codes", "durations")]
    if not _fits(found, n_symbols, n_codebooks, codebook_size, aligned):
        raise ModelError(f"{path}: voice {name} does not fit the model: pull or save it again")
    symbols, codes = every[before + "symbols"], every[before + "codes"]
    durations = every.get(before + "durations")
    return Voice(symbols.long(), codes.long(), None if durations is None else durations.long())


def _fits(found: Sequence[Any], n_symbols: int, n_codebooks: int, codebook_size: int, aligned: bool) -> bool:
    """Whether symbols, codes and durations are a voice of the model."""
    import torch

    symbols, codes, durations = found
    return (
        symbols is not None
        and codes is not None
        and (durations is not None or not aligned)
        and all(tensor is None or tensor.dtype == torch.int32 for tensor in found)
        and symbols.dim() == 1
        and 0 < len(symbols) <= MOST_FRAMES
        and codes.dim() == 2
        and codes.shape[0] == n_codebooks
        and codes.shape[1] <= MOST_FRAMES
        and bool((symbols >= 0).all() and (symbols < n_symbols).all())
        and bool((codes >= 0).all() and (codes < codebook_size).all())
        and (
            durations is None
            or (
                durations.shape == symbols.shape
                and bool((durations >= 0).all())
                and int(durations.sum()) == codes.shape[1]
            )
        )
    )
