"""Where models lie on this machine, and which folder a name or path means. Needs no torch."""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator
from pathlib import Path

import slyther_cli
from slyther_cli.checkpoints import catalogue
from slyther_cli.checkpoints.config import CONFIG_FILE, NAME, ModelConfig, read_config, shorten
from slyther_cli.errors import ModelError

PULL_COMMAND = "slyther weights pull"
IMPORT_COMMAND = "slyther weights import"
DOES = {
    "codec": "code sound",
    "represent": "represent sound",
    "embed": "tell voices apart",
    "punctuate": "punctuate text",
    "widen": "fill the band above a separator's",
}
"""Where the task's name is not enough."""
SPEECHBRAIN_FILES = ("encoder.ckpt", "masknet.ckpt", "decoder.ckpt")


def cache_dir() -> Path:
    """SLYTHER_CACHE, else XDG_CACHE_HOME/slyther (absolute only, as the XDG rules have it), else
    ~/.cache/slyther.

    Raises ModelError if there is neither a setting nor a home folder.
    """
    own = os.environ.get("SLYTHER_CACHE")
    try:
        if own:
            return Path(own).expanduser()
        xdg = os.environ.get("XDG_CACHE_HOME", "")
        if os.path.isabs(xdg):
            return Path(xdg) / "slyther"
        return Path.home() / ".cache" / "slyther"
    except RuntimeError as e:
        raise ModelError(f"no place for the model cache ({e}): set SLYTHER_CACHE") from e


def shipped_dirs() -> list[Path]:
    """Folders with the weights that come with slyther: inside the installed package, beside it in a
    checkout.
    """
    package = Path(slyther_cli.__file__).resolve().parent
    out = [package / "weights"]
    if (package.parent / "pyproject.toml").is_file():
        out.append(package.parent / "weights")
    return out


def available(cache: Path | None = None) -> Iterator[tuple[str, Path, str]]:
    """(name, folder, "shipped" | "cache") of every model folder here, shipped ones first, each name once."""
    seen = set()
    for root, kind in [(d, "shipped") for d in shipped_dirs()] + [(cache or cache_dir(), "cache")]:
        try:
            folders = sorted(
                p for p in root.iterdir() if NAME.fullmatch(p.name) and (p / CONFIG_FILE).is_file()
            )
        except OSError:
            continue
        for folder in folders:
            if folder.name not in seen:
                seen.add(folder.name)
                yield folder.name, folder, kind


def is_speechbrain(folder: Path) -> bool:
    """Whether this looks like a SpeechBrain checkpoint or run folder (by its file names alone)."""
    try:
        return any((folder / f).is_file() for f in SPEECHBRAIN_FILES) or any(
            any(d.glob("CKPT+*")) for d in (folder, folder / "save")
        )
    except OSError:
        return False


def resolve(name_or_path: str | os.PathLike[str], task: str | None = None) -> Path:
    """The folder that a name or path means: an existing path, else the shipped weights, else the cache.
    ``task``: what the model is wanted for; an unknown name is then compared with models for it alone.

    Raises ModelError: a file, a SpeechBrain folder (to be imported first), a path that does not exist, an
    unknown name.
    """
    text = os.fspath(name_or_path)
    is_name = isinstance(name_or_path, str) and NAME.fullmatch(text) is not None
    path = Path(text)
    try:
        if text and path.exists():
            if (path / CONFIG_FILE).is_file():
                return path
            if is_speechbrain(path):
                raise ModelError(
                    f"{shorten(path, 200)} is a SpeechBrain checkpoint: run `{IMPORT_COMMAND}` on it first"
                )
            # A folder of results that happens to be called like a model must not hide the model.
            if not is_name:
                raise ModelError(f"{shorten(path, 200)} is not a model folder: it has no {CONFIG_FILE}")
    except (OSError, ValueError) as e:  # name too long, no permission, a NUL in it
        raise ModelError(
            f"cannot read model folder {shorten(text)!r}: {shorten(getattr(e, 'strerror', None) or e)}"
        ) from e
    if not is_name:
        raise ModelError(f"no such model folder: {shorten(text, 200)!r}")
    here = {name: folder for name, folder, _ in available()}
    if text in here:
        return here[text]
    if text in catalogue.ENTRIES:
        raise ModelError(f"model {text} is not on this machine: run `{PULL_COMMAND} {text}`")
    published = _published(task)
    raise ModelError(unknown_message(text, [*_made_for(task), *published], bool(published)))


def new_folder(dest: str | os.PathLike[str] | None, name: str | None, default: str) -> tuple[Path, str]:
    """The folder of an imported model, by default ``NAME`` in the cache, and its name, by default that of
    ``dest``, else ``default``.

    Raises ModelError: no model can be called so, something is in the folder's place.
    """
    if name is None:
        name = Path(dest).name if dest is not None else default
    if not NAME.fullmatch(name):
        raise ModelError(f"{shorten(name)!r} is no model name: use letters, digits, '.', '_' and '-'")
    if dest is None and any(name == n for n, _, kind in available() if kind == "shipped"):
        raise ModelError(f"{name} is the name of a model that comes with slyther: import under another name")
    folder = Path(dest) if dest is not None else cache_dir() / name
    if folder.exists():
        raise ModelError(f"{folder} exists already: remove it, or import under another name")
    return folder, name


def unknown_message(name: str, known: list[str], published: bool = True) -> str:
    """One line for a name that nothing answers to: close matches, or all names, and the pull command where
    some of them are ``published``."""
    known = sorted(set(known))
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known are {', '.join(known) or 'none'}."
    pull = f" `{PULL_COMMAND} NAME` downloads a published one" if published else ""
    return f"unknown model {shorten(name)!r}: {hint}{pull}".removesuffix(".")


def check_task(config: ModelConfig, task: str) -> None:
    """Raises ModelError when the model is made for another task, naming those that are for this one."""
    if config.task != task:
        here = ", ".join(_made_for(task)) or "none is on this machine"
        does, wanted = DOES.get(config.task, config.task), DOES.get(task, task)
        raise ModelError(f"model {config.name} is made to {does}: to {wanted} takes another model ({here})")


def _published(task: str | None) -> list[str]:
    return [name for name, entry in catalogue.ENTRIES.items() if task in (None, entry.task)]


def _made_for(task: str | None) -> list[str]:
    """Names of the models on this machine for a task, or for any."""
    names = []
    for name, folder, _ in available():
        with contextlib.suppress(ModelError):  # a damaged one is for nothing
            if task in (None, read_config(folder).task):
                names.append(name)
    return names
