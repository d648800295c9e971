"""`slyther separate` from sound files to sound files, with small models of random weights."""

import errno
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import bad_recordings
import numpy as np
import pytest
import soundfile as sf
import torch
from tools import error_lines, files_in, run_command

import slyther_cli
from slyther_cli.audio import level, sinks, wav
from slyther_cli.audio.writer import StemGroup
from slyther_cli.checkpoints import store
from slyther_cli.commands.output import Reporter
from slyther_cli.errors import DeviceError, ModelError, UsageError
from slyther_cli.jobs import setup
from slyther_cli.jobs.locks import FAILURES
from slyther_cli.longform import plan_separation, reunited
from slyther_cli.models import registry
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.separation import job as separation

SIZES = {"n_filters": 16, "d_model": 8}
MODELS = {
    "two": {**SIZES, "n_layers": 2},
    "three": {**SIZES, "n_layers": 1, "n_speakers": 3},
    "live": {**SIZES, "n_layers": 2, "causal": True},
    "slow": {"n_filters": 64, "d_model": 64, "n_layers": 4},
}


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A cache folder with all of MODELS."""
    cache = tmp_path_factory.mktemp("cache")
    torch.manual_seed(1)
    for name, config in MODELS.items():
        model = registry.build("mamba-tasnet", config)
        start_from_fourier(model)
        store.save(
            cache / name, model, name=name, architecture="mamba-tasnet", config=config, task="separate"
        )
    return cache


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    """Every test in a folder of its own, with the small models and no others but the shipped ones."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLYTHER_CACHE", str(models))
    monkeypatch.setattr(separation, "DEFAULT_MODEL", "two")
    return tmp_path


def voices(seconds=0.5, rate=8000, channels=1, seed=0):
    """Two modulated voices, one a tone and one noise: float32 [n, channels]."""
    t = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * 220 * t) * (1 + np.sin(2 * np.pi * 3 * t))
    noise = 0.1 * np.random.default_rng(seed).standard_normal(len(t)) * (1 + np.sin(2 * np.pi * 2 * t + 1))
    x = (tone + noise).astype(np.float32)
    return np.stack([x * (1 - 0.1 * (i % 8)) for i in range(channels)], 1)


def write_mixture(name="mix.wav", x=None, rate=8000, **how):
    x = voices(rate=rate) if x is None else x
    sf.write(name, x, rate, **({"subtype": "FLOAT"} if name.endswith(".wav") else {}) | how)
    return name


def separate(capfd, *args):
    """(exit code, stdout lines, stderr) of `slyther separate`."""
    code, out, err = run_command(capfd, "separate", *args)
    return code, out.splitlines(), err


def load(path):
    x, _ = sf.read(path, dtype="float32")
    return x


# What comes out


def test_files_come_out_like_they_went_in(capfd):
    write_mixture("mix.wav", voices(0.7, 44100, 2), 44100)
    code, out, err = separate(capfd, "mix.wav", "-o", "out", "--subtype", "float", "--residual")
    assert code == 0 and out == ["out/mix_s1.wav", "out/mix_s2.wav", "out/mix_residual.wav"]
    assert files_in("out") == ["mix_residual.wav", "mix_s1.wav", "mix_s2.wav"]
    stems = [load(path) for path in out]
    mixture = load("mix.wav").mean(axis=1)
    assert all(
        sf.info(path).samplerate == 44100 and len(s) == len(mixture)
        for path, s in zip(out, stems, strict=True)
    )
    assert np.abs(sum(stems) - mixture).max() < 1e-6
    for said in ("2 channels mixed down to one", "0.70 s of sound"):
        assert err.count(said) == 1
    assert "resampled" not in err
    assert "resampled 44100 Hz -> 8000 Hz" in separate(capfd, "mix.wav", "-o", "out", "--force", "-v")[2]


