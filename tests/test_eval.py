"""Evaluation: pairs mixed here, ready-made mixtures, the command."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from voices import NO_SPEECH, RATE, SPEAKERS, SPEECH, corpus, utterance

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.evaluation.examples import Examples
from slyther_cli.research.evaluation.separation import (
    SCORES,
    conditions,
    evaluate_mixtures,
    evaluate_separation,
    score_example,
    summarise,
)

TINY = {"n_filters": 8, "kernel_size": 4, "stride": 2, "d_model": 6, "n_layers": 1, "d_state": 3}


pytestmark = pytest.mark.usefixtures("one_thread")


class Echo(torch.nn.Module):
    """Gives the mixture as every stem: improves nothing."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_rate=RATE, n_speakers=2)
        self.gain = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, mixture):
        return self.gain * mixture[:, None].expand(-1, 2, -1)


class Bands(Echo):
    """Parts sound at 1050 Hz, which parts the women from the men of voices.py."""

    def forward(self, mixture):
        spectrum = torch.fft.rfft(mixture)
        high = torch.arange(spectrum.shape[-1]) * RATE / mixture.shape[-1] > 1050
        return torch.stack([torch.fft.irfft(spectrum * m, mixture.shape[-1]) for m in (high, ~high)], 1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus"), splits=("test",))


def run(model, manifest, tmp_path, *, examples=8, seconds=0.6, split="test", seed=0, **how):
    cache = tmp_path / "cache"
    drawn = Examples(
        manifests=[manifest], split=split, count=examples, seconds=seconds, seed=seed, cache=cache
    )
    return evaluate_separation(model, drawn, **how)


def test_nothing_gained_is_zero(manifest, tmp_path):
    events = []
    report = run(Echo(), manifest, tmp_path, on_event=events.append)
    for group in report["groups"].values():
        for kind in ("si_snri", "sdri"):
            assert group[kind] == {"mean": 0, "low": 0, "high": 0}
    assert report["groups"]["all"]["examples"] == 8 and report["seconds"] == pytest.approx(8 * 0.6)
    assert [e["index"] for e in events] == list(range(1, 9)) and report["speakers"] == 4
    for event in events:
        sexes = {SPEAKERS[name][1] for name in event["name"].split("+")}
        assert event["group"] == ("same sex" if len(sexes) == 1 else "different sex")


def test_what_is_parted_by_band_is_gained_between_the_sexes(manifest, tmp_path):
    report = run(Bands(), manifest, tmp_path, examples=12)
    report_of_one = run(Bands(), manifest, tmp_path, examples=1)
    groups = report["groups"]
    assert groups["different sex"]["si_snri"]["mean"] > 15 > groups["same sex"]["si_snri"]["mean"]
    assert groups["different sex"]["sdri"]["mean"] > 15
    assert groups["different sex"]["examples"] + groups["same sex"]["examples"] == 12
    for group in (*groups.values(), report_of_one["groups"]["all"]):
        for kind in SCORES:
            low, mean, high = (group[kind][k] for k in ("low", "mean", "high"))
            assert low is high is None if group["examples"] == 1 else low <= mean <= high


def test_a_voice_alone_is_in_one_stem_or_in_both(manifest, tmp_path):
    events = []
    how = {"examples": 12, "mixing": conditions(alone=True)}
    groups = run(Bands(), manifest, tmp_path, on_event=events.append, **how)["groups"]
    assert (
        groups["women"]["in_both"] == groups["men"]["in_both"] == 0 and groups["all"]["apart_db"]["mean"] > 10
    )
    assert groups["women"]["examples"] + groups["men"]["examples"] == groups["all"]["examples"] == 12
    for event in events:
        assert event["group"] == ("women" if SPEAKERS[event["name"]][1] == "F" else "men")
    assert events[-1]["mean"] == pytest.approx(groups["all"]["apart_db"]["mean"], abs=1e-3)
    spread = run(Echo(), manifest, tmp_path, **how)["groups"]["all"]
    assert spread["in_both"] == 1 and spread["apart_db"] == {"mean": 0, "low": 0, "high": 0}
    with pytest.raises(UsageError):
        run(Echo(), manifest, tmp_path, **how | {"examples": 0})


def test_conditions_are_heard_by_the_same_voices(manifest, tmp_path):
    """What is noise is no voice's; rooms and lines are. Bands() parts women from men on the telephone."""
    events: dict[str, list] = {}
    gains = {}
    for name, said in {
        "alone": {},
        "noise": {"noise_db": 5.0},
        "telephone": {"telephone": True},
        "room": {"room_s": 0.5},
        "conversation": {"conversation": True},
    }.items():
        heard = events.setdefault(name, [])
        report = run(Bands(), manifest, tmp_path, mixing=conditions(**said), on_event=heard.append)
        gains[name] = report["groups"]["different sex"]["si_snri"]["mean"]
        assert [e["name"] for e in heard] == [e["name"] for e in events["alone"]]
    assert run(Bands(), manifest, tmp_path) == run(Bands(), manifest, tmp_path, mixing=conditions())
    assert gains["noise"] < gains["alone"] - 3
    assert min(gains["telephone"], gains["room"]) > 12
    scores = {name: [e["si_snr"] for e in heard] for name, heard in events.items()}
    assert len({tuple(v) for v in scores.values()}) == 5
    mixture = [e["si_snr"] - e["si_snri"] for e in events["noise"]]
    assert np.mean(mixture) < np.mean([e["si_snr"] - e["si_snri"] for e in events["alone"]])


def test_the_seed_says_which_mixtures(manifest, tmp_path):
    first = run(Bands(), manifest, tmp_path, seed=3)
    assert first == run(Bands(), manifest, tmp_path, seed=3)
    assert first["groups"] != run(Bands(), manifest, tmp_path, seed=4)["groups"]
    more = []
    run(Bands(), manifest, tmp_path, seed=3, examples=3, on_event=more.append)
    events = []
    run(Bands(), manifest, tmp_path, seed=3, examples=5, on_event=events.append)
    assert [e["name"] for e in events[:3]] == [e["name"] for e in more]


def test_without_sex_there_are_no_groups(tmp_path):
    report = run(Echo(), corpus(tmp_path, splits=("test",), sex=False), tmp_path)
    assert list(report["groups"]) == ["all"]
    with pytest.raises(UsageError):
        run(Echo(), tmp_path / "manifest.tsv", tmp_path, examples=0)
    with pytest.raises(InputError, match="split 'dev'"):
        run(Echo(), tmp_path / "manifest.tsv", tmp_path, split="dev")


def test_the_order_of_stems_does_not_count():
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((3, 4000)).astype(np.float32)
    estimates = sources + 0.1 * rng.standard_normal((3, 4000)).astype(np.float32)
    one = score_example("x", "", sources.sum(0), sources, estimates, RATE)
    other = score_example("x", "", sources.sum(0), sources, estimates[[2, 0, 1]], RATE)
    assert one == other and one.si_snr == pytest.approx(20, abs=0.5) and one.si_snri > 20
    silent = score_example("x", "", sources.sum(0), sources, 0 * estimates, RATE)
    assert silent.si_snr == silent.sdr == -100
    with pytest.raises(InputError, match="silent"):
        score_example("x", "", sources.sum(0), 0 * sources, estimates, RATE)
    assert summarise([one])["groups"]["all"]["sdr"]["mean"] == pytest.approx(one.sdr, abs=1e-3)


def mixtures(folder, rate=RATE, rows=3):
    lines = ["mix\ts1\ts2\tgroup"]
    for i in range(rows):
        a, b = utterance(1400, 0.8, i, rate), utterance(110, 0.8, i + 50, rate)
        for name, x in (("mix", a + b), ("a", a), ("b", b)):
            sf.write(folder / f"{name}{i}.wav", x, rate, subtype="FLOAT")
        lines.append(f"mix{i}.wav\ta{i}.wav\tb{i}.wav\tgroup {i % 2}")
    (folder / "table.tsv").write_text("\n".join(lines) + "\n")
    return folder / "table.tsv"


@pytest.mark.parametrize("rate", [8000, 16000])
def test_ready_made_mixtures(tmp_path, rate):
    table = mixtures(tmp_path, rate)
    report = evaluate_mixtures(Bands(), table)
    assert report["groups"]["all"]["si_snri"]["mean"] > 15
    assert {k: v["examples"] for k, v in report["groups"].items()} == {"all": 3, "group 0": 2, "group 1": 1}
    assert evaluate_mixtures(Bands(), table, 1)["examples"] == 1
    assert evaluate_mixtures(Echo(), table)["groups"]["all"]["sdri"]["mean"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("mix\ts1\ts2", "mix\ts1\tx2", "no column s2"),
        ("mix\ts1\ts2\tgroup", "mix\ts1\ts2\ts3", "more than the 2 speakers"),
        ("a1.wav", "none.wav", "none.wav"),
        ("a1.wav", "long.wav", "differ in length"),
        ("a1.wav", "silent.wav", "mix1.wav has a silent source"),
        ("mix0.wav\ta0.wav\tb0.wav\tgroup 0", "mix0.wav", "line 2 has no s1, s2"),
    ],
)
def test_damaged_mixtures(tmp_path, old, new, says):
    table = mixtures(tmp_path)
    sf.write(tmp_path / "long.wav", np.ones(RATE, np.float32), RATE)
    sf.write(tmp_path / "silent.wav", np.zeros(round(0.8 * RATE), np.float32), RATE)
    table.write_text(table.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=says):
        evaluate_mixtures(Echo(), table)


