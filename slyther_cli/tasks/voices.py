"""Several voices in one recording: each transcribed for itself, and joined in order of time.

Separated: a stem for each speaker, in a folder. ByChannel: the recording's channels, as they are.
  -> words of each stem, in a file of JSON lines in that folder -> of separated voices, those that are the
     stem's own (``attribution``) -> segments, merged by their start

The folder is a temporary one, or with --resume one that outlasts the process: then separating and each stem's
transcription keep their work as they do alone, and what is done is not done again.
"""

from __future__ import annotations

import heapq
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli.audio.discover import shown
from slyther_cli.audio.reader import AudioReader
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.runtime import temporary_folder
from slyther_cli.tasks.attribution import Attribution, Levels
from slyther_cli.tasks.coverage import Coverage
from slyther_cli.tasks.resuming import VOICES_FACTS, voices_folder
from slyther_cli.tasks.separation import Separation
from slyther_cli.tasks.setup import count_speakers
from slyther_cli.tasks.sink import Row, row_of
from slyther_cli.text.segments import Segment
from slyther_cli.text.words import Word

Transcribe = Callable[
    [Path, Path, AudioReader, str, Coverage, Callable[[float], None]], Generator[Segment, None, None]
]
Phrase = Callable[[Iterator[Word]], Iterator[Segment]]


class KeptVoices:
    """The folder of a job that a later run can go on with, below ``work_dir``. ``resumed``: there was one.

    Its results are the same only if ``facts`` are (``longform.journal.job_facts``). Raises UsageError: they
    are not; OutputError: it cannot be written.
    """

    def __init__(self, source: str, outputs: list[Path], work_dir: Path | None, facts: dict[str, Any]):
        self.folder = voices_folder(source, outputs, work_dir)
        path, asked = self.folder / VOICES_FACTS, json.loads(json.dumps(facts))
        try:
            self.resumed = path.exists()
            if self.resumed and json.loads(path.read_text(encoding="utf-8")) != asked:
                raise UsageError(
                    f"the unfinished work in {self.folder} is of another recording, model or options; remove "
                    "that folder to start anew, or leave out --resume"
                )
            if not self.resumed:  # what a run left that was killed while it removed its work
                self.remove()
            self.folder.mkdir(parents=True, exist_ok=True)
            _put(path, json.dumps(asked))
        except ValueError:
            raise UsageError(
                f"{path} is damaged; remove its folder to start anew, or leave out --resume"
            ) from None
        except OSError as error:
            raise OutputError(f"{shown(self.folder)}: cannot hold the work files: {error.strerror}") from None

    def remove(self) -> None:
        """The result is in its place. The facts go first: without them there is no work to go on from."""
        (self.folder / VOICES_FACTS).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)


class Stem(NamedTuple):
    """The sound of one speaker: a channel of a file, from 1 up. ``made``: a file of ours."""

    path: Path
    channel: int
    made: bool


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

        job = replace(self.separating, output_dir=folder, tell=heard)
        if keep:
            job = replace(job, resume=True, existing="skip")
        (result,) = job.run([os.path.abspath(self.file)])
        if result.error is not None:
            raise result.error
        notes += result.notes
        return [Stem(path, 1, True) for path in result.outputs.values()]


@dataclass(frozen=True)
class ByChannel:
    """Each of the ``count`` channels of ``file`` is a speaker's, as in recordings of telephone calls."""

    file: Path
    count: int
    steps = 0

    def stems(
        self, folder: Path, keep: bool, on_progress: Callable[[float], None], notes: list[str]
    ) -> list[Stem]:
        return [Stem(self.file, 1 + i, False) for i in range(self.count)]


def voices(
    apart: Separated | ByChannel,
    transcribe: Transcribe,
    phrase: Phrase,
    coverage: Coverage,
    rate: int,
    words: bool,
    on_progress: Callable[[float], None],
    notes: list[str],
    work_dir: Path | None = None,
    kept: KeptVoices | None = None,
) -> Generator[Row, None, None]:
    """The segments of all speakers of a recording, by their start, labelled S1, S2, ...: by channel, or of
    separated voices in the order in which they begin to speak.

    ``transcribe`` gives what is heard in one stem (its file, the file that the words will go into, its
    sound); ``phrase`` joins the words of a voice to segments; ``notes`` get what there is to say. What fails
    is raised. What is made lies in ``work_dir`` until the end; or in ``kept``, which is not removed here.
    """
    with ExitStack() as stack:
        folder = kept.folder if kept else _temporary(stack, work_dir)
        parts = apart.steps + apart.count
        found = apart.stems(folder, kept is not None, lambda f: on_progress(f / parts), notes)
        spools = [folder / f"s{index + 1}.jsonl" for index in range(len(found))]
        for index, (stem, spool) in enumerate(zip(found, spools, strict=True)):
            if not (kept and spool.exists()):

                def share(fraction: float, index: int = index) -> None:
                    on_progress((apart.steps + index + fraction) / parts)

                voice = Coverage(rate)
                with AudioReader(stem.path, stem.channel, rate) as reader:
                    segments = transcribe(stem.path, spool, reader, f"S{index + 1}", voice, share)
                    _spool(spool, segments, voice)
                if not stem.made:
                    notes += [note for note in reader.notes if note not in notes]
            coverage.louder(_coverage(spool))
        said = [partial(_words, spool) for spool in spools]
        levels = [stack.enter_context(closing(Levels(s.path, rate))) for s in found if s.made]
        owner = Attribution(levels, said, rate) if levels else None

        def rows(index: int) -> Iterator[tuple[float, int, Row]]:
            for segment in phrase(owner.own(index) if owner else said[index]()):
                row = row_of(segment, rate, words, coverage)
                yield row[0]["start"], index, row

        labels: dict[int, str] = {}
        for _, index, (row, count) in heapq.merge(*map(rows, range(len(found))), key=lambda at: at[:2]):
            label = labels.setdefault(index, f"S{len(labels) + 1}") if owner else f"S{index + 1}"
            yield {**row, "speaker": label}, count
        notes += filter(None, [owner.note() if owner else None])


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
        with open(path.with_suffix(".new"), "w", encoding="ascii") as whole:
            whole.write(json.dumps(voice.as_dict()) + "\n")
            shutil.copyfileobj(words, whole)
            whole.flush()
            os.fsync(whole.fileno())
    os.replace(path.with_suffix(".new"), path)
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


def _put(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
