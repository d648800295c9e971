"""`slyther transcribe` with several voices, bad input, full disks, kills."""

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import bad_recordings
import numpy as np
import pytest
import tones
import torch
from tones import SAID, record, transcribed
from tools import error_lines, files_in, from_file_as_stdin

from slyther_cli.checkpoints import store
from slyther_cli.jobs.locks import FAILURES
from slyther_cli.longform import journal
from slyther_cli.models import registry
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.separation import job as separation
from slyther_cli.transcription import recogniser
from slyther_cli.transcription.coverage import Coverage

RATE = 16_000


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    folder = tones.cache(tmp_path_factory.mktemp("cache"))
    torch.manual_seed(1)
    config = {"n_filters": 16, "d_model": 8, "n_layers": 1, "sample_rate": 8000}
    model = registry.build("mamba-tasnet", config)
    start_from_fourier(model)
    store.save(folder / "two", model, name="two", architecture="mamba-tasnet", config=config, task="separate")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    """Every test in a folder of its own, with these models and no others but the shipped ones."""
    monkeypatch.setattr(separation, "DEFAULT_MODEL", "two")
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


def events(out, kind):
    return [told for line in out.splitlines() if (told := json.loads(line))["event"] == kind]


# Several voices


def test_speakers_are_told_apart(capfd, monkeypatch):
    """With a separator that knows the answer: each voice's words are its own, in order of time."""
    one, _ = tones.spoken("hello all")
    two, _ = tones.spoken("deal")
    x = np.zeros((6 * RATE, 2), np.float32)
    x[: len(one), 0], x[4 * RATE : 4 * RATE + len(one), 0] = one, one
    x[2 * RATE : 2 * RATE + len(two), 1] = two
    record(x=x.sum(axis=1))

    def known(model, blocks, plan, on_progress=None, **more):
        assert sum(map(len, blocks())) == 3 * RATE * 2 * 8000 // RATE
        on_progress(0.5)
        yield torch.from_numpy(x.T).numpy()[:, ::2].copy()

    monkeypatch.setattr("slyther_cli.longform.separate_whole", known)
    monkeypatch.setattr("slyther_cli.separation.job.at_source_rate", lambda stems, reader: iter([x.T]))
    code, out, _ = transcribed(capfd, "talk.wav", "--separate", "-f", "srt", "--work-dir", "work")
    cues = [block.split("\n")[2] for block in out.strip().split("\n\n")]
    assert code == 0 and cues == ["[S1] hello all", "[S2] deal", "[S1] hello all"] and not files_in("work")
    told = transcribed(capfd, "talk.wav", "--separate", "--json", "-q")[1]
    assert [(t["speaker"], t["id"]) for t in events(told, "segment")] == [("S1", 0), ("S2", 1), ("S1", 2)]
    shares = [t["fraction"] for t in events(told, "progress")]
    assert shares == sorted(shares)


def test_separation_for_real(capfd):
    """A separator of random weights: the command runs through, and fails as separate does."""
    record()
    code, _, err = transcribed(capfd, "talk.wav", "--separate", "-o", "out", "-v")
    assert code == 0 and files_in("out") == ["talk.txt"] and "separated first, by two" in err
    assert "digital silence" not in err + transcribed(capfd, "talk.wav", "--dry-run", "--separate")[2]
    for how, words in [
        (("--separate", "--separate-model", "nobody"), "nobody"),
        (("--separate", "--separate-model", "tones"), "transcribe"),
        (("--separate-model", "two"), "--separate"),
    ]:
        code, out, err = transcribed(capfd, "talk.wav", *how)
        assert code in (2, 5) and not out and words in error_lines(err)[0]


# Coverage


def test_a_transcript_that_ends_too_soon_is_reported(capfd):
    said = tones.spoken(SAID)[0]
    hum = (0.3 * np.sin(2 * np.pi * 100 * np.arange(40 * RATE) / RATE)).astype(np.float32)  # no letter
    for rest, expected in [(hum, True), (0.001 * hum, False), (hum[: 5 * RATE], False), (0 * hum, False)]:
        record(x=np.concatenate([said, rest]))
        code, out, err = transcribed(capfd, "talk.wav")
        assert code == 0 and out == SAID + "\n"
        assert ("the last word ends at 0:03, but sound as loud" in err) == expected, err
    record(x=hum)
    assert "no words were heard" in transcribed(capfd, "talk.wav")[2]


