"""Targets for every frame from another recogniser: where they lie, what is kept, and training by them."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training_recognition import config, home  # noqa: F401

from slyther_cli.app import main
from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.training import recognition_teacher
from slyther_cli.research.training.recognition import RecognitionTask, read_config
from slyther_cli.research.training.recognition_teacher import PAUSE, WINDOW, packed, reduced
from slyther_cli.research.training.teacher_states import FRAME, Part, TeacherStates


@pytest.fixture
def counting(tmp_path):
    """A teacher whose state in frame i of "a" is i and in frame i of "b" is 100 - i, in steps of a half."""
    states = np.array([[i] for i in range(40)] + [[100 - i] for i in range(20)], np.int8)
    np.save(tmp_path / "states.npy", states)
    about = {"utterances": [["a", 0, 40], ["b", 40, 60]], "scale": [0.5]}
    (tmp_path / "index.json").write_text(json.dumps(about))
    return TeacherStates(tmp_path)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_targets_lie_where_their_speech_does(counting, rate):
    frame = FRAME * rate // 16000
    parts = [Part("a", 10 * frame, 2.0), Part("b", 40 * frame + frame // 2, 1.0)]
    wanted, known = counting.targets(parts, 70, rate)
    assert np.flatnonzero(known).tolist() == [*range(10, 30), *range(41, 61)]
    inside = np.arange(11, 29)
    np.testing.assert_allclose(wanted[inside, 0], 0.5 * (2 * (inside - 10) - 0.25), atol=1e-5)
    inside = np.arange(42, 60)
    np.testing.assert_allclose(wanted[inside, 0], 0.5 * (100 - (inside - 40.5 - 0.25)), atol=1e-5)
    assert not wanted[~known].any()


def test_what_is_no_teacher_is_refused(counting, tmp_path):
    assert counting.missing(["b", "c", "a"]) == ["c"]
    whole = (tmp_path / "index.json").read_text()
    changes = ("}", ""), ("60", "61"), ("0.5", "0.5, 1"), ('"b", ', ""), ('"scale"', '"scales"')
    for old, new in changes:
        (tmp_path / "index.json").write_text(whole.replace(old, new))
        with pytest.raises(InputError, match="not the states of a teacher"):
            TeacherStates(tmp_path)


@settings(max_examples=50)
@given(st.lists(st.integers(1, WINDOW * FRAME * 5 // 4), min_size=1, max_size=30))
def test_windows_hold_every_utterance_once_and_apart(lengths):
    speech = [(str(i), np.full(n, i, np.int16)) for i, n in enumerate(lengths)]
    windows = list(packed(speech))
    assert [p.path for window in windows for p in window] == [path for path, _ in speech]
    for window in windows:
        end = -PAUSE
        for path, samples, at in window:
            assert at == end + PAUSE and len(samples) == min(lengths[int(path)], WINDOW * FRAME)
            end = at + -(-len(samples) // FRAME)
        assert end <= WINDOW


def test_the_main_directions_are_kept_and_places_are_forgotten():
    rng = np.random.default_rng(0)
    hidden = rng.standard_normal((3000, 3)).astype(np.float32)
    places = rng.integers(0, 50, 3000)
    of_places = 20 * rng.standard_normal((50, 8)).astype(np.float32)
    states = hidden @ rng.standard_normal((3, 8)).astype(np.float32) + of_places[places]
    found, scale, share = reduced(states, places, of_places, 3)
    assert found.dtype == np.int8 and share == pytest.approx(1, abs=1e-3)
    found = found * np.array(scale, np.float32)
    assert (found**2).sum(1).mean() == pytest.approx(1, rel=0.02)
    told = np.linalg.lstsq(found, hidden, rcond=None)[0]
    assert np.abs(found @ told - hidden).max() < 0.1


class Hearing:
    """A teacher with Whisper's manners: its two numbers tell the level of 20 ms, and the place."""

    def __init__(self, folder: str, device: str, compute_type: str):
        assert (folder, device) == ("whisper", "cpu")

    def feature_extractor(self, sound: np.ndarray, padding: int) -> np.ndarray:
        assert len(sound) == WINDOW * FRAME and padding == 0
        return np.abs(sound).reshape(1, 3000, 160).mean(2)

    def encode(self, features: np.ndarray) -> np.ndarray:
        assert features.shape == (1, 1, 3000)
        level = features.reshape(1500, 2).mean(1)
        return np.stack([level, level + np.arange(1500)], 1)[None].astype(np.float32)


@pytest.fixture
def taught(home, tmp_path, monkeypatch) -> Path:  # noqa: F811
    """A configuration beside its teacher."""
    monkeypatch.setitem(sys.modules, "faster_whisper", types.SimpleNamespace(WhisperModel=Hearing))
    path = config(home, 3, **{"[model]": f'teacher = "{tmp_path}/teacher"\n[model]'})
    recognition_teacher.main(path, Path("whisper"), tmp_path / "teacher")
    return path


def test_a_recogniser_learns_what_the_teacher_hears(taught, home, tmp_path):  # noqa: F811
    task = RecognitionTask(read_config(taught), home)
    made = task.batch(1)
    assert made.wanted.shape[:2] == made.known.shape and made.known.any() and not made.known.all()
    loud = task.network.frontend.frames(made.lengths)
    assert (made.known.sum(1) <= loud).all()
    optimizer = torch.optim.Adam(task.model.parameters(), 1e-2)
    first = last = 0.0
    task.model.train()
    for step in range(90):
        task.loss(step)
        error = task._taught_loss(task.batch(step))
        first, last = first or float(error.detach()), float(error.detach())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert first == pytest.approx(1, abs=0.5) and last < 0.6 * first


def test_the_command_trains_by_it_and_refuses_one_of_other_speech(taught, tmp_path, capsys):
    assert main(["train", "transcribe", "-c", str(taught), "-o", str(tmp_path / "run")]) == 0
    about = json.loads((tmp_path / "teacher" / "index.json").read_text())
    about["utterances"].pop(0)
    (tmp_path / "teacher" / "index.json").write_text(json.dumps(about))
    capsys.readouterr()
    assert main(["train", "transcribe", "-c", str(taught), "-o", str(tmp_path / "two")]) == 3
    assert "has no states of" in capsys.readouterr().err


def test_only_a_frame_of_40_ms_can_be_taught(taught, home):  # noqa: F811
    text = taught.read_text().replace("[model]\n", "[model]\nhop = 120\n")
    (home / "other.toml").write_text(text)
    with pytest.raises(UsageError, match="a frame every 40 ms"):
        RecognitionTask(read_config(home / "other.toml"), home)
