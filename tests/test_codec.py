"""The codec against the encodec package's own forward, and its pieces against the whole."""

import pytest
import torch

from slyther_cli.errors import ModelError
from slyther_cli.models import registry
from slyther_cli.models.codec import Codec, CodecDecoder, CodecEncoder, SeanetCodec

SMALL = {"n_filters": 4, "dimension": 16, "ratios": [4, 2], "n_codebooks": 3, "codebook_size": 32}
HARMONIC = {
    **{"hop": 40, "n_mels": 8, "d_model": 16, "d_ffn": 24, "n_layers": 1, "d_pitch": 8, "n_pitch_layers": 1},
    **{"n_codebooks": 3, "codebook_size": 32},
}
SPECTRAL = {
    **{"hop": 40, "n_mels": 8, "d_model": 16, "d_ffn": 24, "n_layers": 1},
    **{"n_codebooks": 3, "codebook_size": 32},
}
KINDS = {
    "SEANet": SMALL,
    "spectral": SPECTRAL,
    "harmonic": HARMONIC,
    "as EnCodec": {**SMALL, "lstm": True, "pad": "reflect", "ratios": [5, 2, 4]},
    "deep": {**SMALL, "ratios": [2, 3, 4, 5]},
}


@pytest.fixture(params=KINDS)
def codec(request) -> Codec:
    torch.manual_seed(3)
    harmonic, ours = request.param == "harmonic", request.param in ("harmonic", "spectral")
    made = registry.build(f"{request.param}-codec" if ours else "seanet-codec", KINDS[request.param])
    for layer in made.quantizer.vq.layers:  # spread the codes out, so that all are used
        layer._codebook.embed.normal_(2.0 if ours else 0.0, 1.0 if ours else 0.1)
    if harmonic:
        made.pitch_codes[:] = torch.cat((torch.randn(32, 2), (torch.randn(32, 2) > 0).float()), 1)
    return made.eval()


def pieces(total: int, sizes: list[int]) -> list[slice]:
    cuts, at, i = [], 0, 0
    while at < total:
        cuts.append(slice(at, min(total, at + sizes[i % len(sizes)])))
        at, i = cuts[-1].stop, i + 1
    return cuts


