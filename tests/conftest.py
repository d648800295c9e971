"""Shared by all tests. Without a GPU, Triton kernels run in Triton's interpreter (see test_scan.py)."""

import json
import os
import signal

import documented_events
import hypothesis
import pytest
import torch

from slyther_cli.commands import output

if not torch.cuda.is_available():  # has to be set before triton is first imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("slyther", deadline=None)
hypothesis.settings.load_profile("slyther")

# ``pytest -m core``: a minute that covers each product from end to end, the engine and the kernels.
CORE = {
    "test_imports": {"test_nothing_imports_in_a_circle", "test_only_commands_import_research"},
    "test_scan": {"test_cpu_agrees_with_reference", "test_cpu_split_equals_whole_bit_for_bit"},
    "test_longform": {"test_separation_equals_one_pass", "test_live_equals_one_pass"},
    "test_longform_resume": {"test_separation_goes_on_with_the_same_stems", "test_a_mark_saves_work"},
    "test_conmamba_sweep": {"test_swept_is_one_pass", "test_live_is_one_pass"},
    "test_separate": {
        "test_files_come_out_like_they_went_in",
        "test_a_quieter_recording_gives_the_same_stems_only_quieter",
        "test_standard_input",
        "test_collisions_are_refused_before_anything_is_done",
    },
    "test_transcribe": {
        "test_what_is_said",
        "test_words_have_their_times",
        "test_standard_input",
        "test_json",
    },
    "test_speak": {
        "test_a_text_is_spoken_alike_with_the_same_seed_only",
        "test_a_stopped_book_is_gone_on_with_and_sounds_the_same",
        "test_a_prompt_is_taken_or_refused",
    },
    "test_batch": {"test_shards", "test_failures_are_recorded_and_retried"},
    "test_text_ctc": {"test_the_compiled_beam_equals_the_plain_one"},
    "test_codec": {"test_pieces_equal_the_whole"},
    "test_cli": {"test_usage_errors_are_one_line", "test_every_command_is_listed_with_help"},
    "test_training_separation": {"test_the_command_trains_a_model_that_loads"},
}

# Processes that tests start take the package that is tested, not the source in the folder they are run from:
# there it has no compiled part.
os.environ["PYTHONSAFEPATH"] = "1"


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job: tests that send it hung
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if getattr(item, "originalname", item.name) in CORE.get(item.module.__name__, ()):
            item.add_marker(pytest.mark.core)


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
            wrong.extend(documented_events.problems(json.loads(text)))
        data(text)

    monkeypatch.setattr(output, "data", checked)
    yield
    assert not wrong, "see docs/events.md"
