"""Conformer: the published counts and names; equal to SpeechBrain's layers and to a slow build; padded
batches."""

import pytest
import speechbrain_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import assert_near, stirred
from torch.nn import functional as F

from slyther_cli.checkpoints import speechbrain_asr, store
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.errors import ModelError
from slyther_cli.layers import relative
from slyther_cli.layers.relative import RelativeAttention, distance_table
from slyther_cli.models import registry
from slyther_cli.models.conformer import Conformer, ConformerConfig

COUNTS = {  # papers.md 2.4 and the tensors of 3.2
    "conformer-s": (13_327_296, 477),
    "conformer-l": (109_136_048, 513),
    "conformer-ctc": (28_786_111, 592),
}
SMALL = {"d_model": 16, "n_layers": 2, "d_ffn": 24, "n_decoder_layers": 1, "n_heads": 4, "vocab": 11}


def small_conformer(**config):
    torch.manual_seed(0)
    return stirred(Conformer(ConformerConfig(**{**SMALL, "max_positions": 6, **config})))


@pytest.mark.parametrize("preset", COUNTS)
def test_the_published_sizes_and_names(preset):
    with torch.device("meta"):
        model = registry.build(*registry.PRESETS[preset])
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith("normalize.")}
    assert (sum(p.numel() for p in model.parameters()), len(ours)) == COUNTS[preset]
    d, h = model.config.d_model, model.config.n_heads
    layer = "transformer.encoder.layers.0."
    mine = {k.removeprefix(layer): v for k, v in ours.items() if k.startswith(f"{layer}mha_layer")}
    assert mine == {
        "mha_layer.in_proj_weight": (3 * d, d),
        "mha_layer.pos_bias_u": (d // h, h),
        "mha_layer.pos_bias_v": (d // h, h),
        "mha_layer.linear_pos.weight": (d, d),
        "mha_layer.out_proj.weight": (d, d),
        "mha_layer.out_proj.bias": (d,),
    }
    conmamba = {"conformer-s": "s-transformer", "conformer-l": "l-transformer", "conformer-ctc": "ctc"}
    with torch.device("meta"):
        other = registry.build(*registry.PRESETS[f"conmamba-{conmamba[preset]}"])
    rest = {k for k in ours if ".mha_layer." not in k}
    assert rest == {k for k in other.state_dict() if ".mamba." not in k and not k.startswith("normalize.")}


@torch.no_grad()
def test_attention_score_by_score():
    """The formula with a loop over heads, queries and keys."""
    torch.manual_seed(1)
    layer, x, n, d = RelativeAttention(8, 2).eval(), torch.randn(1, 5, 8), 5, 8
    heads = F.linear(x[0], layer.in_proj_weight).view(n, 2, 12)
    u, v = layer.pos_bias_u.reshape(2, 4), layer.pos_bias_v.reshape(2, 4)
    out = torch.zeros(n, d)
    for h in range(2):
        q, k, value = heads[:, h].split(4, -1)
        scores = torch.zeros(n, n)
        for i in range(n):
            for j in range(n):
                angle = abs(i - j) / 10000 ** (torch.arange(0, d, 2) / d)
                p = layer.linear_pos(torch.stack([angle.sin(), angle.cos()], -1).flatten())[4 * h : 4 * h + 4]
                scores[i, j] = (q[i] + u[h]) @ k[j] + (q[i] + v[h]) @ p
        out[:, 4 * h : 4 * h + 4] = (scores / d**0.5).softmax(-1) @ value
    assert_near(layer(x, distance_table(n, d, x))[0], layer.out_proj(out))


@settings(max_examples=15)
@given(n=st.integers(1, 40), queries=st.integers(1, 12), lengths=st.lists(st.integers(1, 40), max_size=2))
@torch.no_grad()
def test_the_number_of_queries_at_a_time_does_not_matter(n, queries, lengths):
    layer = RelativeAttention(8, 2).eval()
    x = torch.randn(max(1, len(lengths)), n, 8)
    mask = None
    if lengths:
        mask = (torch.arange(n) < torch.tensor(lengths)[:, None])[:, None, None]
    whole = layer(x, distance_table(n, 8, x), mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relative, "QUERIES", queries)
        assert_near(layer(x, distance_table(n, 8, x), mask), whole)


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(1, 90), min_size=1, max_size=3), tokens=st.integers(1, 8))
@torch.no_grad()
def test_a_padded_batch_gives_what_each_gives_alone(lengths, tokens):
    model = small_conformer()
    features, text = torch.randn(len(lengths), max(lengths), 80), torch.randint(11, (len(lengths), tokens))
    n = torch.tensor(lengths)
    memory, frames = model.encode(features, n), model.frontend.frames(n)
    logits = model.decode(text, memory, frames)
    for i, length in enumerate(lengths):
        alone = model.encode(features[i : i + 1, :length])
        assert_near(memory[i : i + 1, : frames[i]], alone)
        assert_near(logits[i : i + 1], model.decode(text[i : i + 1], alone))


