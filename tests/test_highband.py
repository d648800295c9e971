"""What lies above a separator's band, shared out to its stems."""

import numpy as np
import pytest
import soundfile as sf
import torch

from slyther_cli import separate
from slyther_cli.models.highband import HIGH_HZ, HighBandNet, HighBandNetConfig, bands, hop
from slyther_cli.separation.highband import HighBand, fills, network


def run(net, whole, stems, rate, cuts):
    band = HighBand(net, rate, len(stems))
    parts, at = [], 0
    for end in [*cuts, len(whole)]:
        parts.append(band.push(whole[at:end], stems[:, at:end]))
        at = end
    parts.append(band.flush())
    return np.concatenate([w for w, _ in parts]), np.concatenate([s for _, s in parts], 1)


def below(x, rate, hz):
    spectrum = np.fft.rfft(x)
    spectrum[..., np.fft.rfftfreq(x.shape[-1], 1 / rate) > hz] = 0
    return np.fft.irfft(spectrum, n=x.shape[-1]).astype(np.float32)


def noise(n, seed, speakers=2):
    return 0.1 * np.random.default_rng(seed).standard_normal((speakers, n)).astype(np.float32)


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000])
def test_stems_sum_to_the_recording_above_the_band_and_the_recording_is_untouched(rate):
    sources = noise(3 * rate, 1)
    whole, stems = sources.sum(0), below(sources, rate, 3600)
    again, wide = run(network(), whole, stems, rate, [])
    assert np.array_equal(again, whole)
    assert wide.shape == stems.shape
    middle = slice(rate // 2, -rate // 2)
    left = whole - wide.sum(0)
    spectrum = np.abs(np.fft.rfft(left[middle] * np.hanning(len(left[middle]))))
    hz = np.fft.rfftfreq(len(left[middle]), 1 / rate)
    reference = np.abs(np.fft.rfft(whole[middle] * np.hanning(len(left[middle]))))
    assert spectrum[hz > 4000].max() < 3e-3 * reference.mean()


@pytest.mark.parametrize("cuts", [[1], [1000, 1001, 20_000], [65_536], list(range(0, 99_000, 777))])
def test_result_does_not_depend_on_the_blocks(cuts):
    sources = noise(100_000, 2)
    whole, stems = sources.sum(0), below(sources, 16_000, 3900)
    at_once, in_parts = run(network(), whole, stems, 16_000, []), run(network(), whole, stems, 16_000, cuts)
    assert np.array_equal(at_once[0], in_parts[0])
    assert np.array_equal(at_once[1], in_parts[1])


@pytest.mark.parametrize("samples", [0, 1, 255, 256, 5000])
def test_short_recordings_keep_their_length(samples):
    sources = noise(samples, 3)
    whole, wide = run(network(), sources.sum(0), 0.5 * sources, 16_000, [])
    assert len(whole) == samples
    assert wide.shape == (2, samples)


def test_whole_equals_the_network_over_all_frames():
    rate, sources = 16_000, noise(40_000, 4)
    whole, stems = sources.sum(0), below(sources, 16_000, 3900)
    wide = run(network(), whole, stems, rate, [])[1]
    size = hop(rate)
    window = torch.hann_window(2 * size).sqrt()
    x = np.pad(np.concatenate(((whole - stems.sum(0))[None], stems)), ((0, 0), (8 * size, 9 * size)))
    frames = torch.fft.rfft(torch.from_numpy(x).unfold(1, 2 * size, size) * window).transpose(1, 2)
    net, power = network(), frames.abs().square()
    low, high = (
        bands((0, 250, 500, 750, 1000, 1300, 1600, 1900, 2200, 2500, 2800, 3100, 3400, 3700), rate),
        None,
    )
    high = bands(HIGH_HZ, rate)
    with torch.inference_mode():
        shares = net(low @ power[1:], high @ power[0])
    parts = torch.fft.irfft(
        (frames[0] * torch.einsum("sbt,bf->sft", shares, high)).transpose(1, 2), n=2 * size
    )
    added = torch.zeros(2, x.shape[1])
    for t in range(parts.shape[1]):
        added[:, t * size : (t + 2) * size] += parts[:, t] * window
    expected = stems + added[:, 8 * size : 8 * size + len(whole)].numpy()
    inner = slice(5 * size, -5 * size)  # at the ends silence is seen further away than the padding here
    np.testing.assert_allclose(wide[:, inner], expected[:, inner], atol=1e-5)


def test_speaker_who_is_alone_keeps_the_high_band():
    rate = 16_000
    high = noise(4 * rate, 5, 1)[0]
    tone = np.sin(2 * np.pi * 500 * np.arange(4 * rate) / rate).astype(np.float32)
    stems = below(np.stack([tone + high, 0.003 * tone]), rate, 3900)
    wide = run(network(), tone + high, stems, rate, [])[1]
    gained = np.abs(wide - stems).mean(1)
    assert gained[0] > 5 * gained[1]


def test_shares_know_no_order_and_no_level():
    net = HighBandNet(HighBandNetConfig()).eval()
    stems, rest = torch.rand(2, 13, 30) + 0.1, torch.rand(5, 30) + 0.1
    shares = net(stems, rest)
    assert torch.allclose(shares.sum(0), torch.ones(5, 30))
    assert torch.allclose(net(stems.flip(0), rest), shares.flip(0), atol=1e-6)
    assert torch.allclose(net(100 * stems, 100 * rest), shares, atol=1e-5)


def test_network_is_for_8_khz_alone():
    assert fills(8000, 16_000) and fills(8000, 11_025)
    assert not fills(8000, 8000) and not fills(16_000, 48_000)
    with pytest.raises(ValueError, match="8000"):
        HighBandNetConfig(sample_rate=16_000)


def test_separate_fills_the_band_unless_told_not_to(tmp_path):
    rate = 16_000
    x = 0.05 * np.random.default_rng(6).standard_normal(3 * rate)
    sf.write(tmp_path / "a.wav", x, rate)
    energies = {}
    for wide in (True, False):
        (result,) = separate(
            tmp_path / "a.wav", tmp_path / str(wide), highband=wide, residual=True, subtype="float"
        )
        sounds = {k: sf.read(path)[0] for k, path in result.outputs.items()}
        np.testing.assert_allclose(sum(sounds.values()), sf.read(tmp_path / "a.wav")[0], atol=1e-4)
        total = np.abs(np.fft.rfft(sounds["s1"] + sounds["s2"])) ** 2
        energies[wide] = total[np.fft.rfftfreq(len(x), 1 / rate) > 4200].sum() / total.sum()
    assert energies[True] > 0.3
    assert energies[False] < 1e-4
