"""``slyther study length``: the sets' rule, any recogniser, the written recordings, the command. The
Transformer that Speech-Mamba is compared with."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import ModelError
from slyther_cli.models import registry
from slyther_cli.research.studies.length import SETS, Hears, joined, make_sets, write_sets

TINY = {"d_model": 16, "n_layers": 2, "d_ffn": 16, "d_state": 4, "kernel_size": 3, "n_mels": 20,
        "dropout": 0.0, "max_positions": 1, "n_heads": 2, "n_decoder_layers": 1}  # fmt: skip
RATE = 16000


pytestmark = pytest.mark.usefixtures("one_thread")


def by_the_rule(speakers, seconds, low, high):
    """papers.md 7.3, speaker by speaker, written another way."""
    out = []
    for speaker in dict.fromkeys(speakers):
        own = [i for i, s in enumerate(speakers) if s == speaker]
        start = 0
        for stop in range(1, len(own) + 1):
            total = sum(seconds[i] for i in own[start:stop])
            if total > high:
                start, total = stop - 1, seconds[own[stop - 1]]
            if low <= total <= high:
                out.append(own[start:stop])
                start = stop
    return out


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(1, 25), max_size=30), min_size=1, max_size=4), st.sampled_from([*SETS]))
def test_joins_follow_the_rule(lengths, name):
    speakers = [f"s{i}" for i, own in enumerate(lengths) for _ in own]
    seconds = [x for own in lengths for x in own]
    low, high = SETS[name]
    found = joined(speakers, seconds, low, high)
    assert found == by_the_rule(speakers, seconds, low, high)
    used = [i for group in found for i in group]
    assert len(used) == len(set(used))
    for group in found:
        assert low <= sum(seconds[i] for i in group) <= high
        assert group == list(range(group[0], group[-1] + 1)) and len({speakers[i] for i in group}) == 1


def test_an_overshooting_utterance_discards_what_was_before_it():
    assert joined(["a"] * 5, [30, 10, 25, 25, 9], 45, 60) == [[2, 3]]
    assert joined(["a", "a", "b"], [40, 4, 50], 45, 60) == [[2]]
    assert joined(["a"] * 3, [70, 30, 20], 45, 60) == [[1, 2]]


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    lines = ["path\tspeaker\tsplit\ttranscript"]
    for i in range(12):
        n = RATE * 8
        sf.write(folder / f"u-{i}.wav", 0.05 * rng.standard_normal(n), RATE)
        lines.append(f"u-{i}.wav\ts{i % 2}\ttest\tword{'' if i else ' and'} number {i}")
    (folder / "m.tsv").write_text("\n".join(lines) + "\n")
    return folder / "m.tsv"


def saved(folder, architecture, **changes):
    torch.manual_seed(0)
    known = registry.full_config(architecture, {})
    config = {k: v for k, v in (TINY | changes).items() if k in known}
    ends = known.get("decoder") is None or config.get("decoder", known["decoder"]) != "none"
    tokenizer = CharTokenizer(ends=ends)
    config = registry.full_config(architecture, config | {"vocab": tokenizer.size})
    about = {"name": architecture, "architecture": architecture, "config": config, "task": "transcribe"}
    store.save(folder, registry.build(architecture, config), companions=tokenizer.save, **about)
    return str(folder)


def test_files_of_one_name_do_not_replace_each_other(tmp_path):
    lines = ["path\tspeaker\tsplit\ttranscript"]
    for speaker in "ab":
        (tmp_path / speaker).mkdir()
        sf.write(tmp_path / speaker / "1.wav", np.full(RATE, 0.1 if speaker == "a" else 0.2), RATE)
        lines.append(f"{speaker}/1.wav\t{speaker}\ttest\tword {speaker}")
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    write_sets(make_sets(tmp_path / "m.tsv", "test", ["single"]), RATE, tmp_path / "out")
    again = make_sets(tmp_path / "out" / "manifest.tsv", "single", ["single"])[0]
    heard = [(item.text, round(float(sf.read(item.paths[0])[0].mean()), 2)) for item in again.items]
    assert heard == [("word a", 0.1), ("word b", 0.2)]


def test_sets_hold_the_words_and_the_sound(speech, tmp_path):
    single, minute = make_sets(speech, "test", ["single", "60"])
    assert len(single.items) == 12 and single.dropped == 0
    assert [len(item.paths) for item in minute.items] == [6, 6] and minute.seconds == 96
    assert minute.items[0].text.count("word") == 6
    write_sets([minute], RATE, tmp_path)
    again = make_sets(tmp_path / "manifest.tsv", "60", ["single"])[0]
    assert [item.text for item in again.items] == [item.text for item in minute.items]
    whole = sf.read(again.items[0].paths[0])[0]
    parts = np.concatenate([sf.read(path)[0] for path in minute.items[0].paths])
    assert len(whole) == len(parts) and np.abs(whole - parts).max() < 1e-4


@pytest.mark.parametrize("architecture", ["conmamba", "conformer", "speech-mamba", "transformer"])
def test_every_recogniser_hears_jointly_and_greedily(architecture, tmp_path):
    samples = 0.05 * np.random.default_rng(1).standard_normal(RATE).astype(np.float32)
    folder = saved(tmp_path / "m", architecture)
    for decode in ("greedy", "joint"):
        assert isinstance(Hears(folder, decode, beam=2)(samples), str)


def test_the_command(speech, tmp_path, capsys):
    one = saved(tmp_path / "one", "transformer", positions="absolute", decoder="none")
    two = saved(tmp_path / "two", "transformer", positions="none", decoder="none")
    command = ["study", "length", "--manifest", str(speech), "--sets", "single,60", "--examples", "2"]
    plot = tmp_path / "out.svg"
    assert main([*command, "-m", one, "-m", two, "--json", "--plot", str(plot)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line["event"] == "length"]
    assert [(r["set"], r["system"]) for r in rows] == [(s, m) for s in ("single", "60") for m in (one, two)]
    assert rows[0]["mean_seconds"] == 8 and rows[2]["mean_seconds"] == 48 and rows[2]["items"] == 2
    assert sum(line["event"] == "example" for line in lines) == 8
    assert (
        len(ElementTree.fromstring(plot.read_text()).findall(".//{http://www.w3.org/2000/svg}polyline")) == 2
    )
    assert main([*command, "-m", one, "--write", str(tmp_path / "w"), "-q"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == str(tmp_path / "w" / "manifest.tsv") and told[-1].startswith("transformer")
    assert main([*command[:4], "--sets", "100", "-m", one]) == 3
    assert (
        main([*command[:4], "--sets", "61", "-m", one]) == main([*command[:4], "--sets", "", "-m", one]) == 2
    )
    assert main([*command, "-m", one, "--decode", "joint"]) == 2
    assert main([*command, "-m", "mamba-tasnet-8k-2spk"]) == 5
    assert main(command) == 2
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and "bug" not in errors


# --- the Transformer ---


@pytest.mark.parametrize("positions", ["absolute", "relative", "none"])
def test_a_padded_batch_gives_what_each_gives_alone(positions):
    torch.manual_seed(0)
    config = {k: v for k, v in TINY.items() if k in registry.full_config("transformer", {})}
    net = registry.build("transformer", {**config, "positions": positions, "vocab": 30}).eval()
    x, lengths = torch.randn(2, 41, 20), torch.tensor([41, 22])
    with torch.inference_mode():
        both, alone = net(x, lengths), net(x[1:, :22])
        assert both.shape == (2, 11, 30)
        torch.testing.assert_close(both[1, :6], alone[0], rtol=1e-4, atol=1e-5)
        told = net.decode(torch.tensor([[1, 5, 6]]), net.encode(x[:1]))
    assert told.shape == (1, 3, 30)


@pytest.mark.parametrize("positions", ["absolute", "relative", "none"])
def test_positions_are_what_they_say(positions):
    """Frames in another order: without positions they only change places; with relative ones, turning them
    around only turns the result around."""
    torch.manual_seed(0)
    config = {k: v for k, v in TINY.items() if k in registry.full_config("transformer", {})}
    encoder = registry.build("transformer", {**config, "positions": positions}).eval().transformer.encoder
    x, order = torch.randn(1, 9, 16), torch.randperm(9)
    with torch.inference_mode():
        moved = torch.allclose(encoder(x[:, order]), encoder(x)[:, order], atol=1e-5)
        turned = torch.allclose(encoder(x.flip(1)), encoder(x).flip(1), atol=1e-5)
    assert (moved, turned) == {"absolute": (False, False), "relative": (False, True), "none": (True, True)}[
        positions
    ]


def test_the_small_networks_are_equally_large():
    names = [
        "speech-mamba-small",
        "conmamba-small",
        *(f"transformer-{p}-small" for p in ("absolute", "relative", "none")),
    ]
    presets = [registry.PRESETS[name] for name in names]
    counts = [registry.parameter_count(a, {**c, "vocab": 500}) for a, c in presets]
    assert max(counts) / min(counts) < 1.005, dict(zip(names, counts, strict=True))
    with pytest.raises(ModelError):
        registry.full_config("transformer", {"positions": "rotary"})
