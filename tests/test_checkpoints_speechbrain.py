"""Import of SpeechBrain folders: names, shapes, the choice among checkpoints, and everything hostile."""

import os
import pickle
import re
import zipfile
from collections import OrderedDict

import pytest
import torch

from slyther_cli.checkpoints import places, speechbrain, store
from slyther_cli.errors import ModelError


def state_dicts(d=8, layers=2, kernel=4, speakers=2, states=3, n_filters=None):
    """A Mamba-TasNet as SpeechBrain names it, written down from the list of names, not from our network."""
    g = torch.Generator().manual_seed(1)
    n = n_filters or d
    di, r = 2 * d, -(-d // 16)

    def t(*shape):
        return torch.randn(*shape, generator=g)

    masknet = OrderedDict()
    masknet["layer_norm.gamma"], masknet["layer_norm.beta"] = t(1, 1, n), t(1, 1, n)
    masknet["bottleneck_conv1x1.conv.weight"] = t(d, n, 1)
    for i in range(layers):
        mixer = {"A_log": t(di, states), "D": t(di), "A_b_log": t(di, states), "D_b": t(di)}
        mixer |= {"in_proj.weight": t(2 * di, d), "out_proj.weight": t(d, di)}
        for b in ("", "_b"):
            mixer |= {f"conv1d{b}.weight": t(di, 1, 4), f"conv1d{b}.bias": t(di)}
            mixer |= {f"x_proj{b}.weight": t(r + 2 * states, di)}
            mixer |= {f"dt_proj{b}.weight": t(di, r), f"dt_proj{b}.bias": t(di)}
        masknet |= {f"mamba_net.layers.{i}.mixer.{k}": v for k, v in mixer.items()}
        masknet[f"mamba_net.layers.{i}.norm.weight"] = t(d)
    masknet["mamba_net.norm_f.weight"] = t(d)
    masknet["mask_conv1x1.conv.weight"] = t(speakers * n, d, 1)
    return {
        "encoder": {"conv1d.weight": t(n, 1, kernel)},
        "masknet": masknet,
        "decoder": {"weight": t(n, 1, kernel)},
    }


def write(folder, dicts=None, **sizes):
    folder.mkdir(parents=True, exist_ok=True)
    dicts = dicts or state_dicts(**sizes)
    for stem, state in dicts.items():
        torch.save(state, folder / f"{stem}.ckpt")
    return dicts


def refused(*args, **kwargs):
    with pytest.raises(ModelError) as error:
        speechbrain.import_folder(*args, **kwargs)
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 400, text
    return text


@pytest.mark.parametrize(
    "sizes", [{}, {"speakers": 3, "layers": 1}, {"n_filters": 12, "kernel": 6, "states": 5}]
)
def test_round_trip(tmp_path, sizes):
    states = write(tmp_path / "src", **sizes)
    folder = speechbrain.import_folder(tmp_path / "src", tmp_path / "mine")
    model, config = store.load(folder, expect_task="separate")
    ours = model.state_dict()
    theirs = {f"{stem}.{k}": v for stem, state in states.items() for k, v in state.items()}
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[k], theirs[k]) for k in theirs)
    assert config.name == "mine" and config.architecture == "mamba-tasnet"
    kernel = sizes.get("kernel", 4)
    assert config.config["stride"] == kernel // 2 and config.config["sample_rate"] == 8000
    assert config.config["n_speakers"] == sizes.get("speakers", 2)


def test_a_causal_network_and_a_parallel_wrapper(tmp_path):
    states = state_dicts()
    for key in [k for k in states["masknet"] if "_b." in k or k.endswith(("D_b", "A_b_log"))]:
        del states["masknet"][key]
    states = {s: {f"module.{k}": v for k, v in d.items()} for s, d in states.items()}
    write(tmp_path / "src", states)
    assert store.load(speechbrain.import_folder(tmp_path / "src", tmp_path / "m"))[1].config["causal"] is True


