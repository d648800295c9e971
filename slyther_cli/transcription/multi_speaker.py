"""Several voices in one recording: each transcribed for itself, and joined in order of time.

Separated: a stem for each speaker, in a folder. ByChannel: the recording's channels, as they are.
  -> words of each stem, in a file of JSON lines in that folder -> of separated voices, those that are the
     stem's own (``attribution``) -> segments, merged by their start

The folder is a temporary one, or with --resume one that outlasts the process: then separating and each stem's
transcription keep their work as they do alone, and what is done is not done again.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli import files
from slyther_cli.audio.discover import shown
from slyther_cli.audio.level import level_of
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.streams import BLOCK
from slyther_cli.decode.segments import Segment
from slyther_cli.decode.words import Word
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.jobs.resume import VOICES_FACTS, voices_folder
from slyther_cli.jobs.setup import count_speakers
from slyther_cli.runtime import temporary_folder
from slyther_cli.separation.job import Separation
from slyther_cli.transcription.attribution import Attribution, Levels
from slyther_cli.transcription.coverage import Coverage
from slyther_cli.transcription.writer import Row

Transcribe = Callable[
    [Path, Path, AudioReader, Coverage, Callable[[float], None], float | None],
    Generator[Segment, None, None],
]
Phrase = Callable[[Iterator[Word]], Iterator[Row]]


SUMS = "sums.json"
SOUND = (".wav", ".flac")


class KeptVoices:
    """The folder of a job that a later run can go on with, below ``work_dir``, locked until ``close``.
    ``resumed``: there was one; ``notes``: what the user should know of that.

    Its results are the same only if ``facts`` are (``longform.journal.job_facts``). A file of it counts only
    with the checksum that ``seal`` kept of it. Raises UsageError: the facts are others, or another process is
    at it; OutputError: it cannot be written, or is not ours.
    """

    def __init__(self, source: str, outputs: list[Path], work_dir: Path | None, facts: dict[str, Any]):
        self.folder = voices_folder(source, outputs, work_dir)
        self.notes: list[str] = []
        self._sums: dict[str, Any] = {}
        try:
            self._work = files.WorkFolder(self.folder)
        except files.Taken:
            raise UsageError(
                f"another slyther works on this job in {shown(self.folder)}: wait for it"
            ) from None
        try:
            self.resumed = self._go_on(json.loads(json.dumps(facts)))
        except OSError as error:
            self.close()
            raise OutputError(f"{shown(self.folder)}: cannot hold the work files: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def _go_on(self, facts: dict[str, Any]) -> bool:
        """Whether there was work to go on with; else the folder is empty but for the facts."""
        kept = self._work.read(VOICES_FACTS)
        found = None if kept is None else _parsed(kept)
        if isinstance(found, dict):
            if found != facts:
                raise UsageError(
                    f"the unfinished work in {self.folder} is of another recording, model or options, or of "
                    "another kind of machine; remove that folder to start anew, or leave out --resume"
                )
            self.notes.append(files.WENT_ON)
            self._drop_damaged()
            return True
        if kept is not None:
            self.notes.append(files.DAMAGED.format("what it is of"))
        self._work.clear()  # what a run left that was killed while it removed its work
        self._work.write(VOICES_FACTS, json.dumps(facts).encode())
        return False

    def _drop_damaged(self) -> None:
        """Take away the files that are not as ``seal`` saw them; with one stem all of them, which are made
        together."""
        sums = _parsed(self._work.read(SUMS) or b"{}")
        self._sums = sums if isinstance(sums, dict) else {}
        names = [n for n in os.listdir(self.folder) if n[0] != "." and Path(n).suffix in (".jsonl", *SOUND)]
        bad = {name for name in names if self._sums.get(name) != self._sum(name)}
        if any(Path(name).suffix in SOUND for name in bad):
            bad |= {name for name in names if Path(name).suffix in SOUND}
        if bad & self._sums.keys():
            self.notes.append("a part of the kept work was damaged: it was done anew")
        self._work.remove(*sorted(bad))

    def _sum(self, name: str) -> list[int]:
        crc = size = 0
        with open(self._work.open(name, os.O_RDONLY), "rb") as file:
            while block := file.read(1 << 20):
                crc, size = zlib.crc32(block, crc), size + len(block)
        return [size, crc]

    def seal(self, path: Path) -> None:
        """The file ``path`` of the folder is complete."""
        try:
            if path.name not in self._sums:
                self._sums[path.name] = self._sum(path.name)
                self._work.write(SUMS, json.dumps(self._sums).encode())
        except OSError as error:
            raise OutputError(f"{shown(self.folder)}: cannot hold the work files: {error.strerror}") from None

    def remove(self) -> None:
        """The result is in its place. The facts go first: without them there is no work to go on from."""
        with contextlib.suppress(OSError):
            self._work.remove(VOICES_FACTS)
            self._work.clear()
        self._work.end()

    def close(self) -> None:
        """Leave the work for a later run."""
        self._work.close()


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


class Stem(NamedTuple):
    """The sound of one speaker: a channel of a file, from 1 up. ``made``: a file of ours. ``reading``: how
    ``AudioReader`` reads it."""

    path: Path
    channel: int
    made: bool
    reading: dict[str, Any]


@dataclass(frozen=True)
class Separated:
    """Stems made by the job ``separating``: in a folder 4 bytes a sample and speaker."""

    file: Path
    separating: Separation
    steps = 1  # of the progress, beside one for each stem

    @property
    def count(self) -> int:
        return count_speakers(self.separating.config)

    def stems(
        self, folder: Path, keep: bool, on_progress: Callable[[float], None], notes: list[str]
    ) -> list[Stem]:
        """Raises what fails."""

        def heard(event: dict[str, Any]) -> None:
            if event["event"] == "progress":
                on_progress(event["fraction"])

        job = replace(self.separating, output_dir=folder, tell=heard).having(resume=keep)
        (result,) = job.run([os.path.abspath(self.file)])
        if result.error is not None:
            raise result.error
        notes += result.notes
        return [Stem(path, 1, True, {}) for path in result.outputs.values()]


@dataclass(frozen=True)
class ByChannel:
    """Each of the ``count`` channels of ``file`` is a speaker's, as in recordings of telephone calls."""

    file: Path
    count: int
    reading: dict[str, Any]
    steps = 0

    def stems(
        self, folder: Path, keep: bool, on_progress: Callable[[float], None], notes: list[str]
    ) -> list[Stem]:
        return [Stem(self.file, 1 + i, False, self.reading) for i in range(self.count)]


