"""``slyther weights``: list, show, pull, import, average and shrink trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, Quiet, new_app
from slyther_cli.commands.parsing import parse_numbers
from slyther_cli.errors import escaped

app = new_app(help="List, show, download, import, average and quantize trained weights.")
LONGEST_CARD = 100_000  # characters that are shown


@app.command("list")
def list_weights(as_json: Json = False) -> None:
    """List the weights on this machine and those that can be pulled."""
    output.json_asked = as_json
    rows = _rows()
    if as_json:
        for row in rows:
            output.json_line("weights", **row)
        return
    cells = [
        (r["name"], r["task"], r["where"], output.size(r["bytes"]), r["path"] or r["source"] or "")
        for r in rows
    ]
    for line in output.table(cells, ("name", "task", "where", "size", "from")):
        output.data(escaped(line))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name or folder of a model.", metavar="NAME|PATH")],
    as_json: Json = False,
) -> None:
    """Show a model's size, origin, licence and scores, and check its tensors."""
    output.json_asked = as_json
    from slyther_cli.checkpoints import catalogue, places, store, voice
    from slyther_cli.errors import ModelError

    try:
        folder = places.resolve(name)
    except ModelError:
        if name not in catalogue.ENTRIES:
            raise
        _show(_published(name), as_json)
        return
    from slyther_cli.models import registry

    config = store.check(folder)
    voices = voice.list_voices(config)
    details = config.to_json()
    details["config"] = registry.full_config(config.architecture, config.config)
    details |= {
        "parameters": registry.parameter_count(config.architecture, config.config),
        "bytes": _bytes(folder),
        "path": str(folder),
    }
    if voices:
        details["voices"] = [entry.as_json() for entry in voices]
    _show(details, as_json)
    card = folder / "CARD.md"
    if not as_json and card.is_file():
        output.data("")
        with open(card, encoding="utf-8", errors="replace") as file:
            text = file.read(LONGEST_CARD).rstrip()
        for line in text.split("\n"):
            output.data(escaped(line.replace("\t", " ")))


