"""Import of SpeechBrain separation checkpoints (encoder.ckpt, masknet.ckpt, decoder.ckpt) into our format.

The only place that unpickles, and only after a check: each file must be an uncompressed zip as torch.save
writes it, its sizes must add up to the file, its pickle may name nothing but tensors and dictionaries;
then ``torch.load(weights_only=True)``; then every tensor must be backed by the bytes of the file. Layout
of the folders and names of the tensors: speechbrain 1.0.0 and the published runs of xi-j/Mamba-TasNet.
"""

from __future__ import annotations

import math
import pickletools
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from slyther_cli.checkpoints import layout, places, store
from slyther_cli.checkpoints.config import shorten
from slyther_cli.checkpoints.places import SPEECHBRAIN_FILES
from slyther_cli.errors import ModelError

MAX_BYTES = 4 << 30
_MAX_PICKLE = 4 << 20  # 2000 tensors take 0.2 MB
_MAX_EMPTY = 100_000  # lists and dictionaries; each takes a byte of the pickle and 64 of memory
_MAX_ENTRIES = 100_000
_STORAGES = {
    f"torch {kind}Storage" for kind in ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Bool")
}
_ALLOWED = _STORAGES | {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
}
_FORBIDDEN = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}


def import_folder(
    src: str | Path,
    dest: str | Path | None = None,
    name: str | None = None,
    *,
    sample_rate: int | None = None,
    **meta: Any,
) -> Path:
    """Convert a SpeechBrain checkpoint or run folder to a model folder of ours and return the latter.

    ``dest``: the new folder, by default ``NAME`` in the cache; ``name``: by default that of ``dest``, else
    of the run. The sample rate is the one given, else that in the run's hyperparams.yaml, else 8000; the
    stride is half the kernel, as in SpeechBrain's Encoder. ``meta`` goes to ``store.save``. Nothing that
    exists is replaced.

    Raises ModelError: not such a folder, an unsafe or damaged file, another architecture than Mamba-TasNet,
    DPMamba or Sepformer, tensors that do not fit it. OutputError: ``dest`` cannot be written.
    """
    src = Path(src)
    folder = find_checkpoint(src)
    dest, name = places.new_folder(dest, name, _default_name(folder))
    tensors: dict[str, torch.Tensor] = {}
    for file in SPEECHBRAIN_FILES:
        stem = file.removesuffix(".ckpt")
        tensors |= {f"{stem}.{key}": value for key, value in read_checkpoint(folder / file).items()}
    model, architecture, config = _build(folder, tensors, sample_rate or _sample_rate(folder) or 8000)
    meta.setdefault("source", f"imported from the SpeechBrain checkpoint {folder.name}")
    loss = _yaml_number(folder / "CKPT.yaml", "si-snr")
    if loss is not None:
        meta.setdefault("metrics", {"validation SI-SNR (dB)": round(-loss, 4)})
    return store.save(
        dest, model, name=name, architecture=architecture, config=config, task="separate", **meta
    )


def find_checkpoint(src: Path) -> Path:
    """The folder with the .ckpt files: ``src`` itself, or the best checkpoint in a run folder (lowest
    si-snr loss).

    Raises ModelError: none, or several of which none says how good it is.
    """
    found = list_checkpoints(src, SPEECHBRAIN_FILES, "masknet.ckpt", "separation")
    if len(found) == 1:
        return found[0]
    scored = [(loss, p) for p in found if (loss := _yaml_number(p / "CKPT.yaml", "si-snr")) is not None]
    if not scored:
        raise ModelError(
            f"{shorten(src, 200)} holds {len(found)} checkpoints, none with its si-snr: name one of them"
        )
    return min(scored, key=lambda item: item[0])[1]


