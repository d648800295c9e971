"""Vorbis comments of a FLAC file that is already written: libsndfile writes only those that it knows, and
before the first sample.

Source: RFC 9639, sections 8 (metadata blocks) and 8.6 (Vorbis comment).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import BinaryIO

from slyther_cli.audio import wav

COMMENTS, LAST = 4, 0x80
PIECE = 1 << 20  # bytes moved at once
MOST_BYTES = (1 << 24) - 1  # of a block


def add_comments(file: BinaryIO, comments: Sequence[str]) -> None:
    """Add ``comments`` ("KEY=value") to those in an open, unbuffered FLAC file. Raises OSError: the disk
    fails, or it is no FLAC file, or they are more than it can hold."""
    file.seek(0)
    if file.read(4) != b"fLaC":
        raise OSError("the FLAC file did not come out whole")
    at, header = 4, file.read(4)
    while header[0] & ~LAST != COMMENTS:
        if len(header) < 4 or header[0] & LAST:
            raise OSError("the FLAC file has no room for comments")
        at += 4 + int.from_bytes(header[1:], "big")
        file.seek(at)
        header = file.read(4)
    size = int.from_bytes(header[1:], "big")
    body = _with(file.read(size), comments)
    if len(body) > MOST_BYTES:
        raise OSError("more comments than a FLAC file can hold")
    _move(file, at + 4 + size, len(body) - size)
    file.seek(at)
    wav.write_all(file, header[:1] + len(body).to_bytes(3, "big") + body)
    file.seek(0, os.SEEK_END)


def _with(body: bytes, comments: Sequence[str]) -> bytes:
    """A block of comments with more of them: vendor, count, and each comment after its length."""
    at = 4 + int.from_bytes(body[:4], "little")
    (count,) = struct.unpack_from("<I", body, at)
    more = [text.encode("utf-8", "replace") for text in comments]
    added = b"".join(struct.pack("<I", len(text)) + text for text in more)
    return body[:at] + struct.pack("<I", count + len(more)) + body[at + 4 :] + added


def _move(file: BinaryIO, begin: int, by: int) -> None:
    """Move all from ``begin`` to the end ``by`` bytes towards the end, its last piece first."""
    end = file.seek(0, os.SEEK_END)
    while end > begin:
        start = max(begin, end - PIECE)
        file.seek(start)
        data = file.read(end - start)
        file.seek(start + by)
        wav.write_all(file, data)
        end = start
