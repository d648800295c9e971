"""Curves with error bars as a picture, axes linear. SVG is written by hand; PNG takes matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from slyther_cli.errors import OutputError

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 520, 340, 64, 40, 20, 50
COLOURS = ("#0b6e4f", "#c1440e", "#33539e", "#8a5a83", "#777777", "#b8860b")


class Point(NamedTuple):
    """``low`` and ``high`` are the ends of its error bar."""

    x: float
    y: float
    low: float
    high: float


def draw(
    curves: Mapping[str, Sequence[Point]],
    title: str,
    across: str,
    up: str,
    path: Path,
    names: Sequence[str] = (),
) -> None:
    """``across`` and ``up`` name the axes; ``names``, if there are any, stand at x = 0, 1, ... in place of
    numbers. Whether ``path`` can be a picture is ``efficiency_plot.check``'s. Raises OutputError."""
    try:
        if path.suffix.lower() == ".png":
            _png(curves, title, across, up, path, names)
        else:
            path.write_text(svg(curves, title, across, up, names), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def svg(
    curves: Mapping[str, Sequence[Point]], title: str, across: str, up: str, names: Sequence[str] = ()
) -> str:
    """The picture as text."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    points = [p for curve in curves.values() for p in curve]
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="14">{escape(title)}</text>',
        f'<rect x="{LEFT}" y="{TOP}" width="{right - LEFT}" height="{bottom - TOP}" fill="none" '
        'stroke="#888"/>',
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 10}" text-anchor="middle">{escape(across)}</text>',
        f'<text x="16" y="{(TOP + bottom) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + bottom) / 2})">{escape(up)}</text>',
    ]
    if not points:
        return "\n".join([*out, "</svg>", ""])
    xs = sorted({p.x for p in points})
    ticks = _ticks(min(0.0, *(p.low for p in points)), max(p.high for p in points))
    x0, x1 = xs[0] - 0.3, max(xs[-1], xs[0] + 1) + 0.3

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x0) / (x1 - x0) * (right - LEFT),
            bottom - (y - ticks[0]) / (ticks[-1] - ticks[0]) * (bottom - TOP),
        )

    for x in xs:
        label = names[int(x)] if names else f"{x:g}"
        where = f'x="{at(x, ticks[0])[0]:.1f}" y="{bottom + 16}"'
        out.append(f'<text {where} text-anchor="middle">{escape(label)}</text>')
    for tick in ticks:
        y = at(xs[0], tick)[1]
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for i, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        line = " ".join("{:.1f},{:.1f}".format(*at(p.x, p.y)) for p in curve)
        out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for p in curve:
            (x, low), (_, high), (_, y) = at(p.x, p.low), at(p.x, p.high), at(p.x, p.y)
            out.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        out.append(
            f'<text x="{right - 8}" y="{TOP + 16 + 15 * i}" text-anchor="end" fill="{colour}">'
            f"{escape(name)}</text>"
        )
    return "\n".join([*out, "</svg>", ""])


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers, four to ten of them, from at or below ``low`` to at or above ``high``."""
    span = max(high - low, 1e-9)
    step = 10 ** math.floor(math.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 8)
    first = math.floor(low / step + 1e-9)
    last = max(first + 1, math.ceil(high / step - 1e-9))
    return [round(i * step, 12) for i in range(first, last + 1)]


def _png(
    curves: Mapping[str, Sequence[Point]], title: str, across: str, up: str, path: Path, names: Sequence[str]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(6, 4))
    for i, (name, curve) in enumerate(curves.items()):
        bars = [[p.y - p.low for p in curve], [p.high - p.y for p in curve]]
        colour = COLOURS[i % len(COLOURS)]
        axis.errorbar([p.x for p in curve], [p.y for p in curve], bars, fmt="o-", color=colour, label=name)
    axis.set(title=title, xlabel=across, ylabel=up)
    if names:
        axis.set_xticks(range(len(names)), names)
    axis.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
