"""Numbers and texts made to break what reads them: absurdly long, not finite, of too many parts."""

import json
import math
import time

import pytest
import typer
from damage_base import TINY

from slyther_cli import app, untrusted
from slyther_cli.checkpoints import speechbrain, store
from slyther_cli.checkpoints.config import read_config, read_json
from slyther_cli.commands import settings
from slyther_cli.commands.parsing import parse_numbers, parse_size
from slyther_cli.decode.arpa import read_arpa
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.recognition import RecognitionConfig
from slyther_cli.research.training.settings import read_settings
from slyther_cli.transcription.recogniser import Decoding

ROOT = typer.main.get_command(app.app)
SECONDS = 2.0  # that refusing may take, of CPU time


def number_options():
    """(words, option name) of every option of every command that takes a number."""
    for name in app.TABLE:
        todo = [((name,), ROOT.get_command(None, name))]
        while todo:
            words, command = todo.pop()
            todo += [((*words, sub), inner) for sub, inner in getattr(command, "commands", {}).items()]
            for option, param in settings.options_of(command).items():
                if settings.kind_of(param) in ("N", "X"):
                    yield words, option, settings.kind_of(param)


OPTIONS = sorted(number_options())


def said(capfd, *args):
    """The exit code and the one line of an error."""
    began = time.process_time()
    code = app.main([str(a) for a in args])
    out, err = capfd.readouterr()
    assert time.process_time() - began < SECONDS and not out
    assert len(err.splitlines()) == 1 and "bug" not in err and len(err) < 1000, err
    return code, err


def test_there_are_options_to_test():
    assert len(OPTIONS) > 50 and {kind for *_, kind in OPTIONS} == {"N", "X"}
    assert (("transcribe",), "word-bonus", "X") in OPTIONS


@pytest.mark.parametrize(
    ("words", "option", "kind"), OPTIONS, ids=lambda v: v if isinstance(v, str) else " ".join(v)
)
def test_no_option_takes_what_is_no_number(capfd, words, option, kind):
    for value in ("nan", "inf", "-inf", "1e999") if kind == "X" else ("9" * 30, "9" * 5000, "1e3", "nan"):
        code, err = said(capfd, *words, f"--{option}={value}")
        assert code == 2 and f"--{option}" in err, err


@pytest.mark.parametrize(
    "size", ["9" * 5000, "9" * 5000 + "GB", "9" * 25, "1" + "0" * 400 + "k", "9e5000", "nan"]
)
def test_sizes_that_no_machine_has(capfd, size):
    code, err = said(capfd, "separate", "x.wav", "--memory-limit", size)
    assert code == 2 and ("than any machine has" in err or "no size" in err)


def test_sizes_keep_their_values():
    assert parse_size("2GiB") == 2 << 30 and parse_size("1.5g") == 1_500_000_000
    assert parse_numbers("4, 16,1e2", "seconds", "4,16,60") == [4.0, 16.0, 100.0]
    for text in ("4,nan", "inf", "1e999", ",", "4,x"):
        with pytest.raises(typer.BadParameter, match="no list of seconds: write 4,16,60"):
            parse_numbers(text, "seconds", "4,16,60")


@pytest.mark.parametrize("count", ["9" * 5000, "9" * 19, "²", "٣"])
def test_counts_of_a_language_model(tmp_path, count):
    path = tmp_path / "lm.arpa"
    path.write_text(f"\\data\\\nngram 1={count}\n\n\\1-grams:\n-1 a\n\n\\end\\\n")
    with pytest.raises(ModelError, match="damaged: line 2: "):
        read_arpa(path)
    path.write_text(f"\\data\\\nngram {count}=1\n\n\\1-grams:\n-1 a\n\n\\end\\\n")
    with pytest.raises(ModelError, match="damaged: line 2: "):
        read_arpa(path)
    path.write_text("\\data\\\nngram 01=0001\n\n\\1-grams:\n-1 a\n\n\\end\\\n")
    assert len(read_arpa(path).words) == 1


