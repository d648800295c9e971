"""Sound and video files of the kinds that phones and meetings leave, made with PyAV."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np

RATE = 16000
GAP = (0.96, 1.92)  # seconds, whole frames of AAC at 16 kHz and of Opus


def voice(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Something like speech, [n] float32: noise below 1 kHz whose level rises and falls."""
    rng = np.random.default_rng(seed)
    n = round(seconds * rate)
    smooth = np.hanning(max(3, rate // 1000) + 2)
    noise = np.convolve(rng.normal(0, 1, n), smooth / np.sqrt((smooth**2).sum()), "same")
    level = 0.6 + 0.4 * np.sin(2 * np.pi * 3.1 * np.arange(n) / rate)
    return (0.1 * noise * level).astype(np.float32)


def film(
    path,
    tracks,
    rate=RATE,
    codec="aac",
    *,
    picture=False,
    starts=0.0,
    gap=None,
    bit_rate=128_000,
    options=None,
    format=None,
):
    """Write ``tracks``, arrays [n] or [n, 2], into one file. ``starts``: seconds before the sound; ``gap``:
    (from, to) seconds that are left out of it, while the time goes on."""
    with av.open(str(path), "w", format=format, options=options or {}) as file:
        video = file.add_stream("mpeg4", rate=10) if picture else None
        if video is not None:
            video.width = video.height = 32
            video.pix_fmt = "yuv420p"
        streams = []
        for track in tracks:
            stream = file.add_stream(codec, rate=rate)
            stream.codec_context.layout = "mono" if track.ndim == 1 else "stereo"
            stream.codec_context.bit_rate = bit_rate
            if codec in ("wavpack", "tta"):
                stream.codec_context.format = "s16p" if codec == "wavpack" else "s16"
            stream.codec_context.open()
            streams.append(stream)
        if video is not None:
            for i in range(round((starts + len(tracks[0]) / rate) * 10)):
                picture_frame = av.VideoFrame(32, 32, "yuv420p")
                picture_frame.pts, picture_frame.time_base = i, Fraction(1, 10)
                file.mux(video.encode(picture_frame))
        for stream, track in zip(streams, tracks, strict=True):
            for part, at in _parts(track, rate, starts, gap, stream.codec_context.frame_size or 1024):
                file.mux(stream.encode(_frame(part, at, rate, stream)))
        for stream in [*streams, video]:
            if stream is not None:
                file.mux(stream.encode(None))
    return path


def _parts(track, rate, starts, gap, size):
    """Frame by frame: what is joined first would lose the gap."""
    low, high = (round(at * rate) for at in gap or (0, 0))
    for begin, end in ((0, low), (high, len(track))):
        for at in range(begin, end, size):
            yield track[at : min(at + size, end)], at + round(starts * rate)


def _frame(part, at, rate, stream):
    stereo = part.ndim == 2
    kind = stream.codec_context.format.name
    types = {"flt": np.float32, "s16": np.int16, "s32": np.int32}
    dtype = types[kind.rstrip("p")]
    scaled = part if dtype is np.float32 else np.rint(part * (np.iinfo(dtype).max - 128.0)).astype(dtype)
    planes = np.ascontiguousarray(np.atleast_2d(scaled.T))
    if not kind.endswith("p"):
        planes = np.ascontiguousarray(planes.T.reshape(1, -1))
    frame = av.AudioFrame.from_ndarray(planes, format=kind, layout="stereo" if stereo else "mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
    return frame
