"""What the process has of the system: memory, its allocator's settings, its folder for temporary files, and
others of its kind."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
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


def same_python(module: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command and the environment of ``python -m MODULE ARGUMENTS`` with what this process imports.

    Without ``-P`` the folder that the user is in came first: in a clone that is the source, without its
    compiled part.
    """
    path = os.pathsep.join(place or os.curdir for place in sys.path)
    return [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": path}


def cores() -> int:
    """The processor cores that the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


KERNEL_VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA",
                    "DNNL_MAX_CPU_ISA", "ONEDNN_DEFAULT_FPMATH_MODE")  # fmt: skip
PROCESSOR_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "sve", "sve2", "i8mm")


def kernels(device: str = "cpu") -> dict[str, str]:
    """What decides which kernels compute, and so how results are rounded: work that one machine began is gone
    on with, bit for bit, only where all of this is the same. ``device``: "cpu", or a CUDA device."""
    import torch

    try:
        from slyther_cli import _native

        ours = _native.isa()
    except ImportError:
        ours = "none"
    found = {"kernels": torch.backends.cpu.get_cpu_capability(), "isa": ours, "processor": _processor()}
    found |= {name: os.environ[name] for name in KERNEL_VARIABLES if os.environ.get(name)}
    if torch.device(device).type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    """Its maker and the instructions that libraries choose kernels by."""
    maker, flags = "", set[str]()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name.strip() in ("vendor_id", "CPU implementer"):
                maker = value.strip()
            elif name.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    return " ".join([platform.machine(), maker, *(flag for flag in PROCESSOR_FLAGS if flag in flags)])


def take_memory(size: int = 32 << 20) -> None:
    """Raise OSError (ENOMEM) if the process cannot have so many bytes more; it does not keep them."""
    mmap.mmap(-1, size).close()  # past the allocator, which would learn from it to hold on to more


def available_memory() -> int:
    """Bytes that the process may still take: what the machine has free, or less where it runs in a container
    or a job with a limit (a Linux control group, version 1 or 2)."""
    groups = _free_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return min([_free_of_the_machine(), *groups])


def _free_of_the_machine() -> int:
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _free_in_groups(own: Path, root: Path) -> list[int]:
    """What each control group with a limit leaves, from the process's own up to the root; files that were
    read and can be given back count as free. ``own`` lists the process's groups, ``root`` is where they are.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    free = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root, ("memory.max", "memory.current", "inactive_file ")
        elif "memory" in controllers.split(","):
            top = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file ")
        else:
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                limit, used = (int((folder / name).read_text()) for name in names[:2])
                stat = (folder / "memory.stat").read_text().splitlines()
            except (OSError, ValueError):  # no limit ("max"), or not to be seen from inside
                limit, used, stat = sys.maxsize, 0, []
            given_back = sum(int(line.split()[1]) for line in stat if line.startswith(names[2]))
            free.append(max(0, limit - used + given_back))
            if folder == top:
                break
    return free


def temporary_folder() -> Path:
    """The system's folder for temporary files, also where nothing can be written into it: who tries to, and
    not all do, says so better."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.environ.get("TMPDIR") or "/tmp")
