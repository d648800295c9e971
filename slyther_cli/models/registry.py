"""Every architecture with its named sizes, the presets. A new network is one more :class:`Architecture`."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from slyther_cli.errors import ModelError


@dataclass(frozen=True)
class Architecture:
    """``task``: separate, transcribe, speak, codec, represent, embed or
    punctuate. ``network``: "module.Class" below
    ``slyther_cli.models``, imported on first use; its settings are the dataclass ``<Class>Config`` beside it,
    without Codec or Net. ``presets``: named sizes, each the settings that differ from the defaults; the plain
    names are the published models.

    >>> ARCHITECTURES["mamba-tasnet"].task
    'separate'
    """

    name: str
    task: str
    network: str
    presets: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    def classes(self) -> tuple[type, Any]:
        """The dataclass of the settings, and the network."""
        module, _, name = self.network.rpartition(".")
        found = importlib.import_module(f"slyther_cli.models.{module}")
        return getattr(found, f"{name}Config"), getattr(found, name)


_TASNET_SIZES: dict[str, dict[str, Any]] = {
    "xs": {"n_filters": 128, "d_model": 128, "n_layers": 16},
    "s": {"n_filters": 256, "d_model": 256, "n_layers": 16},
    "m": {"n_filters": 256, "d_model": 256, "n_layers": 32},
    "l": {"n_filters": 512, "d_model": 512, "n_layers": 32},
}
_TASNET_KINDS: dict[str, dict[str, Any]] = {"": {}, "-3spk": {"n_speakers": 3}, "-causal": {"causal": True}}

_LARGE = {"n_fft": 512, "window": 512, "d_model": 512, "d_ffn": 2048, "n_decoder_layers": 6, "n_heads": 8}
_CTC = {"n_fft": 512, "decoder": "none", "vocab": 31}  # CTC alone, of characters
_CTC_BASE = {**_CTC, "d_model": 256, "n_layers": 18}
# ours: small enough to train on a desktop computer and to run many times faster than speech on one core
_CTC_SMALL = {**_CTC, "n_layers": 8, "d_ffn": 576, "max_positions": 1}
# equally large ones to compare on long recordings, small enough to train on a desktop computer
_SMALL_ASR = {"d_model": 144, "max_positions": 1}
_SMALL_TRANSFORMER = {**_SMALL_ASR, "n_layers": 10, "n_decoder_layers": 2}
_SMALL_HUBERT = {
    **{"conv_width": 128, "d_model": 144, "n_layers": 6, "n_heads": 4, "d_ffn": 576, "final_dim": 64},
    **{"dropout": 0.0, "layer_drop": 0.0},
}
_ENCODEC = {"sample_rate": 24_000, "n_filters": 32, "n_codebooks": 32, "lstm": True, "pad": "reflect"}
_SMALL_VOICE = {
    **{"alphabet": "arpabet", "n_symbols": 80, "codec": "codec-16k-harmonic", "sample_rate": 16_000},
    **{"frame_rate": 50, "n_codebooks": 9, "d_model": 256, "d_ffn": 768},
    **{"n_layers": 4, "n_nar_layers": 6, "n_text_layers": 2},
}
_TWO_FIRST = {"n_first": 2, "n_codebooks": 5}  # stage one says pitch and coarse spectrum; five hold the words

ARCHITECTURES: dict[str, Architecture] = {
    found.name: found
    for found in (
        Architecture(
            "mamba-tasnet",
            "separate",
            "mamba_tasnet.MambaTasNet",
            {
                f"mamba-tasnet-{size}{kind}": {**sizes, **more}
                for size, sizes in _TASNET_SIZES.items()
                for kind, more in _TASNET_KINDS.items()
            },
        ),
        Architecture(
            "dpmamba",
            "separate",
            "dpmamba.DPMamba",
            {
                "dpmamba-xs": {},
                "dpmamba-s": {"n_filters": 256},
                "dpmamba-m": {"n_filters": 256, "n_blocks": 16, "skip_around_intra": True},
                "dpmamba-l": {"n_filters": 512, "n_blocks": 16, "skip_around_intra": True},
            },
        ),
        Architecture("sepformer", "separate", "sepformer.Sepformer", {"sepformer": {}}),
        Architecture(
            "conmamba",
            "transcribe",
            "conmamba.ConMamba",
            {
                "conmamba-s-transformer": {},
                "conmamba-s-mamba": {"decoder": "mamba"},
                "conmamba-l-transformer": _LARGE,
                "conmamba-l-mamba": {**_LARGE, "decoder": "mamba"},
                "conmamba-ctc": _CTC_BASE,
                "conmamba-ctc-small": _CTC_SMALL,
                "conmamba-ctc-small-causal": {**_CTC_SMALL, "causal": True},
                "conmamba-small": {
                    **{**_SMALL_ASR, "n_layers": 6, "d_ffn": 384, "decoder": "mamba", "n_decoder_layers": 2}
                },
            },
        ),
        Architecture(
            "conformer",
            "transcribe",
            "conformer.Conformer",
            {"conformer-s": {}, "conformer-l": _LARGE, "conformer-ctc": _CTC_BASE},
        ),
        Architecture(
            "speech-mamba",
            "transcribe",
            "speech_mamba.SpeechMamba",
            {
                "speech-mamba": {},
                "speech-mamba-small": {**_SMALL_ASR, "d_state": 16, "n_layers": 7, "n_decoder_layers": 2},
            },
        ),
        Architecture(
            "transformer",  # what Speech-Mamba is compared with
            "transcribe",
            "transformer.Transformer",
            {
                "transformer": {},
                **{
                    f"transformer-{positions}-small": {
                        **_SMALL_TRANSFORMER,
                        "d_ffn": width,
                        "positions": positions,
                    }
                    for positions, width in (("absolute", 688), ("relative", 628), ("none", 688))
                },
            },
        ),
        Architecture(
            "hubert",
            "represent",
            "hubert.Hubert",
            {
                "hubert-base": {},
                "mamba-hubert-base": {"layer": "conbimamba"},
                "hubert-small": _SMALL_HUBERT,
                "mamba-hubert-small": {**_SMALL_HUBERT, "layer": "conbimamba"},
            },
        ),
        Architecture("hubert-ctc", "transcribe", "hubert_ctc.HubertCtc"),
        Architecture("seanet-codec", "codec", "codec.SeanetCodec", {"encodec-24khz": _ENCODEC}),
        Architecture("harmonic-codec", "codec", "codec.HarmonicCodec", {"codec-16k-harmonic": {}}),
        Architecture("spectral-codec", "codec", "codec.SpectralCodec", {"codec-16k": {}}),
        Architecture(
            "vall-m",
            "speak",
            "vall_m.VallM",
            {
                "vall-m": {},
                "vall-me": {"conditioning": "encoder"},
                "vall-m-small": _SMALL_VOICE,
                "vall-me-small": {**_SMALL_VOICE, "conditioning": "encoder"},
                "vall-me-aligned-small": {**_SMALL_VOICE, **_TWO_FIRST, "conditioning": "aligned"},
            },
        ),
        Architecture("vall-e", "speak", "vall_e.VallE", {"vall-e": {}}),
        Architecture("highband-net", "widen", "highband.HighBandNet", {"highband-8k": {}}),
        Architecture("speaker-net", "embed", "speaker.SpeakerNet", {"speaker-16k": {}}),
        Architecture(
            "punctuator",
            "punctuate",
            "punctuation.Punctuator",
            {"punctuator": {}, "punctuator-causal": {"causal": True}},
        ),
    )
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    preset: (found.name, dict(settings))
    for found in ARCHITECTURES.values()
    for preset, settings in found.presets.items()
}
"""Name -> (architecture, settings)."""

_BOUNDS = {
    "n_layers": 256,
    "n_speakers": 16,
    "d_state": 1024,
    "kernel_size": 4096,
    "stride": 2048,
    "sample_rate": 768_000,
}


def architecture_of(name: str) -> Architecture:
    """Raises :class:`ModelError` on a name that is not known."""
    if name not in ARCHITECTURES:
        raise ModelError(f"unknown architecture {name!r}; known: {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]


def full_config(architecture: str, config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with every default filled in. Raises :class:`ModelError` on unknown keys and values out of
    bounds."""
    kind, _ = architecture_of(architecture).classes()
    known = {f.name: getattr(kind(), f.name) for f in fields(kind)}
    for key, value in config.items():
        if key not in known:
            raise ModelError(f"{architecture}: unknown setting {key!r}; known: {', '.join(known)}")
        wanted: type = type(known[key])
        if type(value) is not wanted:
            raise ModelError(f"{architecture}: {key} must be {wanted.__name__}, not {value!r}")
        if isinstance(value, int) and wanted is int and not 1 <= value <= _BOUNDS.get(key, 16_384):
            raise ModelError(f"{architecture}: {key} = {value} is out of bounds")
    try:
        return asdict(kind(**config))
    except ValueError as error:
        raise ModelError(f"{architecture}: {error}") from None


