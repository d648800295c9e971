"""``slyther train``: make a model from speech of one's own."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, Quiet, new_app
from slyther_cli.commands.train_align import align
from slyther_cli.commands.train_lm import train_lm
from slyther_cli.commands.train_synthesize import synthesize

app = new_app(help="Train models on speech of your own.")


@app.callback()
def _train() -> None:
    """Train models on speech of your own."""


app.command("synthesize")(synthesize)
app.command("align")(align)
app.command("lm")(train_lm)


TASKS = {
    "separation": "separate",
    "recognition": "transcribe",
    "speech": "speak",
    "codec": "codec",
    "hubert": "hubert",
}
Folder = Annotated[
    Path,
    typer.Option("--output", "--output-dir", "-o", help="Folder of the run and its models.", metavar="DIR"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run that DIR holds.")]
Workers = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes that share the run, on a CPU.", metavar="N")
]
Device = Annotated[
    str,
    typer.Option(
        "--device", "-d", help="auto, cpu, cuda or cuda:N; auto with workers is cpu.", metavar="DEVICE"
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=4096, help="CPU threads of all workers; by default one a core.")
]


def _config(task: str) -> Any:
    text = f"TOML file; see examples/train-{task}.toml."
    return typer.Option("--config", "-c", help=text, metavar="FILE")


@app.command("separate")
def separate(
    config: Annotated[Path, _config("separate")],
    folder: Folder,
    resume: Resume = False,
    workers: Workers = 1,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a network that separates speakers, on mixtures made of the speech that FILE names.

    DIR gets best/ and last/ (models, for --model), last.pt (all state, for --resume) and log.jsonl. The path
    of the best model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

    Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6
    device, 130 and 143 when stopped by a signal.
    """
    words = {
        "train": "SI-SNR {metric:.2f} dB",
        "validate": "SI-SNRi {score:.2f} dB on {examples} dev mixtures",
    }
    run_training("separation", words, config, folder, resume, workers, device, threads, as_json, quiet)


@app.command("transcribe")
def transcribe(
    config: Annotated[Path, _config("transcribe")],
    folder: Folder,
    resume: Resume = False,
    workers: Workers = 1,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a recogniser by CTC, on the speech and transcripts that FILE names.

    DIR gets best/ and last/ (models, for --model), last.pt (all state, for --resume) and log.jsonl. The path
    of the best model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

    Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6
    device, 130 and 143 when stopped by a signal.
    """
    words = {
        "train": "last layer {metric:.2f}",
        "validate": "WER {wer:.1f} %, CER {cer:.1f} % on the dev set",
    }
    run_training("recognition", words, config, folder, resume, workers, device, threads, as_json, quiet)


@app.command("speak")
def speak(
    config: Annotated[Path, _config("speak")],
    folder: Folder,
    resume: Resume = False,
    workers: Workers = 1,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a voice (VALL-M) on the speech and transcripts that FILE names, as a codec's tokens.

    DIR gets best/ and last/ (models, for --model), last.pt (all state, for --resume) and log.jsonl. The path
    of the best model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

    Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6
    device, 130 and 143 when stopped by a signal.
    """
    words = {
        "train": "first codebook {metric:.3f} nats",
        "validate": "{first:.3f} nats a code of the first codebook, {rest:.3f} of the rest, on the dev set",
    }
    run_training("speech", words, config, folder, resume, workers, device, threads, as_json, quiet)


@app.command("codec")
def codec(
    config: Annotated[Path, _config("codec")],
    folder: Folder,
    resume: Resume = False,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a codec, which turns speech into the tokens that voices speak, on the speech that FILE names.

    DIR gets best/ and last/ (models, for --model), last.pt (all state, for --resume) and log.jsonl. The path
    of the best model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

    Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6
    device, 130 and 143 when stopped by a signal.
    """
    words = {
        "train": "mel distance {metric:.3f}",
        "validate": "mel distance {mel:.3f}, SI-SNR {si_snr:.2f} dB on {examples} dev examples",
    }
    run_training("codec", words, config, folder, resume, 1, device, threads, as_json, quiet)


@app.command("hubert")
def hubert(
    config: Annotated[Path, _config("hubert")],
    folder: Folder,
    resume: Resume = False,
    workers: Workers = 1,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pre-train a HuBERT, with Mamba or Transformer layers, on the speech that FILE names; no transcripts.

    It is the front end of a recogniser then: `hubert = "DIR/best"` in the file of `slyther train transcribe`.
    DIR gets best/ and last/ (models), last.pt (all state, for --resume) and log.jsonl. The path of the best
    model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

    Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6
    device, 130 and 143 when stopped by a signal.
    """
    words = {
        "train": "{metric:.1f} % of masked units",
        "validate": "{accuracy:.1f} % of masked units (the commonest: {chance:.1f} %), {loss:.3f} nats "
        "each, on the dev set",
    }
    run_training("hubert", words, config, folder, resume, workers, device, threads, as_json, quiet)


def run_training(
    module: str,
    words: dict[str, str],
    config: Path,
    folder: Path,
    resume: bool,
    workers: int,
    device: str,
    threads: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """``train`` of ``slyther_cli.training.<module>``, told on the terminal; ``words`` say what its "train"
    and "validate" events hold."""
    output.json_asked = as_json
    import torch

    from slyther_cli.tasks.setup import pick_device

    train = importlib.import_module(f"slyther_cli.training.{module}").train
    if threads:
        torch.set_num_threads(threads)
    where = "cpu" if device == "auto" and workers > 1 else pick_device(device)
    tell = _Teller(as_json, quiet, words)
    try:
        train(config, folder, resume, tell, workers, where)
    except BaseException as stop:
        tell.bar.clear()
        if not isinstance(stop, Exception) and (folder / "last.pt").exists():
            output.words(f"slyther: {folder} holds the run; --resume goes on with it")
        raise
    tell.bar.clear()
    best = folder / "best"
    if as_json:
        output.json_line("summary", task=f"train_{TASKS[module]}", model=str(best))
    else:
        output.data(str(best))


class _Teller:
    """The loop's events as JSON lines, or as a bar on a terminal, else as lines."""

    def __init__(self, as_json: bool, quiet: bool, words: dict[str, str]) -> None:
        self.json, self.quiet, self.bar, self.texts = as_json, quiet, output.Bar(), words

    def __call__(self, event: dict[str, Any]) -> None:
        if self.json:
            output.json_line(**event)
        if self.json or self.quiet:
            return
        kind = event["event"]
        if kind == "train":
            text = f"loss {event['loss']:.2f}, {self.texts['train'].format(**event)}"
            if event["progress"] > 0:
                left = event["minutes"] * 60 * (1 - event["progress"]) / event["progress"]
                text += f", {output.clock(left)} left"
            if output.can_draw(sys.stderr):
                self.bar.draw(f"step {event['step']}", event["progress"], f" {text}")
            else:
                output.words(f"step {event['step']}: {text}")
            return
        self.bar.clear()
        if kind == "start":
            output.words(
                f"{event['model']}: {event['parameters']:,} parameters, {event['speakers']} speakers, "
                f"{event['train_hours']} h of speech"
            )
        elif kind == "validate":
            output.words(f"step {event['step']}: {self.texts['validate'].format(**event)}")
        elif kind == "skipped":
            output.words(f"step {event['step']}: skipped: {event['why']}")
