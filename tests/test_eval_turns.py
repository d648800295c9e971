"""People who take turns: conversations made of them, and the share of them in the wrong stem."""

import json
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile as sf
import torch
from voices import RATE, SPEAKERS, corpus, utterance

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.evaluation import turns as scoring
from slyther_cli.research.evaluation.examples import Examples
from slyther_cli.research.evaluation.turns import score_turns
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.mixing import Mixer, MixingConfig
from slyther_cli.research.training.noises import read_noises, unit_excerpt
from slyther_cli.research.training.turns import excerpt, take_turns

TINY = {"n_filters": 8, "kernel_size": 4, "stride": 2, "d_model": 6, "n_layers": 1, "d_state": 3}
pytestmark = pytest.mark.usefixtures("one_thread")


class Bands(torch.nn.Module):
    """Parts sound at 1050 Hz, which parts the women from the men of voices.py."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(sample_rate=RATE, n_speakers=2)
        self.gain = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, mixture):
        spectrum = torch.fft.rfft(mixture)
        high = torch.arange(spectrum.shape[-1]) * RATE / mixture.shape[-1] > 1050
        return torch.stack([torch.fft.irfft(spectrum * m, mixture.shape[-1]) for m in (high, ~high)], 1)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus"), splits=("test",), each=8)


@pytest.fixture(scope="module")
def pool(manifest, tmp_path_factory):
    return SpeechPool([manifest], "test", RATE, tmp_path_factory.mktemp("cache"))


def alternating(seconds=20):
    """Two who speak a second each in turn, without gaps: [2, samples]."""
    x = np.random.default_rng(0).standard_normal((2, seconds * RATE)).astype(np.float32)
    second = np.arange(seconds * RATE) // RATE
    return x * np.stack([second % 2 == 0, second % 2 == 1])


def wrong(sources, stems):
    return score_turns("two", sources, [stems], RATE).wrong


def test_stems_that_are_right_in_either_order():
    sources = alternating()
    for stems in (sources, sources[::-1]):
        score = score_turns("two", sources, [stems], RATE)
        assert score.wrong == 0 and score.leakage_db == -100


def test_the_share_of_the_time_that_is_swapped():
    sources = alternating()
    stems = sources.copy()
    stems[:, 14 * RATE :] = sources[::-1, 14 * RATE :]
    assert wrong(sources, stems) == pytest.approx(0.3)
    assert wrong(sources, stems[::-1]) == pytest.approx(0.3)
    stems = np.stack([sources.sum(0), 0.01 * sources.sum(0)])  # both in one file
    score = score_turns("two", sources, [stems], RATE)
    assert score.wrong == pytest.approx(0.5)
    assert score.leakage_db == pytest.approx(0, abs=1)  # half of the turns at 40 dB, half at -40


def test_the_leakage_of_a_lone_turn():
    sources = alternating()
    stems = sources + 0.1 * sources[::-1]
    assert score_turns("two", sources, [stems], RATE).leakage_db == pytest.approx(-20, abs=0.01)
    assert wrong(sources, stems) == 0


def test_speech_of_both_at_once_does_not_count():
    sources = alternating()
    sources[:, 5 * RATE : 10 * RATE] = 1.0
    stems = sources.copy()
    stems[:, 5 * RATE : 10 * RATE] *= np.array([[5.0], [0.0]])
    assert wrong(sources, stems) == 0
    with pytest.raises(UsageError, match="alone"):
        wrong(np.ones((2, RATE), np.float32), np.ones((2, RATE), np.float32))


def test_stems_in_pieces_give_the_same():
    sources = alternating(5)
    stems = sources + np.random.default_rng(1).standard_normal(sources.shape).astype(np.float32)
    pieces = np.split(stems, [1, 777, 778, 12_345, 39_999], axis=1)
    assert score_turns("two", sources, pieces, RATE) == score_turns("two", sources, [stems], RATE)


def test_men_and_women_are_parted_by_band(manifest, tmp_path):
    events = []
    drawn = Examples(manifests=[manifest], count=12, seconds=12.0, cache=tmp_path)
    report = scoring.evaluate_turns(Bands(), drawn, on_event=events.append)
    unlike, alike = (report["groups"][g] for g in ("different sex", "same sex"))
    assert unlike["wrong"]["mean"] == 0 == unlike["failing"] and unlike["leakage_db"]["median"] < -20
    assert alike["wrong"]["mean"] > 0.3 and alike["failing"] == alike["examples"] > 0
    everyone = report["groups"]["all"]
    assert everyone["examples"] == 12 == len(events) and everyone["failing"] == alike["failing"]
    assert everyone["wrong"]["low"] < everyone["wrong"]["mean"] < everyone["wrong"]["high"]
    assert events[-1]["mean"] == pytest.approx(everyone["wrong"]["mean"], abs=1e-4)
    for event in events:
        assert event["wrong"] == (0 if event["group"] == "different sex" else pytest.approx(0.45, abs=0.2))
    with pytest.raises(UsageError):
        scoring.evaluate_turns(Bands(), replace(drawn, seconds=0.5))


def test_long_ones_are_separated_segment_by_segment(manifest, tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = registry.build("mamba-tasnet", TINY)
    drawn = Examples(manifests=[manifest], count=2, seconds=5.0, cache=tmp_path)
    whole = scoring.evaluate_turns(model, drawn)
    monkeypatch.setattr(scoring, "ONE_PASS_S", 1.0)
    monkeypatch.setattr(scoring, "stems_of", None)
    assert scoring.evaluate_turns(model, drawn) == whole


def test_the_command(manifest, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    model = registry.build("mamba-tasnet", TINY)
    settings = {"name": "tiny", "architecture": "mamba-tasnet", "config": TINY, "task": "separate"}
    store.save(tmp_path / "tiny", model, **settings)
    base = ["eval", "separate", "--model", str(tmp_path / "tiny"), "--manifest", str(manifest), "--turns"]
    short = ["--examples", "2", "--seconds", "4"]
    assert main([*base, *short, "--telephone", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["event"] for line in lines] == ["example", "example", "summary"]
    summary = lines[-1]
    assert summary["taking_turns"] and summary["telephone"] and summary["seconds_each"] == 4
    mean = summary["groups"]["all"]["wrong"]["mean"]
    assert mean == pytest.approx(np.mean([line["wrong"] for line in lines[:2]]), abs=1e-3)
    assert main([*base, "--examples", "1", "--seconds", "4"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("voices") and "wrong stem" in table[0] and table[1].startswith("all")
    assert main([*base, *short, "--alone"]) == 2 and main([*base, *short, "--conversation"]) == 2
    assert main(["eval", "separate", "-m", str(tmp_path / "tiny"), "--mixtures", "x.tsv", "--turns"]) == 2


def test_turns_alternate_with_gaps_as_asked():
    lengths = {0: 300, 1: 500}
    rng = np.random.default_rng(0)
    x = take_turns(rng, lambda k: np.ones(lengths[k], np.float32), 2, 20_000, 100, (0.5, 1.0), 0.0)
    edges = np.diff(np.pad(x, ((0, 0), (1, 1))), axis=1)
    starts, ends = ([np.flatnonzero(e == s) for e in edges] for s in (1, -1))
    turns = sorted((a, b, k) for k in (0, 1) for a, b in zip(starts[k], ends[k], strict=True))
    assert len(turns) > 30 and turns[0][0] == 0  # it begins within a turn
    for (_, end, who), (start, stop, other) in pairwise(turns[:-1]):
        assert 50 <= start - end <= 100 and other != who and stop - start == lengths[other]


def test_turns_may_overlap_but_nobody_overlaps_themselves():
    rng = np.random.default_rng(0)
    x = take_turns(rng, lambda k: np.ones(100, np.float32), 2, 20_000, 100, (-0.8, -0.3), 0.3)
    assert x.max() == 1 and 0.3 < (x.sum(0) == 2).mean() < 0.8


def test_an_excerpt_is_of_the_utterance_and_fades():
    x = np.arange(8000, dtype=np.int16)
    part = excerpt(np.random.default_rng(0), x, 1000, RATE)
    assert len(part) == 1000 and part[0] == 0 == part[-1] and np.all(np.diff(part[50:-50]) == 1)
    assert excerpt(np.random.default_rng(0), x, 9000, RATE) is x


def test_examples_of_the_mixer_are_in_turns(pool):
    config = MixingConfig(taking_turns=1.0, taking_turns_from_s=2.0, turn_s=(0.3, 1.0), spoken_s=0.0)
    mixer = Mixer(pool, config, 2, 7)
    one, again = mixer.example(3, 8 * RATE), Mixer(pool, config, 2, 7).example(3, 8 * RATE)
    assert np.array_equal(one[1], again[1])
    heard = np.abs(one[1].reshape(2, -1, RATE // 20)).max(2) > 0
    assert heard.all(0).mean() < 0.5 and heard.any(1).all()
    short, plain = mixer.example(3, RATE), Mixer(pool, MixingConfig(), 2, 7).example(3, RATE)
    assert np.array_equal(short[1], plain[1])
    for name, source in zip(mixer.speakers(3, 8 * RATE), one[1], strict=True):
        strongest = np.abs(np.fft.rfft(source)).argmax() / 8  # Hz
        assert (strongest > 1000) == (SPEAKERS[name][1] == "F")


def test_everything_is_said_before_anything_is_repeated():
    said = [np.full(100, 1000 * (i + 1), np.int16) for i in range(6)]  # told apart by their level
    speakers = {"a": said, "b": said}
    pool = SimpleNamespace(speakers=speakers, rate=100, sex=dict.fromkeys(speakers, ""), same=str.__eq__)
    config = MixingConfig(
        speed=(1.0,), taking_turns=1.0, whole=1.0, gap_s=(0.1, 0.2), again=0.0, spoken_s=0.0
    )
    for source in Mixer(pool, config, 2, 0).example(0, 5000)[1]:
        levels = np.round(source / source.max() * 6).astype(int)
        turns = [int(level) for level in levels[np.flatnonzero(np.diff(levels, prepend=0))] if level]
        assert sorted(turns[:6]) == [1, 2, 3, 4, 5, 6] == sorted(turns[6:12]) and turns[:6] != turns[6:12]


def test_who_has_too_little_to_say_takes_no_turns(pool):
    with pytest.raises(InputError, match="99 s"):
        Mixer(pool, MixingConfig(taking_turns=0.5, spoken_s=99.0), 2, 0)
    with pytest.raises(UsageError, match="turn_s"):
        MixingConfig(turn_s=(0.0, 1.0))


def test_those_who_may_be_one_person_are_never_mixed(tmp_path):
    rows = {"a": "p1 p2", "b": "p2", "c": "p3", "d": ""}
    lines = ["path\tspeaker\tsplit\tpossible_speakers"]
    for i, (name, possible) in enumerate(rows.items()):
        sf.write(tmp_path / f"{name}.wav", utterance(200 + 50 * i, 1.0, i), RATE)
        lines.append(f"{name}.wav\t{name}\ttrain\t{possible}")
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    pool = SpeechPool([tmp_path / "m.tsv"], "train", RATE, tmp_path / "cache")
    mixer = Mixer(pool, MixingConfig(), 2, 0)
    pairs = {"".join(sorted(mixer.speakers(i))) for i in range(100)}
    assert pairs == {"ac", "bc"}
    (tmp_path / "m.tsv").write_text("\n".join([lines[0], *lines[1:3]]) + "\n")
    pool = SpeechPool([tmp_path / "m.tsv"], "train", RATE, tmp_path / "cache")
    with pytest.raises(InputError, match="possible_speakers"):
        Mixer(pool, MixingConfig(), 2, 0).example(0, RATE)


def test_recorded_noise_is_mixed_under_speech(pool, tmp_path):
    tone = np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE).astype(np.float32)
    sf.write(tmp_path / "n.wav", 0.1 * tone, RATE)
    (tmp_path / "n.tsv").write_text("path\tspeaker\tsplit\nn.wav\t\ttrain\n")
    noises = read_noises([tmp_path / "n.tsv"], "train", RATE)
    x = unit_excerpt(np.random.default_rng(0), noises, 3 * RATE)
    assert x.shape == (3 * RATE,) and x.std() == pytest.approx(1, abs=1e-3)
    config = MixingConfig(noise=1.0, recorded_noise=1.0, snr_db=(0.0, 0.0))
    mixture, sources = Mixer(pool, config, 2, 0, noises).example(0, RATE)
    rest = mixture - sources.sum(0)
    assert np.abs(np.fft.rfft(rest)).argmax() == 3000
    assert np.square(rest).sum() == pytest.approx(np.square(sources.sum(0)).sum(), rel=0.01)
    with pytest.raises(InputError, match="noises"):
        Mixer(pool, config, 2, 0)
    with pytest.raises(InputError, match="no noise"):
        read_noises([tmp_path / "n.tsv"], "dev", RATE)
