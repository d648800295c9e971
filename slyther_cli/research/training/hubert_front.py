"""A recogniser's beginning: the weights of a pre-trained HuBERT."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from slyther_cli.errors import UsageError
from slyther_cli.research.training.settings import model_place


def pretrained(config: Any, base: Path) -> tuple[Any, Any]:
    """A recogniser's ``config`` (``research.training.recognition``) with the sizes of the HuBERT that it
    names, and that HuBERT. ``base``: what its path is relative to.

    Raises UsageError: settings that do not fit. ModelError: no HuBERT of that name.
    """
    from slyther_cli.checkpoints import store
    from slyther_cli.models.hubert_ctc import sizes_of

    if config.architecture != "hubert-ctc":
        raise UsageError('hubert goes with architecture = "hubert-ctc"')
    if config.start_from:
        raise UsageError("start_from brings its own HuBERT: leave hubert out")
    if config.model.get("top", "none") == "none" and config.batch.intermediate:
        raise UsageError('[batch] intermediate must be 0 where [model] top is "none": no layer is midway')
    model = store.load(model_place(config.hubert, base), expect_architecture="hubert")[0]
    sizes = sizes_of(model.config)  # type: ignore[arg-type]
    known = sorted(k for k, v in config.model.items() if k in sizes and k != "dropout" and sizes[k] != v)
    if known:
        raise UsageError(f"[model] {', '.join(known)} would not fit {config.hubert}: leave it out")
    return replace(config, model={**sizes, **config.model}), model
