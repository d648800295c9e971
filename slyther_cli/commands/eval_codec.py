"""``slyther eval codec``: how much of speech a codec keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output
from slyther_cli.commands.example_reporter import ExampleReporter


def codec(
    manifest: Annotated[
        list[Path], typer.Option(help="TSV of recordings (path, speaker, split).", metavar="TSV")
    ],
    split: opt.Split = "test",
    model: Annotated[
        str, typer.Option("--model", "-m", help="Name or folder of a codec.", metavar="NAME|PATH")
    ] = "codec-16k-harmonic",
    examples: Annotated[int, typer.Option(min=1, help="Number of examples.", metavar="N")] = 100,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Length of an example.")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed of the choice.")] = 0,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Encode and decode recordings: how good they sound by the number of codebooks, and the speed.

    STOI, from 0 to 1, needs pystoi (pip install pystoi). MOS, the opinion of listeners from 1 to 5 that
    DistillMOS predicts, needs distillmos (pip install distillmos) and a codec of 16 kHz. The mel distance is
    in nats, lower is better.

    Exit codes: 0 done, 2 usage, 3 the speech cannot be read, 5 model, 6 device or memory.
    """
    output.json_asked = as_json
    import torch

    from slyther_cli.checkpoints import store
    from slyther_cli.jobs.setup import pick_device
    from slyther_cli.models.codec import Codec
    from slyther_cli.research.evaluation.codec import evaluate_codec, stoi_measure
    from slyther_cli.research.evaluation.examples import Examples

    if threads:
        torch.set_num_threads(threads)
    where = pick_device(device)
    network, config = store.load(model, expect_task="codec")
    assert isinstance(network, Codec)
    if stoi_measure() is None and not quiet:
        output.words("slyther: no STOI: pip install pystoi")
    tell = ExampleReporter(as_json, quiet, "listening", "{index}/{examples}")
    with tell.bar:
        chosen = Examples(manifests=manifest, split=split, count=examples, seconds=seconds, seed=seed)
        report = evaluate_codec(network.eval().to(where), chosen, where, tell)
    if as_json:
        output.json_line("summary", task="eval_codec", model=config.name, **report)
        return
    rows = [
        (
            str(row["codebooks"]),
            f"{row['kbps']:.2f}",
            _shown(row["stoi"], ".3f"),
            _shown(row["mos"], ".2f"),
            f"{row['si_snr']:.2f}",
            f"{row['mel']:.3f}",
        )
        for row in report["codebooks"]
    ]
    output.note_single([report["examples"]], "example", quiet)
    output.print_table(rows, ("codebooks", "kbit/s", "STOI", "MOS", "SI-SNR dB", "mel distance"))
    if report["recordings"]:
        output.data(f"the recordings themselves: MOS {_shown(report['recordings'], '.2f')}")
    output.data(
        f"{report['examples']} examples of {report['speakers']} speakers; "
        f"encoding {report['encode']:.0f} x, decoding {report['decode']:.0f} x real time in CPU time"
    )


def _shown(estimate: dict[str, Any] | None, form: str) -> str:
    if estimate is None:
        return "-"
    return output.interval(estimate["mean"], estimate["low"], estimate["high"], form)
