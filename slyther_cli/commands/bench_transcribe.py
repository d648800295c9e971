"""``slyther bench transcribe``: what transcribing costs, and how true its times are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, Recogniser, WorkDir
from slyther_cli.commands.parsing import listed, parse_seconds, parse_size

PARTS = ("cost", "times", "search")


def transcribe(
    manifest: Annotated[
        Path,
        typer.Option(
            help="TSV of speech; for times with phones: `train synthesize --voices flite:slt`.",
            metavar="TSV",
        ),
    ],
    split: Annotated[str, typer.Option(help="Split of the manifest to use.")] = "test",
    parts: Annotated[str, typer.Option(help="cost, times, search.", metavar="PART,PART")] = "cost,times",
    model: Recogniser = None,
    decode: Annotated[
        str, typer.Option(help="Cost: searches to measure: greedy, beam, joint.", metavar="HOW,HOW")
    ] = "greedy,beam",
    lengths: Annotated[str, typer.Option(help="Cost: durations in seconds.", metavar="S,S,S")] = "10,60",
    against: Annotated[
        str, typer.Option(help="Cost: a peer of the same size, conformer or none.", metavar="PEER")
    ] = "conformer",
    memory_limit: Annotated[
        str | None,
        typer.Option(
            help="Most memory the peer may take before it gives up; by default all.", metavar="SIZE"
        ),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(min=0, help="Most CPU seconds the peer may take for one length; 0 is no limit.")
    ] = 0,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of utterances; by default 20 for times, all for search.", metavar="N"
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=4096, help="CPU threads.")] = 1,
    work_dir: WorkDir = None,
    as_json: Json = False,
) -> None:
    """Measure the cost of transcription, beside a Conformer of the same size, and how exact its times are.

    cost: CPU seconds a second of speech and peak memory, each length in a process of its own. The Conformer
    hears a recording in one pass, without a search; it gives up where its limits are reached. times: the
    words of a known text, aligned by CTC, beside torchaudio's forced alignment of the same posteriors and
    beside the times at which the voice says that it spoke them. search: settings of the beam for a model's
    config.json, sought where the word error rate is lowest; on --split dev.
    """
    output.json_asked = as_json
    chosen = listed(parts)
    if unknown := sorted(set(chosen) - set(PARTS)):
        raise typer.BadParameter(f"{', '.join(unknown)} is no part: choose of {', '.join(PARTS)}")
    searches = listed(decode)
    seconds = parse_seconds(lengths)
    from slyther_cli.research.studies.recognition_cost import Bounds, measure_cost
    from slyther_cli.research.studies.recognition_search import search_settings
    from slyther_cli.research.studies.recognition_times import measure_times
    from slyther_cli.transcription.options import DEFAULT_MODEL

    name = model or DEFAULT_MODEL

    def tell(row: dict[str, Any]) -> None:
        if as_json:
            output.json_line("bench_transcribe", **row)
        elif row["part"] == "search":
            best = ", the best so far" if row["best"] else ""
            output.words(f"WER {row['wer']:.2f} %{best}: {_settings(row)}")
        elif row["problem"]:
            cost = row["part"] == "cost"
            what = f"{_named(row)}, {row['seconds']:g} s" if cost else row["against"]
            output.words(f"slyther: {what}: {row['problem']}")

    rows: list[dict[str, Any]] = []
    for part in dict.fromkeys(chosen):
        if part == "cost":
            peers = [] if against == "none" else [against]
            bounds = Bounds(
                memory_limit=parse_size(memory_limit) or 0,
                time_limit=time_limit,
                threads=threads,
                work_dir=work_dir,
            )
            new = measure_cost(name, manifest, split, seconds, searches, peers, bounds, tell)
        else:
            import torch

            torch.set_num_threads(threads)
            if part == "times":
                new = measure_times(name, manifest, split, examples or 20, tell)
            else:
                new = search_settings(name, manifest, split, examples, tell)
        rows += new
        done = [row for row in new if not row["problem"]]
        if done and not as_json:
            for line in TOLD[part](done):
                output.data(line)
    if all(row["problem"] for row in rows):
        raise typer.Exit(1)


def _cost_table(rows: list[dict[str, Any]]) -> Iterable[str]:
    cells = [
        (
            _named(row),
            f"{row['parameters']:,}",
            f"{row['seconds']:g}",
            f"{row['cpu_per_second']:.4f}",
            output.size(row["extra_bytes"]),
            "" if row["words"] is None else str(row["words"]),
        )
        for row in rows
    ]
    header = ("system", "parameters", "speech s", "CPU s/s", "memory", "words")
    return output.table(cells, header)


def _named(row: dict[str, Any]) -> str:
    return Path(row["system"]).name + (f", {row['decode']}" if row["decode"] else "")


def _times_lines(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for row in rows:
        if row["against"] == "forced_align":
            lines.append(
                f"forced_align: {100 * row['equal']:.2f} % of {row['tokens']} tokens of {row['utterances']} "
                f"utterances at the same frames, the rest no further than {row['furthest_ms']:g} ms"
            )
            continue
        for edge in ("start", "end"):
            found = row[edge]
            lines.append(
                f"phones: {edge}s off by {found['median_ms']:g} ms (median), {found['p90_ms']:g} ms (90 %); "
                f"mean {found['mean_ms']:+g} ms; {100 * found['within_100_ms']:.0f} % within 100 ms; "
                f"{row['words']} words of {row['utterances']} utterances"
            )
    return lines


def _settings(row: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in row["decoding"].items())


def _search_lines(rows: list[dict[str, Any]]) -> list[str]:
    import json

    own, best = rows[0], rows[-1]
    return [
        f"WER {own['wer']:.2f} % as it is, {best['wer']:.2f} % at best; {best['words']} words of "
        f"{best['utterances']} utterances, {len(rows) - 1} settings; for config.json:",
        f'"decoding": {json.dumps(best["decoding"])}',
    ]


TOLD: dict[str, Any] = {"cost": _cost_table, "times": _times_lines, "search": _search_lines}
