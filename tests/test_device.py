"""What a GPU gives is what a CPU gives: the three commands, with the shipped models (``-m gpu``)."""

from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from slyther_cli import separate, speak, transcribe
from slyther_cli.checkpoints import store
from slyther_cli.english.phonemes import spell
from slyther_cli.models.vall_sampling import Sampling, Voicing
from slyther_cli.synthesis.voices import built_in_voice, choose_speech_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
EXAMPLES = Path(__file__).parents[1] / "examples"
TEXT = "The ferry leaves at a quarter to ten, and nobody waits."
DEVICES = ("cpu", "cuda")


def test_stems_differ_by_a_step_of_16_bits_at_most(tmp_path):
    stems = []
    for device in DEVICES:
        (result,) = separate([EXAMPLES / "two_voices.flac"], tmp_path / device, device=device)
        assert result.status == "done", result.error
        files = [result.outputs[name] for name in ("s1", "s2")]
        stems.append(np.stack([sf.read(file, dtype="int16")[0].astype(int) for file in files]))
    assert np.abs(stems[0]).max() > 1000 and np.abs(stems[0] - stems[1]).max() <= 1


@pytest.mark.parametrize("name", ["voice_1", "voice_2"])
def test_the_same_words_at_the_same_times(name):
    words = []
    for device in DEVICES:
        (result,) = transcribe(EXAMPLES / f"{name}.flac", device=device)
        assert result.status == "done", result.error
        words.append([word for segment in result.segments for word in segment["words"]])
    one, other = ([word["word"] for word in each] for each in words)
    assert len(one) > 10 and one == other
    for a, b in zip(*words, strict=True):
        assert abs(a["start"] - b["start"]) <= 0.04 and abs(a["end"] - b["end"]) <= 0.04  # a frame


def test_the_same_codes():
    codes = []
    for device in DEVICES:
        config = choose_speech_model(None)
        network = store.load(config.path, expect_task="speak")[0].to(device)
        voicing = Voicing(network, built_in_voice(config, network), Sampling())
        symbols = torch.tensor(spell(TEXT, network.config.alphabet).symbols)
        codes.append(voicing.say(symbols, voicing.start(), seed=1).codes.cpu())
    one, other = codes
    assert one.shape == other.shape and one.shape[1] > 100
    assert torch.equal(one[0], other[0])  # what is said, and when
    assert (one == other).float().mean() > 0.99  # what rounding leaves undecided is one code in hundreds


def test_nearly_the_same_sound(tmp_path):
    sounds = []
    for device in DEVICES:
        speak(TEXT, tmp_path / f"{device}.wav", seed=1, device=device)
        sounds.append(sf.read(tmp_path / f"{device}.wav")[0])
    one, other = sounds
    assert len(one) == len(other) > 16_000
    assert np.square(one - other).mean() < 1e-3 * np.square(one).mean()  # 30 dB


@pytest.mark.parametrize("name", ["codec-16k", "codec-16k-harmonic"])
def test_a_codec_gives_the_same_codes_and_sound(name):
    samples = torch.from_numpy(sf.read(EXAMPLES / "voice_1.flac", dtype="float32")[0])[None]
    codec = store.load(name, expect_task="codec")[0]
    codes, sound = codec.encode(samples), codec.decode(codec.encode(samples))
    codec.to("cuda")
    assert (codec.encode(samples.cuda()).cpu() == codes).float().mean() > 0.99
    torch.testing.assert_close(codec.decode(codes.cuda()).cpu(), sound, rtol=0, atol=1e-3)
