"""`slyther doctor` on installations that went wrong: each fault is found and its fix printed."""

import importlib
import importlib.metadata
import sys
from types import SimpleNamespace

import pytest
import soundfile
import torch

from slyther_cli import runtime
from slyther_cli.app import main
from slyther_cli.commands import doctor_faults


def found(check):
    lines = list(check())
    assert all(line.isprintable() and ": " in line for line in lines)
    return " | ".join(lines)


def test_a_check_that_fails_is_told_and_stops_nothing(monkeypatch):
    def breaks():
        raise RuntimeError("odd")
        yield

    monkeypatch.setattr(doctor_faults, "cuda", breaks)
    assert any("check of breaks failed here (odd)" in line for line in doctor_faults.faults())


@pytest.mark.parametrize(
    ("name", "error", "fix"),
    [
        ("soundfile", OSError("sndfile library not found"), "libsndfile1"),
        ("torch", OSError("libcudart.so.13: cannot open shared object file"), "whl/cpu"),
        ("soxr", ModuleNotFoundError("No module named 'soxr'", name="soxr"), "pip install soxr"),
        ("numpy", ImportError("numpy.core.multiarray failed to import"), "--force-reinstall numpy"),
    ],
)
def test_packages_that_cannot_be_imported(monkeypatch, capfd, name, error, fix):
    assert fix in doctor_faults.needed(name, error)
    real = importlib.import_module

    def broken(module, *more, **named):
        if module == name:
            raise error
        return real(module, *more, **named)

    monkeypatch.setattr(importlib, "import_module", broken)
    assert main(["doctor"]) == 6
    out, err = capfd.readouterr()
    assert f"problem: {name} cannot be imported" in out and fix in out and "Traceback" not in out + err


def test_versions_that_do_not_fit(monkeypatch):
    pytest.importorskip("packaging")
    wanted = ["torch<1", "nowhere-to-be-found>=2", "triton>=99; extra == 'cuda'", "numpy>=1"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    text = found(doctor_faults.versions)
    assert "is outside <1" in text and "pip install 'torch<1'" in text
    assert "nowhere-to-be-found is not installed" in text and "triton" not in text and "numpy" not in text


@pytest.mark.parametrize("built, gpu, driver, says", [
    ("13.0", False, False, "there is no GPU"), ("13.0", False, True, "driver may be older"),
    (None, False, True, "built without CUDA"), (None, False, False, ""), ("13.0", True, True, ""),
])  # fmt: skip
def test_cuda(monkeypatch, built, gpu, driver, says):
    monkeypatch.setattr(torch.version, "cuda", built)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(doctor_faults.shutil, "which", lambda name: "/usr/bin/nvidia-smi" if driver else None)
    monkeypatch.setattr(doctor_faults.Path, "exists", lambda path: False)
    text = found(doctor_faults.cuda)
    assert says in text and bool(text) == bool(says)


def test_torchaudio_that_does_not_fit(monkeypatch):
    from slyther_cli.audio import torchaudio_compat

    def breaks():
        raise RuntimeError("undefined symbol: _ZN3c10")

    monkeypatch.setattr(torchaudio_compat, "torchaudio", breaks)
    assert "torchaudio does not fit this torch" in found(doctor_faults.torchaudio)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "encodec", None)
    assert "pip install encodec" in found(doctor_faults.torchaudio)


def test_an_old_libsndfile(monkeypatch):
    assert found(doctor_faults.sndfile) == ""
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "", "FLAC": "", "OGG": ""})
    assert "cannot read MP3" in found(doctor_faults.sndfile)


def test_resemblyzer_without_setuptools(monkeypatch):
    for missing, fix in (
        ("pkg_resources", "setuptools<81"),
        ("webrtcvad", "pip install webrtcvad"),
        ("resemblyzer", ""),
    ):
        here = lambda name, missing=missing: None if name == missing else SimpleNamespace()  # noqa: E731
        monkeypatch.setattr(importlib.util, "find_spec", here)
        assert fix in found(doctor_faults.voices) and bool(fix) == bool(found(doctor_faults.voices))


def test_disks_and_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "not" / "there"))
    monkeypatch.setattr(doctor_faults.shutil, "disk_usage", lambda folder: SimpleNamespace(free=99 << 20))
    monkeypatch.setattr(doctor_faults, "_kind_of_disk", lambda folder: "tmpfs")
    text = found(doctor_faults.disks)
    assert "104 MB are left" in text and "lies in memory itself" in text and "--work-dir" in text
    monkeypatch.setattr(doctor_faults.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1 << 40))
    monkeypatch.setattr(doctor_faults, "_kind_of_disk", lambda folder: "ext4")
    assert found(doctor_faults.disks) == ""
    monkeypatch.setattr(runtime, "available_memory", lambda: 10 << 20)
    assert "--memory-limit" in found(doctor_faults.memory)


def test_the_kind_of_disk():
    kinds = {doctor_faults._kind_of_disk(doctor_faults.Path(p)) for p in ("/", "/proc")}
    assert "proc" in kinds or sys.platform != "linux"


def test_another_slyther_first_on_the_path(monkeypatch, tmp_path):
    script = tmp_path / "slyther"
    monkeypatch.setattr(doctor_faults.shutil, "which", lambda name: str(script))
    for line, said in (("#!/opt/other/bin/python3.11", True), (f"#!{sys.executable}", False),
                       ("#!/usr/bin/env python3", False), ("#!/bin/sh", False), ("", False)):  # fmt: skip
        script.write_text(line + "\nimport x\n")
        assert ("another one" in found(doctor_faults.other_slyther)) == said
