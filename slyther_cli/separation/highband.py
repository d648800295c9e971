"""The stems of a separator of a low rate, with what the recording has above its band.

A model at 8 kHz hears nothing above 4 kHz. What its stems lack of the recording there is shared out between
them, frame by frame and band by band, as a small network (``models.highband``) judges by the stems. So the
stems still sum to the recording, and a voice alone keeps all of its sound, at any sample rate.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from slyther_cli.models.highband import HIGH_HZ, LOW_HZ, bands, hop

DEFAULT_MODEL = "highband-8k"
FRAMES = 128  # computed at once, whatever the blocks


@lru_cache(maxsize=1)
def network() -> Any:
    """The network that comes with slyther. Raises :class:`ModelError`: it is not on this machine."""
    from slyther_cli.checkpoints import store

    return store.load(DEFAULT_MODEL, expect_task="widen")[0]


def fills(model_rate: int, source_rate: int) -> bool:
    """Whether there is a band to fill: the recording's rate above that of the only models it is made for."""
    return model_rate == 8000 and source_rate > model_rate


class HighBand:
    """``push`` recording and stems, get both as far as they are finished; the same samples whatever the
    blocks.

    A sample is finished when the frames that the network sees around it are there: ``delay`` samples later
    at most.
    """

    def __init__(self, net: Any, rate: int, n_speakers: int) -> None:
        self.net, self.hop = net, hop(rate)
        self.low, self.high = bands(LOW_HZ, rate), bands(HIGH_HZ, rate)
        self.window = torch.hann_window(2 * self.hop).sqrt()
        around = net.context
        self.delay = (FRAMES + 2 * around + 2) * self.hop
        # Frame t begins at t * hop; ``around`` frames of silence and half a frame come before the first.
        self.held = torch.zeros(1 + n_speakers, (around + 1) * self.hop)
        self.ahead = torch.zeros(n_speakers, self.hop)  # what the last frame adds to the next samples
        self.to_drop = self.hop  # before the recording's first sample
        self.taken = self.given = 0

    def push(self, whole: np.ndarray, stems: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Samples of the recording [n] and of its stems [n_speakers, n] -> finished ones, [m] and
        [n_speakers, m]."""
        self.taken += len(whole)
        return self._run(torch.from_numpy(np.concatenate((whole[np.newaxis], stems)).astype(np.float32)))

    def flush(self) -> tuple[np.ndarray, np.ndarray]:
        """The rest: as many samples come out as went in."""
        left = self.taken - self.given
        whole, stems = self._run(torch.zeros(len(self.held), self.delay + self.hop))
        self.given = self.taken
        return whole[:left], stems[:, :left]

    @torch.inference_mode()
    def _run(self, block: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        self.held = torch.cat((self.held, block), 1)
        done = [self.held[:, :0]]
        need = (FRAMES + 2 * self.net.context + 1) * self.hop
        while self.held.shape[1] >= need:
            done.append(self._filled(self.held[:, :need]))
            self.held = self.held[:, FRAMES * self.hop :]
        out = torch.cat(done, 1)
        drop = min(self.to_drop, out.shape[1])
        self.to_drop -= drop
        finished = out[:, drop:].numpy()
        self.given += finished.shape[1]
        return finished[0], finished[1:]

    def _filled(self, sound: torch.Tensor) -> torch.Tensor:
        """[1 + n_speakers, need] -> recording and stems of FRAMES hops, the first after ``context``."""
        around, size = self.net.context, FRAMES * self.hop
        rest = sound[0] - sound[1:].sum(0)
        both = torch.cat((rest[None], sound[1:]))
        spectra = torch.fft.rfft(both.unfold(1, 2 * self.hop, self.hop) * self.window)  # [.., frames, bins]
        power = spectra.abs().square().transpose(1, 2)
        shares = self.net(self.low @ power[1:], self.high @ power[0])[:, :, around:-around]
        gains = torch.einsum("sbt,bf->stf", shares, self.high)  # none below the first band
        parts = torch.fft.irfft(spectra[0, around:-around] * gains, n=2 * self.hop) * self.window
        added = parts[..., : self.hop].flatten(1)
        added[:, : self.hop] += self.ahead
        added[:, self.hop :] += parts[:, :-1, self.hop :].flatten(1)
        self.ahead = parts[:, -1, self.hop :].clone()
        start = around * self.hop
        out = sound[:, start : start + size].clone()
        out[1:] += added
        return out


def filled(
    pairs: Iterator[tuple[np.ndarray, np.ndarray]], rate: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Recording [n] and stems [n_speakers, n] at ``rate``, block by block -> the same with the high band in
    the stems. Raises :class:`ModelError`: the network is not on this machine."""
    band = None
    for whole, stems in pairs:
        band = band or HighBand(network(), rate, len(stems))
        yield band.push(whole, stems)
    if band is not None:
        yield band.flush()
