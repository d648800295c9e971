"""``slyther speak``: text of any length as speech."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slyther_cli.commands import completing
from slyther_cli.commands import options as opt
from slyther_cli.commands import output as out
from slyther_cli.errors import InputError, UsageError
from slyther_cli.files import reason
from slyther_cli.synthesis.options import CHAPTERS, M4B, SUBTITLES, SpeakOptions

if TYPE_CHECKING:
    from slyther_cli.books.book import Book

app = opt.new_app()
VoiceOption = opt.in_panel("Voice")
SamplingOption = opt.in_panel("Sampling and speech check")


@app.command("speak")
def speak(
    text: Annotated[
        str | None,
        typer.Argument(help="Text to speak; without it -i FILE or standard input.", metavar="TEXT"),
    ] = None,
    input_file: Annotated[
        str | None,
        opt.InputOption(
            "--input",
            "-i",
            help="Read the text from an EPUB, HTML, Markdown or UTF-8 text file, or - for standard input.",
            metavar="FILE",
        ),
    ] = None,
    output: Annotated[
        str,
        opt.OutputOption(
            "--output",
            "-o",
            help="Sound file to write, or - for standard output; with --chapters files a folder.",
            metavar="FILE",
        ),
    ] = "speech.wav",
    voice: Annotated[
        str | None,
        VoiceOption(
            help="Speak in this voice of the model, by default the first that --list-voices names.",
            metavar="NAME",
            autocompletion=completing.voices,
        ),
    ] = None,
    list_voices: Annotated[
        bool, VoiceOption("--list-voices", help="List the model's voices and speak nothing.")
    ] = False,
    prompt: Annotated[
        str | None,
        VoiceOption(
            help="Speak like this recording, 3 to 10 s of one speaker who agrees; by default the model's own "
            "voice.",
            metavar="AUDIO",
        ),
    ] = None,
    prompt_text: Annotated[
        str | None,
        VoiceOption(
            help="What is said in the prompt; by default it is transcribed, with errors.", metavar="TEXT"
        ),
    ] = None,
    lexicon: opt.Pronunciations = None,
    model: opt.Voice = None,
    speed: Annotated[
        float, VoiceOption(help="Speaking rate: 0.5 is half, 2 twice the voice's own.")
    ] = SpeakOptions.speed,
    pause: Annotated[
        float,
        VoiceOption(
            help="Pauses at commas, sentence and paragraph ends: 0 is none, 2 twice the voice's own."
        ),
    ] = SpeakOptions.pause,
    seed: Annotated[
        int, VoiceOption(min=0, help="Random seed: the same gives the same speech.")
    ] = SpeakOptions.seed,
    temperature: Annotated[
        float, SamplingOption(help="Variation: 0 always takes the most likely sound.")
    ] = SpeakOptions.temperature,
    top_k: Annotated[
        int, SamplingOption(help="Sample from this many most likely sounds; 0 is all.")
    ] = SpeakOptions.top_k,
    top_p: Annotated[
        float, SamplingOption(help="Sample from the most likely sounds that make up this probability.")
    ] = SpeakOptions.top_p,
    repetition: Annotated[
        float, SamplingOption(help="Most of the last 0.5 s that one sound may fill; 1 is no limit.")
    ] = SpeakOptions.repetition,
    guard: Annotated[
        str,
        SamplingOption(
            help="Speech check of every sentence: auto, recogniser (listens), lengths (quick) or none. To "
            "standard output auto lets sound come before its sentence is complete.",
            metavar="HOW",
        ),
    ] = SpeakOptions.guard,
    retries: Annotated[
        int, SamplingOption(help="Tries for a sentence that fails the speech check, after the first.")
    ] = SpeakOptions.retries,
    chapters: Annotated[
        str,
        opt.OutputOption(
            help="Chapters of a book: none (one file), marks (one file with marks, and a cue sheet) "
            "or files (one file each).",
            metavar="HOW",
            autocompletion=completing.of(*CHAPTERS),
        ),
    ] = SpeakOptions.chapters,
    subtitles: Annotated[
        str,
        opt.OutputOption(
            help="Write when each word is said beside the sound: srt, vtt, json; by default none.",
            metavar="FORMATS",
            autocompletion=completing.several_of(*SUBTITLES),
        ),
    ] = "",
    format: Annotated[
        str,
        opt.OutputOption(
            "--format",
            "-f",
            help="Sound format: wav, flac or m4b (an audiobook, AAC).",
            metavar="FORMAT",
            autocompletion=completing.of("wav", "flac", M4B),
        ),
    ] = SpeakOptions.format,
    subtype: opt.Subtype = SpeakOptions.subtype,
    raw: Annotated[
        bool, opt.OutputOption("--output-raw", help="Write 16-bit samples without a header, for a pipe.")
    ] = False,
    raw_as_before: Annotated[bool, typer.Option("--raw", hidden=True)] = False,
    force: Annotated[bool, opt.OutputOption("--force", help="Replace the file if it exists.")] = False,
    resume: Annotated[
        bool,
        opt.OutputOption(
            "--resume", help="Keep finished sentences, so that the same command continues after a stop."
        ),
    ] = False,
    device: opt.Device = SpeakOptions.device,
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: Annotated[bool, opt.OutputOption("--verbose", "-v", help="Print every sentence.")] = False,
) -> None:
    """Speak an English text or book of any length, in one of the model's voices or like a recording.

    Speech is written sentence by sentence while it is made. The file's metadata say that it is synthetic. Use
    a person's voice only with that person's consent, and tell listeners that the speech is synthetic.

    \b
    Examples:
      slyther speak "The ferry leaves at 9:45." -o ferry.wav
      slyther speak -i book.epub -o book.m4b --chapters marks --resume
      slyther speak -i notes.md -o notes.flac --subtitles srt
      slyther speak "Any text." --prompt voice.wav -o like.wav
      echo "Hello." | slyther speak --output-raw | aplay -r 16000 -f S16_LE

    Exit codes: 0 done, 1 unexpected error, 2 usage, 3 no words, or a file that cannot be read or written, 5
    model, 6 device or memory, 130 and 143 when stopped by a signal.
    """
    out.json_asked = as_json
    if list_voices:
        return _list_voices(model, as_json)
    if text is not None and input_file is not None:
        raise UsageError("a text and --input contradict each other: choose one")
    if prompt_text is not None and prompt is None:
        raise UsageError("--prompt-text needs --prompt")
    opt.check_contradictions(quiet=quiet, verbose=verbose)
    raw = raw or raw_as_before
    if chapters == "files" and output == "speech.wav":
        output = Path(input_file).stem if input_file not in (None, "-") else "speech"
    elif raw and output == "speech.wav":
        output = "-"  # piper's habit
    if as_json and output == "-":
        raise UsageError("--json and sound cannot both go to standard output: name a file with -o")
    extension = Path(output).suffix.lower()
    if extension in (".flac", f".{M4B}") and format == "wav" and not raw:
        format = extension[1:]
    source = "text" if text is not None else input_file or "-"
    book = text if text is not None else _read(input_file or "-")
    tell = _Reporter(as_json, quiet, verbose)
    with tell.bar:
        tell.loading()
        from slyther_cli.synthesis.job import speak as run

        options = opt.taken(SpeakOptions, locals(), replace=force)
        run(book, output, model, source=source, on_event=tell, **options)


def _list_voices(model: str | None, as_json: bool) -> None:
    """A line for each voice, the default one first."""
    from slyther_cli.checkpoints import voice
    from slyther_cli.synthesis.voices import choose_speech_model

    config = choose_speech_model(model)
    entries = voice.list_voices(config)
    if as_json:
        for entry in entries:
            out.json_line("voice", model=config.name, default=entry is entries[0], **entry.as_json())
        return
    if not entries:
        out.words(f"slyther: model {config.name} has no voices of its own: speak with --prompt")
        return
    cells = [(e.name, e.sex or "-", e.accent or "-", "default" * (e is entries[0])) for e in entries]
    for line in out.table(cells, ("voice", "sex", "accent", "")):
        out.data(line.rstrip())


def _read(name: str) -> Book:
    """The book in a file, or in standard input. Raises InputError."""
    from slyther_cli.books.reader import LARGEST, read_book, read_bytes

    if name != "-":
        return read_book(name)
    if sys.stdin is None:
        raise InputError("there is no standard input: give a text, or -i FILE")
    if sys.stdin.isatty():
        out.words("slyther: type the text, end with Ctrl-D")
    try:
        return read_bytes(sys.stdin.buffer.read(LARGEST + 1), "standard input")
    except OSError as error:
        raise InputError(f"standard input: cannot be read: {reason(error)}") from None


class _Reporter:
    """Events as JSON lines; or words and a bar on stderr, and the file's path on stdout."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.json, self.quiet, self.verbose, self.bar = as_json, quiet, verbose, out.Bar()
        self.printed: set[str] = set()  # files of chapters

    def __call__(self, event: dict[str, Any]) -> None:
        if self.json:
            out.json_line(**event)
        getattr(self, f"_{event['event']}")(event)

    def _say(self, text: str) -> None:
        if not self.quiet:
            self.bar.clear()
            out.words(text)

    def loading(self) -> None:
        """Until the start: networks, and what they need, take seconds to load."""
        if not self.json and not self.quiet and out.can_draw(sys.stderr):
            self.bar.draw("loading the voice ...", None, "")

    def _start(self, event: dict[str, Any]) -> None:
        self.bar.clear()
        if self.verbose:
            like = "like the prompt, " if "prompt" in event["options"] else ""
            whose = f"voice {event['voice']}, " if event["voice"] else like
            about = f"model {event['model']}, {whose}on {event['device']}, reads {event['alphabet']}"
            self._say(f"{about}; speech check: {event['guard']}")

    def _note(self, event: dict[str, Any]) -> None:
        self._say(f"slyther: {event['text']}")

    def _sentence(self, event: dict[str, Any]) -> None:
        for problem in event["problems"]:
            self._say(f"slyther: sentence {event['index'] + 1} ({event['text'][:40]}): {problem}")
        if self.verbose:
            pace = out.speed(event["seconds"], event["wall_seconds"]) if event["index"] == 0 else ""
            tries = f", {event['tries']} tries" if event["tries"] > 1 else ""
            read = f" ({'; '.join(event['readings'])})" if event["readings"] else ""
            place = f"{event['index'] + 1}/{event['of']}"
            self._say(f"{place} {event['seconds']:.1f} s{tries} {pace}".rstrip() + read)
        elif not self.json and not self.quiet and event["of"] > 1 and out.can_draw(sys.stderr):
            share = (event["index"] + 1) / event["of"]
            pace = out.times(event["end_seconds"] / max(1e-3, event["wall_seconds"]))
            which = f"chapter {event['chapter']}/{event['chapters']}" if "chapter" in event else "speaking"
            left = event["left_seconds"]
            time_left = "" if left is None else f", {out.clock(left)} left"
            self.bar.draw(which, share, f" {out.clock(event['end_seconds'])} of sound, {pace}{time_left}")

    def _chapter(self, event: dict[str, Any]) -> None:
        if self.verbose:
            self._say(f"chapter {event['number']}/{event['of']} is there: {event['title']}")
        if not self.json and event["outputs"]:
            self.bar.clear()
            for path in event["outputs"].values():
                out.data(path)
                self.printed.add(path)

    def _file_done(self, event: dict[str, Any]) -> None:
        self.bar.clear()
        for note in event["notes"]:
            self._say(f"slyther: {note}")
        if not self.json:
            for path in event["outputs"].values():
                if path not in self.printed:
                    out.data(path)
        if event["status"] == "skipped":
            self._say("slyther: it is there already and was left: --force says it anew")
            return
        wall = event["wall_seconds"]
        pace = out.speed(event["seconds"], wall)
        self._say(f"{out.duration(event['seconds'])} of synthetic speech in {out.duration(wall)}, {pace}")
