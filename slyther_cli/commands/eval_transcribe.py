"""``slyther eval transcribe``: word and character error rates where the words are known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.commands.peers import PEERS, load_peer, parse_peer
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.words import Word
from slyther_cli.errors import UsageError
from slyther_cli.transcription.options import DEFAULT_MODEL, SearchOptions


def transcribe(
    manifest: Annotated[
        list[Path],
        typer.Option(
            help="TSV of speech (path, speaker, split, transcript). Each of several is scored by itself.",
            metavar="TSV",
        ),
    ],
    split: opt.Split = "test",
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help=f"Name or folder of a model, by default {opt.RECOGNISER}; none: the peers alone.",
            metavar="NAME|PATH",
        ),
    ] = None,
    decode: opt.Decode = None,
    lm: opt.LanguageModel = "auto",
    beam: Annotated[int | None, typer.Option(min=1, max=10_000, help=opt.BEAM)] = None,
    lm_weight: opt.LmWeight = None,
    word_bonus: opt.WordBonus = None,
    by_length: Annotated[
        bool, typer.Option("--by-length", help="Also score joins of the utterances, of 1, 5 and 20 minutes.")
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(help=f"Also score a peer on the same samples: {PEERS}.", metavar="PEER"),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option(min=1, help="Number of utterances of each manifest; by default all.", metavar="N"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the bootstrap.")] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Report word and character error rates (WER, CER) in percent, on speech with transcripts.

    Rates have 95 % bootstrap intervals. References and results are normalised alike: lower case, no
    punctuation, numbers and titles in words. Recordings are processed whole, as by `slyther transcribe`. CPU
    is in seconds per second of speech; memory is what a recording needed above the idle process. "more" is by
    how much a peer's WER is above the model's on the same recordings, with a paired bootstrap interval.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    peers = [parse_peer(text) for text in against or []]
    if model == "none" and not against:
        raise UsageError("--model none leaves nothing to measure: name a peer with --against")
    from slyther_cli.research.evaluation import recognition as evaluation

    evaluation.import_jiwer()
    systems: list[Any] = []
    if model != "none":
        search = SearchOptions(**opt.taken(SearchOptions, locals()))
        systems.append(Ours(model, device, threads, search))
    systems += [load_peer(name, folder, threads) for name, folder in peers]
    tell = ExampleReporter(as_json, quiet, "evaluating", "{index}/{examples}, {system}: WER {wer:.0f} %")
    with tell.bar:
        rows = evaluation.evaluate_recognition(
            systems, manifest, split, evaluation.MINUTES if by_length else (0,), examples, seed, on_event=tell
        )
    if as_json:
        output.json_line("summary", task="eval_transcribe", rows=rows)
        return
    header = ("speech", "joined", "system", "items", "words", "WER %", "CER %", "CPU s/s", "memory", "more")
    output.note_single([row["items"] for row in rows], "recording", quiet)
    width = len(header) - (len(systems) == 1)
    output.print_table([_cells(row)[:width] for row in rows], header[:width])


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    more = row.get("difference")
    wer, cer = (output.interval(r["value"], r["low"], r["high"]) for r in (row["wer"], row["cer"]))
    return (
        Path(row["manifest"]).resolve().parent.name,
        f"{row['minutes']} min" if row["minutes"] else "no",
        row["system"],
        str(row["items"]),
        str(row["words"]),
        wer,
        cer,
        f"{row['cpu_per_second']:.3f}",
        output.size(row["peak_extra_bytes"]),
        output.interval(more["value"], more["low"], more["high"], "+.1f") if more else "",
    )


class Ours:
    """The model as `slyther transcribe` runs it, from samples to text."""

    def __init__(self, model: str | None, device: str, threads: int | None, search: SearchOptions) -> None:
        import torch

        from slyther_cli.jobs.setup import choose_model, pick_device
        from slyther_cli.transcription.recogniser import Recogniser

        config = choose_model("transcribe", model, DEFAULT_MODEL)
        where = pick_device(device)
        if threads:
            torch.set_num_threads(threads)
        self.recogniser = Recogniser(config, where, search)
        self.name, self.rate = config.name, self.recogniser.rate

    def __call__(self, samples: Any) -> str:
        return " ".join(segment.text for segment in self._segments(samples))

    def words(self, samples: Any) -> list[Word]:
        """What is said in samples [n] at ``rate``, with times."""
        return [word for segment in self._segments(samples) for word in segment.words]

    def _segments(self, samples: Any) -> Iterator[Segment]:
        plan = self.recogniser.plan(len(samples))
        block = 10 * self.rate
        return self.recogniser.segments(
            lambda: (samples[i : i + block] for i in range(0, len(samples), block)), plan
        )
