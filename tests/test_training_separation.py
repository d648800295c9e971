"""``slyther train separate``: the configuration, a run from speech to a model that loads, workers, the
command."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from soxr import resample
from voices import corpus

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.models.mamba_tasnet import MambaTasNet, MambaTasNetConfig
from slyther_cli.research.training import separation, separation_start
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.research.training.losses import pit_loss
from slyther_cli.research.training.separation import SeparationTask, read_config, train

CONFIG = """
name = "tiny"
[model]
n_filters = 16
kernel_size = 16
stride = 8
d_model = 16
n_layers = 1
d_state = 4
[data]
manifests = ["corpus/manifest.tsv"]
cache = "cache"
[batch]
seconds = 1.0
lengths = [0.25, 0.5]
dev_examples = 4
dev_seconds = 0.5
[loop]
steps = STEPS
warmup = 2
optimizer = "muon"
lr = 5e-3
average = 0.8
log_seconds = 0.0
validate_minutes = 1000
"""


MODEL = CONFIG[CONFIG.index("[model]") : CONFIG.index("[data]")]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    corpus(folder / "corpus")
    return folder


def config(home, steps, name="run.toml", **changes):
    text = CONFIG.replace("STEPS", str(steps))
    for old, new in changes.items():
        text = text.replace(old, new)
    (home / name).write_text(text)
    return home / name


def weights(folder):
    model, _ = store.load(folder, expect_task="separate")
    return torch.cat([p.flatten() for p in model.parameters()])


def test_the_command_trains_a_model_that_loads(home, tmp_path, capsys):
    path = config(home, 25)
    assert main(["train", "separate", "--config", str(path), "-o", str(tmp_path / "run"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds[0] == "start" and kinds[-2:] == ["validate", "summary"] and set(kinds[1:-2]) == {"train"}
    assert lines[0]["model"] == "tiny" and lines[0]["speakers"] == 4
    metric = [line["metric"] for line in lines if line["event"] == "train"]
    assert sum(metric[-5:]) > sum(metric[:5]) + 5  # a dB better, and that in 25 steps
    assert lines[-1]["model"] == str(tmp_path / "run/best")
    model, loaded = store.load(tmp_path / "run/best", expect_task="separate")
    assert loaded.name == "tiny" and loaded.metrics["steps"] == 25
    assert loaded.metrics["dev_si_snri"] == lines[-2]["score"]
    assert model(torch.randn(1, 1000)).shape == (1, 2, 1000)
    assert tomllib.loads((tmp_path / "run/config.toml").read_text())["name"] == "tiny"
    assert main(["train", "separate", "--config", str(path), "-o", str(tmp_path / "run")]) == 5
    assert "--resume" in capsys.readouterr().err


def test_words_for_people(home, tmp_path, capsys):
    assert main(["train", "separate", "-c", str(config(home, 3)), "--output", str(tmp_path / "run")]) == 0
    told = capsys.readouterr()
    assert told.out == f"{tmp_path / 'run/best'}\n"
    assert "tiny: " in told.err and "4 speakers" in told.err
    assert "step 2: loss " in told.err and "SI-SNR " in told.err and " left" in told.err
    assert "dB on 4 dev mixtures" in told.err


def test_a_resumed_run_is_the_unbroken_one(home, tmp_path):
    path = config(home, 9)
    train(path, tmp_path / "whole", False, lambda event: None)

    def stop(event):
        if event.get("step") == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(path, tmp_path / "broken", False, stop)
    steps = []
    train(path, tmp_path / "broken", True, lambda e: steps.append(e.get("step")))
    assert min(filter(None, steps)) == 5
    assert torch.equal(weights(tmp_path / "whole/last"), weights(tmp_path / "broken/last"))


def test_two_workers_share_a_run(home, tmp_path, capfd):
    path = config(home, 12)
    command = ["train", "separate", "-c", str(path), "-o", str(tmp_path / "run"), "--workers", "2", "--json"]
    assert main(command) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    metric = [line["metric"] for line in lines if line["event"] == "train"]
    assert len(metric) == 12 and sum(metric[-4:]) > sum(metric[:4])
    assert torch.isfinite(weights(tmp_path / "run/best")).all()
    assert not torch.distributed.is_initialized()


def test_peers_see_other_batches_of_the_same_length(home):
    task = SeparationTask(read_config(config(home, 5)), home)
    (mixtures, sources), again = task.batch(3), task.batch(3)
    assert torch.equal(mixtures, again[0]) and torch.allclose(mixtures, sources.sum(1), atol=1e-6)
    task.peers.count, task.peers.rank = 2, 1
    assert task.batch(3)[0].shape == mixtures.shape and not torch.equal(task.batch(3)[0], mixtures)


def test_going_on_from_weights(home, tmp_path):
    start = config(home, 2)
    train(start, home / "start", False, lambda event: None)
    settings = CONFIG[CONFIG.index("[model]") : CONFIG.index("[data]")]
    path = config(
        home, 1, "more.toml", **{'name = "tiny"': 'name = "more"\nstart_from = "start/best"', settings: ""}
    )
    task = SeparationTask(read_config(path), home)
    assert torch.equal(
        torch.cat([p.detach().flatten() for p in task.model.parameters()]), weights(home / "start/best")
    )
    train(path, tmp_path / "more", False, lambda event: None)
    assert store.load(tmp_path / "more/best")[1].name == "more"
    both = config(home, 1, "both.toml", **{'name = "tiny"': 'start_from = "start/best"'})
    with pytest.raises(UsageError, match="leave one"):
        read_config(both)
    missing = config(
        home, 1, "missing.toml", **{'name = "tiny"': 'start_from = "nowhere/best"', settings: ""}
    )
    with pytest.raises(ModelError):
        train(missing, tmp_path / "none", False, lambda event: None)


def begun(home, name, model):
    """The task that starts from a folder with a [model] of its own beside it."""
    text = CONFIG[: CONFIG.index("[model]")] + f'start_from = "{name}"\n[model]\n{model}\n'
    path = home / "begun.toml"
    path.write_text(text + CONFIG[CONFIG.index("[data]") :].replace("STEPS", "1"))
    return SeparationTask(read_config(path), home)


@pytest.mark.parametrize(
    ("model", "changes"),
    [("mamba-tasnet-8k-2spk", {"stride": 32}), ("mamba-tasnet-8k-2spk-causal", {"kernel_size": 1024})],
)
def test_a_start_with_other_frames_separates_at_once(model, changes):
    old, _ = store.load(store.resolve(model), expect_task="separate")
    examples = Path(__file__).parents[1] / "examples"
    voices = [
        resample(sf.read(examples / f"voice_{k}.flac", dtype="float32")[0], 16_000, 8000) for k in (1, 2)
    ]
    samples = min(map(len, voices))
    sources = torch.from_numpy(np.stack([v[:samples] for v in voices]))[None]
    mixture = sources.sum(1)
    new = separation_start.begin(old, changes, mixture, sources)
    c, was = new.config, old.config
    assert c.d_model == was.d_model and c.kernel_size // c.stride >= was.kernel_size // was.stride
    assert c.n_filters == 2 * c.kernel_size + (was.n_filters if "kernel_size" in changes else 0)
    with torch.inference_mode():
        unparted = mixture[:, None].expand_as(sources)
        scores = [float(pit_loss(x, sources)[1].mean()) for x in (new(mixture), unparted)]
        total = new.decoded(mixture).sum(1)
    assert scores[0] > scores[1] + 0.3
    assert float((mixture * total).sum() / total.square().sum()) == pytest.approx(1, abs=1e-3)  # its level
    mine, theirs = (n.masknet.enter(torch.zeros(1, n.config.n_filters)).detach() for n in (new, old))
    assert float((mine - theirs).norm() / theirs.norm()) < 0.1  # of silence


def test_a_run_that_starts_with_shorter_frames(home):
    train(config(home, 2), home / "long", False, lambda event: None)
    task = begun(home, "long/best", "stride = 4")
    assert task.settings["stride"] == task.model.config.stride == 4 and task.settings["kernel_size"] == 8
    loss, _ = task.loss(0)
    loss.backward()
    assert all(p.grad is not None for p in task.model.parameters())


def test_shorter_frames_keep_the_features_and_the_sound():
    torch.manual_seed(0)
    old = MambaTasNet(MambaTasNetConfig(128, 64, 32, 16, 2, 4))
    start_from_fourier(old)
    sources = torch.randn(4, 2, 4000)
    new = separation_start.begin(old, {"stride": 16}, sources.sum(1), sources)
    assert new.encoder.kernel_size == 32
    fresh = torch.randn(1, 1600)
    heard = new.decoder(new.encoder(fresh))[0, 16:1584]  # without the ends, which one window holds
    wanted = fresh[0, 16:1584]
    assert (
        torch.corrcoef(torch.stack([heard, wanted]))[0, 1] > 0.995
    )  # but for the level, which is the masks'
    a, b = (n.masknet.mamba_net.layers[1].mixer for n in (old, new))
    x = torch.randn(1, 1, 16).repeat(1, 60, 1)  # what does not change sounds the same at any rate
    late = [m(x.repeat_interleave(k, 1))[0, 30 * k] for m, k in ((a, 1), (b, 2))]
    assert torch.allclose(*late, rtol=0.05, atol=0.02 * float(late[0].detach().abs().max()))


SILENT = torch.zeros(1, 64), torch.zeros(1, 2, 64)


@pytest.mark.parametrize("n_layers", [2, 3, 5, 7])
def test_a_deeper_start_gives_the_same(n_layers):
    torch.manual_seed(0)
    old = MambaTasNet(MambaTasNetConfig(32, 32, 16, 16, 2, 4))
    new = separation_start.begin(old, {"n_layers": n_layers}, *SILENT)
    x = torch.randn(1, 500)
    assert len(new.masknet.mamba_net.layers) == new.config.n_layers == n_layers
    assert torch.allclose(new(x), old(x), atol=1e-6)
    new(x).square().mean().backward()  # what adds nothing yet can learn to
    assert all(bool(m.mixer.out_proj.weight.grad.abs().sum() > 0) for m in new.masknet.mamba_net.layers)
    assert len(old.masknet.mamba_net.layers) == 2


def test_a_start_with_fewer_layers_leaves_out_those_that_add_least():
    torch.manual_seed(0)
    old = MambaTasNet(MambaTasNetConfig(32, 32, 16, 16, 5, 4))
    for i in (1, 3):
        old.masknet.mamba_net.layers[i].mixer.out_proj.weight.data.mul_(1e-9)
    new = separation_start.begin(old, {"n_layers": 3}, torch.randn(2, 640), torch.randn(2, 2, 640))
    x = torch.randn(1, 500)
    assert len(new.masknet.mamba_net.layers) == new.config.n_layers == 3
    assert torch.allclose(new(x), old(x), atol=1e-6)
    assert len(old.masknet.mamba_net.layers) == 5


def test_a_causal_start_is_the_forward_half():
    old = MambaTasNet(MambaTasNetConfig(32, 32, 16, 16, 2, 4))
    new = separation_start.begin(old, {"causal": True}, *SILENT)
    own = new.state_dict()
    assert new.config.causal and len(own) < len(old.state_dict())
    assert all(torch.equal(v, old.state_dict()[k]) for k, v in own.items())
    with pytest.raises(UsageError, match="no backward direction"):
        separation_start.begin(new, {"causal": False}, *SILENT)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"stride": 12}, "must divide"),
        ({"stride": 32}, "must divide"),
        ({"stride": 0}, "must divide"),
        ({"stride": 8, "kernel_size": 20}, "twice the stride"),
        ({"kernel_size": 16}, "twice the stride"),
        ({"n_layers": 0}, "one at least"),
        ({"d_model": 32}, "keeps its d_model"),
        ({"stride": "8"}, "stride must be int, not '8'"),
    ],
)
def test_starts_that_cannot_be(changes, says):
    old = MambaTasNet(MambaTasNetConfig(32, 32, 16, 16, 1, 4))
    with pytest.raises(UsageError, match=says):
        separation_start.begin(old, changes, *SILENT)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"[model]": "[modle]"}, "unknown setting modle"),
        ({"warmup": "warmpu"}, r"\[loop\]: unknown setting warmpu"),
        ({"steps = 1": 'steps = "many"'}, r"\[loop\]: steps must be a whole number"),
        ({"steps = 1": "steps = true"}, "steps must be a whole number"),
        ({"steps = 1": "steps = 0"}, "steps must be 1 or more"),
        ({'["corpus/manifest.tsv"]': '"corpus/manifest.tsv"'}, "manifests must be a list"),
        ({'["corpus/manifest.tsv"]': "[]"}, "manifests: name one"),
        ({"lengths = [0.25, 0.5]": "lengths = []"}, "lengths"),
        ({"lengths = [0.25, 0.5]": 'lengths = ["a"]'}, "lengths must be a number"),
        ({"[batch]": "[mixing]\nturns = 3\n[batch]"}, r"\[mixing\]: turns"),
        ({"[batch]": "[mixing]\nlow_hz = [60, 4000]\n[batch]"}, r"\[mixing\]: low_hz must be below"),
        ({"[batch]": "[batch]\nsaturate_db = -1"}, "saturate_db 0 or more"),
        ({'"muon"': '"sgd"'}, "unknown optimizer"),
        ({'name = "tiny"': 'name = "a/b"'}, "name may hold"),
        ({'name = "tiny"': "model = 3", "[model]\n": "[other]\n"}, "unknown setting|must be a table"),
        ({"d_model = 16": "d_modle = 16"}, r"\[model\] mamba-tasnet: unknown setting"),
        ({"stride = 8": "stride = 7"}, r"\[model\] "),
        ({"d_model = 16": 'preset = "mamba-tasnet-xxl"'}, "unknown preset"),
        ({'name = "tiny"': 'architecture = "wavenet"'}, "unknown architecture"),
        ({MODEL: '[model]\npreset = "conmamba-ctc-small"\n'}, "made to transcribe"),
        ({"[model]": "[model"}, "Expected"),
    ],
)
def test_configurations_that_are_wrong(home, changes, says):
    path = config(home, 1, "wrong.toml", **changes)
    with pytest.raises(UsageError, match=says) as caught:
        read_config(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_command_refuses(home, tmp_path, capsys):
    def code(path, *more):
        return main(["train", "separate", "-c", str(path), "-o", str(tmp_path / "no"), *more])

    assert code(home / "none.toml") == 2 and "No such file" in capsys.readouterr().err
    assert code(config(home, 1, "nodata.toml", **{"corpus/": "nothing/"})) == 3
    assert "nothing/manifest.tsv" in capsys.readouterr().err
    assert code(config(home, 1, "few.toml", **{"d_model = 16": "n_speakers = 5"})) == 3
    assert "4 speakers" in capsys.readouterr().err
    for path, exit_code in (("nodata.toml", 3), ("none.toml", 2)):
        assert code(home / path, "--workers", "2") == exit_code
    assert capsys.readouterr().err.count("error:") == 2 and not (tmp_path / "no").exists()


def test_a_preset_and_a_setting_of_ones_own(home):
    text = CONFIG[: CONFIG.index("n_filters")] + 'preset = "mamba-tasnet-s-causal"\nn_layers = 2\n'
    (home / "preset.toml").write_text(text + CONFIG[CONFIG.index("[data]") :].replace("STEPS", "1"))
    found = read_config(home / "preset.toml")
    assert found.model == {**registry.PRESETS["mamba-tasnet-s-causal"][1], "n_layers": 2}


def test_the_example_is_a_configuration():
    path = Path(__file__).parents[1] / "examples/train-separate.toml"
    found = read_config(path)
    assert found.model["n_layers"] == 8 and found.loop.optimizer == "muon" and found.mixing.turns == 0.15
    assert all(not Path(m).is_absolute() for m in found.data.manifests)
    assert separation.DataConfig().cache == ""


def test_the_example_for_a_gpu_is_a_configuration():
    found = read_config(Path(__file__).parents[1] / "examples/train-separate-gpu.toml")
    assert found.start_from == "mamba-tasnet-8k-2spk" and not found.model
    assert found.loop.precision == "bf16" and found.batch.seconds == 384


def test_the_example_of_turns_is_a_configuration():
    found = read_config(Path(__file__).parents[1] / "examples/train-separate-turns.toml")
    long = [s for s in found.batch.lengths if s >= found.mixing.taking_turns_from_s]
    assert found.mixing.taking_turns == 0.9 and len(long) * 2 == len(found.batch.lengths)
    assert found.data.noises and found.start_from == "mamba-tasnet-8k-2spk"


@pytest.mark.parametrize("consistent", ["", "\nmixture_consistency = true"])
def test_exported_stems_sum_to_the_mixture_in_level(home, tmp_path, consistent):
    run = tmp_path / "run"
    path = config(home, 12, **{"d_model = 16": f"d_model = 16{consistent}"})
    train(path, run, False, lambda event: None)
    task = SeparationTask(read_config(home / "run.toml"), home)
    raw = torch.load(run / "last.pt", weights_only=True)["averaged"]["decoder.weight"]
    model, _ = store.load(run / "last")
    assert not torch.allclose(raw, model.decoder.weight)
    likeness = power = 0.0
    for i in range(4):
        mixture = torch.from_numpy(task.dev_mixer.example(i, 4000)[0])[None]
        total = model.decoded(mixture).sum(1).detach()
        assert not consistent or torch.allclose(model(mixture).sum(1), mixture, atol=1e-5)
        likeness, power = likeness + (mixture * total).sum().item(), power + total.square().sum().item()
    assert likeness / power == pytest.approx(1.0, abs=1e-3)
