"""HuBERT and Mamba-HuBERT: torchaudio's values and names, padded batches, masks, the recogniser on top."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.audio.torchaudio_compat import torchaudio
from slyther_cli.errors import ModelError
from slyther_cli.layers.ext_bimamba import ExtBiMamba, turned
from slyther_cli.models import registry
from slyther_cli.models.hubert import LAYERS, Hubert, HubertConfig, frames_of
from slyther_cli.models.hubert_ctc import TOPS, HubertCtc, HubertCtcConfig, sizes_of
from slyther_cli.research.training.hubert import FEWEST_SPANS, span_mask

SIZES = {"conv_width": 12, "d_model": 24, "n_layers": 2, "n_heads": 2, "d_ffn": 20, "d_state": 4,
         "kernel_size": 3, "pos_kernel": 6, "pos_groups": 4, "n_classes": 9, "final_dim": 8}  # fmt: skip
TINY = HubertConfig(**SIZES)


def reference():
    """torchaudio's network of the same sizes. Skips where torchaudio cannot be loaded."""
    try:
        models = torchaudio().models
    except (ModelError, OSError, RuntimeError, AttributeError) as error:
        pytest.skip(f"torchaudio cannot be loaded: {error}")
    plain = {
        f"encoder_{k}": 0.0
        for k in ("projection_dropout", "attention_dropout", "ff_interm_dropout", "dropout")
    }
    layers = [(12, 10, 5), *[(12, 3, 2)] * 4, *[(12, 2, 2)] * 2]
    none = dict.fromkeys(("mask_other", "mask_channel_prob", "mask_channel_other", "encoder_layer_drop"), 0.0)
    torch.manual_seed(0)
    return models.hubert_pretrain_model(
        extractor_mode="group_norm", extractor_conv_layer_config=layers, extractor_conv_bias=False,
        encoder_embed_dim=24, encoder_pos_conv_kernel=6, encoder_pos_conv_groups=4, encoder_num_layers=2,
        encoder_num_heads=2, encoder_ff_interm_features=20, encoder_layer_norm_first=False, mask_prob=0.8,
        mask_selection="static", mask_length=4, no_mask_overlap=False, mask_min_space=1,
        mask_channel_selection="static", mask_channel_length=4, no_mask_channel_overlap=False,
        mask_channel_min_space=1, skip_masked=False, skip_nomask=False, num_classes=9, final_dim=8,
        feature_grad_mult=0.1, **plain, **none,
    )  # fmt: skip


def test_values_and_loss_are_torchaudios():
    theirs = reference().eval()
    ours = Hubert(TINY).eval()
    assert theirs.state_dict().keys() == ours.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())
    samples, units = 0.1 * torch.randn(2, 6000), torch.randint(9, (2, frames_of(6000)))
    hidden = []
    theirs.mask_generator.register_forward_hook(lambda module, inputs, out: hidden.append(out[1]))
    with torch.inference_mode():
        wanted = theirs.wav2vec2.extract_features(samples)[0]
        for one, other in zip(wanted, ours.each(ours.features(samples))[1:], strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
        told, _, _ = theirs(samples, units)  # the right unit first, then all others
        logits = ours(ours.features(samples), None, hidden[0])[hidden[0]]
    cross_entropy = torch.nn.functional.cross_entropy
    nats = cross_entropy(told, torch.zeros(len(told), dtype=torch.long))
    assert float(cross_entropy(logits, units[hidden[0]])) == pytest.approx(float(nats), rel=1e-4)
    lengths = torch.tensor([frames_of(6000), 11])  # features of a padded batch
    with torch.inference_mode():
        features = theirs.wav2vec2.feature_extractor(samples, None)[0]
        theirs_padded = theirs.wav2vec2.encoder(features, lengths)
        ours_padded = ours.encode(features, lengths)
    torch.testing.assert_close(ours_padded[0], theirs_padded[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours_padded[1, :11], theirs_padded[1, :11], rtol=1e-4, atol=1e-5)


def test_parameters_of_base():
    """torchaudio's hubert_base has 94,370,944 without, hubert_pretrain_base 94,594,176 with its heads."""
    assert registry.parameter_count(*registry.PRESETS["hubert-base"]) == 94_594_176
    heads = 768 + 100 * 256 + 768 * 256 + 256
    assert 94_594_176 - heads == 94_370_944
    assert registry.parameter_count(*registry.PRESETS["mamba-hubert-small"]) < 8_000_000


@pytest.mark.parametrize("layer", LAYERS)
def test_a_padded_batch_gives_what_each_gives_alone(layer):
    torch.manual_seed(1)
    net = Hubert(HubertConfig(**SIZES, layer=layer)).eval()
    features, lengths = torch.randn(3, 20, 12), torch.tensor([20, 13, 7])
    with torch.inference_mode():
        both = net.encode(features, lengths)
        for i, n in enumerate(lengths):
            alone = net.encode(features[i : i + 1, :n])
            torch.testing.assert_close(both[i, :n], alone[0], rtol=1e-4, atol=1e-5)
    assert both.shape == (3, 20, 24)


@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_masked_is_not_seen_and_all_learn(layer):
    torch.manual_seed(1)
    net = Hubert(HubertConfig(**SIZES, layer=layer, dropout=0.0, layer_drop=0.0))
    samples = 0.1 * torch.randn(1, 6000)
    masked = torch.zeros(1, frames_of(6000), dtype=torch.bool)
    masked[0, 5:9] = True
    features = net.features(samples)
    other = features.clone()
    other[0, 5:9] += torch.randn(4, other.shape[2])  # a norm would take away what is the same in all
    torch.testing.assert_close(net(features, None, masked), net(other, None, masked))
    assert not torch.allclose(net(features), net(other))
    net(features, None, masked).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720])
