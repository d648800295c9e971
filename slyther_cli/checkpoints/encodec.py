"""Import of EnCodec's weights: Meta's ``encodec_24khz-d7cc33bc.th`` or transformers' safetensors of the same.

transformers renamed the modules and left the values alone: ``layers`` for ``model``, ``quantizer.layers`` for
``quantizer.vq.layers``, ``codebook`` for ``_codebook``, one ``conv`` for ``conv.conv`` and ``convtr.convtr``,
and in newer files ``parametrizations.weight.original0``, ``original1`` for ``weight_g``, ``weight_v``. Weight
normalisation (Salimans and Kingma 2016: w = g v / |v|) is resolved here, once.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from slyther_cli import files
from slyther_cli.checkpoints import layout, places, store
from slyther_cli.checkpoints.config import NAME, shorten
from slyther_cli.checkpoints.speechbrain import MAX_BYTES, read_checkpoint
from slyther_cli.errors import ModelError
from slyther_cli.models import registry

ARCHITECTURE = "seanet-codec"
PRESET = "encodec-24khz"
OFFICIAL_SHA256 = "d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf"
_TRAINING = (".inited", ".cluster_size", ".embed_avg")  # of a codebook: not needed to run


def import_file(
    src: str | Path, dest: str | Path | None = None, name: str | None = None, **meta: Any
) -> Path:
    """Convert a weights file of EnCodec 24 kHz to a model folder of ours and return the latter.

    ``dest``: the new folder, by default ``NAME`` in the cache; ``name``: by default that of ``dest``, else
    "encodec-24khz". ``meta`` goes to ``store.save``. Nothing that exists is replaced. The file's sha256 is
    noted in the model's ``source``, and whether it is the official one.

    Raises ModelError: no such file, unsafe or damaged, not EnCodec 24 kHz. OutputError: cannot be written.
    """
    src = Path(src)
    if name is None:
        name = Path(dest).name if dest is not None else PRESET
    if not NAME.fullmatch(name):
        raise ModelError(f"{shorten(name)!r} is no model name: use letters, digits, '.', '_' and '-'")
    dest = Path(dest) if dest is not None else places.cache_dir() / name
    if dest.exists():
        raise ModelError(f"{dest} exists already: remove it, or import under another name")
    tensors = plain_tensors(_read(src))
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    try:
        config = {**registry.PRESETS[PRESET][1], **layout.infer_seanet_codec(shapes)}
        declared = store.ModelConfig(name, "codec", ARCHITECTURE, config)
        store.check_fit(declared, shapes, "its tensors")
    except ModelError as error:
        raise ModelError(f"{src.name} is not EnCodec 24 kHz: {shorten(error, 200)}") from None
    model = store.build(declared, src.name)
    model.load_state_dict({key: value.to(torch.float32) for key, value in tensors.items()})
    digest = files.sha256(src)
    words = "the official file" if digest == OFFICIAL_SHA256 else f"sha256 {digest}"
    meta.setdefault("source", f"imported from {src.name}, {words}")
    return store.save(dest, model, name=name, architecture=ARCHITECTURE, config=config, task="codec", **meta)


def plain_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of either file under the names of :class:`slyther_cli.models.codec.Codec`, weight
    normalisation resolved."""
    named = {_name(key): value for key, value in tensors.items() if not key.endswith(_TRAINING)}
    out = {}
    for key, value in named.items():
        if key.endswith(".weight_v"):
            gain = named.get(key.removesuffix("_v") + "_g")
            if gain is None:
                raise ModelError(f"{shorten(key)} comes without its weight_g")
            norm = value.float().flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            out[key.removesuffix("_v")] = value.float() * (gain.float() / norm)
        elif not key.endswith(".weight_g"):
            out[key] = value
    return out


def _name(key: str) -> str:
    """Meta's name of a tensor that has Meta's or transformers' name."""
    key = key.replace("parametrizations.weight.original0", "weight_g")
    key = key.replace("parametrizations.weight.original1", "weight_v")
    if not re.match(r"(encoder|decoder|quantizer)\.layers\.", key):
        return key
    key = key.replace("quantizer.layers.", "quantizer.vq.layers.").replace(".codebook.", "._codebook.")
    # The decoder's convolutions right below ``layers`` are transposed, but for the first and the last.
    upsampling = re.match(r"decoder\.layers\.(\d+)\.conv\.", key)
    kind = "convtr" if upsampling and upsampling[1] not in ("0", "15") else "conv"
    key = re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", key)
    return key.replace(".conv.", f".{kind}.{kind}.")


def _read(src: Path) -> dict[str, Tensor]:
    try:
        if not src.is_file():
            raise ModelError(f"no such file: {shorten(src, 200)}")
        if src.stat().st_size > MAX_BYTES:
            raise ModelError(f"{src.name} is refused: larger than {MAX_BYTES >> 30} GiB")
        if src.suffix == ".safetensors":
            return load_file(src)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{src.name} is damaged or cannot be read: {shorten(error, 120)}") from None
    return read_checkpoint(src)