def test_coverage_does_not_mind_blocks():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    one, many = Coverage(RATE), Coverage(RATE)
    assert np.array_equal(np.concatenate(list(one.passing(iter([x])))), x)
    list(many.passing(np.array_split(x, 17)))
    list(many.passing(np.array_split(x, 900)))
    assert one.levels == many.levels and len(one.levels) == 13


# Inputs of every kind


def test_bad_inputs_do_not_stop_the_others(capfd):
    bad = bad_recordings.write_bad_recordings()
    record("good.wav")
    code, out, err = transcribed(capfd, *bad, "good.wav", "-o", "out", "--strict")
    assert code == 3 and out == "out/good.txt\n"
    assert len(error_lines(err)) == len(bad)  # the longest first, so not in their order
    for words in bad.values():
        assert any(words in line for line in error_lines(err)), words
    assert files_in("out") == ["good.txt", FAILURES] and Path("out/good.txt").read_text() == SAID + "\n"
    code, out, err = transcribed(capfd, *bad, "-o", "none", "--json", "--strict")
    assert code == 4 and len(events(out, "error")) == len(bad) and files_in("none") == [FAILURES]


def music(seconds):
    """Chords that change twice a second, with drums."""
    t = np.arange(seconds * RATE) / RATE
    rng = np.random.default_rng(0)
    x = np.zeros(len(t))
    for root in range(6):
        notes = 220 * 2 ** (rng.integers(0, 24, 2 * seconds) / 12)
        x += np.sin(2 * np.pi * np.cumsum(np.repeat(notes, RATE // 2)) / RATE) / (root + 2)
    drum = rng.standard_normal(len(t)) * np.exp(-8 * (t * 2 % 1))
    return (0.2 * x + 0.2 * drum).astype(np.float32)


@pytest.mark.parametrize(
    ("x", "rate"),
    [
        (tones.beep("a")[:1], 8000),
        (tones.beep("a")[:1], 48_000),
        (tones.beep("a")[:700], 11_025),
        (np.zeros((3000, 1), np.float32), 8000),
        (np.where(np.arange(9000) % 100 == 0, np.nan, 0.1).astype(np.float32), 16_000),
        (np.full((9000, 64), 0.1, np.float32), 8000),
        (np.random.default_rng(0).standard_normal(40_000).astype(np.float32), 384_000),
        (np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32) * 9, RATE),
        (music(5), RATE),
    ],
    ids=["one", "one-48k", "few", "silence", "nan", "64ch", "384k", "clipped-noise", "music"],
)
@pytest.mark.parametrize("model", ["tones", "taught", "live"])
def test_odd_inputs(capfd, x, rate, model):
    record("odd.wav", x=x, rate=rate)
    code, out, err = transcribed(capfd, "odd.wav", "-f", "json", "-m", model)
    assert code == 0 and not error_lines(err)
    ends = [s["end"] for s in json.loads(out)["segments"]]
    assert ends == sorted(ends) and all(end <= len(x) / rate + 1e-3 for end in ends)


def test_channels(capfd):
    x = np.zeros((len(tones.spoken(SAID)[0]), 2), np.float32)
    x[:, 1] = tones.spoken(SAID)[0]
    record(x=x)
    assert transcribed(capfd, "talk.wav", "--channel", 2)[1] == SAID + "\n"
    assert transcribed(capfd, "talk.wav", "--channel", 1)[1] == ""
    assert "silent throughout" in transcribed(capfd, "talk.wav")[2]
    code, _, err = transcribed(capfd, "talk.wav", "--channel", 3)
    assert code == 4 and "no channel 3" in error_lines(err)[0]
    assert transcribed(capfd, "talk.wav", "--channel", "left")[0] == 2


# Outputs that cannot be written


def test_unwritable_outputs(capfd):
    record()
    Path("file").touch()
    Path("taken/talk.srt").mkdir(parents=True)
    for folder in ("file", "file/below", "/proc/nowhere", "x" * 300):
        code, out, err = transcribed(capfd, "talk.wav", "-o", folder)
        assert code == 4 and not out and len(error_lines(err)) == 1 and "cannot be written" in err
    code, _, err = transcribed(capfd, "talk.wav", "-o", "taken", "-f", "all", "--force")
    assert code == 4 and "no ordinary file" in error_lines(err)[0] and not files_in("taken")


def test_a_full_disk(capfd):
    """A limit on the size of files stands for it: the system refuses in the middle of the second input."""
    record("a.wav")
    record("b.wav", text=" ".join([SAID] * 20))
    record("c.wav")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        code, out, err = transcribed(capfd, "a.wav", "b.wav", "c.wav", "-o", "out", "-f", "srt,json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 3 and len(out.splitlines()) == 4 and len(error_lines(err)) == 1
    assert "b.json" in error_lines(err)[0] and "cannot be written" in error_lines(err)[0]
    assert files_in("out") == ["a.json", "a.srt", "c.json", "c.srt", FAILURES]


# Stopped, and gone on with


@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), 6), (RuntimeError("not enough memory: x"), 6), (OSError("?"), 1)]
)
def test_a_failure_while_computing(capfd, monkeypatch, error, code):
    whole = recogniser.encode_whole

    def fails(model, blocks, plan, on_progress=None, **more):
        yield from whole(model, blocks, plan, on_progress, **more)
        if plan.samples < 20_000:
            raise error

    monkeypatch.setattr(recogniser, "encode_whole", fails)
    record("a.wav", text="all")
    record("b.wav")
    assert transcribed(capfd, "a.wav", "-o", "alone")[0] == code
    got, out, err = transcribed(capfd, "a.wav", "b.wav", "-o", "out")
    assert got == (3 if code == 6 else 1) and out == "out/b.txt\n" and len(error_lines(err)) == 1
    assert files_in("out") == ["b.txt", FAILURES] and not files_in("alone")


