"""ConMamba: published counts and names, agreement with plain torch, padded batches, decoding step by step."""

import copy
import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import assert_near, stirred
from torch import nn
from torch.nn import functional as F

from slyther_cli.errors import ModelError
from slyther_cli.layers.attention import AttentionDecoder, Sinusoid, TransformerDecoderLayer
from slyther_cli.layers.convolution import ConvolutionModule
from slyther_cli.models import registry
from slyther_cli.models.conmamba import ConMamba, ConMambaConfig

COUNTS = {  # papers.md 2.4 and the tensors of 3.2
    "conmamba-s-transformer": (14_075_520, 597),
    "conmamba-s-mamba": (14_570_880, 637),
    "conmamba-l-transformer": (115_187_888, 633),
    "conmamba-l-mamba": (122_917_040, 693),
    "conmamba-ctc": (31_555_519, 772),
}


def on_meta(preset):
    with torch.device("meta"):
        return registry.build(*registry.PRESETS[preset])


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def small_conmamba(**config):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "n_layers": 2, "d_ffn": 24, "n_decoder_layers": 2, "n_heads": 2, "vocab": 11}
    model = ConMamba(ConMambaConfig(**{**sizes, "max_positions": 6, **config}))
    model.start_from_s4d()
    return stirred(model)


@pytest.mark.parametrize("preset", COUNTS)
def test_counted_sizes(preset):
    model = on_meta(preset)
    published = [k for k in model.state_dict() if not k.startswith("normalize.")]  # a file of its own
    assert (sum(p.numel() for p in model.parameters()), len(published)) == COUNTS[preset]
    assert registry.ARCHITECTURES[registry.PRESETS[preset][0]].task == "transcribe"


def test_the_small_ones_have_their_size():
    sizes = {k: registry.parameter_count(*registry.PRESETS[k]) for k in registry.PRESETS if "ctc-small" in k}
    assert sizes == {"conmamba-ctc-small": 4_671_839, "conmamba-ctc-small-causal": 4_503_647}


