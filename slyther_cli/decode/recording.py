"""What a transcript's formats tell of the recording itself, beside its words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO


@dataclass
class Recording:
    """``source``: the recording's path as it was named, "-" for standard input. The others are needed when a
    format ends, and may be set until then: ``seconds``, its length; ``peaks``, its waveform in equal steps
    of time, from 0 to 100; ``opus``, its sound in an Ogg file, from the beginning, that shall be embedded.
    """

    source: str = "-"
    seconds: float | None = None
    peaks: Sequence[int] = ()
    opus: IO[bytes] | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return "standard input" if self.source == "-" else os.path.basename(self.source)

    @property
    def word(self) -> str:
        """The file's name without its last extension, as one word: what CTM and RTTM call a recording."""
        name = os.fsencode(os.path.basename(self.source)).decode(errors="replace")
        return one_word(os.path.splitext(name)[0])


def one_word(text: str) -> str:
    """``text`` with underscores for its white space; "_" if nothing is left."""
    return "_".join(text.split()) or "_"