def test_resume(capfd, monkeypatch):
    """Killed in the middle of a sweep: the same command goes on, and gives the same files."""
    monkeypatch.setattr(journal, "EVERY", 0.0)
    record(text=" ".join([SAID] * 10))
    how = ("talk.wav", "-f", "all", "--memory-limit", "1GB")
    assert transcribed(capfd, *how, "-o", "plain")[0] == 0
    stops = [2]
    whole = recogniser.encode_whole

    def killed(model, blocks, plan, on_progress=None, **more):
        def progress(fraction):
            on_progress(fraction)
            if fraction > 0.4 and stops:
                stops.pop()
                raise KeyboardInterrupt

        yield from whole(model, blocks, plan, progress, tile=24, **more)

    monkeypatch.setattr(recogniser, "encode_whole", killed)
    assert transcribed(capfd, *how, "-o", "out", "--resume", "--work-dir", "work")[0] == 130
    assert not files_in("out") and any(name.endswith("/tape") for name in files_in("work"))
    code, _, err = transcribed(capfd, *how, "-o", "out", "--resume", "--work-dir", "work")
    assert code == 0 and "went on from the work" in err and not files_in("work")
    for name in files_in("plain"):
        assert Path("out", name).read_bytes() == Path("plain", name).read_bytes()
    assert "skipped" in transcribed(capfd, *how, "-o", "out", "--resume", "--work-dir", "work")[2]
    code, out, err = transcribed(capfd, "talk.wav", "--resume", "--work-dir", "work")  # to stdout
    assert code == 0 and out.split() == SAID.split() * 10 and not files_in("work")
    from_file_as_stdin(monkeypatch, "talk.wav")
    code, _, err = transcribed(capfd, "-", "--resume")
    assert code == 4 and "needs a file" in error_lines(err)[0]
    assert "it began anew" in transcribed(capfd, "talk.wav", "-m", "live", "--resume")[2]


def test_a_signal_while_computing(place, models):
    record(x=np.zeros(RATE * 1200, np.float32), subtype="PCM_16")
    args = [sys.executable, "-m", "slyther_cli", "transcribe", "talk.wav", "-m", "tones", "-o", "out"]
    running = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 200  # importing torch takes a while on a busy machine
    while not files_in("out") and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert len(files_in("out")) == 1  # hidden
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=90)
    going_on = "slyther: what is done is kept: the same command with --resume does the rest\n"
    assert running.returncode == 143 and err == going_on + "slyther: stopped by a signal\n"
    assert files_in() == ["talk.wav"]