def test_run_folder_gives_its_best_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "my_model" / "1234"
    losses = {"00": "-11.2", "01": "-19.53", "02": ".nan", "03": "-1.9e1"}
    for tag, loss in losses.items():
        write(run / "save" / f"CKPT+2024+{tag}")
        (run / "save" / f"CKPT+2024+{tag}" / "CKPT.yaml").write_text(
            f"# yamllint disable\nend-of-epoch: true\nsi-snr: {loss}\nunixtime: 1.7e9\n"
        )
    (run / "hyperparams.yaml").write_text("# made\nsample_rate: 16000  # Hz\nkernel_size: 16\n")
    assert speechbrain.find_checkpoint(run).name == "CKPT+2024+01"
    assert speechbrain.find_checkpoint(run / "save").name == "CKPT+2024+01"
    folder = speechbrain.import_folder(run)
    assert folder == tmp_path / "cache" / "my_model"
    config = store.load("my_model")[1]
    assert config.config["sample_rate"] == 16000
    assert config.metrics == {"validation SI-SNR (dB)": 19.53}
    assert "exists already" in refused(run)
    assert (
        store.read_config(speechbrain.import_folder(run, name="b", sample_rate=8000)).config["sample_rate"]
        == 8000
    )


def test_several_checkpoints_without_scores(tmp_path):
    for tag in ("a", "b"):
        write(tmp_path / "save" / f"CKPT+{tag}")
    assert "holds 2 checkpoints" in refused(tmp_path)


def test_a_shipped_name_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "shipped_dirs", lambda: [tmp_path / "shipped"])
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    write(tmp_path / "src")
    speechbrain.import_folder(tmp_path / "src", tmp_path / "shipped" / "ours")
    assert "comes with slyther" in refused(tmp_path / "src", name="ours")
    assert "no model name" in refused(tmp_path / "src", name="../ours")


def other(masknet_keys):
    states = state_dicts()
    states["masknet"] = {k: torch.zeros(2) for k in masknet_keys}
    return states


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["dual_mdl.0.intra_mdl.layers.0.mixer.A_log", "conv2d.weight"], "DPMamba"),
        (["dual_mdl.0.intra_mdl.mdl.layers.0.self_att.att.in_proj_weight"], "Sepformer"),
        (["something.else"], "does not know"),
    ],
)
def test_other_architectures_are_named(tmp_path, keys, message):
    write(tmp_path / "src", other(keys))
    text = refused(tmp_path / "src", tmp_path / "m")
    assert message in text and re.search("is missing|has shape|does not know", text)


def _drop(stem, key):
    return lambda s: s[stem].pop(key)


