"""The average of several models: checkpoints of one run, or runs that went on from the same weights.

Source: papers.md 2.5 (the published recognisers are averages of the ten best checkpoints). Weights of runs
that began apart are no nearer to each other than any: their average is a model of noise, and nothing here
can tell.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from slyther_cli.audio.discover import shown
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.config import ModelConfig
from slyther_cli.errors import ModelError, UsageError


def average(
    models: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    shares: Sequence[float] = (),
    name: str | None = None,
) -> Path:
    """Write the average of ``models`` (names or folders) as a model folder, and return it.

    ``shares`` [models]: how much each counts, by default all alike. Name, licence, alphabet, language model
    and settings are the first one's; scores are left out, for they are nobody's. Sums are in double
    precision, one model in memory beside them.

    Raises UsageError: fewer than two models, shares that do not fit, ``output`` is there; ModelError: a model
    is damaged, of another kind or size than the first, or writes in another alphabet; OutputError: cannot be
    written.
    """
    if len(models) < 2:
        raise UsageError("an average takes two models or more")
    check_free(output)
    parts = list(shares) or [1.0] * len(models)
    if len(parts) != len(models) or min(parts) < 0 or not 0 < sum(parts) < float("inf"):
        raise UsageError(f"{len(models)} models take {len(models)} shares of 0 or more, not all of them 0")
    first, about = store.load(models[0])
    assert about.path is not None
    mean = {key: parts[0] * tensor.double() for key, tensor in first.state_dict().items()}
    names = [about.name]
    for model, share in zip(models[1:], parts[1:], strict=True):
        network, config = store.load(model)
        _compare(about, config)
        names.append(config.name)
        for key, tensor in network.state_dict().items():
            mean[key] += share * tensor.double()
        del network
    state = first.state_dict()
    for key, tensor in mean.items():
        state[key].copy_(tensor / sum(parts))
    return store.save_like(
        about,
        Path(output),
        first,
        name=name or about.name,
        metrics=None,
        averaged=[{"name": one, "share": part / sum(parts)} for one, part in zip(names, parts, strict=True)],
    )


def check_free(output: str | os.PathLike[str]) -> None:
    """Raises UsageError when something is in the new folder's place."""
    if os.path.lexists(output):
        raise UsageError(f"{shown(output)} is there already: give a new folder")


def _compare(first: ModelConfig, other: ModelConfig) -> None:
    """Raises ModelError unless the weights of both mean the same."""
    from slyther_cli.models.registry import full_config

    assert first.path is not None and other.path is not None
    if (first.task, first.architecture) != (other.task, other.architecture):
        raise ModelError(
            f"{other.path} is a {other.architecture} made to {other.task}, {first.path} a "
            f"{first.architecture} made to {first.task}: they have no average"
        )
    ours, theirs = (full_config(c.architecture, c.config) for c in (first, other))
    if odd := [key for key in ours if ours[key] != theirs[key]]:
        raise ModelError(
            f"{other.path} has {odd[0]} = {theirs[odd[0]]}, {first.path} {ours[odd[0]]}: they have no average"
        )
    for name in ("tokens.json", "tokenizer.model"):
        if _bytes(first.path / name) != _bytes(other.path / name):
            raise ModelError(f"{other.path} writes in another alphabet than {first.path}: see {name}")


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
