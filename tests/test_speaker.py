"""The speaker network: what its embedding may depend on, its training, and the one that is shipped."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, UsageError
from slyther_cli.longform.pieces import parted_at_overlap
from slyther_cli.longform.reunited import reunited
from slyther_cli.models.speaker import SpeakerNet, SpeakerNetConfig
from slyther_cli.research.training.speaker import (
    SpeakerTask,
    compare,
    cut,
    equal_error_rate,
    margin_loss,
    read_config,
    read_teacher,
    stretches,
)
from slyther_cli.research.training.speaker_teacher import pieces
from slyther_cli.separation.speakers import embedder

ROOT = Path(__file__).parents[1]
SMALL = SpeakerNetConfig(width=16, n_layers=2, pooled=16, dim=8)


def speech(seed: int, seconds: float = 2.0, pitch: float = 120.0) -> np.ndarray:
    """Pulses of that pitch with a slow envelope and a little noise: float32 at 16 kHz."""
    rng, t = np.random.default_rng(seed), np.arange(int(seconds * 16_000)) / 16_000
    phase = np.cumsum(2 * np.pi * pitch * (1 + 0.03 * np.sin(5 * t + rng.uniform(0, 6))) / 16_000)
    tone = sum(np.cos(k * phase) / k for k in range(1, 15)) * (0.6 + 0.4 * np.sin(9 * t + rng.uniform(0, 6)))
    return (0.03 * tone + 0.0005 * rng.standard_normal(len(t))).astype(np.float32)


@pytest.fixture
def network() -> SpeakerNet:
    torch.manual_seed(0)
    return SpeakerNet(SMALL).eval()


@torch.no_grad()
def test_an_embedding_is_of_length_one_and_the_level_makes_no_difference(network):
    x = torch.from_numpy(speech(0))
    e = network.embed(x)
    assert e.shape == (8,) and e.norm() == pytest.approx(1)
    torch.testing.assert_close(network.embed(0.01 * x), e, rtol=0, atol=1e-4)
    assert (network.embed(torch.from_numpy(speech(0, pitch=260))) - e).abs().max() > 1e-3
    for wrong in (torch.zeros(0), torch.zeros(2, 100)):
        with pytest.raises(ValueError, match="a stretch is"):
            network.embed(wrong)
    assert torch.isfinite(network.embed(torch.zeros(1))).all()


@torch.no_grad()
def test_statistics_of_stretches_add_up(network):
    x, y = (torch.from_numpy(speech(i))[None] for i in range(2))
    a, b = network.statistics(x), network.statistics(y)
    assert a.shape == (1, 33)
    torch.testing.assert_close(network.of_statistics(a + a), network(x))  # twice the same is the same
    features = torch.cat([network.features(x), network.features(y)], 1)
    both = network.of_statistics(network.of_features(features))
    assert F.cosine_similarity(network.of_statistics(a + b), both) > 0.995  # but for the seam


@torch.no_grad()
def test_frames_see_their_neighbours_in_order(network):
    x = network.features(torch.from_numpy(speech(0))[None])
    forth, back = network.of_features(x), network.of_features(x.flip(1))
    assert (forth - back).abs().max() > 1e-3
    for frames in (1, 3, 4, 5, 9):
        assert network.of_features(x[:, :frames]).isfinite().all()


def test_the_margin_is_added_to_the_right_angle():
    e, classes = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 3.0], [0.0, 2.0]])
    angle = math.pi / 4
    for margin in (0.0, 0.2):
        loss, cosines = margin_loss(e, classes, torch.tensor([0]), margin)
        want = math.log1p(math.exp(24 * (0 - math.cos(angle + margin))))
        assert float(loss) == pytest.approx(want, abs=1e-4)
        torch.testing.assert_close(cosines, torch.tensor([[math.cos(angle), 0.0]]), rtol=0, atol=1e-5)


def test_equal_error_rates_that_are_known():
    assert equal_error_rate([0.8, 0.9], [0.1, 0.2, 0.3]) == 0
    assert equal_error_rate([0.1, 0.2], [0.8, 0.9]) == 1
    different = [-6, -5, -4, -3, -2, -1, 0, 0.5, 1.5, 2.5]
    assert equal_error_rate(range(1, 11), different) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="both kinds"):
        equal_error_rate([0.1], [])


def test_pairs_are_of_two_utterances_or_two_speakers():
    e = F.normalize(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), dim=1)
    same, different = compare(e, [0, 0, 0, 1], [0, 0, 1, 0])
    assert same.tolist() == [0, 0] and sorted(different.tolist()) == pytest.approx([0.5**0.5] * 3)


def test_stretches_are_whole_and_short_speech_is_repeated():
    whole = np.arange(10, dtype=np.int16)
    assert [(n, (32768 * x).tolist()) for n, x in stretches([whole, whole[:3], whole[5:]], 4)] == [
        (0, [0, 1, 2, 3]), (0, [4, 5, 6, 7]), (2, [5, 6, 7, 8]),
    ]  # fmt: skip
    assert (32768 * cut([whole[:3]], 7, np.random.default_rng(0))).tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert {int(32768 * cut([whole], 8, np.random.default_rng(i))[0]) for i in range(30)} == {0, 1, 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A configuration with six voices in two splits and a teacher that knows the training's."""
    folder = tmp_path_factory.mktemp("speaker")
    rows = ["path\tspeaker\tsplit"]
    for number in range(10):
        for part in range(2):
            name, split = f"{number}-{part}.wav", "train" if number < 6 else "dev"
            soundfile.write(folder / name, speech(10 * number + part, 1.5, 90 * 1.15**number), 16_000)
            rows.append(f"{name}\tv{number}\t{split}")
    (folder / "m.tsv").write_text("\n".join(rows))
    np.savez(folder / "t.npz", speakers=[f"v{i}" for i in range(6)], embeddings=np.eye(6, 7) + 1)
    (folder / "c.toml").write_text(
        'teacher = "t.npz"\n[model]\nwidth = 16\nn_layers = 2\npooled = 16\ndim = 8\n[data]\n'
        'manifests = ["m.tsv"]\ncache = "."\n[batch]\nspeakers = 4\nlengths = [0.5, 1.0]\ndev_seconds = 0.5\n'
        "[loop]\nsteps = 100\nwarmup = 2\nlr = 1e-2\naverage = 0.5\n"
    )
    return folder


