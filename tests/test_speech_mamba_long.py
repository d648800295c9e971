"""Speech-Mamba over whole recordings: attention by tiles equals one pass, and memory does not grow."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import stirred

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import UsageError
from slyther_cli.layers.attention import MultiheadAttention
from slyther_cli.longform.attention_sweep import attend
from slyther_cli.longform.recognition import encode_whole, plan_recognition
from slyther_cli.models.registry import build, full_config

SIZES = {"d_model": 16, "d_state": 5, "n_decoder_layers": 1, "n_heads": 2, "max_positions": 20}


pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def small_encoder(n_layers=2):
    torch.manual_seed(n_layers)
    model = build("speech-mamba", SIZES | {"n_layers": n_layers, "vocab": 31})
    model.start_from_s4d()
    return stirred(model)


def sound(n):
    return np.random.default_rng(n).standard_normal(n).astype(np.float32) * 0.1


@settings(max_examples=10)
@given(
    samples=st.integers(1, 160 * 4 * 100),
    blocks=st.integers(1, 5),
    tile=st.integers(1, 90),
    n_layers=st.integers(1, 3),
    file=st.booleans(),
)
def test_by_tiles_is_one_pass(tmp_path_factory, samples, blocks, tile, n_layers, file):
    """Longer than the stored table of positions, too."""
    model, x = small_encoder(n_layers), sound(samples)
    plan = plan_recognition(model, samples, work_dir=tmp_path_factory.getbasetemp())
    assert plan.sweeps == n_layers + 1 and plan.tape == "memory"
    plan = replace(plan, tape="file") if file else plan
    shares = []
    pieces = encode_whole(model, lambda: iter(np.array_split(x, blocks)), plan, shares.append, tile=tile)
    found = torch.cat(list(pieces))
    with torch.no_grad():
        wanted = model.encode(model.features(torch.from_numpy(x)[None]))[0]
    assert found.shape == wanted.shape
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 10**6),
    queries=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 700), min_size=1, max_size=3),
)
@torch.no_grad()
def test_attention_by_pieces(seed, queries, lengths):
    """Scores far apart: the running maximum keeps them in range."""
    torch.manual_seed(seed)
    attention = MultiheadAttention(8, 2)
    x, memory = 30 * torch.randn(1, queries, 8), 30 * torch.randn(1, sum(lengths), 8)
    seen = attention.keys_values(memory)
    keys, values = (part[0].transpose(0, 1).flatten(1) for part in seen)
    pieces = zip(keys.split(lengths), values.split(lengths), strict=True)
    torch.testing.assert_close(attend(attention, x, pieces), attention.eval()(x, seen), rtol=1e-4, atol=1e-3)


def test_the_tapes_may_lie_in_files(tmp_path):
    model, x = small_encoder(3), sound(16000 * 30)
    plan = plan_recognition(model, len(x), work_dir=tmp_path)
    needs = plan.working_bytes
    filed = plan_recognition(model, len(x), work_dir=tmp_path, memory_limit=needs + 1)
    assert plan.tape == "memory" and filed.tape == "file" and plan.tape_bytes == filed.tape_bytes
    one, other = (torch.cat(list(encode_whole(model, lambda: iter([x]), p))) for p in (plan, filed))
    assert torch.equal(one, other) and list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="keeps no work"):
        plan_recognition(model, len(x), work_dir=tmp_path, resume=True)


@pytest.mark.parametrize("decode", ["greedy", "joint"])
def test_the_command(tmp_path, capsys, decode):
    """Random weights: what is checked is that a recording of two minutes goes through, and its times."""
    config = full_config("speech-mamba", SIZES | {"n_layers": 1, "vocab": 31})
    alphabet = CharTokenizer(ends=True)
    store.save(
        tmp_path / "m", small_encoder(1), name="m", architecture="speech-mamba", config=config,
        task="transcribe", companions=alphabet.save,
    )  # fmt: skip
    sf.write(tmp_path / "x.wav", sound(16000 * (120 if decode == "greedy" else 30)), 16000)
    command = ["transcribe", str(tmp_path / "x.wav"), "-m", str(tmp_path / "m")]
    search = ["--decode", decode, *(["--beam", "2"] if decode == "joint" else [])]
    assert main([*command, *search, "-q", "-f", "json"]) == 0
    for segment in json.loads(capsys.readouterr().out)["segments"]:
        assert 0 <= segment["start"] <= segment["end"] <= 120
    assert main([*command, "--resume", "-o", str(tmp_path)]) == 4
    assert "keeps no work" in capsys.readouterr().err