@speechbrain_reference.needed
@torch.no_grad()
def test_speechbrains_encoder():
    with speechbrain_reference.modules("lobes.models.transformer.Conformer", "nnet.attention") as (
        conformer,
        attention,
    ):
        model = small_conformer(kernel_size=7)
        theirs = conformer.ConformerEncoder(2, 16, 24, 4, kernel_size=7, attention_type="RelPosMHAXL").eval()
        theirs.load_state_dict(model.transformer.encoder.state_dict())
        x = torch.randn(2, 23, 16)
        expected = theirs(x, pos_embs=attention.RelPosEncXL(16)(x))[0]
        assert_near(model.transformer.encoder(x), expected)


@speechbrain_reference.needed
@torch.no_grad()
def test_speechbrains_whole_network():
    """From the front end's frames to the decoder's output, as its recipe builds it (papers.md 2)."""
    with speechbrain_reference.modules("lobes.models.transformer.TransformerASR") as (asr,):
        model = small_conformer()
        theirs = asr.TransformerASR(
            tgt_vocab=11, input_size=640, d_model=16, nhead=4, num_encoder_layers=2, num_decoder_layers=1,
            d_ffn=24, dropout=0.1, activation=torch.nn.GELU, encoder_module="conformer",
            attention_type="RelPosMHAXL", normalize_before=True, causal=False,
        ).eval()  # fmt: skip
        state = model.transformer.state_dict()
        wanted = theirs.state_dict()
        if any("mutihead" in k for k in wanted):
            state = {k.replace("multihead_attn", "mutihead_attn"): v for k, v in state.items()}
        missing = theirs.load_state_dict(
            {k: v for k, v in state.items() if not k.endswith(".pe")}, strict=False
        )
        assert not missing.unexpected_keys and all(k.endswith(".pe") for k in missing.missing_keys)
        frames, text = torch.randn(2, 19, 20, 32), torch.randint(1, 11, (2, 7))
        memory, decoded = theirs(frames, text, torch.ones(2), pad_idx=0)
        ours = model.transformer.encoder(model.transformer.enter(frames.flatten(2)))
        assert_near(ours, memory)
        assert_near(model.transformer.decoder(model.transformer.embed(text, 0), ours), decoded)


@torch.no_grad()
def test_stepwise_is_teacher_forced():
    model, text = small_conformer(), torch.randint(11, (2, 9))
    memory = torch.randn(1, 12, 16)
    state, got = model.start(memory).select(torch.tensor([0, 0])), []
    for part in text.split([1, 3, 1, 4], 1):
        logits, state = model.step(part, state)
        got.append(logits)
    assert_near(torch.cat(got, 1), model.decode(text, memory.expand(2, -1, -1)))


def test_every_parameter_learns():
    model = small_conformer().train()
    features, lengths = torch.randn(2, 40, 80), torch.tensor([40, 21])
    memory, frames = model.encode(features, lengths), model.frontend.frames(lengths)
    used = torch.arange(memory.shape[1]) < frames[:, None]
    text = torch.randint(1, 11, (2, 5))
    loss = model.ctc(memory)[used].square().sum() + model.decode(text, memory, frames).square().sum()
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_checkpoint_is_imported(tmp_path):
    """model.ckpt as SpeechBrain writes it, with its own spelling of a name (papers.md 3.2)."""
    model = small_conformer()
    numbers = {"frontend": 0, "transformer": 1, "seq_lin": 2, "ctc_lin": 3}
    state = {}
    for key, value in model.state_dict().items():
        head, _, rest = key.partition(".")
        if head in numbers:
            state[f"{numbers[head]}.{rest.replace('multihead_attn', 'mutihead_attn')}"] = value
    torch.save(state, tmp_path / "model.ckpt")
    torch.save({"glob_mean": torch.zeros(80), "glob_std": torch.ones(80)}, tmp_path / "normalizer.ckpt")
    pieces = SentencePieceTokenizer.train(["ABBA CAB", "DAB BAD"], 11, kind="bpe", case="upper")
    (tmp_path / "tokenizer.ckpt").write_bytes(pieces.model)
    loaded, config = store.load(speechbrain_asr.import_folder(tmp_path, tmp_path / "mine"))
    assert config.architecture == "conformer" and loaded.config == model.config
    features = torch.randn(1, 30, 80)
    with torch.no_grad():
        assert torch.equal(loaded.encode(features), model.encode(features))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"decoder": "mamba"}, "decoder must be"),
        ({"n_heads": 5}, "no multiple"),
        ({"causal": True}, "causal"),
    ],
)
def test_impossible_sizes(config, message):
    with pytest.raises(ModelError, match=message):
        registry.build("conformer", {**SMALL, **config})
