"""Joint CTC/attention search against the best of all texts, on networks small enough to try them all."""

import functools
import itertools
import json
import math

import numpy as np
import pytest
import tones
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.checkpoints import store
from slyther_cli.decode.arpa import write_arpa
from slyther_cli.decode.joint import (
    BOS,
    EOS,
    WITH_LM,
    WITHOUT_LM,
    CTCPrefixScorer,
    JointOptions,
    joint_search,
    joint_stream,
)
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.models import registry
from slyther_cli.models.conmamba import ConMamba, ConMambaConfig
from slyther_cli.models.speech_mamba import SpeechMamba, SpeechMambaConfig
from slyther_cli.research.language.kneser_ney import train
from slyther_cli.transcription import recogniser

VOCAB, FRAMES, D = 6, 5, 8
TOKENS = (3, 4, 5)
EVERYTHING = {"beam": 10**5, "candidates": None}


pytestmark = pytest.mark.usefixtures("one_thread")


def network(kind, seed=0):
    """A tiny network whose logits are far enough apart for texts to differ."""
    torch.manual_seed(seed)
    sizes = {"d_model": D, "n_heads": 2, "n_layers": 1, "n_decoder_layers": 1, "vocab": VOCAB}
    if kind == "speech_mamba":
        model = SpeechMamba(SpeechMambaConfig(**sizes, d_state=3))
    else:
        model = ConMamba(ConMambaConfig(**sizes, d_ffn=8, d_state=3, decoder=kind))
    with torch.no_grad():
        for head in (model.seq_lin.w, model.ctc_lin.w):
            head.weight.mul_(3.0)
    return model.eval(), torch.randn(FRAMES, D)


def sums(log_probs):
    """p of every labelling, all of its alignments one by one."""
    total = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        labels = tuple(t for t, _ in itertools.groupby(path) if t)
        total[labels] = total.get(labels, 0.0) + math.exp(sum(log_probs[i, t] for i, t in enumerate(path)))
    return total


def log(p):
    return math.log(p) if p > 0 else -math.inf


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=30)
def test_prefix_scores_are_sums_over_labellings(seed, frames):
    logits = np.random.default_rng(seed).standard_normal((frames, 3)) * 2
    log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    truth = sums(log_probs)
    scorer = CTCPrefixScorer(log_probs)
    prefixes = {(): scorer.start()}
    for length in range(1, 4):
        for prefix in [p for p in prefixes if len(p) == length - 1]:
            last = prefix[-1] if prefix else -1
            begun, states = scorer.extend(prefixes[prefix][None], [last], np.array([[1, 2]]))
            for k, token in enumerate((1, 2)):
                new = (*prefix, token)
                prefixes[new] = states[0, k]
                wanted = sum(p for labels, p in truth.items() if labels[:length] == new)
                assert begun[0, k] == pytest.approx(log(wanted), abs=1e-9) or wanted < 1e-300
    for prefix, state in prefixes.items():
        ended = scorer.ended(state[None])[0]
        assert ended == pytest.approx(log(truth.get(prefix, 0.0)), abs=1e-9)


class Ratings:
    """A language model that remembers the last word."""

    def begin(self):
        return ""

    def score(self, word, state):
        return {"b": -1.0, "c": -2.0, "bc": -0.5}.get(word, -6.0) - (state == word), word

    def has_prefix(self, text):
        return True

    def knows(self, word):
        return word in ("b", "c", "bc")


ALPHABET = CharTokenizer(" bc", ends=True)  # ids 1 and 2 are bos and eos, 3 the space


def every_score(model, memory, o, lm=None):
    """score of every text that the search may give, by teacher forcing and sums over alignments."""
    with torch.inference_mode():
        ctc = sums(model.ctc(memory[None])[0].log_softmax(-1).double().numpy())
        found = {}
        for n in range(FRAMES):
            texts = list(itertools.product(TOKENS, repeat=n))
            forced = torch.tensor([[BOS, *text] for text in texts])
            logits = model.decode(forced, memory[None].expand(len(texts), -1, -1))
            told = (logits / o.temperature).log_softmax(-1).double().numpy()
            for i, text in enumerate(texts):
                decoder = sum(told[i, t, token] for t, token in enumerate([*text, EOS]))
                score = (1 - o.ctc_weight) * decoder
                if o.ctc_weight:
                    score += o.ctc_weight * log(ctc.get(text, 0.0))
                state = ""
                if lm:
                    for word in "".join(ALPHABET.surface(t) for t in text).split():
                        value, state = lm.score(word, state)
                        score += o.lm_weight * value + o.word_bonus + o.unknown_bonus * (not lm.knows(word))
                found[text] = score / (n + 1) if o.length_normalised else score
    return found