@pytest.mark.parametrize("name", ["two", "three", "live"])
def test_stems_are_those_of_one_whole_pass(capfd, name):
    write_mixture("mix.wav", voices(1.3))
    assert separate(capfd, "mix.wav", "-m", name, "--subtype", "float", "--clip", "none")[0] == 0
    model, config = store.load(name)
    heard = level.heard_by(model, lambda: [load("mix.wav")], 8000, level.MIXTURE_DB)
    with torch.inference_mode():
        wanted = heard.undo(model(torch.from_numpy(np.concatenate([*heard()]))[None])[0].numpy())
    assert len(files_in("separated")) == config.config.get("n_speakers", 2) == len(wanted)
    for i, stem in enumerate(wanted):
        got = load(f"separated/mix_s{i + 1}.wav")
        assert np.abs(got - stem).max() < 1e-5 * max(1.0, np.abs(stem).max())


@pytest.mark.parametrize("model", ["two", "live"])
def test_a_quieter_recording_gives_the_same_stems_only_quieter(capfd, model):
    x, factor = voices(1.0), np.float32(1e-3)
    write_mixture("loud.wav", x)
    write_mixture("soft.wav", x * factor)
    how = ["-m", model, "--subtype", "float", "--clip", "none", "-q"]
    assert separate(capfd, "loud.wav", "soft.wav", *how)[0] == 0
    for stem in ("s1", "s2"):
        loud, soft = load(f"separated/loud_{stem}.wav"), load(f"separated/soft_{stem}.wav")
        assert np.abs(loud).max() > 0 and np.abs(loud - soft / factor).max() < 1e-3 * np.abs(loud).max()


def test_an_offset_and_an_outlier_change_no_stem(capfd):
    x = voices(1.0)
    write_mixture("good.wav", x)
    y = x + np.float32(0.05)
    y[2000] = 1e6
    write_mixture("bad.wav", y)
    code, _, err = separate(capfd, "good.wav", "bad.wav", "--subtype", "float", "--residual")
    assert code == 0 and "bad.wav: 1 sample, at 0.25 s, is far louder than all the rest" in err
    far = np.abs(np.arange(8000) - 2000) > 1000
    for stem in ("s1", "s2"):
        good, bad = load(f"separated/good_{stem}.wav"), load(f"separated/bad_{stem}.wav")
        assert np.sqrt(np.mean((good - bad)[far] ** 2)) < 0.05 * np.sqrt(np.mean(good[far] ** 2))


@pytest.mark.parametrize(
    ("kind", "bits", "subtype"),
    [("wav", "16", "PCM_16"), ("wav", "24", "PCM_24"), ("wav", "float", "FLOAT"), ("flac", "24", "PCM_24")],
)
def test_formats(capfd, kind, bits, subtype):
    write_mixture()
    code, out, _ = separate(capfd, "mix.wav", "--format", kind, "--subtype", bits)
    assert code == 0 and [Path(p).suffix for p in out] == ["." + kind] * 2
    info = sf.info(out[0])
    assert (info.subtype, info.format, info.frames) == (subtype, kind.upper(), 4000)


def test_clipping_is_told_and_shared_by_the_stems(capfd):
    write_mixture("mix.wav", 40 * voices())
    assert "all stems scaled by" in separate(capfd, "mix.wav", "-o", "a")[2]
    assert "clamped" in separate(capfd, "mix.wav", "-o", "b", "--clip", "clamp")[2]
    peaks = [np.abs(load(f"a/mix_{s}.wav")).max() for s in ("s1", "s2")]
    assert max(peaks) > 0.99 > min(peaks)


def test_one_channel(capfd):
    x = voices(0.3, channels=2)
    x[:, 1] = 0
    write_mixture("mix.wav", x)
    assert "silent throughout" in separate(capfd, "mix.wav")[2]
    assert "channel 1 of 2 is used" in separate(capfd, "mix.wav", "--channel", 1, "--force")[2]
    code, _, err = separate(capfd, "mix.wav", "--channel", 3, "--force")
    assert code == 4 and "no channel 3" in error_lines(err)[0]
    assert separate(capfd, "mix.wav", "--channel", "left", "--force")[0] in (2, 4)


