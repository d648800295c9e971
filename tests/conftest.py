"""Shared by all tests. Without a GPU, Triton kernels run in Triton's interpreter (see test_scan.py)."""

import json
import os
import signal

import pytest
import torch

from slyther_cli.commands import events, output

if not torch.cuda.is_available():  # has to be set before triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

# Processes that tests start take the package that is tested, not the source in the folder they are run from:
# there it has no compiled part.
os.environ["PYTHONSAFEPATH"] = "1"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job: tests that send it hung
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def one_thread():
    """For networks so small that threads only wait for each other: fifty times as long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The cache of the models that hear tones (see tones.py)."""
    import tones

    return tones.cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def place(tmp_path, monkeypatch, models):
    """A folder of the test's own, with these models and no others but the shipped ones."""
    import tones

    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


@pytest.fixture(autouse=True)
def events_are_documented(monkeypatch):
    """Whatever a test lets a command print with --json must be as docs/events.md says."""
    wrong, data = [], output.data

    def checked(text):
        if text.startswith('{"schema"'):
            wrong.extend(events.problems(json.loads(text)))
        data(text)

    monkeypatch.setattr(output, "data", checked)
    yield
    assert not wrong, "see slyther_cli/commands/events.py"
