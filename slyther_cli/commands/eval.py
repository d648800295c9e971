"""``slyther eval``: how well a model does where the answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.eval_codec import codec
from slyther_cli.commands.eval_diarization import diarization
from slyther_cli.commands.eval_punctuation import punctuation
from slyther_cli.commands.eval_speak import speak
from slyther_cli.commands.eval_transcribe import transcribe
from slyther_cli.commands.example_reporter import ExampleReporter
from slyther_cli.errors import UsageError

app = opt.new_app(help="Measure the accuracy of a model on data with references.")
EXAMPLES, SECONDS = 300, 4.0
TURNS, TURNS_SECONDS = 40, 95.0


app.command("transcribe")(transcribe)
app.command("speak")(speak)
app.command("codec")(codec)
app.command("punctuation")(punctuation)
app.command("diarization")(diarization)


@app.command("separate")
def separate(
    manifest: Annotated[
        list[Path] | None,
        typer.Option(
            help="TSV of speech (path, speaker, split, sex), from which pairs are mixed.", metavar="TSV"
        ),
    ] = None,
    mixtures: Annotated[
        Path | None,
        typer.Option(
            help="Instead of --manifest: TSV of ready-made mixtures (columns mix, s1, s2), as of WSJ0-2mix.",
            metavar="TSV",
        ),
    ] = None,
    split: opt.Split = "test",
    model: opt.Separator = None,
    examples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Number of mixtures; by default {EXAMPLES} ({TURNS} with --turns), or all of --mixtures.",
            metavar="N",
        ),
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            help=f"Length of a mixed example; by default {SECONDS:g}, with --turns {TURNS_SECONDS:g}.",
            metavar="SECONDS",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same mixtures.")] = 0,
    room: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            max=60,
            help="Simulate a room with this reverberation time (RT60) in seconds; by default none.",
            metavar="SECONDS",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            min=-100,
            max=200,
            help="Add steady noise this far below the speech; by default none.",
            metavar="DB",
        ),
    ] = None,
    telephone: Annotated[
        bool, typer.Option("--telephone", help="Simulate a telephone line, 300 to 3,400 Hz; by default not.")
    ] = False,
    conversation: Annotated[
        bool,
        typer.Option("--conversation", help="Add pauses of up to 4 s; by default both speak all the time."),
    ] = False,
    alone: Annotated[
        bool,
        typer.Option("--alone", help="Measure leakage with a single speaker; by default there are two."),
    ] = False,
    turns: Annotated[
        bool,
        typer.Option(
            "--turns",
            help="Two who take turns, of one utterance each: does each one stay in one stem? "
            "By default both speak all the time.",
        ),
    ] = False,
    match_speakers: Annotated[
        bool,
        typer.Option(
            "--match-speakers",
            help="With --turns: move each stretch into the file of its voice, as separate does.",
        ),
    ] = False,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Separate mixtures of known sources; report SI-SNR and SDR in dB, and their improvement over the
    mixture.

    Figures are means with 95 % bootstrap intervals, over all mixtures and by same and different sex. Every
    mixture is separated in one pass. SDR is that of BSS Eval 3. --room, --noise and --telephone keep voices
    and levels; the references are the reverberant or filtered voices without noise. A room's direct sound
    is 3 dB above its reverberation. --alone reports leakage: by how many dB a voice's loudest stem is above
    the others, and the share of voices where that is less than 10. --turns reports the share of single-talk
    time that is louder in the other speaker's stem, the number of conversations with more than a quarter of
    it, and the median leakage of a turn into the other stem; gaps between turns are -0.8 to 0.6 s.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    if bool(manifest) == (mixtures is not None):
        raise UsageError("name the speech to mix with --manifest, or ready-made mixtures with --mixtures")
    around: dict[str, Any] = {
        "room_s": room,
        "noise_db": noise,
        "telephone": telephone,
        "conversation": conversation,
        "alone": alone,
        "taking_turns": turns,
    }
    if mixtures is not None and any(value is not None and value is not False for value in around.values()):
        raise UsageError(
            "--room, --noise, --telephone, --conversation, --alone and --turns are for --manifest: "
            "--mixtures are ready-made"
        )
    if match_speakers and not turns:
        raise UsageError("--match-speakers is for --turns")
    if turns and (conversation or alone):
        raise UsageError("--turns is a conversation of two: leave out --conversation and --alone")
    import torch

    from slyther_cli.checkpoints import store
    from slyther_cli.jobs.setup import choose_model, pick_device
    from slyther_cli.research.evaluation import separation as evaluate
    from slyther_cli.research.evaluation import turns as turn_taking
    from slyther_cli.research.evaluation.examples import Examples
    from slyther_cli.separation.job import DEFAULT_MODEL

    config = choose_model("separate", model, DEFAULT_MODEL)
    where = pick_device(device)
    if threads:
        torch.set_num_threads(threads)
    network = store.load(config.path, expect_task="separate")[0].to(where)  # type: ignore[arg-type]
    so_far = "SI-SNRi {mean_si_snri:.2f} dB"
    if alone or turns:
        so_far = "apart {mean:.1f} dB" if alone else "{mean:.1%} in the wrong stem"
    tell = ExampleReporter(as_json, quiet, "evaluating", "{index}/{examples}, " + so_far)
    with tell.bar:
        if mixtures is not None:
            report = evaluate.evaluate_mixtures(network, mixtures, examples, seed, on_event=tell)
        else:
            mixing = evaluate.conditions(**around)
            score = turn_taking.evaluate_turns if turns else evaluate.evaluate_separation
            matched: dict[str, Any] = {"match_speakers": True} if match_speakers else {}
            how_many, how_long = (TURNS, TURNS_SECONDS) if turns else (EXAMPLES, SECONDS)
            chosen = Examples(
                manifests=manifest or [],
                split=split,
                count=examples or how_many,
                seconds=seconds or how_long,
                seed=seed,
            )
            report = around | matched | score(network, chosen, mixing, on_event=tell, **matched)
    if as_json:
        output.json_line("summary", task="eval_separate", model=config.name, **report)
        return
    groups: dict[str, Any] = report["groups"]
    output.note_single([entry["examples"] for entry in groups.values()], "mixture", quiet)
    cells: list[tuple[str, ...]]
    if alone:
        cells = [
            (group, str(entry["examples"]), _interval(entry["apart_db"]), f"{entry['in_both']:.1%}")
            for group, entry in groups.items()
        ]
        head: tuple[str, ...] = ("voices", "number", "apart dB", "in both")
    elif turns:
        cells = [(group, *_turn_cells(entry)) for group, entry in groups.items()]
        head = ("voices", "number", "in the wrong stem %", "above 25 %", "leakage dB")
    else:
        cells = [
            (group, str(entry["examples"]), *(_interval(entry[s]) for s in evaluate.SCORES))
            for group, entry in groups.items()
        ]
        head = ("mixtures", "number", "SI-SNR dB", "SI-SNRi dB", "SDR dB", "SDRi dB")
    output.print_table(cells, head)


def _turn_cells(entry: dict[str, Any]) -> tuple[str, ...]:
    wrong, leakage = entry["wrong"], entry["leakage_db"]
    share, low, high = (x if x is None else 100 * x for x in (wrong["mean"], wrong["low"], wrong["high"]))
    cells = output.interval(share or 0.0, low, high), str(entry["failing"])
    return str(entry["examples"]), *cells, output.interval(leakage["median"], leakage["low"], leakage["high"])


def _interval(score: dict[str, Any]) -> str:
    return output.interval(score["mean"], score["low"], score["high"], ".2f")
