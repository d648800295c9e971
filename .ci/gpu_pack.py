"""What a training needs, packed for a machine with a GPU and without a network; ``.ci/gpu`` calls it.

    python .ci/gpu_pack.py pack separate|transcribe|codec|speak CONFIG FOLDER OUT [TABLE.KEY=VALUE ...]
    python .ci/gpu_pack.py models OUT

``pack``: the manifests, the noises and the models that CONFIG names, relative to FOLDER, go to OUT/TASK1 and
OUT/TASK2, in archives that unpack into one folder, the configuration as TASK.toml, its paths changed.
Speakers get about equal minutes, as much as the parts hold. ``models``: the models that come with slyther, to
OUT/check1 and OUT/check2.
"""

from __future__ import annotations

import collections
import io
import itertools
import random
import shutil
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf

from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.config import read_config
from slyther_cli.models import registry
from slyther_cli.research.training.codec_dataset import Encoding, encoded
from slyther_cli.research.training.data import read_mono, read_table
from slyther_cli.research.training.settings import model_place
from slyther_cli.research.training.speech import load_codec

sys.path.insert(0, str(Path(__file__).parent))
from gpu_set import as_toml, asked, with_settings

PARTS = {"separate": 2, "transcribe": 2, "codec": 2, "speak": 1, "check": 2}
LARGEST = 54_000_000  # bytes of a part; the work tree and 2 MB of wheels travel, too
DEV_SECONDS = 1200
KBITS = {"separate": 18, "transcribe": 24, "codec": 48}
"""Of Opus. For the separator, at 8 kHz, 21 dB of SNR: at 14 kbit/s it lost 0.3 dB of SI-SNRi."""
ON_A_GPU: dict[str, dict[str, Any]] = {
    "separate": {"batch.seconds": 384.0, "loop.muon_lr": 0.008, "loop.average": 0.998},
    "transcribe": {"batch.seconds": 480.0},
    "codec": {"batch.examples": 48, "losses.adversarial_from": 0, "losses.decoder_only": True},
    "speak": {"batch.frames": 16000},
}
"""Settings beside CONFIG's. Only the separator's were ever tried on a GPU (docs/gpu.md)."""
ALWAYS = {
    "loop.steps": 1_000_000,  # the minutes decide
    "data.cache": "cache",
    "loop.validate_minutes": 1.0,
    "loop.save_minutes": 60.0,
    "loop.log_seconds": 5.0,
}


def opus(path: Path, rate: int, kbits: int) -> bytes:
    """A recording at ``rate``; one that is Opus of about that rate already, as it is."""
    about = sf.info(path)
    if about.subtype == "OPUS" and rate == 16000 and path.stat().st_size < 200 * kbits * about.duration:
        return path.read_bytes()
    sound, level = io.BytesIO(), 1 - (kbits - 6) / 250
    sf.write(sound, read_mono(path, rate), rate, format="OGG", subtype="OPUS", compression_level=level)
    return sound.getvalue()


def npy(codes: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, codes)
    return content.getvalue()


class Packer:
    """The archives of one training."""

    def __init__(self, task: str, out: Path):
        self.sizes = [0] * PARTS[task]
        self.tars = []
        for part in range(PARTS[task]):
            folder = out / f"{task}{part + 1}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.tars.append(tarfile.open(folder / "data.tar", "w"))  # noqa: SIM115 - close() does

    @property
    def full(self) -> bool:
        return sum(self.sizes) > LARGEST * len(self.sizes)

    def add(self, name: str, content: bytes, part: int | None = None) -> None:
        """A file, in the part with most room."""
        part = self.sizes.index(min(self.sizes)) if part is None else part
        about = tarfile.TarInfo(name)
        about.size = len(content)
        self.tars[part].addfile(about, io.BytesIO(content))
        self.sizes[part] += len(content) + 1024

    def add_model(self, name: str, place: Path | str) -> None:
        """A model's folder, for the last call."""
        for file in sorted(store.resolve(place).iterdir()):
            if file.name not in ("lm.bin", "CARD.md"):  # no training needs a language model
                self.add(f"models/{name}/{file.name}", file.read_bytes(), part=-1)

    def close(self) -> None:
        for tar in self.tars:
            tar.close()


class Rows:
    """The rows of CONFIG's manifests, each manifest once, though it may be listed more often."""

    def __init__(self, names: list[str], base: Path):
        self.listed = [(base / Path(name).expanduser()).resolve() for name in names]
        self.manifests = list(dict.fromkeys(self.listed))
        self.all = [
            (number, manifest.parent / row["path"], row)
            for number, manifest in enumerate(self.manifests)
            for row in read_table(manifest, ("path", "split"))
            if row["split"] in ("train", "dev")
        ]

    def fairly(self) -> Iterator[tuple[int, Path, dict[str, str]]]:
        """Some of the dev rows, then those of train: every speaker's first minute before anybody's second."""
        random.Random(3).shuffle(self.all)
        said: collections.Counter[tuple[str, str]] = collections.Counter()
        turns, dev = [], 0.0
        for item in self.all:
            split, who = item[2]["split"], item[2].get("speaker", "")
            seconds = sf.info(item[1]).duration
            said[split, who] += seconds
            turns.append((split != "dev", said[split, who], seconds, item))
        for train, _, seconds, item in sorted(turns, key=lambda turn: turn[:2]):
            dev += 0 if train else seconds
            if train or dev < DEV_SECONDS:
                yield item


