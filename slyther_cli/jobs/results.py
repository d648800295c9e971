"""What a job has to say when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from slyther_cli.jobs.estimate import together

RESAMPLED = "resampled "  # how a note begins that is for -v alone: what every recording of another rate gets


@dataclass(frozen=True)
class Result:
    """What became of one input.

    ``status``: "done"; "skipped", all its outputs were there, or, without ``outputs``, another
    slyther makes them; "planned", a dry run; "failed", see ``error``.
    """

    source: str
    """As it was named; "-" is standard input."""
    status: Literal["done", "skipped", "planned", "failed"]
    outputs: dict[str, Path] = field(default_factory=dict)
    """Stem ("s1", "s2", ..., "residual", "report") or format ("txt", "srt", ...) -> file."""
    sample_rate: int = 0
    frames: int = 0
    notes: tuple[str, ...] = ()
    """What was done to the sound and found in it, one sentence each."""
    plan: tuple[str, ...] = ()
    wall_seconds: float = 0.0
    error: Exception | None = None
    estimate: float | None = None
    """Of a dry run: the seconds of work that it would be here."""

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return self.frames / self.sample_rate if self.sample_rate else 0.0

    def as_event(self) -> dict[str, Any]:
        """The details of a "file_done" event."""
        return {
            "file": self.source,
            "status": self.status,
            "outputs": {stem: str(path) for stem, path in self.outputs.items()},
            "sample_rate": self.sample_rate,
            "frames": self.frames,
            "seconds": round(self.seconds, 6),
            "wall_seconds": round(self.wall_seconds, 3),
            "notes": list(self.notes),
            **({} if self.estimate is None else {"estimate_seconds": round(self.estimate, 1)}),
        }


class SeparationResult(Result):
    """What became of one recording to separate."""


@dataclass(frozen=True)
class TranscriptionResult(Result):
    """What became of one recording to transcribe."""

    segments: tuple[dict[str, Any], ...] = ()
    """As whisper's json has them, unless they were not to be kept."""
    words: int = 0
    """How many were heard."""

    @property
    def text(self) -> str:
        """All that was said, if the segments were kept."""
        return "".join(segment["text"] for segment in self.segments).strip()

    def as_event(self) -> dict[str, Any]:
        return super().as_event() | {"words": self.words}


def summarise(results: Sequence[Result], wall_seconds: float, jobs: int = 1) -> dict[str, Any]:
    """The details of a "summary" event. ``jobs``: processes that would share the work of a dry run."""
    counts = {s: sum(r.status == s for r in results) for s in ("done", "skipped", "planned", "failed")}
    audio = sum(r.seconds for r in results if r.status == "done")
    estimates = [r.estimate for r in results if r.estimate is not None]
    return {
        "files": len(results),
        **counts,
        "audio_seconds": round(audio, 3),
        "wall_seconds": round(wall_seconds, 3),
        **({"estimate_seconds": round(together(estimates, jobs), 1)} if estimates else {}),
    }
