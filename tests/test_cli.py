"""The command line around the commands: help, errors, exit codes, JSON, signals, and the small commands."""

import io
import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tools import slyther

from slyther_cli import __version__, app
from slyther_cli.commands import models, output, parsing
from slyther_cli.errors import DeviceError, InputError, ModelError
from slyther_cli.scan import cpu

RUNS = 24
HELP_SECONDS = 0.3  # CPU time


def one_line(err):
    """stderr as the one error line that it should be."""
    lines = err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("slyther: error: "), err
    return lines[0]


def command(*args, **how):
    return subprocess.run([sys.executable, "-m", "slyther_cli", *args], capture_output=True, text=True, **how)


def cpu_seconds(*args, stdout=subprocess.DEVNULL):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "slyther_cli", *args], check=True, stdout=stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("separate", "--help")])
def test_help_is_quick(args):
    """The quickest of some runs: what a busy machine does to the others is no matter of ours."""
    assert any(cpu_seconds(*args) < HELP_SECONDS for _ in range(RUNS))


def test_help_on_a_terminal_is_quick():
    times: list[float] = []
    while len(times) < RUNS and min(times, default=9) >= HELP_SECONDS:
        master, slave = pty.openpty()
        try:
            times.append(cpu_seconds("--help", stdout=slave))
            shown = os.read(master, 65536).decode(errors="ignore")
        finally:
            os.close(slave)
            os.close(master)
    assert min(times) < HELP_SECONDS
    assert "separate" in shown and "\033[" in shown  # coloured there


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from slyther_cli.app import main; main(['--help']); "
        "heavy = {'torch', 'numpy', 'rich', 'soundfile', 'tqdm', 'slyther_cli.commands.separate'}; "
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_command_is_listed_with_help(capfd):
    code, out, err = slyther(capfd, "--help")
    assert code == 0 and not err
    for name, words in app.TABLE.items():
        code, text, _ = slyther(capfd, name, "--help")
        assert code == 0 and "Usage: slyther " + name in text
        assert re.search(rf"^  {name} +{re.escape(words[:40])}", out, re.M)
        assert words in " ".join(text.split())  # the list says what the command says
        assert slyther(capfd, name, "-h")[0] == 0


def test_help_has_no_types_of_python(capfd):
    commands = [
        ("separate",),
        ("transcribe",),
        ("speak",),
        ("train", "lm"),
        ("train", "speak"),
        ("eval", "codec"),
    ]
    commands += [("weights", "average"), ("bench", "scan"), ("study", "mutual-information"), ("completion",)]
    for words in commands:
        _, text, _ = slyther(capfd, *words, "--help")
        assert not re.search(r"<(int|float|str|list|path|bool|bash)", text), words
        assert "..]..." not in text and "...}..." not in text


def test_help_on_a_terminal_is_as_wide_as_it_is():
    wide = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    shown = re.sub(r"\x1b\[[0-9;]*m", "", command("separate", "--help", env=wide).stdout)
    assert "in constant memory. Results keep its sample" in shown  # beyond column 80
    assert "─ Memory and speed ─" in shown and "<bool>" not in shown


@pytest.mark.parametrize("name", ["separate", "transcribe", "speak"])
@pytest.mark.parametrize("colour", [False, True])
def test_help_has_examples_a_line_each(name, colour):
    env = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"} | ({"FORCE_COLOR": "1"} if colour else {})
    shown = re.sub(r"\x1b\[[0-9;]*m", "", command(name, "--help", env=env).stdout)
    assert ("─ Output ─" in shown) is colour
    examples = shown.partition("Examples:")[2]
    lines = [line.strip() for line in examples.partition("Exit codes")[0].splitlines() if line.strip()]
    assert 3 <= len(lines) <= 5 and all(f"slyther {name}" in line for line in lines)


def test_version(capfd):
    assert slyther(capfd, "--version") == (0, f"slyther {__version__}\n", "")
    assert slyther(capfd, "-V")[1] == f"slyther {__version__}\n"


