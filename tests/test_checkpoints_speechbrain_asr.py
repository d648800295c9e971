"""Import of SpeechBrain recognition folders: names, sizes, the spelling trap, and what is refused."""

import json
import pickle

import pytest
import torch

from slyther_cli.app import main
from slyther_cli.checkpoints import speechbrain_asr, store
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.errors import ModelError
from slyther_cli.models import registry

SMALL = {"d_model": 16, "n_layers": 2, "d_ffn": 24, "vocab": 11, "max_positions": 9, "kernel_size": 5}
MODELS = {
    "transformer": ("conmamba", {**SMALL, "decoder": "transformer", "n_decoder_layers": 1}),
    "mamba": ("conmamba", {**SMALL, "decoder": "mamba", "n_decoder_layers": 2, "d_state": 7}),
    "ctc": ("conmamba", {**SMALL, "decoder": "none", "n_fft": 512}),
    "causal": ("conmamba", {**SMALL, "decoder": "none", "n_fft": 512, "causal": True}),
    "speech-mamba": (
        "speech-mamba",
        {"d_model": 16, "n_layers": 2, "n_decoder_layers": 1, "vocab": 11, "d_state": 3, "max_positions": 9},
    ),
}


PIECES = SentencePieceTokenizer.train(["ABBA CAB", "DAB BAD"], 11, kind="bpe", case="upper")


def write(
    folder,
    kind="transformer",
    change=lambda state: state,
    normalizer="normalizer.ckpt",
    tokenizer="tokenizer.ckpt",
):
    """A folder as SpeechBrain writes it; returns the network whose tensors it holds."""
    torch.manual_seed(0)
    model = registry.build(*MODELS[kind])
    model.normalize.glob_mean.normal_()
    model.normalize.glob_std.uniform_(1, 2)
    numbers = ["frontend", "transformer", "ctc_lin"]
    if hasattr(model, "seq_lin"):
        numbers.insert(2, "seq_lin")
    state = {}
    for key, value in model.state_dict().items():
        head, _, rest = key.partition(".")
        if head != "normalize":
            state[f"{numbers.index(head)}.{rest}"] = value
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(change(state), folder / "model.ckpt")
    statistics = {"count": 1234, "glob_mean": model.normalize.glob_mean, "glob_std": model.normalize.glob_std}
    statistics |= {"spk_dict_mean": {}, "spk_dict_std": {3: torch.ones(2)}, "spk_dict_count": {}}
    torch.save(statistics, folder / normalizer)
    if tokenizer:
        (folder / tokenizer).write_bytes(PIECES.model)
    return model


def misspelt(state):
    return {k.replace("multihead_attn", "mutihead_attn"): v for k, v in state.items()}


def refused(folder, **kwargs):
    with pytest.raises(ModelError) as error:
        speechbrain_asr.import_folder(folder, folder / "out", **kwargs)
    text = str(error.value)
    assert "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("kind", MODELS)
def test_round_trip(tmp_path, kind):
    model = write(tmp_path / "src", kind, change=misspelt)
    state = torch.load(tmp_path / "src" / "model.ckpt", weights_only=True)
    assert any("mutihead_attn" in k for k in state) == (kind in ("transformer", "speech-mamba"))
    folder = speechbrain_asr.import_folder(tmp_path / "src", tmp_path / "mine", license="x")
    loaded, config = store.load(folder, expect_task="transcribe", expect_architecture=MODELS[kind][0])
    ours, theirs = loaded.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    assert config.config == registry.full_config(*MODELS[kind])
    assert config.name == "mine" and config.license == "x"


