"""``slyther separate``: one sound file for each speaker of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from slyther_cli.commands import completing
from slyther_cli.commands import options as opt
from slyther_cli.commands.output import Reporter, exit_code
from slyther_cli.commands.parsing import parse_size
from slyther_cli.errors import UsageError
from slyther_cli.separation.options import SeparateOptions

app = opt.new_app()


@app.command("separate")
def separate(
    inputs: opt.Inputs = None,
    channel: opt.Channel = str(SeparateOptions.channel),
    output_dir: Annotated[
        Path, opt.OutputOption("--output-dir", "-o", help="Folder for the results.", metavar="DIR")
    ] = Path("separated"),
    model: opt.Separator = None,
    speakers: Annotated[
        int | None,
        opt.ModelOption(
            min=1,
            help="Number of speakers, to pick a model that fits or check --model; by default the model's.",
        ),
    ] = None,
    format: opt.SoundFormat = SeparateOptions.format,
    subtype: opt.Subtype = SeparateOptions.subtype,
    filename: Annotated[
        str | None,
        opt.OutputOption(
            help="Names of the results below DIR: {folder} {track} {trackext} {parent} {stem} {ext} {model}; "
            "by default {folder}/{track}_{stem}.{ext}.",
            metavar="TEMPLATE",
        ),
    ] = None,
    flat: opt.Flat = False,
    track: opt.Track = None,
    strict: opt.Strict = False,
    force: opt.Force = False,
    skip_existing: opt.SkipExisting = False,
    residual: Annotated[
        bool,
        opt.OutputOption("--residual", help="Also write the recording minus all stems, as stem 'residual'."),
    ] = False,
    report: Annotated[
        bool,
        opt.OutputOption(
            "--report",
            help="Also write a page to see and hear whether it worked, as stem 'report': pictures, players, "
            "who speaks when, what is doubtful.",
        ),
    ] = False,
    match_speakers: Annotated[
        bool | None,
        opt.ModelOption(
            help="For people who take turns: move each stretch into the file of its voice. Overlapped speech "
            "stays where it is. On by default with the default model, but for live sound."
        ),
    ] = None,
    highband: Annotated[
        bool,
        opt.OutputOption(
            help="Give the results what the recording has above the model's band, each its share. Without it "
            "they end there: at 4 kHz with the default model."
        ),
    ] = SeparateOptions.highband,
    clip: Annotated[
        str,
        opt.OutputOption(
            help="Peaks beyond full scale: rescale (all stems alike), clamp (cut them off) or none.",
            metavar="MODE",
            autocompletion=completing.of("rescale", "clamp", "none"),
        ),
    ] = SeparateOptions.clip,
    device: opt.Device = SeparateOptions.device,
    threads: opt.Threads = None,
    memory_limit: opt.MemoryLimit = None,
    work_dir: opt.JobDir = None,
    resume: opt.Resume = False,
    raw: opt.Raw = None,
    manifest: opt.Manifest = None,
    shard: opt.Shard = None,
    jobs: opt.Jobs = None,
    ray: opt.Ray = None,
    ray_gpus: opt.RayGpus = None,
    dry_run: opt.DryRun = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: opt.Verbose = False,
) -> None:
    """Separate the speakers of recordings into one file each.

    A recording of any length is processed as a whole, in constant memory. Results keep its sample rate,
    length and levels; their paths are printed on standard output. A causal model separates standard input
    live.

    \b
    Examples:
      slyther separate meeting.wav -o out          # out/meeting_s1.wav, _s2.wav
      slyther separate long.wav -o out --dry-run   # the memory and disk it needs
      slyther separate long.wav -o out --resume    # continues after a crash
      slyther separate calls/ -o out --jobs 4 --skip-existing
      arecord -f S16_LE | slyther separate - -m mamba-tasnet-8k-2spk-causal

    Exit codes: 0 all done, 1 unexpected error, 2 usage, 3 some inputs failed, 4 all failed, 5 model or
    download, 6 device or memory, 130 and 143 when stopped by a signal.
    """
    if str(output_dir) == "-":
        raise UsageError("-o -: there is a file for each speaker, so name a folder")
    options = opt.taken(
        SeparateOptions,
        locals(),
        memory_limit=parse_size(memory_limit),
        existing=opt.existing(force, skip_existing),
        filename=opt.template(filename, flat, SeparateOptions.filename),
    )
    inputs = opt.named(inputs, manifest)
    opt.check_contradictions(quiet=quiet, verbose=verbose)
    going_on = opt.going_on(inputs, resume, force, dry_run)
    with Reporter(as_json=as_json, quiet=quiet, verbose=verbose or dry_run, going_on=going_on) as tell:
        from slyther_cli.separation.job import separate as run

        results = run(inputs, output_dir, model, **options, on_event=tell)
    raise typer.Exit(exit_code([result.error for result in results]))