def voices(
    apart: Separated | ByChannel,
    transcribe: Transcribe,
    phrase: Phrase,
    coverage: Coverage,
    on_progress: Callable[[float], None],
    notes: list[str],
    work_dir: Path | None = None,
    kept: KeptVoices | None = None,
) -> Generator[Row, None, None]:
    """The segments of all speakers of a recording, by their start, labelled S1, S2, ...: by channel, or of
    separated voices in the order in which they begin to speak.

    ``transcribe`` gives what is heard in one stem (its file, the file that the words will go into, its sound,
    and the level that it is taken for: stems of one recording are heard as loud as the loudest of them);
    ``phrase`` joins the words of a voice to segments; ``notes`` get what there is to say. What fails is
    raised. What is made lies in ``work_dir`` until the end; or in ``kept``, which is not removed here.
    """
    rate = coverage.rate
    with ExitStack() as stack:
        folder = kept.folder if kept else _temporary(stack, work_dir)
        parts = apart.steps + apart.count
        found = apart.stems(folder, kept is not None, lambda f: on_progress(f / parts), notes)
        level = _loudest(found, rate) if all(stem.made for stem in found) else None
        for stem in found:
            if kept and stem.made:
                kept.seal(stem.path)
        spools = [folder / f"s{index + 1}.jsonl" for index in range(len(found))]
        for index, (stem, spool) in enumerate(zip(found, spools, strict=True)):
            if not (kept and spool.exists()):

                def share(fraction: float, index: int = index) -> None:
                    on_progress((apart.steps + index + fraction) / parts)

                voice = Coverage(rate)
                with AudioReader(stem.path, stem.channel, rate, **stem.reading) as reader:
                    reader.settle()
                    segments = transcribe(stem.path, spool, reader, voice, share, level)
                    _spool(spool, segments, voice)
                if not stem.made:
                    notes += [note for note in reader.notes if note not in notes]
            if kept:
                kept.seal(spool)
            coverage.louder(_coverage(spool))
        said = [partial(_words, spool) for spool in spools]
        levels = [stack.enter_context(closing(Levels(s.path, rate))) for s in found if s.made]
        owner = Attribution(levels, said, rate) if levels else None

        def rows(index: int) -> Iterator[tuple[float, int, Row]]:
            for row in phrase(owner.own(index) if owner else said[index]()):
                yield row[0]["start"], index, row

        labels: dict[int, str] = {}
        for _, index, (row, count) in heapq.merge(*map(rows, range(len(found))), key=lambda at: at[:2]):
            label = labels.setdefault(index, f"S{len(labels) + 1}") if owner else f"S{index + 1}"
            yield {**row, "speaker": label}, count
        notes += filter(None, [owner.note() if owner else None])


def _loudest(stems: list[Stem], rate: int) -> float:
    """The level of the loudest stem."""
    levels = []
    for stem in stems:
        with AudioReader(stem.path, stem.channel, rate, **stem.reading) as reader:
            levels.append(level_of(reader.blocks(BLOCK), rate))
    return max(levels)


def _temporary(stack: ExitStack, work_dir: Path | None) -> Path:
    place = work_dir or temporary_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slyther-voices-", dir=place)))
    except OSError as error:
        raise OutputError(f"{shown(place)}: cannot hold the voices: {error.strerror}") from None


def _spool(path: Path, segments: Generator[Segment, None, None], voice: Coverage) -> None:
    """The words of a stem to a file: its coverage in the first line, a word in each other. Whole or not."""
    part = path.with_suffix(".words")
    with open(part, "w+", encoding="ascii") as words, closing(segments):
        for segment in segments:
            words.writelines(json.dumps(word) + "\n" for word in segment.words)
        words.seek(0)
        with files.whole(path, "w", encoding="ascii") as whole:
            whole.write(json.dumps(voice.as_dict()) + "\n")
            shutil.copyfileobj(words, whole)
    part.unlink()


def _coverage(spool: Path) -> Coverage:
    with open(spool, encoding="ascii") as lines:
        return Coverage.of(json.loads(next(lines)))


def _words(spool: Path) -> Iterator[Word]:
    """The words of a stem, in order of time."""
    with open(spool, encoding="ascii") as lines:
        next(lines)
        for line in lines:
            text, start, end, probability, tokens, speaker = json.loads(line)
            yield Word(text, start, end, probability, tuple(tokens), speaker)
