"""Fbank against its definition, frame by frame; streams against the whole; the strided front end."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import conv2d, layer_norm, leaky_relu, pad

from slyther_cli.audio.features import TILE, Fbank, FbankStream, InputNormalization, mel_bands
from slyther_cli.layers.frontend import ConvFrontend, FrontendStream

KINDS = [{"n_fft": 400, "window": 400}, {"n_fft": 512, "window": 400}, {"n_fft": 512, "window": 512}]
SPEECH_MAMBA = [(64, 5, 2, False), (64, 5, 2, False), (64, 1, 1, True)]


pytestmark = pytest.mark.usefixtures("one_thread")


def noise(n, seed=0, level=0.1):
    return torch.randn(1, n, generator=torch.Generator().manual_seed(seed)) * level


def definition(x, n_fft, window):
    """papers.md 2.1 in float64, one frame after the other."""
    mel = [2595 * math.log10(1 + 8000 / 700) * i / 81 for i in range(82)]
    hz = [700 * (10 ** (m / 2595) - 1) for m in mel]
    shape = np.zeros(n_fft)
    at = np.arange(window)
    shape[(n_fft - window) // 2 :][:window] = 0.54 - 0.46 * np.cos(2 * np.pi * at / window)
    freqs = np.arange(n_fft // 2 + 1) * 16000 / n_fft
    rows = []
    for t in range(1 + len(x) // 160):
        frame = [x[i] if 0 <= i < len(x) else 0.0 for i in range(t * 160 - n_fft // 2, t * 160 + n_fft // 2)]
        power = np.abs(np.fft.rfft(frame * shape)) ** 2
        bands = []
        for low, centre in pairwise(hz[:81]):
            weight = np.clip(1 - np.abs(freqs - centre) / (centre - low), 0, None)
            bands.append(10 * math.log10(max(1e-10, float(power @ weight))))
        rows.append(bands)
    rows = np.array(rows)
    return np.maximum(rows, rows.max() - 80)


@pytest.mark.parametrize("kind", KINDS)
def test_the_definition(kind):
    x = noise(160 * 12 + 37)
    x[:, 480:1440] *= 1e-6  # more than 80 dB below the rest
    wanted = torch.from_numpy(definition(x[0].numpy(), **kind)).float()
    assert (wanted < wanted.max() - 79.999).any()
    torch.testing.assert_close(Fbank(**kind)(x)[0], wanted, rtol=0, atol=2e-3)


def test_bands_sit_where_they_should():
    bands = mel_bands(80, 512, 16000)
    assert bands.shape == (257, 80) and bands.min() == 0 and bands.max() <= 1
    t = torch.arange(16000) / 16000
    for hz in (300, 1000, 3000, 7000):
        loudest = int(Fbank(n_fft=512)(torch.sin(2 * torch.pi * hz * t)[None]).mean(1).argmax())
        centre = 700 * (10 ** ((loudest + 1) * math.log10(1 + 8000 / 700) / 81) - 1)
        assert abs(2595 * math.log10((1 + hz / 700) / (1 + centre / 700))) < 2840 / 81


def test_frames():
    fbank = Fbank()
    assert fbank.frames(0) == 0 and fbank(torch.zeros(1, 0)).shape == (1, 0, 80)
    for n in (1, 159, 160, 161, 16000):
        whole = torch.stft(
            torch.zeros(n + 400), 400, 160, 400, torch.ones(400), False, return_complex=True
        ).shape[1]
        assert fbank(torch.zeros(2, n)).shape == (2, whole, 80) and fbank.frames(n) == whole


@settings(max_examples=30)
@given(
    n=st.integers(0, 160 * (2 * TILE + 9)),
    cuts=st.lists(st.integers(0, 160 * (2 * TILE + 9)), max_size=6),
    kind=st.sampled_from(KINDS),
    causal=st.booleans(),
)
def test_streamed_is_whole_bit_for_bit(n, cuts, kind, causal):
    fbank = Fbank(**kind, causal=causal)
    x = noise(n, n)
    x[:, : n // 3] *= 1e-7
    blocks = np.split(x[0].numpy(), sorted(min(c, n) for c in cuts))
    ceiling = None if causal else fbank.loudest(blocks)
    streamed = torch.cat(list(FbankStream(fbank, ceiling).frames(blocks)))
    assert torch.equal(streamed, fbank(x)[0])


def test_a_stream_gives_a_frame_as_soon_as_it_can():
    stream = FbankStream(Fbank(n_fft=400), 0.0)
    counts = [len(stream.push(np.zeros(n, np.float32))) for n in (199, 1, 159, 1, 1600)]
    assert counts == [0, 1, 0, 1, 10]


def test_without_a_ceiling_only_what_is_far_below_a_later_maximum_differs():
    x = noise(16000)
    x[:, :8000] *= 1e-6
    fbank = Fbank()
    exact, approximate = fbank(x)[0], torch.cat(list(FbankStream(fbank).frames([x[0].numpy()])))
    differs = exact != approximate
    assert differs.any() and not differs[52:].any()
    assert (exact[differs] == exact.max() - 80).all() and (approximate <= exact).all()


def test_causal_does_not_look_ahead():
    fbank, x = Fbank(causal=True), noise(16000)
    before = fbank(x * 1e-3)
    after = fbank(torch.cat([x[:, :8000] * 1e-3, x[:, 8000:] * 1e3], 1))
    seen = (8000 - 200) // 160 + 1
    assert torch.equal(before[:, :seen], after[:, :seen]) and not torch.equal(
        before[:, seen:], after[:, seen:]
    )


def test_normalisation():
    parts = [torch.randn(n, 4) * torch.tensor([1.0, 2, 3, 4]) + 5 for n in (10, 1, 300)]
    norm = InputNormalization(4)
    norm.fit(parts)
    y = norm(torch.cat(parts))
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.std(0), torch.ones(4))
    assert set(norm.state_dict()) == {"glob_mean", "glob_std"}
    with pytest.raises(ValueError, match="need frames"):
        norm.fit([torch.zeros(1, 4)])


def test_a_window_that_does_not_fit():
    with pytest.raises(ValueError, match="does not hold"):
        Fbank(n_fft=256, window=400)


def frontend(blocks=None):
    torch.manual_seed(0)
    net = ConvFrontend(blocks=blocks) if blocks else ConvFrontend()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return net.eval()


@torch.no_grad()
def test_frontend_is_the_published_one():
    """In the layout of the checkpoints: [batch, channels, bands, frames], kernels [out, in, band, frame]."""
    net, mel = frontend(), torch.randn(2, 21, 80)
    w, x = net.state_dict(), mel.transpose(1, 2)[:, None]
    for i, shape in ((0, (40, 64)), (1, (20, 32))):
        name = f"convblock_{i}.convs."
        x = pad(x, (1, 1, 1, 1), mode="reflect")
        x = conv2d(x, w[f"{name}conv_0.conv.weight"], w[f"{name}conv_0.conv.bias"], stride=2)
        x = x.transpose(1, 3)  # [batch, frames, bands, channels]
        x = layer_norm(x, shape, w[f"{name}norm_0.norm.weight"], w[f"{name}norm_0.norm.bias"])
        x = leaky_relu(x).transpose(1, 3)
    wanted = x.permute(0, 3, 2, 1).flatten(2)
    assert wanted.shape == (2, 6, 640)
    torch.testing.assert_close(net(mel), wanted, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in net.parameters()) == 25_504


@settings(max_examples=40)
@given(
    frames=st.integers(1, 50),
    block=st.integers(1, 50),
    tile=st.one_of(st.none(), st.integers(1, 9)),
    blocks=st.sampled_from([None, SPEECH_MAMBA]),
)
@torch.no_grad()
def test_frontend_streamed_is_whole(frames, block, tile, blocks):
    net, mel = frontend(blocks), torch.randn(frames, 80)
    stream = FrontendStream(net, tile)
    out = [y for part in mel.split(block) for y in stream.push(part)] + stream.flush()
    assert tile is None or all(y.shape[1] == tile for y in out[:-1])
    whole = net(mel[None])
    assert whole.shape[1] == net.frames(frames)
    torch.testing.assert_close(torch.cat(out, 1), whole, rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), blocks=st.sampled_from([None, SPEECH_MAMBA])
)
@torch.no_grad()
def test_frontend_of_a_padded_batch(lengths, blocks):
    net = frontend(blocks)
    mel = torch.randn(len(lengths), max(lengths), 80)
    out = net(mel, torch.tensor(lengths))
    for i, n in enumerate(lengths):
        alone = net(mel[i : i + 1, :n])
        torch.testing.assert_close(out[i : i + 1, : alone.shape[1]], alone, rtol=1e-4, atol=1e-4)
