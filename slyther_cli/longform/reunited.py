"""Two stems whose voices keep their sides: what a separator gives is kept until its end, then given again,
and the pieces that lie in the wrong stem (``identity``) are exchanged. Where one voice sounds in both stems,
both go into the stem of that voice. Where two speak at once, what the separator gave stays as it is.

    blocks of stems -> spool, powers of frames -> pieces -> embeddings -> what goes where -> blocks

A second pass over what was computed, not a second computation. It depends on the stems alone: a resumed job
that gives the same stems gives the same result, and the stems sum to what they summed to. Memory: what
``pieces`` and ``identity`` take, and a spool that goes to an unnamed file when it is larger than
``IN_MEMORY``.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from slyther_cli.errors import OutputError
from slyther_cli.longform import identity
from slyther_cli.longform.pieces import (
    BELOW_LOUD_DB,
    CLEAR_DB,
    FRAME_SECONDS,
    Bools,
    Places,
    Powers,
    pauses,
    pieces,
    runs,
    short_pieces,
)
from slyther_cli.runtime import temporary_folder

Embed = Callable[[np.ndarray], np.ndarray]
"""Samples [time] at the stems' rate -> a vector of length 1."""

IN_MEMORY = 16 << 20  # bytes
BLOCK = 1 << 16  # samples
SHORTEST = 0.2  # seconds of one voice that are listened to at all
FADE = 0.005  # seconds in which two stems change sides
OVERLAPPED = 0.12  # of what is heard: people who take turns have less overlap
TRUSTED = 10  # times the evidence is needed against a separator that has much overlap to go by
ONE = 0.5  # correlation of two stems that hold one voice in a piece
AUDIBLE_DB = 24.0  # below the voice: leakage that is worth a word
AS_IS, EXCHANGED = (1.0, 0.0), (0.0, 1.0)  # of each stem, what goes into file 0; the rest goes into file 1


class Found(NamedTuple):
    """``spans``: samples whose voice was put into the other file, from and to. ``gathered``: those of one
    voice that was heard in both files and is now in one. ``voices``: None where too little is said.
    ``turns``: there is little overlap."""

    spans: list[tuple[int, int]]
    gathered: list[tuple[int, int]]
    voices: identity.Voices | None
    turns: bool

    def notes(self, rate: int) -> list[str]:
        """What the user should know, a sentence each."""
        if self.turns and self.voices is not None and self.voices.one:
            return [
                "the recording seems to hold one voice only, or two that are too much alike: its stretches "
                "stay in the files where they are"
            ]
        both = " in which one voice was heard in both files"
        return [
            *([f"{_were(self.spans, rate)} put into the other file, by voice"] if self.spans else []),
            *([f"{_were(self.gathered, rate, both)} put into one"] if self.gathered else []),
        ]


class Plan(NamedTuple):
    """``edges`` [changes]: the samples from which on other ``shares`` [changes + 1, 2] of both stems go into
    file 0."""

    edges: np.ndarray
    shares: np.ndarray


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
    with _Spool(folder or temporary_folder()) as spool:
        powers = _kept(stems, spool, round(FRAME_SECONDS * rate))
        found, plan = _found(spool, powers, rate, embed)
        if on_found:
            on_found(found)
        yield from _given(spool, plan, round(FADE * rate))


def file_bytes(samples: int) -> int:
    """Of the file that is needed for so many samples of both stems; 0 where there is room in memory."""
    need = 8 * samples
    return need if need > IN_MEMORY else 0


