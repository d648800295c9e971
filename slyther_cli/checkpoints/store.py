"""Saving and loading model folders: ``config.json`` + ``model.safetensors`` (+ ``CARD.md`` + companions).

Nothing is unpickled here. A folder is trusted in this order: the config's values are bounded (``config``),
compared with the tensors' shapes in the safetensors header (``layout``), the network is built on the meta
device, which allocates nothing, and its tensors compared by name and shape; only then is memory taken.
Format: https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from slyther_cli.checkpoints import layout, packed
from slyther_cli.checkpoints.config import (
    CARD_FILE,
    CONFIG_FILE,
    FORMAT,
    WEIGHTS_FILE,
    ModelConfig,
    parse_config,
    read_config,
    shorten,
)
from slyther_cli.checkpoints.places import check_task, resolve
from slyther_cli.errors import ModelError, OutputError
from slyther_cli.models import registry
from slyther_cli.runtime import take_memory

__all__ = ["ModelConfig", "build", "check", "check_fit", "load", "read_config", "resolve", "save"]

MAX_TENSORS = 100_000
MAX_BYTES = 16 << 30
"""Of a weights file. Far above any speech model, and what keeps a sparse file from taking the machine."""
MAX_HEADER = 16 << 20
"""Bytes of a weights file's list of tensors, which takes much more than that in memory."""
COMPANIONS = {"tokens.json", "tokenizer.model", "lm.bin", "lexicon.npz", "voice.safetensors"}
"""What may stand beside the weights: an alphabet, a language model, a voice."""
_FLOATS = {"F64", "F32", "F16", "BF16"}
_FLOAT_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def save(
    folder: str | Path,
    model: torch.nn.Module,
    *,
    card: str | None = None,
    dtype: torch.dtype | None = None,
    only: str = "",
    companions: Callable[[Path], None] | None = None,
    **about: Any,
) -> Path:
    """Write ``model`` to ``folder``, whole or not at all, and return the folder.

    ``about`` goes into ``config.json``: ``name``, ``task``, ``architecture`` and ``config``, as
    :class:`ModelConfig` has them, ``source``, ``license``, ``metrics``, and whatever else is JSON. ``dtype``
    stores floats in another type, ``torch.int8`` as :mod:`~slyther_cli.checkpoints.packed` says (``load``
    gives float32 in any case), and then those alone whose names begin with ``only``. ``companions`` writes
    the files of :data:`COMPANIONS` that belong to it into the folder that it gets. An earlier model in
    ``folder`` is replaced, its ``CARD.md`` kept unless ``card`` is given; a folder that holds anything else
    is never touched.

    Raises ModelError: weights that are not finite, or that do not fit the config. OutputError: cannot be
    written.
    """
    folder = Path(os.path.abspath(folder))
    name, task, architecture, config = (about.pop(k) for k in ("name", "task", "architecture", "config"))
    config = registry.full_config(architecture, config)  # a default that changes must not change this model
    data = {"format": FORMAT, "name": name, "task": task, "architecture": architecture, "config": config}
    data |= about
    try:
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as e:
        raise ModelError(f"config of model {name} cannot be saved as JSON: {e}") from e
    checked = parse_config(json.loads(text))
    tensors = {key: value.detach().to("cpu") for key, value in model.state_dict().items()}
    check_fit(checked, {k: tuple(t.shape) for k, t in tensors.items()}, f"model {name}")
    if dtype == torch.int8:
        tensors = packed.pack(tensors, only)
    for key, tensor in tensors.items():
        if dtype not in (None, torch.int8) and tensor.is_floating_point():
            tensor = tensor.to(dtype)
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"model {name} is not saved: {key} has values that are not finite")
        tensors[key] = tensor.contiguous().clone()

    def fill(temporary: Path) -> None:
        save_file(tensors, temporary / WEIGHTS_FILE, metadata={"format": "pt"})
        (temporary / CONFIG_FILE).write_text(text, encoding="utf-8")
        if companions is not None:
            companions(temporary)
        if card is not None:
            (temporary / CARD_FILE).write_text(card, encoding="utf-8")
        elif (folder / CARD_FILE).is_file():
            shutil.copyfile(folder / CARD_FILE, temporary / CARD_FILE)
        mode = (temporary / CONFIG_FILE).stat().st_mode & 0o777
        for path in temporary.iterdir():
            path.chmod(mode)  # safetensors makes its file private, whatever the umask
            with open(path, "rb") as file:
                os.fsync(file.fileno())

    try:
        _write_folder(folder, fill)
    except (OSError, SafetensorError) as e:
        raise OutputError(f"cannot write model folder {folder}: {e}") from e
    return folder


