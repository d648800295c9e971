"""``slyther train transcribe``: examples, a run from speech and text to a model that reads, the command. The
speech is a code of tones: every letter is a pitch."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tone_speech import RATE, spoken

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.evaluation.metrics import edits
from slyther_cli.research.training.augmentation import mp3_coded
from slyther_cli.research.training.data import SpeechPool
from slyther_cli.research.training.recognition import RecognitionTask, read_config, train
from slyther_cli.research.training.recognition_data import AugmentConfig, TranscribedSpeech, spec_augment

PLAIN = AugmentConfig(speed=(1.0,), gain_db=0, noise=0, narrow=0, joined=0, wordless=0, bands=0, mask_s=0)
CONFIG = """
name = "tones"
[model]
decoder = "none"
d_model = 24
n_layers = 2
d_ffn = 32
d_state = 4
kernel_size = 3
n_heads = 2
n_mels = 20
max_positions = 1
dropout = 0.0
[data]
manifests = ["manifest.tsv"]
cache = "cache"
[augment]
speed = [1.0]
joined = 0.2
joined_seconds = [2.0]
noise = 0.0
narrow = 0.0
band_width = 1
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
    folder = tmp_path_factory.mktemp("tones")
    rng = np.random.default_rng(0)
    lines = ["path\tspeaker\tsplit\ttranscript"]
    for i in range(60):
        split = "train" if i < 44 else "dev"
        words = ["".join(rng.choice(list("abc"), rng.integers(1, 4))) for _ in range(rng.integers(2, 5))]
        text = " ".join(words)
        sf.write(folder / f"{i}.wav", spoken(text, rng), RATE)
        lines.append(f"{i}.wav\ts{i % 4}\t{split}\t{text.upper()}.")
    sf.write(folder / "odd.wav", spoken("abc", rng), RATE)
    lines += ["odd.wav\ts9\ttrain\t1984", "odd.wav\ts9\ttrain\t"]
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder


def config(home, steps, **changes):
    text = CONFIG.replace("STEPS", str(steps))
    for old, new in changes.items():
        text = text.replace(old, new)
    (home / "run.toml").write_text(text)
    return home / "run.toml"


@pytest.fixture(scope="module")
def speech(home):
    return TranscribedSpeech(
        SpeechPool([home / "manifest.tsv"], "train", RATE, home / "cache"), CharTokenizer()
    )


def test_the_command_trains_a_model_that_reads_unseen_words(home, tmp_path, capsys):
    path = config(home, 240)
    assert main(["train", "transcribe", "-c", str(path), "-o", str(tmp_path / "run"), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0]["event"] == "start" and lines[0]["left_out"] == 2 and lines[0]["speakers"] == 4
    valid = next(line for line in lines if line["event"] == "validate")
    assert valid["cer"] < 20 and valid["wer"] < 50
    model, about = store.load(tmp_path / "run" / "best", expect_task="transcribe")
    assert about.metrics["dev_cer"] == valid["cer"]
    tokenizer = load_tokenizer(tmp_path / "run" / "best")
    assert model.config.vocab == tokenizer.size
    assert float(model.normalize.glob_std.min()) > 0 and float(model.normalize.glob_mean.abs().max()) > 1


def test_a_batch_depends_on_the_seed_and_the_step_alone(home, tmp_path):
    tasks = [RecognitionTask(read_config(config(home, 5)), home) for _ in range(2)]
    tasks[0].batch(0)
    for one, other in zip(tasks[0].batch(3), tasks[1].batch(3), strict=True):
        assert torch.equal(one, other)
    tasks[1].peers.rank = 1
    assert not torch.equal(tasks[0].batch(3)[2], tasks[1].batch(3)[2])


def test_a_run_goes_on_from_weights_with_their_alphabet(home, tmp_path):
    events = []
    train(config(home, 4), tmp_path / "one", False, events.append)
    text = CONFIG[CONFIG.index("[data]") :].replace("STEPS", "2")
    path = home / "more.toml"
    path.write_text(f'start_from = "{tmp_path}/one/best"\n[text]\nunits = "bpe"\n' + text)
    train(path, tmp_path / "two", False, events.append)
    assert load_tokenizer(tmp_path / "two" / "best").size == CharTokenizer().size
    path.write_text(f'start_from = "{tmp_path}/one/best"\n[model]\nn_layers = 3\n' + text)
    train(path, tmp_path / "three", False, events.append)
    assert store.load(tmp_path / "three" / "best")[1].config["n_layers"] == 3
    first, second = (store.load(tmp_path / x / "best")[0].normalize.glob_mean for x in ("one", "two"))
    assert torch.equal(first, second)


def test_bf16_products_change_the_loss_little(home):
    task = RecognitionTask(read_config(config(home, 5)), home)
    task.model.train()
    exact = task.loss(0)[0].item()
    with torch.autocast("cpu", torch.bfloat16):
        rough = task.loss(0)[0].item()
    assert rough != exact and rough == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("speed = [1.0]", "speed = []", "speed"),
        ("noise = 0.0\n", "noise = 1.5\n", "noise"),
        ("[batch]", '[text]\nunits = "runes"\n[batch]', "units"),
        ("warmup = 5", 'precision = "fp8"', "precision"),
        ("n_mels = 20", "n_mells = 20", "n_mells"),
        ("[batch]", "[batch]\nctc_weight = 0.0", "ctc_weight"),
        ("[batch]", "[batch]\nlabel_smoothing = 1.0", "label_smoothing"),
        ("[batch]", "[batch]\nchannel_dropout = 1.0", "channel_dropout"),
        ("[batch]", "[batch]\nconsistency = -0.1", "consistency"),
        ("[augment]", "[augment]\ncompression = [0.5, 1.0]", "compression"),
        ("[augment]", "[augment]\nsilence_s = -0.1", "silence"),
        ("[batch]", '[text]\nunits = "bpe"\nsize = 5000\n[batch]', "cannot be learnt"),
    ],
)
def test_settings_without_a_meaning(home, tmp_path, old, new, says):
    with pytest.raises(UsageError, match=says):
        train(config(home, 2, **{old: new}), tmp_path / "run", False, lambda event: None)


