"""``slyther study mutual-information``: MINE on Gaussians of known information, the three ways of sampling,
the pattern, the command and its picture."""

import json
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.studies import curves
from slyther_cli.research.studies.mine import Mine, MineConfig, gaussian_information, gaussian_pairs
from slyther_cli.research.studies.mutual_information import Listener, Study, measure, pattern, untrained

TINY = {"d_model": 16, "n_layers": 3, "d_ffn": 16, "d_state": 4, "kernel_size": 3, "vocab": 31, "n_mels": 20,
        "max_positions": 4, "n_heads": 2, "n_decoder_layers": 1}  # fmt: skip
FAST = MineConfig(lr=1e-3, passes=2, batch=16)


def test_mine_finds_the_information_of_gaussians():
    strengths = (0.0, 0.5, 0.8, 0.95)
    x, t = zip(*[gaussian_pairs(1600, r, 2, seed=7) for r in strengths], strict=True)
    pairs = x[0], torch.stack(t)
    mine = Mine(2, 2, len(strengths), [0, 1], MineConfig(lr=2e-3, passes=40, batch=250))
    mine.learn(pairs[0][:800], pairs[1][:, :800])
    learnt, unseen = (
        mine.value(pairs[0][:800], pairs[1][:, :800]),
        mine.value(pairs[0][800:], pairs[1][:, 800:]),
    )
    known = torch.tensor([gaussian_information(r, 2) for r in strengths])
    assert known[2] == pytest.approx(1.0217, abs=1e-4)
    for found in (learnt, unseen):  # nothing where there is nothing, the rest within a tenth or so
        assert ((found - known[:, None]).abs() < 0.1 + 0.1 * known[:, None]).all(), found
    assert (learnt[0] > unseen[0]).all()  # what it learns by heart does not hold elsewhere


def test_a_stack_learns_what_each_would_learn_alone():
    x, t = gaussian_pairs(60, 0.9, 3, seed=1)
    both = torch.stack([t, torch.flip(t, [0])])
    stacked = Mine(3, 3, 2, [4, 5], FAST)
    stacked.learn(x, both)
    for layer in range(2):
        for i, seed in enumerate((4, 5)):
            alone = Mine(3, 3, 1, [seed], FAST)
            alone.learn(x, both[layer : layer + 1])
            for one, other in zip(alone.weights, stacked.weights, strict=True):
                apart = (one[0] - other[layer * 2 + i]).abs()  # Adam makes much of gradients near 0
                assert apart.median() < 1e-6 and apart.max() < 1e-2


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    lines = ["path\tspeaker\tsplit"]
    for i in range(5):
        n = 200 if i == 4 else 16000 + 1600 * i  # the last one is no utterance
        sound = np.cumsum(rng.standard_normal(n)) * 0.01
        sf.write(folder / f"{i}.wav", np.clip(sound - sound.mean(), -0.9, 0.9), 16000)
        lines.append(f"{i}.wav\ts{i}\tdev")
    (folder / "m.tsv").write_text("\n".join(lines) + "\n")
    return folder / "m.tsv"


def net(architecture="conmamba", **changes):
    torch.manual_seed(0)
    known = registry.full_config(architecture, {})
    return registry.build(architecture, {k: v for k, v in (TINY | changes).items() if k in known}).eval()


@pytest.mark.parametrize("architecture", ["conmamba", "conformer", "speech-mamba"])
def test_layers_of_every_recogniser_are_heard(architecture):
    model = net(architecture)
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    x, t = Listener(model)(samples)
    memory = model.encode(model.features(torch.from_numpy(samples)[None]))
    assert x.shape == memory.shape[1:] and t.shape == (3, *x.shape)
    assert torch.allclose(model.transformer.encoder.norm(t[-1]), memory[0], atol=1e-6)
    assert not model.transformer.encoder.layers[0]._forward_hooks  # nothing is left behind


@pytest.mark.parametrize("top", ["none", "conformer", "conmamba"])
def test_layers_of_a_hubert_and_of_what_is_on_it_are_heard(top):
    sizes = {"conv_width": 8, "d_model": 16, "n_layers": 2, "n_heads": 2, "d_ffn": 16, "pos_kernel": 4,
             "pos_groups": 2, "d_state": 4, "kernel_size": 3}  # fmt: skip
    more = {"top": top, "n_top_layers": 1, "top_heads": 2, "top_ffn": 8}
    model = registry.build("hubert-ctc", {**sizes, **more, "layer": "conbimamba"}).eval()
    samples = 0.1 * np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    x, t = Listener(model)(samples)
    assert x.shape == (model.frames(8000), 16) and t.shape == (2 + (top != "none"), *x.shape)
    hubert = registry.build("hubert", sizes).eval()
    x, t = Listener(hubert)(samples)
    with torch.no_grad():
        assert torch.equal(hubert.encode(hubert.features(torch.from_numpy(samples)[None]))[0], t[-1])


