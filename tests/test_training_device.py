"""Training on a GPU: a few steps of each kind, on one that is pretended, with ``-m gpu`` on a real one."""

import contextlib
import json

import numpy as np
import pytest
import soundfile as sf
import test_harmonic_codec
import test_speak_training
import test_training_recognition
import test_training_separation
import torch
from pretend_cuda import OnDevice, pretend_cuda
from speak_tools import VOICE, tiny_codec
from test_codec_training import run  # noqa: F401  (a fixture)
from tone_speech import RATE, spoken
from voices import corpus

from slyther_cli.checkpoints import store
from slyther_cli.research.training import codec, loop, recognition, separation, speech

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*(pin_memory|fork)"),
]


REAL = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(params=["pretended", pytest.param("real", marks=REAL)])
def trained(request, monkeypatch):
    """``trained(training, folder, configuration)``: a run that must succeed."""
    device = contextlib.nullcontext
    if request.param == "pretended":
        device = pretend_cuda
        monkeypatch.setattr(loop._Run, "_save", lambda run: None)  # such tensors have no storage to be saved

    def train(training, folder, text):
        (folder / "c.toml").write_text(text)
        events = []
        with device():
            training.train(folder / "c.toml", folder / "run", False, events.append, 1, "cuda")
        assert [e["event"] for e in events if e["event"] != "train"] == ["start", "validate"]
        assert all(np.isfinite(e["loss"]) for e in events if e["event"] == "train")
        assert all(p.isfinite().all() for p in store.load(folder / "run/best")[0].parameters())

    return train


def test_the_pretended_device_refuses_what_a_device_would():
    with pretend_cuda():
        x = torch.nn.Linear(2, 3).to("cuda")(torch.ones(4, 2, device="cuda"))
        assert isinstance(x, OnDevice) and x.device.type == "cuda" and x.new_zeros(2).is_cuda
        for mixed in (lambda: x + torch.ones(3), lambda: torch.ones(4)[x[:, 0].long()], lambda: x.numpy()):
            with pytest.raises((RuntimeError, TypeError), match="cuda:0"):
                mixed()
        x.square().sum().backward()
        assert x.detach().cpu().numpy().shape == (4, 3)


def test_a_separator(tmp_path, trained):
    corpus(tmp_path / "corpus")
    text = test_training_separation.CONFIG.replace("STEPS", "3").replace("[0.25, 0.5]", "[0.25]")
    text = text.replace("dev_examples = 4", "dev_examples = 1").replace("seconds = 1.0", "seconds = 0.5")
    text = text.replace("[batch]\n", "[batch]\nvoices = 5.0\nsaturate_db = 20.0\nfloor_db = -10.0\n")
    trained(separation, tmp_path, text + "[mixing]\nalone = 0.5\n")


@pytest.mark.parametrize("decoder", ["none", "mamba"])
def test_a_recogniser(tmp_path, trained, decoder):
    rng, lines = np.random.default_rng(0), ["path\tspeaker\tsplit\ttranscript"]
    for i in range(8):
        sf.write(tmp_path / f"{i}.wav", spoken("ab ba", rng), RATE)
        lines.append(f"{i}.wav\ts{i}\t{'dev' if i > 5 else 'train'}\tab ba")
    (tmp_path / "manifest.tsv").write_text("\n".join(lines) + "\n")
    text = test_training_recognition.CONFIG.replace("STEPS", "3").replace('"none"', f'"{decoder}"')
    text = text.replace("n_heads = 2", "n_heads = 2\nn_decoder_layers = 1")
    extra = "" if decoder == "mamba" else "consistency = 0.2\nchannel_dropout = 0.1\n"
    trained(recognition, tmp_path, text.replace("[batch]\n", f"[batch]\n{extra}"))


def test_a_codec_with_discriminators(run, trained, monkeypatch):  # noqa: F811
    monkeypatch.setattr(codec, "teach", lambda tracker, *rest: {})
    trained(codec, run, test_harmonic_codec.adversarial(run))


@pytest.mark.parametrize("conditioning", ["aligned", "prefix"])
def test_a_voice(tmp_path, trained, conditioning):
    test_speak_training.speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**VOICE, "conditioning": conditioning}.items())
    text = (
        f'codec = "codec"\n[model]\n{model}\n[data]\nmanifests = ["manifest.tsv"]\ncache = "cache"\n[batch]\n'
        "frames = 150\njoin = 0.5\n[loop]\nsteps = 3\nwarmup = 1\nlog_seconds = 0.0\n"
    )
    trained(speech, tmp_path, text)
