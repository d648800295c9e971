"""Forced alignment against a table of all states, torchaudio where it loads, and the clock."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_text_ctc import emission, peaks

from slyther_cli.decode.align import align
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.decode.words import WordStream
from slyther_cli.errors import InputError

seeds = st.integers(0, 2**32 - 1)


def naive(log_probs, tokens):
    """(score, [(start, end)]) of the best path, from the whole table of frames and states."""
    states = [0]
    for token in tokens:
        states += [token, 0]
    table = np.full((len(log_probs), len(states)), -math.inf)
    back = np.zeros(table.shape, int)
    table[0, :2] = log_probs[0, states[:2]]
    for t in range(1, len(log_probs)):
        for s in range(len(states)):
            options = [(table[t - 1, s], s)]
            if s > 0:
                options.append((table[t - 1, s - 1], s - 1))
            if s > 1 and states[s] and states[s] != states[s - 2]:
                options.append((table[t - 1, s - 2], s - 2))
            best, back[t, s] = max(options)
            table[t, s] = best + log_probs[t, states[s]]
    s = len(states) - 1 if table[-1, -1] >= table[-1, -2] else len(states) - 2
    score, frames = table[-1, s], {}
    for t in range(len(log_probs) - 1, -1, -1):
        if s % 2:
            frames.setdefault(s // 2, []).append(t)
        s = back[t, s]
    return score, [(frames[i][-1], frames[i][0] + 1) for i in range(len(tokens))]


def problem(seed, frames, count, vocab=4):
    """Random log-probabilities and tokens that fit them."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, vocab, count).tolist()
    needed = count + sum(a == b for a, b in itertools.pairwise(tokens))
    return emission(seed, max(frames, needed), vocab), tokens


def score(log_probs, aligned):
    """Log-probability of the path that the aligned tokens stand for."""
    path = np.zeros(len(log_probs), int)
    for token in aligned:
        path[token.start : token.end] = token.id
    return log_probs[np.arange(len(path)), path].sum()


@given(seeds, st.integers(1, 40), st.integers(1, 12), st.sampled_from([0, 30, 2**20]))
@settings(max_examples=120)
def test_equals_the_whole_table(seed, frames, count, memory):
    log_probs, tokens = problem(seed, frames, count)
    truth, spans = naive(log_probs, tokens)
    aligned = align(log_probs, tokens, memory=memory)
    assert [token.id for token in aligned] == tokens
    assert [(token.start, token.end) for token in aligned] == spans
    assert score(log_probs, aligned) == pytest.approx(truth)
    for token in aligned:
        assert token.score == pytest.approx(log_probs[token.start : token.end, token.id].mean())


@given(seeds, st.integers(0, 5))
@settings(max_examples=60)
def test_near_leaves_the_result_alone_while_it_is_within_slack(seed, off):
    """A wrong guess of up to ``slack`` frames for every token gives the same, in any memory."""
    rng = np.random.default_rng(seed)
    log_probs, tokens = problem(seed, 200, 30)
    whole = align(log_probs, tokens, memory=0)
    longest = max(token.end - token.start for token in whole)
    near = np.sort(np.array([token.start for token in whole]) + rng.integers(-off, off + 1, len(whole)))
    for memory in (0, 2**20):
        assert align(log_probs, tokens, near=near, slack=off + longest, memory=memory) == whole


