"""The page of ``--report``: whether a separation worked, to see and hear in a browser; one file, no network.

``report.html`` is the page; ``page.css``, ``report.css`` and ``report.js`` go into it. All pictures are in it
and show without the script, which only keeps the players together.
"""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import slyther_cli
from slyther_cli.audio.discover import shown
from slyther_cli.decode.page import in_script, link, pieces, style, text_of
from slyther_cli.errors import OutputError, escaped
from slyther_cli.files import reason, whole
from slyther_cli.jobs.results import RESAMPLED
from slyther_cli.separation import drawing
from slyther_cli.separation.findings import MANY, Findings, decibels, find, per_column
from slyther_cli.separation.overview import Overview

TICKS = (0.001, 0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600)
HERE = Path(__file__)
GREY = "9aa0a6"
QUIET = -120.0  # dB of full scale, at the bottom of a level in a recording without sound


@dataclass
class Report:
    """``source``: of the recording, "-" for standard input. ``stems``: their files by name. ``options``:
    those that shape the result and are not at their default. ``moved``: spans of seconds that changed files
    because of their voices; ``gathered``: those of one voice that was in both files."""

    source: str
    stems: dict[str, Path]
    model: str
    options: dict[str, Any]
    overview: Overview
    moved: Sequence[tuple[float, float]] = ()
    gathered: Sequence[tuple[float, float]] = ()

    @property
    def name(self) -> str:
        return "standard input" if self.source == "-" else escaped(os.path.basename(self.source))

    def add(self, mixture: npt.NDArray[np.float32], stems: npt.NDArray[np.float32]) -> None:
        """The next samples of the recording [n] and its files [files, n]."""
        self.overview.add(np.concatenate((mixture[np.newaxis], stems)))

    def write(self, path: Path, notes: Sequence[str], part: str) -> None:
        """The page, whole or not at all; ``part``: how its temporary name begins. Raises OutputError."""
        self.overview.finish()
        try:
            with whole(path, "w", part=f".{part}-report.part", encoding="utf-8", newline="\n") as file:
                file.writelines(self.page(path.parent, notes))
        except OSError as error:
            why = reason(error)
            raise OutputError(
                f"{shown(path)} cannot be written: {why}; the other results are there"
            ) from None

    def page(self, folder: Path, notes: Sequence[str] = ()) -> Iterator[str]:
        """The page in pieces; its links lead from ``folder``."""
        overview, names = self.overview, list(self.stems)
        findings = find(overview)
        kind, verdict, sentences = judge(findings, names)
        places = {
            "title": html.escape(self.name),
            "style": style(HERE.with_suffix(".css")),
            "kind": kind,
            "verdict": html.escape(verdict),
            "sentences": "".join(
                f"<li>{html.escape(escaped(s))}</li>"
                for s in (*sentences, *notes)
                if not s.startswith(RESAMPLED)
            ),
            "facts": _facts(self),
            "timeline": _timeline(self, findings),
            "places": _places(findings),
            "numbers": _numbers(findings, names),
            "spoken": duration(findings.spoken),
            "overlap": duration(findings.overlap),
            "tracks": "".join(_tracks(self, folder)),
            "data": in_script({"seconds": overview.samples / overview.rate}),
            "script": text_of(HERE.with_suffix(".js")),
        }
        for text, name in pieces(HERE.with_suffix(".html")):
            yield text
            if name:
                yield places[name]


def judge(findings: Findings, names: Sequence[str]) -> tuple[str, str, list[str]]:
    """ "good", "look" or "bad", what that means in a few words, and what it is for."""
    if not findings.spoken:
        return "look", "Silence", ["Nothing is heard in any file."]
    found, kind, words = [], "good", "Looks separated"
    stems = names[: len(findings.levels)]
    if findings.doubtful:
        share = findings.doubt / findings.spoken
        kind, words = "look", "Listen to the marked places"
        if share > MANY:
            kind, words = "bad", "Much of it is hardly separated"
        found.append(
            f"{duration(findings.doubt)} ({100 * share:.0f} % of the speech) sounds much alike in two files: "
            "there, marked below, one voice is spread over both, or two are hardly separated."
        )
    if findings.empty:
        which = " and ".join(stems[i] for i in findings.empty)
        kind, words = "bad", f"{which} {'is' if len(findings.empty) == 1 else 'are'} nearly empty"
    if kind == "good":
        shares = [
            f"{n} {100 * s / findings.spoken:.0f} %" for n, s in zip(stems, findings.speech, strict=True)
        ]
        found.append(
            f"Every file holds speech (of the time with speech: {', '.join(shares)}), and hardly any of it "
            "is in two files at once."
        )
    return kind, words, found


def clock(seconds: float, step: float = 1.0) -> str:
    """As 1:02:03; with as many decimals as ``step`` needs."""
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    minutes, rest = divmod(round(seconds, digits), 60)
    text = f"{rest:0{3 + digits if digits else 2}.{digits}f}"
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else clock(seconds)


def _facts(report: Report) -> str:
    overview = report.overview
    given = ", ".join(f"{k}={v}" for k, v in report.options.items()) or "the defaults"
    rows = {
        "Recording": report.name if report.source == "-" else report.source,
        "Length": f"{clock(overview.samples / overview.rate, 0.1)} at {overview.rate} Hz",
        "Model": report.model,
        "Options": given,
        "Made by": f"slyther {slyther_cli.__version__}",
    }
    return "".join(f"<dt>{k}</dt><dd>{html.escape(escaped(v))}</dd>" for k, v in rows.items())


