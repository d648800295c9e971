"""What the process has of the system: its allocator's settings, its folder for temporary files."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path


def keep_freed_memory() -> bool:
    """Ask glibc to keep freed blocks instead of returning them to the kernel at once.

    Large tensors otherwise cost a page fault for every 4 KiB on every use: a training step took 1.6 times
    as long (docs/training.md). Returns False where the C library is not glibc; nothing else changes then.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
    settings = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 1 << 26}
    return all(mallopt(name, value) for name, value in settings.items())


def temporary_folder() -> Path:
    """The system's folder for temporary files, also where nothing can be written into it: who tries to, and
    not all do, says so better."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")
