"""Pictures of few colours as PNG (ISO/IEC 15948), by zlib alone."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PALETTE = 3  # the colour type of indices


def encode(picture: npt.NDArray[np.uint8], colours: npt.NDArray[np.uint8]) -> bytes:
    """Indices [height, width], the uppermost row first, of ``colours`` [at most 256, 3], red, green, blue."""
    height, width = picture.shape
    header = struct.pack(">IIBBBBB", width, height, 8, PALETTE, 0, 0, 0)
    rows = np.pad(picture, ((0, 0), (1, 0))).tobytes()  # each begins with its filter: 0, none
    parts = (
        (b"IHDR", header),
        (b"PLTE", colours.tobytes()),
        (b"IDAT", zlib.compress(rows, 9)),
        (b"IEND", b""),
    )
    return SIGNATURE + b"".join(_chunk(name, data) for name, data in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
