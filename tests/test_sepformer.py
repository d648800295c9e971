"""Sepformer: the published count and names; equal to SpeechBrain's modules and to a slow build with torch's
Transformer layers."""

import dual_path_reference
import pytest
import speechbrain_reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import assert_near, stirred
from torch import nn
from torch.nn import functional as F

from slyther_cli.errors import ModelError
from slyther_cli.layers.dual_path import chunked, overlapped
from slyther_cli.models import registry
from slyther_cli.models.sepformer import Sepformer, SepformerConfig
from slyther_cli.research.training.fourier_start import start_from_fourier

SMALL = {"n_filters": 16, "n_layers": 2, "n_heads": 4, "d_ffn": 24, "chunk": 6, "max_positions": 8}


def small_sepformer(**config):
    torch.manual_seed(0)
    return stirred(Sepformer(SepformerConfig(**{**SMALL, **config})))


def test_the_published_size_and_names():
    with torch.device("meta"):
        model = registry.build(*registry.PRESETS["sepformer"])
    assert sum(p.numel() for p in model.parameters()) == 25_679_361
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert len([k for k in ours if k.startswith("masknet.")]) == 415

    def pair(name, *shape):
        return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

    inner = {"pos_enc.pe": (1, 2500, 256), **pair("mdl.norm.norm", 256)}
    for i in range(8):
        layer = pair("pos_ffn.ffn.0", 1024, 256) | pair("pos_ffn.ffn.3", 256, 1024)
        layer |= pair("norm1.norm", 256) | pair("norm2.norm", 256) | pair("self_att.att.out_proj", 256, 256)
        layer |= {"self_att.att.in_proj_weight": (768, 256), "self_att.att.in_proj_bias": (768,)}
        inner |= {f"mdl.layers.{i}.{k}": shape for k, shape in layer.items()}
    assert ours == dual_path_reference.names(256, 2, 2, inner)


@given(frames=st.integers(1, 60), half=st.integers(1, 8))
def test_every_frame_is_in_two_chunks(frames, half):
    x = torch.randn(2, frames, 3)
    chunks = chunked(x, 2 * half)
    assert torch.equal(overlapped(chunks, frames), 2 * x) and chunks.shape[2] == 2 * half
    assert torch.equal(chunks[:, 1, : min(half, frames)], x[:, : min(half, frames)][:, :half])


@pytest.mark.parametrize(("skip", "samples"), [(True, 152), (False, 101)])
@torch.no_grad()
def test_a_slow_build_from_the_description(skip, samples):
    """More chunks than rows in the position table, a length that is no multiple of the stride."""
    model = small_sepformer(skip_around_intra=skip)
    p = dict(model.masknet.state_dict())
    d = 16
    angle = torch.arange(40.0)[:, None] / 10000 ** (torch.arange(0, d, 2) / d)
    positions = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)

    def run(part):
        def sequence(j, x):
            x = x + positions[: len(x)]
            prefix = f"dual_mdl.{j}.{part}_mdl.mdl."
            for i in range(2):
                layer = nn.TransformerEncoderLayer(d, 4, 24, 0.0, F.relu, 1e-6, norm_first=True)
                renamed = {}
                for k in layer.state_dict():
                    ours = k.replace("self_attn.", "self_att.att.").replace("linear1", "pos_ffn.ffn.0")
                    ours = ours.replace("linear2", "pos_ffn.ffn.3").replace("norm1", "norm1.norm")
                    renamed[k] = p[f"{prefix}layers.{i}.{ours.replace('norm2', 'norm2.norm')}"]
                layer.load_state_dict(renamed)
                x = layer.eval()(x[:, None])[:, 0]
            return F.layer_norm(x, (d,), p[f"{prefix}norm.norm.weight"], p[f"{prefix}norm.norm.bias"], 1e-6)

        return sequence

    mixture = torch.randn(2, samples)
    whole = model(mixture)
    assert whole.shape == (2, 2, samples)
    padded = F.pad(mixture, (0, -samples % 8))
    w = F.relu(F.conv1d(padded[:, None], model.encoder.conv1d.weight, stride=8))
    for i, one in enumerate(w):
        masks = dual_path_reference.masks(one.T, p, 6, 2, skip, 2, run("intra"), run("inter"))
        assert_near(model.masknet(w.transpose(1, 2))[i], masks)
        stems = F.conv_transpose1d(one * masks.transpose(1, 2), model.decoder.weight, stride=8)
        assert_near(whole[i], stems[:, 0, :samples])


@speechbrain_reference.needed
@torch.no_grad()
def test_speechbrains_modules():
    with speechbrain_reference.modules("lobes.models.dual_path") as (dual_path,):
        model = small_sepformer(chunk=8, max_positions=2500)

        def transformer():
            return dual_path.SBTransformerBlock(
                2, 16, 4, 24, 0, use_positional_encoding=True, norm_before=True
            )

        net = dual_path.Dual_Path_Model(
            16, 16, transformer(), transformer(), 2, "ln", 8, 2, linear_layer_after_inter_intra=False
        )
        encoder, decoder = dual_path.Encoder(16, 16), dual_path.Decoder(16, 1, 16, stride=8, bias=False)
        missing = net.load_state_dict(model.masknet.state_dict(), strict=False)
        assert not missing.unexpected_keys and all("pos_enc" in k for k in missing.missing_keys)
        encoder.load_state_dict(model.encoder.state_dict())
        decoder.load_state_dict(model.decoder.state_dict())
        mixture = torch.randn(3, 8 * 77)
        w = encoder(mixture)
        theirs = torch.stack([decoder(w * mask) for mask in net.eval()(w)], 1)
        assert_near(model(mixture), theirs)


@settings(max_examples=10)
@given(samples=st.integers(1, 300), speakers=st.integers(1, 3))
@torch.no_grad()
def test_any_length(samples, speakers):
    mixture = torch.randn(1, samples)
    stems = small_sepformer(n_speakers=speakers)(mixture)
    assert stems.shape == (1, speakers, samples) and stems.isfinite().all()


def test_every_parameter_learns():
    model = small_sepformer().train()
    start_from_fourier(model)  # as training does
    model(torch.randn(1, 300)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize(
    ("config", "message"),
    [({"chunk": 7}, "must be even"), ({"n_heads": 5}, "no multiple"), ({"stride": 9}, "twice the stride")],
)
def test_impossible_sizes(config, message):
    with pytest.raises(ModelError, match=message):
        registry.build("sepformer", {**SMALL, **config})
