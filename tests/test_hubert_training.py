"""``slyther train hubert``: units, k-means, a run from sound to a model that tells masked units, resuming, a
second iteration on a layer, and a recogniser on top. The speech is tones that follow each other in a fixed
order, so that what is masked can be told from what is around it."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, UsageError
from slyther_cli.models.hubert import frames_of
from slyther_cli.research.training.hubert import HubertTask, read_config, train
from slyther_cli.research.training.pseudo_labels import Units, UnitsConfig, k_means, mfcc, nearest

RATE = 16000
CONFIG = """
name = "tones"
[model]
layer = "LAYER"
conv_width = 16
d_model = 24
n_layers = 2
n_heads = 2
d_ffn = 32
d_state = 4
kernel_size = 3
pos_kernel = 16
pos_groups = 4
n_classes = 6
final_dim = 8
mask_length = 4
mask_prob = 0.4
dropout = 0.0
layer_drop = 0.0
feature_grad = 1.0
[data]
manifests = ["manifest.tsv"]
cache = "cache"
[batch]
seconds = 4.0
crop_seconds = 1.0
[loop]
steps = STEPS
warmup = 5
lr = 5e-3
average = 0.9
log_seconds = 0.0
validate_minutes = 1000
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    lines = ["path\tspeaker\tsplit\ttranscript"]
    t = np.arange(int(0.16 * RATE)) / RATE
    tones = [np.sin(2 * np.pi * pitch * t) for pitch in (250, 700, 1600, 3500)]
    for i in range(16):
        first = rng.integers(4)
        whole = np.concatenate([tones[(first + k) % 4] for k in range(int(rng.integers(8, 14)))])
        sf.write(folder / f"{i}.wav", 0.2 * whole + 0.002 * rng.standard_normal(len(whole)), RATE)
        text = "".join("abcd"[(first + k) % 4] for k in range(len(whole) // len(t)))
        lines.append(f"{i}.wav\ts{i % 3}\t{'train' if i < 12 else 'dev'}\t{text}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def config(home, steps, layer="conbimamba", **changes):
    text = CONFIG.replace("STEPS", str(steps)).replace("LAYER", layer)
    for old, new in changes.items():
        text = text.replace(old, new)
    (home / "run.toml").write_text(text)
    return home / "run.toml"


@pytest.mark.parametrize("layer", ["conbimamba", "transformer"])
def test_the_command_trains_a_model_that_tells_what_is_masked(home, tmp_path, capsys, layer):
    path = config(home, 40, layer)
    assert main(["train", "hubert", "-c", str(path), "-o", str(tmp_path / "run"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    assert np.mean(losses[-5:]) < 0.6 * losses[0]
    valid = next(line for line in lines if line["event"] == "validate")
    assert valid["accuracy"] > 50 > valid["chance"] > 100 / 6 and valid["score"] == -valid["loss"]
    model, about = store.load(tmp_path / "run" / "best", expect_task="represent")
    assert about.metrics["dev_accuracy"] == valid["accuracy"] and model.config.layer == layer


def test_a_resumed_run_is_the_unbroken_one(home, tmp_path):
    """The schedule is a cosine over the steps, so the short run is the long one, stopped."""
    whole, parts = [], []
    train(config(home, 6), tmp_path / "whole", False, whole.append)
    task = HubertTask(read_config(config(home, 6)), home)
    keep, task.loss = task.loss, lambda step: keep(step) if step < 3 else stop()

    def stop():
        raise KeyboardInterrupt

    from slyther_cli.research.training.loop import train as run_loop

    with pytest.raises(KeyboardInterrupt):
        run_loop(task, read_config(home / "run.toml").loop, tmp_path / "parts", False, parts.append)
    train(home / "run.toml", tmp_path / "parts", True, parts.append)
    one, other = (torch.load(tmp_path / x / "last.pt", weights_only=True) for x in ("whole", "parts"))
    assert one["step"] == other["step"] == 6
    for key, value in one["model"].items():
        assert torch.equal(value, other["model"][key]), key


def test_batches_are_cut_on_the_grid_of_the_frames(home):
    task = HubertTask(read_config(config(home, 5)), home)
    for step in range(6):
        samples, units, masked = task.batch(step)
        assert units.shape == masked.shape == (len(samples), frames_of(samples.shape[1]))
        assert samples.shape[1] <= RATE and masked.any(1).all()
        for piece, told in zip(samples, units, strict=True):
            found = [
                (i, at)
                for i, x in enumerate(task.speech)
                for at in range(0, (len(x) - len(piece)) // 320 + 1)
                if np.array_equal(
                    np.asarray(x[at * 320 : at * 320 + 50], np.float32) / 32768, piece[:50].numpy()
                )
            ]
            i, at = found[0]
            assert np.array_equal(task.units[i][at : at + len(told)], told.numpy())
    again = HubertTask(read_config(config(home, 5)), home)
    for one, other in zip(task.batch(3), again.batch(3), strict=True):
        assert torch.equal(one, other)
    again.peers.rank = 1
    assert not torch.equal(task.batch(3)[2], again.batch(3)[2])


def test_a_second_iteration_takes_a_layer(home, tmp_path, capsys):
    train(config(home, 3), tmp_path / "one", False, lambda event: None)
    text = f'[units]\nsource = "{tmp_path}/one/best"\nlayer = 2\n[data]'
    train(config(home, 3, **{"[data]": text}), tmp_path / "two", False, lambda event: None)
    task = HubertTask(read_config(home / "run.toml"), home)
    model = store.load(tmp_path / "one" / "best")[0]
    with torch.inference_mode():
        samples = torch.from_numpy(np.asarray(task.speech[0], np.float32) / 32768)[None]
        layer = model.encode(model.features(samples))[0]
    centres = Units(read_config(home / "run.toml").units, 6, task.speech, home, home / "cache").centres
    assert np.array_equal(nearest(layer, centres)[0].numpy(), task.units[0])
    assert main(["train", "hubert", "-c", str(home / "run.toml"), "-o", str(tmp_path / "two")]) == 5
    wrong = config(home, 3, **{"[data]": text.replace("layer = 2", "layer = 3")})
    assert main(["train", "hubert", "-c", str(wrong), "-o", str(tmp_path / "three")]) == 2
    wrong = config(home, 3, **{"[data]": '[units]\nsource = "mamba-tasnet-8k-2spk"\n[data]'})
    assert main(["train", "hubert", "-c", str(wrong), "-o", str(tmp_path / "three")]) == 5
    assert "Traceback" not in capsys.readouterr().err


ON_TOP = """
name = "reads"
architecture = "hubert-ctc"
hubert = "HUBERT"
[model]
top = "TOP"
n_top_layers = 2
top_heads = 2
top_ffn = 32
dropout = 0.0
[data]
manifests = ["manifest.tsv"]
cache = "cache"
[augment]
speed = [1.0]
joined = 0.0
noise = 0.0
narrow = 0.0
wordless = 0.0
band_width = 1
mask_s = 0.0
[batch]
seconds = 6.0
intermediate = 0.3
[loop]
steps = 25
warmup = 5
lr = 1e-2
average = 0.9
log_seconds = 0.0
validate_minutes = 1000
"""


@pytest.fixture(scope="module")
def hubert(home):
    train(config(home, 10), home / "hubert", False, lambda event: None)
    return home / "hubert" / "best"


@pytest.mark.parametrize("top", ["none", "conformer", "conmamba"])
def test_a_recogniser_is_trained_on_top(home, hubert, tmp_path, capsys, top):
    text = ON_TOP.replace("HUBERT", str(hubert)).replace("TOP", top)
    if top == "none":
        text = text.replace("intermediate = 0.3", "intermediate = 0.0")
    (home / "top.toml").write_text(text)
    assert (
        main(["train", "transcribe", "-c", str(home / "top.toml"), "-o", str(tmp_path / "r"), "--json"]) == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    model = store.load(tmp_path / "r" / "best", expect_task="transcribe")[0]
    own, pretrained = model.wav2vec2.state_dict(), store.load(hubert)[0].wav2vec2.state_dict()
    assert all(torch.equal(own[name], pretrained[name]) for name in own)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('architecture = "hubert-ctc"', "", "hubert-ctc|unknown setting"),
        ('top = "conformer"', 'top = "none"', "intermediate"),
        ("[model]", "[model]\nd_model = 48", "would not fit"),
        ("/hubert/best", "/none", "none"),
    ],
)
def test_a_top_that_does_not_fit(home, hubert, tmp_path, capsys, old, new, says):
    (home / "top.toml").write_text(
        ON_TOP.replace("HUBERT", str(hubert)).replace("TOP", "conformer").replace(old, new)
    )
    assert main(["train", "transcribe", "-c", str(home / "top.toml"), "-o", str(tmp_path / "r")]) in (2, 5)
    error = capsys.readouterr().err
    assert any(word in error for word in says.split("|")) and "Traceback" not in error


def test_mfccs_by_hand():
    rng = np.random.default_rng(1)
    sound = (8000 * np.clip(rng.standard_normal(4000), -3, 3)).astype(np.int16)
    found = mfcc(sound)
    assert found.shape == (frames_of(4000), 39)
    loud, quiet = found, mfcc((sound // 4).astype(np.int16))
    assert float((loud - quiet)[:, 0].min()) > 5 and float((loud - quiet)[:, 1:13].abs().max()) < 0.3
    slopes = [sum(k * (found[5 + k, i] - found[5 - k, i]) for k in (1, 2)) / 10 for i in range(13)]
    torch.testing.assert_close(found[5, 13:26], torch.stack(slopes), rtol=1e-4, atol=1e-4)


@settings(max_examples=20)
@given(st.integers(2, 6), st.integers(0, 50))
@example(6, 1)
def test_k_means_finds_clusters(k, seed):
    rng = torch.Generator().manual_seed(seed)
    places = 30 * torch.nn.functional.one_hot(torch.arange(k), 8).float()
    x = (places[:, None] + torch.randn(k, 20, 8, generator=rng)).flatten(0, 1)
    draws = [nearest(x, k_means(x, k, seed=s))[0].view(k, 20) for s in range(3)]
    # One first draw of 255 ends with two centres in one cluster (k = 6, seed 1), as this method may.
    assert any((own == own[:, :1]).all() and len(set(own[:, 0].tolist())) == k for own in draws)


def test_k_means_of_fewer_points_than_centres():
    centres = k_means(torch.ones(5, 3), 4)
    assert centres.shape == (4, 3) and torch.isfinite(centres).all()


def test_units_are_kept_and_made_anew_for_other_speech(tmp_path):
    rng = np.random.default_rng(0)
    speech = [(3000 * rng.standard_normal(n)).astype(np.int16) for n in (8000, 9000, 16000)]
    c = UnitsConfig()
    units = Units(c, 4, speech, tmp_path, tmp_path)
    labels = units.label(speech)
    assert [len(x) for x in labels] == [frames_of(len(x)) for x in speech]
    kept = sorted(tmp_path.iterdir())
    again = Units(c, 4, speech, tmp_path, tmp_path).label(speech)
    assert all(map(np.array_equal, labels, again)) and sorted(tmp_path.iterdir()) == kept
    Units(c, 4, [x[::-1] for x in speech], tmp_path, tmp_path)
    assert len(list(tmp_path.iterdir())) == len(kept) + 1
    with pytest.raises(InputError, match="too few"):
        Units(c, 100, speech, tmp_path, tmp_path / "other")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("crop_seconds = 1.0", "crop_seconds = 0.1", "crop_seconds"),
        ("[batch]", "[units]\nlayer = 0\n[batch]", "layer"),
        ('layer = "conbimamba"', 'layer = "lstm"', "lstm"),
        ("[model]", '[model]\npreset = "conformer-s"', "unknown setting|no hubert"),
    ],
)
def test_settings_without_a_meaning(home, old, new, says):
    with pytest.raises(UsageError, match=says):
        read_config(config(home, 2, **{old: new}))
