"""Options from variables and from slyther.toml, for every option of every command; what shells complete."""

import importlib
import json
import os
import subprocess
import sys

import pytest
import tones
import typer
from tools import slyther

from slyther_cli import app
from slyther_cli.commands import completing, settings

ROOT = typer.main.get_command(app.app)


def leaves():
    """(words, command, option name, option) for every option that can be set."""
    for name in app.TABLE:
        todo = [((name,), ROOT.get_command(None, name))]
        while todo:
            words, command = todo.pop()
            todo += [((*words, sub), inner) for sub, inner in getattr(command, "commands", {}).items()]
            if not hasattr(command, "commands"):
                for option, param in settings.options_of(command).items():
                    yield words, command, option, param


OPTIONS = list(leaves())


def values(words, name, option):
    """Two values that a command line would accept, as text; True and False for a flag."""
    if getattr(option, "is_flag", False):
        return True, False
    kind = getattr(option, "type_descriptor", None) or option.type
    choices = [str(getattr(choice, "value", choice)) for choice in getattr(kind, "choices", None) or ()]
    for pair in (choices[:2], ("3", "4"), ("30", "40"), ("0.5", "0.75"), ("x", "y")):
        if len(pair) == 2 and all(
            parse(words, as_args(name, text))[option.name] is not None for text in pair
        ):
            return pair
    raise AssertionError(option)


def parse(words, args, said=None, monkeypatch=None):
    """What a command would be called with."""
    command = ROOT.get_command(None, words[0])
    maps = settings.defaults(said or {}, "s.toml", list(app.TABLE), words[0], command)
    context = command.make_context(words[0], [*words[1:], *args], default_map=maps, resilient_parsing=True)
    for word in words[1:]:
        inner = command.get_command(context, word)
        context = inner.make_context(word, [*args], parent=context, resilient_parsing=True)
        command = inner
    return context.params


def nested(words, key, value):
    said = {key: value}
    for word in reversed(words):
        said = {word: said}
    return said


def as_args(name, value):
    if isinstance(value, bool):
        return [f"--{name}"] if value else [f"--no-{name}"]
    return [f"--{name}", value]


def test_there_are_options_to_test():
    assert len(OPTIONS) > 150 and len({words[0] for words, *_ in OPTIONS}) >= len(app.TABLE) - 1


@pytest.mark.parametrize("name", app.TABLE)
def test_every_option_in_every_way(name, monkeypatch):
    """The same value from the command line, a variable and the file; and who goes first."""
    for words, _command, option, param in OPTIONS:
        if words[0] != name:
            continue
        first, second = values(words, option, param)
        variable = "_".join(("SLYTHER", *words, option)).upper().replace("-", "_")
        typed = parse(words, as_args(option, first))[param.name]
        other = parse(words, as_args(option, second))[param.name]
        assert parse(words, [], nested(words, option, first))[param.name] == typed, (words, option)
        monkeypatch.setenv(variable, str(first))
        assert parse(words, [])[param.name] == typed, (words, option)
        assert parse(words, [], nested(words, option, second))[param.name] == typed
        assert parse(words, as_args(option, second), nested(words, option, first))[param.name] == other
        monkeypatch.delenv(variable)
        if option in settings.EVERYWHERE:
            assert parse(words, [], {option: first})[param.name] == typed
            assert parse(words, [], {option: first, **nested(words, option, second)})[param.name] == other
            monkeypatch.setenv(settings._variable(option), str(second))
            assert parse(words, [], {option: first})[param.name] == other
            monkeypatch.setenv(variable, str(first))
            assert parse(words, [])[param.name] == typed
            monkeypatch.delenv(variable)
            monkeypatch.delenv(settings._variable(option))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config/slyther").mkdir(parents=True)
    return tmp_path / "config/slyther/slyther.toml"


def test_the_users_file(home, capfd, tmp_path):
    assert not slyther(capfd, "weights", "list")[1].startswith("{")
    home.write_text("json = true\n")
    assert slyther(capfd, "weights", "list")[1].startswith('{"schema": 1')
    assert not slyther(capfd, "weights", "list", "--no-json")[1].startswith("{")
    assert not slyther(capfd, "--config", "none", "weights", "list")[1].startswith("{")
    (tmp_path / "other.toml").write_text("[weights.list]\njson = false\n")
    assert not slyther(capfd, "--config", "other.toml", "weights", "list")[1].startswith("{")


