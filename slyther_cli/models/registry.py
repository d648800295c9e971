"""Every architecture and its named sizes (papers.md 1.1, 2.4, 7.1). A network more is a few lines more
here."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from slyther_cli.errors import ModelError

_TASNET_SIZES: dict[str, dict[str, Any]] = {
    "xs": {"n_filters": 128, "d_model": 128, "n_layers": 16},
    "s": {"n_filters": 256, "d_model": 256, "n_layers": 16},
    "m": {"n_filters": 256, "d_model": 256, "n_layers": 32},
    "l": {"n_filters": 512, "d_model": 512, "n_layers": 32},
}

# name -> (architecture, config). The plain names are the published two-speaker models.
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {}
for _size, _sizes in _TASNET_SIZES.items():
    PRESETS[f"mamba-tasnet-{_size}"] = ("mamba-tasnet", _sizes)
    PRESETS[f"mamba-tasnet-{_size}-3spk"] = ("mamba-tasnet", {**_sizes, "n_speakers": 3})
    PRESETS[f"mamba-tasnet-{_size}-causal"] = ("mamba-tasnet", {**_sizes, "causal": True})

_LARGE = {"n_fft": 512, "window": 512, "d_model": 512, "d_ffn": 2048, "n_decoder_layers": 6, "n_heads": 8}
_CHARACTERS = {"n_fft": 512, "decoder": "none", "vocab": 31}  # CTC alone
_CONMAMBA_SIZES: dict[str, dict[str, Any]] = {
    "s-transformer": {},
    "s-mamba": {"decoder": "mamba"},
    "l-transformer": _LARGE,
    "l-mamba": {**_LARGE, "decoder": "mamba"},
    "ctc": {**_CHARACTERS, "d_model": 256, "n_layers": 18},
    # ours: small enough to train on a desktop computer and to run many times faster than speech on one core
    "ctc-small": {**_CHARACTERS, "n_layers": 8, "d_ffn": 576, "max_positions": 1},
    "ctc-small-causal": {**_CHARACTERS, "n_layers": 8, "d_ffn": 576, "max_positions": 1, "causal": True},
}
for _size, _sizes in _CONMAMBA_SIZES.items():
    PRESETS[f"conmamba-{_size}"] = ("conmamba", _sizes)
PRESETS["conformer-s"] = ("conformer", {})
PRESETS["conformer-l"] = ("conformer", _LARGE)
PRESETS["conformer-ctc"] = ("conformer", {**_CHARACTERS, "d_model": 256, "n_layers": 18})
PRESETS["speech-mamba"] = ("speech-mamba", {})
PRESETS["transformer"] = ("transformer", {})  # what Speech-Mamba is compared with
# equally large ones to compare on long recordings, small enough to train on a desktop computer
_SMALL_ASR = {"d_model": 144, "max_positions": 1}
_SMALL_TRANSFORMER = {**_SMALL_ASR, "n_layers": 10, "n_decoder_layers": 2}
PRESETS["speech-mamba-small"] = (
    "speech-mamba",
    {**_SMALL_ASR, "d_state": 16, "n_layers": 7, "n_decoder_layers": 2},
)
PRESETS["conmamba-small"] = (
    "conmamba",
    {**_SMALL_ASR, "n_layers": 6, "d_ffn": 384, "decoder": "mamba", "n_decoder_layers": 2},
)
for _positions, _width in (("absolute", 688), ("relative", 628), ("none", 688)):
    _sizes = {**_SMALL_TRANSFORMER, "d_ffn": _width, "positions": _positions}
    PRESETS[f"transformer-{_positions}-small"] = ("transformer", _sizes)

# HuBERT base and its Mamba counterpart; the small ones, ours, can be trained on a desktop computer
_SMALL_HUBERT = {
    **{"conv_width": 128, "d_model": 144, "n_layers": 6, "n_heads": 4, "d_ffn": 576, "final_dim": 64},
    **{"dropout": 0.0, "layer_drop": 0.0},
}
PRESETS["hubert-base"] = ("hubert", {})
PRESETS["mamba-hubert-base"] = ("hubert", {"layer": "conbimamba"})
PRESETS["hubert-small"] = ("hubert", _SMALL_HUBERT)
PRESETS["mamba-hubert-small"] = ("hubert", {**_SMALL_HUBERT, "layer": "conbimamba"})

_DPMAMBA_SIZES: dict[str, dict[str, Any]] = {
    "xs": {},
    "s": {"n_filters": 256},
    "m": {"n_filters": 256, "n_blocks": 16, "skip_around_intra": True},
    "l": {"n_filters": 512, "n_blocks": 16, "skip_around_intra": True},
}
for _size, _sizes in _DPMAMBA_SIZES.items():
    PRESETS[f"dpmamba-{_size}"] = ("dpmamba", _sizes)
PRESETS["sepformer"] = ("sepformer", {})

PRESETS["encodec-24khz"] = (
    "seanet-codec",
    {"sample_rate": 24_000, "n_filters": 32, "n_codebooks": 32, "lstm": True, "pad": "reflect"},
)
PRESETS["codec-16k"] = ("spectral-codec", {})

_SMALL_VOICE = {
    **{"alphabet": "arpabet", "n_symbols": 80, "codec": "codec-16k", "sample_rate": 16_000},
    **{"frame_rate": 50, "d_model": 256, "d_ffn": 768, "n_layers": 6, "n_nar_layers": 4, "n_text_layers": 2},
}
PRESETS["speaker-16k"] = ("speaker-net", {})
PRESETS["vall-e"] = ("vall-e", {})
PRESETS["vall-m"] = ("vall-m", {})
PRESETS["vall-me"] = ("vall-m", {"conditioning": "encoder"})
PRESETS["vall-m-small"] = ("vall-m", {**_SMALL_VOICE})
PRESETS["vall-me-small"] = ("vall-m", {**_SMALL_VOICE, "conditioning": "encoder"})
PRESETS["vall-me-aligned-small"] = ("vall-m", {**_SMALL_VOICE, "conditioning": "aligned"})

TASKS = {
    "mamba-tasnet": "separate",
    "dpmamba": "separate",
    "sepformer": "separate",
    "conmamba": "transcribe",
    "conformer": "transcribe",
    "speech-mamba": "transcribe",
    "transformer": "transcribe",
    "hubert": "represent",
    "hubert-ctc": "transcribe",
    "seanet-codec": "codec",
    "spectral-codec": "codec",
    "vall-m": "speak",
    "vall-e": "speak",
    "speaker-net": "embed",
}
_BOUNDS = {
    "n_layers": 256,
    "n_speakers": 16,
    "d_state": 1024,
    "kernel_size": 4096,
    "stride": 2048,
    "sample_rate": 768_000,
}


def _parts(architecture: str) -> tuple[type, type]:
    if architecture == "mamba-tasnet":
        from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig

        return MambaTasNetConfig, MambaTasNet
    if architecture == "dpmamba":
        from slyther_cli.models.dpmamba import DPMamba, DPMambaConfig

        return DPMambaConfig, DPMamba
    if architecture == "sepformer":
        from slyther_cli.models.sepformer import Sepformer, SepformerConfig

        return SepformerConfig, Sepformer
    if architecture == "conmamba":
        from slyther_cli.models.conmamba import ConMamba, ConMambaConfig

        return ConMambaConfig, ConMamba
    if architecture == "conformer":
        from slyther_cli.models.conformer import Conformer, ConformerConfig

        return ConformerConfig, Conformer
    if architecture == "speech-mamba":
        from slyther_cli.models.speech_mamba import SpeechMamba, SpeechMambaConfig

        return SpeechMambaConfig, SpeechMamba
    if architecture == "transformer":
        from slyther_cli.models.transformer import Transformer, TransformerConfig

        return TransformerConfig, Transformer
    if architecture == "hubert":
        from slyther_cli.models.hubert import Hubert, HubertConfig

        return HubertConfig, Hubert
    if architecture == "hubert-ctc":
        from slyther_cli.models.hubert_ctc import HubertCtc, HubertCtcConfig

        return HubertCtcConfig, HubertCtc
    if architecture == "seanet-codec":
        from slyther_cli.models.codec import SeanetCodec, SeanetConfig

        return SeanetConfig, SeanetCodec
    if architecture == "spectral-codec":
        from slyther_cli.models.codec import SpectralCodec, SpectralConfig

        return SpectralConfig, SpectralCodec
    if architecture == "vall-m":
        from slyther_cli.models.vall_m import VallM, VallMConfig

        return VallMConfig, VallM
    if architecture == "vall-e":
        from slyther_cli.models.vall_e import VallE, VallEConfig

        return VallEConfig, VallE
    if architecture == "speaker-net":
        from slyther_cli.models.speaker import SpeakerConfig, SpeakerNet

        return SpeakerConfig, SpeakerNet
    raise ModelError(f"unknown architecture {architecture!r}; known: {', '.join(TASKS)}")


def full_config(architecture: str, config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with every default filled in. Raises :class:`ModelError` on unknown keys and values out of
    bounds."""
    kind, _ = _parts(architecture)
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
    kind, network = _parts(architecture)
    filled = full_config(architecture, config)
    try:
        return network(kind(**filled))
    except ValueError as error:
        raise ModelError(f"{architecture}: {error}") from None


def parameter_count(architecture: str, config: dict[str, Any]) -> int:
    """Parameters of a size, counted without allocating them."""
    import torch

    with torch.device("meta"):
        return sum(p.numel() for p in build(architecture, config).parameters())