def names_of_3_2(d, ffn, layers, decoder, decoder_layers, vocab):
    """papers.md 3.2 written out, with our prefixes: 0 frontend, 1 transformer, 2 seq_lin, 3 ctc_lin."""
    r, di = math.ceil(d / 16), 2 * d

    def mamba(both):
        out = {"in_proj.weight": (2 * di, d), "out_proj.weight": (d, di)}
        for a, b in (("A_log", ""), ("A_b_log", "_b"))[: 1 + both]:
            out |= {a: (di, 16), f"D{b}": (di,), f"x_proj{b}.weight": (r + 32, di)}
            out |= {f"conv1d{b}.weight": (di, 1, 4), f"conv1d{b}.bias": (di,)}
            out |= {f"dt_proj{b}.weight": (di, r), f"dt_proj{b}.bias": (di,)}
        return out

    def pair(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    def norm(name):
        return pair(name, d)

    def ffn_of(name):
        return pair(f"{name}.ffn.0", ffn, d) | pair(f"{name}.ffn.3", d, ffn)

    def under(prefix, entries):
        return {f"{prefix}.{k}": v for k, v in entries.items()}

    layer = under("mamba", mamba(True)) | norm("norm1.norm") | norm("norm2.norm")
    for i in (1, 2):
        layer |= norm(f"ffn_module{i}.0") | ffn_of(f"ffn_module{i}.1")
    conv = norm("layer_norm") | pair("bottleneck.0", 2 * d, d, 1) | pair("conv", d, 1, 31)
    layer |= under("convolution_module", conv | norm("after_conv.0") | pair("after_conv.2", d, d))
    net = norm("encoder.norm.norm") | pair("custom_src_module.layers.0.w", d, 640)
    net |= {"positional_encoding.inv_freq": (d // 2,), "positional_encoding_decoder.pe": (1, 2500, d)}
    for i in range(layers):
        net |= under(f"encoder.layers.{i}", layer)
    if decoder != "none":
        if decoder == "mamba":
            block = under("self_mamba", mamba(False)) | under("cross_mamba", mamba(False))
        else:
            block = {}
            for a in ("self_attn", "multihead_attn"):
                block |= {f"{a}.att.in_proj_weight": (3 * d, d), f"{a}.att.in_proj_bias": (3 * d,)}
                block |= pair(f"{a}.att.out_proj", d, d)
        block |= ffn_of("pos_ffn") | norm("norm1.norm") | norm("norm2.norm") | norm("norm3.norm")
        for i in range(decoder_layers):
            net |= under(f"decoder.layers.{i}", block)
        net |= norm("decoder.norm.norm") | {"custom_tgt_module.layers.0.emb.Embedding.weight": (vocab, d)}
    front = {}
    for i, (out, in_, bands) in enumerate([(64, 1, 40), (32, 64, 20)]):
        front |= pair(f"convblock_{i}.convs.conv_0.conv", out, in_, 3, 3)
        name = f"convblock_{i}.convs.norm_0.norm"
        front |= {f"{name}.weight": (bands, out), f"{name}.bias": (bands, out)}
    whole = under("frontend", front) | under("transformer", net) | pair("ctc_lin.w", vocab, d)
    return whole | (pair("seq_lin.w", vocab, d) if decoder != "none" else {})


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("conmamba-s-transformer", (144, 1024, 12, "transformer", 4, 5000)),
        ("conmamba-l-mamba", (512, 2048, 12, "mamba", 6, 5000)),
        ("conmamba-ctc", (256, 1024, 18, "none", 0, 31)),
    ],
)
def test_published_names_and_shapes(preset, sizes):
    ours = {k: tuple(v.shape) for k, v in on_meta(preset).state_dict().items()}
    assert {ours.pop("normalize.glob_mean"), ours.pop("normalize.glob_std")} == {(80,)}
    assert ours == names_of_3_2(*sizes)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"decoder": "lstm"}, "decoder must be"),
        ({"n_heads": 5}, "no multiple"),
        ({"d_model": 15, "n_heads": 5}, "must be even"),
        ({"kernel_size": 30}, "must be odd"),
        ({"n_fft": 256}, "does not hold"),
    ],
)
def test_impossible_sizes(config, message):
    with pytest.raises(ModelError, match=message):
        registry.build("conmamba", {"n_layers": 1, **config})


def test_published_start():
    """xavier_normal_ on everything with more than one dimension, A_log too; ours on request."""
    torch.manual_seed(0)
    model = ConMamba(ConMambaConfig(n_layers=1, n_decoder_layers=1, vocab=2000))
    layer, decoder = model.transformer.encoder.layers[0], model.transformer.decoder.layers[0]
    for w in (layer.mamba.A_log, layer.mamba.A_b_log, layer.mamba.in_proj.weight, layer.mamba.conv1d.weight):
        fan = nn.init._calculate_fan_in_and_fan_out(w)
        assert w.std().item() == pytest.approx(math.sqrt(2 / sum(fan)), rel=0.1) and abs(w.mean()) < 0.02
    assert decoder.self_attn.att.in_proj_weight.std().item() == pytest.approx(math.sqrt(2 / 576), rel=0.05)
    model.start_from_s4d()
    assert torch.allclose(layer.mamba.A_b_log.exp(), torch.arange(1.0, 17))


