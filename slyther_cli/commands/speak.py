"""``slyther speak``: text of any length as speech."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from slyther_cli.commands import options as opt
from slyther_cli.commands import output as out
from slyther_cli.errors import InputError, UsageError

app = opt.new_app()
BIGGEST = 200 << 20


@app.command("speak")
def speak(
    text: Annotated[
        str | None, typer.Argument(help="What to say; else -i, else standard input.", metavar="TEXT")
    ] = None,
    input_file: Annotated[
        str | None, typer.Option("--input", "-i", help="UTF-8 text file, or - .", metavar="FILE")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", help="Sound file, or - for standard output.", metavar="FILE")
    ] = "speech.wav",
    prompt: Annotated[
        str | None,
        typer.Option(
            help="Recording of a voice, 3 to 10 s of one speaker who agrees; by default the model's "
            "own voice.",
            metavar="AUDIO",
        ),
    ] = None,
    prompt_text: Annotated[
        str | None, typer.Option(help="What the prompt says; else it is transcribed.", metavar="TEXT")
    ] = None,
    lexicon: opt.Pronunciations = None,
    model: opt.Voice = None,
    speed: Annotated[float, typer.Option(help="0.5 to 2; 1 is the voice's own.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same speech.")] = 0,
    temperature: Annotated[float, typer.Option(help="0 always takes the likeliest sound.")] = 0.8,
    top_k: Annotated[int, typer.Option(help="Draw from that many likeliest sounds; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest whose share is this.")] = 0.9,
    repetition: Annotated[
        float, typer.Option(help="Share of the last 0.5 s that one sound may have; 1: any.")
    ] = 1.0,
    guard: Annotated[
        str, typer.Option(help="Who checks a sentence: auto, recogniser, lengths, none.", metavar="WHO")
    ] = "auto",
    retries: Annotated[int, typer.Option(help="How often a doubtful sentence is said anew.")] = 2,
    format: opt.SoundFormat = "wav",
    subtype: opt.Subtype = "16",
    raw: Annotated[
        bool, typer.Option("--raw", "--output-raw", help="Bare 16-bit samples, no header.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished sentences: the same command goes on after a stop.")
    ] = False,
    device: opt.Device = "auto",
    threads: opt.Threads = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also every sentence.")] = False,
) -> None:
    """Speak a text, of any length, in the model's voice or in that of a prompt.

    Speech is written sentence by sentence while it is made, and marked as synthetic in the file. Use a
    person's voice only with that person's consent, and say that the speech is synthetic where it is heard.

    Exit codes: 0 done, 1 unexpected error, 2 usage, 3 no words, or a file that cannot be read or written, 5
    model, 6 device or memory, 130 and 143 when stopped by a signal.
    """
    out.json_asked = as_json
    if text is not None and input_file is not None:
        raise UsageError("a text and --input contradict each other: choose one")
    if prompt_text is not None and prompt is None:
        raise UsageError("--prompt-text needs --prompt")
    opt.check_contradictions(quiet=quiet, verbose=verbose)
    if raw and output == "speech.wav":
        output = "-"  # piper's habit
    if as_json and output == "-":
        raise UsageError("--json and sound cannot both go to standard output: name a file with -o")
    if Path(output).suffix.lower() == ".flac" and format == "wav" and not raw:
        format = "flac"
    if output != "-" and input_file not in (None, "-"):
        from slyther_cli.audio.discover import check_target

        check_target(output, input_file)
    source = "text" if text is not None else input_file or "-"
    words = text if text is not None else _read(input_file or "-")
    tell = _Teller(as_json, quiet, verbose)
    try:
        from slyther_cli.models.vall_sampling import Sampling
        from slyther_cli.tasks.speech import speak as run

        run(
            words,
            output,
            model,
            source=source,
            prompt=prompt,
            prompt_text=prompt_text,
            lexicon=lexicon,
            speed=speed,
            seed=seed,
            sampling=Sampling(temperature, top_k, top_p, repetition),
            guard=guard,
            retries=retries,
            format=format,
            subtype=subtype,
            raw=raw,
            replace=force,
            resume=resume,
            device=device,
            threads=threads,
            on_event=tell,
        )
    finally:
        tell.bar.clear()


def _read(name: str) -> str:
    """The text of a file, or of standard input. Raises InputError."""
    shown = "standard input" if name == "-" else name
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputError("there is no standard input: give a text, or -i FILE")
            if sys.stdin.isatty():
                out.words("slyther: type the text, end with Ctrl-D")
            data = sys.stdin.buffer.read(BIGGEST + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(BIGGEST + 1)
    except OSError as error:
        raise InputError(f"{shown}: cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(data) > BIGGEST:
        raise InputError(f"{shown}: larger than {BIGGEST >> 20} MB: part it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{shown}: not UTF-8 text (byte {error.start}): save it as UTF-8") from None


class _Teller:
    """Events as JSON lines; or words and a bar on stderr, and the file's path on stdout."""

    def __init__(self, as_json: bool, quiet: bool, verbose: bool) -> None:
        self.json, self.quiet, self.verbose, self.bar = as_json, quiet, verbose, out.Bar()

    def __call__(self, event: dict[str, Any]) -> None:
        if self.json:
            out.json_line(**event)
        getattr(self, f"_{event['event']}")(event)

    def _say(self, text: str) -> None:
        if not self.quiet:
            self.bar.clear()
            out.words(text)

    def _start(self, event: dict[str, Any]) -> None:
        if self.verbose:
            about = f"model {event['model']} on {event['device']}, reads {event['alphabet']}"
            self._say(f"{about}; the guard listens by: {event['guard']}")

    def _note(self, event: dict[str, Any]) -> None:
        self._say(f"slyther: {event['text']}")

    def _sentence(self, event: dict[str, Any]) -> None:
        for problem in event["problems"]:
            self._say(f"slyther: sentence {event['index'] + 1} ({event['text'][:40]}): {problem}")
        if self.verbose:
            pace = out.speed(event["seconds"], event["wall_seconds"]) if event["index"] == 0 else ""
            tries = f", {event['tries']} tries" if event["tries"] > 1 else ""
            self._say(f"{event['index'] + 1}/{event['of']} {event['seconds']:.1f} s{tries} {pace}".rstrip())
        elif not self.json and not self.quiet and event["of"] > 1 and out.can_draw(sys.stderr):
            share = (event["index"] + 1) / event["of"]
            pace = out.times(event["end_seconds"] / max(1e-3, event["wall_seconds"]))
            self.bar.draw("speaking", share, f" {out.clock(event['end_seconds'])} of sound, {pace}")

    def _file_done(self, event: dict[str, Any]) -> None:
        self.bar.clear()
        for note in event["notes"]:
            self._say(f"slyther: {note}")
        if not self.json:
            for path in event["outputs"].values():
                out.data(path)
        if event["status"] == "skipped":
            self._say("slyther: it is there already and was left: --force says it anew")
            return
        wall = event["wall_seconds"]
        pace = out.speed(event["seconds"], wall)
        self._say(f"{out.duration(event['seconds'])} of synthetic speech in {out.duration(wall)}, {pace}")
