"""DPMamba: the published counts and names, a slow build from the description, import of its checkpoints."""

import math

import dual_path_reference
import mamba_reference
import numpy as np
import pytest
import soundfile
import speechbrain_reference
import torch
from tools import assert_near, stirred
from torch.nn import functional as F

from slyther_cli.app import main
from slyther_cli.audio.level import MIXTURE_DB, at_level
from slyther_cli.checkpoints import layout, speechbrain, store
from slyther_cli.errors import ModelError
from slyther_cli.longform import whole as whole_recordings
from slyther_cli.models import registry
from slyther_cli.models.dpmamba import DPMamba, DPMambaConfig
from slyther_cli.research.training.fourier_start import start_from_fourier

COUNTS = {  # papers.md 1.2; tensors of the mask network from 3.1
    "dpmamba-xs": (2_265_857, 331),
    "dpmamba-s": (8_136_193, 331),
    "dpmamba-m": (15_869_441, 651),
    "dpmamba-l": (59_788_289, 651),
}
SMALL = {"n_filters": 8, "n_blocks": 2, "chunk": 6, "d_state": 4}


def small_dpmamba(**config):
    torch.manual_seed(0)
    return stirred(DPMamba(DPMambaConfig(**{**SMALL, **config})))


@pytest.mark.parametrize("preset", COUNTS)
def test_the_published_sizes_and_names(preset):
    with torch.device("meta"):
        model = registry.build(*registry.PRESETS[preset])
    ours = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    masknet = [k for k in ours if k.startswith("masknet.")]
    assert (sum(p.numel() for p in model.parameters()), len(masknet)) == COUNTS[preset]
    n, blocks, di = model.config.n_filters, model.config.n_blocks, 2 * model.config.n_filters
    r = math.ceil(n / 16)
    inner = {"norm_f.weight": (n,), "layers.0.norm.weight": (n,)}
    mixer = {"in_proj.weight": (2 * di, n), "out_proj.weight": (n, di)}
    for a, b in (("A_log", ""), ("A_b_log", "_b")):
        mixer |= {a: (di, 16), f"D{b}": (di,), f"x_proj{b}.weight": (r + 32, di)}
        mixer |= {f"conv1d{b}.weight": (di, 1, 4), f"conv1d{b}.bias": (di,)}
        mixer |= {f"dt_proj{b}.weight": (di, r), f"dt_proj{b}.bias": (di,)}
    inner |= {f"layers.0.mixer.{k}": shape for k, shape in mixer.items()}
    assert ours == dual_path_reference.names(n, blocks, 2, inner)


@pytest.mark.parametrize("skip", [False, True])
@torch.no_grad()
def test_a_slow_build_from_the_description(skip):
    model = small_dpmamba(skip_around_intra=skip)
    p = dict(model.masknet.state_dict())

    def run(part):
        def sequence(j, x):
            return mamba_reference.stack(mamba_reference.under(p, f"dual_mdl.{j}.{part}_mdl."), x)

        return sequence

    w = torch.rand(2, 21, 8)
    for i in range(2):
        masks = dual_path_reference.masks(w[i], p, 6, 2, skip, 2, run("intra"), run("inter"))
        assert_near(model.masknet(w)[i], masks)
    mixture = torch.randn(1, 8 * 22)
    w = F.relu(F.conv1d(mixture[:, None], model.encoder.conv1d.weight, stride=8))[0].T
    masks = dual_path_reference.masks(w, p, 6, 2, skip, 2, run("intra"), run("inter"))
    stems = F.conv_transpose1d((w * masks).transpose(1, 2), model.decoder.weight, stride=8)
    assert_near(model(mixture)[0], stems[:, 0])


@speechbrain_reference.needed
@torch.no_grad()
def test_speechbrains_mask_network():
    """Its dual-path model around our BiMamba stacks, which the slow build checks."""
    with speechbrain_reference.modules("lobes.models.dual_path") as (dual_path,):
        model = small_dpmamba()
        stacks = model.masknet.dual_mdl[0].intra_mdl, model.masknet.dual_mdl[0].inter_mdl
        net = dual_path.Dual_Path_Model(
            8, 8, *stacks, 2, "ln", 6, 2, skip_around_intra=False, linear_layer_after_inter_intra=False
        )
        net.load_state_dict(model.masknet.state_dict(), strict=True)
        w = torch.rand(3, 45, 8)
        assert_near(model.masknet(w), net.eval()(w.transpose(1, 2)).permute(1, 0, 3, 2))


def test_every_parameter_learns():
    model = small_dpmamba().train()
    start_from_fourier(model)  # as training does
    model(torch.randn(1, 300)).square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


# --- import ---


