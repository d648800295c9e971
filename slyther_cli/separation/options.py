"""The options of ``separate``."""

from __future__ import annotations

from dataclasses import dataclass, field

from slyther_cli.errors import UsageError
from slyther_cli.jobs.options import SHAPES, BatchOptions


@dataclass(frozen=True, kw_only=True)
class SeparateOptions(BatchOptions):
    """How speakers are separated, and what is written.

    ``speakers``      choose a model that separates so many, or refuse ``model`` if it does not.
    ``format``        "wav" or "flac".
    ``subtype``       "16", "24" or "float" (wav only).
    ``residual``      also write the mixture without the stems, as stem "residual".
    ``clip``          "rescale", "clamp" or "none"; see ``audio.writer.StemGroup``.
    ``highband``      of a recording whose rate is above the model's, share what lies above the model's band
                      out to the stems (``separation.highband``). Not for live sound.
    ``report``        also write a page to see and hear whether it worked, as stem "report". Not for live
                      sound.
    ``match_speakers``  of two stems, move each stretch to the file of its voice, as a speaker network hears
                      it; overlapped speech stays where it is (``longform.reunited``). None: with the default
                      model. Not for live sound.
    """

    filename: str = "{folder}/{track}_{stem}.{ext}"
    speakers: int | None = None
    format: str = field(default="wav", metadata=SHAPES)
    subtype: str = field(default="16", metadata=SHAPES)
    residual: bool = field(default=False, metadata=SHAPES)
    clip: str = field(default="rescale", metadata=SHAPES)
    highband: bool = field(default=True, metadata=SHAPES)
    report: bool = False
    match_speakers: bool | None = field(default=None, metadata=SHAPES)

    def check(self) -> None:
        from slyther_cli.audio.writer import CLIPS, subtype_of

        subtype_of(self.format, self.subtype)
        if self.clip not in CLIPS:
            raise UsageError(f"the clip mode {self.clip!r} is not known: {', '.join(CLIPS)}")
        super().check()
