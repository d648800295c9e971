"""SpeechBrain's own modules as a reference, where it is installed (a tool of the developers, Apache-2.0).

    python3 -m venv sb && sb/bin/pip install torch==2.13.0 speechbrain
    SLYTHER_SPEECHBRAIN=sb/lib/python3.11/site-packages pytest tests/test_sepformer.py

The folder goes to the end of the path: torch and numpy stay those of the tests.
"""

import importlib
import importlib.util
import os
import sys
import warnings
from contextlib import contextmanager

import pytest

from slyther_cli.audio import torchaudio_compat

if folder := os.environ.get("SLYTHER_SPEECHBRAIN"):
    sys.path.append(folder)

needed = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None,
    reason="needs speechbrain: see tests/speechbrain_reference.py",
)


@contextmanager
def modules(*names):
    """``speechbrain.NAME`` for each, imported quietly beside a torch without CUDA. Nothing of it is left
    in ``sys.modules``: hypothesis looks into all modules there, and SpeechBrain's lazy ones then import
    themselves."""
    torchaudio_compat.torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield [importlib.import_module(f"speechbrain.{name}") for name in names]
        finally:
            for key in [k for k in sys.modules if k.split(".")[0] == "speechbrain"]:
                del sys.modules[key]
