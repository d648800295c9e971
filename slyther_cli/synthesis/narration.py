"""A book read aloud: every sentence of every chapter, in order, into the files that it becomes.

Within a file models that know how long a symbol lasts carry their state from sentence to sentence; every file
is begun anew, so that it does not depend on the others.
"""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from slyther_cli.english.normalise import foreign_words
from slyther_cli.english.phonemes import Spelling, shorten
from slyther_cli.errors import InputError
from slyther_cli.synthesis.journal import Journal
from slyther_cli.synthesis.speaker import Speaker
from slyther_cli.synthesis.speech_check import Verdict
from slyther_cli.synthesis.speech_file import SpeechFile
from slyther_cli.synthesis.tracks import Part, Track, chapter_title

PARAGRAPH_SECONDS = 0.4
CHAPTER_SECONDS = 1.5
Event = dict[str, Any]


@dataclass
class Tally:
    """What was spoken so far, over all files. ``by_rule``: words that the dictionary lacks; ``dropped``:
    characters that have no sound; ``foreign``: words of other scripts."""

    frames: int = 0
    sentences: int = 0
    retried: int = 0
    doubtful: int = 0
    by_rule: dict[str, None] = field(default_factory=dict)
    dropped: dict[str, None] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)

    def spelled(self, text: str, spelling: Spelling) -> None:
        self.by_rule |= dict.fromkeys(spelling.by_rule)
        if spelling.dropped:
            self.dropped |= dict.fromkeys(spelling.dropped)
            self.foreign |= dict.fromkeys(foreign_words(text))

    def notes(self) -> list[str]:
        """What a user should know of the words."""
        notes = []
        if self.by_rule:
            notes.append(f"not in the dictionary, spoken by rule: {_some(list(self.by_rule))}")
        if self.foreign:
            notes.append(f"only English is spoken, left out: {_some(list(self.foreign))}")
        if dropped := "".join(c for c in self.dropped if unicodedata.category(c)[0] not in "LM"):
            notes.append(f"without a sound here, left out: {shorten(dropped)}")
        if self.doubtful:
            of_all = f"{self.doubtful} of {self.sentences} sentences"
            notes.append(f"{of_all} fail the speech check: try another --seed")
        return notes


