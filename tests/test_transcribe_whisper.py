"""`slyther transcribe` as those write it who come from whisper."""

import pytest
from tones import record, transcribed
from tools import files_in

from slyther_cli.commands.whisper import note, own_model, sift
from slyther_cli.errors import UsageError

pytestmark = pytest.mark.usefixtures("place")


@pytest.mark.parametrize(
    ("written", "kept", "left_out"),
    [
        ("a.wav --fp16 False -f srt", "a.wav -f srt", "--fp16"),
        ("--temperature 0 a.wav --best_of=5", "a.wav", "--temperature --best_of"),
        ("--vad_filter a.wav", "a.wav", "--vad_filter"),
        ("--vad_filter True a.wav --compute-type int8", "a.wav", "--vad_filter --compute-type"),
        ("--initial_prompt --fp16 a.wav", "a.wav", "--initial_prompt"),
        ("-- --fp16 False -osrt", "-- --fp16 False -osrt", ""),
        ("a.wav --verbose False", "a.wav -q", ""),
        ("a.wav --verbose True --verbose", "a.wav -v --verbose", ""),
        ("a.wav --temperature", "a.wav", "--temperature"),
        ("a.wav --beam_size 5 --threads 2", "a.wav --beam_size 5 --threads 2", ""),
    ],
)
def test_what_means_nothing_is_left_out(written, kept, left_out):
    assert sift(written.split()) == (kept.split(), left_out.split())


def test_a_format_attached_to_the_folder_gets_a_hint():
    with pytest.raises(UsageError, match=r"-osrt: did you mean -f srt\? \(the folder srt is -o srt\)"):
        sift(["a.wav", "-osrt"])
    assert sift(["-oout", "-o", "srt"]).arguments == ["-oout", "-o", "srt"]


@pytest.mark.parametrize(
    "name", ["tiny", "small.en", "large-v3", "large-v3-turbo", "turbo", "distil-large-v3"]
)
def test_whispers_models_are_not_ours(name):
    assert own_model(name) is None


def test_a_model_of_that_name_is_used(models):
    from tones import save

    assert own_model("tones") == "tones" and own_model("nothing-like-it") == "nothing-like-it"
    assert own_model(None) is None
    save(models, "base")
    assert own_model("base") == "base"


def test_one_note_and_on(capfd):
    record(text="all deal")
    how = ["--model", "small", "--fp16", "False", "--temperature", "0", "--initial_prompt", "Hello there",
           "--vad_filter", "True", "--compute_type", "int8", "--beam_size", "5", "--task", "transcribe",
           "--language", "en", "--output_dir", "out", "--output_format", "srt"]  # fmt: skip
    code, out, err = transcribed(capfd, "talk.wav", *how)
    assert code == 0 and out == "out/talk.srt\n" and files_in("out") == ["talk.srt"]
    assert err.splitlines()[0] == (
        "slyther: there is no --fp16, --temperature, --initial_prompt, --vad_filter, --compute_type: ignored"
        "; "
        "small is a model of whisper: slyther's own is used"
    )
    assert err.count("ignored") == 1
    code, _, err = transcribed(capfd, "talk.wav", *how, "-q", "--force")
    assert code == 0 and not err
    assert transcribed(capfd, "talk.wav", "-o", "out2")[2].count("ignored") == 0 and note([], None) is None
