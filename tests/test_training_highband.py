"""Training and measuring the network that shares the high band out."""

import numpy as np
import pytest
from voices import corpus

from slyther_cli.checkpoints import store
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.research.training import highband
from slyther_cli.research.training.highband import RATE, Example, learn, main, measure

SIZES = MambaTasNetConfig(n_filters=16, kernel_size=16, stride=8, d_model=16, n_layers=1, d_state=4)


def turns(seed: int) -> Example:
    """Two who take turns, perfectly separated below 4 kHz: who speaks below speaks above."""
    rng = np.random.default_rng(seed)
    who = np.repeat(rng.permutation(12) % 2, RATE // 6)
    sources = 0.1 * rng.standard_normal((2, len(who))) * np.stack([who, 1 - who])
    spectrum = np.fft.rfft(sources)
    spectrum[:, np.fft.rfftfreq(len(who), 1 / RATE) > 3900] = 0
    stems = np.fft.irfft(spectrum, n=len(who))
    return Example(sources.sum(0), stems, sources)


def test_network_learns_who_speaks_and_beats_equal_shares():
    net = learn([turns(i) for i in range(6)], steps=60)
    found = measure(net, [turns(i) for i in range(100, 104)])
    assert found["equal"].mean() == pytest.approx(3.0, abs=1.0)  # half of a turn's power is missing, and
    assert found["network"].mean() > found["equal"].mean() + 5  # as much of the other's is there
    assert (found["best"] >= found["network"] - 1e-3).all()


def test_snr_is_that_of_the_shares():
    example = turns(1)
    nothing = example.snr(0 * example.power)
    assert nothing.tolist() == pytest.approx([0.0, 0.0], abs=1e-3)
    assert example.snr(example.product / (example.rest + 1e-12)).min() > 8


def test_module_trains_saves_and_measures(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(highband, "SECONDS", 1)
    manifest = str(corpus(tmp_path / "corpus", rate=RATE))
    settings = dict(name="tiny", architecture="mamba-tasnet", config=vars(SIZES), task="separate")
    store.save(tmp_path / "tiny", MambaTasNet(SIZES), **settings)
    common = [manifest, "--model", str(tmp_path / "tiny"), "--examples", "4"]
    main([*common, "-o", str(tmp_path / "out"), "--steps", "3"])
    assert store.load(tmp_path / "out", expect_task="widen")[0].config.sample_rate == 8000
    capsys.readouterr()
    main([*common, "--measure", str(tmp_path / "out"), "--turns"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["network", "equal", "best"]
    assert all("4 mixtures" in line for line in lines)
