"""VALL-E: the published size, a slow build with torch's layers, steps with a cache equal to the whole."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import assert_near
from torch import nn
from torch.nn import functional as F

from slyther_cli.errors import ModelError
from slyther_cli.layers.prefix import KeyValueBuffer
from slyther_cli.models import registry
from slyther_cli.models.vall_e import VallE, VallEConfig
from slyther_cli.models.vall_m import Batch, Context
from slyther_cli.models.vall_sampling import Sampling, Voice, Voicing
from slyther_cli.synthesis.journal import Journal
from slyther_cli.synthesis.speech_check import Verdict

SMALL = {"alphabet": "arpabet", "n_symbols": 20, "d_model": 16, "d_ffn": 24, "n_heads": 4, "n_layers": 2,
         "n_nar_layers": 2, "n_codebooks": 3, "codebook_size": 12, "dropout": 0.0}  # fmt: skip


def model() -> VallE:
    torch.manual_seed(3)
    network = VallE(VallEConfig(**SMALL)).eval()
    for p in network.parameters():  # so that what is zero at the start takes part
        p.data += 0.1 * torch.randn_like(p)
    return network


def batch(n_symbols: list[int], n_frames: list[int], seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    symbols = torch.randint(1, 20, (len(n_symbols), max(n_symbols)), generator=g)
    codes = torch.randint(0, 12, (len(n_symbols), 3, max(n_frames)), generator=g)
    return Batch(symbols, torch.tensor(n_symbols), codes, torch.tensor(n_frames))


def test_the_published_size():
    """papers.md 4.2 and 4.4: 12 layers of 1024, FFN 4096, are 151.2 M."""
    with torch.device("meta"):
        network = registry.build(*registry.PRESETS["vall-e"])
    layers = sum(p.numel() for p in network.ar_decoder.parameters())
    assert round(layers / 1e6, 1) == 151.2
    assert sum(p.numel() for p in network.parameters()) == 321_032_195


def positions(n: int, d: int = 16) -> torch.Tensor:
    angle = torch.arange(n)[:, None] / 10000 ** (torch.arange(0, d, 2) / d)
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(1)


def slow(stack, x, mask, level):
    """One row [n, d] through torch's own layers, the norms by the formula; ``mask`` is true where hidden."""
    p = dict(stack.state_dict())

    def norm(name, y):
        y = F.layer_norm(y, (16,), p[f"{name}.norm.weight"], p[f"{name}.norm.bias"])
        if level is None:
            return y
        gain, bias = p[f"{name}.level.weight"][level].chunk(2)
        return y * (1 + gain) + bias

    for i in range(2):
        attention = nn.MultiheadAttention(16, 4, batch_first=True).eval()
        own = f"layers.{i}.self_attn.att."
        attention.load_state_dict({k: p[own + k] for k in attention.state_dict()})
        y = norm(f"layers.{i}.norm1", x)
        x = x + attention(y[None], y[None], y[None], attn_mask=mask)[0][0]
        y = F.relu(F.linear(norm(f"layers.{i}.norm2", x), p[f"layers.{i}.ffn.ffn.0.weight"],
                            p[f"layers.{i}.ffn.ffn.0.bias"]))  # fmt: skip
        x = x + F.linear(y, p[f"layers.{i}.ffn.ffn.3.weight"], p[f"layers.{i}.ffn.ffn.3.bias"])
    return norm("norm_f", x)


@torch.no_grad()
def test_a_slow_build_from_the_description():
    network, one = model(), batch([4], [7])
    text, codes = network.read(one.symbols)[0], one.codes[0]
    scales = network.ar_decoder.scales
    said = network.ar_audio_embedding(F.pad(codes[0, :-1], (1, 0), value=12))
    x = torch.cat([text + scales[0] * positions(4), said + scales[1] * positions(7)])
    hidden = torch.ones(11, 11, dtype=torch.bool).triu(1)
    hidden[:4, :4] = False  # text sees all of the text, no speech
    y = slow(network.ar_decoder, x, hidden, None)[4:]
    whole = network.after_text(network.ar_decoder, text[None], one.n_symbols, said[None], one.n_frames)
    assert_near(whole[0], y)

    level = torch.tensor([1])
    x = sum(network.nar_audio_embeddings[k](codes[k]) for k in (0, 1))
    x = x + network.nar_audio_embeddings[2](codes[2]) * (torch.arange(7) < 2)[:, None]  # the prompt: all
    x = torch.cat([text + positions(4), x + positions(7)])
    y = slow(network.nar_decoder, x, None, 1)[4:]
    logits = network.next_logits(text[None], one.codes, level, torch.tensor([2]))
    assert_near(logits[0], network.nar_predict_layers[1](y))