def list_checkpoints(src: Path, files: Sequence[str], needed: str, kind: str) -> list[Path]:
    """``src`` alone, if it has one of ``files``; else the checkpoints in a run folder that have the file
    ``needed``. Raises ModelError: none, which is then no ``kind`` checkpoint."""
    try:
        if not src.is_dir():
            raise ModelError(f"no such folder: {shorten(src, 200)}")
        if any((src / f).is_file() for f in files):
            return [src]
        found = [p for d in (src / "save", src) for p in sorted(d.glob("CKPT+*")) if (p / needed).is_file()]
    except OSError as e:
        raise ModelError(f"cannot read {shorten(src, 200)}: {e.strerror or e}") from e
    if not found:
        raise ModelError(f"{shorten(src, 200)} is no SpeechBrain {kind} checkpoint: no {', '.join(files)}")
    return found


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """The state dict in a .ckpt file, on the CPU. Nothing in the file is executed.

    Raises ModelError: missing, not written by torch.save, unsafe, damaged, not a plain dictionary of tensors.
    """
    try:
        if not path.is_file():
            raise ModelError(f"the checkpoint has no {path.name}")
        data_bytes = _check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as e:  # zipfile, pickle and torch each raise what they like on a damaged file
        raise ModelError(f"{path.name} is damaged or not a torch checkpoint: {shorten(e, 100)}") from e
    if not isinstance(state, dict) or not state or not all(isinstance(k, str) for k in state):
        raise ModelError(f"{path.name} is not a dictionary of tensors")
    total = 0
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ModelError(f"{path.name} is not a dictionary of tensors: {shorten(key)} is another thing")
        total += value.numel() * value.element_size()
    if total > data_bytes:  # a view that repeats its bytes: a huge tensor from a small file
        raise ModelError(f"{path.name} is refused: its tensors are larger than the file")
    if all(k.startswith("module.") for k in state):  # saved from DistributedDataParallel
        return {k.removeprefix("module."): v for k, v in state.items()}
    return dict(state)


def _check_zip(path: Path) -> int:
    """Sizes and pickle of a checkpoint, before torch sees it. Returns the bytes of all entries. Raises
    ModelError.
    """
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ModelError(f"{path.name} is refused: larger than {MAX_BYTES >> 30} GiB")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{path.name} is not a torch checkpoint (not a zip file as torch >= 1.6 writes it)")
    if _count_entries(path) > _MAX_ENTRIES:  # the list of entries takes ten times its size in memory
        raise ModelError(f"{path.name} is refused: it has more than {_MAX_ENTRIES} entries")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        total = sum(e.file_size for e in entries)
        # torch.save never compresses: entries add up to less than the file.
        if total > size or any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise ModelError(
                f"{path.name} is refused: {total} bytes packed in a file of {size} (torch.save never packs)"
            )
        names = [e.filename.lower() for e in entries]  # torch looks names up without case
        pickles = [e for e in entries if e.filename.lower().endswith("data.pkl")]
        if len(set(names)) < len(names) or len(pickles) != 1 or pickles[0].file_size > _MAX_PICKLE:
            raise ModelError(f"{path.name} is refused: not the layout that torch.save writes")
        pickled = archive.read(pickles[0])
    empty = 0
    for opcode, arg, _ in pickletools.genops(pickled):
        empty += opcode.name in ("EMPTY_LIST", "EMPTY_DICT", "MARK")
        if empty > _MAX_EMPTY:
            raise ModelError(f"{path.name} is refused: not the layout that torch.save writes")
        if opcode.name in _FORBIDDEN or (opcode.name == "GLOBAL" and arg not in _ALLOWED):
            what = str(arg).replace(" ", ".") if opcode.name == "GLOBAL" else opcode.name
            raise ModelError(
                f"{path.name} is refused: it holds code or objects ({shorten(what)}), not only tensors"
            )
    return total


def _count_entries(path: Path) -> int:
    """The most entries that the zip file's directory can hold, by its size: each takes 46 bytes and a name.

    Looks where zipfile does: the record that ends the directory, or the one of 56 bytes before the locator of
    20 before it, which is for long files.
    """
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16) - 98))
        tail = file.read()
    end = len(tail) - 22 if tail[-22:-18] == b"PK\5\6" and tail[-2:] == b"\0\0" else tail.rfind(b"PK\5\6")
    size = int.from_bytes(tail[end + 12 : end + 16], "little")
    long = tail[max(0, end - 76) : max(0, end - 20)]
    if long[:4] == b"PK\6\6":
        size = max(size % 0xFFFFFFFF, int.from_bytes(long[40:48], "little"))
    return size // 46


