"""Transcription as a job: recordings in, text with true times out.

A recording flows through in blocks, so that nothing here grows with its length:

    AudioReader (mono, at the model's rate) -> Recogniser (one exact context for the whole recording)
      -> segments, as they become final -> Sink: files, events

Times are counted in samples from the recording's start and written in seconds. Here is the Python API;
``transcribing`` does the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from slyther_cli.audio.live import raw_header
from slyther_cli.decode.transcript import chosen_formats
from slyther_cli.errors import UsageError
from slyther_cli.jobs.inputs import parse_shard
from slyther_cli.jobs.results import TranscriptionResult
from slyther_cli.jobs.setup import choose_model
from slyther_cli.jobs.work import nobody
from slyther_cli.separation import job as separation
from slyther_cli.transcription.work import DEFAULT_TEMPLATE, EACH, Transcription

DEFAULT_MODEL = "conmamba-ctc-16k-en"
LANGUAGES = ("en", "english")
LAYOUT = ("max_line_width", "max_line_count", "max_words_per_line", "highlight_words")

Event = dict[str, Any]
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def transcribe(
    inputs: Paths,
    output_dir: str | os.PathLike[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    *,
    formats: str | Sequence[str] = "txt",
    beside: bool = False,
    filename: str = DEFAULT_TEMPLATE,
    decode: Literal["greedy", "beam", "joint"] | None = None,
    lm: str = "auto",
    beam: int | None = None,
    lm_weight: float | None = None,
    word_bonus: float | None = None,
    lexicon: str | os.PathLike[str] | None = None,
    hotwords: str | None = None,
    all_words: bool = False,
    language: str | None = None,
    words: bool = True,
    max_line_width: int | None = None,
    max_line_count: int | None = None,
    max_words_per_line: int | None = None,
    highlight_words: bool = False,
    channel: int | str = "mix",
    track: int | None = None,
    strict: bool = False,
    device: str = "auto",
    threads: int | None = None,
    existing: Literal["refuse", "replace", "skip"] = "refuse",
    separate: bool = False,
    separate_model: str | os.PathLike[str] | None = None,
    memory_limit: int | None = None,
    work_dir: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    resume: bool = False,
    raw: str | None = None,
    manifest: str | os.PathLike[str] | None = None,
    shard: str | None = None,
    jobs: int | None = None,
    ray: str | None = None,
    ray_gpus: float | None = None,
    keep: bool = True,
    on_event: Callable[[Event], None] | None = None,
) -> list[TranscriptionResult]:
    """Transcribe recordings, and return one result an input, with its text and segments.

    ``inputs``        files, folders, globs, "-" for standard input; one, or several. A causal model writes
                      standard input down while it comes.
    ``output_dir``    where files go, under whisper's names: ``<input stem>.<format>``; a folder that was
                      searched is mirrored there. None writes none, unless ``beside`` puts them beside their
                      inputs. Files appear whole or not at all.
    ``filename``      other names: a template of {folder} {track} {trackext} {parent} {ext} {model}.
    ``model``         name or folder; by default the model that comes with slyther.
    ``formats``       of "txt", "srt", "vtt", "tsv", "json", "all"; byte for byte as whisper writes them.
    ``decode``        "greedy", "beam" or "joint"; None: the beam if there is a language model.
    ``lm``            "auto" (the model's own), "none", or a file (ARPA or binary). ``beam``, ``lm_weight``,
                      ``word_bonus``: instead of the model's own settings. ``all_words``: also what is
                      little like speech (``decode.speech_filter``).
    ``lexicon``       a file of your own pronunciations (``english.pronunciations``); ``hotwords``: words that
                      are likely here, parted by commas. Both are for models that hear phones.
    ``language``      "en" or None: the models know English.
    ``words``         whether json has the words of a segment, with their times.
    ``max_line_width``, ``max_line_count``, ``max_words_per_line``, ``highlight_words``
                      as whisper has them, for srt and vtt; see ``decode.subtitles``. The first two also
                      bound the segments of every format.
    ``channel``       "mix" (the mean), a number from 1 up, or "each": what is said in each channel, labelled
                      "S1", "S2", as in recordings of telephone calls.
    ``track``         the audio track of a film, from 1 up; None is the first.
    ``strict``        a damaged recording fails; else silence stands for what cannot be read, with notes.
    ``device``        "auto", "cpu", "cuda", "cuda:N". ``threads`` sets torch's number for the process.
    ``existing``      when outputs are there already: "refuse" (that input fails), "replace", or "skip" it.
    ``separate``      pull two speakers apart first, and label what each says "S1", "S2";
                      ``separate_model``: name or folder of another separation model.
    ``memory_limit``  bytes beside the idle process; what does not fit goes to a file in ``work_dir``.
    ``dry_run``       read headers and plan, write nothing.
    ``resume``        keep the work in files of ``work_dir`` (by default below the cache) and go on from those
                      that a killed run left: the result is the same (docs/longform.md).
    ``raw``           standard input has samples without a header: RATE[:CHANNELS[:TYPE]], as 48000:2:f32.
    ``keep``          whether results hold the segments; without them nothing grows with the recording.
    ``manifest``      a file that names more inputs: a path a line, or a TSV or CSV with a column "path".
    ``shard``         "I/N": only the I-th of N parts of the inputs, for N runs that share them.
    ``jobs``          processes that work on the inputs; each loads the model once. Results are the same, also
                      to the last bit with the same ``threads`` (by default the cores are shared).
    ``ray``           address of a Ray cluster, or "local": its actors work, ``jobs`` of them, by default all
                      that it has room for; ``ray_gpus``: of a GPU, for each (docs/batches.md).
    ``on_event``      called with dictionaries: "event" is start, note, plan, progress, partial (live:
                      what is heard and may still change), segment, file_done, error or summary.

    An input that fails does not stop the others: its result has the error. Raised is only what stops all of
    them: UsageError (options, colliding names), ModelError, DeviceError.
    """
    named = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    if existing not in ("refuse", "replace", "skip"):
        raise UsageError(f"existing={existing!r} is not known: refuse, replace, skip")
    if language is not None and language.lower() not in LANGUAGES:
        raise UsageError(f"the language {language!r} is not known: the models write English (en)")
    layout = dict(
        zip(LAYOUT, (max_line_width, max_line_count, max_words_per_line, highlight_words), strict=True)
    )
    for name, value in layout.items():
        if value and not words:
            raise UsageError(
                f"--{name.replace('_', '-')} needs the times of the words: leave out --word-timestamps"
            )
        if value is not None and value is not False and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1")
    if raw is not None:
        raw_header(raw)
        if "-" not in named:
            raise UsageError("raw sound comes on standard input: name it with - as an input")
    if separate_model is not None and not separate:
        raise UsageError("--separate-model needs --separate")
    if channel == EACH and separate:
        raise UsageError("--separate takes one channel or their mix: leave out --channel each")
    place = Path(work_dir) if work_dir is not None else None
    separating = None
    if separate:
        separating = separation.Separation(
            config=choose_model("separate", separate_model, separation.DEFAULT_MODEL),
            output_dir=None,
            format="wav",
            subtype="FLOAT",
            filename="{stem}.{ext}",
            residual=False,
            clip="none",
            channel=channel,
            track=track,
            strict=strict,
            device=device,
            threads=threads,
            existing="refuse",
            memory_limit=memory_limit,
            work_dir=place,
            dry_run=False,
            resume=False,
            raw=None,
            tell=nobody,
        )
    config = choose_model("transcribe", model, DEFAULT_MODEL)
    job = Transcription(
        config=config,
        output_dir=None if output_dir is None else Path(output_dir),
        beside=beside,
        filename=filename,
        formats=chosen_formats([formats] if isinstance(formats, str) else formats),
        search={
            "decode": decode,
            "lm": lm,
            "beam": beam,
            "lm_weight": lm_weight,
            "word_bonus": word_bonus,
            "lexicon": lexicon,
            "hotwords": hotwords,
            "all_words": all_words,
        },
        words=words,
        layout=layout,
        channel=channel,
        track=track,
        strict=strict,
        device=device,
        threads=threads,
        existing="skip" if resume and existing == "refuse" else existing,
        separating=separating,
        memory_limit=memory_limit,
        work_dir=place,
        dry_run=dry_run,
        resume=resume,
        raw=raw,
        manifest=None if manifest is None else os.fspath(manifest),
        shard=None if shard is None else parse_shard(shard),
        jobs=jobs,
        ray=ray,
        ray_gpus=ray_gpus,
        keep=keep,
        tell=on_event or nobody,
    )
    results: list[Any] = job.run([os.fspath(item) for item in named])
    return results