@pytest.mark.parametrize("normalizer", ["normalizer.ckpt", "normalize.ckpt"])
def test_a_run_folder_and_its_hyperparams(tmp_path, monkeypatch, normalizer):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    run = tmp_path / "conmamba_mine" / "7775"
    for tag, score in {"a": "ACC: 0.91", "b": "ACC: 9.3e-1", "c": "ACC: .nan"}.items():
        write(run / "save" / f"CKPT+{tag}", normalizer=normalizer)
        (run / "save" / f"CKPT+{tag}" / "CKPT.yaml").write_text(f"{score}\nunixtime: 1.7e9\n")
    (run / "hyperparams.yaml").write_text("nhead: 2\nn_fft: 512  # bins\nwin_length: 32\n")
    assert speechbrain_asr.find_checkpoint(run).name == "CKPT+b"
    config = store.load(speechbrain_asr.import_folder(run))[1]
    assert config.name == "conmamba_mine"
    assert (config.config["n_heads"], config.config["n_fft"], config.config["window"]) == (2, 512, 512)
    assert "exists already" in refused_again(run)
    for tag, score in {"a": "WER: 4.1", "b": "WER: 12.0", "c": "WER: 5"}.items():
        (run / "save" / f"CKPT+{tag}" / "CKPT.yaml").write_text(score)
    assert speechbrain_asr.find_checkpoint(run).name == "CKPT+a"


def refused_again(run):
    with pytest.raises(ModelError) as error:
        speechbrain_asr.import_folder(run)
    return str(error.value)


def test_published_sizes_say_what_tensors_do_not(tmp_path):
    for preset, (architecture, sizes) in registry.PRESETS.items():
        if (
            registry.ARCHITECTURES[architecture].task != "transcribe"
            or "small" in preset
            or preset == "transformer"
        ):
            continue  # sizes that nobody published weights of
        with torch.device("meta"):
            model = registry.build(architecture, sizes)
        shapes = {k: tuple(v.shape) for k, v in model.state_dict().items()}
        found, config = speechbrain_asr.infer(shapes)
        full = registry.full_config(found, config | speechbrain_asr._from_settings(tmp_path, config))
        assert (found, full) == (architecture, registry.full_config(architecture, sizes)), preset


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k[0] != "0"}, "three or four modules"),
        (lambda s: {k.replace(".mamba.", ".mha_layer."): v for k, v in s.items()}, "does not know"),
        (lambda s: {k: v for k, v in s.items() if ".mamba." not in k}, "does not know"),
        (
            lambda s: {k.replace("encoder.layers.1.", "encoder.layers.2."): v for k, v in s.items()},
            "without gaps",
        ),
        (lambda s: s | {"3.w.bias": torch.zeros(12)}, "expected"),
        (lambda s: {k: v for k, v in s.items() if k != "1.encoder.norm.norm.weight"}, "is missing"),
        (lambda s: s | {"1.more": torch.zeros(1)}, "not known"),
        (lambda s: s | {"1.encoder.layers.0.mamba.D": torch.full((32,), torch.nan)}, "not finite"),
        (lambda s: s | misspelt(s), "two names"),
        (lambda s: s | {"1.x": torch.zeros(1).expand(1 << 20)}, "larger than the file"),
    ],
)
def test_refused(tmp_path, change, message):
    write(tmp_path, change=change)
    assert message in refused(tmp_path)
    assert not (tmp_path / "out").exists()


def test_refused_folders(tmp_path):
    assert "no such folder" in refused(tmp_path / "none")
    assert "no model.ckpt" in refused(tmp_path)
    for tag in "ab":
        write(tmp_path / f"CKPT+{tag}")
    assert "holds 2 checkpoints" in refused(tmp_path)
    assert "no model name" in refused(tmp_path / "CKPT+a", name="../x")
    (tmp_path / "CKPT+a" / "normalizer.ckpt").unlink()
    assert "no normalizer.ckpt" in refused(tmp_path / "CKPT+a")


class Evil:
    def __reduce__(self):
        return print, ("executed",)


def test_refused_normalizers(tmp_path, capsys):
    write(tmp_path)
    path = tmp_path / "normalizer.ckpt"
    torch.save({"glob_mean": 0, "count": 0}, path)
    assert "holds no glob_mean" in refused(tmp_path)
    torch.save({"glob_mean": Evil()}, path)
    assert "code or objects" in refused(tmp_path)
    path.write_bytes(pickle.dumps(Evil()))
    assert "not a torch checkpoint" in refused(tmp_path)
    torch.save({k: torch.zeros(1).expand(1 << 20) for k in ("glob_mean", "glob_std")}, path)
    assert "larger than the file" in refused(tmp_path)
    assert "executed" not in capsys.readouterr().out


