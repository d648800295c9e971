"""The voices that come with a model: chosen by name, listed, and missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from safetensors.torch import load_file, save_file
from speak_tools import tiny_voices

from slyther_cli.app import main


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    return tiny_voices(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))


def speak(*arguments: object) -> int:
    return main(["speak", *map(str, arguments)])


def without_names(models: Path, place: Path) -> Path:
    """The model as it was before voices had names: the first one's tensors, and nothing in the config."""
    shutil.copytree(models, place)
    config = json.loads((place / "aligned/config.json").read_text())
    del config["voices"]
    (place / "aligned/config.json").write_text(json.dumps(config))
    found = load_file(place / "aligned/voice.safetensors")
    mine = {key[4:]: tensor for key, tensor in found.items() if key.startswith("ann/")}
    save_file(mine, place / "aligned/voice.safetensors")
    return place / "aligned"


@pytest.mark.parametrize("model", ["aligned", "prefix"])
def test_a_voice_is_chosen_by_its_name(models, model, capsys):
    base = ["Hello there.", "-m", models / model, "--guard", "none"]
    assert speak(*base, "-o", "a.wav", "-q") == speak(*base, "-o", "b.wav", "-q", "--voice", "ann") == 0
    assert speak(*base, "-o", "c.wav", "-v", "--voice", "bob") == 0
    assert "voice bob" in capsys.readouterr().err
    first, same, other = (soundfile.read(f"{name}.wav")[0] for name in "abc")
    assert np.array_equal(first, same)
    assert len(first) != len(other) or not np.array_equal(first, other)


def test_voices_are_listed(models, capsys):
    assert speak("--list-voices", "-m", models / "aligned") == 0
    head, *rows = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head == ["voice", "sex", "accent"]
    assert rows == [["ann", "female", "British", "default"], ["bob", "-", "-"]]
    assert speak("--list-voices", "-m", models / "aligned", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(e["name"], e["default"]) for e in found] == [("ann", True), ("bob", False)]
    assert found[0]["sex"] == "female" and "sex" not in found[1] and found[0]["model"] == "aligned"


def test_a_folder_from_before_voices_had_names_speaks_as_it_did(models, tmp_path, capsys):
    old = without_names(models, tmp_path / "old")
    base = ["Hello there.", "--guard", "none", "-q", "-m"]
    assert speak(*base, models / "aligned", "-o", "a.wav") == speak(*base, old, "-o", "b.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert speak(*base, old, "-o", "b.wav", "--force", "--voice", "default") == 0
    assert speak(*base, old, "-o", "b.wav", "--force", "--voice", "ann") == 2
    assert "has no voice 'ann', only default" in capsys.readouterr().err
    assert speak("--list-voices", "-m", old) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["default", "-", "-", "default"]
    (old / "voice.safetensors").unlink()
    assert speak(*base, old, "-o", "b.wav", "--force", "--voice", "ann") == 2
    assert "has no voices of its own: leave --voice out, or take --prompt" in capsys.readouterr().err
    assert speak("--list-voices", "-m", old) == 0
    said = capsys.readouterr()
    assert not said.out and "has no voices of its own" in said.err


def test_a_voice_that_the_config_names_and_the_file_lacks_is_told(models, tmp_path, capsys):
    shutil.copytree(models, tmp_path / "damaged")
    folder = tmp_path / "damaged/aligned"
    config = (folder / "config.json").read_text().replace('"bob"', '"eve"')
    (folder / "config.json").write_text(config)
    assert speak("Hi.", "-m", folder, "--guard", "none", "-q", "--voice", "eve") == 5
    err = capsys.readouterr().err
    assert "voice eve does not fit the model" in err and len(err.splitlines()) == 1


def test_the_voice_comes_from_the_settings_unless_a_prompt_is_named(models, tmp_path, capsys):
    (tmp_path / "s.toml").write_text(
        f'[speak]\nvoice = "bob"\nguard = "none"\nmodel = "{models / "aligned"}"\n'
    )
    assert main(["--config", "s.toml", "speak", "Hi.", "-v"]) == 0
    assert "voice bob" in capsys.readouterr().err
    noise = 0.1 * np.random.default_rng(0).standard_normal(32000)
    soundfile.write("me.wav", noise, 16000)
    prompt = ["--prompt", "me.wav", "--prompt-text", "I say so."]
    assert main(["--config", "s.toml", "speak", "Hi.", "-v", "--force", *prompt]) == 0
    assert "like the prompt" in capsys.readouterr().err
