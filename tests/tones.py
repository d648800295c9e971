"""A recogniser of known answers: a ConMamba whose weights, set by hand, write a letter for a tone.

A tone of 100 ms or more is its letter, silence and everything else is blank. Between two equal letters there
must be a gap of silence.
"""

import contextlib
import math
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from tools import run_command

from slyther_cli.checkpoints import store
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.models import registry
from slyther_cli.research.language.kneser_ney import train

SAID = "hello abide all deal"
RATE = 16_000
LETTERS = " abcdehilo"  # one a tone, from low to high
BANDS = range(4, 4 + len(LETTERS))  # of the 20 that are left after two strides
BEEP, GAP = 0.1, 0.06  # seconds of a letter and after it


def frequency(letter):
    """Hz: the centre of mel band 4 * band of 80 from 0 to 8000 Hz."""
    top = 2595 * math.log10(1 + 8000 / 700)
    band = 4 * BANDS[LETTERS.index(letter)]
    return 700 * (10 ** ((band + 1) * top / 81 / 2595) - 1)


def beep(letter, seconds=BEEP, rate=RATE):
    """float32 [n]"""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency(letter) * t)).astype(np.float32)


def spoken(text, rate=RATE):
    """``text`` as tones: float32 [n]. Also (start, end) in seconds of every word."""
    parts, words, at = [], [], 0
    for i, word in enumerate(text.split()):
        for j, letter in enumerate((" " if i else "") + word):
            if letter != " " and (j == 0 or (j == 1 and i)):
                start = at
            for x in (beep(letter, rate=rate), np.zeros(round(GAP * rate), np.float32)):
                parts.append(x)
                at += len(x)
        words.append((start / rate, at / rate - GAP))
    return np.concatenate(parts) if parts else np.zeros(0, np.float32), words


def network(causal=False, layers=2):
    d = 2 * len(LETTERS) + 2
    config = {
        "n_fft": 512, "window": 400, "d_model": d, "n_layers": layers, "d_ffn": 8, "d_state": 4,
        "decoder": "none", "vocab": len(LETTERS) + 1, "max_positions": 1, "causal": causal,
    }  # fmt: skip
    model = registry.build("conmamba", config)
    with torch.no_grad():
        for block in model.frontend.blocks:  # every second band of every second frame, in all channels
            conv = block.convs.conv_0.conv
            conv.weight.zero_()
            conv.weight[:, 0, 1, 1] = 1
            conv.bias.zero_()
        for layer in model.transformer.encoder.layers:  # nothing is added to what comes in
            for module in (layer.ffn_module1, layer.ffn_module2, layer.convolution_module):
                last = [m for m in module.modules() if isinstance(m, torch.nn.Linear)][-1]
                last.weight.zero_()
                last.bias.zero_()
            layer.mamba.out_proj.weight.zero_()
        entering = model.transformer.custom_src_module.layers[0].w
        entering.weight.zero_()
        entering.bias.zero_()
        ctc = model.ctc_lin.w
        ctc.weight.zero_()
        ctc.bias.zero_()
        for i, band in enumerate(BANDS):  # the last two say how high a band must stand out
            entering.weight[2 * i, band * 32] = 1
            entering.weight[2 * i + 1, band * 32] = -1
            ctc.weight[i + 1, 2 * i], ctc.weight[i + 1, -2] = 20, -20
        entering.bias[-2:] = torch.tensor([2.9, -2.9])
    return model.eval(), config


def save(folder, name="tones", causal=False, **more):
    model, config = network(causal)
    tokenizer = CharTokenizer(LETTERS)
    how = {"companions": tokenizer.save} | more
    return store.save(
        Path(folder) / name,
        model,
        name=name,
        architecture="conmamba",
        config=config,
        task="transcribe",
        **how,
    )


def cache(folder):
    """Three models in a folder: "tones", "live" (causal), and "taught" (with a language model)."""
    save(folder)
    save(folder, "live", causal=True)
    language = train(["hello abide", "all deal", SAID], 2)

    def companions(place):
        CharTokenizer(LETTERS).save(place)
        language.save(place / "lm.bin")

    save(folder, "taught", companions=companions, decoding={"beam": 8, "lm_weight": 0.3})
    return folder


@contextlib.contextmanager
def at_home(folder, monkeypatch, models):
    """In ``folder``, with the models of that cache, one thread."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SLYTHER_CACHE", str(models))
    for module in ("job", "options"):
        monkeypatch.setattr(f"slyther_cli.transcription.{module}.DEFAULT_MODEL", "tones")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# The command


def record(name="talk.wav", text=SAID, rate=16_000, x=None, **how):
    """A recording of ``text``; (start, end) of its words in seconds."""
    said, words = spoken(text, rate)
    x = said if x is None else x
    sf.write(name, x, rate, **({"subtype": "FLOAT"} if name.endswith(".wav") else {}) | how)
    return words


def transcribed(capfd, *args):
    """(exit code, stdout, stderr) of `slyther transcribe`."""
    return run_command(capfd, "transcribe", *args)