@app.command("pull")
def pull(
    name: Annotated[
        str,
        typer.Argument(help="Name of a published model; `slyther weights list` has them.", metavar="NAME"),
    ],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not use the network; fail if the model is not in the cache.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Download published weights into the cache, check every file, and print their folder.

    SLYTHER_CACHE sets the cache folder, SLYTHER_OFFLINE=1 forbids the network, SLYTHER_MODELS_URL names a
    mirror.
    """
    output.json_asked = as_json
    from slyther_cli.checkpoints import catalogue, download, places

    tell = output.Reporter(as_json=as_json, quiet=quiet)
    if name in catalogue.ENTRIES:
        tell.say(catalogue.ENTRIES[name].note)
    else:  # a model that is here, though nobody publishes it, need not be pulled
        for known, path, _ in places.available():
            if known == name:
                tell.say(f"{name} is on this machine already")
                _result(name, path, as_json)
                return
    folder = download.pull(name, offline=offline, progress=None if quiet or as_json else _progress())
    _result(name, folder, as_json)


@app.command("import")
def import_weights(
    source: Annotated[
        Path,
        typer.Argument(
            help="SpeechBrain checkpoint folder (CKPT+...), the folder of its run, or a weights file of "
            "EnCodec 24 kHz (.th, .safetensors).",
            metavar="DIR|FILE",
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the model, by default that of the run.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option("--output-dir", "-o", help="New model folder, by default in the cache.", metavar="DIR"),
    ] = None,
    sample_rate: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sample rate; needed unless the run's hyperparams.yaml says it.", metavar="HZ"
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="SentencePiece model of a recogniser whose run does not contain it.", metavar="FILE"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Convert a SpeechBrain checkpoint, or EnCodec's, into a slyther model; print its folder.

    Separation: Mamba-TasNet, DPMamba, SepFormer. Recognition: ConMamba, Conformer, Speech-Mamba, with the
    tokenizer of the run.

    Nothing of the checkpoint is executed: files that name anything but tensors are refused.
    """
    output.json_asked = as_json
    from slyther_cli.checkpoints import encodec, speechbrain, speechbrain_asr
    from slyther_cli.checkpoints.config import read_config

    if source.suffix in (".th", ".safetensors"):
        folder = encodec.import_file(source, output_dir, name)
        _result(read_config(folder).name, folder, as_json)
        return
    if tokenizer is not None or speechbrain_asr.is_one(source):
        folder = speechbrain_asr.import_folder(source, output_dir, name, tokenizer=tokenizer)
    else:
        folder = speechbrain.import_folder(source, output_dir, name, sample_rate=sample_rate)
    _result(read_config(folder).name, folder, as_json)


@app.command("average")
def average_weights(
    models: Annotated[
        list[str], typer.Argument(help="Names or folders of models, of one kind.", metavar="MODEL")
    ],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output", "-o", help="New model folder.", metavar="DIR")
    ],
    shares: Annotated[
        str, typer.Option(help="Weight of each model, as 2,1,1; by default equal.", metavar="X,X,X")
    ] = "",
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the average, by default the first model's.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Average models into a new one; print its folder.

    For checkpoints of one run, or of runs that started from the same weights: their average is often better
    than each. Alphabet, language model and settings are the first one's. Models that were trained
    independently cannot be averaged in a useful way; nothing checks that.
    """
    output.json_asked = as_json
    from slyther_cli.checkpoints.average import average
    from slyther_cli.checkpoints.config import read_config

    parts = parse_numbers(shares, "shares", "2,1,1") if shares else []
    folder = average(models, output_dir, shares=parts, name=name)
    _result(read_config(folder).name, folder, as_json)


@app.command("shrink")
def shrink_weights(
    model: Annotated[str, typer.Argument(help="Name or folder of a model.", metavar="NAME|PATH")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--output", "-o", help="New model folder.", metavar="DIR")
    ],
    to: Annotated[
        str,
        typer.Option(help="int8 (a quarter of the size), float16 (half) or float32.", metavar="TYPE"),
    ] = "int8",
    only: Annotated[
        str,
        typer.Option(
            help="With int8: quantize only tensors with this prefix, others to float16; by default all.",
            metavar="PREFIX",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Quantize a model, for a smaller file; print its folder.

    With int8 each row of a matrix has a scale; vectors are float16. It still computes in float32, so
    only the file gets smaller. Measure the loss with `slyther eval`.
    """
    output.json_asked = as_json
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.checkpoints.shrink import shrink

    folder = shrink(model, output_dir, to, only)
    _result(read_config(folder).name, folder, as_json)


def _rows() -> list[dict[str, Any]]:
    from slyther_cli.checkpoints import catalogue, places
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.errors import ModelError

    rows: dict[str, dict[str, Any]] = {}
    for name, folder, kind in places.available():
        row = {"name": name, "task": "", "where": kind, "bytes": _bytes(folder), "path": str(folder)}
        try:
            config = read_config(folder)
            row |= {
                "task": config.task,
                "source": config.source,
                "license": config.license,
                "metrics": config.metrics,
            }
        except ModelError as error:
            row |= {"where": "damaged", "source": None, "license": None, "metrics": {}, "problem": str(error)}
        rows[name] = row
    for name in catalogue.ENTRIES:
        rows.setdefault(name, _published(name))
    return list(rows.values())


def _published(name: str) -> dict[str, Any]:
    from slyther_cli.checkpoints import catalogue

    entry = catalogue.ENTRIES[name]
    return {
        "name": name,
        "task": entry.task,
        "where": "pull",
        "bytes": entry.size,
        "path": None,
        "source": entry.source,
        "license": entry.license,
        "metrics": entry.metrics,
    }


def _show(details: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.json_line("weights", **details)
        return
    lines: list[tuple[str, str]] = []
    for key, value in details.items():
        if key == "bytes":
            lines.append(("size", output.size(value)))
        elif isinstance(value, dict):
            lines += [(f"{key}: {k}", str(v)) for k, v in value.items()]
        elif key == "voices":
            lines += [(f"voice: {one.pop('name')}", ", ".join(one.values())) for one in value]
        elif value is not None and key != "format":
            lines.append((key, f"{value:,}" if key == "parameters" else str(value)))
    width = max(len(key) for key, _ in lines)
    for key, value in lines:
        output.data(escaped(f"{key.ljust(width)}  {value}".rstrip()))


def _bytes(folder: Path) -> int:
    try:
        return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    except OSError:
        return 0


def _result(name: str, folder: Path, as_json: bool) -> None:
    if as_json:
        output.json_line("weights", name=name, path=str(folder), bytes=_bytes(folder))
    else:
        output.data(str(folder))


def _progress() -> Callable[[str, int, int], None] | None:
    """A bar for the files, on a terminal only."""
    import sys

    if not output.can_draw(sys.stderr):
        return None
    bar = output.Bar()

    def show_bytes(file: str, done: int, total: int) -> None:
        if done >= total:
            bar.clear()
        else:
            bar.draw(file, done / total, f" {output.size(done)}/{output.size(total)}")

    return show_bytes
