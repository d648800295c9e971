"""The three commands on a pretended device: tensors are where they should be, and results are a CPU's."""

import contextlib
import types

import numpy as np
import pytest
import soundfile as sf
import tones
import torch
from longform_tools import small_model
from pretend_cuda import pretend_cuda
from speak_tools import tiny_voices

from slyther_cli import separate, speak, transcribe
from slyther_cli.checkpoints import store
from slyther_cli.longform import plan
from slyther_cli.separation import job as separation_job
from slyther_cli.synthesis import job as speech_job
from slyther_cli.transcription import work as transcription_work

pytestmark = pytest.mark.usefixtures("place", "one_thread")


@pytest.fixture
def on_both(monkeypatch):
    """``on_both(command)``: what ``command(device)`` gives on the CPU and on the device."""
    for module in (separation_job, speech_job, transcription_work):
        monkeypatch.setattr(module, "pick_device", str)
    monkeypatch.setattr(plan, "available_on", lambda device: 1 << 33)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "pretended")
    calls = ("record_event", "synchronize", "wait_event")
    stream = types.SimpleNamespace(**dict.fromkeys(calls, lambda *others: None))
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, lambda device=None: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())

    def run(command):
        here = command("cpu")
        with pretend_cuda():
            return here, command("cuda:0")

    return run


def test_transcribing(on_both):
    tones.record()
    (here,), (there,) = on_both(lambda device: transcribe("talk.wav", device=device))
    assert not there.error and here.text.strip() == tones.SAID
    assert (there.text, there.segments) == (here.text, here.segments)


@pytest.mark.parametrize("model", ["aligned", "prefix"])
def test_speaking(tmp_path, on_both, model):
    tiny_voices(tmp_path / "voices")

    def said(device):
        file = f"{device[:3]}.wav"
        speak("Yes, no. Yes.", file, model=tmp_path / "voices" / model, device=device, seed=1)
        return sf.read(file)[0]

    here, there = on_both(said)
    assert len(here) == len(there) > 8000
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-3)


def test_separating(tmp_path, on_both):
    network = small_model(stride=8)
    about = {"architecture": "mamba-tasnet", "config": vars(network.config), "task": "separate"}
    store.save(tmp_path / "small", network, name="small", **about)
    sf.write("two.wav", 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)

    def stems(device):
        options = {"model": tmp_path / "small", "device": device}
        (result,) = separate(["two.wav"], tmp_path / device[:3], **options)
        assert result.status == "done", result.error
        return np.stack([sf.read(result.outputs[name])[0] for name in ("s1", "s2")])

    here, there = on_both(stems)
    assert np.abs(here).max() > 0.01
    np.testing.assert_allclose(here, there, rtol=0, atol=1e-3)