def _axis(seconds: float) -> str:
    step = next((t for t in TICKS if seconds / t <= 10), 3600 * max(1, round(seconds / 36000)))
    marks = np.arange(0, seconds * 0.97, step).tolist()
    return "".join(f'<span style="left:{100 * t / seconds:.3f}%">{clock(t, step)}</span>' for t in marks)


def _svg(width: int, height: int, paths: Iterable[tuple[str, str]], label: str) -> str:
    """``paths``: (class, path)."""
    shapes = "".join(f'<path class="{kind}" d="{path}"/>' for kind, path in paths)
    return (
        f'<svg viewBox="0 0 {width} {height}" preserveAspectRatio="none" role="img" '
        f'aria-label="{html.escape(label)}">{shapes}</svg>'
    )


def _lane(name: str, colour: str, svg: str) -> str:
    return f'<div class="lane" style="--speaker:{colour}"><span>{html.escape(name)}</span>{svg}</div>'


def _timeline(report: Report, findings: Findings) -> str:
    """A lane a stem: how loud it is, in full colour where it has speech of its own. Then what is doubtful,
    and what was moved."""
    overview = report.overview
    power = per_column(overview.power[1 : 1 + overview.stems], overview)
    db = decibels(power) - float(decibels(power).max(initial=drawing.LANE + QUIET))
    active = per_column(findings.active.astype(np.float64), overview) >= 0.5
    width, lanes = overview.columns, []
    for i, name in enumerate(list(report.stems)[: overview.stems]):
        shapes = [("pale", drawing.level(db[i])), ("full", drawing.level(np.where(active[i], db[i], -99)))]
        svg = _svg(width, drawing.LANE, shapes, f"how loud {name} is over time")
        lanes.append(_lane(name, f"var(--speaker-{i % 8})", svg))
    column = overview.step / overview.rate
    marked: list[tuple[str, Sequence[tuple[float, float]], str]] = [
        ("in two files", findings.doubtful, "var(--doubt)")
    ]
    for what, moved in (("moved", report.moved), ("put into one", report.gathered)):
        if moved:
            marked.append((what, moved, "var(--dim)"))
    for name, spans, colour in marked:
        path = drawing.bars(drawing.covered(spans, width, column), 10)
        lanes.append(_lane(name, colour, _svg(width, 10, [("full", path)], f"where: {name}")))
    return f'{"".join(lanes)}<div class="axis">{_axis(overview.samples / overview.rate)}</div>'


def _places(findings: Findings) -> str:
    if not findings.doubtful:
        return ""
    more = len(findings.doubtful) - len(findings.longest)
    buttons = "".join(
        f'<button type="button" data-at="{start:.2f}">{clock(start)} ({duration(end - start)})</button>'
        for start, end in findings.longest
    )
    rest = f" and {more} shorter ones" if more else ""
    return f'<p class="places">In two files at once: {buttons}{rest}</p>'


def _numbers(findings: Findings, names: Sequence[str]) -> str:
    rows = []
    for i, leak in enumerate(findings.leakage):
        rows.append(
            f'<tr><th scope="row">{html.escape(names[i])}</th><td>{findings.levels[i]:.1f} dB</td>'
            f"<td>{duration(findings.speech[i])}</td><td>{duration(findings.alone[i])}</td>"
            f"<td>{'–' if leak is None else f'{leak:.0f} dB'}</td></tr>"
        )
    return "".join(rows)


def _tracks(report: Report, folder: Path) -> Iterator[str]:
    """Of the recording and of every stem: a player, its waveform, its spectrogram."""
    overview = report.overview
    files = [("Recording", report.source), *((n, os.fspath(path)) for n, path in report.stems.items())]
    spectra, peak = overview.spectra, float(max(overview.high.max(), -overview.low.min()))
    loudest = drawing.loudest_of(spectra[0])
    axis = _axis(overview.samples / overview.rate)
    for i, (name, file) in enumerate(files):
        stem = 0 < i <= overview.stems
        colour = f"var(--speaker-{(i - 1) % 8})" if stem else "var(--wave)"
        shade = drawing.SPEAKERS[(i - 1) % 8] if stem else GREY
        url = link(file, folder)
        title = html.escape(name if not i else f"{name} — {escaped(os.path.basename(file))}")
        player = (
            "<p>Standard input is not kept.</p>"
            if url is None
            else f'<audio controls preload="metadata" src="{html.escape(url)}" aria-label="{title}"></audio>'
        )
        wave = drawing.waveform(overview.low[i], overview.high[i], peak)
        shape = _svg(overview.columns, 2 * drawing.WAVE, [("full", wave)], f"waveform of {name}")
        picture = drawing.spectrogram(spectra[i], loudest, shade)
        yield (
            f'<section class="track" style="--speaker:{colour}"><h2>{title}</h2>{player}'
            f'<div class="plot wave">{shape}</div><div class="plot">'
            f'<img class="spectrogram" alt="spectrogram of {html.escape(name)}" src="{picture}">'
            f'<span class="hertz">{overview.top / 1000:.3g} kHz</span></div>'
            f'<div class="axis">{axis}</div></section>'
        )
