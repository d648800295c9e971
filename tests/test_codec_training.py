"""Training the codec: its start, its quantizer, its losses, and the command from end to end."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from slyther_cli.app import main
from slyther_cli.errors import UsageError
from slyther_cli.models.codec import SeanetCodec, SeanetCodecConfig
from slyther_cli.research.training.codec import read_config
from slyther_cli.research.training.codec_start import start_from_blocks
from slyther_cli.research.training.losses import si_snr
from slyther_cli.research.training.quantizer import QuantizerTraining
from slyther_cli.research.training.spectral import MelDistance, mel_filters

SMALL = {"n_filters": 8, "dimension": 24, "ratios": [4, 4, 2], "n_codebooks": 3, "codebook_size": 32}


def voices(count: int, samples: int, seed: int = 0) -> torch.Tensor:
    """Harmonics of gliding pitch under a moving envelope: [count, samples] at 16 kHz."""
    rng, t = np.random.default_rng(seed), np.arange(samples) / 16_000
    out = []
    for _ in range(count):
        phase = 2 * np.pi * np.cumsum(rng.uniform(90, 250) * (1 + 0.1 * np.sin(3 * t))) / 16_000
        tone = sum(np.sin(k * phase + rng.uniform(0, 6)) / k**1.5 for k in range(1, 12))
        out.append(0.05 * tone * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * t + rng.uniform(0, 6))))
    return torch.from_numpy(np.stack(out)).float()


def test_a_codec_passes_speech_before_it_has_learnt():
    torch.manual_seed(0)
    codec, x = SeanetCodec(SeanetCodecConfig(**SMALL)), voices(6, 8000)
    y = voices(3, 8000, seed=1)
    with torch.no_grad():
        noise = si_snr(codec.decoder(codec.encoder(y[:, None]))[:, 0], y).mean()
        start_from_blocks(codec, x)
        passed = si_snr(codec.decoder(codec.encoder(y[:, None]))[:, 0], y).mean()
    assert noise < 0 and passed > 10


def test_codebooks_start_and_follow():
    torch.manual_seed(0)
    codec = SeanetCodec(SeanetCodecConfig(**SMALL))
    training = QuantizerTraining(codec.quantizer)
    centres = torch.randn(20, 24)
    draw = lambda n: centres[torch.randint(20, (n,))] + 0.05 * torch.randn(n, 24)  # noqa: E731
    frames = draw(600)
    training.start(frames, 0)
    keep = torch.full((4,), 3)

    def error(shift: float, learn: bool = False) -> float:
        x = (draw(200) + shift).view(4, 50, 24).transpose(1, 2)
        quantized, _ = training(x, keep, 7, learn=learn)
        return float((quantized - x).square().mean())

    before = error(0.0)
    assert before < 0.003  # the scatter around the centres is 0.0025: they were found
    moved = error(1.0)
    for _ in range(400):
        error(1.0, learn=True)
    assert error(1.0) < moved / 5
    assert min(training.perplexity()) > 8


def test_dead_codes_come_back_to_life():
    torch.manual_seed(0)
    codec = SeanetCodec(SeanetCodecConfig(**SMALL))
    training = QuantizerTraining(codec.quantizer)
    for book in training.books:
        book.embed.fill_(100.0)  # all codes far away, one of them nearest: the others are dead
    training.count.zero_()
    training.count[:, 0] = 1.0
    training.total.copy_(torch.full_like(training.total, 100.0) * training.count[..., None])
    x = torch.randn(2, 24, 100)
    training(x, torch.full((2,), 3), 1)
    near = training.books[0].embed.abs().max(1).values < 10
    assert int(near.sum()) >= 31


def test_the_gradient_passes_and_dropped_codebooks_add_nothing():
    codec = SeanetCodec(SeanetCodecConfig(**SMALL))
    training = QuantizerTraining(codec.quantizer)
    x = torch.randn(2, 24, 5, requires_grad=True)
    one, _ = training(x, torch.tensor([1, 3]), 0, learn=False)
    one.sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))
    codes = codec._codes(x.detach())
    torch.testing.assert_close(one[:1].detach(), codec.embed(codes[:1, :1]))
    torch.testing.assert_close(one[1:].detach(), codec.embed(codes[1:]))


def test_the_mel_distance_knows_a_likeness():
    mel, x = MelDistance(16_000), voices(2, 8000)
    assert float(mel(x, x)) == 0
    quieter, noisy = float(mel(0.9 * x, x)), float(mel(x + 0.02 * torch.randn_like(x), x))
    assert 0.01 < quieter < 0.11 < noisy  # ln 0.9 = -0.105, less where the floor hides it
    torch.testing.assert_close(mel_filters(16_000, 512, 64).sum(0), torch.ones(64))


@pytest.fixture
def run(tmp_path) -> Path:
    rows = ["path\tspeaker\tsplit"]
    for i, x in enumerate(voices(4, 24_000)):
        sf.write(tmp_path / f"{i}.wav", x.numpy(), 16_000)
        rows.append(f"{i}.wav\tv{i}\t{'dev' if i == 3 else 'train'}")
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "c.toml").write_text(
        'name = "tiny"\narchitecture = "seanet-codec"\n[model]\n'
        + "\n".join(f"{k} = {json.dumps(v)}" for k, v in SMALL.items())
        + '\n[data]\nmanifests = ["manifest.tsv"]\ncache = "cache"\n'
        "[batch]\nexamples = 2\nseconds = 0.3\ndev_examples = 2\ndev_seconds = 0.5\n"
        "[loop]\nsteps = 6\nwarmup = 1\nlog_seconds = 0\nlr = 1e-4\n"
    )
    return tmp_path


def test_the_command_trains_and_resumes_and_its_codec_loads(run, capsys):
    assert main(["train", "codec", "-c", str(run / "c.toml"), "-o", str(run / "out"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["event"] == "start" and events[-1]["model"] == str(run / "out/best")
    assert all(np.isfinite(e["loss"]) for e in events if e["event"] == "train")
    from slyther_cli.checkpoints import store

    codec, _ = store.load(run / "out/best", expect_task="codec")
    x = voices(1, 6400, seed=5)
    assert float(si_snr(codec.decode(codec.encode(x)), x)) > 0
    assert main(["train", "codec", "-c", str(run / "c.toml"), "-o", str(run / "out")]) == 5
    text = (run / "c.toml").read_text()
    (run / "c.toml").write_text(text.replace("steps = 6", "steps = 8"))
    assert main(["train", "codec", "-c", str(run / "c.toml"), "-o", str(run / "out"), "--resume", "-q"]) == 0

    only = text.replace('name = "tiny"', 'name = "more"\nstart_from = "out/best"')
    only = only[: only.index("[model]")] + only[only.index("[data]") :] + "[losses]\ndecoder_only = true\n"
    (run / "d.toml").write_text(only)
    assert main(["train", "codec", "-c", str(run / "d.toml"), "-o", str(run / "more"), "-q"]) == 0
    later, _ = store.load(run / "more/last")
    before, _ = store.load(run / "out/best")
    assert torch.equal(later.encode(x), before.encode(x))  # codes keep their meaning
    assert not torch.equal(later.decode(later.encode(x)), before.decode(before.encode(x)))


def test_the_example_file_reads():
    assert read_config(Path("examples/train-codec.toml")).model["n_codebooks"] == 9


@pytest.mark.parametrize(
    "line",
    ["[losses]\ndecoder_only = true", "[losses]\nfull = 2.0", "[batch]\ngain_db = [1.0]", "[x]\na = 1"],
)
def test_settings_without_a_meaning_are_refused(tmp_path, line):
    (tmp_path / "c.toml").write_text('[data]\nmanifests = ["m.tsv"]\n' + line)
    with pytest.raises(UsageError):
        read_config(tmp_path / "c.toml")


def test_eval_codec_scores_every_number_of_codebooks(run, capsys, monkeypatch):
    pytest.importorskip("pystoi")
    from slyther_cli.checkpoints import store

    monkeypatch.setenv("SLYTHER_CACHE", str(run / "slyther"))
    codec = SeanetCodec(SeanetCodecConfig(**SMALL))
    start_from_blocks(codec, voices(6, 8000))
    frames = codec.encoder(voices(6, 8000)[:, None])
    QuantizerTraining(codec.quantizer).start(frames.transpose(1, 2).flatten(0, 1), 0)
    store.save(run / "c", codec, name="c", architecture="seanet-codec", config=SMALL, task="codec")
    ask = ["eval", "codec", "--manifest", str(run / "manifest.tsv"), "--split", "dev", "-m", str(run / "c")]
    assert main([*ask, "--examples", "3", "--seconds", "1.5", "--json"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = report["codebooks"]
    assert [row["codebooks"] for row in rows] == [1, 2, 3]
    assert [row["kbps"] for row in rows] == [2.5, 5.0, 7.5]
    assert rows[0]["mel"] > rows[2]["mel"] and rows[2]["si_snr"] > rows[0]["si_snr"]
    assert rows[2]["stoi"]["low"] <= rows[2]["stoi"]["mean"] <= rows[2]["stoi"]["high"] <= 1
    assert main([*ask[:-1], str(run / "none"), "-q"]) == 5
    assert main([*ask, "--split", "nowhere", "-q"]) == 3