def test_nothing_asked(capfd):
    code, out, err = slyther(capfd)
    assert code == 2 and not out and "separate" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["separte", "x"], "separate"),
        (["separate"], "INPUTS"),
        (["separate", "a.wav", "--nonsense"], "--nonsense"),
        (["separate", "a.wav", "--speakers", "many"], "--speakers"),
        (["separate", "a.wav", "--speakers", "0"], "--speakers"),
        (["separate", "a.wav", "--memory-limit", "lots"], "1GB"),
        (["separate", "a.wav", "--force", "--skip-existing"], "choose one"),
        (["separate", "a.wav", "-q", "-v"], "choose one"),
        (["separate", "a.wav", "-o", ""], "'-o': the name is empty"),
        (["transcribe", "a.wav", "--output-dir="], "the name is empty"),
        (["eval", "separate", "--manifest", ""], "the name is empty"),
        (["--config", "", "models"], "names no file"),
        (["--versoin"], "did you mean --version?"),
        (["separate", "--modle", "x"], "did you mean --model?"),
        (["separate", "--output", "x"], "did you mean --output-dir?"),
        (["weights"], "command"),
        (["weights", "steal"], "steal"),
        (["bench", "scan", "--length", "-5"], "--length"),
    ],
)
def test_usage_errors_are_one_line(capfd, args, words):
    code, out, err = slyther(capfd, *args)
    assert code == 2 and not out
    assert words in one_line(err) or words.lower() in one_line(err).lower()


@pytest.mark.parametrize("option", ["--temper", "--bf16", "--zzz", "--o"])
def test_what_is_not_near_is_not_suggested(capfd, option):
    assert "did you mean" not in one_line(slyther(capfd, "transcribe", "a.wav", option, "1")[2])


@pytest.mark.parametrize(
    "args", [["-dash.flac"], ["-frank.wav", "a.wav"], ["-mike.wav", "a.wav"], ["--loud.wav"], ["-Q.wav"]]
)
def test_a_file_that_begins_with_a_dash(capfd, tmp_path, monkeypatch, args):
    monkeypatch.chdir(tmp_path)
    Path(args[0]).write_bytes(b"no sound")
    code, out, err = slyther(capfd, "transcribe", *args)
    assert code in (2, 5) and not out
    assert one_line(err).endswith(f"; a file whose name begins with a dash is written ./{args[0]}")
    for meant in (["--", args[0]], [f"./{args[0]}"]):
        assert "begins with a dash" not in slyther(capfd, "transcribe", *meant)[2]


def test_a_pattern_that_nothing_matches(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = slyther(capfd, "transcribe", "*.flac")
    assert code == 4 and not out and one_line(err).endswith("nothing matches the pattern *.flac")
    assert "no such file" in slyther(capfd, "transcribe", "a.flac")[2]


def boom(error):
    def command(*args, **how):
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ModelError("no such model"), 5, "no such model"),
        (DeviceError("no device"), 6, "no device"),
        (InputError("bad file"), 3, "bad file"),
        (MemoryError(), 6, "--memory-limit"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 6, "--memory-limit"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 6, "device memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("full"), 6, "--memory-limit"),
        (KeyboardInterrupt(), 130, None),
        (app.Terminated(15), 143, None),
    ],
)
def test_how_the_process_ends(capfd, monkeypatch, error, code, words):
    monkeypatch.setattr(app, "_invoke", boom(error))
    got, out, err = slyther(capfd, "models")
    assert got == code and not out and "Traceback" not in err
    if words is None:
        assert err.startswith("slyther: stopped")
    else:
        assert words in one_line(err)


def test_bugs_tell_how_to_see_more(capfd, monkeypatch):
    monkeypatch.setattr(app, "_invoke", boom(ZeroDivisionError("by zero\nand more")))
    code, _, err = slyther(capfd, "models")
    assert code == 1 and "Traceback" not in err and "SLYTHER_DEBUG=1" in err
    assert err.splitlines()[0] == "slyther: error: unexpected ZeroDivisionError: by zero and more"
    monkeypatch.setenv("SLYTHER_DEBUG", "1")
    assert "Traceback" in slyther(capfd, "models")[2]


