"""The formats of a transcript by name: whisper's, and those that whisper does not have."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slyther_cli.decode.annotations import Ctm, Rttm, TextGrid
from slyther_cli.decode.elan import Eaf
from slyther_cli.decode.markdown import Markdown
from slyther_cli.decode.recording import Recording
from slyther_cli.decode.review import Html
from slyther_cli.decode.subtitles import Format, Json, Srt, Tsv, Txt, Vtt
from slyther_cli.errors import UsageError

FORMATS = ("txt", "vtt", "srt", "tsv", "json")  # "all": each of them
MORE = ("html", "md", "ctm", "rttm", "textgrid", "eaf")  # by their names only
BY_WORDS = ("html", "ctm", "textgrid", "eaf")  # those that need the times of the words


def chosen_formats(names: Iterable[str]) -> list[str]:
    """Format names without repeats, "all" spelt out. Raises UsageError for an unknown one, or none."""
    known, result = ", ".join((*FORMATS, "all", *MORE)), list[str]()
    for name in names:
        if name not in (*FORMATS, *MORE, "all"):
            raise UsageError(f"the format {name!r} is not known: {known}")
        result += [one for one in (FORMATS if name == "all" else (name,)) if one not in result]
    if not result:
        raise UsageError(f"no output format is named: {known}")
    return result


def make_format(
    name: str,
    *,
    language: str = "en",
    folder: Path | None = None,
    recording: Recording | None = None,
    plain: bool = False,
    **layout: Any,
) -> Format:
    """The format of that name. ``folder``: where its file will be. ``plain``: no empty lines between the
    paragraphs of txt. ``layout``: highlight_words, max_line_width, max_line_count, max_words_per_line, which
    only srt and vtt heed. Raises UsageError for an unknown name."""
    recording = recording or Recording()
    match name:
        case "srt" | "vtt":
            return (Srt if name == "srt" else Vtt)(**layout)
        case "txt":
            return Txt(plain)
        case "tsv":
            return Tsv()
        case "json":
            return Json(language, folder)
        case "html":
            return Html(recording, folder, language, plain)
        case "md":
            return Markdown(recording)
        case "ctm":
            return Ctm(recording, folder)
        case "rttm":
            return Rttm(recording)
        case "textgrid":
            return TextGrid(recording, folder)
        case "eaf":
            return Eaf(recording, folder)
    raise UsageError(f"the format {name!r} is not known")
