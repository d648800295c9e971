"""``slyther transcribe``: what was said in a recording, and when."""

from __future__ import annotations

import glob
import os
import sys
from typing import Annotated, Any

import typer

from slyther_cli.commands import completing, whisper
from slyther_cli.commands import options as opt
from slyther_cli.commands.output import Reporter, as_it_is, can_draw, exit_code
from slyther_cli.commands.parsing import listed, parse_size
from slyther_cli.errors import UsageError
from slyther_cli.transcription.options import LayoutOptions, TranscribeOptions

app = opt.new_app()
SubtitleOption = opt.in_panel("Subtitles and segments")
PARTIAL = 60  # characters of what is being said that are shown on a terminal
FLAGS = {"true": True, "false": False, "1": True, "0": False}


def _flag(text: str | None) -> bool | None:
    """Whisper's True and False."""
    if text is not None and text.lower() not in FLAGS:
        raise typer.BadParameter(f"{text!r} is neither True nor False")
    return None if text is None else FLAGS[text.lower()]


@app.command("transcribe", cls=whisper.WhisperCommand)
def transcribe(
    ctx: typer.Context,
    inputs: opt.Inputs = None,
    channel: Annotated[
        str,
        opt.InputOption(
            help="Channel to use: mix (the mean of all channels), a number from 1, or each (one speaker per "
            "channel).",
            metavar="mix|N|each",
        ),
    ] = str(TranscribeOptions.channel),
    output_dir: Annotated[
        str | None,
        opt.OutputOption(
            "--output-dir",
            "--output_dir",
            "-o",
            help="Folder for the results, or - for standard output; by default as said above.",
            metavar="DIR",
        ),
    ] = None,
    format: Annotated[
        str,
        opt.OutputOption(
            "--format",
            "--output-format",
            "--output_format",
            "-f",
            help="Formats: txt, srt, vtt, tsv, json, several (srt,txt) or all of these; html (a page to hear "
            "and correct), md, ctm, rttm, textgrid, eaf.",
            metavar="FORMAT",
            autocompletion=completing.several_of(
                "txt", "srt", "vtt", "tsv", "json", "all", "html", "md", "ctm", "rttm", "textgrid", "eaf"
            ),
        ),
    ] = "txt",
    embed: Annotated[
        bool,
        opt.OutputOption(
            "--embed",
            help="Put the sound into the html page: 11 MB an hour, at most 2 hours. Otherwise the page links "
            "to the recording.",
        ),
    ] = False,
    model: opt.Recogniser = None,
    decode: opt.Decode = None,
    lm: opt.LanguageModel = TranscribeOptions.lm,
    beam: Annotated[
        int | None, opt.ModelOption("--beam", "--beam_size", min=1, max=10_000, help=opt.BEAM)
    ] = None,
    lm_weight: opt.LmWeight = None,
    word_bonus: opt.WordBonus = None,
    lexicon: opt.Pronunciations = None,
    hotwords: Annotated[
        str | None,
        opt.ModelOption(
            help="Names and words to expect, separated by commas, also those that the model does not know; "
            "by default none.",
            metavar="WORDS",
        ),
    ] = None,
    plain: Annotated[
        bool,
        opt.OutputOption(
            "--plain",
            help="Write words as they are recognised: lower case, no punctuation, numbers in words, no "
            "paragraphs.",
        ),
    ] = False,
    all_words: Annotated[
        bool,
        opt.OutputOption(
            "--all-words", help="Keep words from segments that do not sound like speech, such as music."
        ),
    ] = False,
    language: Annotated[
        str | None, opt.InputOption(help="Spoken language; en, the default, is the only one.", metavar="LANG")
    ] = None,
    max_line_width: Annotated[
        int | None,
        SubtitleOption(
            "--max-line-width",
            "--max_line_width",
            min=1,
            help="Most characters in a line of srt and vtt, by default 84, and in a line of a segment, by "
            "default 42.",
        ),
    ] = None,
    max_line_count: Annotated[
        int | None,
        SubtitleOption(
            "--max-line-count",
            "--max_line_count",
            min=1,
            help="Most lines in a cue of srt and vtt, with --max-line-width, and in a segment; by default 2.",
        ),
    ] = None,
    max_words_per_line: Annotated[
        int | None,
        SubtitleOption(
            "--max-words-per-line",
            "--max_words_per_line",
            min=1,
            help="Most words in a cue; by default no limit.",
        ),
    ] = None,
    highlight_words: Annotated[
        bool,
        SubtitleOption("--highlight-words", help="Underline each word of srt and vtt while it is spoken."),
    ] = False,
    whisper_highlight: Annotated[
        str | None, typer.Option("--highlight_words", hidden=True, metavar="BOOL")
    ] = None,
    word_times: Annotated[
        str,
        opt.OutputOption(
            "--word-timestamps",
            "--word_timestamps",
            help="False omits the words' times from json.",
            metavar="BOOL",
        ),
    ] = "True",
    task: Annotated[str, typer.Option(hidden=True)] = "transcribe",
    track: opt.Track = None,
    strict: opt.Strict = False,
    filename: Annotated[
        str | None,
        opt.OutputOption(
            help="Names of the results below DIR: {folder} {track} {trackext} {parent} {ext} {model}; by "
            "default {folder}/{track}.{ext}.",
            metavar="TEMPLATE",
        ),
    ] = None,
    flat: opt.Flat = False,
    force: opt.Force = False,
    skip_existing: opt.SkipExisting = False,
    device: opt.Device = TranscribeOptions.device,
    threads: opt.Threads = None,
    memory_limit: opt.MemoryLimit = None,
    work_dir: opt.JobDir = None,
    separate: Annotated[
        bool,
        opt.InputOption(
            "--separate", help="Separate two overlapping speakers first, and label who says what."
        ),
    ] = False,
    separate_model: Annotated[
        str | None,
        opt.ModelOption(
            help=f"Separation model for --separate, by default {opt.SEPARATOR}.",
            metavar="NAME|PATH",
            autocompletion=completing.models("separate"),
        ),
    ] = None,
    speakers: Annotated[
        str | None,
        opt.InputOption(
            help="Label who says what, of people who take turns, by their voices: how many, or auto. "
            "By default no labels.",
            metavar="auto|N",
        ),
    ] = None,
    speaker_names: Annotated[
        str | None,
        opt.OutputOption(
            help="Names in place of S1, S2, ..., separated by commas; by default those labels.",
            metavar="NAMES",
        ),
    ] = None,
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
    """Transcribe English speech, with the times of every word.

    A recording of any length is processed as a whole, in constant memory. Without -o, one recording in one
    format goes to standard output; several, and html, go to files beside the recordings. File names are
    whisper's, and so are formats that it has. A causal model transcribes standard input live.

    \b
    Examples:
      slyther transcribe talk.wav                  # the text, on standard output
      slyther transcribe talk.wav -f srt > talk.srt
      slyther transcribe calls/ -f srt,html -o text --jobs 4
      slyther transcribe call.wav --channel each   # one speaker per channel
      slyther transcribe meeting.wav --speakers 3  # people who take turns

    Exit codes: 0 all done, 1 unexpected error, 2 usage, 3 some inputs failed, 4 all failed, 5 model or
    download, 6 device or memory, 130 and 143 when stopped by a signal.
    """
    inputs, formats, highlighted = opt.named(inputs, manifest), listed(format), _flag(whisper_highlight)
    to_stdout = output_dir == "-" or (output_dir is None and _is_one(inputs, formats, manifest))
    options = opt.taken(
        TranscribeOptions,
        locals(),
        memory_limit=parse_size(memory_limit),
        existing=opt.existing(force, skip_existing),
        filename=opt.template(filename, flat, TranscribeOptions.filename),
        words=bool(_flag(word_times)),
        highlight_words=highlight_words or bool(highlighted),
        beside=output_dir is None and not to_stdout,
    )
    opt.check_contradictions(quiet=quiet, verbose=verbose)
    if output_dir == "-" and "html" in formats:
        raise UsageError("-f html writes a page that links to its recording: name a folder with -o, not -")
    if task != "transcribe":
        raise UsageError(f"--task {task}: the models write down what is said, they do not {task}")
    if output_dir == "-" and not _is_one(inputs, formats, manifest):
        raise UsageError("-o - takes one recording and one format: name a folder for more")
    if to_stdout and (skip_existing or filename is not None):
        option = "--skip-existing" if skip_existing else "--filename"
        raise UsageError(f"{option} needs results in files: name their folder with -o")
    going_on = opt.going_on(inputs, resume, force, dry_run)
    report = _Reporter(as_json, quiet, verbose or dry_run, going_on)
    with report:
        named, model = model, whisper.own_model(model)
        remark = whisper.note(ctx.meta[whisper.LEFT_OUT], named if model is None else None)
        if remark:
            report.say(f"slyther: {remark}")
        from slyther_cli.transcription.job import transcribe as run

        if to_stdout and not as_json:
            layout = {**opt.taken(LayoutOptions, options), "plain": plain}
            report.print_as(formats, inputs[0], layout)
        folder = None if to_stdout else output_dir
        results = run(inputs, folder, model, **options, keep=False, on_event=report)
    raise typer.Exit(exit_code([result.error for result in results]))


def _is_one(inputs: list[str], formats: list[str], manifest: str | None) -> bool:
    """Whether there is one result: one recording, named itself, in one format that needs no place."""
    if manifest is not None or len(inputs) != 1 or len(formats) != 1 or formats[0] in ("all", "html"):
        return False
    name = inputs[0]
    return name == "-" or not (os.path.isdir(name) or (glob.has_magic(name) and not os.path.lexists(name)))


class _Reporter(Reporter):
    """Also prints the transcript, as it comes, where it goes to standard output."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool, going_on: str) -> None:
        super().__init__(as_json=as_json, quiet=quiet, verbose=verbose, going_on=going_on)
        self._format: Any = None

    def print_as(self, formats: list[str], source: str, layout: dict[str, Any]) -> None:
        """From now on, segments of ``source`` are printed in the one format of ``formats``. Raises
        UsageError."""
        from slyther_cli.decode.formats import chosen_formats, make_format
        from slyther_cli.decode.recording import Recording

        (name,), self._recording = chosen_formats(formats), Recording(source)
        self._format, self._begun = make_format(name, recording=self._recording, **layout), False

    def _segment(self, event: dict[str, Any]) -> None:
        if self._format is not None:
            row = {key: value for key, value in event.items() if key not in ("event", "file")}
            self._print(self._format.add(row))

    def _partial(self, event: dict[str, Any]) -> None:
        if not self.json and not self.quiet and can_draw(sys.stderr):
            self._bar.draw("...", None, event["text"].strip()[-PARTIAL:])

    def _file_done(self, event: dict[str, Any]) -> None:
        if self._format is not None and event["status"] == "done":
            self._recording.seconds = event["seconds"]
            self._print("")
            for piece in self._format.tail():
                self._print(piece)
        super()._file_done(event)

    def _print(self, text: str) -> None:
        if sys.stdout is None:
            return
        if not self._begun:
            text, self._begun = self._format.head() + text, True
        as_it_is(text)
