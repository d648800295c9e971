"""``slyther doctor``: what slyther has to work with here, and what keeps it from working better."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import typer

from slyther_cli import __version__
from slyther_cli.commands import doctor_faults, doctor_settings, output
from slyther_cli.commands.options import Json, new_app

app = new_app()
NEEDED = ("torch", "numpy", "soundfile", "soxr", "safetensors")
PACKAGES = (
    *(*NEEDED, "typer", "rich", "tqdm", "sentencepiece", "num2words", "torchaudio", "encodec"),
    *("triton", "mamba-ssm", "causal-conv1d"),
)
HOW_TO_BUILD = (
    "install a C++ compiler (apt install g++, or xcode-select --install), then, in slyther's folder, "
    "`pip install --force-reinstall --no-deps .`"
)


@app.command("doctor")
def doctor(
    ctx: typer.Context,
    as_json: Json = False,
) -> None:
    """Report versions, devices, models and settings, and what is wrong with them.

    Every problem comes with its fix.

    Exit codes: 0 slyther works here, 2 wrong settings, 5 no model, 6 it cannot compute.
    """
    output.json_asked = as_json
    report: dict[str, Any] = {"versions": _versions()}
    problems: list[str] = []  # what keeps it from working
    advice: list[str] = []  # what makes it work worse than it could
    report["computing"] = _computing(problems, advice)
    unable = bool(problems)
    report["models"] = _models(problems, advice)
    lacking = bool(problems)
    if not unable:
        advice += doctor_faults.faults()
    report["speaking"] = _speaking()
    report["settings"] = doctor_settings.in_force(ctx, problems, advice)
    report["streams"] = _streams()
    report |= {"problems": problems, "advice": advice}
    if as_json:
        output.json_line("doctor", **report)
    else:
        _print(report)
    raise typer.Exit(6 if unable else 5 if lacking else 2 if problems else 0)


def _versions() -> dict[str, str]:
    found = {"slyther": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    try:
        import soundfile

        found["libsndfile"] = soundfile.__libsndfile_version__
    except (ImportError, OSError) as error:
        found["libsndfile"] = f"cannot be loaded ({error})"
    return found


def _computing(problems: list[str], advice: list[str]) -> dict[str, Any]:
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a broken installation raises
            problems.append(doctor_faults.needed(name, error))
    if problems:
        return {}
    import torch

    from slyther_cli import scan
    from slyther_cli.errors import SlytherError
    from slyther_cli.runtime import cores

    out: dict[str, Any] = {"threads": torch.get_num_threads(), "cores": cores()}
    devices = {"cpu": _processor()}
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            devices[f"cuda:{i}"] = f"{about.name}, {output.size(about.total_memory)}"
    out["devices"] = devices
    try:
        from slyther_cli import _native

        out["instruction_set"] = _native.isa()
    except ImportError:
        out["instruction_set"] = None
    reasons = scan.backends()
    out["backends"] = {name: why or "can run" for name, why in reasons.items()}
    out["live_backend"] = live = {}
    for device in devices:
        try:
            live[device] = scan.live_backend(device)
        except SlytherError as error:
            live[device] = "none"
            problems.append(str(error))
    if live["cpu"] == "reference":
        advice.append(
            f"SLOW on the CPU: the torch reference scans, because {_why(reasons['cpu'])}; {HOW_TO_BUILD}"
        )
    if any(device != "cpu" and name == "reference" for device, name in live.items()):
        advice.append(
            f"SLOW on the GPU: the torch reference scans, because {_why(reasons['triton'])}; "
            "`pip install 'slyther-cli[cuda]'` brings kernels"
        )
    return out


def _why(reason: str) -> str:
    return reason or f"SLYTHER_SCAN={os.environ.get('SLYTHER_SCAN', '')} asks for it"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _models(problems: list[str], advice: list[str]) -> dict[str, Any]:
    from slyther_cli.checkpoints import places
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.errors import ModelError

    out: dict[str, Any] = {"found": {}}
    try:
        cache = places.cache_dir()
        out |= {"cache": str(cache), "cache_writable": _writable(cache)}
        if not out["cache_writable"]:
            advice.append(
                f"the cache {cache} cannot be written, so nothing can be pulled: "
                "set SLYTHER_CACHE to another folder"
            )
        for name, folder, kind in places.available():
            try:
                read_config(folder)
                out["found"][name] = kind
            except ModelError as error:
                advice.append(f"a damaged model: {error}")
    except ModelError as error:
        advice.append(str(error))
    if not out["found"]:
        problems.append("there is no model here: `slyther weights list` shows what can be pulled")
    elif "shipped" not in out["found"].values():
        advice.append(
            "the weights that come with slyther are missing: name a model with --model, or reinstall slyther"
        )
    return out


def _speaking() -> dict[str, str]:
    """What turns words into the symbols that speech models read."""
    from slyther_cli.english.phonemes import espeak_missing

    built_in = "can run: built in"
    return {"graphemes": built_in, "arpabet": built_in, "espeak": espeak_missing() or "can run: espeak-ng"}


def _writable(folder: Path) -> bool:
    existing = next((p for p in [folder, *folder.parents] if p.exists()), folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _streams() -> dict[str, str]:
    def state(stream: Any) -> str:
        try:
            return "closed" if stream is None else "terminal" if stream.isatty() else "pipe or file"
        except ValueError:
            return "closed"

    names = ("NO_COLOR", "FORCE_COLOR", "TERM")
    streams = {"stdin": state(sys.stdin), "stdout": state(sys.stdout), "stderr": state(sys.stderr)}
    return streams | {name: os.environ[name] for name in names if name in os.environ}


def _print(report: dict[str, Any]) -> None:
    for title, entries in report.items():
        if isinstance(entries, list):
            continue
        output.data(title)
        for key, value in entries.items():
            if isinstance(value, dict):
                for inner, text in value.items():
                    output.data(f"  {key.replace('_', ' ')}: {inner}: {text}")
            else:
                text = "none" if value is None else ("no", "yes")[value] if isinstance(value, bool) else value
                output.data(f"  {key.replace('_', ' ') if key.islower() else key}: {text}")
    for line in report["advice"]:
        output.data(f"warning: {line}")
    for line in report["problems"]:
        output.data(f"problem: {line}")
    output.data("slyther cannot work here yet" if report["problems"] else "slyther can work here")