@pytest.mark.parametrize("kind", ["mamba", "transformer", "speech_mamba"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ctc_weight": 0.0, "length_normalised": False},
        {"ctc_weight": 1.0, "length_normalised": False},
        {"ctc_weight": 0.3, "temperature": 1.15, "length_normalised": False},
    ],
)
def test_the_best_of_all_texts_is_found(kind, options):
    for seed in range(3):
        model, memory = network(kind, seed)
        o = JointOptions(**EVERYTHING, **options)
        truth = every_score(model, memory, o)
        found = joint_search(model, memory, o)
        assert found.score == pytest.approx(max(truth.values()), abs=1e-4)
        assert truth[tuple(found)] == pytest.approx(max(truth.values()), abs=1e-4)


@pytest.mark.parametrize("normalised", [True, False])
def test_words_are_scored_once_each(normalised):
    how = {"lm_weight": 0.7, "word_bonus": 0.4, "unknown_bonus": -1.5, "length_normalised": normalised}
    for seed in range(4):
        model, memory = network("mamba", seed)
        o = JointOptions(**EVERYTHING, **how)
        truth = every_score(model, memory, o, Ratings())
        found = joint_search(model, memory, o, tokenizer=ALPHABET, lm=Ratings())
        assert found.score == pytest.approx(max(truth.values()), abs=1e-4)
        assert truth[tuple(found)] == pytest.approx(max(truth.values()), abs=1e-4)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_a_narrow_beam_tells_the_true_score_of_what_it_finds(beam):
    for seed in range(4):
        model, memory = network("mamba", seed)
        truth = every_score(model, memory, JointOptions())
        found = joint_search(model, memory, JointOptions(beam=beam, candidates=2))
        if tuple(found) in truth:  # not one that was cut off at the longest text
            assert found.score == pytest.approx(truth[tuple(found)], abs=1e-4)
        assert found.score <= max(truth.values()) + 1e-4


@pytest.mark.parametrize("kind", ["mamba", "transformer"])
def test_the_memory_is_read_once(kind, monkeypatch):
    """All steps and beams share the state after it."""
    model, memory = network(kind)
    calls, lengths = [], []
    start, step = model.start, model.step
    monkeypatch.setattr(model, "start", lambda m: calls.append(m.shape) or start(m))
    monkeypatch.setattr(model, "step", lambda t, s: lengths.append(t.shape[1]) or step(t, s))
    joint_search(model, memory, JointOptions(beam=4))
    assert calls == [(1, FRAMES, D)] and len(lengths) > 1 and set(lengths) == {1}


def test_published_settings():
    """papers.md 2.6"""
    assert (WITHOUT_LM.beam, WITHOUT_LM.ctc_weight, WITHOUT_LM.temperature) == (10, 0.4, 1.0)
    assert (WITH_LM.beam, WITH_LM.ctc_weight, WITH_LM.temperature, WITH_LM.lm_weight) == (66, 0.4, 1.15, 0.6)
    assert WITH_LM.longest == 1.0 and WITH_LM.length_normalised


class Echo:
    """CTC hears every frame's token; the decoder repeats what CTC hears: texts of any length are known."""

    def __init__(self, d):
        self.d, self.weight = d, torch.zeros(1)

    def parameters(self):
        yield self.weight

    def ctc(self, memory):
        return 20.0 * memory

    def start(self, memory):
        return Echoed(torch.ones(1))

    def step(self, tokens, state):
        logits = torch.zeros(len(tokens), 1, self.d)
        logits[..., EOS] = -1.0
        return logits, state


class Echoed:
    def __init__(self, rows):
        self.rows = rows

    def select(self, rows):
        return Echoed(self.rows[torch.zeros_like(rows)])


def test_long_recordings_are_cut_at_pauses_and_timed():
    """Words of three tokens, pauses between them: none is lost, doubled or misplaced, whatever the feeds."""
    rng = np.random.default_rng(0)
    frames, wanted = [], []
    for _ in range(40):
        for token in rng.integers(3, VOCAB, 3):
            wanted.append((int(token), len(frames)))
            frames += [int(token)] * 2 + [0]
        frames += [0] * int(rng.integers(1, 8))
    memory = torch.nn.functional.one_hot(torch.tensor(frames), VOCAB).float()
    for feed in (7, 100, len(frames)):
        tokens = [
            token
            for done in joint_stream(
                Echo(VOCAB), memory.split(feed), JointOptions(ctc_weight=0.9), longest=60
            )
            for token in done
        ]
        assert [(token.id, token.start) for token in tokens] == wanted
    assert list(joint_stream(Echo(VOCAB), [])) == []


