"""Draw docs/two-voices.svg, the picture of the README: examples/two_voices.flac and its two stems.

    slyther separate examples/two_voices.flac -o out
    python examples/make_picture.py out/two_voices_s1.wav out/two_voices_s2.wav

Every column of the picture is the largest and the smallest sample of about 12 ms.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile as sf

HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "docs" / "two-voices.svg"
WIDTH, HEIGHT, LEFT, GAP = 840, 84, 112, 10
ROWS = (("two voices", "#5b6472"), ("speaker 1", "#0b6e99"), ("speaker 2", "#c2571a"))


def envelope(path: str | Path) -> np.ndarray:
    """The largest and the smallest sample of each column, [WIDTH, 2]."""
    samples, _ = sf.read(path, dtype="float32")
    return np.array([(piece.max(), piece.min()) for piece in np.array_split(samples, WIDTH)])


def band(columns: np.ndarray, middle: float, scale: float) -> str:
    """The outline of a waveform as an SVG path: along the top to the right, along the bottom back."""
    top = [f"{LEFT + x},{middle - scale * y:.1f}" for x, y in enumerate(columns[:, 0])]
    bottom = [f"{LEFT + x},{middle - scale * y:.1f}" for x, y in enumerate(columns[:, 1])]
    return "M" + "L".join(top + bottom[::-1]) + "Z"


def picture(files: list[str | Path]) -> str:
    """The SVG of one row a file, all at the same scale."""
    rows = [envelope(path) for path in files]
    scale = HEIGHT / 2 / max(np.abs(row).max() for row in rows)
    total = len(rows) * (HEIGHT + GAP) + GAP
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + GAP} {total}" role="img" '
        'font-family="sans-serif" font-size="16">',
        "<title>Two overlapping voices, and the two separated results</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for i, (row, (name, colour)) in enumerate(zip(rows, ROWS, strict=True)):
        middle = GAP + i * (HEIGHT + GAP) + HEIGHT / 2
        out.append(f'<text x="{GAP}" y="{middle + 5:.0f}" fill="{colour}">{name}</text>')
        out.append(f'<path d="{band(row, middle, scale)}" fill="{colour}"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/make_picture.py STEM_1 STEM_2")
    TARGET.write_text(picture([HERE / "two_voices.flac", *sys.argv[1:]]), encoding="utf-8")


if __name__ == "__main__":
    main()