@settings(max_examples=10)
@given(st.integers(1, 6), st.integers(1, 90), st.integers(0, 20), st.integers(0, 99))
@torch.inference_mode()
def test_frame_by_frame_the_first_stage_says_what_it_says_of_the_whole(s, t, prompt, seed):
    network, prompt = model(), min(prompt, t)
    one = batch([s], [t], seed)
    codes, text = one.codes[:, :1], network.read(one.symbols)
    said = network.ar_audio_embedding(network._shifted(codes[:, 0]))
    whole = network.ar_predict_layer(network.after_text(network.ar_decoder, text, None, said, None))
    context = network.prompted(network.begin(text), codes[..., :prompt])
    for i in range(prompt, t):
        y, states = network.step(context)
        logits = network.code_logits(y, codes[:, :0, i])
        torch.testing.assert_close(logits, whole[:, i], rtol=1e-4, atol=1e-4)
        context = Context(states, codes[..., i])


@torch.inference_mode()
def test_a_state_can_be_gone_on_from_twice():
    """The second continuation does not overwrite the first one's cache."""
    network = model()
    begun = network.begin(network.read(torch.tensor([[3, 4, 5]])))
    begun = network.prompted(begun, torch.tensor([[[1, 2]]]))
    one = network.prompted(begun, torch.tensor([[[3, 4, 5]]]))
    expected = network.step(one)[0]
    network.prompted(begun, torch.tensor([[[9, 8, 7, 6]]]))
    assert torch.equal(network.step(one)[0], expected)
    assert not torch.equal(network.step(network.prompted(begun, torch.tensor([[[9, 8, 7]]])))[0], expected)


@torch.inference_mode()
def test_a_step_does_not_copy_the_cache():
    x = torch.zeros(1, 2, 5, 4)
    buffer, places = KeyValueBuffer(x, x), set()
    for i in range(5, 205):
        new = torch.full((1, 2, 1, 4), float(i))
        buffer = buffer.extended(i, type(buffer.upto(1))(new, new))
        places.add(buffer.keys.data_ptr())
    assert len(places) <= 4 and buffer.filled == 205
    assert torch.equal(buffer.upto(205).values[0, 0, 5:, 0], torch.arange(5.0, 205))


@torch.inference_mode()
def test_a_batch_loses_what_its_rows_lose_alone():
    network, sizes = model(), [(3, 7), (6, 4), (5, 9)]
    both = batch([s for s, _ in sizes], [t for _, t in sizes])
    level, n_prompt = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
    joint = network.losses(both, level, n_prompt)
    first, rest = 0.0, 0.0
    for i, (s, t) in enumerate(sizes):
        row = Batch(both.symbols[i : i + 1, :s], both.n_symbols[i : i + 1], both.codes[i : i + 1, :, :t],
                    both.n_frames[i : i + 1])  # fmt: skip
        own = network.losses(row, level[i : i + 1], n_prompt[i : i + 1])
        first += float(own.first) * (t + 1)
        rest += float(own.rest) * (t - int(n_prompt[i]))
    assert float(joint.first) == pytest.approx(first / 23, rel=1e-4)
    assert float(joint.rest) == pytest.approx(rest / 15, rel=1e-4)


def test_it_speaks_as_vall_m_does(tmp_path, monkeypatch):
    """The sampling of ``slyther speak``, whose journal keeps a sentence without its cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    network = model()
    voice = Voice(torch.tensor([3, 4]), torch.randint(0, 12, (3, 5)), None)
    said = Voicing(network, voice, Sampling(temperature=0)).say(torch.tensor([5, 6, 7]), None, seed=0)
    symbols = torch.tensor([[3, 4, 5, 6, 7]])
    codes = torch.cat([voice.codes, said.codes], 1)[None]
    with torch.no_grad():
        said_before = network.ar_audio_embedding(network._shifted(codes[:, 0]))
        y = network.after_text(network.ar_decoder, network.read(symbols), None, said_before, None)
        logits = network.ar_predict_layer(y)[0, 5:]
    assert torch.equal(logits[:, :12].argmax(-1), said.codes[0]) and said.codes.shape[1] > 0
    journal = Journal("key", (3, 12))
    journal.write(0, said, Verdict(("odd",), 0.5, "words"), 2)
    kept, verdict, tries = journal.read(0)
    assert torch.equal(kept.codes, said.codes) and (verdict.rank, tries) == ((False, 0.5), 2)
    journal.write(1, said, Verdict(), 1)
    assert torch.equal(journal.read(1)[0].codes, said.codes)  # it has no states to lose


def test_every_parameter_learns():
    network = model().train()
    losses = network.losses(batch([3, 5], [7, 9]), torch.tensor([0, 1]), torch.tensor([2, 0]))
    (losses.first + losses.rest).backward()
    unused = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    assert not unused


def test_impossible_sizes():
    with pytest.raises(ModelError, match="n_codebooks"):
        registry.build("vall-e", {**SMALL, "n_codebooks": 1})
    with pytest.raises(ModelError, match="no multiple"):
        registry.build("vall-e", {**SMALL, "n_heads": 5})