@pytest.mark.parametrize("number", ["9" * 400, "-" + "9" * 400, "9" * 5000, "1e999", "NaN", "Infinity"])
@pytest.mark.parametrize("place", ["decoding", "metrics", "extra"])
def test_numbers_in_a_models_config(tmp_path, capfd, number, place):
    network = registry.build("mamba-tasnet", TINY)
    folder = tmp_path / "tiny"
    store.save(folder, network, name="tiny", architecture="mamba-tasnet", config=TINY, task="separate")
    data = json.loads((folder / "config.json").read_text())
    data[place] = {"lm_weight": "?"}
    (folder / "config.json").write_text(json.dumps(data).replace('"?"', number))
    with pytest.raises(ModelError, match=r"config\.json is damaged: .* is (too large|not) a number"):
        read_config(folder)
    code, err = said(capfd, "weights", "show", folder)
    assert code == 5 and "is damaged" in err


def test_json_keeps_the_numbers_that_it_takes():
    assert read_json(b"[123456789012345678, -5, 1.5, 1e308, -0.0]") == [
        123456789012345678,
        -5,
        1.5,
        1e308,
        -0.0,
    ]
    for bad in (b"[1234567890123456789]", b"[1e309]", b"[NaN]", b"\xff", b"["):
        with pytest.raises(ValueError):
            read_json(bad)


@pytest.mark.parametrize("number", [10**400, -(10**400), math.nan, math.inf, 1e300, True, "1"])
def test_numbers_of_a_models_search(number):
    for key in ("lm_weight", "word_bonus", "beam"):
        with pytest.raises(ModelError, match=r"here: decoding has .*(out of bounds|no sense)"):
            Decoding().updated({key: number}, "here")
    assert Decoding().updated({"word_bonus": -2, "beam": 7.0}, "here") == Decoding(beam=7, word_bonus=-2)


LONG = [
    "a." * 50_000 + "b = 1",
    "[" + "a." * 50_000 + "b]",
    " \t[[ " + '"x\\"y". ' * 50_000 + "b]]",
    "x = 1\n" + "'a b' . " * 50_000 + "b = 1",
]


@pytest.mark.parametrize("text", LONG, ids=range(4))
def test_keys_of_many_parts(tmp_path, capfd, text):
    (tmp_path / "s.toml").write_text(text)
    code, err = said(capfd, "--config", tmp_path / "s.toml", "separate", "x.wav")
    assert code == 2 and "a key has more than 32 parts" in err
    with pytest.raises(UsageError, match="a key has more than 32 parts"):
        read_settings(tmp_path / "s.toml", RecognitionConfig)


@pytest.mark.parametrize("text", [" " * 1_000_000, "\t " * 400_000 + "=", "'" * 1_000_000, '"\\' * 500_000])
def test_keys_are_counted_in_linear_time(text):
    began = time.process_time()
    with pytest.raises(ValueError, match=r".") if text.strip() else pytest.raises(KeyError):
        untrusted.read_toml(text.encode())["none"]
    assert time.process_time() - began < SECONDS


def test_toml_keeps_what_it_says():
    assert untrusted.read_toml(b'[a."b.c"]\nd.e = "f.' + b"g." * 100 + b'"') == {
        "a": {"b.c": {"d": {"e": "f." + "g." * 100}}}
    }
    key = ".".join("k" * 32)
    assert untrusted.read_toml(f"{key} = 1".encode()).keys() == {"k"}


@pytest.mark.parametrize("filler", ["\n", " \n", "\t\n", "\r\n", " ", "sample_rate:\n", "1", "\n1"])
def test_a_runs_settings_are_read_in_linear_time(tmp_path, filler):
    text = "a: 1" + filler * ((1 << 20) // len(filler) - 10)
    (tmp_path / "hyperparams.yaml").write_text(text)
    began = time.process_time()
    assert speechbrain._yaml_number(tmp_path / "hyperparams.yaml", "sample_rate") is None
    assert speechbrain._yaml_number(tmp_path / "hyperparams.yaml", "K", nested=True) is None
    assert time.process_time() - began < SECONDS


def test_a_runs_settings_are_found(tmp_path):
    path = tmp_path / "hyperparams.yaml"
    path.write_text("\n\n# x\nsample_rate: 16000  # Hz\n  K: 250\nnhead: 8 # a\n'skip': 1\nloss: -1.5e1\n")
    assert speechbrain._yaml_number(path, "sample_rate") == 16000
    assert (
        speechbrain._yaml_number(path, "K", nested=True) == 250
        and speechbrain._yaml_number(path, "K") is None
    )
    assert speechbrain._yaml_number(path, "skip") == 1 and speechbrain._yaml_number(path, "loss") == -15