# The tokenizer


@pytest.mark.parametrize(
    "where", ["save/CKPT+a/tokenizer.ckpt", "save/tokenizer.ckpt", "save/11_bpe.model", "named"]
)
def test_the_tokenizer_comes_along(tmp_path, where, capfd):
    """From the checkpoint, its run, or as named; and what it writes is what it was trained on."""
    run = tmp_path / "mine" / "1234"
    write(run / "save" / "CKPT+a", tokenizer=None)
    path = tmp_path / "other.model" if where == "named" else run / where
    path.write_bytes(PIECES.model)
    how = ["--tokenizer", str(path)] if where == "named" else []
    code = main(["weights", "import", str(run), "-o", str(tmp_path / "out"), "--json", *how])
    out = capfd.readouterr().out
    assert code == 0 and json.loads(out)["path"] == str(tmp_path / "out")
    mine = load_tokenizer(tmp_path / "out")
    assert mine.case == "upper" and mine.normalise("Bad cab.") == "BAD CAB"
    assert mine.decode(mine.encode("BAD CAB")) == "BAD CAB"
    assert mine.encode("BAD CAB") == PIECES.encode("BAD CAB")


def test_case_is_read_off_the_pieces(tmp_path):
    for text, case in ((["ab ba", "bad"], "lower"), (["AB BA", "BAD"], "upper"), (["Ab bA", "bAd"], "keep")):
        made = SentencePieceTokenizer.train(text, 10, kind="char", case="keep")
        (tmp_path / "t.model").write_bytes(made.model)
        assert speechbrain_asr.read_tokenizer(tmp_path / "t.model").case == case


def test_refused_tokenizers(tmp_path, capfd):
    write(tmp_path, tokenizer=None)
    assert "name the SentencePiece model (tokenizer.ckpt or *.model) with --tokenizer" in refused(tmp_path)
    assert "cannot read" in refused(tmp_path, tokenizer=tmp_path / "none")
    (tmp_path / "a.model").write_bytes(b"nothing of the kind")
    assert "is not a SentencePiece model" in refused(tmp_path)
    (tmp_path / "b.model").write_bytes(PIECES.model)
    assert "has 2 tokenizers" in refused(tmp_path)
    other = SentencePieceTokenizer.train(["AB BA"], 7, kind="char", case="upper")
    (tmp_path / "b.model").write_bytes(other.model)
    assert "has 7 tokens, the model writes 11" in refused(tmp_path, tokenizer=tmp_path / "b.model")
    assert not (tmp_path / "out").exists()
    code = main(["weights", "import", str(tmp_path), "-o", str(tmp_path / "out")])
    err = capfd.readouterr().err
    assert code == 5 and err.count("\n") == 1 and "has 2 tokenizers" in err


def test_an_imported_recogniser_transcribes(tmp_path, capfd):
    """From SpeechBrain's folder to words, by the command line alone, by CTC and by decoder."""
    import numpy as np
    import soundfile as sf

    sf.write(tmp_path / "a.wav", np.random.default_rng(0).standard_normal(16_000) * 0.1, 16_000)
    for kind in ("mamba", "transformer"):
        write(tmp_path / kind, kind)
        assert main(["weights", "import", str(tmp_path / kind), "-o", str(tmp_path / f"m-{kind}")]) == 0
        for how in ("greedy", "joint"):
            args = ["transcribe", str(tmp_path / "a.wav"), "--model", str(tmp_path / f"m-{kind}")]
            assert main([*args, "--decode", how, "-q", "-o", "-"]) == 0
    out, err = capfd.readouterr()
    assert "error" not in err and set(out.replace(str(tmp_path), "").upper()) >= {"\n"}
