"""What ``slyther doctor`` knows of installations that went wrong: each check gives lines "what is wrong: what
to do", none where all is well. Nothing here raises, whatever the installation is like."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from slyther_cli.commands.output import size

CPU_TORCH = "pip install torch --index-url https://download.pytorch.org/whl/cpu"
LEAST_DISK = 5 << 30  # bytes; an hour of separation keeps 1.4 GB in its work file
LEAST_MEMORY = 1 << 30
MEMORY_DISKS = ("tmpfs", "ramfs")


def faults() -> list[str]:
    """All that the checks below find."""
    found: list[str] = []
    for check in (versions, torchaudio, cuda, sndfile, voices, disks, memory, other_slyther):
        try:
            found += check()
        except Exception as error:  # a check that fails on an odd machine is no reason for a traceback
            found.append(f"the check of {check.__name__} failed here ({error}): say so to slyther's authors")
    return found


def needed(name: str, error: BaseException) -> str:
    """The line for a package that slyther cannot work without and that cannot be imported."""
    said = " ".join(str(error).split())
    if name == "soundfile" and isinstance(error, OSError):
        fix = "apt install libsndfile1, or pip install --force-reinstall soundfile, which brings its own"
    elif name == "torch" and "libcu" in said:
        fix = f"a CUDA torch without its libraries; on a machine without a GPU: {CPU_TORCH}"
    elif isinstance(error, ModuleNotFoundError) and error.name == name:
        fix = f"pip install {name}"
    else:
        fix = f"pip install --force-reinstall {name}"
    return f"{name} cannot be imported ({said}): {fix}"


def versions() -> Iterator[str]:
    """Packages outside the versions that slyther was made for."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return
    try:
        wanted = importlib.metadata.requires("slyther-cli") or []
    except importlib.metadata.PackageNotFoundError:
        return  # run from a checkout
    for line in wanted:
        need = Requirement(line)
        if need.marker is not None and not need.marker.evaluate({"extra": ""}):
            continue
        try:
            here = importlib.metadata.version(need.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{need.name} is not installed: pip install '{need.name}{need.specifier}'"
            continue
        if not need.specifier.contains(here, prereleases=True):
            yield (
                f"{need.name} {here} is outside {need.specifier}, which slyther was made for: "
                f"pip install '{need.name}{need.specifier}'"
            )


def torchaudio() -> Iterator[str]:
    """Beside a torch without CUDA its extension cannot load, which does no harm; anything else does."""
    from slyther_cli.audio import torchaudio_compat
    from slyther_cli.errors import ModelError

    for load in (torchaudio_compat.torchaudio, torchaudio_compat.encodec):
        try:
            load()
        except ModelError as error:
            yield f"codecs cannot run: {error}"
            return
        except Exception as error:
            yield (
                "codecs cannot run: torchaudio does not fit this torch "
                f"({' '.join(str(error).split())[:200]}): "
                "pip install --force-reinstall 'torchaudio>=2.11,<2.12'"
            )
            return


def cuda() -> Iterator[str]:
    """A torch for GPUs without one, a GPU with a torch that has no use for it."""
    import torch

    driver = Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
    if torch.version.cuda is not None and not torch.cuda.is_available():
        if driver:
            yield (
                f"torch is built for CUDA {torch.version.cuda} but cannot use the GPU: the NVIDIA driver may "
                "be older than that (nvidia-smi shows its CUDA version), or CUDA_VISIBLE_DEVICES hides it"
            )
        else:
            yield (
                f"torch is built for CUDA {torch.version.cuda} and there is no GPU: it works on the CPU; "
                f"the build without CUDA spares 4 GB: {CPU_TORCH}"
            )
    elif torch.version.cuda is None and driver:
        yield (
            "there is an NVIDIA driver, but this torch is built without CUDA: "
            "pip install --force-reinstall torch"
        )


def sndfile() -> Iterator[str]:
    """An old libsndfile of the system."""
    import soundfile

    missing = [name for name in ("FLAC", "OGG", "MP3") if name not in soundfile.available_formats()]
    if missing:
        yield (
            f"libsndfile {soundfile.__libsndfile_version__} cannot read {', '.join(missing)}: "
            "pip install --force-reinstall soundfile, which brings a newer one"
        )


def voices() -> Iterator[str]:
    """Resemblyzer, for ``slyther eval speak``, needs a part of setuptools that newer ones have not."""
    if importlib.util.find_spec("resemblyzer") is None:
        return
    for name, fix in (("webrtcvad", "webrtcvad"), ("pkg_resources", "'setuptools<81'")):
        if importlib.util.find_spec(name) is None:
            yield f"slyther eval speak cannot compare voices, {name} is missing: pip install {fix}"


def disks() -> Iterator[str]:
    """Little room where work files and models go, or work files in memory."""
    from slyther_cli.checkpoints import places
    from slyther_cli.runtime import temporary_folder

    seen = set()
    for what, folder, fix in (
        ("temporary files", temporary_folder(), "--work-dir, or TMPDIR, names another folder"),
        ("models", places.cache_dir(), "SLYTHER_CACHE names another folder"),
    ):
        here = next((p for p in (folder, *folder.parents) if p.exists()), Path("/"))
        if what == "temporary files" and not os.access(here, os.W_OK):
            yield f"no temporary file can be made in {folder}: {fix}"
            continue
        if what == "temporary files" and _kind_of_disk(here) in MEMORY_DISKS:
            yield f"{folder}, where work files go, lies in memory itself, so they spare none: {fix}"
        device, free = here.stat().st_dev, shutil.disk_usage(here).free
        if free < LEAST_DISK and device not in seen:
            yield f"{size(free)} are left for {what} in {folder} (an hour of separation needs 3 GB): {fix}"
        seen.add(device)


def _kind_of_disk(folder: Path) -> str:
    """The type of the file system, "" if nobody says."""
    best, kind, place = 0, "", os.path.realpath(folder)
    try:
        with open("/proc/mounts", encoding="utf-8", errors="replace") as file:
            for line in file:
                _, mount, name, *_ = line.split()
                if (mount == "/" or f"{place}/".startswith(f"{mount}/")) and len(mount) >= best:
                    best, kind = len(mount), name
    except (OSError, ValueError):
        pass
    return kind


def memory() -> Iterator[str]:
    from slyther_cli.runtime import available_memory

    free = available_memory()
    if free < LEAST_MEMORY:
        yield f"{size(free)} of memory are free: --memory-limit 300MB puts what can wait into a file"


def other_slyther() -> Iterator[str]:
    """Another installation that the shell would start."""
    found = shutil.which("slyther")
    if found is None:
        return
    with open(found, "rb") as file:
        line = file.readline(1000)
    if not line.startswith(b"#!"):
        return
    words = line[2:].split()
    if len(words) != 1 or b"python" not in words[0]:  # env, or a shell that finds its way
        return
    theirs = os.fsdecode(words[0])
    if os.path.dirname(theirs) != os.path.dirname(sys.executable):
        yield (
            f"the slyther that the shell starts is another one, {found}: "
            f"activate the environment of {sys.executable}"
        )