@pytest.mark.parametrize("sizes", [[1], [7, 1, 50], [160], [10_000], [0, 3]])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 40, 41, 313])
def test_pieces_equal_the_whole(codec, n, sizes):
    x = torch.randn(2, n) * 0.3
    whole = codec.encode(x)
    assert whole.shape == (2, 3, -(-n // codec.hop)) and whole.dtype == torch.int64
    encoder = CodecEncoder(codec, batch=2)
    codes = [encoder.push(x[:, cut]) for cut in pieces(n, sizes)]
    assert torch.equal(torch.cat([*codes, encoder.flush()], 2), whole)

    sound = codec.decode(whole)
    assert sound.shape == (2, whole.shape[2] * codec.hop)
    decoder = CodecDecoder(codec, batch=2)
    out = [decoder.push(whole[..., cut]) for cut in pieces(whole.shape[2], sizes)]
    torch.testing.assert_close(torch.cat([*out, decoder.flush()], 1), sound, atol=1e-5, rtol=0)


def test_frames_equal_the_whole_before_they_are_rounded_to_codes(codec):
    x = torch.randn(1, 1, 777)
    network, _ = codec.pieces()
    with torch.inference_mode():
        got = [network(x[..., cut], False) for cut in pieces(777, [31, 2])] + [network(x[..., :0], True)]
        torch.testing.assert_close(torch.cat(got, 2), codec.encoder(x), atol=1e-5, rtol=0)


def test_nothing_gives_nothing(codec):
    assert codec.encode(torch.zeros(2, 0)).shape == (2, 3, 0)
    assert codec.decode(torch.zeros(2, 3, 0, dtype=torch.int64)).shape == (2, 0)
    assert CodecEncoder(codec).flush().shape == (1, 3, 0)
    assert CodecDecoder(codec).flush().shape == (1, 0)


def test_a_seanet_is_causal_in_both_directions(codec):
    if not isinstance(codec, SeanetCodec):
        pytest.skip("a spectral codec sees a little ahead; the next test says how far")
    x = torch.randn(1, 400)
    later = x.clone()
    later[:, 240:] += 1.0
    unchanged = 240 // codec.hop
    assert torch.equal(codec.encode(x)[..., :unchanged], codec.encode(later)[..., :unchanged])
    codes = torch.randint(0, 32, (1, 3, 40))
    other = codes.clone()
    other[..., 20:] = (other[..., 20:] + 1) % 32
    a, b = codec.decode(codes), codec.decode(other)
    torch.testing.assert_close(a[:, : 20 * codec.hop], b[:, : 20 * codec.hop], atol=1e-6, rtol=0)
    assert not torch.allclose(a[:, 20 * codec.hop :], b[:, 20 * codec.hop :], atol=1e-5)


def test_a_spectral_codec_sees_as_far_as_it_says_and_no_further():
    torch.manual_seed(5)
    codec = registry.build("spectral-codec", SPECTRAL).eval()
    frames = torch.rand(1, codec.dimension, 41) * 3
    other = frames.clone()
    other[..., 20] += 2
    with torch.inference_mode():
        changed = (codec.decoder(frames) - codec.decoder(other))[0, 0].abs() > 1e-6
    where = changed.nonzero()[:, 0] // codec.hop
    reach = codec.decoder.reach
    assert 20 - reach <= int(where.min()) < 20 < int(where.max()) <= 20 + reach


def test_a_spectral_codec_passes_a_voice_before_it_has_learnt():
    """Its first weights put every frame's own magnitudes at pulses, so loud and quiet bands come back."""
    torch.manual_seed(5)
    codec = registry.build("spectral-codec", {}).eval()
    t = torch.arange(32_000) / 16_000
    x = sum(torch.sin(2 * torch.pi * 125 * k * t) / k for k in range(1, 20)) * (0.02 + 0.05 * (t > 1))
    frames = codec.encoder(x[None, None])
    with torch.inference_mode():
        again = codec.encoder(codec.decoder(frames))
    inner = slice(5, -5)
    assert frames[..., :40].mean() < 0.9 * frames[..., 60:].mean()
    assert float((frames - again)[..., inner].abs().mean()) < 0.8  # nats, of about 3
    assert float(codec.encoder(torch.zeros(1, 1, 999)).abs().max()) == 0


def test_a_harmonic_codec_sees_as_far_as_it_says_and_no_further():
    torch.manual_seed(5)
    codec = registry.build("harmonic-codec", HARMONIC).eval()
    frames = torch.rand(1, codec.dimension, 41) * 3
    frames[:, codec.bands + 2 :] = 1.0
    other = frames.clone()
    other[:, : codec.bands, 20] += 2
    with torch.inference_mode():
        changed = (codec.decoder(frames) - codec.decoder(other))[0, 0].abs() > 1e-6
    where = changed.nonzero()[:, 0] // codec.hop
    reach = codec.decoder.reach
    assert 20 - reach <= int(where.min()) < 20 < int(where.max()) <= 20 + reach


def test_a_harmonic_codec_passes_a_voice_before_it_has_learnt():
    """Its first weights filter pulses and noise by every frame's own magnitudes."""
    torch.manual_seed(5)
    codec = registry.build("harmonic-codec", {}).eval()
    t = torch.arange(32_000) / 16_000
    x = sum(torch.sin(2 * torch.pi * 150 * k * t) / k for k in range(1, 20)) * (0.02 + 0.05 * (t > 1))
    frames = codec.encoder(x[None, None])
    frames[:, codec.bands :] = torch.tensor([0.0, 0.0, 1.0, 1.0])[:, None]  # 150 Hz
    with torch.inference_mode():
        sound = codec.decoder(frames)
        again = codec.encoder(sound)
    inner = slice(5, -5)
    spectra = frames[:, : codec.bands]
    assert spectra[..., :40].mean() < 0.9 * spectra[..., 60:].mean()
    assert float((spectra - again[:, : codec.bands])[..., inner].abs().mean()) < 0.8  # nats, of about 3
    peaks = torch.fft.rfft(sound[0, 0, -8000:] * torch.hann_window(8000)).abs()
    assert abs(int(peaks[40:110].argmax()) + 40 - 75) <= 1  # bins of 2 Hz: the first harmonic
    assert float(codec.decoder(torch.zeros(1, codec.dimension, 9)).abs().max()) < 0.02


def test_fewer_codebooks_are_the_first_ones(codec):
    x = torch.randn(1, 200)
    codes = codec.encode(x)
    assert torch.equal(codec.encode(x, 2), codes[:, :2])
    assert codec.decode(codes[:, :1]).shape == codec.decode(codes).shape


def test_foreign_codes_are_refused(codec):
    with pytest.raises(ModelError, match="out of bounds"):
        codec.decode(torch.full((1, 3, 4), 32))
    with pytest.raises(ModelError, match="3 codebooks"):
        codec.decode(torch.zeros(1, 4, 4, dtype=torch.int64))
    with pytest.raises(ModelError, match="3 codebooks"):
        codec.encode(torch.zeros(1, 99), 4)


@pytest.mark.parametrize("wrong", [{"ratios": []}, {"ratios": [0]}, {"ratios": ["8"]}, {"pad": "zero"}])
def test_settings_without_a_meaning_are_refused(wrong):
    with pytest.raises(ModelError):
        registry.build("seanet-codec", wrong)


def test_the_encodec_preset_is_the_encodec_24_khz_model():
    from slyther_cli.audio.torchaudio_compat import encodec

    architecture, config = registry.PRESETS["encodec-24khz"]
    ours = registry.build(architecture, config).eval()
    assert (ours.sample_rate, ours.frame_rate, ours.hop) == (24_000, 75, 320)
    theirs = encodec().EncodecModel._get_model([24.0], causal=True, model_norm="none").eval()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    x = torch.randn(1, 1, 5000) * 0.1
    with torch.inference_mode():
        expected = theirs.encode(x)[0][0][:, :8]
        assert torch.equal(ours.encode(x[:, 0], 8), expected)
        torch.testing.assert_close(ours.decode(expected), theirs.decode([(expected, None)])[:, 0])


@pytest.mark.parametrize("size", ["SEANet", "spectral", "harmonic"])
def test_a_saved_codec_loads_the_same(tmp_path, size):
    from slyther_cli.checkpoints import store

    kind = KINDS[size]
    architecture = "seanet-codec" if size == "SEANet" else f"{size}-codec"
    made = registry.build(architecture, kind).eval()
    store.save(tmp_path / "c", made, name="c", architecture=architecture, config=kind, task="codec")
    loaded, config = store.load(tmp_path / "c", expect_task="codec")
    x = torch.randn(1, 500)
    assert config.task == "codec" and torch.equal(loaded.encode(x), made.encode(x))