def test_standard_input(capfd, monkeypatch):
    write_mixture("mix.flac")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(open("mix.flac", "rb")))  # noqa: SIM115
    code, out, err = separate(capfd, "-", "--residual", "-v", "--work-dir", ".")
    assert code == 0 and out[0] == "separated/stdin_s1.wav" and "standard input: " in err
    assert not [name for name in files_in() if "slyther-" in name]
    stems = sum(load(p).astype(float) for p in out)
    assert np.abs(stems - load("mix.flac")).max() < 1e-4
    Path("empty").touch()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(open("empty", "rb")))  # noqa: SIM115
    code, _, err = separate(capfd, "-", "--force")
    assert code == 4 and "standard input is empty" in error_lines(err)[0]


# Names


def test_templates(capfd):
    Path("in").mkdir()
    write_mixture("in/mix.flac")
    template = "{model}/{parent}/{track}.{trackext}/{stem}.{ext}"
    code, out, _ = separate(capfd, "in", "-o", "out", "--filename", template)
    assert code == 0 and out[0] == "out/two/in/mix.flac/s1.wav"
    for bad in (
        "{track}.{ext}",
        "{nobody}",
        "../{stem}",
        "/tmp/{stem}",
        "{stem",
        "{stem}/",
        "{stem}.mp3",
        "{stem}.flac",
    ):
        code, out, err = separate(capfd, "in", "--filename", bad)
        assert code == 2 and not out and len(error_lines(err)) == 1
    assert not Path("separated").exists()
    code, out, err = separate(capfd, "in", "-o", "-")
    assert code == 2 and not out and "name a folder" in error_lines(err)[0] and not Path("-").exists()


def test_collisions_are_refused_before_anything_is_done(capfd):
    for folder in "ab":
        Path(folder).mkdir()
        write_mixture(f"{folder}/mix.wav")
    code, _, err = separate(capfd, "a", "b", "--flat")
    assert code == 2 and "same file" in error_lines(err)[0] and not Path("separated").exists()
    assert separate(capfd, "a", "b", "--filename", "{parent}_{track}_{stem}.{ext}")[0] == 0
    write_mixture("a/mix_s1.wav")
    for how in (["a/mix.wav", "a/mix_s1.wav"], ["a"]):
        code, _, err = separate(capfd, *how, "-o", "a", "--force")
        assert code == 2 and "replace the input" in error_lines(err)[0]


def test_results_below_the_input_folder_are_no_inputs(capfd):
    write_mixture()
    assert separate(capfd, ".")[0] == 0
    code, out, _ = separate(capfd, ".", "--force")
    assert code == 0 and out == ["separated/mix_s1.wav", "separated/mix_s2.wav"]
    code, out, _ = separate(capfd, "./**/*.wav", "--force")
    assert code == 0 and out == ["separated/mix_s1.wav", "separated/mix_s2.wav"]
    assert separate(capfd, "./separated/mix_s1.wav", "-o", "separated")[0] == 0  # named: meant


def test_recordings_below_the_output_folder_are_inputs(capfd):
    Path("in").mkdir()
    write_mixture("in/mix.wav")
    for named in ("in", "in/*.wav", "./in/mix.wav"):
        code, out, _ = separate(capfd, named, "-o", ".", "--force")
        assert code == 0 and out == ["mix_s1.wav", "mix_s2.wav"]


def test_results_beside_the_recordings_are_no_inputs(capfd):
    Path("calls").mkdir()
    write_mixture("calls/mix.wav")
    assert separate(capfd, "calls", "-o", "calls")[0] == 0
    made = files_in()
    for how in ("--skip-existing", "--resume"):
        for named in (["calls"], sorted(map(str, Path("calls").iterdir()))):
            code, _, err = separate(capfd, *named, "-o", "calls", how)
            assert code == 0 and "calls/mix_s1.wav: the result of another recording, as are 1 more" in err
    code, _, err = separate(capfd, "calls", "-o", "calls")
    assert code == 4 and "mix_s1.wav exists already" in error_lines(err)[0] and files_in() == made
    write_mixture("calls/new.wav")
    code, out, _ = separate(capfd, "calls", "-o", "calls", "--skip-existing")
    assert code == 0 and {"calls/new_s1.wav", "calls/new_s2.wav"} <= set(out)