def test_senseless_options():
    model, memory = network("mamba")
    for bad in ({"beam": 0}, {"ctc_weight": 1.5}, {"temperature": 0.0}, {"candidates": 0}, {"longest": 0.0}):
        with pytest.raises(ValueError, match="must be"):
            JointOptions(**bad)
    with pytest.raises(ValueError, match="tokenizer"):
        joint_search(model, memory, lm=Ratings())
    assert joint_search(model, memory[:0]) == []
    with pytest.raises(TypeError, match="no decoder"):
        joint_search(ConMamba(ConMambaConfig(d_model=D, n_layers=1, vocab=VOCAB, decoder="none")), memory)


def with_decoder(folder):
    """The model of tones.py with a Mamba decoder that finds all tokens as likely: CTC knows the words."""
    plain, config = tones.network()
    config |= {"decoder": "mamba", "n_decoder_layers": 1, "n_heads": 2, "vocab": len(tones.LETTERS) + 3}
    torch.manual_seed(0)
    model = registry.build("conmamba", config)
    state = {k: v for k, v in plain.state_dict().items() if not k.startswith("ctc_lin")}
    model.load_state_dict(state, strict=False)
    with torch.no_grad():
        model.seq_lin.w.weight.zero_()
        model.seq_lin.w.bias.zero_()
        for name in ("weight", "bias"):  # ids 1 and 2 are bos and eos
            old, new = getattr(plain.ctc_lin.w, name), getattr(model.ctc_lin.w, name)
            new.fill_(-30.0 if name == "bias" else 0.0)
            new[0], new[3:] = old[0], old[1:]
    alphabet = CharTokenizer(tones.LETTERS, ends=True)
    store.save(
        folder / "joint", model, name="joint", architecture="conmamba", config=config, task="transcribe",
        companions=alphabet.save,
    )  # fmt: skip


def test_the_command_decodes_jointly(tmp_path, monkeypatch, capfd):
    tones.cache(tmp_path / "cache")
    with_decoder(tmp_path / "cache")
    with tones.at_home(tmp_path, monkeypatch, tmp_path / "cache"):
        words = tones.record(text=f"{tones.SAID} {tones.SAID}")
        code, out, _ = tones.transcribed(
            capfd, "talk.wav", "--model", "joint", "--decode", "joint", "-f", "json", "-q"
        )
        assert code == 0
        heard = json.loads(out)
        got = [word for segment in heard["segments"] for word in segment["words"]]
        assert " ".join(word["word"].strip() for word in got) == f"{tones.SAID} {tones.SAID}"
        for word, (start, end) in zip(got, words, strict=True):
            assert abs(word["start"] - start) <= 0.04 and abs(word["end"] - end) <= 0.04
        write_arpa(train([tones.SAID.upper()], 2), "upper.arpa")
        for how, told in (
            (("--model", "tones", "--decode", "joint"), "has no decoder"),
            (("--model", "joint", "--decode", "joint", "--lm-weight", "1"), "need a language model"),
            (("--model", "joint", "--decode", "best"), "greedy, beam, joint"),
            (("--model", "joint", "--decode", "joint", "--lm", "upper.arpa"), "to be in upper case"),
        ):
            code, out, err = tones.transcribed(capfd, "talk.wav", *how)
            assert code in (2, 4) and told in err


def test_words_end_at_the_seams(tmp_path, monkeypatch, capfd):
    """A recording in several pieces, with letters: no space is heard between two of them."""
    tones.cache(tmp_path / "cache")
    with_decoder(tmp_path / "cache")
    monkeypatch.setattr(recogniser, "joint_stream", functools.partial(joint_stream, longest=60))
    with tones.at_home(tmp_path, monkeypatch, tmp_path / "cache"):
        said, quiet = tones.spoken("abide")[0], np.zeros(10_000, np.float32)
        tones.record(x=np.concatenate([said, quiet] * 6))
        code, out, _ = tones.transcribed(capfd, "talk.wav", "--model", "joint", "--decode", "joint", "-q")
        assert code == 0 and out.split() == ["abide"] * 6