def test_speech_without_text_is_reported(home, tmp_path):
    (tmp_path / "manifest.tsv").write_text(f"path\tspeaker\tsplit\n{home}/1.wav\ta\ttrain\n")
    pool = SpeechPool([tmp_path / "manifest.tsv"], "train", RATE, tmp_path)
    with pytest.raises(InputError, match="no transcripts"):
        TranscribedSpeech(pool, CharTokenizer())


def test_texts_stay_with_their_sound(speech):
    for samples, text in zip(speech.samples, speech.texts, strict=True):
        letters, spaces = len(text.replace(" ", "")), text.count(" ")
        # a hanning tone's ends are 40 dB down and trimmed
        assert len(samples) / RATE == pytest.approx(0.16 * letters + 0.24 * spaces, abs=0.06)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), seconds=st.floats(0.5, 20), joined=st.floats(0, 1))
@example(seed=659, seconds=11.0, joined=0.0)  # a short utterance among long ones
def test_batches_hold_what_was_asked_for(speech, seed, seconds, joined):
    c = AugmentConfig(joined=joined, joined_seconds=(3.0,), pause_s=(0.1, 0.5))
    batch = speech.batch(c, np.random.default_rng(seed), seconds)
    total = sum(len(x.samples) for x in batch) / RATE
    assert total <= 2 * seconds + 4
    for samples, tokens, _ in batch:
        assert samples.dtype == np.float32 and np.isfinite(samples).all()
        assert len(samples) <= 3.1 * RATE / 0.9 or len(batch) == 1
        text = CharTokenizer().decode(tokens)
        assert set(text) <= set("abc ") and "  " not in text


def test_plain_examples_are_the_recordings(speech):
    (samples, tokens, _), *_ = speech.batch(PLAIN, np.random.default_rng(1), 1.0)
    kept = [i for i, s in enumerate(speech.samples) if len(s) == len(samples)]
    assert any(np.array_equal(samples, speech.samples[i].astype(np.float32) / 32768) for i in kept)
    assert tokens in [speech.tokens[i] for i in kept]


def test_wordless_examples_have_no_text(speech):
    c = AugmentConfig(wordless=1.0, joined=0)
    for seed in range(12):
        for samples, tokens, _ in speech.batch(c, np.random.default_rng(seed), 4.0):
            assert tokens == [] and np.abs(samples).max() < 2


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 300))
def test_masks_stay_within_their_bounds(seed, frames):
    c = AugmentConfig(bands=2, band_width=3, mask_every_s=1.0, mask_s=0.2)
    x = spec_augment(torch.ones(frames, 20), c, np.random.default_rng(seed), 0.01)
    assert int((x.amax(0) == 0).sum()) <= 6 or frames <= 20
    assert int((x.amax(1) == 0).sum()) <= 20 * round(frames / 100)


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edits_is_a_distance(one, other):
    assert edits(one, other) == edits(other, one)
    assert (edits(one, other) == 0) == (one == other)
    assert abs(len(one) - len(other)) <= edits(one, other) <= max(len(one), len(other))


