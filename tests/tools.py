"""What the tests of many files need: commands run in this process, what they leave, small networks."""

import io
import sys
from pathlib import Path

import torch

from slyther_cli import app
from slyther_cli.decode.formats import make_format


def slyther(capfd, *args):
    """(exit code, stdout, stderr) of a command line run in this process."""
    code = app.main([str(a) for a in args])
    return code, *capfd.readouterr()


def run_command(capfd, *args):
    """The same, of a command that shows nobody a traceback."""
    code, out, err = slyther(capfd, *args)
    assert "Traceback" not in err
    return code, out, err


def error_lines(err):
    return [line for line in err.splitlines() if line.startswith("slyther: error: ")]


def files_in(folder="."):
    """All files below, as relative names; the hidden ones too."""
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def from_file_as_stdin(monkeypatch, name):
    """Standard input is that file."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(open(name, "rb")))  # noqa: SIM115


def rendered(name, segments, **options):
    """The text of a whole transcript in the format of that name."""
    form = make_format(name, **options)
    return "".join([form.head(), *map(form.add, segments), *form.tail()])


def stirred(model):
    """The model with its vectors moved: gains of one and biases of zero would hide a mistake."""
    for p in model.parameters():
        if p.dim() == 1:
            p.data += 0.1 * torch.randn_like(p)
    return model.eval()


def assert_near(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
