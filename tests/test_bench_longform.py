"""`slyther bench longform`: what it measures is what it says."""

import json
import sys

import numpy as np
import pytest
import torch
from longform_tools import noise, small_model
from voices import RATE, SPEAKERS, corpus

from slyther_cli import app
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.evaluation.metrics import assign, si_snr_matrix
from slyther_cli.research.studies import longform_quality as quality
from slyther_cli.research.studies.longform_cost import measure_memory
from slyther_cli.research.studies.longform_recordings import Pairs, recording, speakers, track


class Oracle:
    """Knows the voices; gives them in an order that a rule chooses for every call, with some noise."""

    config = small_model().config
    decoder = small_model().decoder

    def __init__(self, voices, order=lambda call: (0, 1)):
        self.voices, self.order, self.calls = voices, order, 0
        self.mixture = voices.sum(0)

    def __call__(self, x):
        """The voices under a stretch of the mixture [1, n], padded with silence."""
        x = x[0].numpy()
        loud = np.flatnonzero(x)
        n = loud[-1] + 1 - loud[0] if len(loud) else 0
        out = np.zeros((2, len(x)), np.float32)
        if n:
            piece = x[loud[0] : loud[0] + n]
            at = next(
                i for i in np.flatnonzero(self.mixture == piece[0])
                if np.array_equal(self.mixture[i : i + n], piece)
            )  # fmt: skip
            out[:, loud[0] : loud[0] + n] = self.voices[:, at : at + n]
        order = self.order(self.calls)
        self.calls += 1
        return torch.from_numpy(out[list(order)])[None]


def test_windows_keep_the_sound_and_put_stems_into_order():
    voices = noise(2 * 30_000).reshape(2, -1) + np.float32(0.01)
    oracle = Oracle(voices, lambda call: (0, 1) if call % 3 else (1, 0))
    out = np.concatenate(list(quality.windowed(oracle, oracle.mixture, 1.0)), 1)
    assert oracle.calls > 5 and out.shape == voices.shape
    best = min(np.abs(out - voices).max(), np.abs(out[::-1] - voices).max())
    assert best < 1e-6  # the fades add up to one, no window is swapped


def test_scores_are_those_of_the_definition_and_swaps_are_seen():
    rng, cell = np.random.default_rng(0), 4000
    voices = rng.standard_normal((2, 10 * cell)).astype(np.float32)
    voices[1, 7 * cell : 8 * cell] = 0  # one is silent there
    stems = voices + 0.3 * rng.standard_normal(voices.shape).astype(np.float32)
    stems[:, 4 * cell : 6 * cell] = stems[::-1, 4 * cell : 6 * cell].copy()
    mixture = voices.sum(0)
    blocks = (stems[:, i : i + 777] for i in range(0, stems.shape[1], 777))
    piece = quality.Piece(blocks, mixture, voices, cell, quality.speaking(voices))
    found = si_snr_matrix(np.concatenate([stems, mixture[None]]), voices)
    assert piece.order == assign(found[:2]) == (0, 1)
    assert piece.si_snri == pytest.approx(found[[0, 1], [0, 1]].mean() - found[2].mean(), abs=1e-6)
    assert list(np.flatnonzero(piece.swapped & piece.both)) == [4, 5]
    assert list(piece.both) == [True] * 7 + [False] + [True] * 2
    one = si_snr_matrix(np.concatenate([stems, mixture[None]])[:, :cell], voices[:, :cell])
    assert piece.gains[0] == pytest.approx(one[[0, 1], [0, 1]].mean() - one[2].mean(), abs=1e-6)
    row = quality.summarise([piece])
    assert row["cells"] == 9 and row["swapped"] == pytest.approx(2 / 9, abs=1e-4)
    assert row["by_tenth"][7] is None and row["by_tenth"][4] < row["by_tenth"][0]