class Narration:
    """``tracks``: all files that there are to be. ``tell`` gets events; ``began``: when the job did, of
    ``time.monotonic``. ``at_once``: sentences are heard while they are made, see ``Speaker.say_at_once``;
    without a journal and subtitles. ``tally``: what was spoken so far."""

    def __init__(
        self,
        speaker: Speaker,
        tracks: Sequence[Track],
        tell: Callable[[Event], None],
        began: float,
        at_once: bool = False,
    ) -> None:
        self.speaker, self.tell, self.began, self.tally = speaker, tell, began, Tally()
        self.at_once = at_once
        parts = [part for track in tracks for part in track.parts]
        self.by_chapter = speaker.options.chapters == "files"
        self._chapters, self._sentences = len(parts), sum(len(part.sentences) for part in parts)
        self._characters = sum(part.characters for part in parts)
        self._passed = self._new = self._index = 0  # characters, those of this run; sentences
        self._started: float | None = None

    def skip(self, track: Track) -> None:
        """A file that is there already."""
        self._index += sum(len(part.sentences) for part in track.parts)
        self._passed += sum(part.characters for part in track.parts)
        if self.by_chapter:
            self._tell_chapter(track.first, track.parts[0], (0.0, 0.0), track, kept=True)

    @torch.inference_mode()
    def read(self, track: Track, journal: Journal | None) -> None:
        """A track, into its files. Raises InputError: it has no words; OutputError."""
        self._started = self._started or time.monotonic()
        file = SpeechFile(track, self.speaker.codec, self.speaker.options, self.speaker.filter())
        before = self.tally.sentences
        try:
            self._read_into(file, track, journal)
            if self.tally.sentences == before:
                raise InputError("there is nothing to say: the text has no words")
            file.commit()
        except BaseException:
            file.abort()
            raise
        self.tally.frames += file.frames
        if journal:
            journal.remove()
        if self.by_chapter:
            self._tell_chapter(track.first, track.parts[0], (0.0, file.at), track)

    def _read_into(self, file: SpeechFile, track: Track, journal: Journal | None) -> None:
        context, carry, number = self.speaker.voicing.start(), 0.0, -1
        for chapter, part in enumerate(track.parts, track.first):
            file.mark(chapter_title(part, chapter))
            begun, final = file.at, part is track.parts[-1]
            for left, sentence in zip(reversed(range(len(part.sentences))), part.sentences, strict=True):
                number, self._index = number + 1, self._index + 1
                spelling = self.speaker.spell(sentence.text)
                self.tally.spelled(sentence.text, spelling)
                self._passed += len(sentence.text)
                known = journal.read(number) if journal and spelling.spoken else None
                if spelling.spoken:
                    asked = number, spelling, context, carry
                    if self.at_once:
                        said, verdict, tries = self.speaker.say_at_once(*asked, file.hear)
                    else:
                        said, verdict, tries = known or self.speaker.say(*asked)
                        if journal and known is None:
                            journal.write(number, said, verdict, tries)
                        file.add(sentence.text, spelling, said)
                    if known is None:
                        self._new += len(sentence.text)
                    context, carry = said.context, said.rest
                if left and sentence.last:
                    file.pause(PARAGRAPH_SECONDS)
                elif not left and not final:
                    file.pause(CHAPTER_SECONDS)
                if spelling.spoken:
                    readings = [f"{word}: {phones}" for word, phones in spelling.readings]
                    seconds = said.codes.shape[1] / self.speaker.codec.frame_rate
                    about = {"text": sentence.text, "kept": known is not None, "readings": readings,
                             "seconds": round(seconds, 3)}  # fmt: skip
                    self._tell_sentence(about, (verdict, tries), chapter, file)
            if self._chapters > 1 and not self.by_chapter:
                self._tell_chapter(chapter, part, (begun, file.at))

    def _tell_sentence(
        self, about: Event, outcome: tuple[Verdict, int], chapter: int, file: SpeechFile
    ) -> None:
        (verdict, tries), tally, rate = outcome, self.tally, file.rate
        tally.sentences += 1
        tally.retried, tally.doubtful = tally.retried + (tries > 1), tally.doubtful + bool(verdict.problems)
        end, wall = (tally.frames + file.frames) / rate, time.monotonic() - self.began
        event = {"event": "sentence", "index": self._index - 1, "of": self._sentences, **about,
                 "tries": tries, "heard": verdict.heard, "problems": list(verdict.problems),
                 "end_seconds": round(end, 3), "wall_seconds": round(wall, 3),
                 "left_seconds": self._left_seconds()}  # fmt: skip
        if self._chapters > 1:
            event |= {"chapter": chapter, "chapters": self._chapters}
        self.tell(event)

    def _left_seconds(self) -> float | None:
        """How long the rest will take; None until something was spoken in this run."""
        if not self._new or self._started is None:
            return None
        pace = (time.monotonic() - self._started) / self._new
        return round((self._characters - self._passed) * pace, 1)

    def _tell_chapter(
        self,
        number: int,
        part: Part,
        span: tuple[float, float],
        track: Track | None = None,
        kept: bool = False,
    ) -> None:
        """A chapter is complete; ``track``: what it became, where it is a file of its own."""
        outputs = {key: str(path) for key, path in track.outputs().items()} if track else {}
        self.tell({"event": "chapter", "number": number, "of": self._chapters,
                   "title": chapter_title(part, number), "start": round(span[0], 3),
                   "end": round(span[1], 3), "outputs": outputs, "kept": kept})  # fmt: skip


def _some(words: list[str]) -> str:
    return ", ".join(map(shorten, words[:8])) + (" ..." if len(words) > 8 else "")