def test_the_file_by_a_variable(home, capfd, tmp_path, monkeypatch):
    (tmp_path / "other.toml").write_text("[weights.list]\njson = true\n")
    monkeypatch.setenv("SLYTHER_CONFIG", "other.toml")
    assert slyther(capfd, "weights", "list")[1].startswith("{")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[separate]\nthread = 1", "did you mean [separate] threads?"),
        ("[seperate]\nthreads = 1", "did you mean [separate]?"),
        ("format = 'flac'", "format is not known"),
        ("separate = 3", "write [separate]"),
        ("[separate]\nforce = 'yes'", "true or false"),
        ("[separate]\nformat = ['wav', 'flac']", "a number or a text"),
        ("[separate]\nthreads = true", "a number or a text"),
        ("[separate]\nthreads = 4.5", "s.toml"),
        ("threads = 'many'", "s.toml"),
        ("[separate]\nspeakers = 0", "s.toml"),
        ("[separate", "no TOML"),
        ("a = " + "[" * 5000, "no TOML"),
        ("x = '" + "y" * (1 << 20) + "'", "too large"),
        ("\udcff", "no TOML"),
    ],
)
def test_what_the_file_cannot_say(capfd, tmp_path, text, words, home):
    (tmp_path / "s.toml").write_text(text, errors="surrogateescape")
    code, out, err = slyther(capfd, "--config", "s.toml", "separate", "x.wav")
    assert code == 2 and not out and len(err.splitlines()) == 1 and words in err and "s.toml" in err
    assert slyther(capfd, "--config", "s.toml", "separate", "--help")[0] == 0


def test_no_such_file(capfd, home):
    code, _, err = slyther(capfd, "--config", "nowhere.toml", "separate", "x.wav")
    assert code == 2 and "nowhere.toml" in err and len(err.splitlines()) == 1


def test_an_error_names_the_variable(capfd, home, monkeypatch):
    monkeypatch.setenv("SLYTHER_THREADS", "many")
    code, _, err = slyther(capfd, "separate", "x.wav")
    assert code == 2 and "SLYTHER_THREADS" in err


def test_the_command_line_puts_out_what_contradicts_it(capfd, home, monkeypatch):
    home.write_text("[separate]\nforce = true\nquiet = true\n")
    code, _, err = slyther(capfd, "separate", "nowhere.wav", "--skip-existing", "-v")
    assert code == 4 and "nowhere.wav" in err
    monkeypatch.setenv("SLYTHER_SEPARATE_SKIP_EXISTING", "1")
    assert slyther(capfd, "separate", "nowhere.wav")[0] == 2  # nobody to decide


def test_a_job_by_settings_alone(home, capfd, tmp_path, monkeypatch, tmp_path_factory):
    with tones.at_home(tmp_path, monkeypatch, tones.cache(tmp_path_factory.mktemp("cache"))):
        home.write_text(
            "threads = 1\n[transcribe]\nformat = 'srt,json'\noutput-dir = 'said'\nmodel = 'tones'\n"
        )
        tones.record()
        code, out, _ = slyther(capfd, "transcribe", "talk.wav")
        assert code == 0 and out.split() == ["said/talk.srt", "said/talk.json"]
        assert json.loads((tmp_path / "said/talk.json").read_text())["text"].strip() == tones.SAID


# Completion


def complete(*words, incomplete=""):
    env = {**os.environ, "_SLYTHER_COMPLETE": "complete_bash", "COMP_CWORD": str(len(words) + 1)}
    env["COMP_WORDS"] = " ".join(("slyther", *words, incomplete))
    done = subprocess.run([sys.executable, "-m", "slyther_cli"], env=env, capture_output=True, text=True)
    assert not done.stderr
    return done.stdout.split()


def test_completion():
    assert set(app.TABLE) <= set(complete())
    assert complete(incomplete="sep") == ["separate"]
    assert "--memory-limit" in complete("separate", incomplete="--mem")
    assert "mamba-tasnet-8k-2spk" in complete("separate", "--model")
    assert "conmamba-ctc-16k-en" not in complete("separate", "--model")
    assert "conmamba-ctc-16k-en" in complete("transcribe", "--model")
    assert complete("separate", "--format") == ["wav", "flac"]
    assert {"auto", "cpu"} <= set(complete("transcribe", "-d"))
    assert complete("transcribe", "-f", incomplete="srt,t") == ["srt,txt", "srt,tsv", "srt,textgrid"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell, capfd):
    code, out, err = slyther(capfd, "completion", shell)
    assert code == 0 and not err and "_SLYTHER_COMPLETE" in out and "slyther" in out
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=out, text=True).returncode == 0


def test_completing_is_light():
    """The functions that are called at each press of a key import no torch."""
    code = (
        "import sys; from slyther_cli.commands import completing as c; c.models('speak')(''); "
        "c.published(''); c.devices(''); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    assert importlib.reload(completing).several_of("a", "b")("a,") == ["a,b"]
