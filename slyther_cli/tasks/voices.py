"""Several voices in one recording: each transcribed for itself, and joined in order of time.

Separated: a stem for each speaker, in a folder. ByChannel: the recording's channels, as they are.
  -> segments of each stem, in a file of JSON lines in that folder -> merged by their start

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
from pathlib import Path
from typing import Any, NamedTuple

from slyther_cli.audio.discover import shown
from slyther_cli.audio.level import level_of
from slyther_cli.audio.reader import AudioReader
from slyther_cli.errors import OutputError, UsageError
from slyther_cli.runtime import temporary_folder
from slyther_cli.tasks.coverage import Coverage
from slyther_cli.tasks.resuming import VOICES_FACTS, voices_folder
from slyther_cli.tasks.separation import Separation
from slyther_cli.tasks.setup import count_speakers
from slyther_cli.tasks.sink import Row, row_of
from slyther_cli.tasks.streams import BLOCK

Transcribe = Callable[
    [Path, Path, AudioReader, str, Coverage, Callable[[float], None], float | None],
    Generator[Any, None, None],
]


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
    coverage: Coverage,
    rate: int,
    words: bool,
    on_progress: Callable[[float], None],
    notes: list[str],
    work_dir: Path | None = None,
    kept: KeptVoices | None = None,
) -> Generator[Row, None, None]:
    """The segments of all speakers of a recording, labelled S1, S2, ..., by their start.

    ``transcribe`` gives the segments of one stem (its file, the file that they will go into, its sound, and
    the level that it is taken for: stems of one recording are heard as loud as the loudest of them);
    ``notes`` get what there is to say. What fails is raised. What is made lies in ``work_dir`` until the end;
    or in ``kept``, which then is not removed here.
    """
    with ExitStack() as stack:
        folder = kept.folder if kept else _temporary(stack, work_dir)
        parts = apart.steps + apart.count
        found = apart.stems(folder, kept is not None, lambda f: on_progress(f / parts), notes)
        level = _loudest(found, rate) if all(stem.made for stem in found) else None
        spools = []
        for index, stem in enumerate(found):
            spool = folder / f"s{index + 1}.jsonl"
            if not (kept and spool.exists()):

                def share(fraction: float, index: int = index) -> None:
                    on_progress((apart.steps + index + fraction) / parts)

                voice = Coverage(rate)
                with AudioReader(stem.path, stem.channel, rate) as reader:
                    reader.settle()
                    segments = transcribe(stem.path, spool, reader, f"S{index + 1}", voice, share, level)
                    _spool(spool, segments, voice, words)
                if not stem.made:
                    notes += [note for note in reader.notes if note not in notes]
            if stem.made and not kept:
                stem.path.unlink()
            rows = map(json.loads, stack.enter_context(open(spool, encoding="ascii")))
            coverage.louder(Coverage.of(next(rows)))
            spools.append(rows)
        yield from heapq.merge(*spools, key=lambda row: row[0]["start"])


def _loudest(stems: list[Stem], rate: int) -> float:
    """The level of the loudest stem."""
    levels = []
    for stem in stems:
        with AudioReader(stem.path, stem.channel, rate) as reader:
            levels.append(level_of(reader.blocks(BLOCK), rate))
    return max(levels)


def _temporary(stack: ExitStack, work_dir: Path | None) -> Path:
    place = work_dir or temporary_folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slyther-voices-", dir=place)))
    except OSError as error:
        raise OutputError(f"{shown(place)}: cannot hold the voices: {error.strerror}") from None


def _spool(path: Path, segments: Iterator[Any], voice: Coverage, words: bool) -> None:
    """Write the rows of a stem: its coverage in the first line, a row in each other. Whole or not at all."""
    part = path.with_suffix(".rows")
    with open(part, "w+", encoding="ascii") as rows, closing(segments):  # type: ignore[type-var]
        for segment in segments:
            rows.write(json.dumps(row_of(segment, voice.rate, words, voice)) + "\n")
        rows.seek(0)
        with open(path.with_suffix(".new"), "w", encoding="ascii") as whole:
            whole.write(json.dumps(voice.as_dict()) + "\n")
            shutil.copyfileobj(rows, whole)
            whole.flush()
            os.fsync(whole.fileno())
    os.replace(path.with_suffix(".new"), path)
    part.unlink()


def _put(path: Path, text: str) -> None:
    """Write a small file whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)
