"""From command line arguments to input files, and from a template to output paths."""

import glob
import os
import string
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

from slyther_cli.errors import OutputError, UsageError, escaped

Input = Path | Literal["-"]

AUDIO_EXTENSIONS = frozenset(
    "." + name
    for name in (
        *("wav", "wave", "bwf", "rf64", "w64", "flac", "ogg", "oga", "opus", "mp3", "mp2"),
        *("aif", "aiff", "aifc", "au", "snd", "caf", "sph", "nist", "voc"),
        *("m4a", "m4b", "m4r", "mp4", "m4v", "mov", "qt", "3gp", "3g2", "aac", "adts", "ac3", "eac3", "dts"),
        *("webm", "weba", "mkv", "mka", "ogv", "spx", "wma", "wmv", "asf", "avi", "flv", "f4v", "amr", "awb"),
        *("mpg", "mpeg", "vob", "mts", "m2ts", "mp1", "mpa", "wv", "ape", "tta", "mpc", "gsm", "dss", "ra"),
        *("rm", "aa", "aax", "m4p", "ds2", "pcm"),
    )
)
"""What a folder gives. The last line is mostly refused: said, and not passed over."""
BEGINNINGS = (  # of files without an extension
    *((0, mark) for mark in (b"fLaC", b"OggS", b"ID3", b"#!AMR", b"caff", b"\x1a\x45\xdf\xa3")),
    *((8, mark) for mark in (b"WAVE", b"AIFF", b"AIFC", b"AVI ")),
    (4, b"ftyp"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
)
OTHER_EXTENSIONS = frozenset((".raw",))
WAV_EXTENSIONS = frozenset((".wav", ".wave", ".bwf", ".rf64"))


def shown(path: object) -> str:
    """A path as one printable line: odd bytes and control characters are escaped."""
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else str(path)
    return escaped(os.fsdecode(text)) or "''"


def expand_inputs(args: Sequence[str]) -> list[Input]:
    """The input files that the arguments name, in their order, each once.

    A file is taken whatever its extension. A folder gives all files below it (at any depth) with an
    extension of sound or video, or with none that begin like it, sorted by path, hidden ones left out. A
    glob that the shell did not expand is expanded here (``**`` crosses folders). "-" is standard input.
    What matches nothing is kept as it is, as is a folder that holds no audio or cannot be listed: opening
    it later says so, and the other inputs go on.

    Raises UsageError for an empty argument.
    """
    found: list[Input] = []
    for arg in args:
        if arg == "-":
            found.append("-")
            continue
        if not arg:
            raise UsageError("an input name is empty")
        path = file_path(arg)
        if is_pattern(arg):
            matches = sorted(glob.glob(arg, recursive=True))
            for match in matches or [arg]:
                found += _expand_folder(file_path(match))
        else:
            found += _expand_folder(path)
    return once(found)


def file_path(text: str | os.PathLike[str]) -> Path:
    """A path that is never taken for standard input, also of a file called "-"."""
    path = Path(text)
    return path.absolute() if str(path) == "-" else path


def is_pattern(arg: str) -> bool:
    """Whether an argument is a glob, and no file that is called so."""
    return not os.path.lexists(arg) and glob.has_magic(arg)


def once(inputs: Iterable[Input]) -> list[Input]:
    """Each file once, the first time that it is named."""
    found: dict[str, Input] = {}
    for item in inputs:
        found.setdefault("-" if item == "-" else os.path.abspath(item), item)
    return list(found.values())


def without_own_outputs(named: Sequence[str], inputs: Sequence[Input], folder: Path) -> list[Input]:
    """``inputs``, which :func:`expand_inputs` found for ``named``, without what was found in the output
    ``folder`` because that lies below a folder that was searched: an earlier run wrote it."""
    target, literal, searched = os.path.realpath(folder), set(), []
    for name in named:
        if name == "-":
            continue
        if is_pattern(name):
            parts = Path(name).parts
            fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
            searched.append(os.path.realpath(Path(*parts[:fixed])))
        elif os.path.isdir(name):
            searched.append(os.path.realpath(name))
        else:
            literal.add(os.path.abspath(name))
    if not any(target != root and _is_below(target, root) for root in searched):
        return list(inputs)
    return [i for i in inputs if i == "-" or os.path.abspath(i) in literal or not _is_below(_same(i), target)]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(os.path.join(folder, ""))


def results_among(inputs: Iterable[tuple[Input, Iterable[Path]]]) -> list[Input]:
    """Of (input, its outputs) the inputs that are outputs of others: an earlier run wrote them."""
    inputs = [(source, list(outputs)) for source, outputs in inputs]
    made: dict[str, set[Input]] = {}
    for source, outputs in inputs:
        for path in outputs:
            made.setdefault(_same(path), set()).add(source)
    return [source for source, _ in inputs if source != "-" and made.get(_same(source), set()) - {source}]


def _expand_folder(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files: list[Path] = []
    locked: list[OSError] = []  # folders that cannot be listed
    for folder, subfolders, names in os.walk(path, onerror=locked.append):
        subfolders[:] = [d for d in subfolders if not d.startswith(".")]
        files += [
            Path(folder, name) for name in names if not name.startswith(".") and _is_sound(folder, name)
        ]
    files += [Path(error.filename) for error in locked]
    return sorted(files, key=str) or [path]


def _is_sound(folder: str, name: str) -> bool:
    """By its extension; where that says nothing, by how it begins."""
    extension = os.path.splitext(name)[1].lower()
    if extension not in ("", ".ts"):
        return extension in AUDIO_EXTENSIONS
    path = os.path.join(folder, name)
    try:
        if not os.path.isfile(path):
            return False
        with open(path, "rb") as file:
            head = file.read(189)
    except OSError:
        return False
    if extension == ".ts":  # a transport stream, or TypeScript
        return head[:1] == b"G" == head[188:]
    return any(head[at:].startswith(mark) for at, mark in BEGINNINGS)


def render_template(template: str, **fields: object) -> Path:
    """The relative path that ``template`` gives, e.g. ``{track}_{stem}.{ext}``.

    Raises UsageError for an unknown field, anything but a plain ``{name}``, and a result that would
    leave the output folder: absolute, with a drive, with ``..``, or that names no file.
    """
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"the output template {template!r} is malformed: {error}") from None
    known = ", ".join("{" + name + "}" for name in fields)
    text = ""
    for literal, name, spec, conversion in parsed:
        text += literal
        if name is None:
            continue
        if name not in fields or spec or conversion:
            field = name + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "")
            raise UsageError(
                f"the output template {template!r} has {{{field}}}, which is not known; known are {known}"
            )
        text += str(fields[name])
    parts = text.replace("\\", "/").split("/")
    leaves = PurePosixPath(text).is_absolute() or PureWindowsPath(text).anchor or ".." in parts
    if leaves or "\0" in text:
        raise UsageError(
            f"the output template {template!r} gives {shown(text)}, which is outside the output folder"
        )
    if parts[-1] in ("", "."):
        raise UsageError(f"the output template {template!r} gives {shown(text)}, which names no file")
    return Path(text)


