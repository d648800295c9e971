"""torchaudio and what imports it (encodec), also beside a torch that its compiled extension does not fit.

torchaudio 2.11, its last release, links CUDA in every Linux wheel: beside a CPU-only torch ``import
torchaudio`` raises OSError. All that slyther uses of it is pure Python and works without the extension. This
is the only module that imports torchaudio or encodec.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType
from typing import Any

from slyther_cli.errors import ModelError


def torchaudio() -> ModuleType:
    """The package, without its extension where that cannot be loaded (``forced_align``, ``rnnt_loss`` and the
    like then raise). Raises :class:`ModelError`: not installed."""
    if "torchaudio" in sys.modules:
        return sys.modules["torchaudio"]
    try:
        return importlib.import_module("torchaudio")
    except ImportError as error:
        raise ModelError(f"torchaudio cannot be imported ({error}): pip install torchaudio") from None
    except (OSError, RuntimeError):  # libcudart is missing, or it was built for another CUDA
        for name in [n for n in sys.modules if n.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _without_extension()
        return importlib.import_module("torchaudio")


def encodec() -> ModuleType:
    """The package, with ``encodec.modules`` and ``encodec.quantization``. Raises :class:`ModelError`: not
    installed."""
    torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it uses torch's old weight_norm
        try:
            return importlib.import_module("encodec")
        except ImportError as error:
            raise ModelError(f"encodec cannot be imported ({error}): pip install encodec==0.1.1") from None


def _without_extension() -> ModuleType:
    """What ``torchaudio._extension`` offers when there is no extension."""

    def missing(function: Any) -> Any:
        def fail(*args: Any, **kwargs: Any) -> Any:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled extension")

        return fail

    stub: Any = ModuleType("torchaudio._extension")
    stub._IS_TORCHAUDIO_EXT_AVAILABLE = stub._IS_ALIGN_AVAILABLE = False
    stub._load_lib = lambda name: False
    stub._check_cuda_version = lambda: None
    stub.fail_if_no_align = missing
    return stub
