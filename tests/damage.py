"""Damage to files, by a random generator with a seed: what disks, networks, wrong programs and malice do.

``damaged(data, rng)`` gives other bytes, ``damaged_json(value, rng)`` another JSON value. The same generator
state gives the same damage, so a case is known by its number.
"""

import copy
import gzip
import io
import random
import re
import struct
import zipfile

WORDS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**62, 2**63)
ESCAPES = "\x1b]0;owned\x07\x1b[2J\x9b31m"
NASTY = (
    None, True, -1, 0, 1, 2**20, 2**31, 2**63, 2**64, -(2**63), 10**30, 0.5, 1e308, -0.0, float("nan"),
    float("inf"), "", "\0", "..", "../../etc/passwd", "/dev/zero", ESCAPES, "\ud800", "é" * 5000, "\n", "F64",
    [], {}, [[]], [None] * 3, {"": None}, [0] * 100_000, list(range(65)), {"a": {"b": {"c": []}}},
)  # fmt: skip


def borders(data: bytes) -> list[int]:
    """Offsets where something begins in a file: chunks, pages, entries, tokens, and the fields of headers."""
    found = {0, len(data)}
    head = data[:4]
    if head in (b"RIFF", b"RF64", b"FORM"):
        at, order = 12, ">" if head == b"FORM" else "<"
        while at + 8 <= len(data) and len(found) < 200:
            found |= {at, at + 4, *range(at + 8, min(at + 48, len(data)), 2)}
            size = struct.unpack(order + "I", data[at + 4 : at + 8])[0]
            at += 8 + size + size % 2
    elif head == b"fLaC":
        at, last = 4, False
        while not last and at + 4 <= len(data):
            last = bool(data[at] & 128)
            found |= {at, at + 1, *range(at + 4, min(at + 38, len(data)))}
            at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    elif head == b"OggS":
        for page in re.finditer(b"OggS", data):
            found |= {page.start() + k for k in (0, 4, 5, 6, 14, 18, 22, 26, 27, 28)}
    elif data[:2] == b"PK":
        for entry in re.finditer(rb"PK(\x03\x04|\x01\x02|\x05\x06|\x06\x06|\x06\x07)", data):
            found |= {entry.start() + k for k in range(0, 46, 2)}
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        for frame in list(re.finditer(rb"\xff[\xe0-\xff]", data))[:100]:
            found |= {frame.start() + k for k in (0, 1, 2, 3, 4)}
    else:
        found |= {token.start() for token in list(re.finditer(rb'[\s{}\[\]:,="\\]', data))[:400]}
        found |= set(range(0, 200, 4))
    return sorted(at for at in found if at <= len(data))


def damaged(data: bytes, rng: random.Random) -> bytes:
    """``data`` with one to three damages; rarely unchanged."""
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Most often a border, or near one; sometimes anywhere."""
    if rng.random() < (0.4 if len(data) > 2000 else 0.15):
        return rng.randint(0, len(data))
    return min(len(data), max(0, rng.choice(borders(data)) + rng.choice((0, 0, 0, 1, -1))))


def _two(data: bytes, rng: random.Random) -> tuple[int, int]:
    a, b = _place(data, rng), _place(data, rng)
    return min(a, b), max(a, b)


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        at = _place(data, rng)
        if at < len(out):
            out[at] ^= 1 << rng.randrange(8)
    return bytes(out)


def lie(data: bytes, rng: random.Random) -> bytes:
    """A field of a header with a number that makes no sense: huge, negative, zero."""
    at, size, order = _place(data, rng), rng.choice((1, 2, 4, 4, 4, 8)), rng.choice(("little", "big"))
    value = rng.choice((*WORDS, rng.getrandbits(64)))
    number = (value & ((1 << 8 * size) - 1)).to_bytes(size, order)
    return data[:at] + number + data[at + size :]


def swap(data: bytes, rng: random.Random) -> bytes:
    a, b = _two(data, rng)
    if b - a < 4:
        return data
    return data[:a] + data[b : b + 4] + data[a + 4 : b] + data[a : a + 4] + data[b + 4 :]


def fill(data: bytes, rng: random.Random) -> bytes:
    a, b = _two(data, rng)
    b = min(b, a + rng.choice((4, 64, 4096)))
    return data[:a] + rng.choice((b"\0", b"\xff", b"\x00\x80")) * (b - a) + data[b:]


def junk(data: bytes, rng: random.Random) -> bytes:
    """Something foreign, at the end or in the middle."""
    foreign = rng.choice(
        (rng.randbytes(rng.randint(1, 600)), bytes(300), b"\n" * 50, ESCAPES.encode("latin1"))
    )
    at = rng.choice((len(data), _place(data, rng)))
    return data[:at] + foreign + data[at:]


def lose(data: bytes, rng: random.Random) -> bytes:
    a, b = _two(data, rng)
    return data[:a] + data[b:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    a, b = _two(data, rng)
    return data[:b] + data[a:b] * rng.choice((1, 2, 20)) + data[b:] if len(data) < 1 << 20 else data


def nest(data: bytes, rng: random.Random) -> bytes:
    """The file inside itself, or inside another container."""
    kind = rng.randrange(5)
    if kind == 0:
        at = _place(data, rng)
        return data[:at] + data + data[at:]
    if kind == 1:
        return gzip.compress(data, 1, mtime=0)
    if kind == 2:
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            archive.writestr(zipfile.ZipInfo("x/data.pkl"), data)
        return out.getvalue()
    if kind == 3:
        body = b"LIST" + struct.pack("<I", len(data)) + data
        return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
    return b"ID3\x04\0\0" + bytes(len(data) >> s & 127 for s in (21, 14, 7, 0)) + data


DAMAGES = (cut, cut, flip_bits, flip_bits, lie, lie, lie, swap, fill, junk, lose, repeat, nest)


def damaged_json(value: object, rng: random.Random) -> object:
    """A JSON value with one to three entries replaced, taken away, doubled or renamed."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_entries(value))
        if not places:
            return copy.deepcopy(rng.choice(NASTY))
        holder, key = rng.choice(places)
        act = rng.randrange(6)
        if act == 0:
            del holder[key]
        elif act == 1 and isinstance(holder, dict):
            holder[str(rng.choice(("", "\0", "x", "..", key + key, ESCAPES)))] = holder.pop(key)
        elif act == 2:
            other, name = rng.choice(places)
            if isinstance(other, dict) and name in other:
                holder[key] = copy.deepcopy(other[name])
        else:
            holder[key] = copy.deepcopy(rng.choice(NASTY))
    return value


def _entries(value):
    """(holder, key) of everything inside."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs)[:300]:
        yield value, key
        yield from _entries(inner)