def test_the_command(manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    model = registry.build("mamba-tasnet", TINY)
    settings = {"name": "tiny", "architecture": "mamba-tasnet", "config": TINY, "task": "separate"}
    store.save(tmp_path / "tiny", model, **settings)
    base = ["eval", "separate", "--model", str(tmp_path / "tiny"), "--manifest", str(manifest)]
    assert main([*base, "--examples", "4", "--seconds", "0.5", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["example"] * 4 + ["summary"]
    mean = lines[-1]["groups"]["all"]["si_snri"]["mean"]
    assert lines[-1]["model"] == "tiny" and mean == pytest.approx(lines[-2]["mean_si_snri"], abs=2e-3)
    assert main([*base, "--examples", "4", "--seconds", "0.5"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("mixtures") and table[1].startswith("all") and f"{mean:.2f} [" in table[1]
    assert main([*base, "--examples", "1", "--seconds", "0.5"]) == 0
    out, err = capsys.readouterr()
    assert "[" not in out and "of one mixture there is no interval" in err
    assert (
        main(["eval", "separate", "-m", str(tmp_path / "tiny"), "--mixtures", str(mixtures(tmp_path))]) == 0
    )
    assert "group 1" in capsys.readouterr().out
    around = ["--room", "0.3", "--noise", "10", "--telephone", "--conversation"]
    assert main([*base, "--examples", "4", "--seconds", "0.5", *around, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (
        (found["room_s"], found["noise_db"]) == (0.3, 10.0) and found["telephone"] and found["conversation"]
    )
    assert main([*base, "--examples", "4", "--seconds", "0.5", "--alone"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == [
        "voices",
        "number",
        "apart",
        "dB",
        "in",
        "both",
    ]
    assert main([*base, "--examples", "4", "--seconds", "0.5", "--alone", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 5 and lines[-1]["alone"] and 0 <= lines[-1]["groups"]["all"]["in_both"] <= 1
    ready = ["eval", "separate", "-m", str(tmp_path / "tiny"), "--mixtures", str(mixtures(tmp_path))]
    assert main([*ready, *around]) == 2 and main([*base, "--room", "0"]) == 2
    assert main([*base, "--room", "1e9"]) == 2 and main([*base, "--noise", "nan"]) == 2
    assert main([*ready, "--noise", "0"]) == 2 and main([*ready, "--conversation"]) == 2
    assert main([*ready, "--alone"]) == 2
    assert main(base[:4]) == 2 and main([*base, "--mixtures", str(manifest)]) == 2
    assert main([*base, "--split", "dev"]) == 3 and main(["eval", "separate", "-m", "nosuch", *base[4:]]) == 5


@pytest.mark.speech
@pytest.mark.skipif(not (SPEECH / "an4/manifest.tsv").is_file(), reason=NO_SPEECH)
def test_real_speech_as_it_is(tmp_path):
    report = run(Echo(), SPEECH / "an4/manifest.tsv", tmp_path, seconds=2.0)
    assert -4 < report["groups"]["all"]["si_snr"]["mean"] < 4  # two voices of about one level
    assert report["groups"]["all"]["sdri"]["mean"] == 0