def test_a_fresh_network_hears_by_the_same_features(speech):
    model = net(decoder="none")
    model.normalize.glob_mean.fill_(3.0)
    with torch.no_grad():
        model.transformer.encoder.layers[2].norm2.norm.weight.zero_()  # nothing comes through
    fresh = untrained(model, "conmamba", registry.full_config("conmamba", {**TINY, "decoder": "none"}))
    assert float(fresh.normalize.glob_mean.mean()) == 3.0
    last, again = (measure(m, speech, "dev", Study("pooled", 5, 1, mine=FAST))[0][2] for m in (model, fresh))
    assert abs(last["mi"]["value"]) < abs(again["mi"]["value"])


def test_a_separator_is_refused():
    with pytest.raises(ModelError, match="recogniser"):
        Listener(registry.build("mamba-tasnet", {"n_filters": 8, "d_model": 8, "n_layers": 1}))


@pytest.mark.parametrize("way", ["utterance", "shared", "pooled"])
def test_every_way_gives_the_same_twice(speech, way):
    model = net(decoder="none")
    first, again = (measure(model, speech, "dev", Study(way, 5, 2, raw=True, mine=FAST))[0] for _ in range(2))
    assert json.dumps(first) == json.dumps(again)
    assert [row["layer"] for row in first] == [1, 2, 3] and first[0]["utterances"] == 4
    for row in first:
        assert row["mi"]["low"] <= row["mi"]["value"] <= row["mi"]["high"] and len(row["mi"]["by_seed"]) == 2


def test_only_the_shared_network_remembers(speech):
    """The estimate of an utterance must not depend on those before it, but in the papers' code it does."""
    model = net(decoder="none")
    manifest = speech.parent / "turned.tsv"
    lines = speech.read_text().splitlines()
    manifest.write_text("\n".join([lines[0], *(f"{i}.wav\ts{9 - i}\tdev" for i in range(4))]) + "\n")
    for way, same in (("utterance", True), ("shared", False)):
        here, there = (measure(model, m, "dev", Study(way, 5, 1, mine=FAST))[0] for m in (speech, manifest))
        assert (here[2]["mi"]["value"] == pytest.approx(there[2]["mi"]["value"], abs=1e-6)) is same


@settings(max_examples=40)
@given(st.lists(st.floats(0, 3), min_size=2, max_size=8), st.integers(0, 9))
def test_the_pattern_says_what_the_curve_does(means, seed):
    noise = 1e-3 * np.random.default_rng(seed).standard_normal((12, len(means), 3))
    values = np.array(means)[None, :, None] + noise
    rows = [{"layer": i + 1, "mi": {"value": values[:, i].mean()}} for i in range(len(means))]
    found = pattern(rows, values)
    assert found["fall"]["value"] >= 0 and found["rise"]["value"] >= 0
    assert sum(c["value"] for c in found["changes"]) == pytest.approx(
        values.mean((0, 2))[-1] - values[:, 0].mean()
    )
    low = values.mean((0, 2)).argmin()
    if means[0] > means[low] + 0.01 and means[-1] > means[low] + 0.01:
        assert found["shape"] == "falls then rises" and found["lowest_layer"] == low + 1
    if all(a >= b + 0.01 for a, b in pairwise(means)):
        assert found["shape"] == "falls"


def test_the_command(speech, tmp_path, capsys):
    config = registry.full_config("conmamba", {**TINY, "decoder": "none"})
    about = {"name": "tiny", "architecture": "conmamba", "config": config, "task": "transcribe"}
    store.save(tmp_path / "m", net(decoder="none"), **about)
    plot = tmp_path / "out.svg"
    command = ["study", "mutual-information", "--manifest", str(speech), "-m", str(tmp_path / "m")]
    few = ["--seeds", "2", "--passes", "2"]
    assert main([*command, *few, "--json", "--plot", str(plot)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sum(line["event"] == "mutual_information" for line in lines) == 3
    assert lines[-1]["event"] == "mutual_information_pattern" and lines[-1]["shape"]
    root = ElementTree.fromstring(plot.read_text())
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    assert main([*command, *few, "--way", "pooled", "--fresh"]) == 0
    assert "lowest after layer" in capsys.readouterr().out
    assert main([*command, "--split", "none"]) == 3
    assert main([*command, "--plot", str(tmp_path / "a.gif")]) == 2
    assert main([*command, "--rate", "7"]) == 2
    assert main([*command, "--way", "pooled", "--examples", "1"]) == 2
    assert main([*command[:-1], "mamba-tasnet-8k-2spk"]) == 5
    told = capsys.readouterr().err
    assert "Traceback" not in told and "bug" not in told


def test_without_meaning():
    for wrong in ({"way": "guess"}, {"examples": 0}, {"seconds": 0.0}):
        with pytest.raises(UsageError):
            Study(**wrong)


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=5))
def test_every_point_lies_in_the_picture(values):
    points = [curves.Point(i, v, v - 1, v + 1) for i, v in enumerate(values)]
    root = ElementTree.fromstring(curves.svg({"a <b>": points}, "t & t", "x", "y"))
    for circle in root.findall(".//{http://www.w3.org/2000/svg}circle"):
        assert curves.LEFT <= float(circle.get("cx")) <= curves.WIDTH - curves.RIGHT
        assert curves.TOP <= float(circle.get("cy")) <= curves.HEIGHT - curves.BOTTOM