def output_paths(
    template: str, folder: str | os.PathLike[str], stems: Sequence[str], /, **fields: object
) -> list[Path]:
    """One path below ``folder`` for each stem; the field ``{stem}`` takes the stem's name.

    Raises UsageError as :func:`render_template` does, and when two stems get the same path.

    >>> [str(p) for p in output_paths("{track}_{stem}.{ext}", "out", ["s1", "s2"], track="a", ext="wav")]
    ['out/a_s1.wav', 'out/a_s2.wav']
    """
    paths = [Path(folder) / render_template(template, stem=stem, **fields) for stem in stems]
    if len(set(paths)) < len(paths):
        raise UsageError(
            f"the output template {template!r} gives {len(stems)} stems the same file: use {{stem}} in it"
        )
    return paths


def check_collisions(pairs: Iterable[tuple[Input | str, str | os.PathLike[str]]]) -> None:
    """Refuse a job where two inputs write one output, or an output would replace an input.

    ``pairs`` are (input, output), one for each output file. Raises UsageError naming the files.
    """
    pairs = list(pairs)
    inputs = {_same(source): source for source, _ in pairs if source != "-"}
    owner: dict[str, Input | str] = {}
    for source, target in pairs:
        key = _same(target)
        if key in owner:
            other = owner[key]
            who = shown(source) if other == source else f"{shown(other)} and {shown(source)}"
            raise UsageError(
                f"{who} would be written to the same file {shown(target)}: "
                "give each its folder, one by one (or tell them apart by {folder}, {parent} or {trackext} "
                "in --filename)"
            )
        if key in inputs:
            raise UsageError(f"the output {shown(target)} would replace the input {shown(inputs[key])}")
        owner[key] = source


def check_target(target: str | os.PathLike[str], *sources: str | os.PathLike[str]) -> None:
    """Refuse a result that would replace what it is made from, or a name that no new file can have.

    Raises UsageError for one of ``sources``; OutputError for a folder, a device or a pipe.
    """
    path = Path(target)
    if any(_same(source) == _same(path) for source in sources):
        raise UsageError(f"the output {shown(target)} would replace the input of that name: name another")
    if path.is_dir():
        raise OutputError(f"{shown(target)} cannot be written: it is a folder, name a file")
    if path.exists() and not path.is_file():
        raise OutputError(f"{shown(target)} cannot be written: it is a device or a pipe")


def check_extension(path: Path, format: str) -> None:
    """Refuse a name that promises another sound format than ``format``. Raises UsageError."""
    extension = path.suffix.lower()
    allowed = WAV_EXTENSIONS if format == "wav" else {"." + format}
    if extension in AUDIO_EXTENSIONS | OTHER_EXTENSIONS and extension not in allowed:
        raise UsageError(
            f"the output {shown(path)} would be {format} by another name: end it in .{format}"
            + (f", or choose --format {extension[1:]}" if extension in (".wav", ".flac") else "")
        )


def _same(path: str | os.PathLike[str]) -> str:
    return os.path.normcase(os.path.realpath(path))
