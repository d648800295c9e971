"""Which model speaks, and in which of its voices. Choosing needs no torch."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from slyther_cli.checkpoints.config import ModelConfig, read_config
from slyther_cli.checkpoints.places import available
from slyther_cli.checkpoints.voice import find_voice, read_voice
from slyther_cli.errors import ModelError
from slyther_cli.jobs.setup import choose_model

if TYPE_CHECKING:
    from slyther_cli.models.vall_m import VallM
    from slyther_cli.models.vall_sampling import Voice

DEFAULT_MODEL = "vall-me-16k-en"


def choose_speech_model(model: str | os.PathLike[str] | None) -> ModelConfig:
    """The model to speak with: the one named, else the shipped one, else the first in the cache that speaks.

    Raises :class:`ModelError`."""
    if model is None and DEFAULT_MODEL not in (here := {name: folder for name, folder, _ in available()}):
        for folder in here.values():
            with contextlib.suppress(ModelError):
                if (config := read_config(folder)).task == "speak":
                    return config
        raise ModelError(
            f"no model on this machine can speak: {DEFAULT_MODEL}, which comes with slyther, is not here; "
            "install slyther again, or train one with `slyther train speak` and name it with --model"
        )
    return choose_model("speak", model, DEFAULT_MODEL)


def built_in_voice(config: ModelConfig, network: VallM, name: str | None = None) -> Voice | None:
    """The model's voice of that name, without one its default voice; None: it has none.

    Raises :class:`UsageError`: no voice of that name; :class:`ModelError`: one that does not fit."""
    entry, c = find_voice(config, name), network.config
    if entry is None:
        return None
    assert config.path is not None
    of_model = (c.n_symbols, c.n_codebooks, c.codebook_size, network.aligned)
    return read_voice(config.path, entry.name, *of_model)
