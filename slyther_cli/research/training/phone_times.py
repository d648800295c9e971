"""How long each symbol of a spelling lasts, from the timed phones that a synthesizer or an aligner tells.

Its phones are of another dictionary than ours ("ax" where we write AH0), and it pauses where it likes. Both
rows are matched at the least cost of edits; the time of a phone without a partner goes to the symbol before
it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from slyther_cli.english.phonemes import ALPHABETS, BLANK, MARKS, VOWELS

PAUSES = ("pau", "sil", "ssil", "h#", "SIL")
OTHER_NAMES = {"AX": "AH", "AXR": "ER", "IX": "IH", "UX": "UW", "NX": "N", "EL": "L", "EM": "M", "EN": "N"}
WORST = 0.45
"""Cost a phone above which a match is not believed."""


def parse_phones(text: str) -> list[tuple[str, float]]:
    """ "pau:0.192 dh:0.226" -> names and ends in seconds. Empty when it is damaged."""
    out = []
    for word in text.split():
        name, _, end = word.rpartition(":")
        try:
            out.append((name, float(end)))
        except ValueError:
            return []
    return out


def symbol_durations(
    symbols: Sequence[int], phones: Sequence[tuple[str, float]], frames: int, frame_rate: float
) -> np.ndarray | None:
    """Frames of each symbol of the alphabet "arpabet", which sum to ``frames``; None when they do not
    match."""
    names = [ALPHABETS["arpabet"][s] for s in symbols]
    said = [OTHER_NAMES.get(n.upper(), n.upper()) if n not in PAUSES else "" for n, _ in phones]
    partner, cost = _match(names, said)
    if not phones or cost > WORST * len(said):
        return None
    ends = np.zeros(len(names))
    for (_, end), place in zip(phones, partner, strict=True):
        ends[place] = end
    edges = np.minimum(np.round(np.maximum.accumulate(ends) * frame_rate), frames).astype(np.int64)
    edges[-1] = frames
    return np.diff(edges, prepend=0)


def _match(names: list[str], said: list[str]) -> tuple[list[int], float]:
    """For each phone said, the place of its symbol, never falling; and the cost."""
    n, m = len(names), len(said)
    price = np.full((n + 1, m + 1), np.inf)
    move = np.zeros((n + 1, m + 1), np.int8)  # 0: both go on, 1: symbol not said, 2: phone not written
    price[0, 0] = 0
    skip = [0.0 if _silent(name) else 1.0 for name in names]
    for i in range(n + 1):
        for j in range(m + 1):
            if i and j and (c := price[i - 1, j - 1] + _distance(names[i - 1], said[j - 1])) < price[i, j]:
                price[i, j], move[i, j] = c, 0
            if i and (c := price[i - 1, j] + skip[i - 1]) < price[i, j]:
                price[i, j], move[i, j] = c, 1
            if j and (c := price[i, j - 1] + (1.0 if said[j - 1] else 0.4)) < price[i, j]:
                price[i, j], move[i, j] = c, 2
    partner, i, j = [0] * m, n, m
    while j:
        if move[i, j] == 1:
            i -= 1
            continue
        partner[j - 1] = max(0, i - 1)
        i, j = (i - 1, j - 1) if move[i, j] == 0 else (i, j - 1)
    return partner, float(price[n, m])


def _silent(name: str) -> bool:
    return name == BLANK or name in MARKS


def _distance(name: str, said: str) -> float:
    """Between our symbol and a phone without stress, "" for a pause."""
    if _silent(name) or not said:
        return 0.0 if _silent(name) and not said else 3.0
    plain = name.rstrip("012")
    if plain == said:
        return 0.0
    both = (plain in VOWELS) + (said in VOWELS)
    return {2: 0.5, 0: 0.9, 1: 1.8}[both]
