"""Import of SpeechBrain recognition checkpoints (model.ckpt, normalizer.ckpt) into our format.

Layout and names: papers.md 3.2. ``model.ckpt`` is a list of modules [front end, network, seq_lin, ctc_lin],
or [front end, network, ctc_lin] for CTC alone; importing renames these numbers and nothing else, but for
SpeechBrain's own spelling ``mutihead_attn``. Sizes are read off the tensors; what no tensor tells (heads,
window) comes from the run's hyperparams.yaml, else from the published size that fits.

Unpickling is left to ``speechbrain.read_checkpoint`` and its check.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from slyther_cli.checkpoints import places, speechbrain, store
from slyther_cli.checkpoints.config import shorten
from slyther_cli.checkpoints.layout import Shapes, _shape
from slyther_cli.decode.tokens import LONGEST_FILE, SentencePieceTokenizer
from slyther_cli.errors import ModelError

MODEL_FILE = "model.ckpt"
TOKENIZER_FILE = "tokenizer.ckpt"
NORMALIZER_FILES = ("normalizer.ckpt", "normalize.ckpt")
_LAYERS = "transformer.encoder.layers.0."
_KINDS = {  # a tensor of the first encoder layer -> architecture
    f"{_LAYERS}mamba.A_log": "conmamba",
    f"{_LAYERS}mha_layer.pos_bias_u": "conformer",
    f"{_LAYERS}mamba_layers1.0.mixer.A_log": "speech-mamba",
}


def import_folder(
    src: str | Path,
    dest: str | Path | None = None,
    name: str | None = None,
    *,
    tokenizer: Path | None = None,
    **meta: Any,
) -> Path:
    """Convert a SpeechBrain checkpoint or run folder to a model folder of ours and return the latter.

    ``dest``: the new folder, by default ``NAME`` in the cache; ``name``: by default that of ``dest``, else of
    the run. ``tokenizer``: the SentencePiece model that its texts were written with, by default that of the
    run. ``meta`` goes to ``store.save``. Nothing that exists is replaced.

    Raises ModelError: not such a folder, an unsafe or damaged file, another architecture than ConMamba,
    Conformer or Speech-Mamba, tensors that do not fit it, no tokenizer or one of another size. OutputError:
    ``dest`` cannot be written.
    """
    folder = find_checkpoint(Path(src))
    dest, name = places.new_folder(dest, name, speechbrain._default_name(folder))
    tensors = rename(speechbrain.read_checkpoint(folder / MODEL_FILE))
    tensors |= read_normalizer(folder)
    tokens = read_tokenizer(tokenizer or find_tokenizer(folder))
    model, architecture, config = _build(folder, tensors)
    if tokens.size != config["vocab"]:
        raise ModelError(
            f"the tokenizer has {tokens.size} tokens, the model writes {config['vocab']}: name another one"
        )
    meta.setdefault("source", f"imported from the SpeechBrain checkpoint {folder.name}")
    how: dict[str, Any] = {"architecture": architecture, "config": config, "companions": tokens.save}
    return store.save(dest, model, name=name, task="transcribe", **how, **meta)


def is_one(src: Path) -> bool:
    """Whether ``src`` looks like a recognition checkpoint, or a run with some."""
    return any(any(src.glob(f"{below}{MODEL_FILE}")) for below in ("", "CKPT+*/", "save/CKPT+*/"))


def find_tokenizer(folder: Path) -> Path:
    """The SentencePiece model beside a checkpoint or in its run: ``tokenizer.ckpt``, as a recipe's pretrainer
    calls it, or ``5000_unigram.model``, as it is called where the run trained it. Raises ModelError: none, or
    several."""
    run = speechbrain._run_folder(folder)
    for place in (folder, *((run / "save", run) if run else ())):
        try:
            found = [p for p in [place / TOKENIZER_FILE, *sorted(place.glob("*.model"))] if p.is_file()]
        except OSError:
            continue
        if len(found) > 1:
            raise ModelError(f"{shorten(place, 200)} has {len(found)} tokenizers: name one with --tokenizer")
        if found:
            return found[0]
    raise ModelError(
        f"{folder.name} comes without its tokenizer, and its text could not be read: name the SentencePiece "
        f"model ({TOKENIZER_FILE} or *.model) with --tokenizer"
    )


def read_tokenizer(path: Path) -> SentencePieceTokenizer:
    """A SentencePiece model as our alphabet, its case read off its pieces. Raises ModelError."""
    try:
        with open(path, "rb") as file:
            data = file.read(LONGEST_FILE + 1)
    except OSError as error:
        raise ModelError(f"cannot read {shorten(path, 200)}: {error.strerror or error}") from None
    if len(data) > LONGEST_FILE:
        raise ModelError(f"{shorten(path, 200)} is too large for a tokenizer")
    tokens = SentencePieceTokenizer(data, "keep", shorten(path, 200))
    letters = "".join(tokens.surface(i) for i in range(tokens.size))
    case = "upper" if letters == letters.upper() else "lower" if letters == letters.lower() else "keep"
    return SentencePieceTokenizer(data, case, shorten(path, 200))


def find_checkpoint(src: Path) -> Path:
    """The folder with model.ckpt: ``src`` itself, or the best checkpoint in a run folder (highest ACC, else
    lowest WER, as its CKPT.yaml says).

    Raises ModelError: none, or several of which none says how good it is.
    """
    found = speechbrain.list_checkpoints(src, (MODEL_FILE,), MODEL_FILE, "recognition")
    if len(found) == 1:
        return found[0]
    for key, sign in (("ACC", 1), ("WER", -1)):
        scored = [(v, p) for p in found if (v := speechbrain._yaml_number(p / "CKPT.yaml", key)) is not None]
        if scored:
            return max(scored, key=lambda item: sign * item[0])[1]
    raise ModelError(
        f"{shorten(src, 200)} holds {len(found)} checkpoints, none with its ACC or WER: name one of them"
    )


def rename(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """SpeechBrain's names -> ours, see the head of this file. Raises ModelError on a name of another
    layout."""
    numbers = sorted({key.split(".", 1)[0] for key in tensors})
    prefixes = {
        "0 1 2": ("frontend", "transformer", "ctc_lin"),
        "0 1 2 3": ("frontend", "transformer", "seq_lin", "ctc_lin"),
    }.get(" ".join(numbers))
    if prefixes is None:
        raise ModelError(f"{MODEL_FILE} is no list of three or four modules, as recognition models are")
    out = {}
    for key, value in tensors.items():
        number, _, rest = key.partition(".")
        rest = re.sub(r"(decoder\.layers\.\d+\.)mutihead_attn\.", r"\1multihead_attn.", rest)
        out[f"{prefixes[int(number)]}.{rest}"] = value
    if len(out) < len(tensors):
        raise ModelError(f"{MODEL_FILE} holds the same tensor under two names")
    return out


def read_normalizer(folder: Path) -> dict[str, torch.Tensor]:
    """Global mean and deviation of the features, under our names. Raises ModelError as ``read_checkpoint``
    does.

    The file holds counts and statistics by speaker, too, so it is no plain dictionary of tensors.
    """
    path = next((folder / f for f in NORMALIZER_FILES if (folder / f).is_file()), None)
    if path is None:
        raise ModelError(
            f"the checkpoint has no {NORMALIZER_FILES[0]}, without which its features mean nothing"
        )
    try:
        data_bytes = speechbrain._check_zip(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except Exception as e:  # as in read_checkpoint
        raise ModelError(f"{path.name} is damaged or not a torch checkpoint: {shorten(e, 100)}") from e
    out = {}
    for key in ("glob_mean", "glob_std"):
        value = state.get(key) if isinstance(state, dict) else None
        if not isinstance(value, torch.Tensor) or value.dim() != 1 or value.layout != torch.strided:
            raise ModelError(f"{path.name} holds no {key} of the features")
        if value.numel() * value.element_size() > data_bytes:
            raise ModelError(f"{path.name} is refused: its tensors are larger than the file")
        out[f"normalize.{key}"] = value
    return out


def infer(shapes: Shapes) -> tuple[str, dict[str, Any]]:
    """Architecture and settings that tensors of our names and these shapes fix. Raises ModelError."""
    architecture = next((a for key, a in _KINDS.items() if key in shapes), None)
    if architecture is None:
        raise ModelError(
            "the checkpoint is of an architecture that slyther does not know; ConMamba, Conformer and "
            "Speech-Mamba can be imported"
        )
    decoder = "transformer.decoder.layers."
    tables = [k for k in shapes if re.fullmatch(r"transformer\.positional_encoding(_decoder)?\.pe", k)]
    config: dict[str, Any] = {
        "n_mels": _shape(shapes, "normalize.glob_mean", 1)[0],
        "d_model": _shape(shapes, "transformer.encoder.norm.norm.weight", 1)[0],
        "n_layers": _count(shapes, "transformer.encoder.layers."),
        "vocab": _shape(shapes, "ctc_lin.w.weight", 2)[0],
        "max_positions": _shape(shapes, tables[0], 3)[1] if tables else 1,
    }
    if architecture == "speech-mamba":
        config["d_state"] = _shape(shapes, f"{_LAYERS}mamba_layers1.0.mixer.A_log", 2)[1]
        return architecture, config | {"n_decoder_layers": _count(shapes, decoder)}
    if architecture == "conmamba":
        config["d_state"] = _shape(shapes, f"{_LAYERS}mamba.A_log", 2)[1]
        config["causal"] = f"{_LAYERS}mamba.A_b_log" not in shapes
    config["d_ffn"] = _shape(shapes, f"{_LAYERS}ffn_module1.1.ffn.0.weight", 2)[0]
    config["kernel_size"] = _shape(shapes, f"{_LAYERS}convolution_module.conv.weight", 3)[2]
    config["decoder"] = "none"
    if n := _count(shapes, decoder):
        config["decoder"] = "mamba" if f"{decoder}0.self_mamba.A_log" in shapes else "transformer"
        config["n_decoder_layers"] = n
    return architecture, config


def _count(shapes: Shapes, prefix: str) -> int:
    found = {int(m[1]) for key in shapes if (m := re.match(rf"{re.escape(prefix)}(\d{{1,6}})\.", key))}
    if found != set(range(len(found))):
        raise ModelError(f"the layers of {prefix.rstrip('.')} are not numbered without gaps")
    return len(found)


def _from_settings(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """What no tensor tells: hyperparams.yaml, else as published for this size (papers.md 2.1, 2.4)."""
    large = config["d_model"] >= 512 and "decoder" in config
    short = config.get("decoder", "transformer") != "none" and not large  # S, Speech-Mamba
    rate = 16000
    out = {"n_heads": 8 if large else 4, "n_fft": 400 if short else 512, "window": 512 if large else 400}
    for place in (speechbrain._run_folder(folder), folder):
        if place is None:
            continue
        for key, ours, unit in (
            ("nhead", "n_heads", 1),
            ("n_fft", "n_fft", 1),
            ("win_length", "window", rate / 1000),
        ):
            value = speechbrain._yaml_number(place / "hyperparams.yaml", key)
            if value is not None and 1 <= value * unit <= 4096:
                out[ours] = round(value * unit)
    return out


def _build(folder: Path, tensors: dict[str, torch.Tensor]) -> tuple[torch.nn.Module, str, dict[str, Any]]:
    """The network that these tensors are of, loaded with them. Raises ModelError."""
    shapes = {k: tuple(t.shape) for k, t in tensors.items()}
    architecture, config = infer(shapes)
    config |= _from_settings(folder, config)
    if architecture == "conformer":
        config["n_heads"] = _shape(shapes, f"{_LAYERS}mha_layer.pos_bias_u", 2)[1]
    declared = store.ModelConfig("imported", "transcribe", architecture, config)
    try:
        store.check_fit(declared, shapes, "its tensors")  # before memory is taken, as for separation
    except ModelError as e:
        raise ModelError(f"{folder.name} is no {architecture} that slyther knows: {shorten(e, 200)}") from e
    model = store.build(declared, folder.name)
    model.load_state_dict({k: t.to(torch.float32) for k, t in tensors.items()}, strict=True)
    return model, architecture, config
