"""Training of the language model that helps a recogniser: which text goes in, which is kept out.

Text of books is what read speech is read from: a model that has seen the sentences of the test recordings
would be no model at all. So text that shares six words in a row with a transcript of any split but train is
left out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slyther_cli.decode.ngram import NGram
from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.language.blending import blend
from slyther_cli.research.language.corpus import Guard, paragraphs, sentences
from slyther_cli.research.language.kneser_ney import perplexity, train
from slyther_cli.research.language.mixture import train_mixture
from slyther_cli.research.language.pruning import size_of
from slyther_cli.research.training.data import read_table

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LanguageModelOptions:
    """``order``: words of the longest n-grams. ``largest``: bytes of the file. Words that occur less often
    than ``least_word_count`` count as unknown. ``wrapped``: only an empty line ends a paragraph. ``mix``
    weighs each file by how well it tells the dev transcripts (``research.language.mixture``), instead of
    counting all as one text. ``blend``: another model and the weight, from 0 to 1, that its probabilities
    have in the end (``research.language.blending``)."""

    order: int = 3
    largest: int | None = None
    least_word_count: int = 1
    wrapped: bool = False
    mix: bool = False
    blend: tuple[NGram, float] | None = None


def train_language_model(
    texts: Sequence[Path],
    manifests: Sequence[Path],
    options: LanguageModelOptions,
    on_event: Callable[[Event], None] = lambda event: None,
) -> tuple[NGram, Event]:
    """A model of text files and of the train transcripts of ``manifests``; and what there is to tell of it.

    ``on_event`` gets a "text" for each file read. Raises InputError: a file cannot be read, or there are no
    words in them. UsageError: ``mix`` without dev transcripts.
    """
    train_lines, dev, protected = _transcripts(manifests)
    guard = Guard(protected)
    words = 0

    def counted(name: str, lines: Iterator[list[str]]) -> Iterator[str]:
        nonlocal words
        before, count, kept_out = words, 0, guard.dropped
        for paragraph in lines:
            for line in guard(paragraph):
                count += 1
                words += line.count(" ") + 1
                yield line
        on_event(
            {
                "event": "text",
                "file": name,
                "sentences": count,
                "words": words - before,
                "left_out": guard.dropped - kept_out,
            }
        )

    every = [counted(name, (sentences(line) for line in lines)) for name, lines in train_lines.items()]
    every += [counted(str(path), (sentences(p) for p in paragraphs(path, options.wrapped))) for path in texts]
    names = [*train_lines, *map(str, texts)]
    weights: dict[str, float] = {}
    if options.mix and not dev:
        raise UsageError("--mix weighs texts by dev transcripts: name a manifest that has some")
    order = options.order
    how: Event = {"least_word_count": options.least_word_count, "largest": options.largest}
    try:
        if options.mix:
            held_out = [sentence for lines in dev.values() for line in lines for sentence in sentences(line)]
            model, found = train_mixture(every, held_out, order, **how)
            weights = dict(zip(names, found, strict=True))
        else:
            model = train(itertools.chain.from_iterable(every), order, least_counts=(1,) * order, **how)
    except ValueError as error:
        raise InputError(str(error)) from None
    if options.blend is not None:
        model = blend(model, *options.blend)
    report: Event = {
        "words": words,
        "weights": weights,
        "left_out": guard.dropped,
        "vocabulary": len(model.words) - 3,
        "ngrams": [len(level.logp) for level in model.levels],
        "bytes": size_of(model),
        "dev_perplexity": {name: _measure(model, lines) for name, lines in dev.items()},
    }
    return model, report


def _transcripts(manifests: Sequence[Path]) -> tuple[dict[str, list[str]], dict[str, list[str]], list[str]]:
    """Of each manifest its train and dev transcripts, and those of all that is not train."""
    train_lines: dict[str, list[str]] = {}
    dev: dict[str, list[str]] = {}
    protected: list[str] = []
    for path in manifests:
        for row in read_table(path, ("path", "split")):
            text = row.get("normalized") or row.get("transcript", "")
            if not text:
                continue
            if row["split"] == "train":
                train_lines.setdefault(str(path), []).append(text)
                continue
            protected += {text, row.get("transcript", "")}
            if row["split"] == "dev":
                dev.setdefault(str(path), []).append(text)
        if str(path) not in train_lines and not protected:
            raise InputError(f"{path}: has no transcripts")
    return train_lines, dev, protected


def _measure(model: NGram, lines: list[str]) -> dict[str, float]:
    plain = [sentence for line in lines for sentence in sentences(line)]
    words = [word for line in plain for word in line.split()]
    unknown = sum(not model.knows(word) for word in words)
    return {
        "perplexity": perplexity(model, plain),
        "unknown": unknown / max(len(words), 1),
        "words": len(words),
    }
