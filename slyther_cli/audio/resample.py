"""Streamed change of sampling rate, aligned to the sample and exact in length."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import soxr

FloatArray = npt.NDArray[np.float32]

QUALITY = "HQ"  # linear phase, 20 bit, passband to 0.91 of the lower Nyquist frequency
PIECE = 4096  # input samples given to soxr at once, whatever the caller's blocks
HELD = 1500  # samples of the lower rate, at most, that soxr holds back (measured: 1370)


def resampled_length(frames: int, rate_in: int, rate_out: int) -> int:
    """How many samples ``frames`` samples become: frames * rate_out / rate_in, rounded to the
    nearest, halves up, and at least 1 when there is any input."""
    if frames <= 0:
        return 0
    return max(1, (2 * frames * rate_out + rate_in) // (2 * rate_in))


def fit_length(block: FloatArray, frames: int) -> FloatArray:
    """``block`` cut, or filled up with zeros, to ``frames`` samples at the end of its last axis."""
    missing = frames - block.shape[-1]
    if missing <= 0:
        return block[..., :frames]
    return np.concatenate([block, np.zeros((*block.shape[:-1], missing), np.float32)], axis=-1)


def reblock(blocks: Iterable[FloatArray], size: int) -> Iterator[FloatArray]:
    """The same samples (last axis) in blocks of exactly ``size``, the last one shorter."""
    held: list[FloatArray] = []
    have = 0
    for block in blocks:
        if not block.shape[-1]:
            continue
        held.append(block)
        have += block.shape[-1]
        if have < size:
            continue
        joined = held[0] if len(held) == 1 else np.concatenate(held, axis=-1)
        whole = have - have % size
        for start in range(0, whole, size):
            yield joined[..., start : start + size]
        held, have = [joined[..., whole:]], have - whole
    if have:
        yield np.concatenate(held, axis=-1)


class StreamResampler:
    """Changes the rate of a stream, block by block, in constant memory.

    The filter has linear phase and its delay is taken out: output sample k is the signal at the time
    k / rate_out, so going to a model's rate and back is aligned to the sample. The samples do not
    depend on how the input is cut into blocks (soxr sees pieces of a fixed size). Equal rates
    pass through untouched.

    The whole output has ``resampled_length(total input)`` samples, or exactly ``total_out`` when that
    is given, cut or filled with zeros at its end. For stems: ``StreamResampler(model_rate,
    source_rate, total_out=source_frames)`` gives them the length of the source; the difference to be
    made up is a few samples at most.

    Blocks are float32, 1-D [n], or [channels, n] when ``channels`` is given. ``push`` may return an
    empty block; ``flush`` returns the rest and ends the stream.

    What is pushed comes out after at most ``delay`` seconds, if pushing goes on: ``piece`` input samples are
    collected, and soxr holds some back.

    Raises ValueError on rates below 1, a block of another shape, or use after ``flush``.
    """

    def __init__(
        self,
        rate_in: int,
        rate_out: int,
        total_out: int | None = None,
        *,
        channels: int | None = None,
        piece: int = PIECE,
    ) -> None:
        if rate_in < 1 or rate_out < 1:
            raise ValueError(f"rates must be positive, not {rate_in} and {rate_out}")
        self.rate_in, self.rate_out, self.total_out = rate_in, rate_out, total_out
        self.frames_in = self.frames_out = 0
        self._piece = piece
        held_back = piece / rate_in + HELD / min(rate_in, rate_out)
        self.delay = held_back if rate_in != rate_out else 0.0
        self._lead = () if channels is None else (channels,)
        self._soxr: soxr.ResampleStream | None = None
        if rate_in != rate_out:
            width = 1 if channels is None else channels
            self._soxr = soxr.ResampleStream(rate_in, rate_out, width, dtype="float32", quality=QUALITY)
        self._held = np.zeros((*self._lead, 0), np.float32)
        self._ended = False

    def push(self, block: FloatArray) -> FloatArray:
        """Take [n] or [channels, n] samples at rate_in; give those that are ready at rate_out."""
        if self._ended:
            raise ValueError("push after flush")
        block = np.asarray(block, np.float32)
        if block.shape[:-1] != self._lead or not block.ndim:
            raise ValueError(f"expected a block of shape {(*self._lead, 'n')}, not {block.shape}")
        self.frames_in += block.shape[-1]
        if self._soxr is None:
            return self._emit(block.copy())
        block = np.concatenate([self._held, block], axis=-1)
        whole = block.shape[-1] - block.shape[-1] % self._piece
        self._held = block[..., whole:].copy()
        outputs = [self._run(block[..., i : i + self._piece]) for i in range(0, whole, self._piece)]
        return self._emit(self._join(outputs))

    def flush(self) -> FloatArray:
        """The rest of the output; the resampler cannot be used afterwards."""
        if self._ended:
            raise ValueError("flush after flush")
        self._ended = True
        wanted = self.total_out
        if wanted is None:
            wanted = resampled_length(self.frames_in, self.rate_in, self.rate_out)
        rest = np.zeros((*self._lead, 0), np.float32)
        if self._soxr is not None and self.frames_in:
            # Silence after the end, so that the filter has more to give than is asked of it.
            tail = math.ceil(2 * self.rate_in / self.rate_out) + 8
            last = fit_length(self._held, self._held.shape[-1] + tail)
            rest = self._join([self._run(last, last=True)])
        self.total_out = wanted
        missing = wanted - self.frames_out
        return self._emit(fit_length(rest, max(missing, 0)))

    def _run(self, block: FloatArray, last: bool = False) -> FloatArray:
        assert self._soxr is not None
        return self._soxr.resample_chunk(np.ascontiguousarray(block.T), last=last).T

    def _join(self, outputs: list[FloatArray]) -> FloatArray:
        return np.concatenate([np.zeros((*self._lead, 0), np.float32), *outputs], axis=-1)

    def _emit(self, block: FloatArray) -> FloatArray:
        if self.total_out is not None:
            block = block[..., : max(self.total_out - self.frames_out, 0)]
        self.frames_out += block.shape[-1]
        return np.ascontiguousarray(block)


def resampled(samples: FloatArray, rate_in: int, rate_out: int) -> FloatArray:
    """All of a short sound at once, [n] or [channels, n]; as it is where the rates are equal."""
    if rate_in == rate_out:
        return samples
    channels = None if samples.ndim == 1 else len(samples)
    resampler = StreamResampler(rate_in, rate_out, channels=channels)
    return np.concatenate((resampler.push(samples), resampler.flush()), axis=-1)
