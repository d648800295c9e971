"""`slyther transcribe --separate --resume`: killed anywhere, it goes on, and gives the same files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tones
import torch
from tones import record, transcribed
from tools import error_lines, files_in

from slyther_cli.checkpoints import store
from slyther_cli.jobs import resume
from slyther_cli.longform import journal
from slyther_cli.models import registry
from slyther_cli.research.language.kneser_ney import train
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.separation import job as separation
from slyther_cli.transcription import recogniser
from slyther_cli.transcription.coverage import Coverage
from slyther_cli.transcription.multi_speaker import KeptVoices


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tones.cache(tmp_path_factory.mktemp("cache"))
    torch.manual_seed(1)
    config = {"n_filters": 16, "d_model": 8, "n_layers": 2, "sample_rate": 8000}
    model = registry.build("mamba-tasnet", config)
    start_from_fourier(model)
    store.save(folder / "two", model, name="two", architecture="mamba-tasnet", config=config, task="separate")
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    monkeypatch.setattr(separation, "DEFAULT_MODEL", "two")
    monkeypatch.setattr(journal, "EVERY", 0.0)
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


HOW = ("talk.wav", "--separate", "-f", "all", "--memory-limit", "1GB")


def stop_at(monkeypatch, module, name, whole, call, share, **tile):
    """The ``call``-th use of ``module.name`` is stopped once, past that share of its work."""
    calls = []

    def stopped(model, blocks, plan, on_progress=None, **more):
        calls.append(0)
        mine = len(calls)

        def progress(fraction):
            on_progress(fraction)
            if mine == call and fraction > share:
                raise KeyboardInterrupt

        yield from whole(model, blocks, plan, progress, **more, **tile)

    monkeypatch.setattr(module, name, stopped)
    return calls


@pytest.mark.parametrize("stage", ["separating", "the first voice", "the second voice"])
def test_goes_on_where_it_was_killed(capfd, monkeypatch, stage):
    import slyther_cli.longform as longform

    record(text=" ".join([tones.SAID] * 6))
    whole, separate = recogniser.encode_whole, longform.separate_whole
    stop_at(monkeypatch, recogniser, "encode_whole", whole, 0, 0, tile=24)
    assert transcribed(capfd, *HOW, "-o", "plain", "-q")[0] == 0
    if stage == "separating":
        stop_at(monkeypatch, longform, "separate_whole", separate, 1, 0.5)
    else:
        call = 1 if stage == "the first voice" else 2
        stop_at(monkeypatch, recogniser, "encode_whole", whole, call, 0.6, tile=24)
    kept = (*HOW, "-o", "out", "--resume", "--work-dir", "work")
    assert transcribed(capfd, *kept)[0] == 130
    there = files_in("work")
    assert not files_in("out") and any(name.endswith("/tape") for name in there)
    assert any(name.endswith("/s1.jsonl") for name in there) == (stage == "the second voice")
    monkeypatch.setattr(longform, "separate_whole", separate)
    heard = stop_at(monkeypatch, recogniser, "encode_whole", whole, 0, 0, tile=24)
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work")
    assert len(heard) == (1 if stage == "the second voice" else 2)
    assert files_in("plain") == files_in("out")
    for name in files_in("plain"):
        assert Path("out", name).read_bytes() == Path("plain", name).read_bytes()
    assert "skipped" in transcribed(capfd, *kept)[2]


def test_work_of_another_job_is_not_taken(capfd, monkeypatch):
    record()
    stop_at(monkeypatch, recogniser, "encode_whole", recogniser.encode_whole, 2, 0)
    kept = (*HOW, "-o", "out", "--resume", "--work-dir", "work")
    assert transcribed(capfd, *kept)[0] == 130
    for more in (("--decode", "beam"), ("--channel", "1")):
        code, _, err = transcribed(capfd, *kept, *more)
        assert code == 4 and "another recording, model or options" in error_lines(err)[0]
    record(text="all deal")
    code, _, err = transcribed(capfd, *kept)
    assert code == 4 and "another recording, model or options" in error_lines(err)[0]


def test_work_under_another_language_model_is_not_taken(capfd, monkeypatch, models):
    """The file has the same name, and other content; or the model's own settings have changed."""
    record()
    lm = shutil.copy(models / "taught" / "lm.bin", "lm.bin")
    stop_at(monkeypatch, recogniser, "encode_whole", recogniser.encode_whole, 2, 0)
    kept = (*HOW, "-o", "out", "--resume", "--work-dir", "work", "--lm", lm)
    assert transcribed(capfd, *kept)[0] == 130
    train(["all deal"], 2).save("lm.bin")
    code, _, err = transcribed(capfd, *kept)
    assert code == 4 and "another recording, model or options" in error_lines(err)[0]
    shutil.copy(models / "taught" / "lm.bin", "lm.bin")
    config = models / "tones" / "config.json"
    text = config.read_text()
    config.write_text(json.dumps(json.loads(text) | {"word_lead_ms": 40}))
    try:
        code, _, err = transcribed(capfd, *kept)
    finally:
        config.write_text(text)
    assert code == 4 and "another recording, model or options" in error_lines(err)[0]
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work")


