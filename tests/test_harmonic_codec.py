"""The codec with pitch: its source of pulses and noise, its tracker and codebook, its training."""

import json
import math

import numpy as np
import pytest
import torch
from test_codec_training import run, voices  # noqa: F401  (run: a fixture)

from slyther_cli.app import main
from slyther_cli.layers.pitch import MIDDLE, N_CLASSES, Excitation, PitchTracker, classes, octaves, pulses
from slyther_cli.models.codec import CodecDecoder, CodecEncoder, HarmonicCodec, HarmonicCodecConfig
from slyther_cli.research.training import pitch as training
from slyther_cli.research.training.adversarial import Discriminators, balanced

SMALL = {"n_mels": 40, "d_model": 32, "d_ffn": 64, "n_layers": 2, "d_pitch": 16, "n_pitch_layers": 1}


def small_codec(seed: int = 0) -> HarmonicCodec:
    """With random codebooks whose pitches are those of voices."""
    torch.manual_seed(seed)
    codec = HarmonicCodec(HarmonicCodecConfig(**SMALL, n_codebooks=3, codebook_size=32)).eval()
    codec.pitch_codes.normal_(std=0.5)
    codec.pitch_codes[:, 2:] = (torch.randn(32, 2) > -0.5).float()
    for layer in codec.quantizer.vq.layers:
        layer._codebook.embed.normal_()
    torch.nn.init.normal_(codec.decoder.head.weight, std=0.3)
    return codec


def test_pulses_are_the_sum_of_all_harmonics():
    phase, frequency = torch.linspace(0, 0.999, 401), torch.full((401,), 210 / 16_000)
    count = 0.5 * 16_000 / 210  # 38.1
    wanted = sum(torch.cos(2 * math.pi * k * phase) for k in range(1, 39))
    wanted = wanted + (count - 38) * torch.cos(2 * math.pi * 39 * phase)
    torch.testing.assert_close(
        pulses(phase, frequency), wanted * 2 * math.sqrt(210 / 16_000), rtol=1e-3, atol=2e-3
    )


@pytest.mark.parametrize("hertz", [80.0, 220.5, 400.0])
def test_the_source_sounds_at_the_pitch_and_is_as_loud_as_the_noise(hertz):
    pitch = torch.full((1, 200), math.log2(hertz / MIDDLE))
    sound = Excitation(16_000, 160)(pitch, torch.ones(1, 200))[0]
    x = sound[0, 800:-800]
    spectrum = torch.fft.rfft(x * torch.hann_window(len(x))).abs()
    lowest = int(spectrum[: int(1.4 * hertz * len(x) / 16_000)].argmax()) * 16_000 / len(x)
    assert abs(lowest - hertz) < 1
    assert abs(10 * math.log10(x.square().mean() / sound[1].square().mean())) < 0.7


def test_unvoiced_steps_have_no_pulses():
    voicing = torch.tensor([[0.0, 0, 1, 1, 0, 0]])
    sound = Excitation(16_000, 160)(torch.zeros(1, 6), voicing)[0, 0]
    assert not sound[:320].any() and not sound[800:].any() and sound[320:640].abs().max() > 0.5


@pytest.mark.parametrize("sizes", [1, 5, 13])
def test_pieces_equal_the_whole(sizes):
    codec = small_codec()
    x = voices(2, 16_000 + 77)
    codes = codec.encode(x)
    encoder, pieces = CodecEncoder(codec, batch=2), []
    for piece in x.split(321 * sizes, 1):
        pieces.append(encoder.push(piece))
    assert torch.equal(torch.cat([*pieces, encoder.flush()], 2), codes)

    codes = torch.randint(32, (2, 3, 90), generator=torch.Generator().manual_seed(1))
    whole = codec.decode(codes)
    decoder, pieces = CodecDecoder(codec, batch=2), []
    for piece in codes.split(sizes, 2):
        pieces.append(decoder.push(piece))
    made = torch.cat([*pieces, decoder.flush()], 1)
    assert made.shape == (2, 90 * 320) and whole.abs().max() > 0.05
    torch.testing.assert_close(made, whole, rtol=0, atol=1e-5)


def test_the_first_codebook_is_the_pitch():
    codec = small_codec()
    codes = codec.encode(voices(1, 8000))
    frames = codec.embed(codes)
    torch.testing.assert_close(frames[0, codec.bands :].T, codec.pitch_codes[codes[0, 0]])
    assert torch.equal(codec.encode(voices(1, 8000), 1), codes[:, :1])
    assert codec.embed(codes[:, :1])[:, : codec.bands].abs().max() == 0


def test_classes_are_read_back_as_hertz():
    hertz = torch.tensor([60.0, 103.3, 250.0, 480.0])
    logits = -0.5 * ((torch.arange(N_CLASSES) - classes(hertz)[:, None]) / training.WIDTH) ** 2
    torch.testing.assert_close(MIDDLE * 2 ** octaves(logits), hertz, rtol=3e-3, atol=0)


def test_a_tracker_learns_the_pitch_of_voices(monkeypatch):
    rng, speech, pitches = np.random.default_rng(0), [], []
    for _ in range(80):
        hertz = float(rng.uniform(80, 350))
        pitch = torch.full((1, 100), math.log2(hertz / MIDDLE))
        voiced = torch.ones(1, 100)
        voiced[:, 70:] = 0
        sound = Excitation(16_000, 160)(pitch, voiced)[0]
        speech.append((0.03 * sound[0] + 0.002 * sound[1]).numpy())
        pitches.append(np.where(voiced[0] > 0, np.float32(hertz), np.float32(0)))
    given = iter(pitches)
    monkeypatch.setattr(training, "praat_pitch", lambda *_: next(given))
    torch.manual_seed(0)
    tracker = PitchTracker(16_000, 320, 2, d=48, n_layers=1)
    learnt = training.teach(tracker, np.stack(speech), 16_000, steps=150, seed=0, batch=8)
    assert learnt["within"] > 0.8 and learnt["voicing"] > 0.9


