"""Two stems whose voices keep their sides: what a separator gives is kept until its end, then given again,
and the stretches that lie in the wrong stem (``identity``) are exchanged. Where both speak at once, what the
separator gave stays as it is.

    blocks of stems -> spool, powers of frames -> embeddings of the pieces -> what to exchange -> blocks

A second pass over what was computed, not a second computation. It depends on the stems alone: a resumed job
that gives the same stems gives the same result. Memory: what ``identity`` takes, and a spool that goes to an
unnamed file when it is larger than ``IN_MEMORY``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from slyther_cli.errors import OutputError
from slyther_cli.longform import identity

Embed = Callable[[np.ndarray], np.ndarray]
"""Samples [time] at the stems' rate -> a vector of length 1."""

IN_MEMORY = 64 << 20  # bytes
BLOCK = 1 << 16  # samples
LONGEST = 6.0  # seconds of a piece that are listened to
FADE = 0.005  # seconds in which two stems change sides


class Found(NamedTuple):
    """``spans``: samples that were exchanged, from and to. ``voices``: None where too little is said."""

    spans: list[tuple[int, int]]
    voices: identity.Voices | None
    pieces: int

    def notes(self, rate: int) -> list[str]:
        """What the user should know, a sentence each."""
        if self.voices is not None and self.voices.one:
            return [
                "the recording seems to hold one voice only: its stretches stay in the files where they are"
            ]
        if not self.spans:
            return []
        seconds = sum(end - start for start, end in self.spans) / rate
        return [
            f"{seconds:.0f} s in {len(self.spans)} stretches were put into the other file, by their voices"
        ]


def reunited(
    stems: Iterator[np.ndarray],
    rate: int,
    embed: Embed,
    folder: Path | None = None,
    on_found: Callable[[Found], None] | None = None,
) -> Iterator[np.ndarray]:
    """Blocks [2, n] float32 -> blocks of the same samples, some from the other stem.

    ``folder``: where the spool may go; by default that of temporary files. Raises :class:`OutputError`: the
    spool cannot be written.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY, dir=None if folder is None else str(folder)) as spool:
        power = _kept(stems, spool, round(identity.FRAME_SECONDS * rate))
        found = _found(spool, power, rate, embed)
        if on_found:
            on_found(found)
        yield from _exchanged(spool, found.spans, round(FADE * rate))


def _kept(stems: Iterator[np.ndarray], spool: IO[bytes], frame: int) -> np.ndarray:
    """Write the stems, return the mean powers of their frames [2, frames]; the last may be shorter."""
    powers, rest = [], np.zeros((2, 0), np.float32)
    for block in stems:
        try:
            spool.write(np.ascontiguousarray(block.T, np.float32).tobytes())
        except OSError as error:
            raise OutputError(f"what was separated cannot be kept: {error.strerror or error}") from None
        rest = np.concatenate((rest, block), 1)
        whole = rest.shape[1] // frame * frame
        powers.append(np.square(rest[:, :whole].reshape(2, -1, frame), dtype=np.float32).mean(2))
        rest = rest[:, whole:]
    if rest.shape[1]:
        powers.append(np.square(rest).mean(1, keepdims=True))
    return np.concatenate(powers, 1) if powers else rest


def _read(spool: IO[bytes], start: int, end: int) -> np.ndarray:
    """Samples [2, n] of the spool, fewer where it ends."""
    spool.seek(8 * start)
    return np.frombuffer(spool.read(8 * (end - start)), np.float32).reshape(-1, 2).T


def _found(spool: IO[bytes], power: np.ndarray, rate: int, embed: Embed) -> Found:
    active = identity.activity(power)
    cut, overlap = identity.parted_at_overlap(active, identity.pieces(active, power))
    clear = identity.clear(power)
    seconds = identity.speech_seconds(clear, cut)
    leaks = overlap & identity.one_leaks(power, cut)
    overlap &= ~leaks
    seconds[leaks, np.argmin(seconds[leaks], 1)] = 0.0  # what leaks is no voice of its own
    frame = round(identity.FRAME_SECONDS * rate)
    most = round(LONGEST / identity.FRAME_SECONDS)
    silent: np.ndarray | None = None
    rows: list[list[np.ndarray | None]] = []
    for (start, end), said in zip(cut.tolist(), seconds, strict=True):
        rows.append([None, None])
        for stem in np.flatnonzero(said >= identity.SHORTEST):
            frames = start + np.flatnonzero(clear[stem, start:end])[:most]
            samples = _read(spool, frame * int(frames[0]), frame * (int(frames[-1]) + 1))[stem]
            voiced = np.repeat(clear[stem, frames[0] : frames[-1] + 1], frame)[: len(samples)]
            rows[-1][stem] = embed(samples[voiced])
            silent = np.zeros_like(rows[-1][stem])
    if silent is None:
        return Found([], None, len(cut))
    voices = identity.two_voices(
        np.stack([[silent if x is None else x for x in row] for row in rows]), seconds
    )
    if voices is None or voices.one:
        return Found([], voices, len(cut))
    evidence = np.where(overlap, 0.0, voices.evidence)
    spans = identity.spans(cut, identity.exchanged(evidence) & ~overlap)
    return Found([(frame * start, frame * end) for start, end in spans], voices, len(cut))


def _exchanged(spool: IO[bytes], spans: list[tuple[int, int]], fade: int) -> Iterator[np.ndarray]:
    """All of the spool; inside of ``spans`` the stems have changed sides, with a ramp of ``fade`` samples."""
    at = 0
    ramps = np.array([edge for span in spans for edge in span])
    while (block := _read(spool, at, at + BLOCK)).shape[1]:
        where = np.arange(at, at + block.shape[1])
        passed = np.searchsorted(ramps, where, "right")
        share = (passed % 2).astype(np.float32)
        if fade and len(ramps):
            since = where - ramps[np.maximum(passed - 1, 0)]
            new = np.clip((since + 1) / (fade + 1), 0, 1).astype(np.float32)
            share = np.where(passed > 0, new * share + (1 - new) * (1 - share), share)
        yield block * (1 - share) + block[::-1] * share
        at += block.shape[1]
