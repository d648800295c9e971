"""How true the times of words are: our CTC alignment beside another one, and beside a speaker that knows.

Two measures, on utterances whose text is known, aligned to it:

    forced_align   torchaudio's alignment of the same posteriors: both are the best path, so they differ only
                   where two paths are equally good
    phones         when the voice said each word: flite tells the times of its phones while it speaks, and
                   `slyther train synthesize` writes them into its manifest
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slyther_cli.decode.align import align
from slyther_cli.decode.words import Token
from slyther_cli.english.phonemes import ALPHABETS, BLANK, MARKS, spell
from slyther_cli.errors import InputError, ModelError
from slyther_cli.research.training.data import read_mono, read_table
from slyther_cli.research.training.phone_times import parse_phones, symbol_durations

Row = dict[str, Any]
Times = list[tuple[float, float]]
WITHIN = (0.04, 0.1)  # seconds
SILENT = (BLANK, *MARKS)


def spoken_words(text: str, phones: str, seconds: float) -> tuple[list[str], Times] | None:
    """The words of ``text`` and when each is said, from a voice's own ``phones`` ("dh:0.226 ..."); None where
    they cannot be matched."""
    spelling = spell(text, "arpabet")
    lasting = symbol_durations(spelling.symbols, parse_phones(phones), round(1000 * seconds), 1000.0)
    if lasting is None:
        return None
    ends, times, open_word = np.cumsum(lasting) / 1000, Times(), False
    for symbol, end, length in zip(spelling.symbols, ends.tolist(), lasting.tolist(), strict=True):
        if ALPHABETS["arpabet"][symbol] in SILENT:
            open_word = False
            continue
        times.append((times.pop()[0] if open_word else end - length / 1000, end))
        open_word = True
    return spelling.words.translate(dict.fromkeys(map(ord, MARKS))).split(), times


def forced_alignment() -> Callable[[np.ndarray, Sequence[int]], list[Token]]:
    """torchaudio's, as ``align``. Raises ModelError where its extension cannot be loaded."""
    import torch

    from slyther_cli.audio.torchaudio_compat import torchaudio

    function = torchaudio().functional.forced_align
    try:
        function(torch.zeros(1, 2, 2), torch.tensor([[1]], dtype=torch.int32))
    except (RuntimeError, OSError, AttributeError, NameError) as error:
        why = " ".join(str(error).split())[:120]
        raise ModelError(f"torchaudio's forced_align cannot be loaded here: {why}") from None

    def aligned(log_probs: np.ndarray, tokens: Sequence[int]) -> list[Token]:
        asked = torch.tensor([list(tokens)], dtype=torch.int32)
        path, scores = (x[0].numpy() for x in function(torch.from_numpy(log_probs)[None], asked))
        edges = np.flatnonzero(np.concatenate(([True], path[1:] != path[:-1], [True])))
        runs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        return [Token(int(path[a]), a, b, float(scores[a:b].mean())) for a, b in runs if path[a]]

    return aligned


def measure_times(
    model: str,
    manifest: Path,
    split: str = "test",
    examples: int = 20,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """A row for each measure. Keys: ``part`` "times", ``against``, ``model``, ``utterances``, ``problem``;
    "forced_align": ``tokens``, ``equal`` (the share with the same frames), ``furthest_ms``; "phones":
    ``words``, and for "start" and "end": ``mean_ms`` (of ours less the truth), ``median_ms``, ``p90_ms`` of
    the absolute error, and the shares ``within_40_ms`` and ``within_100_ms``. Raises InputError: no speech.
    """
    from slyther_cli.jobs.setup import choose_model
    from slyther_cli.transcription.options import SearchOptions
    from slyther_cli.transcription.recogniser import Recogniser

    config = choose_model("transcribe", model, model)
    recogniser = Recogniser(config, search=SearchOptions(decode="greedy", lm="none"))
    rows = read_table(manifest, ("path", "split", "transcript"))
    rows = [row for row in rows if row["split"] == split and row["transcript"].strip()]
    if not rows:
        raise InputError(f"{manifest}: no utterance with a transcript in split {split!r}")
    chosen = [rows[i * len(rows) // min(examples, len(rows))] for i in range(min(examples, len(rows)))]
    peer, problem = None, ""
    try:
        peer = forced_alignment()
    except ModelError as error:
        problem = str(error)
    moves: list[int] = []  # frames between our tokens' edges and the peer's
    errors: dict[str, list[float]] = {"start": [], "end": []}
    heard = timed = 0
    for row in chosen:
        samples = read_mono(manifest.resolve().parent / row["path"], recogniser.rate)
        text = recogniser.tokenizer.normalise(row["transcript"])
        try:
            tokens = recogniser.tokenizer.encode(text)
            log_probs = recogniser.posteriors(samples)
            ours = align(log_probs, tokens)
        except (ValueError, InputError):
            continue  # digits, or too short for its text
        heard += 1
        if peer is not None:
            theirs = peer(log_probs, tokens)
            moves += [
                max(abs(a.start - b.start), abs(a.end - b.end)) for a, b in zip(ours, theirs, strict=True)
            ]
        truth = spoken_words(row["transcript"], row.get("phones") or "", len(samples) / recogniser.rate)
        words = recogniser.word_stream()
        said = [*words.push(ours), *words.flush()]
        spoken = text.split()
        if (
            truth is not None
            and len(said) == len(spoken)
            and spoken == truth[0]
            and len(spoken) == len(truth[1])
        ):
            timed += 1
            for word, (start, end) in zip(said, truth[1], strict=True):
                errors["start"].append(word.start / recogniser.rate - start)
                errors["end"].append(word.end / recogniser.rate - end)
    shared: Row = {"part": "times", "model": recogniser.config.name, "manifest": str(manifest)}
    first: Row = {**shared, "against": "forced_align", "utterances": heard, "problem": problem}
    if moves:
        ms = 1000 * recogniser.hop / recogniser.rate
        first |= {"tokens": len(moves), "equal": float(np.mean(np.array(moves) == 0))}
        first |= {"furthest_ms": ms * max(moves)}
    none = "no utterance has timed phones that fit its words: see `slyther train synthesize`"
    second: Row = {**shared, "against": "phones", "utterances": timed, "problem": "" if timed else none}
    if timed:
        second |= {"words": len(errors["start"]), **{k: _spread(v) for k, v in errors.items()}}
    found = [first, second]
    for one in found:
        if on_row is not None:
            on_row(one)
    return found


def _spread(errors: Sequence[float]) -> dict[str, float]:
    far = np.abs(errors)
    found = {"mean_ms": np.mean(errors), "median_ms": np.median(far), "p90_ms": np.quantile(far, 0.9)}
    shares = {f"within_{1000 * limit:.0f}_ms": float(np.mean(far <= limit)) for limit in WITHIN}
    return {key: round(1000 * float(value), 1) for key, value in found.items()} | shares