def test_scratch_files_of_a_killed_run_are_replaced(capfd, monkeypatch):
    write_mixture(x=voices(2.0))
    monkeypatch.setattr(sinks, "HELD", 0)

    def killed(group, sync_names):
        raise DeviceError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(StemGroup, "commit", killed)
        patch.setattr(StemGroup, "abort", lambda group: None)
        for _ in range(2):
            assert separate(capfd, "mix.wav", "-o", "out")[0] == 6
    there = sorted(p.name for p in Path("out").iterdir())
    assert len(there) == 2 and all(name.endswith(".part") for name in there)
    assert separate(capfd, "mix.wav", "-o", "out")[0] == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["mix_s1.wav", "mix_s2.wav"]


def test_existing_results(capfd):
    write_mixture()
    assert separate(capfd, "mix.wav")[0] == 0
    before = {name: Path(name).stat().st_mtime_ns for name in files_in()}
    code, out, err = separate(capfd, "mix.wav")
    assert code == 4 and not out and "--force" in error_lines(err)[0]
    code, out, err = separate(capfd, "mix.wav", "--skip-existing")
    assert code == 0 and len(out) == 2 and "skipped" in err
    assert before == {name: Path(name).stat().st_mtime_ns for name in files_in()}
    Path("separated/mix_s2.wav").unlink()
    code, _, err = separate(capfd, "mix.wav", "--skip-existing")
    assert code == 4 and "not all" in error_lines(err)[0]
    assert separate(capfd, "mix.wav", "--force")[0] == 0
    assert files_in() == sorted(before)


# Models and devices


def test_speakers_choose_the_model(capfd, models):
    write_mixture()
    assert len(separate(capfd, "mix.wav", "--speakers", 3)[1]) == 3
    assert len(separate(capfd, "mix.wav", "--speakers", 2, "--force")[1]) == 2
    code, _, err = separate(capfd, "mix.wav", "--speakers", 5)
    assert code == 5 and "5 speakers" in error_lines(err)[0] and "three (3)" in error_lines(err)[0]
    code, _, err = separate(capfd, "mix.wav", "--speakers", 3, "--model", models / "two")
    assert code == 5 and "gives 2 speakers" in error_lines(err)[0]


def test_a_model_that_cannot_be_used(capfd, models, place):
    write_mixture()
    bad = place / "bad"
    for change, words in [
        ({"task": "transcribe"}, "transcribe"),
        ({"architecture": "conv-tasnet"}, "conv-tasnet"),
        ({"config": {**MODELS["two"], "n_layers": 3}}, "does not fit"),
        ({"config": {**MODELS["two"], "n_speakers": "2"}}, "n_speakers"),
        ({"format": 99}, "format 99"),
    ]:
        bad.mkdir(exist_ok=True)
        config = json.loads((models / "two" / "config.json").read_text()) | change
        (bad / "config.json").write_text(json.dumps(config))
        (bad / "model.safetensors").write_bytes((models / "two" / "model.safetensors").read_bytes())
        code, out, err = separate(capfd, "mix.wav", "-m", bad)
        assert code == 5 and not out and words in error_lines(err)[0] and len(err.splitlines()) == 1
    (bad / "config.json").write_bytes((models / "two" / "config.json").read_bytes())
    (bad / "model.safetensors").write_bytes(b"nonsense" * 100)
    for name in (bad, "nobody", "./nowhere", "mix.wav", "mamba-tasnet-xs"):
        code, out, err = separate(capfd, "mix.wav", "-m", name)
        assert code == 5 and not out and len(err.splitlines()) == 1
    assert not Path("separated").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_devices(capfd):
    write_mixture()
    code, _, err = separate(capfd, "mix.wav", "--device", "cuda")
    assert code == 6 and "--device cpu" in error_lines(err)[0]
    code, _, err = separate(capfd, "mix.wav", "--device", "abacus")
    assert code == 2 and "abacus" in error_lines(err)[0]
    assert setup.pick_device("auto") == "cpu"


