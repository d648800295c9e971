"""Training a voice: times of phones fit their symbols, codes are made once, and a tiny voice learns its
sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speak_tools import VOICE, tiny_codec

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.voice import read_voice, write_voice
from slyther_cli.english.phonemes import ALPHABETS, spell
from slyther_cli.errors import InputError, ModelError
from slyther_cli.models.vall_sampling import Voice
from slyther_cli.research.training.codec_dataset import Encoding, SpokenCodes, at_level
from slyther_cli.research.training.phone_times import parse_phones, symbol_durations


def speech(folder: Path, count: int = 6) -> Path:
    """Tones for vowels and noise for the rest, with the times of the phones."""
    rng, lines = np.random.default_rng(0), ["path\tspeaker\tsplit\ttranscript\tphones"]
    for i in range(count):
        phones, sound, at = [], [], 0.0
        for name, length in (
            ("pau", 0.1),
            ("n", 0.1),
            ("ow", 0.3),
            ("pau", 0.06),
            ("y", 0.1),
            ("eh", 0.2),
            ("s", 0.2),
        ):
            at += length * (1 + 0.1 * i)
            phones.append(f"{name}:{at:.3f}")
            t = np.arange(round(at * 16000) - sum(map(len, sound))) / 16000
            tone = (
                np.sin(2 * np.pi * 300 * (1 + len(name)) * t)
                if name in ("ow", "eh")
                else rng.normal(size=len(t))
            )
            sound.append((0 if name == "pau" else 0.1) * tone)
        soundfile.write(folder / f"{i}.wav", np.concatenate(sound), 16000)
        lines.append(f"{i}.wav\tme\t{'dev' if i == 0 else 'train'}\tNo, yes.\t{' '.join(phones)}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.tsv"


def test_symbols_last_as_long_as_their_phones():
    symbols = spell("No, the yes.", "arpabet").symbols
    phones = parse_phones("pau:0.2 n:0.3 ow:0.5 pau:0.6 dh:0.7 ax:0.8 y:1.0 eh:1.2 s:1.4 pau:1.5")
    lasting = symbol_durations(symbols, phones, 77, 50)
    names = [ALPHABETS["arpabet"][s] for s in symbols]
    assert lasting.sum() == 77 and lasting[0] == 10  # the silence before
    told = {n: int(d) for n, d in zip(names, lasting, strict=True) if n != " "}
    assert told == {"N": 5, "OW1": 10, ",": 5, "DH": 5, "AH0": 5, "Y": 10, "EH1": 10, "S": 10, ".": 7}
    assert symbol_durations(symbols, parse_phones("k:0.1 t:0.2 p:0.3"), 15, 50) is None
    assert symbol_durations(symbols, parse_phones("damaged words"), 15, 50) is None


def test_codes_are_made_once_and_only_of_what_fits(tmp_path: Path):
    manifest, codec = speech(tmp_path), tiny_codec(tmp_path / "codec")
    settings = ([manifest], "train", Encoding(codec, "key", tmp_path / "cache"), "arpabet", True)
    first = SpokenCodes(*settings)
    assert len(first.items) == 5 and first.left_out == 0
    for item in first.items:
        assert item.durations.sum() == len(item.codes) and item.codes.shape[1] == 3
    codec.encode = lambda samples: pytest.fail("encoded again")
    again = SpokenCodes(*settings)
    assert all((a.codes == b.codes).all() for a, b in zip(first.items, again.items, strict=True))
    batch = again.batch(np.random.default_rng(1), 500, join=1.0)
    assert (batch.durations.sum(1) == batch.n_frames).all() and len(batch.symbols) > 1
    with pytest.raises(InputError, match="split 'nothing'"):
        SpokenCodes([manifest], "nothing", *settings[2:])
    loud = at_level(np.concatenate((np.zeros(9000), np.ones(9000))).astype(np.float32))
    assert abs(loud[-1] - 10 ** (-25 / 20)) < 1e-4 and not at_level(np.zeros(9)).any()


@pytest.mark.parametrize("conditioning", ["aligned", "encoder"])
def test_a_voice_is_trained_from_the_command_line(tmp_path: Path, capsys, conditioning):
    speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**VOICE, "conditioning": conditioning}.items())
    (tmp_path / "c.toml").write_text(
        f'codec = "codec"\n[model]\n{model}\n[data]\nmanifests = ["manifest.tsv"]\ncache = "cache"\n[batch]\n'
        "frames = 150\n[loop]\nsteps = 12\nwarmup = 1\nlr = 0.02\naverage = 0.0\nlog_seconds = 0.0\n"
    )
    assert main(["train", "speak", "-c", str(tmp_path / "c.toml"), "-o", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run/best")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [e["loss"] for e in log if e["event"] == "train"]
    assert np.mean(losses[-3:]) < losses[0] - 0.3
    _, config = store.load(tmp_path / "run/best", expect_task="speak")
    assert config.config["codec"] == "tiny"
    voice = read_voice(tmp_path / "run/best", 80, 3, 16, conditioning == "aligned")
    assert voice is not None and voice.symbols.tolist() == list(spell("No, yes.", "arpabet").symbols)


def test_a_codec_of_another_shape_is_refused(tmp_path: Path, capsys):
    speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    (tmp_path / "c.toml").write_text(
        'codec = "codec"\n[model]\npreset = "vall-m-small"\n[data]\nmanifests = ["x"]\n'
    )
    assert main(["train", "speak", "-c", str(tmp_path / "c.toml"), "-o", str(tmp_path / "run")]) == 5
    assert "set them alike" in capsys.readouterr().err


def test_a_voice_that_does_not_fit_is_refused(tmp_path: Path):
    assert read_voice(tmp_path, 80, 3, 16, False) is None
    write_voice(tmp_path, Voice(torch.tensor([1, 79]), torch.tensor([[1, 2]] * 3), torch.tensor([0, 2])))
    assert read_voice(tmp_path, 80, 3, 16, True).durations.tolist() == [0, 2]
    for bad in ((79, 3, 16, True), (80, 2, 16, True), (80, 3, 2, True)):
        with pytest.raises(ModelError, match="does not fit"):
            read_voice(tmp_path, *bad)
    (tmp_path / "voice.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        read_voice(tmp_path, 80, 3, 16, True)