def codes_of(rows: Rows, raw: dict[str, Any], base: Path) -> dict[Path, np.ndarray]:
    """The codes of every recording with a text. They are asked for as the training would, so that they come
    out of the configuration's own cache."""
    codec, _, key = load_codec(raw["codec"], base)
    encoding = Encoding(codec, key, base / Path(raw["data"].get("cache", "cache")).expanduser())
    found: dict[Path, np.ndarray] = {}
    for split in ("train", "dev"):
        paths = [
            manifest.parent / row["path"]
            for manifest in rows.listed
            for row in read_table(manifest, ("path", "split"))
            if row["split"] == split and row.get("transcript", "").strip()
        ]
        codes, ends = encoded(paths, encoding)
        found.update(zip(paths, np.split(codes, ends[:-1]), strict=True))
    return found


def pack(task: str, config: Path, base: Path, out: Path, settings: dict[str, Any]) -> None:
    raw = tomllib.loads(config.read_text(encoding="utf-8"))
    packer, data = Packer(task, out), raw["data"]
    rows = Rows(data["manifests"], base)
    if task == "codec" and "start_from" not in raw:  # a GPU's minutes go on from what is there
        raw.pop("model", None)
        raw["start_from"] = "codec-16k-harmonic"
    rate = 8000 if task == "separate" else 16000
    if start := raw.get("start_from"):
        place = model_place(start, base)
        loaded = read_config(store.resolve(place))
        rate = registry.full_config(loaded.architecture, loaded.config)["sample_rate"]
        packer.add_model("start", place)
        raw["start_from"] = "models/start"
    if task == "speak":
        codes = codes_of(rows, raw, base)
        packer.add_model("codec", model_place(raw["codec"], base))
        raw["codec"] = "models/codec"
        rows.all = [item for item in rows.all if item[1] in codes]
    if packer.full:
        sys.exit(
            "the models leave no room for speech: `slyther weights shrink` makes them a quarter as large"
        )

    def content(item: tuple[int, Path, dict[str, str]]) -> bytes:
        return npy(codes[item[1]]) if task == "speak" else opus(item[1], rate, KBITS[task])

    ending = "npy" if task == "speak" else "ogg"
    kept: dict[int, list[dict[str, str]]] = collections.defaultdict(list)
    order, count = rows.fairly(), itertools.count()
    with ThreadPoolExecutor() as threads:
        for name in data.get("noises", []):
            noises = (base / name).resolve()
            table = [row for row in read_table(noises, ("path", "split")) if row["split"] == "train"]
            files = [noises.parent / row["path"] for row in table]
            for row, bits in zip(table, threads.map(lambda file: opus(file, rate, 32), files), strict=True):
                row["path"] = f"{next(count)}.ogg"
                packer.add(f"noise/{row['path']}", bits)
                kept[-1].append(row)
        while not packer.full and (some := list(itertools.islice(order, 64))):
            for (number, _, row), bits in zip(some, threads.map(content, some), strict=True):
                name = f"{next(count)}.{ending}"
                packer.add(f"speech/{number}/{name}", bits)
                kept[number].append({**row, "path": name})
    for number, table in kept.items():
        where = "noise" if number == -1 else f"speech/{number}"
        lines = ["\t".join(table[0]), *("\t".join(row.values()) for row in table)]
        packer.add(f"{where}/manifest.tsv", ("\n".join(lines) + "\n").encode(), part=-1)
    numbers = map(rows.manifests.index, rows.listed)
    data["manifests"] = [f"speech/{number}/manifest.tsv" for number in numbers if number in kept]
    data["noises"] = ["noise/manifest.tsv"] if -1 in kept else []
    with_settings(raw, {**ON_A_GPU[task], **ALWAYS, **settings})
    packer.add(f"{task}.toml", as_toml(raw).encode(), part=-1)
    packer.close()


def pack_models(out: Path) -> None:
    packer = Packer("check", out)
    files = [file for file in Path("weights").glob("*/*") if file.name != "CARD.md"]
    for file in sorted(files, key=lambda file: -file.stat().st_size):
        packer.add(f"models/{file.parent.name}/{file.name}", file.read_bytes())
    packer.close()


if __name__ == "__main__":
    if sys.argv[1:2] == ["models"]:
        pack_models(Path(sys.argv[2]))
    else:
        _, _, kind, file, folder, target, *more = sys.argv
        pack(kind, Path(file), Path(folder), Path(target), asked(more))