def test_memory_limit(capfd):
    write_mixture("mix.wav", voices(4))
    assert separate(capfd, "mix.wav", "-o", "memory", "--threads", 1)[0] == 0
    limit = plan_separation(store.load("two")[0], 32_000).working_bytes + 1000
    code, _, err = separate(
        capfd, "mix.wav", "-o", "file", "--memory-limit", limit, "--work-dir", "work", "-v"
    )
    assert code == 0 and "work file" in err and not files_in("work")
    for stem in ("s1", "s2"):
        assert Path(f"memory/mix_{stem}.wav").read_bytes() == Path(f"file/mix_{stem}.wav").read_bytes()
    code, _, err = separate(capfd, "mix.wav", "-o", "none", "--memory-limit", "10kB")
    assert code == 6 and "--memory-limit" in error_lines(err)[0] and not Path("none").exists()


@pytest.mark.parametrize(
    ("error", "code"), [(MemoryError(), 6), (RuntimeError("not enough memory: x"), 6), (OSError("?"), 1)]
)
def test_a_failure_while_computing(capfd, monkeypatch, error, code):
    from slyther_cli import longform

    whole = longform.separate_whole

    def fails(model, blocks, plan, on_progress=None, **more):
        for i, stems in enumerate(whole(model, blocks, plan, on_progress)):
            yield stems
            if plan.samples == 4000 and i == 1:
                raise error

    monkeypatch.setattr(longform, "separate_whole", fails)
    write_mixture("a.wav")
    write_mixture("b.wav", voices(0.25))
    assert separate(capfd, "a.wav", "-o", "alone")[0] == code
    got, out, err = separate(capfd, "a.wav", "b.wav")
    assert got == (3 if code == 6 else 1) and len(out) == 2 and len(error_lines(err)) == 1
    assert files_in("separated") == ["b_s1.wav", "b_s2.wav", FAILURES] and not Path("alone").exists()


# Inputs of every kind


def test_bad_inputs_do_not_stop_the_others(capfd):
    bad = bad_recordings.write_bad_recordings()
    write_mixture("good.wav")
    code, out, err = separate(capfd, *bad, "good.wav", "-o", "out", "--strict")
    assert code == 3 and out == ["out/good_s1.wav", "out/good_s2.wav"]
    assert len(error_lines(err)) == len(bad)  # the longest first, so not in their order
    for words in bad.values():
        assert any(words in line for line in error_lines(err)), words
    assert files_in("out") == ["good_s1.wav", "good_s2.wav", FAILURES]
    code, out, err = separate(capfd, *bad, "-o", "none", "--json", "--strict")
    told = [json.loads(line) for line in out]
    assert code == 4 and len([t for t in told if t["event"] == "error" and t["kind"] == "file"]) == len(bad)
    assert told[-1]["event"] == "summary" and told[-1]["failed"] == len(bad)
    assert files_in("none") == [FAILURES]


@pytest.mark.parametrize(
    ("x", "rate", "said"),
    [
        (voices(0.3)[:1], 8000, ""),
        (voices(0.3)[:1], 48000, ""),
        (voices(0.3)[:15], 11025, ""),
        (np.zeros((3000, 1), np.float32), 8000, "digital silence"),
        (
            np.where(np.arange(3000)[:, None] % 100 == 0, np.nan, voices(1)[:3000]),
            8000,
            "30 non-finite samples",
        ),
        (voices(0.2, 8000, 64), 8000, "64 channels mixed down"),
        (voices(0.1, 384_000), 384_000, ""),
    ],
)
def test_odd_inputs(capfd, x, rate, said):
    write_mixture("odd.wav", x, rate)
    code, out, err = separate(capfd, "odd.wav", "--residual")
    assert code == 0 and said in err and not error_lines(err)
    for path in out:
        assert (
            len(load(path)) == len(x) and sf.info(path).samplerate == rate and np.isfinite(load(path)).all()
        )
    if said == "digital silence":
        assert not any(load(path).any() for path in out)


def test_a_truncated_recording_is_done_as_far_as_it_goes(capfd):
    write_mixture("whole.wav", voices(2), subtype="PCM_16")
    Path("cut.wav").write_bytes(Path("whole.wav").read_bytes()[:20_044])
    code, out, err = separate(capfd, "cut.wav")
    assert code == 0 and len(load(out[0])) == 10_000 and "cut.wav: " in err