def test_edits_by_hand():
    assert edits("kitten", "sitting") == 3
    assert edits(["a", "b", "c"], ["a", "c", "d"]) == 2


def test_narrow_examples_end_at_the_cutoff(speech):
    c = AugmentConfig(**{**vars(PLAIN), "narrow": 1.0, "cutoff_hz": (1000.0, 1500.0)})
    for samples, _, _ in speech.batch(c, np.random.default_rng(2), 6.0):
        power = np.abs(np.fft.rfft(samples)) ** 2
        above = int(1510 / RATE * len(samples))
        assert power[above:].sum() < 1e-6 * power.sum()


def test_an_equaliser_and_a_room_change_the_sound_and_not_the_words(speech):
    def first(**changes):
        c = AugmentConfig(**{**vars(PLAIN), **changes})
        return speech._finished(c, np.random.default_rng(3), x)

    x = speech._speech(5, 1.0)
    assert np.array_equal(first(), x)
    for changes in ({"rooms": 1.0}, {"colour_db": 6.0}):
        y = first(**changes)
        assert y.shape == x.shape and y.dtype == np.float32
        assert y.std() == pytest.approx(x.std(), rel=0.01) and not np.allclose(x, y, atol=1e-3)


def test_coding_takes_the_highest_sound_and_shifts_nothing(speech):
    x = np.concatenate([speech._speech(i, 1.0) for i in range(30)])
    x += 0.01 * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)
    for rate, level in ((16000, 0.8), (16000, 0.9), (16000, 0.95), (8000, 0.9)):
        y = mp3_coded(x, rate, level)
        assert y.shape == x.shape and y.dtype == np.float32
        near = [float(np.roll(y, k) @ x) for k in range(-40, 41)]
        assert np.argmax(near) == 40
    power = np.abs(np.fft.rfft(mp3_coded(x, 16000, 0.9))) ** 2
    assert power[int(len(power) * 6.3 / 8) :].sum() < 1e-4 * power.sum()
    c = AugmentConfig(**{**vars(PLAIN), "coded": 1.0})
    assert not np.allclose(speech._finished(c, np.random.default_rng(3), x), x, atol=1e-4)


def test_silence_lies_before_and_after(speech):
    c = AugmentConfig(**{**vars(PLAIN), "silence_s": 0.5})
    for samples, _, _ in speech.batch(c, np.random.default_rng(5), 6.0):
        heard = np.flatnonzero(np.abs(samples) > 1e-3)
        before, after = heard[0] / RATE, (len(samples) - heard[-1]) / RATE
        assert before <= 0.56 and after <= 0.56 and before + after > 0.1


def test_two_views_are_of_the_same_speech(speech):
    c = AugmentConfig(**{**vars(PLAIN), "speed": (0.9, 1.1), "noise": 1.0, "silence_s": 0.2})
    batch = speech.batch(c, np.random.default_rng(4), 12.0, views=2)
    half = len(batch) // 2
    assert 4 < sum(len(x.samples) for x in batch) / RATE < 20
    for (x, text, parts), (y, again, same) in zip(batch[:half], batch[half:], strict=True):
        assert parts == same and len(parts) == 1
        assert text == again and x.shape == y.shape and not np.array_equal(x, y)
        assert np.corrcoef(x, y)[0, 1] > 0.5


def test_recorded_noise_lies_under_the_speech_and_needs_recordings(speech, home, tmp_path, capsys):
    tone = np.sin(2 * np.pi * 3000 * np.arange(RATE) / RATE).astype(np.float32)
    beside = TranscribedSpeech.__new__(TranscribedSpeech)
    beside.__dict__.update({**vars(speech), "noises": [tone]})
    c = AugmentConfig(**{**vars(PLAIN), "noise": 1.0, "recorded_noise": 1.0, "snr_db": (0.0, 0.0)})
    x = speech._speech(5, 1.0)
    rest = beside._finished(c, np.random.default_rng(3), x) - x
    assert np.abs(np.fft.rfft(rest)).argmax() * RATE / len(x) == pytest.approx(3000, abs=3)
    assert rest.std() == pytest.approx(x.std(), rel=0.05)
    path = config(home, 5, **{"[augment]": "[augment]\nrecorded_noise = 0.5"})
    assert main(["train", "transcribe", "-c", str(path), "-o", str(tmp_path / "run")]) == 2
    assert "noises in [data]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "units"),
    [("", "characters"), ("-phones", "phones"), ("-decoder", "unigram"), ("-hubert", "characters")],
)
def test_examples_can_be_read(name, units):
    found = read_config(Path(__file__).parents[1] / f"examples/train-transcribe{name}.toml")
    assert found.data.manifests and found.text.units == units
