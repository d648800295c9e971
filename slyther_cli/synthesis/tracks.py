"""What becomes of a book: which sentences go into which file, how files are called, and the cue sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from slyther_cli.audio.discover import AUDIO_EXTENSIONS, check_extension, check_target, shown
from slyther_cli.books.book import Book
from slyther_cli.english.normalise import foreign_words, normalise
from slyther_cli.english.phonemes import shorten
from slyther_cli.english.sentences import Sentence, split_sentences
from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.synthesis.options import SpeakOptions
from slyther_cli.synthesis.output import MARK, MOST_MARKS, Mark

MOST_CHARACTERS = 50_000_000
LONGEST_NAME = 120  # bytes of a title in a file's name
_NO_NAME = dict.fromkeys(map(ord, '/\\:*?"<>|\0'), " ")
CUE_FRAMES = 75  # a second, in a cue sheet


class Part(NamedTuple):
    """A chapter as it is spoken."""

    title: str
    sentences: tuple[Sentence, ...]

    @property
    def characters(self) -> int:
        return sum(len(sentence.text) for sentence in self.sentences)


@dataclass(frozen=True)
class Track:
    """A file to be: ``output`` "-" is standard output. ``first``: the number of its first chapter, from 1.
    ``subtitles``: format -> path. ``metadata``: what the file says of itself."""

    output: str
    parts: tuple[Part, ...]
    first: int = 1
    subtitles: dict[str, Path] = field(default_factory=dict)
    cue: Path | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def beside(self) -> list[Path]:
        """The files beside the sound."""
        return [*self.subtitles.values(), *([self.cue] if self.cue else [])]

    def outputs(self, stem: str = "") -> dict[str, Path]:
        """All files by what they are: "speech", "srt", ..., "cue"; with ``stem`` "01", "01 srt"."""
        if self.output == "-":
            return {}
        found = {stem or "speech": Path(self.output)}
        named = {**self.subtitles, **({"cue": self.cue} if self.cue else {})}
        return found | {f"{stem} {name}".strip(): path for name, path in named.items()}


def parts_of(book: Book) -> tuple[list[Part], list[str]]:
    """The chapters of a book that have words, and notes. Raises InputError: there are none, or too many."""
    if sum(len(chapter.text) for chapter in book.chapters) > MOST_CHARACTERS:
        raise InputError(f"the text is longer than {MOST_CHARACTERS:,} characters: part it")
    parts, wordless = list[Part](), list[str]()
    for chapter in book.chapters:
        sentences = tuple(
            s
            for s in split_sentences(chapter.text)
            if any(map(str.isalnum, s.text)) or normalise(s.text).text
        )
        if any(normalise(s.text).text for s in sentences):
            parts.append(Part(chapter.title, sentences))
        elif chapter.title:
            wordless.append(chapter.title)
    if not parts:
        raise InputError(_nothing_to_say(book.text))
    some = ", ".join(map(shorten, wordless[:8])) + (" ..." if len(wordless) > 8 else "")
    return parts, [f"chapters without English words, left out: {some}"] if wordless else []


def tracks_of(book: Book, parts: Sequence[Part], output: str, options: SpeakOptions) -> list[Track]:
    """The files that a book becomes. Raises UsageError: they cannot be what they are asked to be."""
    about = {"album": book.title, "artist": book.author}
    if options.chapters == "files":
        if output == "-" or Path(output).suffix.lower() in AUDIO_EXTENSIONS:
            raise UsageError(
                f"--chapters files needs a folder, not {shown(output)}: name one with -o, the format with -f"
            )
        digits = max(2, len(str(len(parts))))
        names = [_file_name(number, digits, part.title, options) for number, part in enumerate(parts, 1)]
        outputs: list[tuple[Path, tuple[Part, ...]]] = [
            (Path(output, name), (part,)) for name, part in zip(names, parts, strict=True)
        ]
    else:
        if output == "-" and (options.chapters != "none" or options.subtitles):
            raise UsageError("--chapters and --subtitles write files: name a file with -o")
        outputs = [(Path(output), tuple(parts))]
    if options.chapters == "marks" and options.format == "flac" and len(parts) > MOST_MARKS:
        raise UsageError(
            f"FLAC has {MOST_MARKS} marks for chapters, and the book {len(parts):,}: choose --chapters files"
        )
    tracks = []
    for number, (path, inside) in enumerate(outputs, 1):
        title = inside[0].title if options.chapters == "files" else book.title
        metadata = {key: text for key, text in {"title": title, **about}.items() if text}
        subtitles = {name: path.with_suffix(f".{name}") for name in options.subtitle_formats}
        cue = path.with_suffix(".cue") if options.chapters == "marks" else None
        written = output if output == "-" else str(path)
        tracks.append(Track(written, inside, number, subtitles, cue, metadata))
    return tracks


def check_tracks(tracks: Sequence[Track], source: str, options: SpeakOptions) -> None:
    """Refuse to write over what is there, or over what the speech is made from, before anything is spoken.
    Raises UsageError, OutputError."""
    sources = [name for name in (options.prompt, options.lexicon, source) if name and os.path.isfile(name)]
    for track in tracks:
        if track.output == "-":
            continue
        for path in (Path(track.output), *track.beside):
            check_target(path, *sources)
        if not options.raw:
            check_extension(Path(track.output), options.format)
        kept = [] if options.resume else [Path(track.output), *track.beside]
        for path in kept:
            if os.path.lexists(path) and not options.replace:
                raise OutputError(f"{shown(path)} is there already: --force replaces it")


def chapter_title(part: Part, number: int) -> str:
    """The title of a chapter, or its number."""
    return part.title or f"Chapter {number}"


def cue_sheet(track: Track, marks: Sequence[Mark]) -> str:
    """The chapters of a file for players: minutes, seconds, and frames of which 75 are a second."""
    lines = [f'REM COMMENT "{MARK["comment"]}"', 'REM GENRE "Audiobook"']
    for key, name in (("PERFORMER", "artist"), ("TITLE", "title")):
        if track.metadata.get(name):
            lines.append(f'{key} "{_quoted(track.metadata[name])}"')
    kind = "MP4" if track.output.endswith(".m4b") else "WAVE"
    lines.append(f'FILE "{_quoted(Path(track.output).name)}" {kind}')
    for number, mark in enumerate(marks, 1):
        frames = round(mark.start * CUE_FRAMES)
        seconds, frames = divmod(frames, CUE_FRAMES)
        lines += [f"  TRACK {number:02d} AUDIO", f'    TITLE "{_quoted(mark.title)}"']
        lines.append(f"    INDEX 01 {seconds // 60:02d}:{seconds % 60:02d}:{frames:02d}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text.replace('"', "'")


def _file_name(number: int, digits: int, title: str, options: SpeakOptions) -> str:
    """ "03 The Carpet-Bag.flac": what every file system can have."""
    words = " ".join("".join(c for c in title.translate(_NO_NAME) if c.isprintable()).split())
    words = words.encode()[:LONGEST_NAME].decode(errors="ignore").strip(". ")
    extension = "raw" if options.raw else options.format
    return f"{number:0{digits}d} {words}".strip() + f".{extension}"


def _nothing_to_say(text: str) -> str:
    if foreign := foreign_words(text):
        some = ", ".join(map(shorten, foreign[:8])) + (" ..." if len(foreign) > 8 else "")
        return f"only English is spoken, and the text has no English words: {some}"
    signs = "".join(dict.fromkeys(text.split()))
    return "there is nothing to say: the text has no words" + (f", only {shorten(signs)}" if signs else "")
