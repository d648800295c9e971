"""The model folder: round trips, every kind of damage, names and places."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from slyther_cli.checkpoints import places, store
from slyther_cli.checkpoints.config import parse_config
from slyther_cli.errors import ModelError, OutputError
from slyther_cli.jobs import setup
from slyther_cli.models import registry

CONFIG = {"n_filters": 8, "kernel_size": 4, "stride": 2, "d_model": 6, "n_layers": 2, "d_state": 3}


WIDE = {"d_model": 48}  # wide enough to be packed in eight bits


def tiny(**changes):
    torch.manual_seed(0)
    return registry.build("mamba-tasnet", CONFIG | changes)


def save(folder, model=None, **kwargs):
    kwargs = {"name": "tiny", "architecture": "mamba-tasnet", "config": CONFIG, "task": "separate"} | kwargs
    return store.save(folder, model if model is not None else tiny(), **kwargs)


def edit(folder, **changes):
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["config"] |= changes.pop("config", {})
    path.write_text(json.dumps(data | changes))


def one_line(error):
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 400, text
    return text


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(places, "shipped_dirs", lambda: [tmp_path / "shipped"])
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("models") / "tiny", source="here", metrics={"SI-SNRi": 1.5}, seed=7)


def test_round_trip(saved):
    before = torch.get_rng_state()
    model, config = store.load(saved, expect_task="separate", expect_architecture="mamba-tasnet")
    assert torch.equal(before, torch.get_rng_state())
    assert not model.training
    for key, value in tiny().state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    assert (config.name, config.source, config.metrics, config.extra, config.path) == (
        "tiny",
        "here",
        {"SI-SNRi": 1.5},
        {"seed": 7},
        saved,
    )
    assert config.config == registry.full_config("mamba-tasnet", CONFIG)
    assert parse_config(config.to_json(), saved) == config


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_is_stored_and_loaded_as_float32(tmp_path, dtype):
    folder = save(tmp_path / "half", dtype=dtype)
    assert {t.dtype for t in load_file(folder / "model.safetensors").values()} == {dtype}
    model, _ = store.load(folder)
    for key, value in tiny().state_dict().items():
        assert torch.equal(model.state_dict()[key], value.to(dtype).float())
    assert store.load(folder, dtype=dtype)[0].decoder.weight.dtype == dtype


def test_eight_bits_are_a_quarter_of_the_size_and_nearly_the_same(tmp_path):
    model, config = tiny(**WIDE), CONFIG | WIDE
    whole = save(tmp_path / "whole", model, config=config)
    small = save(tmp_path / "small", model, config=config, dtype=torch.int8)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, small)]
    stored = load_file(small / "model.safetensors")
    packed = {key for key in stored if key + ":scale" in stored}
    assert packed and all(stored[key].dtype == torch.int8 for key in packed) and sizes[1] < 0.5 * sizes[0]
    store.check(small)
    loaded = store.load(small)[0].state_dict()
    for key, value in model.state_dict().items():
        rows, back = (t.flatten(1) if t.dim() > 1 else t[None] for t in (value, loaded[key]))
        allowed = rows.abs().amax(1, keepdim=True) * (1 / 254 if key in packed else 2**-11) * 1.0001 + 1e-7
        assert bool(((rows - back).abs() <= allowed).all()), key


@pytest.mark.parametrize("damage", ["shape", "type", "gone", "stray", "nan"])
def test_damaged_scales(tmp_path, damage):
    folder = save(tmp_path / "small", tiny(**WIDE), config=CONFIG | WIDE, dtype=torch.int8)
    tensors = load_file(folder / "model.safetensors")
    key = next(k for k in tensors if k.endswith(":scale"))
    if damage == "shape":
        tensors[key] = tensors[key][:-1].clone()
    elif damage == "type":
        tensors[key] = tensors[key].half()
    elif damage == "gone":
        del tensors[key]
    elif damage == "stray":
        tensors["nothing:scale"] = tensors[key].clone()
    else:
        tensors[key][0] = torch.nan
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError) as error:
        store.load(folder)
    one_line(error)


def test_save_replaces_a_model_keeps_its_card_and_nothing_else(tmp_path):
    folder = save(tmp_path / "m", card="words")
    save(folder, tiny(n_layers=1), config=CONFIG | {"n_layers": 1})
    assert store.read_config(folder).config["n_layers"] == 1
    assert (folder / "CARD.md").read_text() == "words"
    assert oct((folder / "model.safetensors").stat().st_mode) == oct((folder / "config.json").stat().st_mode)
    (folder / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError) as error:
        save(folder)
    assert "thesis.tex" in one_line(error)
    assert (folder / "thesis.tex").exists() and store.check(folder)
    assert os.listdir(tmp_path) == ["m"]


@pytest.mark.parametrize("at", [0, 1])
def test_a_save_that_is_stopped_between_two_names_leaves_the_model(tmp_path, monkeypatch, at):
    folder, rename, calls = save(tmp_path / "m"), os.rename, []

    def stopped(*names):
        calls.append(names)
        if len(calls) == at + 1:
            raise KeyboardInterrupt
        rename(*names)

    monkeypatch.setattr(store.os, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        save(folder, tiny(n_layers=1), config=CONFIG | {"n_layers": 1})
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["m"] and store.check(folder).config["n_layers"] == CONFIG["n_layers"]


def test_save_fails_whole(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save_file", full)
    with pytest.raises(OutputError, match="No space left"):
        save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_save_refuses_what_load_would(tmp_path):
    broken = tiny()
    with torch.no_grad():
        broken.decoder.weight[0] = float("nan")
    for model, kwargs in (
        (broken, {}),
        (tiny(), {"config": CONFIG | {"n_layers": 3}}),
        (tiny(), {"metrics": {1j: 2}}),
    ):
        with pytest.raises(ModelError) as error:
            save(tmp_path / "m", model, **kwargs)
        one_line(error)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"format": None}, "no format"),
        ({"name": "../../etc"}, "name"),
        ({"task": "dance"}, "unknown task"),
        ({"task": "speak"}, "can separate"),
        ({"architecture": "wavenet"}, "unknown architecture"),
        ({"config": {"n_filters": 16}}, "n_filters = 16, the tensors say 8"),
        ({"config": {"n_filters": 2**60}}, "too large a number"),
        ({"config": {"n_layers": 500_000}}, "n_layers = 500000"),
        ({"config": {"d_model": 1_000_000}}, "d_model = 1000000"),
        ({"config": {"d_model": -1}}, "d_model = -1"),
        ({"config": {"n_speakers": 3}}, "n_speakers = 3, the tensors say 2"),
        ({"config": {"causal": True}}, "causal"),
        ({"config": {"stride": 0}}, "stride"),
        ({"config": {"sample_rate": 1e400}}, "damaged|out of bounds"),
        ({"config": {"layers": [[1]]}}, "neither"),
        ({"config": {"nonsense": 1}}, "nonsense"),
    ],
)
def test_damaged_config(tmp_path, changes, message):
    folder = save(tmp_path / "m")
    edit(folder, **changes)
    with pytest.raises(ModelError, match=message) as error:
        store.load(folder)
    one_line(error)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "nul", "[" * 100_000, '{"format": 1' + " " * (1 << 20) + "}", "\xff\xfe"]
)
def test_config_that_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ModelError) as error:
        store.load(tmp_path)
    one_line(error)


def _retensor(change):
    def damage(path):
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


def _cut(path):
    os.truncate(path, path.stat().st_size - 5)


def _huge_header(path):
    path.write_bytes(struct.pack("<Q", 1 << 62) + b"{}")


def _sparse(path):
    with open(path, "r+b") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "damaged"),
        (_huge_header, "damaged"),
        (_sparse, "larger than"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: p.unlink(), "has no model.safetensors"),
        (_retensor(lambda t: t.pop("decoder.weight")), "1 tensors missing"),
        (_retensor(lambda t: t.update(evil=torch.zeros(1))), "1 tensors not known"),
        (_retensor(lambda t: t.update({"decoder.weight": torch.zeros(8, 1, 5)})), "expected"),
        (_retensor(lambda t: t.pop("encoder.conv1d.weight")), "encoder.conv1d.weight is missing"),
        (_retensor(lambda t: t["decoder.weight"].fill_(float("nan"))), "not finite"),
        (_retensor(lambda t: t["decoder.weight"].fill_(float("inf"))), "not finite"),
        (_retensor(lambda t: t.update({"decoder.weight": t["decoder.weight"].long()})), "type I64"),
    ],
)
def test_damaged_weights(tmp_path, damage, message):
    folder = save(tmp_path / "m")
    damage(folder / "model.safetensors")
    with pytest.raises(ModelError, match=message) as error:
        store.load(folder)
    one_line(error)


def test_another_task_or_architecture(saved):
    with pytest.raises(ModelError, match="made to separate"):
        store.load(saved, expect_task="transcribe")
    with pytest.raises(ModelError, match="is a mamba-tasnet"):
        store.load(saved, expect_architecture="conmamba")


def test_where_names_lead(tmp_path, cache, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="slyther weights pull mamba-tasnet-xs"):
        store.load("mamba-tasnet-xs")
    with pytest.raises(ModelError, match=r"did you mean mamba-tasnet-(s|m|xs)") as error:
        store.load("mambatasnet-s")
    assert "slyther weights pull" in one_line(error)
    save(cache / "tiny")
    save(tmp_path / "shipped" / "other")
    assert [(n, k) for n, _, k in places.available()] == [("other", "shipped"), ("tiny", "cache")]
    assert store.resolve("tiny") == cache / "tiny"
    save(tmp_path / "shipped" / "tiny")
    assert store.resolve("tiny") == tmp_path / "shipped" / "tiny"
    (tmp_path / "tiny").mkdir()  # results of an earlier run: not a model, must not hide one
    assert store.resolve("tiny") == tmp_path / "shipped" / "tiny"
    save(tmp_path / "tiny")
    assert store.resolve("tiny") == Path("tiny")


def test_names_of_models_for_other_tasks_are_not_offered(tmp_path, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path))

    def told(call, *args):
        with pytest.raises(ModelError) as error:
            call(*args)
        return one_line(error)

    separators, recognisers = told(store.resolve, "zzz", "separate"), told(store.resolve, "zzz", "transcribe")
    assert "mamba-tasnet-8k-2spk" in separators and "mamba-tasnet-xs" in separators and "pull" in separators
    assert recognisers == "unknown model 'zzz': known are conmamba-ctc-16k-en"
    assert "did you mean conmamba-ctc-16k-en" in told(store.resolve, "conmamba-ctc-16k", "transcribe")
    assert all(
        name in told(store.resolve, "zzz") for name in ("codec-16k", "conmamba-ctc-16k-en", "dpmamba-m")
    )
    wrong = told(setup.choose_model, "transcribe", "mamba-tasnet-8k-2spk", "none")
    assert wrong.endswith("made to separate: to transcribe takes another model (conmamba-ctc-16k-en)")


@pytest.mark.parametrize("name", ["", "nothing/here", "../x", "a\0b", "x" * 5000, "/etc/passwd", "é"])
def test_names_that_lead_nowhere(name, cache):
    with pytest.raises(ModelError) as error:
        store.resolve(name)
    one_line(error)


def test_a_speechbrain_folder_is_to_be_imported(tmp_path):
    (tmp_path / "save" / "CKPT+1").mkdir(parents=True)
    with pytest.raises(ModelError, match="slyther weights import"):
        store.load(tmp_path)


def test_cache_dir(monkeypatch):
    for variable in ("SLYTHER_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert places.cache_dir() == Path.home() / ".cache" / "slyther"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert places.cache_dir() == Path.home() / ".cache" / "slyther"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert places.cache_dir() == Path("/xdg/slyther")
    monkeypatch.setenv("SLYTHER_CACHE", "~/c")
    assert places.cache_dir() == Path.home() / "c"


def test_listing_needs_no_torch():
    code = (
        "import sys; from slyther_cli.checkpoints import places, catalogue, config, layout, download; "
        "list(places.available()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_config_loads_or_is_a_model_error(saved, tmp_path, data):
    original = json.loads((saved / "config.json").read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        where = original if data.draw(st.booleans()) else original.get("config")
        if not isinstance(where, dict):
            break
        key = data.draw(st.sampled_from(sorted(where)) | st.text(max_size=8)) if where else "x"
        value = data.draw(st.sampled_from([1, 2, 8, 2**20, 10**30, True, 0.5]) | json_values)
        if data.draw(st.booleans()):
            where[key] = value
        else:
            where.pop(key, None)
    text = json.dumps(original)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text) - 1))
        text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 4)) :]
    folder = tmp_path / "mutant"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    if not (folder / "model.safetensors").exists():
        os.link(saved / "model.safetensors", folder / "model.safetensors")
    try:
        store.load(folder)
    except ModelError as error:
        assert "\n" not in str(error)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(at=st.integers(0, 4000), junk=st.binary(min_size=1, max_size=9))
def test_any_damage_to_the_header_loads_or_is_a_model_error(saved, tmp_path, at, junk):
    folder = tmp_path / "mutant"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes((saved / "config.json").read_bytes())
    raw = bytearray((saved / "model.safetensors").read_bytes())
    raw[at : at + len(junk)] = junk
    (folder / "model.safetensors").write_bytes(raw)
    try:
        store.load(folder)
    except ModelError as error:
        assert "\n" not in str(error)


def test_companions_stand_beside_the_weights_and_are_replaced_with_them(tmp_path):
    from slyther_cli.decode.alphabets import load_tokenizer
    from slyther_cli.decode.tokens import CharTokenizer

    model = tiny()
    save(tmp_path / "m", model, companions=CharTokenizer("ab").save)
    assert load_tokenizer(tmp_path / "m").encode("ba") == [2, 1]
    save(tmp_path / "m", model, companions=CharTokenizer("xyz").save)
    assert load_tokenizer(tmp_path / "m").encode("zx") == [3, 1]
    (tmp_path / "m" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt"):
        save(tmp_path / "m", model, companions=CharTokenizer("ab").save)
    assert load_tokenizer(tmp_path / "m").encode("z") == [3]


def test_loading_models_does_not_import_torchs_compiler():
    """It takes two seconds, and torch does it to draw normal numbers on the meta device."""
    lines = ["import sys", "from slyther_cli.checkpoints import store"]
    lines += [f"store.load({name!r})" for name in ("codec-16k", "punctuation-en", "vall-me-16k-en")]
    lines += ["sys.exit('torch._dynamo' in sys.modules)"]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