@given(seeds, st.integers(0, 8))
@settings(max_examples=60)
def test_near_binds(seed, slack):
    """Every token lies where near allows it, and no allowed path is better."""
    log_probs, tokens = problem(seed, 30, 5, 3)
    near = np.sort(np.random.default_rng(seed).integers(0, 30, 5))
    masked = np.full((30, 6), -math.inf)  # one id a token, so that the table can forbid frames one by one
    masked[:, 0] = log_probs[:, 0]
    for i, token in enumerate(tokens):
        frames = slice(max(near[i] - slack, 0), near[i] + slack + 1)
        masked[frames, i + 1] = log_probs[frames, token]
    if (np.diff(tokens) == 0).any():  # distinct ids would not need the blank between repeats
        return
    try:
        truth, spans = naive(masked, [1, 2, 3, 4, 5])
    except KeyError:
        truth = -math.inf
    if truth == -math.inf:
        with pytest.raises(InputError, match="no possible alignment"):
            align(log_probs, tokens, near=near, slack=slack)
        return
    aligned = align(log_probs, tokens, near=near, slack=slack)
    assert [(token.start, token.end) for token in aligned] == spans


def test_equals_torchaudio():
    torch = pytest.importorskip("torch")
    try:
        from torchaudio.functional import forced_align

        forced_align(torch.zeros(1, 2, 2), torch.tensor([[1]], dtype=torch.int32))
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        pytest.skip(f"torchaudio's compiled extension does not load here: {str(error)[:80]}")
    for seed in range(30):
        log_probs, tokens = problem(seed, 80, 20)
        path, scores = forced_align(
            torch.tensor(log_probs, dtype=torch.float32)[None], torch.tensor([tokens], dtype=torch.int32)
        )
        ours = np.zeros(len(log_probs), int)
        for token in align(log_probs.astype(np.float32), tokens):
            ours[token.start : token.end] = token.id
        assert ours.tolist() == path[0].tolist()
        assert float(scores.sum()) == pytest.approx(log_probs[np.arange(len(ours)), ours].sum(), rel=1e-4)


def test_no_drift_in_three_hours():
    """A click every 10 minutes, 25 frames a second, 16 kHz: every one within a frame."""
    rate, hop, minutes = 16_000, 640, 180
    frames = minutes * 60 * rate // hop
    clicks = [m * 60 * rate + 12_345 for m in range(0, minutes, 10)]  # samples
    log_probs = peaks(frames, dict.fromkeys([c // hop for c in clicks], 1), 3, 0.9).astype(np.float32)
    log_probs[:, 1] += np.random.default_rng(0).uniform(-1, 0, frames).astype(np.float32)
    rough = [c // hop + 200 * (-1) ** i for i, c in enumerate(clicks)]  # a decoder 8 s off
    aligned = align(log_probs, [1] * len(clicks), near=rough)
    words = WordStream(CharTokenizer("a"), hop)
    starts = [word.start for token in aligned for word in words.push([token]) + words.flush()]
    assert max(abs(start - click) for start, click in zip(starts, clicks, strict=True)) <= rate * 40 // 1000


def test_memory_is_bounded_for_many_tokens():
    log_probs, tokens = problem(1, 3000, 900)
    tracemalloc.start()
    lean = align(log_probs, tokens, memory=2**18)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6  # all rows would be 43 MB; 2 MB are gathered at a time
    assert lean == align(log_probs, tokens)


def test_a_piece_of_a_recording_keeps_its_frames():
    log_probs = peaks(20, {5: 1, 9: 2})
    (one, two) = align(log_probs, [1, 2], first_frame=10**6)
    assert (one.start, one.end, two.start) == (10**6 + 5, 10**6 + 6, 10**6 + 9)


def test_what_cannot_be_aligned():
    log_probs = emission(0, 3, 4)
    assert align(log_probs, []) == []
    for tokens in ([1, 1, 2], [1, 2, 3, 1]):
        with pytest.raises(InputError, match="needs 4 frames, the recording has 3"):
            align(log_probs, tokens)
    with pytest.raises(InputError, match="no possible alignment"):
        align(np.where(np.arange(4) == 2, -math.inf, log_probs), [1, 2])
    for tokens in ([0], [4]):
        with pytest.raises(ValueError, match="ids"):
            align(log_probs, tokens)
    with pytest.raises(ValueError, match="near"):
        align(log_probs, [1, 2], near=[2, 1])
