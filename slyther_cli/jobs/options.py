"""The options of a product, once: a frozen dataclass that the command and the Python call fill, the job
obeys, the journal of unfinished work depends on and the start event tells.

A product's dataclass derives from :class:`Options` (:class:`BatchOptions` for work on many recordings), gives
every option a default and a place in its docstring, and refuses values without a meaning in ``check``.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from slyther_cli.errors import UsageError

SHAPES = {"shapes_result": True}
"""Metadata of a field that a result depends on, beside the recording and the model."""

Function = TypeVar("Function", bound=Callable[..., Any])
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What every product's options can do."""

    def check(self) -> None:
        """Raises UsageError on a value without a meaning, or on options that contradict each other."""

    def given(self) -> dict[str, Any]:
        """The options that are not at their default, as JSON can hold them."""
        return {f.name: plain(value) for f in fields(self) if (value := getattr(self, f.name)) != f.default}

    def shaping(self) -> dict[str, Any]:
        """The options that the result depends on: what unfinished work is gone on with must have the same."""
        return {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.metadata.get("shapes_result")}

    def of(self, part: type[Options]) -> dict[str, Any]:
        """Those options that ``part``, a dataclass that this one derives from, has."""
        return {f.name: getattr(self, f.name) for f in fields(part)}

    def _becomes(self, name: str, value: Any) -> None:
        """For ``__post_init__``: an option in the form that the rest of the code expects."""
        object.__setattr__(self, name, value)


@dataclass(frozen=True, kw_only=True)
class RecordingOptions(Options):
    """How a recording is read and computed.

    ``channel``       "mix" (the mean) or a number from 1 up.
    ``track``         the audio track of a film, from 1 up; None is the first.
    ``strict``        a damaged recording fails; else silence stands for what cannot be read, with notes.
    ``device``        "auto", "cpu", "cuda", "cuda:N".
    ``threads``       torch's number for the process; None is one a core.
    ``memory_limit``  bytes beside the idle process; what does not fit goes to a file in ``work_dir``.
    ``work_dir``      a folder for such files; None is the system's, with ``resume`` one below the cache.
    """

    channel: int | str = field(default="mix", metadata=SHAPES)
    track: int | None = field(default=None, metadata=SHAPES)
    strict: bool = field(default=False, metadata=SHAPES)
    device: str = "auto"
    threads: int | None = None
    memory_limit: int | None = None
    work_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.work_dir is not None:
            self._becomes("work_dir", Path(self.work_dir))

    @property
    def reading(self) -> dict[str, Any]:
        """How recordings are read, for ``AudioReader``."""
        return {"track": self.track, "strict": self.strict}


@dataclass(frozen=True, kw_only=True)
class BatchOptions(RecordingOptions):
    """Which recordings there are, who works on them, and what becomes of results.

    ``filename``      names of the results: a template of {folder} {track} {trackext} {parent} {ext} {model},
                      and {stem} of what has stems. {folder} is where an input lies in a folder that was
                      searched: by default that is mirrored.
    ``existing``      when outputs are there already: "refuse" (that input fails), "replace", or "skip" it.
    ``dry_run``       read headers and plan, write nothing.
    ``resume``        keep the work in files of ``work_dir`` and go on from those that a killed run left: the
                      result is the same (docs/longform.md). Outputs that are all there are left, as with
                      "skip".
    ``raw``           standard input has samples without a header: RATE[:CHANNELS[:TYPE]], as 48000:2:f32.
    ``manifest``      a file that names more inputs: a path a line, or a TSV or CSV with a column "path".
    ``shard``         "I/N": only the I-th of N parts of the inputs, for N runs that share them.
    ``jobs``          processes that work on the inputs; each loads the model once. Results are the same, also
                      to the last bit with the same ``threads`` (by default the cores are shared).
    ``ray``           address of a Ray cluster, or "local": its actors work, ``jobs`` of them, by default all
                      that it has room for.
    ``ray_gpus``      of a GPU, for each actor (docs/batches.md).
    """

    filename: str = "{folder}/{track}.{ext}"
    existing: Literal["refuse", "replace", "skip"] = "refuse"
    dry_run: bool = False
    resume: bool = False
    raw: str | None = None
    manifest: str | None = None
    shard: str | None = None
    jobs: int | None = None
    ray: str | None = None
    ray_gpus: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.manifest is not None:
            self._becomes("manifest", os.fspath(self.manifest))

    def check(self) -> None:
        if self.existing not in ("refuse", "replace", "skip"):
            raise UsageError(f"existing={self.existing!r} is not known: refuse, replace, skip")
        if self.raw is not None:
            from slyther_cli.audio.live import raw_header

            raw_header(self.raw)
        if self.shard is not None:
            from slyther_cli.jobs.inputs import parse_shard

            parse_shard(self.shard)

    def named(self, inputs: Paths) -> list[str]:
        """The inputs of a call as a list. Raises UsageError: raw sound, and no standard input."""
        found = [os.fspath(p) for p in ([inputs] if isinstance(inputs, str | os.PathLike) else inputs)]
        if self.raw is not None and "-" not in found:
            raise UsageError("raw sound comes on standard input: name it with - as an input")
        return found


def plain(value: Any) -> Any:
    """The value as JSON can hold it: paths become texts."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return [plain(v) for v in value] if isinstance(value, list | tuple) else value


def takes(options: type[Options]) -> Callable[[Function], Function]:
    """For a function that ends in ``**options``: the signature and the docstring that it has for help() and
    editors name every option of that dataclass, with its type, default and meaning."""

    def signed(function: Function) -> Function:
        own = inspect.signature(function)
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        there = {p.name for p in named}
        more = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields(options)
            if f.name not in there
        ]
        function.__signature__ = own.replace(parameters=[*named, *more])  # type: ignore[attr-defined]
        parts = [c for c in options.__mro__ if issubclass(c, Options) and c is not Options]
        meanings = "\n\n".join(inspect.cleandoc(part.__doc__ or "") for part in parts)
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{meanings}"
        return function

    return signed
