"""When the sounds of a prompt are said: words where the recogniser hears them, and all frames given out."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.english.phonemes import ALPHABETS, MARKS, spell
from slyther_cli.synthesis.prompt import _between, _shared_out

SYMBOLS = list(spell("No, the grey cats.", "arpabet").symbols)


def words_of(durations: torch.Tensor) -> list[tuple[int, int]]:
    """First frame and end of each word."""
    edges, out, inside = durations.cumsum(0).tolist(), [], False
    for symbol, end, length in zip(SYMBOLS, edges, durations.tolist(), strict=True):
        if symbol <= len(MARKS) + 1:
            inside = False
            continue
        out.append((out.pop()[0] if inside else end - length, end))
        inside = True
    return out


@settings(max_examples=60)
@given(st.lists(st.floats(0.01, 0.6), min_size=9, max_size=9), st.integers(0, 99))
def test_words_are_said_where_they_were_heard(lengths, seed):
    ends = np.cumsum(lengths)
    times = [(ends[2 * i], ends[2 * i + 1]) for i in range(4)]
    frames = round(ends[-1] * 50)
    logs = torch.from_numpy(np.random.default_rng(seed).uniform(0, 3, len(SYMBOLS)))
    durations = _between(SYMBOLS, logs, times, frames, 50)
    assert int(durations.sum()) == frames and int(durations.min()) >= 0
    found = words_of(durations)
    for (start, end), (wanted_start, wanted_end) in zip(found, times, strict=True):
        assert abs(start - wanted_start * 50) <= 3 and abs(end - wanted_end * 50) <= 3  # half a short gap
    gaps = [(a[1], b[0]) for a, b in itertools.pairwise(found)]
    assert all(b - a == 0 or b - a >= 3 for a, b in gaps)  # no pause that nobody hears


def test_words_that_do_not_fit_are_not_timed():
    with pytest.raises(ValueError, match="not those of the spelling"):
        _between(SYMBOLS, torch.ones(len(SYMBOLS)), [(0.1, 0.5)], 50, 50)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 4), min_size=1, max_size=30), st.integers(0, 300))
def test_frames_are_shared_out_without_rest(logs, frames):
    durations = _shared_out(torch.tensor(logs), frames)
    assert int(durations.sum()) == frames and int(durations.min()) >= 0


def test_the_alphabet_has_its_marks_first():
    assert ALPHABETS["arpabet"][2 : 2 + len(MARKS)] == tuple(MARKS)
