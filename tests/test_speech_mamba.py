"""Speech-Mamba: published count and names, agreement with torch's attention, padded batches, decoding step by
step."""

import copy
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import assert_near, stirred
from torch.nn import functional as F

from slyther_cli.models import registry
from slyther_cli.models.speech_mamba import SpeechMamba, SpeechMambaConfig

pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def small_speech_mamba():
    torch.manual_seed(0)
    sizes = {"d_model": 16, "d_state": 5, "n_layers": 2, "n_decoder_layers": 2, "n_heads": 2, "vocab": 11}
    return stirred(SpeechMamba(SpeechMambaConfig(**sizes, max_positions=6)))


def test_counted_size_and_names():
    with torch.device("meta"):
        model = registry.build(*registry.PRESETS["speech-mamba"])
    assert sum(p.numel() for p in model.parameters()) == 67_634_768
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    mixer = "A_log D in_proj.weight conv1d.weight conv1d.bias x_proj.weight dt_proj.weight dt_proj.bias"
    mixer += " out_proj.weight"
    attention = "in_proj_weight in_proj_bias out_proj.weight out_proj.bias"
    wanted = {"mamba_norm.weight"}
    for i in (1, 2):
        wanted |= {f"mamba_layers{i}.0.norm.weight"}
        wanted |= {f"mamba_layers{i}.0.mixer.{k}" for k in mixer.split()}
    for part, attends, n in (("encoder", "self_att", 7), ("decoder", "multihead_attn", 3)):
        prefix = f"transformer.{part}.layers."
        names = wanted | {f"{attends}.att.{k}" for k in attention.split()}
        found = {k.removeprefix(prefix) for k in ours if k.startswith(prefix)}
        assert found == {f"{i}.{k}" for i in range(n) for k in names}
    assert ours["transformer.encoder.layers.6.mamba_layers2.0.mixer.A_log"] == (1024, 256)
    assert ours["transformer.encoder.layers.0.mamba_layers1.0.mixer.x_proj.weight"] == (32 + 512, 1024)
    assert ours["transformer.custom_src_module.layers.0.w.weight"] == (512, 1280)
    assert ours["transformer.positional_encoding.pe"] == (1, 2500, 512)
    assert ours["frontend.convblock_2.reduce_conv.conv.conv.weight"] == (64, 64, 1, 1)


@torch.no_grad()
def test_the_encoder_by_the_formula():
    """papers.md 7.1 with torch's own attention; more frames than the table of positions has rows."""
    net, x = small_speech_mamba().transformer, torch.randn(1, 30, 1280)
    y = F.linear(x, *net.custom_src_module.layers[0].w.parameters())
    angle = torch.arange(30)[:, None] / 10000 ** (torch.arange(0, 16, 2) / 16)
    y = y + torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    def rms(w, v):
        return v * (v.square().mean(-1, keepdim=True) + 1e-5).rsqrt() * w

    for layer in net.encoder.layers:
        w = dict(layer.named_parameters())

        def block(i, v, layer=layer, w=w):
            return v + getattr(layer, f"mamba_layers{i}")[0].mixer(
                rms(w[f"mamba_layers{i}.0.norm.weight"], v)
            )

        y = block(1, y)
        theirs = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        theirs.load_state_dict(layer.self_att.att.state_dict())
        v = rms(w["mamba_norm.weight"], y)
        y = block(2, y + theirs(v, v, v)[0])
    assert_near(
        net.encoder(net.enter(x), None), F.layer_norm(y, (16,), *net.encoder.norm.norm.parameters(), eps=1e-6)
    )


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=3), tokens=st.integers(1, 8))
@torch.no_grad()
def test_a_padded_batch_gives_what_each_gives_alone(lengths, tokens):
    model, n = small_speech_mamba(), torch.tensor(lengths)
    features, text = torch.randn(len(lengths), max(lengths), 80), torch.randint(11, (len(lengths), tokens))
    memory, frames = model.encode(features, n), model.frontend.frames(n)
    logits = model.decode(text, memory, frames)
    for i, length in enumerate(lengths):
        alone = model.encode(features[i : i + 1, :length])
        assert_near(memory[i : i + 1, : frames[i]], alone)
        assert_near(logits[i : i + 1], model.decode(text[i : i + 1], alone))


@settings(max_examples=10)
@given(frames=st.integers(1, 30), steps=st.lists(st.integers(1, 4), min_size=1, max_size=5))
@torch.no_grad()
def test_stepwise_is_teacher_forced(frames, steps):
    model = small_speech_mamba()
    memory, text = torch.randn(1, frames, 16), torch.randint(11, (2, sum(steps)))
    state, got = model.start(memory.split(7, 1)).select(torch.tensor([0, 0])), []
    for i, part in enumerate(text.split(steps, 1)):  # the beams swap after every step
        logits, state = model.step(part if i % 2 == 0 else part.flip(0), state)
        got.append(logits if i % 2 == 0 else logits.flip(0))
        state = state.select(torch.tensor([1, 0]))
    assert state.position == sum(steps) and len(state.memory[0].keys) == 1
    assert_near(torch.cat(got, 1), model.decode(text, memory.expand(2, -1, -1)))


def test_every_parameter_learns():
    model = copy.deepcopy(small_speech_mamba()).train()
    memory = model.encode(model.features(torch.randn(2, 8000)))
    (
        model.ctc(memory).square().sum() + model.decode(torch.ones(2, 5).long(), memory).square().sum()
    ).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    std = model.transformer.encoder.layers[0].mamba_layers1[0].mixer.A_log.std().item()
    assert std == pytest.approx(math.sqrt(2 / (32 + 5)), rel=0.3)  # xavier, as published