def _build(
    folder: Path, tensors: dict[str, torch.Tensor], sample_rate: int
) -> tuple[torch.nn.Module, str, dict[str, Any]]:
    """The network that these tensors are of, loaded with them, its architecture and config. Raises
    ModelError."""
    kind = layout.identify(tensors)
    if kind is None:
        raise ModelError(f"{folder.name} is of an architecture that slyther does not know")
    architecture, words = kind
    if architecture not in layout.INFER:
        raise ModelError(
            f"{folder.name} is a {words} model: only Mamba-TasNet, DPMamba and Sepformer can be imported"
        )
    shapes = {k: tuple(t.shape) for k, t in tensors.items()}
    try:
        config = layout.INFER[architecture](shapes) | _from_settings(folder, architecture)
        if architecture == "dpmamba":  # where the run does not say it: M and L, not XS and S (papers.md 1.2)
            config.setdefault("skip_around_intra", config["n_blocks"] >= 16)
        config |= {"stride": max(1, config["kernel_size"] // 2), "sample_rate": sample_rate}
        declared = store.ModelConfig("imported", "separate", architecture, config)
        store.check_fit(
            declared, shapes, "its tensors"
        )  # before memory is taken: two small tensors can ask for a huge third
    except ModelError as e:
        raise ModelError(f"{folder.name} is not a {words} that slyther knows: {shorten(e, 200)}") from e
    model = store.build(declared, folder.name)
    model.load_state_dict({k: t.to(torch.float32) for k, t in tensors.items()}, strict=True)
    return model, architecture, config


def _from_settings(folder: Path, architecture: str) -> dict[str, Any]:
    """What no tensor of a dual-path network tells and the run's hyperparams.yaml may: chunk, skip, heads."""
    out: dict[str, Any] = {}
    if architecture == "mamba-tasnet":
        return out
    for place in (folder, _run_folder(folder)):
        if place is None:
            continue
        for key, name in (("K", "chunk"), ("nhead", "n_heads")):
            value = _yaml_number(place / "hyperparams.yaml", key, nested=True)
            if value is not None and 1 <= value <= 4096 and (name == "chunk" or architecture == "sepformer"):
                out[name] = round(value)
        skip = _yaml_match(place / "hyperparams.yaml", r"\s*skip_around_intra:\s*(True|False)\b")
        if skip is not None:
            out["skip_around_intra"] = skip == "True"
    return out


def _run_folder(folder: Path) -> Path | None:
    """The run that a CKPT+... folder belongs to."""
    folder = folder.absolute()
    if not folder.name.startswith("CKPT+"):
        return None
    return folder.parent.parent if folder.parent.name == "save" else folder.parent


def _default_name(folder: Path) -> str:
    source = _run_folder(folder) or folder.absolute()
    if source.name.isdigit():  # SpeechBrain recipes call runs by their seed: model_name/1234
        source = source.parent
    return re.sub(r"[^A-Za-z0-9._-]+", "-", source.name).strip(".-_")[:100] or "imported"


def _sample_rate(folder: Path) -> int | None:
    for place in (folder, _run_folder(folder)):
        if place is not None:
            value = _yaml_number(place / "hyperparams.yaml", "sample_rate")
            if value is not None and 1000 <= value <= 384_000 and value == int(value):
                return int(value)
    return None


def _yaml_number(path: Path, key: str, nested: bool = False) -> float | None:
    """A number of a small yaml file (no yaml parser needed for one line), None if it is not there.
    ``nested``: not at the top level only."""
    start = r"\s*" if nested else ""
    found = _yaml_match(path, rf"{start}['\"]?{re.escape(key)}['\"]?:\s*([-+.\deE]+)\s*(?:#.*)?$")
    try:
        value = float(found) if found else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _yaml_match(path: Path, pattern: str) -> str | None:
    """The first group of ``pattern`` in the first line that it matches, from the line's beginning."""
    try:
        if not path.is_file() or path.stat().st_size > 1 << 20:
            return None
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.compile(pattern)
    return next((match[1] for line in text.splitlines() if (match := found.match(line))), None)
