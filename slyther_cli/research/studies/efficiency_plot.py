"""The curves of ``bench efficiency`` as a picture: time and peak memory against duration, both axes
logarithmic. SVG is written by hand; PNG takes matplotlib, if it is installed."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

from slyther_cli.errors import OutputError, UsageError
from slyther_cli.research.studies.efficiency import KINDS, time_key
from slyther_cli.research.studies.separation_speed import Row

COLOURS = {"mamba": "#0b6e4f", "transformer": "#c1440e"}
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 420, 320, 70, 50, 20, 50
Points = list[tuple[float, float]]


def check(path: Path) -> None:
    """Before hours of measuring. Raises UsageError, OutputError."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"{path.name}: a plot is .svg or .png")
    if path.suffix.lower() == ".png" and importlib.util.find_spec("matplotlib") is None:
        raise UsageError("a .png needs matplotlib (pip install matplotlib); an .svg does not")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: {path.parent} is no folder")


def draw(rows: Sequence[Row], title: str, path: Path) -> None:
    """Raises OutputError: ``path`` cannot be written."""
    key = time_key(rows)
    panels = [
        (f"{'CPU' if key == 'cpu_seconds' else 'wall'} seconds", _curves(rows, key, 1)),
        ("peak memory, MB", _curves(rows, "extra_bytes", 1e-6)),
    ]
    try:
        if path.suffix.lower() == ".png":
            _png(panels, title, path)
        else:
            path.write_text(svg(panels, title), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def _curves(rows: Sequence[Row], key: str, unit: float) -> dict[str, Points]:
    out: dict[str, Points] = {}
    for kind in KINDS:
        points = [(r["seconds"], r[key] * unit) for r in rows if r["kind"] == kind and not r["problem"]]
        name = next((r["architecture"] for r in rows if r["kind"] == kind and "architecture" in r), kind)
        out[name] = [(x, y) for x, y in points if y > 0]
    return out


def svg(panels: Sequence[tuple[str, dict[str, Points]]], title: str) -> str:
    """The picture as text."""
    width = WIDTH * len(panels)
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{width / 2}" y="20" text-anchor="middle" font-size="14">{escape(title)}</text>',
    ]
    for i, (label, curves) in enumerate(panels):
        out.append(f'<g transform="translate({i * WIDTH},0)">')
        out += _panel(label, curves)
        out.append("</g>")
    return "\n".join([*out, "</svg>", ""])


def _panel(label: str, curves: dict[str, Points]) -> list[str]:
    points = [p for curve in curves.values() for p in curve]
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    out = [
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" '
        'stroke="#888"/>'
    ]
    out.append(
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 12}" text-anchor="middle">seconds of sound</text>'
    )
    out.append(
        f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + bottom) / 2})">{escape(label)}</text>'
    )
    if not points:
        return out
    x0, x1 = _range([x for x, _ in points], 2)
    y0, y1 = _range([y for _, y in points], 10)

    def across(x: float) -> float:
        return LEFT + (math.log(x) - math.log(x0)) / (math.log(x1) - math.log(x0)) * (right - LEFT)

    def up(y: float) -> float:
        return bottom - (math.log(y) - math.log(y0)) / (math.log(y1) - math.log(y0)) * (bottom - TOP)

    for tick in sorted({x for x, _ in points}):
        out.append(f'<text x="{across(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>')
    tick = y0
    while tick <= y1 * 1.0001:
        y = up(tick)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
        tick *= 10
    for i, ((name, curve), colour) in enumerate(zip(curves.items(), COLOURS.values(), strict=False)):
        at = [(across(x), up(y)) for x, y in curve]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in at]
        out.append(f'<text x="{LEFT + 8}" y="{TOP + 16 + 15 * i}" fill="{colour}">{escape(name)}</text>')
    return out


def _range(values: list[float], base: float) -> tuple[float, float]:
    """Powers of ``base`` around the values, at least one apart."""
    low = math.floor(math.log(min(values), base) + 1e-9)
    high = math.ceil(math.log(max(values), base) - 1e-9)
    return base**low, base ** max(high, low + 1)


def _png(panels: Sequence[tuple[str, dict[str, Points]]], title: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(panels), figsize=(9, 3.6))
    for axis, (label, curves) in zip(axes, panels, strict=True):
        for (name, curve), colour in zip(curves.items(), COLOURS.values(), strict=False):
            axis.loglog(*zip(*curve, strict=True) if curve else ([], []), "o-", color=colour, label=name)
        axis.set(xlabel="seconds of sound", ylabel=label)
        axis.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path)