def test_training_learns_voices_and_what_it_writes_embeds(run, capsys):
    assert main(["train", "speaker", "-c", str(run / "c.toml"), "-o", str(run / "run"), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    scored = [e for e in events if e["event"] == "validate"]
    assert scored[-1]["eer"] < 20 and scored[-1]["stretches"] == 24
    network, about = store.load(run / "run/best", expect_task="embed")
    assert isinstance(network, SpeakerNet) and about.metrics["dev_eer"] == scored[-1]["eer"]
    with torch.no_grad():
        low, again, high = (
            network.embed(torch.from_numpy(speech(90 + i, 1.0, p))) for i, p in enumerate((100, 100, 280))
        )
    assert low @ again > low @ high


def test_a_batch_is_of_its_step_and_narrow_bands_end_at_4_khz(run):
    task = SpeakerTask(read_config(run / "c.toml"), run)
    first, second = task.batch(3), task.batch(3)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[1], task.batch(4)[1]) and len(set(first[1].tolist())) == 4
    features = torch.randn(2, 5, 80)
    narrow = task.changed(features, torch.tensor([[1.0, 0.0], [0.0, 6.0]]))
    hertz = 700 * (10 ** (np.linspace(0, np.log10(1 + 8000 / 700), 82)[1:-1]) - 1)
    gone = (narrow[0] == -60).all(0).numpy()
    np.testing.assert_array_equal(gone, hertz > 3900)
    torch.testing.assert_close(narrow[0, :, ~gone], features[0, :, ~gone])
    torch.testing.assert_close(narrow[1, :, [0, 79]], features[1, :, [0, 79]] + torch.tensor([-6.0, 6.0]))
    assert task.teacher is not None
    one = torch.eye(6) - 1 / 6  # angles of the teacher's vectors, less their mean: all are alike
    torch.testing.assert_close(task.teacher @ task.teacher.T, one * 6 / 5)
    torch.testing.assert_close(task.model["classes"].weight.data, task.teacher)


def test_teachers_and_settings_that_do_not_fit_are_refused(run, tmp_path):
    assert read_teacher(run / "t.npz", ["v3", "v1"])[:, 3].tolist() == [2, 1]
    with pytest.raises(InputError, match="no embedding of speaker x and 1 others"):
        read_teacher(run / "t.npz", ["v1", "x", "y"])
    with pytest.raises(InputError, match="not the embeddings"):
        read_teacher(run / "c.toml", ["v1"])
    mel = np.arange(400.0)[:, None]
    assert [piece[0, 0] for piece in pieces(mel)] == [0, 240] and len(pieces(mel[:50])[0]) == 160
    (tmp_path / "bad.toml").write_text((run / "c.toml").read_text().replace("[0.5, 1.0]", "[]"))
    with pytest.raises(UsageError, match="lengths"):
        read_config(tmp_path / "bad.toml")
    assert read_config(ROOT / "examples/train-speaker.toml").batch.lengths


@torch.no_grad()
def test_the_shipped_network_tells_the_two_voices_of_the_examples():
    network, _ = store.load("speaker-16k", expect_task="embed")
    halves = []
    for name in ("voice_1.flac", "voice_2.flac"):
        x, rate = soundfile.read(ROOT / "examples" / name, dtype="float32")
        assert rate == 16_000
        halves += [network.embed(torch.from_numpy(half)) for half in np.array_split(x, 2)]
    cosines = torch.stack(halves) @ torch.stack(halves).T
    assert min(cosines[0, 1], cosines[2, 3]) > cosines[:2, 2:].max() + 0.2


def test_turns_of_the_examples_come_back_by_the_shipped_network():
    voices = [soundfile.read(ROOT / "examples" / f"voice_{i}.flac", dtype="float32")[0] for i in (1, 2)]
    length = min(map(len, voices)) // 6
    right = np.zeros((2, 12 * (length + 4000)), np.float32)
    for i in range(12):
        at = i * (length + 4000)
        right[i % 2, at : at + length] = voices[i % 2][i // 2 * length :][:length]
    wrong = right.copy()
    wrong[:, 4 * (length + 4000) :] = [
        right[:, 4 * (length + 4000) :].sum(0),
        0 * right[0, 4 * (length + 4000) :],
    ]
    out = np.concatenate(list(reunited(iter([wrong]), 16_000, embedder(16_000))), 1)
    energy = [float(np.square(x).sum()) for x in (right, out - right, wrong - right)]
    assert energy[2] > 0.4 * energy[0] and energy[1] < 0.1 * energy[0]


def test_overlap_is_a_piece_of_its_own_and_stays():
    """Long overlap parts the pieces; a seam of few frames does not; nothing of it is ever exchanged."""
    active = np.zeros((2, 300), bool)
    active[0, 10:120], active[1, 100:200] = True, True  # 20 frames of both
    active[0, 197:280] = True  # 3 frames of both: a seam
    cut, overlap = parted_at_overlap(active, np.array([[0, 300]]))
    assert cut.tolist() == [[0, 100], [100, 120], [120, 300]]
    assert overlap.tolist() == [False, True, False]
    stems = np.random.default_rng(0).standard_normal((2, 16000)).astype(np.float32)  # both all the time
    found = []
    same = np.concatenate(
        [*reunited(iter([stems]), 8000, lambda x: x[:4] / np.linalg.norm(x[:4]), None, found.append)], 1
    )
    assert np.array_equal(same, stems) and found[0].spans == []
