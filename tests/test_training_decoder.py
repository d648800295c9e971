"""``slyther train transcribe`` of models with a decoder: from a handful of utterances to a model that writes
them down by the joint search. The speech is a code of tones: every letter is a pitch."""

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
import torch.nn.functional as F
from tone_speech import RATE, spoken

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.joint import BOS, EOS, has_ends
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import UsageError
from slyther_cli.models.registry import build, full_config
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.recognition import IGNORED, RecognitionTask, forced, read_config, train

SIZES = """
d_model = 24
n_layers = 2
n_decoder_layers = 1
d_state = 4
n_heads = 2
n_mels = 20
max_positions = 1
dropout = 0.0
"""
KINDS = {
    "transformer": '[model]\ndecoder = "transformer"\nd_ffn = 32\nkernel_size = 3\n' + SIZES,
    "mamba": '[model]\ndecoder = "mamba"\nd_ffn = 32\nkernel_size = 3\n' + SIZES,
    "speech-mamba": 'architecture = "speech-mamba"\n[model]\n' + SIZES,
}
REST = """
[data]
manifests = ["manifest.tsv"]
cache = "cache"
[augment]
speed = [1.0]
gain_db = 0.0
joined = 0.0
noise = 0.0
narrow = 0.0
wordless = 0.0
bands = 0
mask_s = 0.0
[batch]
seconds = 8.0
[loop]
steps = STEPS
warmup = 5
optimizer = "muon"
lr = 2e-2
average = 0.9
log_seconds = 0.0
validate_minutes = 1000
"""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Eight utterances, to train on and to validate with."""
    folder = tmp_path_factory.mktemp("few")
    rng = np.random.default_rng(0)
    lines = ["path\tspeaker\tsplit\ttranscript"]
    for i in range(8):
        text = " ".join("".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(3))
        sf.write(folder / f"{i}.wav", spoken(text, rng), RATE)
        lines += [f"{i}.wav\t{split}\t{split}\t{text}" for split in ("train", "dev")]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def config(home, kind, steps, more=""):
    (home / "run.toml").write_text((more + KINDS[kind] + REST).replace("STEPS", str(steps)))
    return home / "run.toml"


@pytest.mark.parametrize(("kind", "units"), [("transformer", "characters"), ("mamba", "unigram")])
def test_a_handful_of_utterances_is_learnt_and_written_down(kind, units, home, tmp_path, capsys):
    path, best = config(home, kind, 130), tmp_path / "run" / "best"
    levels = path.read_text().replace("gain_db = 0.0", "gain_db = 3.0")  # it will hear them at another one
    path.write_text(levels + f'[text]\nunits = "{units}"\nsize = 12\n')
    assert main(["train", "transcribe", "-c", str(path), "-o", str(tmp_path / "run"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    losses = [line["metric"] for line in lines if line["event"] == "train"]
    assert losses[-1] < 0.2 < 2 < losses[0]  # of the decoder, nats a token
    valid = next(line for line in lines if line["event"] == "validate")
    assert valid["cer"] < 10
    assert has_ends(load_tokenizer(best))
    assert load_tokenizer(best).size == (31 if units == "characters" else 12)
    pool = SpeechPool([home / "manifest.tsv"], "dev", RATE, home / "cache")  # trimmed, at its level
    rows, right = ["path\tspeaker\tsplit\ttranscript"], 0
    for i, (samples, text) in enumerate(zip(pool.speakers["dev"], pool.transcripts["dev"], strict=True)):
        sf.write(tmp_path / f"{i}.wav", samples, RATE)
        rows.append(f"{i}.wav\tdev\tdev\t{text}")
        search = ["--decode", "joint", "--beam", "3"]
        assert main(["transcribe", str(tmp_path / f"{i}.wav"), "-m", str(best), *search, "-q"]) == 0
        right += capsys.readouterr().out.strip() == text
    assert right >= 7
    (tmp_path / "few.tsv").write_text("\n".join(rows) + "\n")
    options = ["--manifest", str(tmp_path / "few.tsv"), "--model", str(best), "--decode", "joint"]
    assert main(["eval", "transcribe", *options, "--split", "dev", "--beam", "3", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["cer"]["value"] < 10


def test_speech_mamba_learns_too(home):
    task = RecognitionTask(read_config(config(home, "speech-mamba", 5)), home)
    optimizer = torch.optim.Adam(task.model.parameters(), 1e-2)
    losses = []
    for step in range(12):
        loss, told = task.loss(step)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(told)
    assert losses[-1] < 0.5 * losses[0]


def test_teacher_forcing():
    given, wanted = forced(torch.tensor([5, 6, 7]), torch.tensor([2, 0, 1]))
    assert given.tolist() == [[BOS, 5, 6], [BOS, 0, 0], [BOS, 7, 0]]
    assert wanted.tolist() == [[5, 6, EOS], [EOS, IGNORED, IGNORED], [7, EOS, IGNORED]]


@pytest.mark.parametrize("kind", KINDS)
def test_the_decoders_loss_is_that_of_each_utterance_alone(kind, home):
    """Neither a neighbour in the batch nor its padding changes what an utterance costs."""
    task = RecognitionTask(read_config(config(home, kind, 5)), home)
    features, lengths, tokens, counts, *_ = task.batch(0)
    assert len(lengths) > 2 and len(set(lengths.tolist())) > 1
    frames = task.model.frontend.frames(lengths)
    memory = task.model.encode(features, lengths)
    together = task._decoder_loss(memory, frames, tokens, counts) * counts.sum()
    alone = 0.0
    for i, text in enumerate(tokens.split(counts.tolist())):
        own = task.model.encode(features[i : i + 1, : lengths[i]])
        logits = task.model.decode(torch.tensor([[BOS, *text]]), own)[0]
        alone += F.cross_entropy(logits, torch.tensor([*text, EOS]), reduction="sum")
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)


def test_the_loss_is_the_papers_mix(home):
    """papers.md 2.5: 0.3 CTC + 0.7 decoder; smoothing of labels costs something."""
    plain = read_config(config(home, "mamba", 5))
    found = {}
    for name, batch in {
        "both": {}, "ctc": {"ctc_weight": 1.0}, "smoothed": {"label_smoothing": 0.1},
    }.items():  # fmt: skip
        task = RecognitionTask(replace(plain, batch=replace(plain.batch, **batch)), home)
        loss, told = task.loss(0)
        found[name] = float(loss.detach()), told
    ctc, told = found["ctc"]
    assert found["both"][0] == pytest.approx(0.3 * ctc + 0.7 * told, rel=1e-5)
    assert found["smoothed"][1] != told and found["smoothed"][1] == pytest.approx(told, rel=0.2)
    task = RecognitionTask(plain, home)
    with torch.autocast("cpu", torch.bfloat16):
        rough = float(task.loss(0)[0].detach())
    assert rough != found["both"][0] and rough == pytest.approx(found["both"][0], rel=0.05)


def test_weights_whose_alphabet_has_no_ends_are_refused(home, tmp_path):
    settings = full_config("conmamba", {"decoder": "mamba", "d_model": 8, "d_ffn": 8, "n_layers": 1,
                                        "n_decoder_layers": 1, "n_heads": 2, "vocab": 29})  # fmt: skip
    store.save(
        tmp_path / "m", build("conmamba", settings), name="m", architecture="conmamba", config=settings,
        task="transcribe", companions=CharTokenizer().save,
    )  # fmt: skip
    (home / "run.toml").write_text(f'start_from = "{tmp_path}/m"\n' + REST.replace("STEPS", "2"))
    with pytest.raises(UsageError, match="no tokens for a text's start and end"):
        train(home / "run.toml", tmp_path / "run", False, lambda event: None)
    wav = str(home / "0.wav")
    assert main(["transcribe", wav, "-m", str(tmp_path / "m"), "--decode", "joint"]) == 5
