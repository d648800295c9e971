"""``slyther bench efficiency``: equal sizes, runs in processes of their own, where Mamba stays ahead, the
picture."""

import json
import sys
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.app import main
from slyther_cli.errors import UsageError
from slyther_cli.models import registry
from slyther_cli.research.studies import efficiency, efficiency_plot
from slyther_cli.research.studies.efficiency import KINDS, PAIRS, Job, crossover, measure, run, speak


@pytest.mark.parametrize("task", PAIRS)
def test_both_are_equally_large(task):
    for sizes in ("equal", "small"):
        mamba, other = (registry.parameter_count(*pair) for pair in PAIRS[task][sizes])
        assert abs(mamba / other - 1) < 0.005, (sizes, mamba, other)
    assert PAIRS[task]["equal"][1] == PAIRS[task]["published"][1]  # the counterpart is the published one


def test_the_command_measures_in_fresh_processes(tmp_path, capsys):
    torch.zeros(1 << 26)  # 256 MB here must not be seen there
    plot = tmp_path / "out.svg"
    command = ["bench", "efficiency", "--task", "recognition", "--sizes", "small", "--max-seconds", "1"]
    assert main([*command, "--repeats", "1", "-d", "cpu", "--json", "--plot", str(plot)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line["event"] == "bench_efficiency"]
    assert [(r["kind"], r["seconds"], r["problem"]) for r in rows] == [(k, 1, "") for k in KINDS]
    for row in rows:
        assert row["tokens"] == 25 and row["cpu_seconds"] > 0 and 0 < row["extra_bytes"] < 200e6
    ends = [line for line in lines if line["event"] == "bench_efficiency_crossover"]
    assert [line["what"] for line in ends] == ["time", "memory"] and ends[0]["longest_seconds"] == 1
    root = ElementTree.fromstring(plot.read_text())
    assert len(root.findall(".//{http://www.w3.org/2000/svg}polyline")) == 4


def tiny(monkeypatch):
    """Networks of a few thousand parameters in place of the named ones."""
    net = {"n_filters": 8, "n_layers": 1}
    ear = {"d_model": 8, "n_layers": 1, "d_ffn": 8, "decoder": "none", "vocab": 5, "n_heads": 2}
    voice = {"d_model": 8, "n_layers": 1, "n_nar_layers": 1, "d_ffn": 8, "n_codebooks": 3, "frame_rate": 25}
    attention = {"n_heads": 2, "d_ffn": 8}
    pairs = {
        "separation": (("mamba-tasnet", {**net, "d_model": 8}), ("sepformer", {**net, **attention})),
        "recognition": (("conmamba", ear), ("conformer", ear)),
        "synthesis": (("vall-m", voice), ("vall-e", {**voice, "n_heads": 2})),
    }
    pairs["decoding"] = pairs["synthesis"]
    monkeypatch.setattr(efficiency, "PAIRS", {task: {"equal": pair} for task, pair in pairs.items()})


@pytest.mark.parametrize("task", PAIRS)
def test_every_task_runs(task, monkeypatch):
    tiny(monkeypatch)
    for kind, (architecture, config) in zip(KINDS, efficiency.PAIRS[task]["equal"], strict=True):
        row = run(Job(task, kind, "equal", 0.5, repeats=1))
        assert row["architecture"] == architecture and "problem" not in row
        assert row["parameters"] == registry.parameter_count(architecture, config)
        assert row["tokens"] == round(efficiency.TOKENS_A_SECOND[task] * 0.5)
        assert row["cpu_seconds"] > 0 and row["wall_seconds"] > 0 and row["extra_bytes"] >= 0


def test_lengths_of_ones_own(monkeypatch):
    asked = []
    found = {"cpu_seconds": 1.0, "wall_seconds": 1.0, "extra_bytes": 1, "problem": ""}
    monkeypatch.setattr(efficiency, "in_fresh_process", lambda name, job, threads: asked.append(job) or found)
    rows = measure("decoding", "small", lengths=[3, 600])
    assert [(job["kind"], job["seconds"]) for job in asked] == [(k, s) for s in (3, 600) for k in KINDS]
    assert [row["seconds"] for row in rows] == [3, 3, 600, 600]
    with pytest.raises(UsageError, match="1 s or more"):
        measure("decoding", "small", lengths=[0.5])
    assert main(["bench", "efficiency", "--task", "decoding", "--lengths", "a"]) == 2


@torch.inference_mode()
def test_speaking_is_what_the_networks_say(monkeypatch):
    """The stepped first codebook equals the network's own over the whole; 5 frames, no end."""
    tiny(monkeypatch)
    for architecture, config in efficiency.PAIRS["synthesis"]["equal"]:
        torch.manual_seed(0)
        model = registry.build(architecture, config).eval()
        symbols = torch.randint(1, 100, (1, 6))
        codes = speak(model, symbols, 5)
        text = model.read(symbols)
        said = model.ar_audio_embedding(model._shifted(codes[:, 0]))
        logits = model.ar_predict_layer(model.after_text(model.ar_decoder, text, None, said, None))
        assert torch.equal(logits[..., :1024].argmax(-1), codes[:, 0]) and codes.shape == (1, 3, 5)


def test_a_network_that_runs_out_of_memory_gives_up(monkeypatch):
    tried = []

    def child(module, payload, threads):
        tried.append((payload["kind"], payload["seconds"]))
        if payload["kind"] == "transformer" and payload["seconds"] == 4:
            return {"problem": "out of memory"}
        return {"cpu_seconds": 1.0, "wall_seconds": 1.0, "extra_bytes": 5}

    monkeypatch.setattr(efficiency, "in_fresh_process", child)
    rows = measure("separation", max_seconds=9)
    assert tried == [*((k, s) for s in (1, 2, 4) for k in KINDS), ("mamba", 8)]
    assert crossover(rows, "extra_bytes")["from_seconds"] == 4  # where the other one gave up


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_a_limit_of_memory_is_kept():
    job = {"task": "separation", "kind": "mamba", "sizes": "small", "seconds": 8, "repeats": 1,
           "memory_limit": 20 << 20}  # fmt: skip
    found = efficiency.in_fresh_process(efficiency.__name__, job, 1)
    assert found["problem"] == "out of memory"


def rows_of(mamba, other):
    out = []
    for i, pair in enumerate(zip(mamba, other, strict=True)):
        for kind, figure in zip(KINDS, pair, strict=True):
            row = {"seconds": 2**i, "kind": kind, "device": "cpu", "problem": "" if figure else "full"}
            out.append(row | ({"cpu_seconds": figure} if figure else {}))
    return out


@pytest.mark.parametrize(
    ("mamba", "other", "start", "behind"),
    [
        ([1, 1, 1], [2, 2, 2], 1, None),
        ([1, 3, 1, 1], [2, 2, 2, 2], 4, 2),  # ahead, behind, ahead for good
        ([1, 1, 3], [2, 2, 2], None, 4),
        ([1, 3, 3], [1, 2, None], 4, 2),  # the other one gave up
        ([1, 1, None], [2, 2, 2], None, 4),
        ([3, None], [2, None], None, 1),
    ],
)
def test_where_mamba_stays_ahead(mamba, other, start, behind):
    found = crossover(rows_of(mamba, other), "cpu_seconds")
    assert (found["from_seconds"], found["after_seconds"]) == (start, behind)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)), min_size=1, max_size=6))
def test_from_the_crossover_on_it_is_ahead_everywhere(figures):
    found = crossover(rows_of(*zip(*figures, strict=True)), "cpu_seconds")
    ahead = [mamba < other for mamba, other in figures]
    start = next((i for i in range(len(ahead)) if all(ahead[i:])), None)
    assert found["from_seconds"] == (None if start is None else 2**start)
    assert found["ratio"] == pytest.approx(figures[-1][1] / figures[-1][0])


def test_what_makes_no_sense(tmp_path, capsys, monkeypatch):
    with pytest.raises(UsageError):
        measure("cooking")
    with pytest.raises(UsageError):
        measure("separation", max_seconds=0.5)
    command = ["bench", "efficiency", "--task", "separation", "--plot"]
    assert main([*command, str(tmp_path / "a.gif")]) == 2
    assert main([*command, str(tmp_path / "none" / "a.svg")]) != 0
    monkeypatch.setattr(efficiency_plot.importlib.util, "find_spec", lambda name: None)
    assert main([*command, str(tmp_path / "a.png")]) == 2
    told = capsys.readouterr().err
    assert "matplotlib" in told and "no folder" in told and "Traceback" not in told
    assert main(["bench", "efficiency", "--task", "cooking"]) == 2
