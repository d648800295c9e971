"""CTC decoding against sums over all alignments, a naive search, and itself in other pieces."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.decode import native_beam
from slyther_cli.decode.ctc import BeamDecoder, GreedyDecoder
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.decode.words import Token, WordStream
from slyther_cli.research.language.kneser_ney import train

seeds = st.integers(0, 2**32 - 1)
EXACT = {"beam": 10**6, "beam_prune_logp": -math.inf, "token_prune_min_logp": -math.inf, "max_delay": None}
EXACT["merge"] = False


def emission(seed, frames, vocab, sharpness=1.0):
    """Random log-probabilities [frames, vocab]."""
    logits = np.random.default_rng(seed).standard_normal((frames, vocab)) * sharpness
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def collapse(path):
    return tuple(token for token, _ in itertools.groupby(path) if token)


def sums(log_probs):
    """log p of every labelling: the sum over all of its alignments, one by one."""
    total = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        p = math.exp(sum(log_probs[t, token] for t, token in enumerate(path)))
        total[collapse(path)] = total.get(collapse(path), 0.0) + p
    return {labels: math.log(p) for labels, p in total.items()}


def naive(log_probs, beam, beam_prune, token_prune):
    """Prefix beam search over tuples, as in the papers, with the same pruning."""
    beams = {(): (0.0, -math.inf)}
    for row in log_probs:
        tried = {int(t) for t in np.flatnonzero(row >= token_prune)} | {int(row.argmax())}
        new = {}

        def add(prefix, b, n, new=new):
            old = new.get(prefix, (-math.inf, -math.inf))
            new[prefix] = (np.logaddexp(old[0], b), np.logaddexp(old[1], n))

        for prefix, (b, n) in beams.items():
            for token in tried:
                p = row[token]
                if token == 0:
                    add(prefix, np.logaddexp(b, n) + p, -math.inf)
                elif prefix and prefix[-1] == token:
                    add(prefix, -math.inf, n + p)
                    add((*prefix, token), -math.inf, b + p)
                else:
                    add((*prefix, token), -math.inf, np.logaddexp(b, n) + p)
        ranked = sorted(new, key=lambda k: -np.logaddexp(*new[k]))
        best = np.logaddexp(*new[ranked[0]])
        beams = {k: new[k] for k in ranked[:beam] if np.logaddexp(*new[k]) >= max(best + beam_prune, -1e300)}
    ranked = sorted(beams, key=lambda k: -np.logaddexp(*beams[k]))
    return ranked[0], float(np.logaddexp(*beams[ranked[0]]))


def run(decoder, log_probs, cuts=()):
    tokens = []
    for piece in np.split(log_probs, sorted(cuts)):
        tokens += decoder.push(piece)
    return tokens + decoder.flush()


def in_order(tokens, frames):
    edges = [edge for token in tokens for edge in (token.start, token.end)]
    return edges == sorted(edges) and all(0 <= edge <= frames for edge in edges)


@given(seeds, st.integers(0, 6), st.integers(2, 4))
@settings(max_examples=60)
def test_beam_equals_the_sum_over_all_alignments(seed, frames, vocab):
    log_probs = emission(seed, frames, vocab)
    truth = sums(log_probs)
    decoder = BeamDecoder(**EXACT)
    tokens = run(decoder, log_probs)
    assert truth[tuple(token.id for token in tokens)] == pytest.approx(max(truth.values()))
    assert decoder.score == pytest.approx(max(truth.values()))
    assert in_order(tokens, frames)


class Ratings:
    """A language model of two words of memory-less score and one of memory."""

    def begin(self):
        return ""

    def score(self, word, state):
        return {"a": -1.0, "b": -2.0, "ab": -0.5}.get(word, -6.0) - (state == word), word

    def has_prefix(self, text):
        return text in ("a", "b", "ab")

    def knows(self, word):
        return word in ("a", "b", "ab")


@given(seeds, st.integers(1, 6))
@settings(max_examples=60)
def test_beam_with_words_equals_the_sum_over_all_alignments(seed, frames):
    """Score = log p(labels) + weight * lm + bonuses, each word once, also the last one."""
    tokenizer, lm = CharTokenizer(" ab"), Ratings()
    options = {"lm_weight": 0.7, "word_bonus": 0.3, "unknown_bonus": -2.5}
    log_probs = emission(seed, frames, 4, 2.0)

    def rated(labels, logp):
        state = ""
        for word in "".join(" ab"[i - 1] for i in labels).split():
            value, state = lm.score(word, state)
            logp += 0.7 * value + 0.3 - 2.5 * (not lm.knows(word))
        return logp

    truth = {labels: rated(labels, logp) for labels, logp in sums(log_probs).items()}
    decoder = BeamDecoder(**EXACT, tokenizer=tokenizer, lm=lm, **options)
    tokens = run(decoder, log_probs)
    assert truth[tuple(token.id for token in tokens)] == pytest.approx(max(truth.values()))
    assert decoder.score == pytest.approx(max(truth.values()))


@given(seeds, st.integers(1, 5))
@settings(max_examples=40)
def test_every_prefix_holds_its_sum(seed, frames):
    """Not the best alone: with nothing pruned the beams are all labellings, each with its sum."""
    log_probs = emission(seed, frames, 3)
    decoder = BeamDecoder(**EXACT)
    decoder.push(log_probs)
    found = {
        tuple(token.id for token in decoder._path(node)): node.total + decoder._shift
        for node in decoder._beams
    }
    assert found == pytest.approx(sums(log_probs))


@given(
    seeds,
    st.sampled_from([-6.0, -2.0, -0.5]),
    st.integers(2, 30),
    st.sampled_from([-3.0, 0.0, 2.0]),
    st.sampled_from([-4.0, 0.0, 3.0]),
    st.sampled_from([0.0, 0.7]),
)
@settings(max_examples=80)
def test_pruning_ahead_changes_nothing(seed, beam_prune, beam, word_bonus, unknown_bonus, lm_weight):
    """A child is not made when it would be pruned at once: same words and score as when it is."""

    def made():
        return BeamDecoder(
            beam,
            beam_prune_logp=beam_prune,
            token_prune_min_logp=-9.0,
            tokenizer=CharTokenizer(" ab"),
            lm=Ratings(),
            lm_weight=lm_weight,
            word_bonus=word_bonus,
            unknown_bonus=unknown_bonus,
            max_delay=None,
        )

    log_probs = emission(seed, 30, 4, 2.0)
    ahead, after = made(), made()
    after._hope = math.inf  # every child is made
    assert [token.id for token in run(ahead, log_probs)] == [token.id for token in run(after, log_probs)]
    assert ahead.score == after.score


@given(seeds, st.integers(1, 40), st.integers(1, 12), st.sampled_from([-1.2, -3.0, -20.0]))
@settings(max_examples=60)
def test_beam_equals_the_naive_search(seed, frames, beam, token_prune):
    log_probs = emission(seed, frames, 5, 2.0)
    labels, score = naive(log_probs, beam, -4.0, token_prune)
    decoder = BeamDecoder(beam, beam_prune_logp=-4.0, token_prune_min_logp=token_prune, max_delay=None)
    assert tuple(token.id for token in run(decoder, log_probs)) == labels
    assert decoder.score == pytest.approx(score)


@given(seeds, st.lists(st.integers(0, 60), max_size=8), st.sampled_from([None, 3, 10]), st.booleans())
@settings(max_examples=80)
def test_feeds_may_be_cut_anywhere(seed, cuts, max_delay, words):
    log_probs = emission(seed, 60, 4, 3.0)
    log_probs[20:30] = np.log([0.97, 0.01, 0.01, 0.01])
    lm = {"lm": Ratings(), "tokenizer": CharTokenizer(" ab"), "lm_pause": 5} if words else {}

    def made():
        return BeamDecoder(20, token_prune_min_logp=-3, max_delay=max_delay, **lm)

    whole = run(made(), log_probs)
    assert run(made(), log_probs, cuts) == whole
    assert in_order(whole, 60)
    assert run(GreedyDecoder(), log_probs, cuts) == run(GreedyDecoder(), log_probs)


def spelt(text, frames=3, spaces=0.3):
    """Every letter of " ab" for one frame of ``frames``; a space is heard with the probability ``spaces``."""
    rows = []
    for letter in text:
        row = np.full(4, 1e-6)
        row[0], row[" ab".index(letter) + 1] = (1 - spaces, spaces) if letter == " " else (1e-3, 1.0)
        rows += [row, *[np.array([1.0, 1e-6, 1e-6, 1e-6])] * (frames - 1)]
    log_probs = np.log(np.array(rows))
    return log_probs - np.log(np.exp(log_probs).sum(1, keepdims=True))


@pytest.mark.parametrize("made", [BeamDecoder, native_beam.beam_decoder])
def test_an_unknown_word_does_not_run_on(made):
    """Without a price for its letters, one endless unknown word is cheaper than all the words to come."""
    tokenizer, lm = CharTokenizer(" ab"), train(["ab ba ab", "ba ab ba"], 2)
    said = "bbb ab ba ab ba ab ba ab ba ab ba ab ba ab ba"  # the first word is not known
    options = {"token_prune_min_logp": -9.0, "tokenizer": tokenizer, "lm": lm, "lm_weight": 1.0}
    options |= {"word_bonus": 0.0, "unknown_bonus": -6.0, "beam_prune_logp": -30.0}

    def heard(letter):
        tokens = run(made(200, **options, unknown_letter_bonus=letter), spelt(said))
        return tokenizer.decode(token.id for token in tokens)

    assert heard(-2.0) == said
    assert len(heard(0.0).split()) < len(said.split()) / 2
    with pytest.raises(ValueError, match="unknown_letter_bonus"):
        made(9, **options, unknown_letter_bonus=0.1)


def test_words_long_ago_take_no_room():
    """Ten words that may each be either of two: without merging, all their combinations are held."""
    tokenizer, lm = CharTokenizer(" ab"), train(["ab ba", "a b", "b a", "ba ab"], 2)
    log_probs = spelt("a " * 10, spaces=0.999)
    log_probs[::6, 2:] = np.log([0.5, 0.45])  # a or b

    def made(merge):
        options = {"token_prune_min_logp": -4.0, "beam_prune_logp": -20.0, "unknown_bonus": -30.0}
        return BeamDecoder(5000, tokenizer=tokenizer, lm=lm, **options, merge=merge)

    apart, merged = made(False), made(True)
    assert apart.push(log_probs) == merged.push(log_probs) == []
    assert len(merged._beams) < 20 < 500 < len(apart._beams)
    assert [token.id for token in merged.flush()] == [token.id for token in apart.flush()]


@pytest.mark.parametrize("made", [BeamDecoder, native_beam.beam_decoder])
def test_a_pause_ends_a_word_for_the_language_model_too(made):
    """`WordStream` parts words at the pause; the letters after it must be the beginning of a word."""
    tokenizer, lm = CharTokenizer(" ab"), train(["ab ab ab", "abbb abbb"], 2)
    log_probs = np.concatenate([spelt("ab"), np.log([[0.997, 0.001, 0.001, 0.001]] * 30), spelt("ab")])
    log_probs[36] = np.log([0.02, 0.02, 0.46, 0.50])  # abbb is a word, but bb is none
    options = {"token_prune_min_logp": -9.0, "tokenizer": tokenizer, "lm": lm, "unknown_bonus": -40.0}

    def heard(pause):
        tokens = run(made(200, **options, lm_pause=pause), log_probs)
        words = WordStream(tokenizer, 1, pause=20)
        return [word.text for word in [*words.push(tokens), *words.flush()]]

    assert heard(20) == ["ab", "ab"]
    assert heard(None) == ["ab", "bb"]


SPOKEN = ["ab ba a", "a bab ab", "b ab", "ba ba ab a", "abba", "a b a"]


@pytest.mark.skipif(native_beam._native is None, reason="the compiled extension is not there")
@given(
    seeds,
    st.lists(st.integers(0, 90), max_size=6),
    st.sampled_from([None, 3, 20]),
    st.sampled_from([0, 1, 2, 3, 4]),
    st.integers(1, 30),
    st.sampled_from([0.0, 0.7]),
    st.sampled_from([-3.0, -0.5, 2.0]),
)
@settings(max_examples=150)
def test_the_compiled_beam_equals_the_plain_one(seed, cuts, max_delay, order, beam, weight, bonus):
    """The same tokens, frames, scores and partial results, to the last bit, however the frames are fed."""
    log_probs = emission(seed, 90, 4, 3.0)
    log_probs[30:45] = np.log([0.97, 0.01, 0.01, 0.01])
    log_probs[50] = -math.inf  # nothing is possible here
    options = {"beam_prune_logp": -6.0, "token_prune_min_logp": -4.0, "max_delay": max_delay}
    if order:
        words = {"lm": train(SPOKEN, order), "tokenizer": CharTokenizer(" ab"), "lm_pause": 5}
        options |= {**words, "lm_weight": weight, "word_bonus": bonus, "unknown_bonus": -bonus - 1}
        options |= {"unknown_letter_bonus": -weight, "boundary_bonus": bonus, "blank_bonus": -bonus / 2}
    plain, fast = BeamDecoder(beam, **options), native_beam.beam_decoder(beam, **options)
    assert isinstance(fast, native_beam.CompiledBeam)
    for piece in np.split(log_probs, sorted(cuts)):
        assert fast.push(piece) == plain.push(piece)
        assert fast.partial() == plain.partial()
    assert fast.flush() == plain.flush() and fast.score == plain.score
    with pytest.raises(ValueError, match="flush"):
        fast.push(log_probs)


def test_a_foreign_language_model_is_not_for_the_compiled_beam():
    options = {"tokenizer": CharTokenizer(" ab"), "lm": Ratings()}
    assert isinstance(native_beam.beam_decoder(9, **options), BeamDecoder)
    with pytest.raises(ValueError, match="at least 1"):
        native_beam.beam_decoder(0)


@pytest.mark.skipif(native_beam._native is None, reason="the compiled extension is not there")
def test_the_compiled_beam_refuses_what_does_not_belong_together():
    fast = native_beam.beam_decoder(9, tokenizer=CharTokenizer(" ab"), lm=train(SPOKEN, 2))
    with pytest.raises(ValueError, match="another size"):
        fast.push(emission(0, 5, 7))
    with pytest.raises(ValueError, match="shape"):
        fast.push(np.zeros(3))


@given(seeds, st.integers(0, 30))
@settings(max_examples=60)
def test_greedy_is_the_collapsed_best_path(seed, frames):
    log_probs = emission(seed, frames, 3)
    best = log_probs.argmax(axis=1) if frames else np.zeros(0, int)
    tokens = run(GreedyDecoder(), log_probs, [frames // 3, frames // 2])
    assert tuple(token.id for token in tokens) == collapse(best.tolist())
    for token in tokens:
        assert (best[token.start : token.end] == token.id).all()
        assert token.score == log_probs[token.start : token.end, token.id].max()
        assert token.end == frames or best[token.end] != token.id
    assert in_order(tokens, frames)


def peaks(frames, at, vocab=4, height=0.98):
    """Blank nearly everywhere; token ``at[frame]`` in the frames given."""
    p = np.full((frames, vocab), (1 - height) / (vocab - 1))
    p[:, 0] = height
    for frame, token in at.items():
        p[frame] = (1 - height) / (vocab - 1)
        p[frame, token] = height
    return np.log(p)


def test_times_are_the_frames_of_the_peaks():
    log_probs = peaks(100, {10: 1, 11: 1, 12: 1, 40: 1, 70: 2, 71: 3})
    for decoder in (GreedyDecoder(), BeamDecoder(token_prune_min_logp=-9)):
        tokens = run(decoder, log_probs, [11, 41, 71])
        assert [(token.id, token.start, token.end) for token in tokens] == [
            (1, 10, 13),
            (1, 40, 41),
            (2, 70, 71),
            (3, 71, 72),
        ]
        assert all(token.score == pytest.approx(math.log(0.98)) for token in tokens)


def test_tokens_come_soon_and_partial_shows_the_rest():
    decoder = BeamDecoder()
    assert decoder.push(peaks(50, {10: 1, 20: 2}))[0][:3] == (1, 10, 11)
    assert decoder.push(peaks(3, {2: 3})) == []
    assert [token.id for token in decoder.partial()] == [3]
    assert [token[:3] for token in decoder.flush()] == [(3, 52, 53)]
    with pytest.raises(ValueError, match="flush"):
        decoder.push(peaks(1, {}))


def tie(frames=20):
    """One frame that may be 1 or 2, then nothing."""
    log_probs = peaks(frames, {})
    log_probs[2] = np.log([0.02, 0.49, 0.48, 0.01])
    return log_probs


def test_a_tie_is_decided_by_the_best_after_max_delay():
    decoder = BeamDecoder(max_delay=8)
    assert decoder.push(tie()[:9]) == []
    assert [token[:2] for token in decoder.push(tie()[9:])] == [(1, 2)]
    waiting = BeamDecoder(max_delay=None)
    assert waiting.push(tie()) == []
    assert [token[:2] for token in waiting.flush()] == [(1, 2)]


def test_a_word_that_may_not_be_there_is_decided_too():
    log_probs = peaks(30, {})
    log_probs[2] = np.log([0.51, 0.47, 0.01, 0.01])
    decoder = BeamDecoder(max_delay=8, token_prune_min_logp=-2)
    assert decoder.push(log_probs) == [] and decoder.partial() == [] and decoder.flush() == []


@pytest.mark.parametrize("delay", [40, None])
def test_memory_does_not_grow_with_the_recording(delay):
    """Endless speech: clear words (decided by agreement), or a tie every few frames (by delay)."""
    block = np.concatenate([tie() if delay else peaks(20, {3: 1, 9: 2})] * 10)
    decoder = BeamDecoder(30, max_delay=delay)
    count = 0
    for _ in range(3):
        count += len(decoder.push(block))
    tracemalloc.start()
    for _ in range(17):
        count += len(decoder.push(block))
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert count + len(decoder.flush()) == (200 if delay else 400)
    assert grown < 30_000  # the beams themselves; 170 words more would be twice that


def test_senseless_input():
    with pytest.raises(ValueError, match="shape"):
        GreedyDecoder().push(np.zeros(3))
    with pytest.raises(ValueError, match="tokenizer"):
        BeamDecoder(lm=Ratings())
    with pytest.raises(ValueError, match="at least 1"):
        BeamDecoder(0)
    with pytest.raises(ValueError, match="negative"):
        BeamDecoder(lm=Ratings(), tokenizer=CharTokenizer(" ab"), lm_weight=-0.1)


def test_words_are_timed_in_samples_from_the_start():
    tokenizer = CharTokenizer(" abc")
    stream = WordStream(tokenizer, 640, offset=-100, speaker="S1")
    tokens = [Token(1, 0, 1, -0.5), Token(2, 3, 4, 0.0), Token(3, 6, 8, math.log(0.5)), Token(1, 8, 9, 0.0)]
    (first,) = stream.push(tokens)
    assert first == ("ab", 3 * 640 - 100, 8 * 640 - 100, 0.75, (1, 2, 3), "S1")
    assert stream.push([Token(4, 10**7, 10**7 + 1, -1.0)]) == []
    assert stream.flush()[0].start == 10**7 * 640 - 100
    assert stream.flush() == []
    with pytest.raises(ValueError, match="hop"):
        WordStream(tokenizer, 0)


@pytest.mark.skipif(native_beam._native is None, reason="the compiled extension is not there")
def test_the_compiled_beam_checks_the_tables_that_it_reads():
    """Python gives it none of these; read as they are they would lead beyond the memory."""
    native, floats = native_beam._native, np.zeros(2, np.float32)
    text, keys = np.frombuffer(b"ab", np.uint8), np.zeros(0, np.int64)
    starts = np.array([0, 1, 2], np.uint64)
    for bad in ([], [0, 3], [0, 2, 1, 2]):
        with pytest.raises(ValueError, match="words end"):
            native.Words(np.array(bad, np.uint64), text, -1, -1, -1)
    with pytest.raises(ValueError, match="beyond the vocabulary"):
        native.Words(starts, text, 2, -1, -1)
    words = native.Words(starts, text, -1, -1, -1)
    with pytest.raises(ValueError, match="lacks a probability"):
        words.add_level(keys, floats[:1], floats)

    def beam(width=1, words=None, surfaces=(), begins=()):
        bonuses = 0.0, 0.0, 0.0, 0.0
        return native.Beam(width, -9.0, -9.0, surfaces, surfaces, begins, words, *bonuses, -1, -1, True)

    for width in (0, -1):
        with pytest.raises(ValueError, match="1 or wider"):
            beam(width)
    with pytest.raises(ValueError, match="without words"):
        beam(words=words)
    words.add_level(keys, floats, floats)
    with pytest.raises(ValueError, match="different lengths"):
        beam(1, words, ["", "a"], [False])
    fed = beam()
    assert fed.feed(np.zeros((2, 0))) == []
    with pytest.raises(ValueError, match="another width"):
        fed.feed(np.log(np.full((1, 2), 0.5)))