# Outputs that cannot be written


def test_unwritable_outputs(capfd):
    write_mixture()
    Path("file").touch()
    Path("taken/mix_s2.wav").mkdir(parents=True)
    for folder in ("file", "file/below", "/proc/nowhere", "x" * 300):
        code, out, err = separate(capfd, "mix.wav", "-o", folder)
        assert code == 4 and not out and len(error_lines(err)) == 1 and "cannot be written" in err
    code, _, err = separate(capfd, "mix.wav", "-o", "taken", "--force")
    assert code == 4 and "is a folder" in error_lines(err)[0] and not files_in("taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(capfd):
    write_mixture()
    Path("locked").mkdir(mode=0o500)
    code, _, err = separate(capfd, "mix.wav", "-o", "locked")
    assert code == 4 and "permission" in error_lines(err)[0]


@pytest.mark.parametrize(
    "how", [(), ("--clip", "none"), ("--format", "flac"), ("--format", "flac", "--clip", "none")]
)
def test_a_full_disk(capfd, how):
    """A limit on the size of files stands for it: the system refuses in the middle of the second input."""
    write_mixture("a.wav", voices(0.25))
    write_mixture("b.wav", voices(10))
    write_mixture("c.wav", voices(0.25))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32_000, hard))
    try:
        code, out, err = separate(capfd, "a.wav", "b.wav", "c.wav", *how)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 3 and len(out) == 4 and len(error_lines(err)) == 1
    assert "b_s1" in error_lines(err)[0] and "cannot be written" in error_lines(err)[0]
    results = [Path(name).stem for name in files_in("separated") if name != FAILURES]
    assert results == ["a_s1", "a_s2", "c_s1", "c_s2"]


