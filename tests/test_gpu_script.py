"""``.ci/gpu``: what it packs is what a training needs, and its training runs, here on the CPU."""

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import test_speak_training
import test_training_separation
from speak_tools import VOICE, tiny_codec
from voices import corpus

from slyther_cli.research.training.codec_dataset import Encoding, SpokenCodes

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / ".ci/gpu"
spec = importlib.util.spec_from_file_location("gpu_pack", ROOT / ".ci/gpu_pack.py")
gpu_pack = importlib.util.module_from_spec(spec)
spec.loader.exec_module(gpu_pack)


def run(*words, **variables):
    environment = os.environ | {"PYTHON": sys.executable} | variables
    return subprocess.run(["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True)


def unpacked(parts, place):
    for archive in sorted(parts.glob("*/data.tar")):
        with tarfile.open(archive) as tar:
            tar.extractall(place, filter="data")
    return place


def test_the_script_says_what_it_does():
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    told = run()
    assert told.returncode == 2 and not told.stderr
    for verb in ("pack TASK CONFIG FOLDER", "check", "unpack", "train TASK MINUTES", "git restore weights"):
        assert verb in told.stdout


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("train-*.toml")), ids=lambda path: path.stem)
def test_settings_are_written_as_they_were_read(path):
    raw = tomllib.loads(path.read_text())
    assert tomllib.loads(gpu_pack.as_toml(raw)) == raw
    changed = gpu_pack.with_settings(raw, gpu_pack.asked(["loop.minutes=8", 'data.cache="x"', "new.a=[1.5]"]))
    again = tomllib.loads(gpu_pack.as_toml(changed))
    assert (again["loop"]["minutes"], again["data"]["cache"], again["new"]["a"]) == (8, "x", [1.5])


def test_a_training_is_packed_unpacked_and_run(tmp_path):
    corpus(tmp_path / "corpus")
    sf.write(tmp_path / "fan.wav", 0.01 * np.random.default_rng(0).standard_normal(16000), 16000)
    (tmp_path / "noise.tsv").write_text("path\tsplit\nfan.wav\ttrain\nfan.wav\tdev\n")
    text = test_training_separation.CONFIG.replace('"cache"', '"cache"\nnoises = ["noise.tsv"]')
    (tmp_path / "c.toml").write_text(text.replace("STEPS", "9"))
    parts, place = tmp_path / "parts", tmp_path / "run"
    gpu_pack.pack("separate", tmp_path / "c.toml", tmp_path, parts, {"mixing.noise": 0.5})
    assert sorted(p.name for p in parts.iterdir()) == ["separate1", "separate2"]
    assert all(p.stat().st_size > 10_000 for p in parts.glob("*/data.tar"))
    where = {"PARTS": str(parts), "RUN": str(place), "OUT": str(tmp_path / "out"), "DEVICE": "cpu"}
    settings = ("loop.steps=2", "batch.seconds=1.0", "mixing.recorded_noise=0.5")
    done = run("train", "separate", "3", *settings, **where)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out/last.tar.00") as tar:
        assert {"last/model.safetensors", "last/config.json", "log.jsonl"} <= set(tar.getnames())
    config = tomllib.loads((place / "separate.toml").read_text())
    assert config["mixing"] == {"noise": 0.5, "recorded_noise": 0.5} and config["loop"]["minutes"] == 3


def test_speakers_get_equal_shares(tmp_path):
    rows = ["path\tspeaker\tsplit"]
    for i in range(12):
        sf.write(tmp_path / f"{i}.wav", np.zeros(8000), 8000)
        rows.append(f"{i}.wav\t{'rare' if i == 7 else 'much'}\ttrain")
    sf.write(tmp_path / "dev.wav", np.zeros(8000), 8000)
    (tmp_path / "m.tsv").write_text("\n".join([*rows, "dev.wav\tx\tdev", "dev.wav\ty\ttest"]) + "\n")
    order = [row["speaker"] for _, _, row in gpu_pack.Rows(["m.tsv", "m.tsv"], tmp_path).fairly()]
    assert order[0] == "x" and set(order[1:3]) == {"rare", "much"} and order[3:] == ["much"] * 10


def test_a_voice_learns_from_codes_that_were_packed(tmp_path):
    test_speak_training.speech(tmp_path)
    codec = tiny_codec(tmp_path / "codec")
    model = "\n".join(f"{key} = {json.dumps(value)}" for key, value in VOICE.items())
    listed = '["manifest.tsv", "manifest.tsv"]'  # twice: it counts twice as much
    (tmp_path / "c.toml").write_text(
        f'codec = "codec"\n[model]\n{model}\n[data]\nmanifests = {listed}\ncache = "cache"\n'
    )
    gpu_pack.pack("speak", tmp_path / "c.toml", tmp_path, tmp_path / "parts", {})
    place = unpacked(tmp_path / "parts", tmp_path / "run")
    config = tomllib.loads((place / "speak.toml").read_text())
    assert config["codec"] == "models/codec" and (place / "models/codec/config.json").exists()
    assert config["data"]["manifests"] == ["speech/0/manifest.tsv"] * 2
    for split in ("train", "dev"):
        encoding = Encoding(codec, "key", tmp_path / "other")
        own, packed = (
            SpokenCodes([manifest], split, encoding, "arpabet", True)
            for manifest in (tmp_path / "manifest.tsv", place / "speech/0/manifest.tsv")
        )
        assert [item.codes.tolist() for item in own.items] == [item.codes.tolist() for item in packed.items]


def test_models_that_fill_the_parts_are_refused(tmp_path, monkeypatch):
    test_speak_training.speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    monkeypatch.setattr(gpu_pack, "LARGEST", 1000)
    (tmp_path / "c.toml").write_text('codec = "codec"\n[data]\nmanifests = ["manifest.tsv"]\n')
    with pytest.raises(SystemExit, match="weights shrink"):
        gpu_pack.pack("speak", tmp_path / "c.toml", tmp_path, tmp_path / "parts", {})
