"""``slyther eval diarization``: how well speakers who take turns are told apart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.commands.parsing import parse_numbers
from slyther_cli.errors import UsageError


def diarization(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="TSV of speech (path, speaker, split, transcript), of which conversations are made.",
            metavar="TSV",
        ),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of --manifest: true transcripts with speakers, STM or SegLST (.json).",
            metavar="FILE",
        ),
    ] = None,
    hypothesis: Annotated[
        list[Path] | None,
        typer.Option(
            help="Transcripts to compare with --reference: STM, SegLST, or what transcribe -f json wrote.",
            metavar="FILE",
        ),
    ] = None,
    split: opt.Split = "test",
    speakers_in_talk: Annotated[
        str, typer.Option(help="Numbers of speakers in a conversation.", metavar="N,N")
    ] = "2,3,5",
    minutes: Annotated[
        float,
        typer.Option(
            min=0.1, help="Speech in each; less where the speakers have not so much.", metavar="MINUTES"
        ),
    ] = 10.0,
    talks: Annotated[int, typer.Option(min=1, help="Conversations of each number of speakers.")] = 10,
    true_activity: Annotated[
        bool,
        typer.Option(
            "--true-activity",
            help="Take it as known when somebody speaks, and only not who; by default the recogniser's words "
            "say it.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"Recogniser; by default {opt.RECOGNISER}.", metavar="NAME|PATH"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same conversations.")] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Label who speaks in conversations with known turns; report the diarization error rate (DER) in percent.

    Conversations are made of utterances of one split: turns of one to three, pauses of up to 1 s, nobody
    speaks at once. DER is the share of speech that is missed, said by nobody, or of another speaker, with
    0.25 s around the beginning and end of each turn left out; its 95 % bootstrap interval is over talks.
    Each is measured with the number of speakers known (--speakers N) and not (auto). Where the manifest has
    transcripts, the concatenated minimum-permutation word error rate (cpWER) tells of words and speakers
    together; --reference and --hypothesis tell it of transcripts in files, for each session.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    if reference or hypothesis:
        if manifest or not (reference and hypothesis):
            raise UsageError("--reference and --hypothesis go together, and without --manifest")
        _compare_files(reference, hypothesis, seed, as_json, quiet)
        return
    if not manifest:
        raise UsageError("name the speech with --manifest, or transcripts with --reference and --hypothesis")
    numbers = [int(n) for n in parse_numbers(speakers_in_talk, "numbers of speakers", "2,3,5")]
    import torch

    from slyther_cli.checkpoints.places import cache_dir
    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.research.evaluation import diarization as evaluation
    from slyther_cli.research.training.data import SpeechPool

    where, recognise, rate = pick_device(device), None, 16_000
    if threads:
        torch.set_num_threads(threads)
    if not true_activity:
        from slyther_cli.commands.eval_transcribe import Ours
        from slyther_cli.transcription.options import SearchOptions

        ours = Ours(model, device, threads, SearchOptions())
        recognise, rate = ours.words, ours.rate
    pool = SpeechPool(manifest, split, rate, cache_dir() / "training")
    tell = ExampleReporter(
        as_json, quiet, "evaluating", "{index}/{examples}, {speakers} speakers: DER {der:.1%}"
    )
    with tell.bar:
        rows = evaluation.evaluate_diarization(
            recognise, pool, numbers, minutes, talks, seed, device=where, on_event=tell
        )
    if as_json:
        output.json_line("summary", task="eval_diarization", true_activity=true_activity, rows=rows)
        return
    output.note_single([talks], "conversation", quiet)
    header = (
        *("speakers", "number", "talks", "minutes", "DER %", "missed", "false alarm", "confused"),
        *("right number", "cpWER %"),
    )
    output.print_table([_cells(row) for row in rows], header)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    shares = (f"{100 * row[kind]:.1f}" for kind in ("missed", "false_alarm", "confused"))
    return (
        str(row["speakers"]),
        "known" if row["known"] else "auto",
        str(row["talks"]),
        f"{row['minutes']:g}",
        _percent(row["der"]),
        *shares,
        f"{row['right_number']:.0%}",
        _percent(row["cpwer"]) if "cpwer" in row else "-",
    )


def _percent(share: dict[str, float | None]) -> str:
    value, low, high = (x if x is None else 100 * x for x in share.values())
    return output.interval(value or 0.0, low, high)


def _compare_files(
    reference: list[Path], hypothesis: list[Path], seed: int, as_json: bool, quiet: bool
) -> None:
    """Print the cpWER of transcripts with speakers in files."""
    from slyther_cli.research.evaluation.cpwer import score_sessions
    from slyther_cli.research.evaluation.speaker_transcripts import read_sessions

    rows, total = score_sessions(read_sessions(reference), read_sessions(hypothesis), seed)
    if as_json:
        output.json_line("summary", task="eval_diarization", rows=rows, **total)
        return
    output.note_single([total["sessions"]], "session", quiet)
    edits = ("words", "substitutions", "deletions", "insertions")
    cells = [
        (
            row["session"],
            f"{row['reference_speakers']} / {row['hypothesis_speakers']}",
            *(str(row[kind]) for kind in edits),
            "-" if row["cpwer"] is None else f"{100 * row['cpwer']:.1f}",
        )
        for row in rows
    ]
    cells.append(("all", "", *(str(total[kind]) for kind in edits), _percent(total["cpwer"])))
    output.print_table(cells, ("session", "speakers true / found", *edits, "cpWER %"))