def test_no_space_is_called_so(capfd, monkeypatch):
    def full(file, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_mixture()
    monkeypatch.setattr(wav, "write_all", full)
    code, _, err = separate(capfd, "mix.wav")
    assert code == 4 and "no space left" in error_lines(err)[0] and not Path("separated").exists()


# How it speaks


def test_json(capfd):
    write_mixture()
    code, out, err = separate(capfd, "mix.wav", "gone.wav", "--json", "-q")
    told = [json.loads(line) for line in out]
    assert code == 3 and len(err.splitlines()) == 1
    assert all(t["schema"] == 1 for t in told)
    kinds = [t["event"] for t in told if t["event"] != "progress"]
    assert kinds == ["start", "plan", "file_done", "error", "summary"]
    done = next(t for t in told if t["event"] == "file_done")
    assert done["outputs"] == {"s1": "separated/mix_s1.wav", "s2": "separated/mix_s2.wav"}
    assert (done["sample_rate"], done["frames"], done["seconds"], done["status"]) == (8000, 4000, 0.5, "done")
    assert (told[-1]["done"], told[-1]["failed"], told[-1]["audio_seconds"]) == (1, 1, 0.5)


def test_quiet_and_verbose(capfd):
    write_mixture()
    assert separate(capfd, "mix.wav", "-q")[2] == ""
    err = separate(capfd, "mix.wav", "-v", "--force")[2]
    assert "model two" in err and "device cpu" in err and "sweeps" in err


def test_dry_run(capfd):
    write_mixture()
    code, out, err = separate(capfd, "mix.wav", "gone.wav", "--dry-run")
    assert code == 3 and out == ["separated/mix_s1.wav", "separated/mix_s2.wav"] and "sweeps" in err
    assert files_in() == ["mix.wav"]


def test_progress_is_drawn_on_a_terminal_only(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    def drawn(stream, files=1, **env):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", env.get("TERM", "xterm"))
        report = Reporter()
        for i in range(3):
            report({"event": "progress", "file": "mix.wav", "index": 1, "files": files, "files_done": 1}
                   | {"fraction": i / 4, "seconds": 3600.0, "wall_seconds": 100.0 * i}
                   | {"batch_fraction": 0.3, "batch_left_seconds": 700.0})  # fmt: skip
            report._last = 0.0
        report._drop_bar()
        return stream.getvalue()

    assert drawn(io.StringIO()) == "" and drawn(Terminal(), TERM="dumb") == ""
    text = drawn(Terminal())
    assert "\rmix.wav  50% |" in text and "30:00/1:00:00, 9.0x, 3:20 left" in text
    assert text.endswith("\r") and text.split("\r")[-2].isspace()  # taken away at the end
    text = drawn(Terminal(), files=4)
    assert "[1/4 done] mix.wav  30% |" in text and "|  11:40 left of all" in text


def test_how_far_a_job_is_comes_in_words_where_no_bar_can_be_drawn(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr("slyther_cli.commands.output.FIRST_WORDS", 0.0)
    monkeypatch.setattr("slyther_cli.commands.output.BAR_EVERY", 0.0)
    report = Reporter(verbose=True)
    report({"event": "plan", "file": "mix.wav", "lines": [], "device": "cpu", "seconds": 3600.0})
    for i, files in ((3, 1), (4, 1), (3, 5)):  # a quarter was done by an earlier run
        report._next_words *= files == 1
        report({"event": "progress", "file": "mix.wav", "index": 0, "files": files, "began": 0.25}
               | {"files_done": 2, "batch_fraction": 0.5, "batch_left_seconds": 90.0}
               | {"fraction": i / 4, "seconds": 3600.0, "wall_seconds": 100.0})  # fmt: skip
    told = sys.stderr.getvalue().splitlines()  # and again in a minute
    one = "mix.wav: 45:00/1:00:00, 18x, 0:50 left"
    assert told == ["mix.wav: device cpu", one, one + "; 2/5 files done, 1:30 left of all"]


# The Python API


def test_api():
    write_mixture()
    events = []
    done, failed = slyther_cli.separate(["mix.wav", "gone.wav"], "out", "three", on_event=events.append)
    assert (done.status, failed.status) == ("done", "failed") and "gone.wav" in str(failed.error)
    assert done.outputs == {f"s{i}": Path(f"out/mix_s{i}.wav") for i in (1, 2, 3)}
    assert (done.seconds, done.frames, done.sample_rate) == (0.5, 4000, 8000) and done.plan
    assert [e["event"] for e in events if e["event"] != "progress"][-1] == "summary"
    assert [r.status for r in slyther_cli.separate("mix.wav", "out", "three", existing="skip")] == ["skipped"]
    assert [r.status for r in slyther_cli.separate(Path("mix.wav"), "new", dry_run=True)] == ["planned"]
    for error, how in [
        (UsageError, {"format": "mp3"}),
        (UsageError, {"format": "flac", "subtype": "float"}),
        (UsageError, {"subtype": "8"}),
        (UsageError, {"clip": "maybe"}),
        (UsageError, {"channel": "left"}),
        (UsageError, {"existing": "perhaps"}),
        (UsageError, {"filename": "x"}),
        (ModelError, {"model": "nobody"}),
        (UsageError, {"device": "abacus"}),
    ]:
        with pytest.raises(error):
            slyther_cli.separate("mix.wav", "new", **how)
    with pytest.raises(UsageError):
        slyther_cli.separate([])
    assert not Path("new").exists()


def test_what_counts_as_out_of_memory():
    assert isinstance(setup.out_of_memory(MemoryError()), DeviceError)
    assert setup.out_of_memory(RuntimeError("shapes do not fit")) is None
    assert setup.out_of_memory(ValueError("out of memory")) is None


# Stopped


def test_a_signal_while_computing(place):
    write_mixture("long.wav", voices(120))
    args = [sys.executable, "-m", "slyther_cli", "separate", "long.wav", "-m", "slow", "-o", "out"]
    running = subprocess.Popen(args, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 200  # importing torch takes a while on a busy machine
    while len(files_in("out")) < 3 and running.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    assert len(files_in("out")) == 3  # the hidden halves, and the lock
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate(timeout=90)
    told = [line for line in err.splitlines() if not line.startswith("slyther: slow scan")]
    assert told.pop(0) == "slyther: what is done is kept: the same command with --resume does the rest"
    assert running.returncode == 143 and told == ["slyther: stopped by a signal"]
    assert files_in() == ["long.wav"] and not Path("out").exists()


def test_speakers_are_matched_on_request(capfd, monkeypatch):
    """Stems that change sides half way, in turns, are put right; live sound and other numbers are refused."""
    from slyther_cli.separation import speakers

    times = np.arange(16_000) / 8000
    write_mixture(x=np.concatenate([0.3 * np.sin(2 * np.pi * f * times) for f in (400, 3000, 400)]))
    assert separate(capfd, "mix.wav", "-o", "plain")[0] == 0
    asked = []
    monkeypatch.setattr(
        speakers, "embedder", lambda rate, device: lambda x: asked.append(len(x)) or np.eye(2)[0]
    )
    assert separate(capfd, "mix.wav", "-o", "same", "--match-speakers")[0] == 0  # one voice: nothing is moved
    assert asked and min(asked) >= 0.6 * 8000
    for stem in ("mix_s1.wav", "mix_s2.wav"):
        assert np.array_equal(sf.read(Path("plain", stem))[0], sf.read(Path("same", stem))[0])
    asked.clear()
    monkeypatch.setattr(separation, "DEFAULT_MODEL", "two")  # whose stems are matched by default
    assert separate(capfd, "mix.wav", "-o", "without", "--no-match-speakers")[0] == 0 and not asked
    assert separate(capfd, "mix.wav", "-o", "default")[0] == 0 and asked
    code, _, err = separate(capfd, "mix.wav", "-o", "three", "--match-speakers", "-m", "three")
    assert code in (2, 5) and len(error_lines(err)) == 1


def test_matching_voices_keeps_results_in_the_work_folder(capfd, monkeypatch):
    """Which is made, and whose room is told before; what does not fit is one line that says where."""
    write_mixture(x=0.1 * np.random.default_rng(0).standard_normal(16_000))
    monkeypatch.setattr(reunited, "IN_MEMORY", 1000)
    matched = ("mix.wav", "--match-speakers", "--memory-limit", "1GB")
    code, _, err = separate(capfd, *matched, "-o", "made", "--work-dir", "new/work", "-v")
    assert code == 0 and "results of 128 kB kept in a temporary file in new/work to match voices" in err
    assert files_in("new/work") == []
    assert separate(capfd, *matched, "-o", "kept", "--resume")[0] == 0
    code, _, err = separate(capfd, *matched, "-o", "file", "--work-dir", "mix.wav")
    assert code == 4 and "mix.wav: cannot hold what was separated" in error_lines(err)[0]
    assert "choose another --work-dir" in err and not Path("file").exists()
    free = shutil.disk_usage(".")._replace(free=127_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    code, _, err = separate(capfd, *matched, "-o", "full", "--dry-run")
    assert code == 4 and "work files need 128 kB, 127 kB are free" in err


@pytest.mark.parametrize("matched", [True, False])
def test_nothing_is_done_before_it_is_written(monkeypatch, matched):
    write_mixture()
    told = []
    write = StemGroup.write
    monkeypatch.setattr(StemGroup, "write", lambda group, x: (told.append("written"), write(group, x)))
    slyther_cli.separate(
        "mix.wav", "out", match_speakers=matched, on_event=lambda e: told.append(e.get("fraction"))
    )
    shares = [x for x in told if isinstance(x, float)]
    assert shares == sorted(shares) and shares[-1] == 1
    before = [x for x in told[: told.index("written")] if isinstance(x, float)]
    assert not matched or before[-1] < 1


def test_an_empty_stem_is_told_with_what_may_help(place):
    job = separation.Separation(
        config=setup.choose_model("separate", "live", "two"),
        output_dir=None,
        options=separation.SeparateOptions(),
        tell=print,
    )
    balance = separation.Balance(2)
    balance.add(np.array([[0.1], [0.001]], np.float32))
    assert "(`slyther separate --match-speakers` moves" in job._balance_notes(balance)[0]
