"""Transcription as a job: recordings in, text with true times out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> Recogniser (one exact context for the whole recording)
      -> segments, as they become final -> Sink: files, events

Times are counted in samples from the recording's start and written in seconds. Here is the Python API;
``work`` does what it asks for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slyther_cli.jobs.options import Paths, takes
from slyther_cli.jobs.results import TranscriptionResult
from slyther_cli.jobs.setup import choose_model
from slyther_cli.jobs.work import nobody
from slyther_cli.separation import job as separation
from slyther_cli.transcription.options import DEFAULT_MODEL, TranscribeOptions
from slyther_cli.transcription.work import Transcription

Event = dict[str, Any]


@takes(TranscribeOptions)
def transcribe(
    inputs: Paths,
    output_dir: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    *,
    keep: bool = True,
    on_event: Callable[[Event], None] | None = None,
    **options: Any,
) -> list[TranscriptionResult]:
    """Transcribe recordings, and return one result an input, with its text and segments.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several. A causal model writes
                      standard input down while it comes.
    ``output_dir``    where files go, by default under whisper's names: ``<input stem>.<format>``. None writes
                      none, unless ``beside`` puts them beside their inputs. Files appear whole or not at all.
    ``model``         name or folder; by default the model that comes with slyther.
    ``keep``          whether results hold the segments; without them nothing grows with the recording.
    ``on_event``      called with dictionaries: "event" is start, note, plan, progress, partial (live:
                      what is heard and may still change), segment, file_done, error or summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    chosen = TranscribeOptions(**options)
    chosen.check()
    named, separator = chosen.named(inputs), None
    if chosen.separate:
        separator = choose_model("separate", chosen.separate_model, separation.DEFAULT_MODEL)
    job = Transcription(
        config=choose_model("transcribe", model, DEFAULT_MODEL),
        output_dir=None if output_dir is None else Path(output_dir),
        options=chosen,
        separator=separator,
        keep=keep,
        tell=on_event or nobody,
    )
    results: list[Any] = job.run(named)
    return results
