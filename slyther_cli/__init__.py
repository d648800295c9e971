"""slyther: speech separation, recognition and synthesis with Mamba state-space models.

The Python API is small: ``from slyther_cli import separate, transcribe, speak``. Everything heavy is
imported on first use, so that ``import slyther_cli`` and ``slyther --help`` stay fast.

Imports run one way: commands -> synthesis -> transcription -> separation -> jobs -> longform -> checkpoints
-> models -> layers -> scan, and from all of them to decode, books, english and audio. Only ``commands``
imports ``research``, only ``app`` imports ``commands``; ``tests/test_imports.py`` checks it.
"""

import os
from importlib import import_module

# A thread that spins while it waits makes every other process on the machine slow, and slyther runs
# beside others. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
__all__ = ["__version__", "separate", "speak", "transcribe"]


_PRODUCTS = {"separate": "separation", "transcribe": "transcription", "speak": "synthesis"}


def __getattr__(name: str):
    if name in _PRODUCTS:
        return getattr(import_module(f"slyther_cli.{_PRODUCTS[name]}.job"), name)
    raise AttributeError(f"module 'slyther_cli' has no attribute {name!r}")
