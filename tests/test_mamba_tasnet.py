"""Mamba-TasNet and the BiMamba of ConMamba against a slow build from the papers' description."""

import dataclasses

import mamba_reference
import pytest
import torch
from tools import assert_near
from torch.nn import functional as F

from slyther_cli.models import registry
from slyther_cli.models.conmamba import ConMamba, ConMambaConfig
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.research.training.fourier_start import start_from_fourier


def shaken(model):
    for p in model.parameters():
        if p.dim() == 1:  # ones and zeros would hide a mistake
            p.data += 0.1 * torch.randn_like(p)
    return model.eval()


@pytest.mark.parametrize(("speakers", "samples"), [(2, 177), (3, 64)])
@torch.no_grad()
def test_mamba_tasnet(speakers, samples):
    """papers.md 1.1, channels first, with torch's own convolutions."""
    torch.manual_seed(0)
    model = shaken(MambaTasNet(MambaTasNetConfig(6, 16, 8, 8, 2, 4, speakers)))
    p = model.state_dict()
    mixture = torch.randn(1, samples)
    padded = F.pad(mixture, (0, -samples % 8))[:, None]
    w = F.relu(F.conv1d(padded, p["encoder.conv1d.weight"], stride=8))
    x = (w - w.mean(1, keepdim=True)) / (w.var(1, correction=0, keepdim=True) + 1e-8).sqrt()
    gamma, beta = (p[f"masknet.layer_norm.{k}"].transpose(1, 2) for k in ("gamma", "beta"))
    x = F.conv1d(x * gamma + beta, p["masknet.bottleneck_conv1x1.conv.weight"])
    x = mamba_reference.stack(mamba_reference.under(p, "masknet.mamba_net."), x[0].T)
    masks = F.relu(F.conv1d(x.T[None], p["masknet.mask_conv1x1.conv.weight"])).view(speakers, 6, -1)
    stems = F.conv_transpose1d(masks * w, p["decoder.weight"], stride=8)[:, 0, :samples]
    assert_near(model(mixture)[0], stems)
    together = MambaTasNet(dataclasses.replace(model.config, mixture_consistency=True))
    together.load_state_dict(p)
    assert_near(together(mixture)[0], stems + (mixture - stems.sum(0)) / speakers)
    assert_near(together(mixture).sum(1), mixture)


@pytest.mark.parametrize(("overlap", "samples"), [(2, 177), (3, 177), (4, 64), (8, 20)])
@torch.no_grad()
def test_longer_frames(overlap, samples):
    """Zeros of half of ``overlap - 2`` strides at both ends, and torch's own convolutions."""
    torch.manual_seed(0)
    model = shaken(MambaTasNet(MambaTasNetConfig(6, 8 * overlap, 8, 8, 1, 4)))
    p, mixture, lead = model.state_dict(), torch.randn(1, samples), 4 * (overlap - 2)
    padded = F.pad(mixture, (lead, lead + -samples % 8))[:, None]
    w = F.relu(F.conv1d(padded, p["encoder.conv1d.weight"], stride=8)).transpose(1, 2)
    assert model.encoder.frames(samples) == w.shape[1]
    assert_near(model.encoder(mixture), w)
    masked = (model.masknet(w) * w.unsqueeze(1))[0].transpose(1, 2)
    decoded = F.conv_transpose1d(masked, p["decoder.weight"], stride=8)[:, 0]
    assert_near(model(mixture)[0], decoded[:, lead : lead + samples])


@pytest.mark.parametrize("overlap", [2, 3, 4, 8])
@torch.no_grad()
def test_the_fourier_start_gives_back_what_it_takes(overlap):
    model = MambaTasNet(MambaTasNetConfig(2 * 8 * overlap, 8 * overlap, 8, 8, 1, 4))
    start_from_fourier(model)
    x, lead = torch.randn(1, 400), model.encoder.lead
    heard = model.decoder(model.encoder(x))[:, lead : lead + 400]
    ends = 4 * overlap  # they lie in fewer windows
    assert_near(heard[:, ends:-ends], x[:, ends:-ends])


@torch.no_grad()
def test_the_mixer_of_conmamba():
    torch.manual_seed(0)
    model = shaken(ConMamba(ConMambaConfig(d_model=16, n_layers=1, d_ffn=8, decoder="none", vocab=5)))
    mixer, x = model.transformer.encoder.layers[0].mamba, torch.randn(2, 13, 16)
    assert_near(mixer(x), torch.stack([mamba_reference.bimamba(mixer.state_dict(), one) for one in x]))


def test_the_published_sizes():
    counts = {"xs": 2_210_176, "s": 7_926_528, "m": 15_647_488, "l": 58_951_168}  # papers.md 1.1
    names = {size: registry.PRESETS[f"mamba-tasnet-{size}"] for size in counts}
    assert {size: registry.parameter_count(*preset) for size, preset in names.items()} == counts


def test_autocast_rounds_the_products_and_not_the_residual():
    torch.manual_seed(0)
    stack = MambaTasNet(MambaTasNetConfig(n_filters=16, d_model=32, n_layers=3)).masknet.mamba_net
    x = torch.randn(1, 50, 32)
    seen = []
    for layer in stack.layers:
        layer.register_forward_hook(lambda module, given, out: seen.append(out.dtype))
    with torch.no_grad():
        whole = stack(x)
        seen.clear()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = stack(x.bfloat16())
    assert seen == [torch.float32] * 3
    assert 0 < float((rounded - whole).norm() / whole.norm()) < 0.02