def test_errors_in_json(capfd):
    code, out, err = slyther(capfd, "separate", "a.wav", "--json", "-m", "nobody")
    assert code == 5 and "nobody" in one_line(err)
    told = json.loads(out)
    assert (told["schema"], told["event"], told["kind"], told["exit_code"]) == (1, "error", "model", 5)


def test_exit_codes_of_a_batch():
    bad, full = InputError("x"), DeviceError("x")
    assert output.exit_code([None, None]) == 0
    assert output.exit_code([None, bad]) == 3 and output.exit_code([None, full]) == 3
    assert output.exit_code([bad, bad]) == 4 and output.exit_code([bad, full]) == 4
    assert output.exit_code([full, full]) == 6
    assert output.exit_code([None, ValueError()]) == 1


@pytest.mark.parametrize(
    ("text", "size"),
    [("1GB", 10**9), ("500 mb", 5 * 10**8), ("2GiB", 2 << 30), ("1.5g", 15 * 10**8), ("123", 123)],
)
def test_sizes(text, size):
    assert parsing.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1XB", "0", "1e9", "nan", "٣GB"])
def test_no_sizes(text):
    with pytest.raises(Exception, match=r"size|memory"):
        parsing.parse_size(text)


def test_words_for_times():
    assert [output.clock(s) for s in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]
    assert [output.times(f) for f in (0.04, 5.34, 9.96, 123.4)] == ["0.0x", "5.3x", "10x", "123x"]
    assert [output.size(n) for n in (0, 999, 1000, 26_400, 999_600, 10**10)] == [
        *("0 B", "999 B", "1.0 kB", "26 kB", "1.0 MB", "10 GB")
    ]


