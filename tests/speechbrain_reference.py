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

import pytest

from slyther_cli.audio import torchaudio_compat

if folder := os.environ.get("SLYTHER_SPEECHBRAIN"):
    sys.path.append(folder)

needed = pytest.mark.skipif(
    importlib.util.find_spec("speechbrain") is None,
    reason="needs speechbrain: see tests/speechbrain_reference.py",
)


def module(name):
    """``speechbrain.NAME``, imported quietly beside a torch without CUDA."""
    torchaudio_compat.torchaudio()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"speechbrain.{name}")
