"""The options of ``speak``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slyther_cli.errors import UsageError
from slyther_cli.jobs.options import SHAPES, Options

if TYPE_CHECKING:
    from slyther_cli.audio.writer import Encoding
    from slyther_cli.models.vall_sampling import Pace, Sampling

M4B = "m4b"
CHAPTERS = ("none", "marks", "files")
SUBTITLES = ("srt", "vtt", "json")
SPEECH_CHECKS = ("auto", "lengths", "recogniser", "none")


@dataclass(frozen=True, kw_only=True)
class SpeakOptions(Options):
    """In whose voice a text is spoken, how, and into what file.

    ``voice``         the name of one of the model's voices; None: the first of them.
    ``prompt``        a recording of the voice to speak in, 3 to 10 s of one speaker, who agrees to it; None:
                      the model's voice.
    ``prompt_text``   what is said there; None: our recogniser writes it down.
    ``lexicon``       a file of your own pronunciations (``english.pronunciations``).
    ``speed``         1 is the model's own; from 0.5 to 2, for models that know how long a symbol lasts.
    ``pause``         how long pauses at commas, sentence and paragraph ends are beside the model's own; from
                      0 to 4, for the same models.
    ``seed``          the same one gives the same speech on the same device.
    ``temperature``   variation; 0 always takes the likeliest code.
    ``top_k``         draw from so many of the likeliest codes; 0 is all.
    ``top_p``         draw from the likeliest codes that make up this probability.
    ``repetition``    the share of the last half second that one code may fill; 1 is no limit.
    ``guard``         the speech check: "lengths", "recogniser" (both), "auto" (the recogniser where there is
                      one; to standard output "lengths", since sound comes before its sentence is
                      complete), "none".
    ``retries``       how often a sentence that fails it is said anew, with another seed.
    ``chapters``      "none": one file; "marks": one with the chapters marked in it, and a cue sheet beside
                      it; "files": a file for each chapter, in the folder that the output names.
    ``subtitles``     files beside the sound that tell when each word is said: "srt", "vtt", "json", or
                      several in a list or with commas between.
    ``format``        "wav", "flac" or "m4b" (AAC).
    ``subtype``       "16", "24" or "float" (wav only).
    ``raw``           write 16-bit samples without a header.
    ``replace``       replace a file that is there.
    ``resume``        keep each sentence in the cache, and go on from what a stopped run of the same text
                      left; a file that is there already is left, unless ``replace``.
    ``device``        "auto", "cpu", "cuda", "cuda:N".
    ``threads``       torch's number for the process; None is one a core.
    """

    voice: str | None = None
    prompt: str | os.PathLike[str] | None = None
    prompt_text: str | None = None
    lexicon: str | os.PathLike[str] | None = None
    speed: float = field(default=1.0, metadata=SHAPES)
    pause: float = field(default=1.0, metadata=SHAPES)
    seed: int = field(default=0, metadata=SHAPES)
    temperature: float = field(default=0.8, metadata=SHAPES)
    top_k: int = field(default=0, metadata=SHAPES)
    top_p: float = field(default=0.9, metadata=SHAPES)
    repetition: float = field(default=1.0, metadata=SHAPES)
    guard: str = "auto"
    retries: int = field(default=2, metadata=SHAPES)
    chapters: str = "none"
    subtitles: str | Sequence[str] = ""
    format: str = "wav"
    subtype: str = "16"
    raw: bool = False
    replace: bool = False
    resume: bool = False
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        named = self.subtitles.split(",") if isinstance(self.subtitles, str) else self.subtitles
        self._becomes("subtitles", ",".join(dict.fromkeys(name.strip() for name in named if name.strip())))

    def check(self) -> None:
        if self.voice is not None and self.prompt is not None:
            raise UsageError("--voice and --prompt contradict each other: choose one")
        if not 0.5 <= self.speed <= 2:
            raise UsageError("the speed must be from 0.5 to 2")
        if not 0 <= self.pause <= 4:
            raise UsageError("the pause must be from 0 (none) to 4 times the voice's own")
        if self.guard not in SPEECH_CHECKS:
            raise UsageError(f"guard={self.guard!r} is not known: {', '.join(SPEECH_CHECKS)}")
        if not 0 <= self.retries <= 20:
            raise UsageError("retries must be from 0 to 20")
        if self.chapters not in CHAPTERS:
            raise UsageError(f"chapters={self.chapters!r} is not known: {', '.join(CHAPTERS)}")
        for name in self.subtitle_formats:
            if name not in SUBTITLES:
                raise UsageError(f"the subtitles {name!r} are not known: {', '.join(SUBTITLES)}")
        if self.raw and self.chapters == "marks":
            raise UsageError("bare samples carry no marks: leave --output-raw out, or take --chapters files")
        _ = self.encoding, self.sampling

    @property
    def at_once(self) -> bool:
        """Whether a stream may be heard before its sentences are complete: what is checked by its words, or
        kept, is not."""
        return self.guard in ("auto", "none") and not self.resume

    @property
    def subtitle_formats(self) -> list[str]:
        assert isinstance(self.subtitles, str)
        return self.subtitles.split(",") if self.subtitles else []

    @property
    def encoding(self) -> Encoding:
        """What the files are. Raises UsageError."""
        from slyther_cli.audio.writer import Encoding, subtype_of

        if self.format == M4B and (self.subtype != "16" or self.raw):
            raise UsageError("m4b holds AAC, not samples: leave --subtype and --output-raw out")
        if self.format == M4B:
            return Encoding(M4B, "PCM_16")
        return Encoding(self.format, subtype_of(self.format, self.subtype))

    @property
    def pace(self) -> Pace:
        """How fast all is said, and how long pauses are."""
        from slyther_cli.models.vall_sampling import Pace

        return Pace(self.speed, self.pause)

    @property
    def sampling(self) -> Sampling:
        """How codes are drawn. Raises UsageError."""
        from slyther_cli.models.vall_sampling import Sampling

        return Sampling(self.temperature, self.top_k, self.top_p, self.repetition)
