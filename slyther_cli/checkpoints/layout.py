"""What the names and shapes of a network's tensors say about it, before the network is built. Needs no
torch.

Names are those of the published checkpoints (SpeechBrain 1.0 separation folders of xi-j/Mamba-TasNet),
with the file stem as prefix: ``encoder.``, ``masknet.``, ``decoder.``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slyther_cli.errors import ModelError

Shapes = Mapping[str, tuple[int, ...]]

_KINDS = (
    ("mamba-tasnet", "Mamba-TasNet", re.compile(r"masknet\.mamba_net\.layers\.\d+\.mixer\.")),
    (
        "dpmamba",
        "DPMamba (dual-path Mamba)",
        re.compile(r"masknet\.dual_mdl\.\d+\.intra_mdl\.layers\.\d+\.mixer\."),
    ),
    (
        "sepformer",
        "Sepformer",
        re.compile(r"masknet\.dual_mdl\.\d+\.intra_mdl\.mdl\.layers\.\d+\.self_att\."),
    ),
    ("dprnn", "dual-path RNN", re.compile(r"masknet\.dual_mdl\.\d+\.intra_mdl\.rnn\.")),
    ("conv-tasnet", "Conv-TasNet", re.compile(r"masknet\.(temporal_conv_net|TCN)")),
)


def identify(names: Iterable[str]) -> tuple[str, str] | None:
    """(architecture, its name in words) that tensors of these names belong to, or None."""
    names = list(names)
    for architecture, words, pattern in _KINDS:
        if any(pattern.match(n) for n in names):
            return architecture, words
    return None


def infer_mamba_tasnet(shapes: Shapes) -> dict[str, Any]:
    """The settings of a Mamba-TasNet that its tensors fix: all but stride and sample rate.

    Raises ModelError: a tensor that every Mamba-TasNet has is missing, or of an impossible shape.
    """
    n_filters, one, kernel_size = _shape(shapes, "encoder.conv1d.weight", 3)
    d_model, bottleneck_in, _ = _shape(shapes, "masknet.bottleneck_conv1x1.conv.weight", 3)
    mask_out, _, _ = _shape(shapes, "masknet.mask_conv1x1.conv.weight", 3)
    d_state = _shape(shapes, "masknet.mamba_net.layers.0.mixer.A_log", 2)[1]
    if one != 1 or bottleneck_in != n_filters:
        raise ModelError("the encoder's and the mask network's tensors do not fit together")
    if mask_out % n_filters:
        raise ModelError(f"{mask_out} mask channels are no multiple of {n_filters} filters")
    return {
        "n_filters": n_filters,
        "kernel_size": kernel_size,
        "d_model": d_model,
        "n_layers": _count(shapes, "masknet.mamba_net.layers."),
        "d_state": d_state,
        "n_speakers": mask_out // n_filters,
        "causal": "masknet.mamba_net.layers.0.mixer.A_b_log" not in shapes,
    }


def _infer_dual_path(shapes: Shapes, layers: str) -> dict[str, Any]:
    """What DPMamba and Sepformer have in common; ``layers`` is where an inner model keeps its layers."""
    n_filters, one, kernel_size = _shape(shapes, "encoder.conv1d.weight", 3)
    mask_out, d, _, _ = _shape(shapes, "masknet.conv2d.weight", 4)
    if one != 1 or d != n_filters or mask_out % d:
        raise ModelError("the encoder's and the mask network's tensors do not fit together")
    return {
        "n_filters": n_filters,
        "kernel_size": kernel_size,
        "n_blocks": _count(shapes, "masknet.dual_mdl."),
        "n_layers": _count(shapes, f"masknet.dual_mdl.0.intra_mdl.{layers}."),
        "n_speakers": mask_out // d,
    }


def infer_dpmamba(shapes: Shapes) -> dict[str, Any]:
    """The settings of a DPMamba that its tensors fix: all but stride, chunk, skip and sample rate.

    Raises ModelError as :func:`infer_mamba_tasnet` does.
    """
    found = _infer_dual_path(shapes, "layers")
    A_log = _shape(shapes, "masknet.dual_mdl.0.intra_mdl.layers.0.mixer.A_log", 2)
    return found | {"d_state": A_log[1]}


def infer_sepformer(shapes: Shapes) -> dict[str, Any]:
    """The settings of a Sepformer that its tensors fix: all but heads, stride, chunk, skip and sample rate.

    Raises ModelError as :func:`infer_mamba_tasnet` does.
    """
    found, inner = _infer_dual_path(shapes, "mdl.layers"), "masknet.dual_mdl.0.intra_mdl."
    return found | {
        "d_ffn": _shape(shapes, f"{inner}mdl.layers.0.pos_ffn.ffn.0.weight", 2)[0],
        "max_positions": _shape(shapes, f"{inner}pos_enc.pe", 3)[1],
    }


def infer_seanet_codec(shapes: Shapes) -> dict[str, Any]:
    """The settings of a codec that its tensors fix: all but sample rate and padding.

    Raises ModelError: a tensor that every codec has is missing, or of an impossible shape.
    """
    size, dimension = _shape(shapes, "quantizer.vq.layers.0._codebook.embed", 2)
    pattern = re.compile(r"decoder\.model\.(\d{1,4})\.convtr\.convtr\.weight")
    ups = {int(m[1]): name for name in shapes if (m := pattern.fullmatch(name))}
    return {
        "n_filters": _shape(shapes, "encoder.model.0.conv.conv.weight", 3)[0],
        "dimension": dimension,
        "ratios": [_shape(shapes, ups[i], 3)[2] // 2 for i in sorted(ups)],
        "n_codebooks": sum(name.endswith("._codebook.embed") for name in shapes),
        "codebook_size": size,
        "lstm": any(".lstm." in name for name in shapes),
    }


INFER: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "mamba-tasnet": infer_mamba_tasnet,
    "dpmamba": infer_dpmamba,
    "sepformer": infer_sepformer,
    "seanet-codec": infer_seanet_codec,
}
"""Architectures whose settings can be read off the tensors."""


def check_config(architecture: str, config: Mapping[str, Any], shapes: Shapes) -> None:
    """Compare a declared config with the tensors' shapes, and bound what shapes cannot tell.

    Allocates nothing, builds nothing. Raises ModelError with the first setting that disagrees.
    """
    if architecture in INFER:
        for key, found in INFER[architecture](shapes).items():
            if key in config and config[key] != found:
                raise ModelError(f"the config says {key} = {config[key]}, the tensors say {found}")
    # Whatever the architecture: no more layers than tensors, no width that no tensor has (but rates, tables).
    largest = max([4096, len(shapes), *(d for shape in shapes.values() for d in shape)])
    for key, value in config.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if re.search("layer|block|repeat|stage", key) and number > len(shapes):
                raise ModelError(f"the config says {key} = {number}, there are {len(shapes)} tensors")
            if number > largest and "rate" not in key:
                raise ModelError(
                    f"the config says {key} = {number}, the largest tensor dimension is {largest}"
                )
    stride, kernel = config.get("stride"), config.get("kernel_size")
    if isinstance(stride, int) and isinstance(kernel, int) and not 1 <= stride <= kernel:
        raise ModelError(f"the config says stride = {stride} with kernel_size = {kernel}")


def _count(shapes: Shapes, prefix: str) -> int:
    found = {int(m[1]) for n in shapes if (m := re.match(rf"{re.escape(prefix)}(\d{{1,6}})\.", n))}
    if found != set(range(len(found))):
        raise ModelError("the mask network's layers are not numbered without gaps")
    return len(found)


def _shape(shapes: Shapes, name: str, rank: int) -> tuple[int, ...]:
    if name not in shapes:
        raise ModelError(f"tensor {name} is missing")
    shape = shapes[name]
    if len(shape) != rank or 0 in shape:
        raise ModelError(f"tensor {name} has shape {tuple(shape)}")
    return shape
