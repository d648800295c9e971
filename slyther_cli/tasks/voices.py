"""Several voices in one recording: separated first, each transcribed for itself, and joined in order of time.

separate(recording) -> a stem for each speaker, in a temporary folder
  -> segments of each stem, in a temporary file of JSON lines -> merged by their start
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from slyther_cli.audio.reader import AudioReader
from slyther_cli.tasks.coverage import Coverage
from slyther_cli.tasks.separation import Separation
from slyther_cli.tasks.setup import count_speakers
from slyther_cli.tasks.sink import Row, row_of

Transcribe = Callable[[AudioReader, str, Coverage, Callable[[float], None]], Iterator[Any]]


def voices(
    file: Path,
    transcribe: Transcribe,
    coverage: Coverage,
    rate: int,
    words: bool,
    on_progress: Callable[[float], None],
    notes: list[str],
    *,
    separating: Separation,
) -> Generator[Row, None, None]:
    """The segments of all speakers of the recording in ``file``, labelled S1, S2, ..., by their start.

    ``transcribe`` gives the segments of one stem; ``notes`` get what separation has to say; ``separating``
    is the job that separates. What fails there is raised. The stems lie in its ``work_dir`` until the end: 4
    bytes a sample and speaker.
    """
    work_dir = separating.work_dir
    with ExitStack() as stack:
        if work_dir is not None:
            work_dir.mkdir(parents=True, exist_ok=True)
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="slyther-voices-", dir=work_dir))
        )
        parts = 1 + count_speakers(separating.config)

        def heard(event: dict[str, Any]) -> None:
            if event["event"] == "progress":
                on_progress(event["fraction"] / parts)

        (result,) = replace(separating, output_dir=folder, tell=heard).run([os.path.abspath(file)])
        if result.error is not None:
            raise result.error
        notes += result.notes
        spools = []
        for number, path in enumerate(result.outputs.values(), 1):
            spool = stack.enter_context(tempfile.TemporaryFile("w+", encoding="ascii", dir=folder))
            voice = Coverage(rate)
            with AudioReader(path, 1, rate) as reader:

                def share(fraction: float, number: int = number) -> None:
                    on_progress((number + fraction) / parts)

                for segment in transcribe(reader, f"S{number}", voice, share):
                    spool.write(json.dumps(row_of(segment, rate, words, voice)) + "\n")
            coverage.louder(voice)
            path.unlink()
            spool.seek(0)
            spools.append(map(json.loads, spool))
        yield from heapq.merge(*spools, key=lambda row: row[0]["start"])