def save_like(about: ModelConfig, folder: str | Path, model: torch.nn.Module, **changes: Any) -> Path:
    """``save`` with all that is said of the model ``about`` and what stands beside its weights, but for
    ``changes``; a source, licence or metrics of None are left out.
    """
    assert about.path is not None
    place = about.path

    def companions(new: Path) -> None:
        for name in COMPANIONS:
            if (place / name).is_file():
                shutil.copyfile(place / name, new / name)

    fixed = {key: getattr(about, key) for key in ("name", "architecture", "config", "task")}
    meta = {key: changes.pop(key, getattr(about, key)) for key in ("source", "license", "metrics")}
    said = fixed | {key: value for key, value in meta.items() if value is not None} | about.extra | changes
    return save(folder, model, companions=companions, **said)


def load(
    name_or_path: str | os.PathLike[str],
    *,
    expect_task: str | None = None,
    expect_architecture: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.nn.Module, ModelConfig]:
    """The network (on the CPU, eval mode) and the config of a model given by name or folder (see
    ``places.resolve``).

    Raises ModelError, each with one line: unknown name, another task or architecture, a damaged config or
    weights file, tensors that do not fit the config, values that are not finite.
    """
    folder = resolve(name_or_path, expect_task)
    config = read_config(folder)
    label = f"model {config.name}"
    if expect_task is not None:
        check_task(config, expect_task)
    if expect_architecture is not None and config.architecture != expect_architecture:
        raise ModelError(f"{label} is a {config.architecture}: this takes a {expect_architecture}")
    path = folder / WEIGHTS_FILE
    with _open(path) as file:
        check_fit(config, _header(file, path), str(path))
        with registry.undrawn():
            module = build(config, str(path)).to(dtype)
        module.load_state_dict(_tensors(file, path, module))
    return module.eval(), config


def check(folder: str | Path) -> ModelConfig:
    """Config and tensor shapes of a model folder, without loading the values. Raises ModelError as
    ``load`` does.
    """
    config = read_config(folder)
    path = Path(folder) / WEIGHTS_FILE
    with _open(path) as file:
        check_fit(config, _header(file, path), str(path))
    return config


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    """A safetensors file, its header checked by the library; all its errors as ModelError."""
    take_memory()  # where there is none the library does not raise: it aborts
    try:
        if not path.is_file():
            raise ModelError(f"{path.parent} has no {WEIGHTS_FILE}")
        if path.stat().st_size > MAX_BYTES:
            raise ModelError(f"{path} is larger than {MAX_BYTES >> 30} GiB: not a speech model")
        with open(path, "rb") as start:
            if int.from_bytes(start.read(8), "little") > MAX_HEADER:
                raise ModelError(f"{path} is damaged: its header is larger than {MAX_HEADER >> 20} MiB")
        with safe_open(path, framework="pt", device="cpu") as file:
            yield file
    except (SafetensorError, OSError) as e:
        raise ModelError(f"{path} is damaged or cannot be read: {shorten(e, 120)}") from e