def checkpoint(folder, model):
    """As SpeechBrain writes it: three files, a state dict each; the run says what no tensor tells."""
    run = folder / "dpmamba_XS" / "1234" / "save" / "CKPT+2024-04-19"
    run.mkdir(parents=True)
    for stem in ("encoder", "decoder", "masknet"):
        torch.save(getattr(model, stem).state_dict(), run / f"{stem}.ckpt")
    (run / "CKPT.yaml").write_text("si-snr: -19.52\n")
    skip = model.config.skip_around_intra
    (folder / "dpmamba_XS" / "1234" / "hyperparams.yaml").write_text(
        f"sample_rate: 8000\nMaskNet: !new:dual_path.Dual_Path_Model\n  K: {model.config.chunk}\n"
        f"  skip_around_intra: {skip}\n"
    )
    return folder / "dpmamba_XS" / "1234"


@pytest.mark.parametrize("skip", [False, True])
def test_a_published_checkpoint_is_imported(tmp_path, skip):
    model = small_dpmamba(n_filters=16, n_layers=2, skip_around_intra=skip)
    made = speechbrain.import_folder(checkpoint(tmp_path, model), tmp_path / "mine")
    loaded, config = store.load(made)
    assert config.architecture == "dpmamba" and config.metrics == {"validation SI-SNR (dB)": 19.52}
    assert loaded.config == model.config
    mixture = torch.randn(1, 400)
    with torch.no_grad():
        assert torch.equal(loaded(mixture), model(mixture))


def test_the_published_size_tells_what_the_run_does_not(tmp_path):
    """Without hyperparams.yaml: chunks of 250, the skip in M and L only (papers.md 1.2)."""
    for blocks, skip in ((8, False), (16, True)):
        model = small_dpmamba(n_blocks=blocks, chunk=250, d_state=16, skip_around_intra=skip)
        run = checkpoint(tmp_path / str(blocks), model)
        (run / "hyperparams.yaml").unlink()
        loaded, _ = store.load(speechbrain.import_folder(run, tmp_path / f"mine-{blocks}"))
        assert loaded.config == model.config


def test_a_sepformer_is_imported(tmp_path):
    from slyther_cli.models.sepformer import Sepformer, SepformerConfig

    torch.manual_seed(0)
    sizes = {"n_filters": 32, "n_layers": 3, "n_heads": 8, "d_ffn": 48, "n_blocks": 1, "chunk": 10}
    model = Sepformer(SepformerConfig(**sizes))
    loaded, config = store.load(speechbrain.import_folder(checkpoint(tmp_path, model), tmp_path / "mine"))
    assert config.architecture == "sepformer" and loaded.config == model.config


def test_tensors_that_do_not_fit(tmp_path):
    model = small_dpmamba()
    shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert layout.infer_dpmamba(shapes)["n_blocks"] == 2
    with pytest.raises(ModelError, match="missing"):
        layout.infer_dpmamba({k: v for k, v in shapes.items() if "conv2d.weight" not in k})
    with pytest.raises(ModelError, match="without gaps"):
        layout.infer_dpmamba({k: v for k, v in shapes.items() if "dual_mdl.0" not in k})
    with pytest.raises(ModelError, match="n_blocks"):
        layout.check_config("dpmamba", {"n_blocks": 3}, shapes)
    run = checkpoint(tmp_path, model)
    torch.save({"conv1d.weight": torch.zeros(4, 1, 16)}, run / "save" / "CKPT+2024-04-19" / "encoder.ckpt")
    with pytest.raises(ModelError, match="DPMamba"):
        speechbrain.import_folder(run, tmp_path / "mine")


@pytest.mark.filterwarnings("ignore")
def test_separating_takes_a_recording_whole(tmp_path, capsys, monkeypatch):
    """The stems are the network's, and a recording that does not fit is refused before it is computed."""
    made = speechbrain.import_folder(checkpoint(tmp_path, small_dpmamba()), tmp_path / "mine")
    sound = 0.1 * np.random.default_rng(0).standard_normal(4003).astype(np.float32)
    soundfile.write(tmp_path / "mix.wav", sound, 8000, "FLOAT")
    command = ["separate", str(tmp_path / "mix.wav"), "-o", str(tmp_path), "-m", str(made)]
    assert main([*command, "--subtype", "float", "--clip", "none"]) == 0
    stems = [soundfile.read(tmp_path / f"mix_s{i}.wav", dtype="float32")[0] for i in (1, 2)]
    heard, level = at_level(sound, 8000, MIXTURE_DB)
    with torch.no_grad():
        whole = store.load(made)[0](torch.from_numpy(heard)[None])[0] * (level / 10 ** (MIXTURE_DB / 20))
    assert_near(torch.from_numpy(np.stack(stems)), whole)
    assert main([*command, "--force", "--memory-limit", "10MB"]) != 0
    told = capsys.readouterr().err
    assert "takes a recording whole" in told and "Traceback" not in told
    monkeypatch.setattr(whole_recordings, "available_memory", lambda: 20 << 20)
    assert main([*command, "--force"]) != 0
    assert "takes a recording whole" in capsys.readouterr().err