def test_a_recording_is_the_beginning_of_a_longer_one(tmp_path):
    manifest = corpus(tmp_path, each=3)
    names, short = recording(Pairs(manifest), 1, 20, RATE)
    again, longer = recording(Pairs(manifest), 1, 45, RATE)
    assert names == again == ["cleo", "dan"] and np.array_equal(longer[:, : 20 * RATE], short)
    assert not np.array_equal(recording(Pairs(manifest, seed=1), 1, 20, RATE)[1], short)
    active = np.abs(longer).reshape(2, -1, RATE // 10).max(2) > 1e-3
    for a, b in [(1, 1), (1, 0), (0, 1)]:  # overlaps and turns
        assert ((active[0] == a) & (active[1] == b)).mean() > 0.02
    with pytest.raises(InputError, match="pairs"):
        recording(Pairs(manifest), 2, 20, RATE)


def test_pairs_of_one_sex(tmp_path):
    manifest = corpus(tmp_path, each=2)
    found = {}
    for pair in range(2):
        names, voices = recording(Pairs(manifest, same_sex=True), pair, 20, RATE)
        assert len({SPEAKERS[name][1] for name in names}) == 1 and np.abs(voices).max(1).all()
        found |= dict.fromkeys(names)
    assert set(found) == {"ann", "bob", "cleo", "dan"}
    with pytest.raises(InputError, match="2 pairs of speakers of one sex"):
        recording(Pairs(manifest, same_sex=True), 2, 20, RATE)
    with pytest.raises(InputError, match="0 pairs of speakers of one sex"):
        recording(Pairs(corpus(tmp_path / "untold", sex=False), same_sex=True), 0, 20, RATE)


def test_chapters_are_read_in_their_order(tmp_path):
    corpus(tmp_path, each=4)
    lines = (tmp_path / "manifest.tsv").read_text().splitlines()
    for name in ("bob", "dan"):
        for i in range(4):
            (tmp_path / f"test-{name}-{i}.wav").rename(tmp_path / f"7-{name}-{i:04}.wav")
    text = "\n".join([lines[0], *reversed(lines[1:])])
    for name in ("bob", "dan"):
        for i in range(4):
            text = text.replace(f"test-{name}-{i}.wav", f"7-{name}-{i:04}.wav")
    (tmp_path / "manifest.tsv").write_text(text + "\n")
    (tmp_path / "chapters.tsv").write_text(
        "chapter\tspeaker\tfirst_utt\tlast_utt\n7-bob\tbob\t1\t3\n7-dan\tdan\t0\t3\n8-x\tx\t0\t9\n"
    )
    found = speakers(tmp_path / "manifest.tsv", "test")
    assert list(found) == ["dan", "bob", "ann", "cleo"]
    assert [u.path.stem for u in found["bob"][0]] == ["7-bob-0001", "7-bob-0002", "7-bob-0003"]
    (tmp_path / "chapters.tsv").write_text("chapter\tspeaker\tfirst_utt\tlast_utt\n7-bob\tbob\tx\t3\n")
    with pytest.raises(InputError, match="7-bob"):
        speakers(tmp_path / "manifest.tsv", "test")


def test_runs_come_again_when_they_are_used_up():
    runs = [[np.full(50, k, np.float32), np.full(30, k + 0.5, np.float32)] for k in (1, 2)]
    out = track(np.random.default_rng(0), runs, 20_000, 10)
    found = [v for v, before in zip(out[1:], out, strict=False) if v and not before]
    assert len(found) > 50 and set(found) == {1, 1.5, 2, 2.5}
    assert all(b == a + 0.5 for a, b in zip(found[::2], found[1::2], strict=False))  # no run is broken


def saved(folder, **more):
    config = {"n_filters": 16, "d_model": 8, "n_layers": 2, **more}
    model = registry.build("mamba-tasnet", config)
    store.save(folder, model, name="m", task="separate", architecture="mamba-tasnet", config=config)
    return str(folder)


def test_the_command(tmp_path, capsys):
    model, manifest = saved(tmp_path / "model"), str(corpus(tmp_path / "speech"))
    bench = ["bench", "longform", "-m", model, "--manifest", manifest]
    assert app.main([*bench, "--parts", "quality", "--lengths", "10,20", "--windows", "3", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["how"], r["seconds"], r["pieces"]) for r in rows] == [
        ("whole", 10, 2), ("whole", 20, 1), ("windows", 3, 1),
    ]  # fmt: skip
    assert len({r["cells"] for r in rows}) == 1 and rows[0]["swapped"] == 0
    assert app.main([*bench, "--parts", "quality", "--lengths", "10", "--windows", ""]) == 0
    assert "SI-SNRi" in capsys.readouterr().out
    for bad in (["--parts", "taste"], ["--lengths", "10,25"], ["--lengths", "x"], ["--windows", "0"]):
        assert app.main([*bench, "--parts", "quality", *bad]) == 2
    assert app.main(["bench", "longform", "--parts", "quality"]) == 2
    with pytest.raises(UsageError):
        measure_memory(model, [0], 10**9)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cost_is_measured_in_processes_of_their_own(tmp_path, capsys):
    model = saved(tmp_path / "model")
    bench = ["bench", "longform", "-m", model, "--lengths", "2", "--runs", "1", "--work-dir", str(tmp_path)]
    assert app.main([*bench, "--json"]) == 0
    memory, speed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert memory["part"] == "memory" and memory["holds"] and memory["cpu_per_second"] > 0
    assert 0 < memory["extra_bytes"] < 500e6 < 500e6 + memory["idle_bytes"]
    assert memory["peak_bytes"] == memory["idle_bytes"] + memory["extra_bytes"]
    assert speed["part"] == "speed" and speed["ratio"] == pytest.approx(
        speed["swept"] / speed["one_pass"], abs=0.01
    )
    assert [p.name for p in tmp_path.iterdir()] == ["model"]
    assert app.main([*bench, "--parts", "memory", "--memory-limit", "1MB"]) == 1
    assert "too small" in capsys.readouterr().err