def _header(file: Any, path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors, from the header alone; the scales of packed ones belong to those."""
    keys = set(file.keys())
    if len(keys) > MAX_TENSORS:
        raise ModelError(f"{path} holds {len(keys)} tensors: not a speech model")
    scales = {key + packed.SUFFIX for key in keys}
    return {key: tuple(file.get_slice(key).get_shape()) for key in sorted(keys - scales)}


def build(config: ModelConfig, label: str) -> torch.nn.Module:
    """The network of a config, with initial values. Raises ModelError, whatever the config makes the
    network raise.
    """
    try:
        # Initial values are overwritten at once: the caller's random numbers must not depend on them.
        with torch.random.fork_rng(devices=[]):
            return registry.build(config.architecture, dict(config.config))
    except ModelError:
        raise
    except Exception as e:  # a config is foreign input: whatever a network makes of it is the config's fault
        raise ModelError(
            f"{label}: no {config.architecture} can be built from its config: {shorten(e, 120)}"
        ) from e


def check_fit(config: ModelConfig, shapes: dict[str, tuple[int, ...]], label: str) -> None:
    """Compare config and tensors by building on the meta device. Raises ModelError with the first
    difference.
    """
    known = registry.ARCHITECTURES.get(config.architecture)
    task = known.task if known else config.task
    if task != config.task:
        raise ModelError(f"{label}: a {config.architecture} can {task}, its config says it can {config.task}")
    try:
        layout.check_config(config.architecture, config.config, shapes)
    except ModelError as e:
        raise ModelError(f"{label} does not fit its config: {e}") from e
    with registry.shapes_only():
        wanted = {k: tuple(t.shape) for k, t in build(config, label).state_dict().items()}
    missing = sorted(wanted.keys() - shapes.keys())
    extra = sorted(shapes.keys() - wanted.keys())
    wrong = sorted(k for k in wanted.keys() & shapes.keys() if wanted[k] != shapes[k])
    for names, words in ((missing, "missing"), (extra, "not known")):
        if names:
            raise ModelError(
                f"{label} does not fit its config: {len(names)} tensors {words}, as {shorten(names[0], 100)}"
            )
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"{label} does not fit its config: {key} has shape {shapes[key]}, expected {wanted[key]}"
        )


def _tensors(file: Any, path: Path, module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All tensors in the types that the module has them in. Raises ModelError on a wrong type or a value
    not finite.
    """
    out: dict[str, torch.Tensor] = {}
    keys = set(file.keys())
    for key, own in module.state_dict().items():
        stored = file.get_slice(key).get_dtype()
        tensor = file.get_tensor(key)
        if key + packed.SUFFIX in keys:
            tensor, stored = packed.unpack(key, tensor, file.get_tensor(key + packed.SUFFIX)), "F32"
        if own.is_floating_point() != (stored in _FLOATS) or (stored in _FLOATS) != (
            tensor.dtype in _FLOAT_TYPES
        ):
            raise ModelError(f"{path}: tensor {key} is of type {stored}, which does not fit")
        tensor = tensor.to(own.dtype)
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{path}: tensor {key} has values that are not finite: the model is damaged")
        out[key] = tensor
    return out


def _write_folder(folder: Path, fill: Any) -> None:
    """Let ``fill`` write into a temporary folder beside ``folder``, then put it in place. Raises OSError,
    OutputError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    new, old = temporary / "new", temporary / "old"
    try:
        new.mkdir()
        fill(new)
        if not folder.exists():
            os.rename(new, folder)
            return
        if not folder.is_dir():
            raise OutputError(f"{folder} is in the way: not a folder")
        foreign = {p.name for p in folder.iterdir()} - {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE} - COMPANIONS
        if foreign:
            raise OutputError(
                f"{folder} is not replaced: it holds {shorten(min(foreign))}, which is no part of a model"
            )
        os.rename(folder, old)
        os.rename(new, folder)
    finally:
        if old.exists() and not folder.exists():  # stopped between the two
            os.rename(old, folder)
        shutil.rmtree(temporary, ignore_errors=True)
