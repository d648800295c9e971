"""What every task needs before it computes: model, device, and words for when memory runs out."""

from __future__ import annotations

import errno
import os
from typing import Any

from slyther_cli.checkpoints import places
from slyther_cli.checkpoints.config import ModelConfig, read_config
from slyther_cli.errors import DeviceError, ModelError, UsageError
from slyther_cli.runtime import take_memory

OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "cannot allocate memory",
    "bad_alloc",
    "can't start new thread",
    "failed to map segment",
)
LIMIT_MEMORY = "set a smaller --memory-limit (such as 1GB), so that more goes to the disk"
MEMORY_REMEDIES = {  # of commands that have no such option
    "train": "set smaller numbers in [batch] of the configuration file, or fewer --workers",
    "eval": "take a smaller --model, or fewer --threads",
    "speak": "take a smaller --model",
    "weights": "close other programs, or import it on a machine with more",
}


def choose_model(
    task: str, model: str | os.PathLike[str] | None, default: str, speakers: int | None = None
) -> ModelConfig:
    """The config of the model to use; torch is not needed to choose.

    ``model`` is a name or a folder. Without it the default is taken, or, when ``speakers`` asks for another
    number, the first model on this machine that gives so many. Raises ModelError: unknown, damaged, made for
    another task, or for another number of speakers.
    """
    if model is not None:
        config = read_config(places.resolve(model, task))
    else:
        config = _default_model(task, default, speakers)
    places.check_task(config, task)
    if speakers is not None and (count := count_speakers(config)) != speakers:
        raise ModelError(
            f"model {config.name} gives {count} speakers, not {speakers}: "
            "leave --speakers out, or choose another --model"
        )
    return config


def _default_model(task: str, default: str, speakers: int | None) -> ModelConfig:
    if speakers is None:
        return read_config(places.resolve(default))
    here: list[tuple[str, int, ModelConfig]] = []
    for name, folder, _ in places.available():
        try:
            config = read_config(folder)
            if config.task == task:
                here.append((name, count_speakers(config), config))
        except ModelError:
            continue  # a damaged model in the cache is no reason against the others
    fitting = [(name, config) for name, count, config in here if count == speakers]
    for name, config in fitting:
        if name == default:
            return config
    if fitting:
        return fitting[0][1]
    known = ", ".join(f"{name} ({count})" for name, count, _ in here) or "none at all"
    raise ModelError(
        f"no model for {speakers} speakers is on this machine (here, with speakers: {known}); "
        "name one with --model"
    )


def count_speakers(config: ModelConfig) -> int:
    """How many stems the model gives. Raises ModelError when its config makes no sense."""
    stated = config.config.get("n_speakers")
    if type(stated) is int and 1 <= stated <= 16:
        return stated
    from slyther_cli.models import registry  # knows the defaults, and imports torch for it

    return int(registry.full_config(config.architecture, config.config).get("n_speakers", 1))


def sample_rate(config: ModelConfig) -> int:
    """Hz that the model works at. Raises ModelError when its config makes no sense."""
    stated = config.config.get("sample_rate")
    if type(stated) is int:
        return stated
    from slyther_cli.models import registry  # knows the defaults, and imports torch for it

    return int(registry.full_config(config.architecture, config.config)["sample_rate"])


def pick_device(name: str = "auto") -> str:
    """ "cpu", "cuda" or "cuda:N". Raises DeviceError when it is not there, UsageError when it is none."""
    kind, _, index = name.partition(":")
    if name not in ("auto", "cpu") and (kind != "cuda" or (":" in name and not index.isdecimal())):
        raise UsageError(f"device {name!r} is not known: choose auto, cpu, cuda or cuda:N")
    if name == "cpu":
        return name
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    if not count:
        why = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no usable GPU"
        )
        raise DeviceError(f"no CUDA device: {why}; use --device cpu, and see `slyther doctor`")
    if index and int(index) >= count:
        raise DeviceError(f"no device {name}: there are {count}, counted from 0")
    return name


def out_of_memory(error: BaseException, command: str = "") -> DeviceError | None:
    """The error to show when ``error`` means that memory ran out, on whatever device; else None.

    ``command`` names what ran, so that the error names what helps there.
    """
    said = str(error).lower()
    full = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    full = full or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
    kinds = RuntimeError | ImportError  # a library that finds no room when it is loaded
    full = full or (isinstance(error, kinds) and any(words in said for words in OUT_OF_MEMORY_WORDS))
    if isinstance(error, SystemError):  # Python itself may find no words when it finds no memory
        try:
            take_memory()
        except OSError:
            full = True
    if not full:
        return None
    where = "device memory" if "cuda" in said else "memory"
    return DeviceError(f"not enough {where}: {MEMORY_REMEDIES.get(command, LIMIT_MEMORY)}")


def describe_error(error: BaseException) -> dict[str, Any]:
    """The error as an event has it: ``kind``, ``message``, ``exit_code``."""
    code = getattr(error, "exit_code", 1)
    kind = {2: "usage", 3: "file", 5: "model", 6: "device"}.get(code, "unexpected")
    message = str(error) if kind != "unexpected" else f"unexpected {type(error).__name__}: {error}"
    return {"kind": kind, "message": " ".join(message.split()), "exit_code": code}
