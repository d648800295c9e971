"""The options of ``transcribe``: how text is searched, how subtitles are laid out, and the rest."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from slyther_cli.checkpoints.config import shorten
from slyther_cli.errors import UsageError
from slyther_cli.jobs.options import BatchOptions, Options

DEFAULT_MODEL = "conmamba-ctc-16k-en"
EACH = "each"  # the channel that stands for all, each for itself
LANGUAGES = ("en", "english")
AUTO = "auto"  # as many speakers as are heard
MOST_SPEAKERS = 12
LONGEST_NAME = 100  # letters
LABEL = re.compile(r"S[0-9]+")
JOINERS = dict.fromkeys((0x200C, 0x200D))  # within Persian names and emoji


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """How text is searched.

    ``decode``        "greedy", "beam", "joint" (with the model's decoder), or None: the beam if the model
                      brings a language model, or ``lm`` names one.
    ``lm``            "auto" (the model's own, if there is one), "none", or a file: ARPA or our binary.
    ``beam``, ``lm_weight``, ``word_bonus``
                      instead of the model's own settings.
    ``lexicon``       a file of your own pronunciations (``english.pronunciations``), and
    ``hotwords``      words that are likely here, parted by commas: both for models that hear phones.
    ``all_words``     keep also what is little like speech (``decode.speech_filter``).
    """

    decode: Literal["greedy", "beam", "joint"] | None = None
    lm: str = "auto"
    beam: int | None = None
    lm_weight: float | None = None
    word_bonus: float | None = None
    lexicon: str | os.PathLike[str] | None = None
    hotwords: str | None = None
    all_words: bool = False


@dataclass(frozen=True, kw_only=True)
class LayoutOptions(Options):
    """How subtitles are laid out.

    ``max_line_width``, ``max_line_count``, ``max_words_per_line``, ``highlight_words``
                      as whisper has them, for srt and vtt; see ``decode.subtitles``. The first two also
                      bound the segments of every format.
    """

    max_line_width: int | None = None
    max_line_count: int | None = None
    max_words_per_line: int | None = None
    highlight_words: bool = False


@dataclass(frozen=True, kw_only=True)
class TranscribeOptions(SearchOptions, LayoutOptions, BatchOptions):
    """What is transcribed, and what is written.

    ``formats``       of "txt", "srt", "vtt", "tsv", "json", byte for byte as whisper writes them (but for the
                      paragraphs of txt, unless ``plain``); "all" of these; and "html" (a page to hear and
                      correct), "md", "ctm", "rttm", "textgrid", "eaf".
    ``embed``         the html page has the sound within it, in place of a link to the recording.
    ``beside``        without an output folder, put results beside their inputs.
    ``language``      "en" or None: the models know English.
    ``plain``         words as they are recognised: in small letters, without marks, numbers in words. Else a
                      recogniser that names a model for it (``transcription.readable``) writes sentences.
    ``words``         whether json has the words of a segment, with their times.
    ``separate``      pull two speakers apart first, and label what each says "S1", "S2".
    ``separate_model``  name or folder of another separation model.
    ``speakers``      of people who take turns, label who says what "S1", "S2", by their voices: "auto", or
                      how many there are.
    ``speaker_names`` names in place of "S1", "S2", in this order, parted by commas in one text; those without
                      one keep their label.

    ``channel`` may also be "each": what is said in each channel, labelled "S1", "S2", as in recordings of
    telephone calls.
    """

    formats: Sequence[str] = ("txt",)
    embed: bool = False
    beside: bool = False
    language: str | None = None
    plain: bool = False
    words: bool = True
    separate: bool = False
    separate_model: str | os.PathLike[str] | None = None
    speakers: int | str | None = None
    speaker_names: Sequence[str] | str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.speakers, str) and self.speakers.isdecimal() and self.speakers.isascii():
            self._becomes("speakers", int(self.speakers[:9]))
        names = self.speaker_names
        if names is not None:
            names = names.split(",") if isinstance(names, str) else names
            self._becomes("speaker_names", tuple(name.strip() for name in names))
        self._becomes("formats", (self.formats,) if isinstance(self.formats, str) else tuple(self.formats))

    @property
    def by_channel(self) -> bool:
        """Whether the recording's channels are the speakers."""
        return self.channel == EACH

    @property
    def tells_speakers(self) -> bool:
        """Whether segments are labelled with who speaks."""
        return self.by_channel or self.separate or self.speakers is not None

    @property
    def names(self) -> dict[str, str]:
        """The names that the user gave, by label."""
        return {f"S{i}": name for i, name in enumerate(self.speaker_names or (), 1)}

    def check(self) -> None:
        from slyther_cli.decode.elan import load_pympi
        from slyther_cli.decode.formats import BY_WORDS, chosen_formats

        super().check()
        if self.language is not None and self.language.lower() not in LANGUAGES:
            raise UsageError(f"the language {self.language!r} is not known: the models write English (en)")
        for name, value in self.of(LayoutOptions).items():
            option = f"--{name.replace('_', '-')}"
            if value and not self.words:
                raise UsageError(f"{option} needs the times of the words: leave out --word-timestamps")
            if value is not None and value is not False and value < 1:
                raise UsageError(f"{option} must be at least 1")
        if self.separate_model is not None and not self.separate:
            raise UsageError("--separate-model needs --separate")
        if self.by_channel and self.separate:
            raise UsageError("--separate takes one channel or their mix: leave out --channel each")
        chosen = chosen_formats(self.formats)
        if not self.words and (form := next((one for one in chosen if one in BY_WORDS), None)):
            raise UsageError(f"-f {form} needs the times of the words: leave out --word-timestamps")
        if "rttm" in chosen and not self.tells_speakers:
            raise UsageError("-f rttm says who speaks when: add --speakers, --separate or --channel each")
        if "eaf" in chosen:
            load_pympi()  # that it is there
        if self.embed and "html" not in chosen:
            raise UsageError("--embed puts the sound into a page: add -f html")
        self._check_speakers()

    def _check_speakers(self) -> None:
        many, names = self.speakers, self.speaker_names or ()
        if many is not None and many != AUTO and not (type(many) is int and 1 <= many <= MOST_SPEAKERS):
            raise UsageError(f"--speakers {shorten(many)}: auto, or a number from 1 to {MOST_SPEAKERS}")
        if many is not None and (self.separate or self.by_channel):
            other = "--separate" if self.separate else "--channel each"
            raise UsageError(f"--speakers and {other} both say who speaks: leave one out")
        if self.speaker_names is not None and not self.tells_speakers:
            raise UsageError("--speaker-names needs --speakers, --separate or --channel each")
        for name in names:
            shown = name.translate(JOINERS)
            if not shown or not shown.isprintable() or len(name) > LONGEST_NAME:
                raise UsageError(f"--speaker-names: {shorten(name)} is no name")
            if LABEL.fullmatch(name) or names.count(name) > 1:
                raise UsageError(f"--speaker-names: {shorten(name)} would stand for two")
        if isinstance(many, int) and len(names) > many:
            raise UsageError(f"--speaker-names has {len(names)} names for --speakers {many}")