def test_work_under_other_pronunciations_is_not_taken(capfd, monkeypatch):
    monkeypatch.setattr(recogniser.Recogniser, "_lexicon", lambda self: None)  # as if it heard phones
    record()
    Path("names.txt").write_text("Nguyen  W IH1 N")
    stop_at(monkeypatch, recogniser, "encode_whole", recogniser.encode_whole, 2, 0)
    kept = (*HOW, "-o", "out", "--resume", "--work-dir", "work", "--lexicon", "names.txt")
    assert transcribed(capfd, *kept)[0] == 130
    Path("names.txt").write_text("Nguyen  N UW1 Y EH1 N")
    code, _, err = transcribed(capfd, *kept)
    assert code == 4 and "another recording, model or options" in error_lines(err)[0]
    Path("names.txt").write_text("Nguyen  W IH1 N")
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work")


def test_killed_while_the_work_of_a_finished_job_is_removed(capfd, monkeypatch):
    """Before the facts go, the job is done again from what is kept; after it, nothing is."""
    record()
    kept = (*HOW, "-o", "out", "--resume", "--work-dir", "work")
    remove = KeptVoices.remove

    def killed(self):
        if self.resumed or (self.folder / "s1.jsonl").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(KeptVoices, "remove", killed)
    assert transcribed(capfd, *kept)[0] == 130
    monkeypatch.setattr(KeptVoices, "remove", remove)
    first = {name: Path("out", name).read_bytes() for name in files_in("out") if name.startswith("talk")}
    assert len(first) == 5 and files_in("work")
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work")
    assert {name: Path("out", name).read_bytes() for name in first} == first
    facts = next(Path("work").glob("*"), None)
    assert facts is None
    folder = resume.voices_folder("talk.wav", [Path("out", "talk.txt")], Path("work"))
    folder.mkdir(parents=True)
    (folder / "s1.jsonl").write_text("of another job")
    assert not resume.is_unfinished("talk.wav", [Path("out", "talk.txt")], Path("work"))
    how = ("talk.wav", "--separate", "-o", "out", "--resume", "--work-dir", "work", "--force")
    code, _, err = transcribed(capfd, *how)
    assert code == 0 and "went on" not in err and not files_in("work")
    assert Path("out/talk.txt").read_bytes() == first["talk.txt"]


def test_coverage_is_kept():
    one = Coverage(16_000)
    for _ in one.passing([0.1 * np.ones(40_000, np.float32)]):
        pass
    one.word(3, 20_000)
    other = Coverage.of(json.loads(json.dumps(one.as_dict())))
    assert vars(other) == vars(one)
