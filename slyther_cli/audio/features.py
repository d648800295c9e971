"""Log mel filterbank features (Fbank) of a recording, whole or as a stream, and their normalisation.

Source: papers.md 2.1 (Speech Slytherin's recognition front end, which is SpeechBrain's): 16 kHz, 80 mel bands
from 0 to 8000 Hz, a Hamming window centred on every 10 ms, zeros beyond the edges, 10 log10 of the power with
a floor of 1e-10, and nothing more than 80 dB below the loudest value of the recording.

That last clip needs the whole recording before its first frame. A stream has three ways:
:meth:`Fbank.loudest` over the recording first and its value as ``ceiling`` (exact); no ceiling, which takes
the loudest value *so far* and differs from the exact one only for values that lie more than 80 dB below a
maximum that comes later; or ``causal=True``, where the running maximum is the definition for whole and stream
alike, so that a live model hears what it was trained on.

Frames are computed on a grid of tiles of ``TILE`` frames from the recording's start, each padded to the full
tile, so a stream gives the same bits as the whole whatever the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

TILE = 128
FLOOR = 1e-10
TOP_DB = 80.0


def mel_bands(n_mels: int, n_fft: int, sample_rate: int, f_max: float = 8000.0) -> Tensor:
    """Triangles over the bins of a power spectrum, [n_fft // 2 + 1, n_mels] float32.

    Centres are equidistant in mel = 2595 log10(1 + Hz / 700). Each triangle falls as fast as it rises, over
    the distance to the centre below (SpeechBrain's shape; the common one would fall over the wider distance
    to the centre above).
    """
    top = 2595 * math.log10(1 + f_max / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    centres, widths = edges[1:-1], np.diff(edges)[:-1]
    bins = np.linspace(0, sample_rate // 2, n_fft // 2 + 1)[:, None]
    return torch.from_numpy(np.maximum(0, 1 - np.abs(bins - centres) / widths).astype(np.float32))


class Fbank(nn.Module):
    """Samples [batch, n] in [-1, 1] -> decibels [batch, frames, n_mels], a frame every ``hop`` samples.

    ``window`` and ``hop`` are in samples; the window sits in the middle of ``n_fft``. No parameters, no
    entries in a state dict.
    """

    window: Tensor
    bands: Tensor

    def __init__(
        self,
        n_mels: int = 80,
        n_fft: int = 400,
        window: int = 400,
        hop: int = 160,
        sample_rate: int = 16000,
        causal: bool = False,
    ):
        super().__init__()
        if window > n_fft or hop > window:
            raise ValueError(f"hop {hop} <= window {window} <= n_fft {n_fft} does not hold")
        self.n_mels, self.n_fft, self.hop, self.causal = n_mels, n_fft, hop, causal
        left = (n_fft - window) // 2
        shape = F.pad(torch.hamming_window(window, device="cpu"), (left, n_fft - window - left))
        self.register_buffer("window", shape, persistent=False)
        bands = mel_bands(n_mels, n_fft, sample_rate, min(8000.0, sample_rate / 2))
        self.register_buffer("bands", bands, persistent=False)

    def frames(self, samples: int) -> int:
        """Frames of a recording: one at its start and one after every ``hop`` samples."""
        return 1 + samples // self.hop if samples else 0

    @property
    def tile_samples(self) -> int:
        """Samples that a tile of frames sees, from ``n_fft // 2`` before its first frame."""
        return (TILE - 1) * self.hop + self.n_fft

    def forward(self, samples: Tensor) -> Tensor:
        db = self.decibels(samples)
        if not db.shape[1]:
            return db
        return self.clip(db, None if self.causal else db.amax((1, 2), keepdim=True))[0]

    def decibels(self, samples: Tensor) -> Tensor:
        """Without the clip below the maximum."""
        frames = self.frames(samples.shape[1])
        if not frames:
            return samples.new_zeros(len(samples), 0, self.n_mels)
        tiles = -(-frames // TILE)
        left = self.n_fft // 2
        padded = F.pad(samples, (left, tiles * TILE * self.hop + self.n_fft - left - samples.shape[1]))
        step, width = TILE * self.hop, self.tile_samples
        return torch.cat([self.tile(padded[:, i * step :][:, :width]) for i in range(tiles)], 1)[:, :frames]

    def tile(self, samples: Tensor) -> Tensor:
        """[batch, tile_samples] -> [batch, TILE, n_mels]: always the same shapes, so always the same bits."""
        spectrum = torch.fft.rfft(samples.unfold(1, self.n_fft, self.hop) * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        return 10 * (power @ self.bands).clamp(min=FLOOR).log10()

    def clip(
        self, db: Tensor, ceiling: Tensor | float | None, so_far: float = -math.inf
    ) -> tuple[Tensor, float]:
        """Nothing below ``ceiling`` - 80 dB; without a ceiling, below the running maximum, which went up to
        ``so_far`` before these frames [batch, frames, n_mels]. Returns the frames and where the running
        maximum is now."""
        if ceiling is not None:
            return torch.maximum(
                db, torch.as_tensor(ceiling - TOP_DB, dtype=db.dtype, device=db.device)
            ), so_far
        if not db.numel():
            return db, so_far
        running = db.amax(2, keepdim=True).cummax(1).values.clamp(min=so_far)
        return torch.maximum(db, running - TOP_DB), float(running[:, -1].max())

    def loudest(self, blocks: Iterable[np.ndarray]) -> float:
        """The first pass over a recording, blocks [n] of samples: its largest value in dB, the ``ceiling`` of
        the second."""
        stream = FbankStream(self, math.inf)
        return max((float(part.max()) for part in stream.raw(blocks) if part.numel()), default=-math.inf)


class FbankStream:
    """Blocks of samples in, frames out, as soon as the samples that they see are in.

    ``ceiling`` in dB: see the head of this file. The concatenated frames equal ``fbank(all samples)`` bit for
    bit, given :meth:`Fbank.loudest` as ceiling, or a causal ``fbank`` and no ceiling.
    """

    def __init__(self, fbank: Fbank, ceiling: float | None = None):
        self.fbank, self.ceiling = fbank, ceiling
        self.so_far = -math.inf
        # the samples from the first that the tile in work sees; at the start, those before the recording
        self.held = torch.zeros(fbank.n_fft // 2, device=fbank.window.device)
        self.samples = self.given = 0  # samples taken, frames given

    def push(self, samples: np.ndarray | Tensor) -> Tensor:
        """[n] float32 -> the frames [m, n_mels] that became complete."""
        return self._clipped(self._push(samples))

    def flush(self) -> Tensor:
        """The last frames, which look beyond the recording's end."""
        return self._clipped(self._finish())

    def frames(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """All of a recording: [m, n_mels] a block, and once more at the end."""
        for part in self.raw(blocks):
            yield self._clipped(part)

    def raw(self, blocks: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """:meth:`frames` without the clip."""
        for block in blocks:
            yield self._push(block)
        yield self._finish()

    def _clipped(self, db: Tensor) -> Tensor:
        out, self.so_far = self.fbank.clip(db[None], self.ceiling, self.so_far)
        return out[0]

    def _push(self, samples: np.ndarray | Tensor) -> Tensor:
        if isinstance(samples, np.ndarray):
            samples = torch.from_numpy(np.array(samples, np.float32))  # a copy: the block may be read-only
        new = samples.to(self.held)
        self.samples += len(new)
        self.held = torch.cat([self.held, new])
        return self._give((self.samples - (self.fbank.n_fft - self.fbank.n_fft // 2)) // self.fbank.hop + 1)

    def _finish(self) -> Tensor:
        return self._give(self.fbank.frames(self.samples))

    def _give(self, upto: int) -> Tensor:
        """Frames from the first that was not given to ``upto``, tile by tile."""
        fbank, out = self.fbank, []
        while self.given < upto:
            first = self.given % TILE
            count = min(TILE - first, upto - self.given)
            seen = self.held[: fbank.tile_samples]
            out.append(
                fbank.tile(F.pad(seen, (0, fbank.tile_samples - len(seen)))[None])[0, first : first + count]
            )
            self.given += count
            if self.given % TILE == 0:
                self.held = self.held[TILE * fbank.hop :].clone()
        return torch.cat(out) if out else self.held.new_zeros(0, fbank.n_mels)


class InputNormalization(nn.Module):
    """(x - mean) / std of every band, over all of the training data; two buffers [n_mels], named as in
    SpeechBrain."""

    glob_mean: Tensor
    glob_std: Tensor

    def __init__(self, n_mels: int = 80):
        super().__init__()
        self.register_buffer("glob_mean", torch.zeros(n_mels))
        self.register_buffer("glob_std", torch.ones(n_mels))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.glob_mean) / self.glob_std.clamp(min=FLOOR)

    @torch.no_grad()
    def fit(self, features: Iterable[Tensor]) -> None:
        """Mean and std over all frames of ``features``, [..., n_mels] each. Raises ValueError below two
        frames."""
        n, total, squares = 0, torch.zeros(()), torch.zeros(())
        for x in features:
            x = x.reshape(-1, x.shape[-1]).double().cpu()
            n, total, squares = n + len(x), total + x.sum(0), squares + x.square().sum(0)
        if n < 2:
            raise ValueError(f"mean and deviation need frames; there are {n}")
        mean = total / n
        self.glob_mean.copy_(mean)
        self.glob_std.copy_(((squares / n - mean.square()).clamp(min=0) * n / (n - 1)).sqrt())