def test_praat_finds_the_pitch():
    pytest.importorskip("parselmouth", reason="praat-parselmouth is not installed")
    pitch = torch.full((1, 100), math.log2(123 / MIDDLE))
    sound = Excitation(16_000, 160)(pitch, (torch.arange(100) < 60).float()[None])[0, 0]
    found = training.praat_pitch(0.05 * sound.numpy(), 16_000, 160)
    assert found.shape == (100,) and np.nanmedian(found[5:50]) == pytest.approx(123, rel=0.01)
    assert not found[70:95].any()


def test_a_codebook_of_pitches_has_silence_first_and_every_pattern():
    rng = torch.Generator().manual_seed(0)
    voiced = (torch.rand(3000, 2, generator=rng) > 0.3).float()
    frames = torch.cat((torch.randn(3000, 2, generator=rng).clamp(-1, 1) * voiced, voiced), 1)
    codes = training.pitch_codebook(frames, 64, 0)
    assert codes.shape == (64, 4) and not codes[0].any()
    patterns = {tuple(row) for row in codes[1:, 2:].round().tolist()}
    assert patterns == {(1.0, 1.0), (0.0, 1.0), (1.0, 0.0)}
    assert (codes[:, 2:] - codes[:, 2:].round()).abs().max() < 1e-5  # no code mixes them
    assert not codes[:, :2][codes[:, 2:] == 0].any()


def test_gradients_are_balanced():
    at = torch.tensor([1.0, 2.0], requires_grad=True)
    total = balanced([(3.0, 1000 * at[0]), (1.0, 0.001 * at[1])], at)
    torch.testing.assert_close(total, torch.tensor([0.75, 0.25]))


def test_discriminators_tell_noise_from_voices():
    torch.manual_seed(0)
    critics = Discriminators(sizes=(256,), periods=(3,), width=4)
    optimizer = torch.optim.AdamW(critics.parameters(), lr=3e-3)
    for i in range(30):
        real = voices(4, 4000, seed=i)
        passes, features, own = critics.losses(0.05 * torch.randn_like(real), real)
        optimizer.zero_grad()
        own.backward()
        optimizer.step()
    assert float(own.detach()) < 0.5 and float(passes.detach()) > 0.5 and float(features.detach()) > 0.1
    same = critics.losses(real, real)
    assert float(same[1].detach()) < 1e-6


def test_a_harmonic_codec_keeps_its_codes_and_comes_nearer(run, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(training, "praat_pitch", lambda x, rate, step: np.full(len(x) // step, 150, "f4"))
    text = (run / "c.toml").read_text()
    start, end = text.index("architecture"), text.index("[data]")
    model = "\n".join(f"{k} = {v}" for k, v in SMALL.items())
    model += "\nn_codebooks = 3\ncodebook_size = 32\n"
    text = f"{text[:start]}[model]\n{model}{text[end:].replace('1e-4', '3e-3')}"
    text = text.replace("[batch]\n", "[batch]\npitch_examples = 20\npitch_steps = 3\n")
    text += "\n[losses]\nlinear = true\n"
    (run / "s.toml").write_text(text.replace("steps = 6", "steps = 30"))
    assert main(["train", "codec", "-c", str(run / "s.toml"), "-o", str(run / "s"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    losses = [e["loss"] for e in events if e["event"] == "train"]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:3])


def adversarial(folder) -> str:
    """The configuration of ``run`` in ``folder``, with discriminators from its fourth step."""
    text = (folder / "c.toml").read_text()
    start, end = text.index("architecture"), text.index("[data]")
    model = "\n".join(f"{k} = {v}" for k, v in SMALL.items())
    text = (
        f'{text[:start]}architecture = "harmonic-codec"\n[model]\n{model}\nn_codebooks = 3\n'
        f"codebook_size = 16\n{text[end:].replace('1e-4', '3e-3')}"
        "[losses]\nadversarial = 1.0\nfeatures = 1.0\nadversarial_from = 3\n"
        "adversarial_seconds = 0.2\nwidth = 4\n"
    )
    return text.replace("[batch]\n", "[batch]\npitch_examples = 20\npitch_steps = 3\n")


def test_a_harmonic_codec_is_trained_with_discriminators_and_resumes(run, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr(training, "praat_pitch", lambda x, rate, step: np.full(len(x) // step, 150, "f4"))
    text = adversarial(run)
    (run / "c.toml").write_text(text)
    assert main(["train", "codec", "-c", str(run / "c.toml"), "-o", str(run / "out"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert all(np.isfinite(e["loss"]) for e in events if e["event"] == "train")
    (run / "c.toml").write_text(text.replace("steps = 6", "steps = 9"))
    assert main(["train", "codec", "-c", str(run / "c.toml"), "-o", str(run / "out"), "--resume", "-q"]) == 0
    from slyther_cli.checkpoints import store

    codec, _ = store.load(run / "out/best", expect_task="codec")
    x = voices(1, 6400, seed=5)
    assert codec.decode(codec.encode(x)).shape == x.shape
    assert not any("discriminators" in name for name in codec.state_dict())