class _Spool(tempfile.SpooledTemporaryFile[bytes]):
    """Bytes in memory, of more than ``IN_MEMORY`` in an unnamed file in ``folder``, which is made for it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(IN_MEMORY, dir=str(folder))
        self.folder = folder

    def rollover(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        super().rollover()

    def keep(self, data: bytes) -> None:
        """Write so that nothing is left to be written. Raises OutputError."""
        try:
            self.write(data)
            self.flush()
        except OSError as error:
            with contextlib.suppress(OSError):
                self.close()
            why = f"{self.folder}: cannot hold what was separated: {error.strerror or error}"
            raise OutputError(f"{why}; choose another --work-dir") from None


def _kept(stems: Iterator[np.ndarray], spool: _Spool, frame: int) -> Powers:
    """Write the stems, return the powers of their frames; the last frame may be shorter."""
    kept, rest = [], np.zeros((2, 0), np.float32)
    for block in stems:
        spool.keep(np.ascontiguousarray(block.T, np.float32).tobytes())
        rest = np.concatenate((rest, block), 1)
        whole = rest.shape[1] // frame * frame
        kept.append(_products(rest[:, :whole].reshape(2, -1, frame)))
        rest = rest[:, whole:]
    if rest.shape[1]:
        kept.append(_products(rest[:, np.newaxis]))
    means = np.concatenate(kept, 1) if kept else np.zeros((3, 0), np.float32)
    return Powers(means[:2], means[2])


def _products(frames: np.ndarray) -> np.ndarray:
    """Samples [2, frames, n] -> the means of the squares of each stem and of their product [3, frames]."""
    return np.stack([(a * b).mean(1, dtype=np.float32) for a, b in (frames[[0, 0]], frames[[1, 1]], frames)])


def _read(spool: IO[bytes], start: int, end: int) -> np.ndarray:
    """Samples [2, n] of the spool, fewer where it ends."""
    spool.seek(8 * start)
    return np.frombuffer(spool.read(8 * (end - start)), np.float32).reshape(-1, 2).T


def _found(spool: IO[bytes], powers: Powers, rate: int, embed: Embed) -> tuple[Found, Plan]:
    cut, overlap = pieces(powers)
    noise = powers.background(cut)
    overlap &= ~noise
    frame, heard = round(FRAME_SECONDS * rate), powers.heard()
    within = np.repeat(overlap, cut[:, 1] - cut[:, 0])
    turns = bool((within & heard).sum() <= OVERLAPPED * heard.sum())
    listener = _Listener(spool, powers, frame, embed)
    seconds, embeddings = listener.embedded(cut, overlap, noise)
    voices = None if embeddings is None else identity.two_voices(embeddings, seconds)
    if voices is None or voices.one:
        found = Found([], [], voices, turns)
        return found, Plan(np.zeros(0, np.int64), np.array([AS_IS]))
    cut, of = short_pieces(powers, cut, overlap | noise)
    overlap, noise = overlap[of], noise[of]
    seconds, embeddings = listener.embedded(cut, overlap, noise)
    evidence = np.zeros(len(cut)) if embeddings is None else voices.evidence_of(embeddings, seconds)
    louder = powers.louder(cut)
    pause = np.where(overlap | np.pad(overlap, (1, 0))[:-1], np.inf, pauses(heard, cut))
    stay = identity.STAY * (1 if turns else TRUSTED)
    swap = identity.exchanged(evidence, stay, louder=louder, pause=pause, fixed=overlap)
    one = ~overlap & (powers.correlation(cut) > ONE) & turns
    shares = np.where(swap[:, None], EXCHANGED, AS_IS)
    shares[one] = (louder[one] == swap[one])[:, None]  # all into the file of its voice
    changes = 1 + np.flatnonzero((shares[1:] != shares[:-1]).any(1))
    plan = Plan(frame * cut[changes, 0], shares[np.append(0, changes)])
    said = seconds.any(1)  # of silence and noise there is nothing to tell
    aloud = one & said & powers.leaks(cut, AUDIBLE_DB)
    return Found(_spans(cut, swap & said, frame), _spans(cut, aloud, frame), voices, turns), plan


@dataclass
class _Listener:
    """Embeds pieces of the spool's stems, each once."""

    spool: IO[bytes]
    powers: Powers
    frame: int
    embed: Embed
    known: dict[tuple[int, int, int], tuple[float, np.ndarray] | None] = field(default_factory=dict)

    def embedded(self, cut: Places, overlap: Bools, noise: Bools) -> tuple[np.ndarray, np.ndarray | None]:
        """The seconds of clear speech of each piece's stems [pieces, 2] and their embeddings [pieces, 2,
        dim], of the recording under the louder stem where one speaks alone, of each stem where both do; 0 s
        where they are too short or ``noise``. Embeddings are None where nothing is said."""
        clear, louder = self.powers.clear(), self.powers.louder(cut)
        alone = self.powers.heard(CLEAR_DB), self.powers.heard(BELOW_LOUD_DB)
        seconds, out = np.zeros((len(cut), 2)), None
        for i, (start, end) in enumerate(cut.tolist()):
            for stem in () if noise[i] else (0, 1) if overlap[i] else (int(louder[i]),):
                place = start, end, stem
                if place not in self.known:
                    said, least = ([clear[stem]], identity.SHORTEST) if overlap[i] else (alone, SHORTEST)
                    self.known[place] = self._heard(start, end, said, least, stem if overlap[i] else None)
                if (found := self.known[place]) is not None:
                    seconds[i, stem], embedding = found
                    out = np.zeros((len(cut), 2, len(embedding))) if out is None else out
                    out[i, stem] = embedding
        return seconds, out

    def _heard(
        self, start: int, end: int, said: Sequence[Bools], least: float, stem: int | None
    ) -> tuple[float, np.ndarray] | None:
        """The seconds and the embedding of frames ``start`` to ``end`` where the first of ``said`` that holds
        so many seconds has speech; ``stem``: None is both together."""
        for frames in said:
            inside = start + np.flatnonzero(frames[start:end])
            if FRAME_SECONDS * len(inside) >= least:
                first, last = int(inside[0]), int(inside[-1]) + 1
                samples = _read(self.spool, self.frame * first, self.frame * last)
                voiced = np.repeat(frames[first:last], self.frame)[: samples.shape[1]]
                voice = samples.sum(0) if stem is None else samples[stem]
                return FRAME_SECONDS * len(inside), self.embed(voice[voiced])
        return None


def _were(spans: list[tuple[int, int]], rate: int, which: str = "") -> str:
    seconds = sum(end - start for start, end in spans) / rate
    stretches = f"1 stretch{which} was" if len(spans) == 1 else f"{len(spans)} stretches{which} were"
    return f"{seconds:.{int(seconds < 10)}f} s in {stretches}"


def _spans(cut: Places, which: Bools, frame: int) -> list[tuple[int, int]]:
    """The samples of these pieces, from and to, neighbours joined."""
    return [(frame * int(cut[start, 0]), frame * int(cut[end - 1, 1])) for start, end in runs(which)]


def _given(spool: IO[bytes], plan: Plan, fade: int) -> Iterator[np.ndarray]:
    """All of the spool, mixed by the plan, with a ramp of ``fade`` samples where its shares change."""
    at, shares = 0, plan.shares.astype(np.float32)
    while (block := _read(spool, at, at + BLOCK)).shape[1]:
        where = np.arange(at, at + block.shape[1])
        passed = np.searchsorted(plan.edges, where, "right")
        first = shares[passed].T
        if fade and len(plan.edges):
            before = np.maximum(passed - 1, 0)
            new = np.clip((where - plan.edges[before] + 1) / (fade + 1), 0, 1).astype(np.float32)
            first = np.where(passed > 0, new * first + (1 - new) * shares[before].T, first)
        yield np.stack(((first * block).sum(0), ((1 - first) * block).sum(0)))
        at += block.shape[1]
