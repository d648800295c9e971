"""From log-probabilities to segments in a stream: the same however it is fed, with the times of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode.align import align
from slyther_cli.decode.ctc import BeamDecoder, GreedyDecoder
from slyther_cli.decode.realign import Realigner
from slyther_cli.decode.segments import Segmenter
from slyther_cli.decode.stream import TextStream
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.decode.words import Token, WordStream

ALPHABET = CharTokenizer(" abc")
HOP, RATE = 640, 16_000


def spoken(frames, seed, sureness=6.0):
    """Log-probabilities [frames, 5] as of speech: spikes of tokens, pauses of up to four seconds."""
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((frames, ALPHABET.size))
    logits[:, 0] += sureness
    at = 0
    while at < frames:
        if rng.random() < 0.08:
            at += int(rng.integers(10, 100))
            continue
        logits[at : at + int(rng.integers(1, 4)), rng.integers(1, ALPHABET.size)] += 2 * sureness
        at += int(rng.integers(2, 7))
    logits -= np.log(np.exp(logits).sum(1, keepdims=True))
    return logits.astype(np.float32)


def stream(beam, delay=60, lead=0):
    decoder = BeamDecoder(beam, token_prune_min_logp=-4.0, max_delay=delay) if beam else GreedyDecoder()
    words = WordStream(ALPHABET, HOP, offset=-HOP // 2, pause=20, lead=lead)
    return TextStream(decoder, words, Segmenter(RATE))


def segments(log_probs, beam, cuts=(), lead=0):
    text, done = stream(beam, lead=lead), []
    for part in np.split(log_probs, sorted(cuts)):
        done += text.push(part)
    return done + text.flush(len(log_probs) * HOP)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    frames=st.integers(1, 700),
    beam=st.sampled_from([0, 0, 4]),
    cuts=st.lists(st.integers(0, 700), max_size=12),
    lead=st.sampled_from([0, 800, 3000]),
)
def test_feeds_do_not_matter(seed, frames, beam, cuts, lead):
    log_probs = spoken(frames, seed)
    whole = segments(log_probs, beam, lead=lead)
    assert segments(log_probs, beam, [min(cut, frames) for cut in cuts], lead) == whole
    assert segments(log_probs, beam, range(1, frames), lead) == whole
    assert all(one.start >= 0 and one.end <= frames * HOP for one in whole)


@pytest.mark.parametrize("seed", range(3))
def test_words_begin_before_their_first_letter_is_heard(seed):
    """By the lead, but not before the word before has ended; ends stay, and nothing drifts."""
    log_probs = spoken(1500, seed)
    plain, early = (
        [word for one in segments(log_probs, 0, lead=lead) for word in one.words] for lead in (0, 800)
    )
    assert [(w.text, w.end) for w in early] == [(w.text, w.end) for w in plain] and len(plain) > 20
    ends = [0, *(word.end for word in plain)]
    assert [w.start for w in early] == [max(w.start - 800, end) for w, end in zip(plain, ends, strict=False)]
    assert any(w.start - e.start == 800 for w, e in zip(plain, early, strict=True))
    with pytest.raises(ValueError, match="lead"):
        WordStream(ALPHABET, HOP, lead=-1)


@pytest.mark.parametrize("seed", range(3))
def test_a_greedy_path_is_its_own_alignment(seed):
    log_probs = spoken(600, seed)
    decoder = GreedyDecoder()
    tokens = decoder.push(log_probs) + decoder.flush()
    aligned = align(log_probs, [token.id for token in tokens])
    assert len(tokens) > 50
    assert [(t.start, t.end) for t in tokens] == [(t.start, t.end) for t in aligned]


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), blur=st.integers(0, 3), size=st.integers(1, 400))
def test_times_are_those_of_the_whole_alignment(seed, blur, size):
    """Tokens at about their places, frames that come in pieces and are forgotten again."""
    log_probs, rng = spoken(1500, seed), np.random.default_rng(seed)
    decoder = GreedyDecoder()
    tokens = decoder.push(log_probs) + decoder.flush()
    shift = np.sort(rng.integers(-blur, blur + 1, len(tokens)))
    blurred, last = [], 0
    for token, by in zip(tokens, shift.tolist(), strict=True):
        start = min(max(token.start + by, last), 1498)
        last = max(start + 1, min(token.end + by, 1499))
        blurred.append(Token(token.id, start, last, 0.0))
    realigner, found, given = Realigner(delay=50), [], 0
    for low in range(0, 1500, size):
        realigner.push_log_probs(log_probs[low : low + size])
        heard = min(low + size, 1500)
        ready = [t for t in blurred[given:] if t.end <= heard - 10]
        given += len(ready)
        found += realigner.push(ready) + realigner.advance(min(heard - 50, 1500))
    found += realigner.push(blurred[given:]) + realigner.flush()
    assert [(t.id, t.start, t.end) for t in found] == [(t.id, t.start, t.end) for t in tokens]


def test_a_beam_gives_the_times_of_its_alignment():
    log_probs = spoken(800, 5)
    text, tokens = stream(8), []
    feed = text.words.push
    text.words.push = lambda given: feed(tokens.extend(given) or given)
    text.push(log_probs)
    text.flush(800 * HOP)
    aligned = align(log_probs, [token.id for token in tokens])
    assert len(tokens) > 60 and tokens == aligned


def test_what_is_over_is_told_without_waiting():
    """Live: 0.8 s after the last token a segment is final; what is not yet is shown as partial."""
    log_probs = np.full((200, ALPHABET.size), -20.0, np.float32)
    log_probs[:, 0] = 0
    for frame, token in ((10, 2), (14, 3), (17, 1), (20, 4)):  # "ab c"
        log_probs[frame, token], log_probs[frame, 0] = 0, -20
    text = stream(0)
    for i in range(200):
        done = text.push(log_probs[i : i + 1])
        shown, heard = text.partial(), {10: "a", 14: "ab", 17: "ab", 20: "ab c", 40: ""}
        assert (shown.text if shown else "") == ([""] + [heard[k] for k in heard if k <= i])[-1]
        assert bool(done) == (i == 40)
    (one,) = segments(log_probs, 0)
    assert [(w.text, w.start, w.end) for w in one.words] == [
        ("ab", 10 * HOP - 320, 15 * HOP - 320),
        ("c", 20 * HOP - 320, 21 * HOP - 320),
    ]
    with pytest.raises(ValueError, match="for ever"):
        stream(4, delay=None)


def test_hours_of_silence_are_forgotten():
    text = stream(2)
    quiet = np.full((1000, ALPHABET.size), -20.0, np.float32)
    quiet[:, 0] = 0
    for _ in range(100):
        assert text.push(quiet) == [] and text.partial() is None
    assert sum(map(len, text._realigner._pieces)) <= 2000
    assert text.flush(100_000 * HOP) == []
