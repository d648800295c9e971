"""Transcripts as people write them: sentences with marks and capitals, numbers in digits.

    words as recognised -> marks and capitals (a network that reads all of them, ``punctuate``)
      -> numbers (``decode.written``) -> segments that end where sentences do

The words of one voice are held until its last one, since the network reads in both directions: about one
kilobyte for each. Their times stay what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from slyther_cli.checkpoints.config import ModelConfig, shorten
from slyther_cli.checkpoints.places import resolve
from slyther_cli.decode.segments import Segment, Segmenter
from slyther_cli.decode.words import Word
from slyther_cli.decode.written import written_words
from slyther_cli.errors import ModelError

if TYPE_CHECKING:
    from slyther_cli.transcription.punctuate import Punctuator

KEY = "punctuation"  # of a recogniser's config: the model that punctuates what it writes
LIVE = "-live"  # the name of the causal model beside it, for live sound, ends so


class Readable:
    """Turns the plain segments of a recogniser into readable ones, cut anew by ``segmenter()``.

    Raises ModelError: the punctuation model is not here, damaged, or made for another task.
    """

    def __init__(self, punctuation: str, segmenter: Callable[[], Segmenter]) -> None:
        from slyther_cli.transcription.punctuate import Punctuator

        self.punctuator, self._segmenter = Punctuator(punctuation), segmenter

    def describe(self) -> str:
        """A line for ``-v``."""
        return f"marks and capitals by {self.punctuator.name}, numbers in digits; --plain leaves both out"

    def describe_live(self, marks: Punctuator | None) -> str:
        """The same for live sound. ``marks``: what :func:`live_punctuator` found."""
        if marks is None:
            name = self.punctuator.name + LIVE
            return f"plain words: {name}, which writes marks and capitals live, is not on this machine"
        ahead = marks.network.config.look_ahead
        return (
            f"marks and capitals by {marks.name}, numbers in digits: a word waits for {ahead} more, and for "
            "2 s at most; --plain leaves all out"
        )

    def __call__(self, segments: Iterable[Segment]) -> Iterator[Segment]:
        """All segments of one voice, or of several that take turns, in order of time."""
        words = [word for segment in segments for word in segment.words]
        segmenter = self._segmenter()
        yield from segmenter.push(self.words(words, round(segmenter.pause * segmenter.rate)))
        yield from segmenter.flush()

    def words(self, words: list[Word], pause: int) -> list[Word]:
        """The words with marks, capitals and digits; no number spans ``pause`` samples of silence."""
        turns = [i for i in range(1, len(words)) if words[i].speaker != words[i - 1].speaker]
        texts = self.punctuator.restore([word.text for word in words], turns)
        marked = [word._replace(text=text) for word, text in zip(words, texts, strict=True)]
        return written_words(marked, pause=pause)


def punctuation_of(config: ModelConfig) -> str | None:
    """The model that punctuates what this recogniser writes, if it names one. Raises ModelError."""
    name = config.extra.get(KEY)
    if name is None or (isinstance(name, str) and name):
        return name
    raise ModelError(f"model {config.name}: {KEY} is {shorten(name)}, not the name of a model")


def live_punctuator(punctuation: str) -> Punctuator | None:
    """The causal model beside that of this name, for live sound; None if it is not on this machine. Raises
    ModelError: it is damaged, made for another task, or not causal."""
    from slyther_cli.transcription.punctuate import Punctuator

    try:
        folder = resolve(punctuation + LIVE, "punctuate")
    except ModelError:
        return None
    found = Punctuator(folder)
    if not found.network.config.causal:
        raise ModelError(f"model {found.name} reads all of a text: for live sound it must be causal")
    return found
