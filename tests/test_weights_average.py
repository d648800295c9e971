"""``slyther weights average`` and ``shrink``: the mean of models of one kind, and models in fewer bits."""

import json
import shutil

import pytest
import tones
import torch
from safetensors import safe_open

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.average import average


def scaled(folder, name, factor, **more):
    """The model of tones.py with all weights times ``factor``."""
    torch.manual_seed(0)
    model, config = tones.network()
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(factor)
    about = {"architecture": "conmamba", "config": config, "task": "transcribe"}
    how = {"companions": tones.CharTokenizer(tones.LETTERS).save, "metrics": {"wer": 1.0}} | more
    return store.save(folder / name, model, name=name, **about, **how)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("average")
    for name, factor in (("a", 1.0), ("b", 2.0), ("c", 6.0)):
        scaled(folder, name, factor, decoding={"beam": 8}, license="MIT")
    tones.save(folder, "live", causal=True)
    return folder


def state(folder):
    return store.load(folder)[0].state_dict()


@pytest.mark.parametrize("shares", [(), (1, 0, 3), (0.2, 5, 0.3)])
def test_the_mean_by_shares(place, tmp_path, shares):
    folder = average([place / n for n in "abc"], tmp_path / "mean", shares=shares)
    shares = shares or (1, 1, 1)
    factor = (shares[0] + 2 * shares[1] + 6 * shares[2]) / sum(shares)
    one = store.load(place / "a")[0]
    parameters, before = dict(one.named_parameters()), one.state_dict()
    for key, value in state(folder).items():
        wanted = parameters[key] * factor if key in parameters else before[key]
        torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-7)


def test_the_command(place, tmp_path, capsys):
    mean = tmp_path / "mean"
    models = [str(place / "a"), str(place / "b")]
    assert main(["weights", "average", *models, "-o", str(mean), "--name", "both", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(mean)
    about = store.check(mean)
    assert about.name == "both" and about.license == "MIT" and about.metrics == {}
    assert about.extra["decoding"] == {"beam": 8}
    assert about.extra["averaged"] == [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}]
    assert (mean / "tokens.json").read_bytes() == (place / "a" / "tokens.json").read_bytes()


@pytest.mark.parametrize(("to", "share"), [("float32", 1.0), ("float16", 0.5), ("int8", 0.25)])
def test_fewer_bits(place, tmp_path, monkeypatch, capfd, to, share):
    (place / "a" / "CARD.md").write_text("about a")
    small = tmp_path / "small"
    assert main(["weights", "shrink", str(place / "a"), "-o", str(small), "--to", to, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["path"] == str(small)
    before, after = store.check(place / "a"), store.check(small)
    assert after.to_json() == before.to_json()
    for name in ("tokens.json", "CARD.md"):
        assert (small / name).read_bytes() == (place / "a" / name).read_bytes()
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (small, place / "a")]
    assert sizes[0] < (share + 0.2) * sizes[1]
    with tones.at_home(tmp_path, monkeypatch, place):
        tones.record()
        assert tones.transcribed(capfd, "talk.wav", "-m", str(small))[1].split() == tones.SAID.split()


def test_a_part_in_fewer_bits(place, tmp_path, capfd):
    weights = store.load(place / "a")[0].state_dict()
    small, part = tmp_path / "small", max(weights, key=lambda k: weights[k].numel())
    assert main(["weights", "shrink", str(place / "a"), "-o", str(small), "--only", part]) == 0
    types = stored(small)
    assert types.pop(part) == "I8" and types.pop(part + ":scale") == "F32"
    assert set(types.values()) <= {"F16", "I64"}, types
    store.load(small)


def stored(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return {key: file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118


def test_what_cannot_be_shrunk(place, tmp_path, capsys):
    a = str(place / "a")
    for arguments, told, code in (
        (["nobody-knows", "-o", "x"], "nobody-knows", 5),
        ([a, "-o", a], "is there already", 2),
        ([a, "-o", str(place / "b")], "is there already", 2),
        ([a, "-o", str(tmp_path / "x"), "--to", "int4"], "choose float32", 2),
        ([a, "-o", str(tmp_path / "x"), "--only", "nothing"], "begins with 'nothing'", 2),
        ([a, "-o", str(tmp_path / "x"), "--to", "float16", "--only", "x"], "not as another type", 2),
    ):
        assert main(["weights", "shrink", *arguments]) == code, arguments
        assert told in capsys.readouterr().err


def test_an_average_of_equals_transcribes_as_they_do(place, tmp_path, monkeypatch, capfd):
    average([place / "a", place / "a", place / "a"], tmp_path / "same")
    with tones.at_home(tmp_path, monkeypatch, place):
        tones.record()
        assert (
            tones.transcribed(capfd, "talk.wav", "-m", str(tmp_path / "same"))[1].split()
            == tones.SAID.split()
        )


def test_what_has_no_average(place, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(place / "a", other)
    text = (other / "tokens.json").read_text()
    (other / "tokens.json").write_text(text.replace('"a"', '"z"'))
    a = str(place / "a")
    before = state(place / "b")
    assert main(["weights", "average", a, a, "-o", str(place / "b")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert all(torch.equal(value, before[key]) for key, value in state(place / "b").items())
    for models, told, code in (
        ([a], "two models", 2),
        ([a, str(place / "live")], "causal", 5),
        ([a, str(other)], "another alphabet", 5),
        ([a, "nobody-knows"], "nobody-knows", 5),
        ([a, a, "--shares", "1,2,3"], "2 shares", 2),
        ([a, a, "--shares", "0,0"], "2 shares", 2),
        ([a, a, "--shares", "-1,2"], "2 shares", 2),
        ([a, a, "--shares", "nan,2"], "no list", 2),
        ([a, a, "--shares", "x"], "no list", 2),
    ):
        assert main(["weights", "average", *models, "-o", str(tmp_path / "mean")]) == code, models
        err = capsys.readouterr().err
        assert told in err and "Traceback" not in err
    assert not (tmp_path / "mean").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    assert main(["weights", "average", a, a, "-o", str(tmp_path / "full")]) != 0
    assert (tmp_path / "full" / "letter.txt").read_text() == "dear"
