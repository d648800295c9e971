"""PocketSphinx with the en-us model that its package brings: the recogniser that a user can install offline,
and the anchor of our word error rates.

PocketSphinx 5 (BSD), Huggins-Daines et al. 2006. Its defaults: trigram model, two passes and a search of the
lattice. An utterance is decoded as one; a longer recording is cut at pauses by its own Segmenter first, as
its manual says. Imported only here.
"""

from __future__ import annotations

import importlib.util
import io

import numpy as np

from slyther_cli.errors import UsageError

RATE = 16_000
LONGEST_UTTERANCE = 45.0  # seconds; beyond, its Segmenter cuts
HOW_TO_INSTALL = "pip install pocketsphinx"


class PocketSphinx:
    """Call with float32 [n] at 16 kHz, get the text. Raises UsageError if the package is missing."""

    name, rate = "pocketsphinx", RATE

    def __init__(self) -> None:
        if importlib.util.find_spec("pocketsphinx") is None:
            raise UsageError(f"--against pocketsphinx needs the package: {HOW_TO_INSTALL}")
        import pocketsphinx

        self._package = pocketsphinx
        self._decoder = pocketsphinx.Decoder(loglevel="FATAL")

    def __call__(self, samples: np.ndarray) -> str:
        pcm = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        if len(samples) <= LONGEST_UTTERANCE * RATE:
            return self._utterance(pcm)
        pieces = self._package.Segmenter(sample_rate=RATE).segment(io.BytesIO(pcm))
        return " ".join(filter(None, (self._utterance(piece.pcm) for piece in pieces)))

    def _utterance(self, pcm: bytes) -> str:
        self._decoder.start_utt()
        self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found else ""
