"""PocketSphinx with the en-us model that its package brings: the recogniser that a user can install offline,
the anchor of our word error rates; and the aligner that tells when each phone of a known text was said.

PocketSphinx 5 (BSD), Huggins-Daines et al. 2006. Its defaults: trigram model, two passes and a search of the
lattice. An utterance is decoded as one; a longer recording is cut at pauses by its own Segmenter first, as
its manual says. Imported only here.
"""

from __future__ import annotations

import importlib.util
import io
from typing import Any

import numpy as np

from slyther_cli.english.phonemes import pronounce
from slyther_cli.errors import UsageError

RATE = 16_000
LONGEST_UTTERANCE = 45.0  # seconds; beyond, its Segmenter cuts
HOW_TO_INSTALL = "pip install pocketsphinx"


def package(what: str) -> Any:
    """The installed package. Raises UsageError, saying what needs it, if it is missing."""
    if importlib.util.find_spec("pocketsphinx") is None:
        raise UsageError(f"{what} needs the package: {HOW_TO_INSTALL}")
    import pocketsphinx

    return pocketsphinx


class PocketSphinx:
    """Call with float32 [n] at 16 kHz, get the text. Raises UsageError if the package is missing."""

    name, rate = "pocketsphinx", RATE

    def __init__(self) -> None:
        self._package = package("--against pocketsphinx")
        self._decoder = self._package.Decoder(loglevel="FATAL")

    def __call__(self, samples: np.ndarray) -> str:
        pcm = _pcm(samples)
        if len(samples) <= LONGEST_UTTERANCE * RATE:
            return self._utterance(pcm)
        pieces = self._package.Segmenter(sample_rate=RATE).segment(io.BytesIO(pcm))
        return " ".join(filter(None, (self._utterance(piece.pcm) for piece in pieces)))

    def _utterance(self, pcm: bytes) -> str:
        _decode(self._decoder, pcm)
        found = self._decoder.hyp()
        return found.hypstr if found else ""


class PhoneAligner:
    """Forced alignment by its hidden Markov models, words first and then their phones."""

    rate = RATE

    def __init__(self) -> None:
        # With the best path through the lattice, a word at the end may last one frame: too short to align.
        self._decoder = package("aligning").Decoder(lm=None, bestpath=False, loglevel="FATAL")

    def __call__(self, samples: np.ndarray, words: list[str]) -> list[tuple[str, float]]:
        """float32 [n] at 16 kHz and its words in small letters -> phones, "SIL" for pauses, with their ends
        in seconds; [] where the sound does not fit the words."""
        for word in dict.fromkeys(words):
            if self._decoder.lookup_word(word) is None:
                phones = (phone.rstrip("012") for phone in pronounce(word)[0])
                self._decoder.add_word(word, " ".join(phones), True)
        pcm, decoder = _pcm(samples), self._decoder
        try:
            decoder.set_align_text(" ".join(words))
            _decode(decoder, pcm)
            if decoder.hyp() is None:
                return []
            decoder.set_alignment()
            _decode(decoder, pcm)
        except RuntimeError:  # it did not reach the last word
            return []
        return [
            (phone.name, (phone.start + phone.duration) / 100)
            for word in decoder.get_alignment()
            for phone in word
        ]


def _decode(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _pcm(samples: np.ndarray) -> bytes:
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
