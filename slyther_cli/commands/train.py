"""``slyther train``: make a model from speech of one's own."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, Quiet, new_app
from slyther_cli.commands.train_align import align
from slyther_cli.commands.train_lm import train_lm
from slyther_cli.commands.train_manifest import manifest
from slyther_cli.commands.train_synthesize import synthesize

app = new_app(help="Train models on your own speech.")


app.command("synthesize")(synthesize)
app.command("align")(align)
app.command("lm")(train_lm)
app.command("manifest")(manifest)


Folder = Annotated[
    Path,
    typer.Option("--output", "--output-dir", "-o", help="Folder of the run and its models.", metavar="DIR"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in DIR.")]
Workers = Annotated[
    int, typer.Option(min=1, max=1024, help="Processes that share the work, on a CPU.", metavar="N")
]
Device = Annotated[
    str,
    typer.Option(
        "--device", "-d", help="auto, cpu, cuda or cuda:N; auto with workers is cpu.", metavar="DEVICE"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=4096, help="CPU threads of all workers together; by default one per core."),
]


ABOUT = """
DIR gets best/ and last/ ({models}), last.pt (all state, for --resume) and log.jsonl. The path of the best
model is printed on stdout. Stopped by Ctrl-C, the run is saved first.

Exit codes: 0 done, 2 usage or configuration, 3 the speech cannot be read, 5 the run or the model, 6 device,
130 and 143 when stopped by a signal.
"""


def training(
    module: str, *, train: str, validate: str, models: str = "models, for --model", alone: bool = False
) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """A command that runs ``train`` of ``slyther_cli.research.training.<module>``, called as the function
    below it, whose docstring begins its help. ``train`` and ``validate`` say what the events of these names
    hold. ``alone``: one process cannot share the run with others."""

    def decorate(command: Callable[[], None]) -> Callable[[], None]:
        name = command.__name__
        words = {"train": train, "validate": validate}
        config = typer.Option(
            "--config", "-c", help=f"TOML file; see examples/train-{name}.toml.", metavar="FILE"
        )

        def run(
            config: Path,
            folder: Folder,
            resume: Resume = False,
            workers: Workers = 1,
            device: Device = "auto",
            threads: Threads = None,
            as_json: Json = False,
            quiet: Quiet = False,
        ) -> None:
            output.json_asked = as_json
            tell = _Reporter(as_json, quiet, words)
            best = run_training(module, config, folder, resume, workers, device, threads, tell)
            if as_json:
                output.json_line("summary", task=f"train_{name}", model=str(best))
            else:
                output.data(str(best))

        def run_alone(
            config: Path,
            folder: Folder,
            resume: Resume = False,
            device: Device = "auto",
            threads: Threads = None,
            as_json: Json = False,
            quiet: Quiet = False,
        ) -> None:
            run(config, folder, resume, 1, device, threads, as_json, quiet)

        chosen = run_alone if alone else run
        chosen.__annotations__["config"] = Annotated[Path, config]
        app.command(name, help=f"{inspect.getdoc(command)}\n{ABOUT.format(models=models)}")(chosen)
        return command

    return decorate


@training(
    "separation", train="SI-SNR {metric:.2f} dB", validate="SI-SNRi {score:.2f} dB on {examples} dev mixtures"
)
def separate() -> None:
    """Train a separator, on mixtures made from the speech that the configuration names."""


@training(
    "recognition",
    train="last layer {metric:.2f}",
    validate="WER {wer:.1f} %, CER {cer:.1f} % on the dev set",
)
def transcribe() -> None:
    """Train a CTC recogniser, on the speech and transcripts that the configuration names."""


@training(
    "speech",
    train="first codebook {metric:.3f} nats",
    validate="{first:.3f} nats a code of the first codebook, {rest:.3f} of the rest, on the dev set",
)
def speak() -> None:
    """Train a voice (VALL-M), on the speech and transcripts that the configuration names."""


@training(
    "codec",
    train="mel distance {metric:.3f}",
    validate="mel distance {mel:.3f}, SI-SNR {si_snr:.2f} dB on {examples} dev examples",
    alone=True,
)
def codec() -> None:
    """Train a codec, whose tokens voices speak, on the speech that the configuration names."""


@training(
    "hubert",
    train="{metric:.1f} % of masked units",
    validate="{accuracy:.1f} % of masked units (the commonest: {chance:.1f} %), {loss:.3f} nats each, on the "
    "dev set",
    models="models",
)
def hubert() -> None:
    """Pre-train a HuBERT, with Mamba or Transformer layers, on speech without transcripts.

    It can then be the front end of a recogniser: `hubert = "DIR/best"` in that one's configuration.
    """


@training(
    "speaker",
    train="recognised {metric:.2f}",
    validate="equal error rate {eer:.2f} %, without what is above 4 kHz {eer_narrow:.2f} %, {stretches} dev "
    "stretches",
    models="models",
)
def speaker() -> None:
    """Train a network that tells voices apart, on the speech that FILE names; no transcripts."""


@training(
    "punctuation",
    train="marks {metric:.3f} nats a word",
    validate="F1 of full stops {full_stop:.1f} %, commas {comma:.1f} %, capitals {capital:.1f} %, on "
    "{words:,} words of the dev texts",
    models="models",
)
def punctuation() -> None:
    """Train a network that writes marks and capitals into transcripts, on the texts that FILE names."""


def run_training(
    module: str,
    config: Path,
    folder: Path,
    resume: bool,
    workers: int,
    device: str,
    threads: int | None,
    tell: _Reporter,
) -> Path:
    """Train, with events on the terminal; the folder of the best model."""
    import torch

    from slyther_cli.jobs.setup import pick_device

    train = importlib.import_module(f"slyther_cli.research.training.{module}").train
    if threads:
        torch.set_num_threads(threads)
    where = "cpu" if device == "auto" and workers > 1 else pick_device(device)
    try:
        train(config, folder, resume, tell, workers, where)
    except BaseException as stop:
        tell.bar.clear()
        if not isinstance(stop, Exception) and (folder / "last.pt").exists():
            output.words(f"slyther: {folder} holds the run; --resume goes on with it")
        raise
    tell.bar.clear()
    return folder / "best"


class _Reporter:
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
            if "books" in event:
                heard = f"{event['books']} texts, {event['train_words']:,} words"
            else:
                heard = f"{event['speakers']} speakers, {event['train_hours']} h of speech"
            output.words(f"{event['model']}: {event['parameters']:,} parameters, {heard}")
        elif kind == "validate":
            output.words(f"step {event['step']}: {self.texts['validate'].format(**event)}")
        elif kind == "skipped":
            output.words(f"step {event['step']}: skipped: {event['why']}")