def _put(stem, key, value):
    return lambda s: s[stem].update({key: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("masknet", "mamba_net.norm_f.weight"), "1 tensors missing"),
        (_drop("encoder", "conv1d.weight"), "not a dictionary"),
        (_drop("masknet", "mask_conv1x1.conv.weight"), "mask_conv1x1.conv.weight is missing"),
        (_put("masknet", "mask_conv1x1.conv.weight", torch.zeros(17, 8, 1)), "no multiple"),
        (_put("masknet", "mamba_net.layers.5.norm.weight", torch.zeros(8)), "without gaps"),
        (_put("masknet", "mamba_net.layers.0.mixer.A_log", torch.zeros(16)), "shape"),
        (_put("masknet", "new", torch.zeros(1)), "1 tensors not known"),
        (_put("decoder", "weight", torch.zeros(8, 1, 5)), "expected"),
        (_put("decoder", "weight", torch.full((8, 1, 4), float("nan"))), "not finite"),
        (_put("decoder", "weight", 3), "another thing"),
        (_put("decoder", "weight", torch.zeros(1).expand(10**6, 10**6)), "larger than the file"),
        # Small tensors that make the rest huge: nothing of that size may be allocated.
        (_put("masknet", "bottleneck_conv1x1.conv.weight", torch.zeros(10**6, 8, 1)), "out of bounds"),
        (_put("masknet", "bottleneck_conv1x1.conv.weight", torch.zeros(16_000, 8, 1)), "expected"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path, change, message):
    states = state_dicts()
    change(states)
    write(tmp_path / "src", states)
    assert message in refused(tmp_path / "src", tmp_path / "m")
    assert os.listdir(tmp_path) == ["src"]


class Bomb:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (os.mkdir, (self.path,))


class Quiet:
    """No code of its own, only a terabyte of zeros."""

    def __reduce__(self):
        return (bytearray, (1 << 40,))


@pytest.mark.parametrize("make", [lambda p: {"w": Bomb(p)}, lambda p: Bomb(p), lambda p: {"w": Quiet()}])
@pytest.mark.parametrize("scan", [True, False])
def test_pickle_bombs_do_not_go_off(tmp_path, monkeypatch, make, scan):
    if not scan:  # torch's weights_only must hold alone, too
        if isinstance(make(tmp_path), dict) and isinstance(make(tmp_path)["w"], Quiet):
            pytest.skip("torch lets bytearray through: our own scan is what stops it")
        monkeypatch.setattr(speechbrain.pickletools, "genops", lambda data: iter(()))
    write(tmp_path / "src")
    torch.save(make(tmp_path / "boom"), tmp_path / "src" / "masknet.ckpt")
    text = refused(tmp_path / "src", tmp_path / "m")
    assert "masknet.ckpt" in text
    if scan:
        assert "refused" in text and ("mkdir" in text or "bytearray" in text)
    assert os.listdir(tmp_path) == ["src"]


def test_old_pickles_are_not_opened(tmp_path):
    write(tmp_path / "src")
    (tmp_path / "src" / "masknet.ckpt").write_bytes(pickle.dumps(Bomb(tmp_path / "boom")))
    assert "not a zip" in refused(tmp_path / "src", tmp_path / "m")
    torch.save(
        Bomb(tmp_path / "boom"), tmp_path / "src" / "masknet.ckpt", _use_new_zipfile_serialization=False
    )
    assert "not a zip" in refused(tmp_path / "src", tmp_path / "m")
    assert os.listdir(tmp_path) == ["src"]


def rezip(path, change=lambda name, data: data, compression=zipfile.ZIP_STORED, more=()):
    with zipfile.ZipFile(path) as old:
        entries = [(e.filename, old.read(e)) for e in old.infolist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, data in [*entries, *more]:
            new.writestr(name, change(name, data))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_bombs_are_refused_before_loading(tmp_path, monkeypatch):
    write(tmp_path / "src")
    target = tmp_path / "src" / "masknet.ckpt"
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda p, **k: pytest.fail("opened a bomb") if p == target else load(p, **k)
    )
    original = target.read_bytes()
    bomb = [("masknet/data/999", bytes(64 << 20))]
    for kwargs, message in [
        ({"compression": zipfile.ZIP_DEFLATED, "more": bomb}, "never packs"),
        ({"more": [("masknet/DATA.PKL", b"x")]}, "layout"),
        ({"more": [("masknet/version", b"3\n")]}, "layout"),
    ]:
        target.write_bytes(original)
        rezip(target, **kwargs)
        if "compression" in kwargs:
            assert target.stat().st_size < 1 << 20
        assert message in refused(tmp_path / "src", tmp_path / "m")


def test_damaged_files(tmp_path):
    write(tmp_path / "src")
    target = tmp_path / "src" / "masknet.ckpt"
    original = target.read_bytes()
    for cut in (0, 1, 100, len(original) // 2, len(original) - 1):
        target.write_bytes(original[:cut])
        assert "masknet.ckpt" in refused(tmp_path / "src", tmp_path / "m")
    for at in range(0, min(len(original), 6000), 97):
        target.write_bytes(
            original[:at] + bytes(b ^ 0xFF for b in original[at : at + 7]) + original[at + 7 :]
        )
        try:
            speechbrain.read_checkpoint(target)
        except ModelError as error:
            assert "\n" not in str(error)
    target.unlink()
    assert "has no masknet.ckpt" in refused(tmp_path / "src", tmp_path / "m")


def test_no_such_folder(tmp_path):
    assert "no such folder" in refused(tmp_path / "nothing")
    assert "no SpeechBrain" in refused(tmp_path)
    assert "cannot read" in refused(tmp_path / ("x" * 4000))
