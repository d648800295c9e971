"""How a recogniser's beam should search: settings for its config.json, sought on speech with known words.

The posteriors of all utterances are computed once; then the settings go up and down by turns (pattern search,
Hooke and Jeeves 1961), and what lowers the word error rate stays. To be done on dev speakers, never on those
that are reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from slyther_cli.errors import UsageError
from slyther_cli.research.evaluation.metrics import edits
from slyther_cli.research.evaluation.recognition import read_items
from slyther_cli.research.training.data import read_mono

Row = dict[str, Any]
STEPS = {
    "boundary_bonus": 1.0,
    "blank_bonus": 0.7,
    "lm_weight": 0.1,
    "word_bonus": 0.5,
    "unknown_bonus": 5.0,
    "unknown_letter_bonus": 1.0,
    "tied": 0.1,
}
HALVINGS = 2  # of the steps, once none of them helps


def search_settings(
    model: str,
    manifest: Path,
    split: str = "dev",
    examples: int | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """A row for each setting tried, the model's own first and the best one again last. Keys: ``part``
    "search", ``model``, ``utterances``, ``words``, ``errors`` in words, ``wer`` in percent,
    ``cpu_per_second`` of the search alone, ``best`` (whether it is better than all before), ``decoding`` (as
    config.json has it), ``problem``.

    Raises UsageError: asked to choose by test speakers, or the model has no language model; InputError:
    no speech.
    """
    from slyther_cli.jobs.setup import choose_model
    from slyther_cli.transcription.options import SearchOptions
    from slyther_cli.transcription.recogniser import BOUNDS, Recogniser

    if split == "test":
        raise UsageError("settings are not chosen by the test speakers: name another with --split dev")
    config = choose_model("transcribe", model, model)
    recogniser = Recogniser(config, search=SearchOptions(decode="beam"))
    if recogniser.lm is None:
        raise UsageError(f"model {recogniser.config.name} has no language model to search with")
    items = read_items(manifest, split, examples)
    heard = [recogniser.posteriors(read_mono(item.paths[0], recogniser.rate)) for item in items]
    seconds = sum(map(len, heard)) * recogniser.hop / recogniser.rate
    words = sum(len(item.text.split()) for item in items)
    own = recogniser.decoding
    shared: Row = {
        "part": "search",
        "model": recogniser.config.name,
        "utterances": len(items),
        "words": words,
    }
    rows: list[Row] = []

    def tried(changes: dict[str, float]) -> float:
        recogniser.decoding = replace(own, **changes)  # type: ignore[arg-type]
        start, wrong = time.process_time(), 0
        for item, log_probs in zip(items, heard, strict=True):
            decoder = recogniser.decoder()
            tokens = [*decoder.push(log_probs), *decoder.flush()]
            text = recogniser.writing.decode(token.id for token in tokens)
            wrong += edits(item.text.split(), text.split())
        cpu = (time.process_time() - start) / seconds
        best = all(wrong < row["errors"] for row in rows)
        row = {
            "errors": wrong,
            "wer": 100 * wrong / words,
            "cpu_per_second": cpu,
            "best": best,
            "problem": "",
        }
        row = {**shared, **row, "decoding": dict(vars(recogniser.decoding))}
        rows.append(row)
        if on_row is not None:
            on_row(row)
        return wrong

    best, steps, halvings = tried({}), dict(STEPS), 0
    at = {key: float(getattr(own, key)) for key in STEPS}
    while halvings <= HALVINGS:
        before = best
        for key in STEPS:
            low, high = BOUNDS.get(key, (-float("inf"), float("inf")))
            for step in (steps[key], -steps[key]):
                value = round(min(max(at[key] + step, low), high), 4)
                if value == at[key]:
                    continue
                now = tried({**at, key: value})
                if now < best:
                    best, at[key] = now, value
                    break
        if best == before:
            halvings += 1
            steps = {key: step / 2 for key, step in steps.items()}
    rows.append(next(row for row in rows if row["errors"] == best))
    return rows
