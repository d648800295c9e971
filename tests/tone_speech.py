"""Speech that is easy to learn, for the tests of recognisers: a tone for each of three letters."""

import numpy as np

RATE = 16000
PITCH = {"a": 300, "b": 900, "c": 2400}


def spoken(text, rng):
    """float32 [n]: 0.16 s of a tone for a letter, 0.24 s of silence for a space."""
    parts = []
    for letter in text:
        t = np.arange(int(RATE * (0.24 if letter == " " else 0.16))) / RATE
        tone = np.sin(2 * np.pi * PITCH.get(letter, 0) * t) * np.hanning(len(t))
        parts.append(0.3 * tone + 0.001 * rng.standard_normal(len(t)))
    return np.concatenate(parts).astype(np.float32)