def build(architecture: str, config: dict[str, Any]):
    """A freshly initialised network. Raises :class:`ModelError` as :func:`full_config` does."""
    kind, network = architecture_of(architecture).classes()
    filled = full_config(architecture, config)
    try:
        return network(kind(**filled))
    except ValueError as error:
        raise ModelError(f"{architecture}: {error}") from None


_DRAWING = {"normal_", "uniform_", "trunc_normal_", "orthogonal_"} | {
    f"{name}_{law}_" for name in ("kaiming", "xavier") for law in ("normal", "uniform")
}


@contextlib.contextmanager
def shapes_only() -> Iterator[None]:
    """Networks built inside have tensors without values, on the meta device."""
    import torch

    with torch.device("meta"), undrawn():
        yield


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """Networks built inside have zeros where they would draw initial values: for those whose values are
    loaded. Drawing takes longer than loading; and on the meta device torch would import its compiler for it,
    which takes two seconds."""
    from torch.overrides import TorchFunctionMode

    class Undrawn(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if getattr(function, "__name__", "") in _DRAWING:
                found = args[0] if args else kwargs["tensor"]
                found.detach().zero_()
                return found
            return function(*args, **(kwargs or {}))

    with Undrawn():
        yield


def parameter_count(architecture: str, config: dict[str, Any]) -> int:
    """Parameters of a size, counted without allocating them."""
    with shapes_only():
        return sum(p.numel() for p in build(architecture, config).parameters())
