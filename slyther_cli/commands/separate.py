"""``slyther separate``: one sound file for each speaker of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slyther_cli.commands.options import new_app, parse_size
from slyther_cli.commands.output import Reporter, exit_code
from slyther_cli.errors import UsageError

app = new_app()


@app.command("separate")
def separate(
    inputs: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, or - for standard input.", metavar="INPUTS...")
    ],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "-o", help="Folder for the results.", metavar="DIR")
    ] = Path("separated"),
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Name or folder of a model.", metavar="NAME|PATH")
    ] = None,
    speakers: Annotated[
        int | None,
        typer.Option(min=1, help="How many speakers there are: picks a model that fits, or checks --model."),
    ] = None,
    format: Annotated[str, typer.Option("--format", "-f", help="wav or flac.", metavar="FORMAT")] = "wav",
    subtype: Annotated[
        str, typer.Option(help="Bits a sample: 16, 24 or float (wav only).", metavar="BITS")
    ] = "16",
    filename: Annotated[
        str,
        typer.Option(
            help="Names of the results below DIR: {track} {trackext} {parent} {stem} {ext} {model}.",
            metavar="TEMPLATE",
        ),
    ] = "{track}_{stem}.{ext}",
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out inputs whose results are there.")
    ] = False,
    residual: Annotated[
        bool,
        typer.Option(
            "--residual", help="Also write what the stems leave of the mixture, as stem 'residual'."
        ),
    ] = False,
    clip: Annotated[
        str,
        typer.Option(
            help="Peaks beyond full scale: rescale all stems alike, clamp, or none.", metavar="MODE"
        ),
    ] = "rescale",
    channel: Annotated[
        str, typer.Option(help="mix (the mean of all channels) or one, from 1 up.", metavar="mix|N")
    ] = "mix",
    device: Annotated[
        str, typer.Option("--device", "-d", help="auto, cpu, cuda or cuda:N.", metavar="DEVICE")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, max=4096, help="CPU threads; by default one a core.")
    ] = None,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            help="Working memory, as 1GB; what does not fit goes to a file. By default half of what is free.",
            metavar="SIZE",
        ),
    ] = None,
    work_dir: Annotated[
        Path | None, typer.Option(help="Folder for temporary files, by default the system's.", metavar="DIR")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Keep the work in files: the same command goes on after a crash or a kill."
        ),
    ] = False,
    raw: Annotated[
        str | None,
        typer.Option(
            help="Standard input is raw samples: 16000, or 48000:2:f32 (types u8 s16 s24 s32 f32 f64).",
            metavar="RATE[:CHANNELS[:TYPE]]",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Errors only on stderr.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also the model, the device and the plan.")
    ] = False,
) -> None:
    """Separate the speakers of recordings into one file each.

    A recording is processed as one whole, however long, in constant memory. Results have its rate, its length
    and its levels; their paths are printed on stdout. A causal model separates standard input while it comes.

    Exit codes: 0 all done, 1 unexpected error, 2 usage, 3 some inputs failed, 4 all failed, 5 model or
    download, 6 device or memory, 130 and 143 when stopped by a signal.
    """
    limit = parse_size(memory_limit)
    if force and skip_existing:
        raise UsageError("--force and --skip-existing contradict each other: choose one")
    if quiet and verbose:
        raise UsageError("--quiet and --verbose contradict each other: choose one")
    with Reporter(as_json=as_json, quiet=quiet, verbose=verbose or dry_run) as report:
        from slyther_cli.tasks.separation import separate as run

        results = run(
            inputs,
            output_dir,
            model,
            speakers=speakers,
            format=format,
            subtype=subtype,
            filename=filename,
            device=device,
            threads=threads,
            existing="replace" if force else "skip" if skip_existing else "refuse",
            residual=residual,
            clip=clip,
            channel=channel,
            memory_limit=limit,
            work_dir=work_dir,
            dry_run=dry_run,
            resume=resume,
            raw=raw,
            on_event=report,
        )
    raise typer.Exit(exit_code([result.error for result in results]))
