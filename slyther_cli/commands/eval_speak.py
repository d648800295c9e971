"""``slyther eval speak``: is a voice understood, and whose voice is it?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.commands.parsing import listed
from slyther_cli.commands.peers import PEERS, load_peer, parse_peer
from slyther_cli.errors import UsageError


def speak(
    manifest: Annotated[
        list[Path],
        typer.Option(help="TSV of recordings (path, speaker, split, transcript).", metavar="TSV"),
    ],
    split: opt.Split = "test",
    model: opt.Voice = None,
    voice: Annotated[
        str | None, typer.Option(help="Voice of the model; by default its first.", metavar="NAME")
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Number of sentences.", metavar="N")] = 50,
    prompts: Annotated[
        bool, typer.Option("--prompts", help="Speak in the voice of another recording of each speaker.")
    ] = False,
    systems: Annotated[
        str,
        typer.Option(
            help="What to measure, with commas: recording, codec, model, espeak-ng, flite.", metavar="LIST"
        ),
    ] = "recording,codec,model,espeak-ng,flite",
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Another program in the same run: NAME=COMMAND with {wav}, the file to write, and {text}, "
            "without which the text comes on standard input; may be repeated.",
            metavar="NAME=COMMAND",
        ),
    ] = None,
    heard_by: Annotated[
        str, typer.Option("--heard-by", help=f"Who recognises the words: {PEERS}.", metavar="PEER")
    ] = "pocketsphinx",
    seed: Annotated[
        int, typer.Option(min=0, help="Random seed of the choice, the speech and the bootstrap.")
    ] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Measure WER, sound, speaker likeness and pace of a voice, beside espeak-ng, flite and recordings.

    PocketSphinx (pip install pocketsphinx) or Whisper (pip install faster-whisper) recognises the words.
    Where they are installed, DistillMOS (pip install distillmos) predicts the opinion of listeners, 1 to 5,
    and Resemblyzer compares voices. The recordings themselves, and the same through the codec, are the
    ceiling.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    import torch

    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.models.vall_sampling import Sampling
    from slyther_cli.research.evaluation import speech as scores
    from slyther_cli.research.evaluation.opinion import opinion_measure
    from slyther_cli.research.evaluation.programs import Program
    from slyther_cli.synthesis.job import load_pair
    from slyther_cli.synthesis.voices import built_in_voice, choose_speech_model

    programs = {found.name: found for found in map(Program.parse, against or [])}
    names = listed(systems)
    if len(programs) < len(against or []) or programs.keys() & set(names):
        raise UsageError("--against: each program needs a name of its own, that --systems does not have")
    if threads:
        torch.set_num_threads(threads)
    recognise = load_peer(*parse_peer(heard_by), threads)
    config = choose_speech_model(model)
    where = pick_device(device)
    network, codec = load_pair(config, where)
    embed, why_not = scores.resemblyzer()
    if embed is None and not quiet:
        output.words(f"slyther: voices are not compared: {why_not}")
    own = built_in_voice(config, network, voice)
    speaker = scores.Speaker(network, codec, own, Sampling(), seed, where, programs)
    chosen = scores.choose_examples(manifest, split, examples, seed, prompts)
    tell = ExampleReporter(as_json, quiet, "listening", "{index}/{examples} {system}")
    with tell.bar:
        report = scores.evaluate_speech(
            speaker, chosen, recognise, embed, opinion_measure(), names, seed, tell
        )
    if as_json:
        output.json_line("summary", task="eval_speak", model=config.name, systems=report)
        return
    cells = [
        (
            name,
            str(row["sentences"]),
            output.interval(row["wer"], row["low"], row["high"]),
            "-" if row["mos"] is None else f"{row['mos']:.2f}",
            "-" if row["cpu"] is None else f"{row['cpu']:.2f}",
            "-" if row["memory"] is None else f"{row['memory'] / 1e6:.0f}",
            f"{row['pace']:.2f}",
            "-" if row["similarity"] is None else f"{row['similarity']:.2f}",
            "-" if row["nearer"] is None else f"{100 * row['nearer']:.0f}",
        )
        for name, row in report.items()
    ]
    header = ("system", "sentences", "WER %", "MOS", "CPU s/s", "MB", "words/s", "likeness", "nearer %")
    output.note_single([row["sentences"] for row in report.values()], "sentence", quiet)
    output.print_table(cells, header)
