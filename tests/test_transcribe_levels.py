"""The same words whatever the level, an offset, hum, bangs and the other channel do (tones.py)."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tones
from tones import RATE, SAID, record, transcribed
from tools import from_file_as_stdin

from slyther_cli.synthesis import prompt

pytestmark = pytest.mark.usefixtures("place")


def said():
    """SAID with silence around it: float32 [n]."""
    x, _ = tones.spoken(SAID)
    return np.concatenate([np.zeros(RATE // 2, np.float32), x, np.zeros(RATE // 2, np.float32)])


def with_bang(x):
    y = x.copy()
    y[1000:1200] = 5 * np.random.default_rng(0).standard_normal(200)
    return y


def with_outlier(x):
    y = x.copy()
    y[[2000, -3]] = 1e7, -1e9
    return y


def with_hum(x):
    return x + np.float32(0.2) * np.sin(2 * np.pi * 50 * np.arange(len(x)) / RATE).astype(np.float32)


CHANGES = {
    "quiet": lambda x: x * np.float32(10**-2.5),
    "loud": lambda x: x * np.float32(30),
    "offset": lambda x: x + np.float32(0.05),
    "quiet and offset": lambda x: x * np.float32(0.01) + np.float32(0.05),
    "hum": with_hum,
    "bang": with_bang,
    "outlier": with_outlier,
}


@pytest.mark.parametrize("model", ["tones", "live"])
@pytest.mark.parametrize("change", CHANGES)
def test_words_and_times_are_the_same(capfd, change, model):
    record("good.wav", x=said())
    record("bad.wav", x=CHANGES[change](said()))
    good, bad = (
        json.loads(transcribed(capfd, name, "-m", model, "-f", "json", "-q")[1])
        for name in ("good.wav", "bad.wav")
    )
    assert good["text"] == bad["text"] == " " + SAID
    assert [(s["start"], s["end"]) for s in good["segments"]] == [
        (s["start"], s["end"]) for s in bad["segments"]
    ]


def test_an_outlier_is_reported(capfd):
    record(x=with_outlier(said()))
    code, out, err = transcribed(capfd, "talk.wav")
    assert code == 0 and out == SAID + "\n" and "2 samples, the first at 0.12 s" in err


@pytest.mark.parametrize("gain", [1.0, 1e-3])
def test_a_stream_is_heard_at_any_level(capfd, monkeypatch, gain):
    file = io.BytesIO()
    sf.write(file, said() * gain, RATE, format="WAV", subtype="FLOAT")
    Path("talk.wav").write_bytes(file.getvalue())
    from_file_as_stdin(monkeypatch, "talk.wav")
    assert transcribed(capfd, "-", "-m", "live", "-q")[1] == SAID + "\n"


def test_a_quiet_channel_is_heard_beside_a_loud_one(capfd):
    quiet = np.concatenate([said() * np.float32(1e-3), np.zeros(len(said()), np.float32)])
    record(x=np.stack([quiet, np.roll(quiet * np.float32(3e3), len(said()))], 1))
    assert transcribed(capfd, "talk.wav", "--channel", "each", "-f", "srt", "-q")[1].count(SAID) == 2


def test_a_prompt_is_the_same_at_any_level():
    rng = np.random.default_rng(0)
    x = np.concatenate(
        [np.zeros(3000), 0.1 * rng.standard_normal(3 * RATE) * np.sin(np.arange(3 * RATE) / 2000)]
    )
    x = x.astype(np.float32)
    heard, clicked = [], x.copy()
    clicked[RATE] = 1e7
    for name, y in (("a", x), ("b", x * np.float32(1e-3)), ("c", clicked + np.float32(0.05))):
        sf.write(f"{name}.wav", y, RATE, subtype="FLOAT")
        heard.append(prompt._samples(f"{name}.wav", RATE, True)[0])
    assert len({len(y) for y in heard[:2]}) == 1 and np.abs(heard[0] - heard[1]).max() < 1e-4
    assert abs(len(heard[2]) - len(heard[0])) < 0.01 * RATE
    assert np.sqrt(np.mean(heard[2] ** 2)) == pytest.approx(np.sqrt(np.mean(heard[0] ** 2)), rel=0.02)