@torch.no_grad()
def test_an_encoder_layer_by_the_formula():
    """papers.md 2.2 with torch's own modules around the BiMamba."""
    layer, x = small_conmamba(kernel_size=7).transformer.encoder.layers[1], torch.randn(2, 9, 16)
    w, d = dict(layer.named_parameters()), 16

    def norm(name, y):
        return F.layer_norm(y, (d,), w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(name, y):
        return F.linear(y, w[f"{name}.weight"], w[f"{name}.bias"])

    def ffn(name, y):
        return linear(f"{name}.1.ffn.3", F.gelu(linear(f"{name}.1.ffn.0", norm(f"{name}.0", y))))

    y = x + ffn("ffn_module1", x) / 2
    y = y + layer.mamba(norm("norm1.norm", y))
    c = "convolution_module"
    u = norm(f"{c}.layer_norm", y).transpose(1, 2)
    u = F.glu(F.conv1d(u, w[f"{c}.bottleneck.0.weight"], w[f"{c}.bottleneck.0.bias"]), 1)
    u = F.conv1d(u, w[f"{c}.conv.weight"], w[f"{c}.conv.bias"], padding=3, groups=d).transpose(1, 2)
    y = y + linear(f"{c}.after_conv.2", F.gelu(norm(f"{c}.after_conv.0", u)))
    assert_near(layer(x), norm("norm2.norm", y + ffn("ffn_module2", y) / 2))


@torch.no_grad()
def test_the_transformer_decoder_is_torchs():
    torch.manual_seed(0)
    ours = AttentionDecoder(16, (TransformerDecoderLayer(16, 4, 24) for _ in range(2))).eval()
    layers = nn.TransformerDecoderLayer(
        16, 4, 24, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    theirs = nn.TransformerDecoder(layers, 2, nn.LayerNorm(16, 1e-6)).eval()
    state = {k: torch.randn_like(v) * 0.3 for k, v in ours.state_dict().items()}
    ours.load_state_dict(state)
    renamed = {}
    for k, v in state.items():
        for a, b in (
            (".att.", "."),
            (".pos_ffn.ffn.0", ".linear1"),
            (".pos_ffn.ffn.3", ".linear2"),
            ("norm.norm", "norm"),
        ):
            k = k.replace(a, b)
        renamed[k.replace(".norm.", ".") if "layers" in k else k] = v
    theirs.load_state_dict(renamed)
    x, memory, lengths = torch.randn(3, 7, 16), torch.randn(3, 12, 16), torch.tensor([12, 5, 1])
    hidden = torch.arange(12) >= lengths[:, None]
    mask = nn.Transformer.generate_square_subsequent_mask(7)
    assert_near(ours(x, memory, lengths), theirs(x, memory, tgt_mask=mask, memory_key_padding_mask=hidden))


@settings(max_examples=15)
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    tokens=st.integers(1, 8),
    decoder=st.sampled_from(["transformer", "mamba"]),
    causal=st.booleans(),
)
@torch.no_grad()
def test_a_padded_batch_gives_what_each_gives_alone(lengths, tokens, decoder, causal):
    model = small_conmamba(decoder=decoder, causal=causal)
    features, text = torch.randn(len(lengths), max(lengths), 80), torch.randint(11, (len(lengths), tokens))
    n = torch.tensor(lengths)
    memory, frames = model.encode(features, n), model.frontend.frames(n)
    logits = model.decode(text, memory, frames)
    for i, length in enumerate(lengths):
        alone = model.encode(features[i : i + 1, :length])
        assert_near(memory[i : i + 1, : frames[i]], alone)
        assert_near(logits[i : i + 1], model.decode(text[i : i + 1], alone))


@settings(max_examples=20)
@given(
    decoder=st.sampled_from(["transformer", "mamba"]),
    frames=st.integers(1, 40),
    pieces=st.integers(1, 40),
    steps=st.lists(st.integers(1, 4), min_size=1, max_size=6),
)
@torch.no_grad()
def test_stepwise_is_teacher_forced(decoder, frames, pieces, steps):
    """One cached memory for two beams that then swap and diverge; tokens beyond the position table."""
    model = small_conmamba(decoder=decoder)
    memory, text = torch.randn(1, frames, 16), torch.randint(11, (2, sum(steps)))
    state, got, row = model.start(iter(memory.split(pieces, 1))), [], torch.tensor([0, 0])
    state = state.select(row)
    for i, part in enumerate(text.split(steps, 1)):
        logits, state = model.step(part if i % 2 == 0 else part.flip(0), state)
        got.append(logits if i % 2 == 0 else logits.flip(0))
        state = state.select(torch.tensor([1, 0]))
    assert state.position == sum(steps)
    assert_near(torch.cat(got, 1), model.decode(text, memory.expand(2, -1, -1)))


def test_the_memory_is_kept_once():
    model, memory = small_conmamba(decoder="transformer"), torch.randn(1, 50, 16)
    state = model.start(memory)
    many = state.select(torch.zeros(7, dtype=torch.long))
    assert all(a.keys is b.keys for a, b in zip(state.memory, many.memory, strict=True))
    state = small_conmamba(decoder="mamba").start(memory)
    assert {s.ssm.shape for s in state.cross} == {(1, 32, 16)}  # whatever the memory's length


def test_no_decoder():
    model = small_conmamba(decoder="none")
    with pytest.raises(TypeError, match="only CTC"):
        model.start(torch.zeros(1, 3, 16))
    assert not hasattr(model, "seq_lin")
    with pytest.raises(ValueError, match="at least one piece"):
        small_conmamba(decoder="mamba").start(iter([]))


@pytest.mark.parametrize("decoder", ["transformer", "mamba"])
def test_every_parameter_learns_and_padding_does_not(decoder):
    model = copy.deepcopy(small_conmamba(decoder=decoder)).train()
    features = torch.randn(2, 40, 80, requires_grad=True)
    lengths, text = torch.tensor([40, 21]), torch.randint(1, 11, (2, 5))
    memory, frames = model.encode(features, lengths), model.frontend.frames(lengths)
    used = torch.arange(memory.shape[1]) < frames[:, None]
    loss = model.ctc(memory)[used].square().sum() + model.decode(text, memory, frames).square().sum()
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert features.grad[0].any() and features.grad[1, :21].any() and not features.grad[1, 21:].any()


def test_positions_go_on_beyond_the_table():
    pe = Sinusoid(8, rows=10)
    assert torch.equal(Sinusoid(8, rows=30)(5, 20), pe(5, 20)) and pe.pe.shape == (1, 10, 8)
    where = torch.tensor([12345 / 10000 ** (i / 8) for i in (0, 2, 4, 6)])
    torch.testing.assert_close(
        pe(12345, 1)[0, 0], torch.stack([where.sin(), where.cos()], 1).flatten(), atol=1e-3, rtol=0
    )


@settings(max_examples=20)
@given(steps=st.lists(st.integers(1, 40), min_size=1, max_size=6), kernel=st.sampled_from([3, 31]))
@torch.no_grad()
def test_causal_encoder_stepped_is_full(steps, kernel):
    encoder = small_conmamba(causal=True, kernel_size=kernel).transformer.encoder
    x, states, out = torch.randn(2, sum(steps), 16), None, []
    for part in x.split(steps, 1):
        y, states = encoder.step(part, states)
        out.append(y)
    assert_near(torch.cat(out, 1), encoder(x))


@torch.no_grad()
def test_causal_does_not_look_ahead_and_the_other_does():
    x = torch.randn(1, 60, 16)
    changed = torch.cat([x[:, :30], torch.randn(1, 30, 16)], 1)
    for causal in (True, False):
        encoder = small_conmamba(causal=causal).transformer.encoder
        same = torch.isclose(encoder(x), encoder(changed), atol=1e-6).all(-1)[0, :30]
        assert same.all() if causal else not same[0]


def test_a_bidirectional_layer_cannot_step():
    with pytest.raises(TypeError, match="whole recording"):
        small_conmamba().transformer.encoder.step(torch.zeros(1, 3, 16), None)


def test_the_convolution_needs_an_odd_kernel():
    with pytest.raises(ValueError, match="odd"):
        ConvolutionModule(4, kernel=30)