def test_every_sound_has_a_frame(samples):
    net = Hubert(TINY).eval()
    assert (
        net.features(torch.zeros(1, samples)).shape[1] == net.frames(samples) == (2 if samples > 719 else 1)
    )


def test_ext_bimamba_is_two_mambas():
    torch.manual_seed(0)
    mixer, x = ExtBiMamba(8, 4), torch.randn(2, 9, 8)
    ahead = mixer.forward_mamba(x)
    back = mixer.backward_mamba(x.flip(1)).flip(1)
    wanted = torch.cat([ahead, back], -1) @ mixer.output_proj.weight.T + mixer.output_proj.bias
    torch.testing.assert_close(mixer(x), wanted)
    lengths = torch.tensor([9, 4])
    assert torch.equal(turned(turned(x, lengths), lengths), x)
    assert torch.equal(turned(x, lengths)[1, :4], x[1, :4].flip(0)) and torch.equal(
        turned(x, lengths)[1, 4:], x[1, 4:]
    )


@settings(max_examples=60)
@given(
    frames=st.integers(1, 700), prob=st.floats(0.05, 1), length=st.integers(1, 20), seed=st.integers(0, 99)
)
def test_masks_are_spans(frames, prob, length, seed):
    mask = span_mask(np.random.default_rng(seed), frames, prob, length)
    assert mask.shape == (frames,) and mask.any() and (frames == 1 or not mask[-1])
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    runs = edges[1::2] - edges[::2]
    if frames > length + max(FEWEST_SPANS, prob * frames / length + 1):
        assert runs.min() >= length and mask.sum() <= length * max(
            FEWEST_SPANS, int(prob * frames / length) + 1
        )


def test_the_share_of_masked_frames():
    """Spans at n of T - L places: a frame away from the edges is free with probability
    C(T - 2L, n) / C(T - L, n), 0.44 with HuBERT's 0.8 and 10."""
    rng = np.random.default_rng(0)
    share = np.mean([span_mask(rng, 500, 0.8, 10)[20:-20].mean() for _ in range(400)])
    n, places = 40, 490
    free = np.prod([(places - 10 - i) / (places - i) for i in range(n)])
    assert share == pytest.approx(1 - free, abs=0.01) and 0.5 < share < 0.6


@pytest.mark.parametrize("top", TOPS)
@pytest.mark.parametrize("frozen", [True, False])
def test_the_recogniser_learns_on_top_and_keeps_what_is_frozen(top, frozen):
    torch.manual_seed(0)
    hubert = Hubert(HubertConfig(**SIZES, layer="conbimamba"))
    more = {"top": top, "frozen": frozen, "n_top_layers": 1, "top_heads": 2, "top_ffn": 8, "dropout": 0.0}
    settings_of = registry.full_config("hubert-ctc", sizes_of(hubert.config) | more | {"layer_drop": 0.0})
    net = HubertCtc(HubertCtcConfig(**settings_of))
    with torch.no_grad():
        hubert.wav2vec2.encoder.transformer.layers[0].mamba.forward_mamba.A_log.add_(0.5)
    net.take(hubert)
    net.start_from_s4d()
    net.train()
    samples = 0.1 * torch.randn(2, 5000)
    features = net.features(samples)
    torch.testing.assert_close(features, hubert.features(samples))
    logits = net(features, torch.tensor([frames_of(5000), 8]))
    assert logits.shape == (2, frames_of(5000), 31) and net.frames(5000) == logits.shape[1]
    logits.square().sum().backward()
    own = {name for name, p in net.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "layer_weights" in own and "ctc_lin.w.weight" in own
    assert any(name.startswith("transformer.") for name in own) == (top != "none")
    assert any(name.startswith("wav2vec2.encoder") for name in own) != frozen
    assert not any("feature_extractor" in name for name in own)
    for name, value in net.wav2vec2.state_dict().items():
        assert torch.equal(value, hubert.wav2vec2.state_dict()[name]), name
    padded = net.eval()(features, torch.tensor([frames_of(5000), 8]))[1, :8]
    torch.testing.assert_close(padded, net(features[1:, :8])[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "wrong"),
    [
        ("hubert", {"layer": "lstm"}),
        ("hubert", {"d_model": 770}),
        ("hubert", {"pos_groups": 5}),
        ("hubert", {"mask_prob": 0.0}),
        ("hubert-ctc", {"top": "hat"}),
        ("hubert-ctc", {"decoder": "mamba"}),
    ],
)
def test_settings_without_a_meaning(architecture, wrong):
    with pytest.raises(ModelError):
        registry.full_config(architecture, wrong)
