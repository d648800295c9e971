"""A kind of files that can be damaged, and how someone who knows a format damages it."""

import io
import json
import random
import zipfile
import zlib
from pathlib import Path

import torch
from damage import damaged, damaged_json

from slyther_cli.decode.ngram import HEADER

TINY = {"n_filters": 8, "kernel_size": 4, "stride": 2, "d_model": 6, "n_layers": 2, "d_state": 3}


class Kind:
    """``home``: a folder for what all cases need, made once."""

    def __init__(self, home: Path) -> None:
        self.home = home / type(self).__name__
        self.home.mkdir(parents=True)
        torch.manual_seed(0)
        self.make()

    def make(self) -> None:
        """The whole files, into ``home``."""

    def write(self, folder: Path, rng: random.Random) -> None:
        raise NotImplementedError

    def use(self, folder: Path) -> None:
        raise NotImplementedError

    def damage_one(self, folder: Path, rng: random.Random, *names: str) -> None:
        """All files of ``home`` into ``folder``; one of ``names`` damaged."""
        chosen = rng.choice(names)
        for path in self.home.iterdir():
            if path.is_file():
                data = path.read_bytes()
                if path.name == chosen:
                    data = self.broken(path.name, data, rng)
                (folder / path.name).write_bytes(data)

    def broken(self, name: str, data: bytes, rng: random.Random) -> bytes:
        """Its bytes damaged, or what its format says, by someone who knows the format."""
        if name.endswith(".json") and rng.random() < 0.6:
            return json.dumps(damaged_json(json.loads(data), rng)).encode("utf-8", "surrogatepass")
        if name.endswith(".safetensors") and rng.random() < 0.6:
            return lying_safetensors(data, rng)
        if data[:2] == b"PK" and rng.random() < 0.5:
            return lying_zip(data, rng)
        if name == "lm.bin" and rng.random() < 0.5:
            return right_checksum(damaged(data, rng))
        return damaged(data, rng)


def lying_safetensors(data: bytes, rng: random.Random) -> bytes:
    """Offsets, types, shapes and names that are wrong in a header that is well-formed."""
    size = int.from_bytes(data[:8], "little")
    header = json.dumps(damaged_json(json.loads(data[8 : 8 + size]), rng)).encode("utf-8", "surrogatepass")
    return len(header).to_bytes(8, "little") + header + data[8 + size :]


def lying_zip(data: bytes, rng: random.Random) -> bytes:
    """A checkpoint whose entries are damaged inside a zip file that is whole."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        names = old.namelist()
        chosen = rng.choice([rng.choice(names), next(n for n in names if n.endswith("data.pkl"))])
        for name in names:
            body = old.read(name)
            new.writestr(zipfile.ZipInfo(name), damaged(body, rng) if name == chosen else body)
    return out.getvalue()


def right_checksum(data: bytes) -> bytes:
    """A damaged language model with the right checksum and length: by malice, not by chance."""
    if len(data) < HEADER.size:
        return data
    fields = list(HEADER.unpack(data[: HEADER.size]))
    fields[-2], fields[-1] = zlib.crc32(data[HEADER.size :]), len(data)
    return HEADER.pack(*fields) + data[HEADER.size :]
