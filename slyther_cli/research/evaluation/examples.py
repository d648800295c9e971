"""Which examples an evaluation draws from recorded speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slyther_cli.research.training.data import SpeechPool


@dataclass(frozen=True, kw_only=True)
class Examples:
    """``count`` examples of ``seconds`` of the speakers of ``split``, the same ones for the same ``seed``.
    ``cache``: folder for the resampled speech; None is slyther's."""

    manifests: Sequence[Path]
    split: str = "test"
    count: int = 300
    seconds: float = 4.0
    seed: int = 0
    cache: Path | None = None

    def pool(self, rate: int) -> SpeechPool:
        """Their speakers' speech at ``rate``. Raises InputError."""
        from slyther_cli.checkpoints.places import cache_dir

        return SpeechPool(list(self.manifests), self.split, rate, self.cache or cache_dir() / "training")
