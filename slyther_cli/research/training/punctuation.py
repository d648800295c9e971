"""Training a punctuator: books, whose marks and capitals are taken away and have to be predicted.

The file is TOML with the tables [model], [data], [damage], [batch] and [loop]; see
examples/train-punctuation.toml. Its paths are relative to its own folder. The loss is the cross entropy of
the marks and that of the cases, in nats a word.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models.punctuation import NONE
from slyther_cli.research.evaluation.punctuation import ROWS, f1, score
from slyther_cli.research.language.marked import Reader
from slyther_cli.research.training.loader import BatchLoader
from slyther_cli.research.training.loop import LoopConfig, Peers
from slyther_cli.research.training.punctuation_data import (
    IGNORED,
    Books,
    DamageConfig,
    TextData,
    batch_of,
    read_books,
)
from slyther_cli.research.training.settings import model_place, read_settings, starting_model, table_paths
from slyther_cli.research.training.workers import run

LEANINGS = (0.0, -0.25, -0.5, -0.75, -1.0)


@dataclass(frozen=True)
class BatchConfig:
    """A batch is ``stretches`` of ``pieces`` word pieces (about 0.8 of a word each). Validation reads
    ``dev_words`` of each book of the dev split."""

    stretches: int = 24
    pieces: int = 320
    dev_words: int = 3000

    def __post_init__(self) -> None:
        if min(self.stretches, self.dev_words) < 1 or self.pieces < 16:
            raise UsageError("stretches and dev_words must be 1 or more, pieces 16 or more")


@dataclass(frozen=True)
class PunctuationTraining:
    name: str = "my-punctuator"
    architecture: str = "punctuator"
    model: dict[str, Any] = field(default_factory=dict)
    start_from: str = ""
    data: TextData = field(default_factory=TextData)
    damage: DamageConfig = field(default_factory=DamageConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)


def read_config(path: Path) -> PunctuationTraining:
    """Raises :class:`UsageError` on anything that the file should not hold."""
    return read_settings(path, PunctuationTraining)


class PunctuationTask:
    """What the loop needs; see :mod:`slyther_cli.research.training.loop`."""

    def __init__(self, config: PunctuationTraining, base: Path, device: str = "cpu"):
        from slyther_cli.checkpoints.places import resolve

        self.config, self.peers, self.device = config, Peers(), device
        torch.manual_seed(config.loop.seed)
        self.model, self.architecture, self.settings = starting_model(config, base, "punctuate")
        self.model.to(device)
        tokenizer = None
        if config.start_from:
            tokenizer = load_tokenizer(resolve(model_place(config.start_from, base), "punctuate"))
        data = config.data
        manifests = table_paths(data.manifests, base)
        self.books = Books(manifests, data.train_split, data.wrapped, self.settings["vocab"], tokenizer)
        self.tokenizer = self.books.tokenizer
        if not config.start_from:
            with torch.no_grad():
                self.model.embedding.weight.copy_(self.books.vectors(self.settings["d_model"]))
        self.look_ahead = self.settings["look_ahead"] if self.settings["causal"] else 0
        self.alphabet = hashlib.sha256(self.tokenizer.model).hexdigest()
        reader, n = Reader(), config.batch.dev_words
        self.dev = [
            ([reader.vocabulary[word] for word in book.words[:n]], book.marks[:n], book.cases[:n])
            for book in read_books(manifests, data.dev_split, data.wrapped, reader).values()
        ]
        self._batches = BatchLoader(self.batch, device)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Pieces, marks and cases [stretches, pieces] of a step."""
        b = self.config.batch
        rng = np.random.default_rng([self.config.loop.seed, step, self.peers.rank])
        arrays = batch_of(
            b.stretches,
            lambda: self.books.stretch(b.pieces, self.config.damage, self.look_ahead, rng),
        )
        return tuple(torch.from_numpy(x) for x in arrays)  # type: ignore[return-value]

    def loss(self, step: int) -> tuple[Tensor, float]:
        """The loss of that step's batch, and the part of the marks."""
        pieces, *targets = (x.to(self.device, non_blocking=True) for x in self._batches(step))
        parts = [
            F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORED)
            for logits, target in zip(self.model(pieces), targets, strict=True)
        ]
        return parts[0] + parts[1], float(parts[0].detach())

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """F1 in % of each row of :mod:`slyther_cli.research.evaluation.punctuation` on the dev books; the
        score is the mean of full stops, commas and capitals.

        Cross entropy sets the bias of "no mark" for likelihood, not for F1: of ``LEANINGS``, the one with the
        best score is added to it and stays in the model.
        """
        bias: Any = self.model.marks.bias
        start = float(bias[NONE])
        tried = []
        for leaning in LEANINGS:
            bias[NONE] = start + leaning
            tried.append(self._scores() | {"leaning": leaning})
        best = max(tried, key=lambda scores: scores["score"])
        bias[NONE] = start + best["leaning"]
        return best

    def _scores(self) -> dict[str, Any]:
        cells = sum(score(self.model, self.tokenizer, *text) for text in self.dev)
        found = dict(zip(ROWS, (100 * f1(cells)).round(2).tolist(), strict=True))  # type: ignore[arg-type]
        chosen = [found[name] for name in ("full stop", "comma", "capital")]
        words = sum(len(text[0]) for text in self.dev)
        return {"score": round(sum(chosen) / 3, 3), "words": words} | {
            name.replace(" ", "_"): value for name, value in found.items()
        }

    def export(self, folder: Path, metrics: dict[str, Any]) -> None:
        """Write the network, its word pieces and the forms in mixed case as a model folder of slyther's."""
        from slyther_cli.checkpoints import store

        scored = ("full_stop", "comma", "question_mark", "capital")
        store.save(
            folder,
            self.model,
            name=self.config.name,
            architecture=self.architecture,
            config=self.settings,
            task="punctuate",
            companions=self.tokenizer.save,
            metrics={f"dev_f1_{name}": metrics[name] for name in scored} | {"steps": metrics["step"]},
            forms=self.books.forms,
        )

    def about(self) -> dict[str, Any]:
        """What the run is made of, for the event that starts it."""
        return {"config": self.settings, "train_words": len(self.books), "books": self.books.count}


train = partial(run, PunctuationTask, read_config)