def test_a_progress_line_has_its_words_from_the_first_and_leaves_nothing(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    bar = output.Bar()
    bar.draw("separating", 0.5, "half of it")
    frames = [frame for frame in screen.getvalue().split("\r") if frame.strip()]
    assert len(frames) == 1 and frames[0].startswith("separating  50%") and frames[0].endswith("half of it")
    bar.clear()
    assert screen.getvalue().split("\r")[-2:] in (["", ""], [" " * len(frames[0]), ""])


def test_a_reader_that_leaves(capfd):
    """``slyther ... | head``: no noise, and not a success."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "slyther_cli", "weights", "list"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.returncode == app.EXIT_BROKEN_PIPE and done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("args", [("--help",), ("--version",), ("weights", "list")])
def test_a_full_disk_behind_stdout(args):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "slyther_cli", *args], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1 and "standard output" in one_line(done.stderr)


def test_a_closed_stdout():
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m slyther_cli --version >&-"], capture_output=True)
    assert done.returncode == 0 and not done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals(number, tmp_path):
    """A command that waits for its input leaves nothing behind when it is stopped."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(
        json.dumps(
            {"format": 1, "name": "m", "task": "separate", "architecture": "mamba-tasnet"}
            | {"config": CONFIG}
        )
    )
    waiting = subprocess.Popen(
        [sys.executable, "-m", "slyther_cli", "separate", "-", "-m", "model", "--work-dir", work],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 30
    while not list(work.iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(work.iterdir())  # the copy of standard input
    waiting.send_signal(number)
    _, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 128 + number and "\nslyther: stopped" in err
    assert not list(work.iterdir()) and not (tmp_path / "separated").exists()


CONFIG = {"n_speakers": 2, "sample_rate": 8000}


def test_ctrl_c_while_modules_load(tmp_path):
    (tmp_path / "typer.py").write_text(
        "import os, signal\nsignal.signal(2, signal.default_int_handler)\nos.kill(os.getpid(), 2)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import slyther_cli.__main__ as m; raise SystemExit(m.main())", "models"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert (
        done.stderr == "slyther: stopped\n" and done.stdout == "" and done.returncode in (130, -signal.SIGINT)
    )


def test_signal_handlers_are_put_back(capfd):
    before = signal.getsignal(signal.SIGTERM)
    slyther(capfd, "--version")
    assert signal.getsignal(signal.SIGTERM) is before


def test_models(capfd, monkeypatch):
    code, out, _ = slyther(capfd, "models", "--json")
    rows = {row["name"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0 and all(row["schema"] == 1 and row["event"] == "model" for row in rows.values())
    assert rows["mamba-tasnet-l"]["parameters"] > 5e7 and rows["mamba-tasnet-s-3spk"]["speakers"] == 3
    assert rows["mamba-tasnet-s-causal"]["causal"] is True and rows["mamba-tasnet-m"]["weights"] == "pull"
    monkeypatch.setattr(models, "_rows", lambda: list(rows.values()))
    code, out, _ = slyther(capfd, "models")
    assert code == 0 and len(out.splitlines()) == len(rows) + 1 and "2,210,176" in out


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_weights_list(capfd, cache):
    (cache / "broken").mkdir(parents=True)
    (cache / "broken" / "config.json").write_text("{")
    code, out, _ = slyther(capfd, "weights", "list")
    assert code == 0 and "mamba-tasnet-m" in out and "damaged" in out
    rows = [json.loads(line) for line in slyther(capfd, "weights", "list", "--json")[1].splitlines()]
    assert {r["name"]: r["where"] for r in rows}["mamba-tasnet-m"] == "pull"


def test_weights_show(capfd, cache):
    code, out, _ = slyther(capfd, "weights", "show", "mamba-tasnet-m")
    assert code == 0 and "GPL-3.0" in out
    code, out, err = slyther(capfd, "weights", "show", "nobody", "--json")
    assert code == 5 and "nobody" in one_line(err) and json.loads(out)["event"] == "error"


def test_weights_pull_refuses(capfd, cache):
    code, _, err = slyther(capfd, "weights", "pull", "nobody")
    assert code == 5 and "nobody" in one_line(err)
    code, out, err = slyther(capfd, "weights", "pull", "mamba-tasnet-xs", "--offline", "-q")
    assert code == 5 and not out and "offline" in one_line(err)
    assert "GPL-3.0" in slyther(capfd, "weights", "pull", "mamba-tasnet-xs", "--offline")[2]
    assert not cache.exists()


def test_weights_import_refuses(capfd, tmp_path):
    code, _, err = slyther(capfd, "weights", "import", tmp_path)
    assert code == 5 and "SpeechBrain" in one_line(err)


def test_doctor(capfd, cache):
    code, out, err = slyther(capfd, "doctor")
    assert code in (0, 5)  # 5 while no weights lie in the checkout
    assert not err or (cpu.why_not and err.startswith("slyther: slow scan") and err.count("\n") == 1)
    assert "libsndfile" in out and "live backend" in out and "reference: can run" in out
    report = json.loads(slyther(capfd, "doctor", "--json")[1])
    assert report["event"] == "doctor" and report["computing"]["live_backend"]["cpu"] in ("cpu", "reference")


def test_doctor_flags_the_slow_path(capfd, cache, monkeypatch):
    monkeypatch.setenv("SLYTHER_SCAN", "reference")
    code, out, _ = slyther(capfd, "doctor")
    assert code in (0, 5) and "SLOW on the CPU" in out
    assert (cpu.why_not or "SLYTHER_SCAN=reference") in out
    monkeypatch.setenv("SLYTHER_SCAN", "magic")
    code, out, _ = slyther(capfd, "doctor")
    assert code == 6 and "magic" in out


def test_bench_scan(capfd):
    code, out, _ = slyther(
        capfd, "bench", "scan", "--length", "64", "--channels", "8", "--repeats", "1", "--json"
    )
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and rows[0]["backend"] == "reference" and all(r["gelem_per_s"] > 0 for r in rows)
    code, out, _ = slyther(capfd, "bench", "scan", "--length", "64", "--channels", "8", "--repeats", "1")
    assert code == 0 and "reference" in out
