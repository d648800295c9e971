"""``slyther eval speak``: figures that are known beforehand come out."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from speak_tools import tiny_voices

from slyther_cli.errors import InputError, UsageError
from slyther_cli.jobs.setup import choose_model
from slyther_cli.models.vall_sampling import Sampling
from slyther_cli.research.evaluation.programs import Program
from slyther_cli.research.evaluation.speech import (
    Example,
    Speaker,
    _someone_else,
    choose_examples,
    evaluate_speech,
    words_of,
)
from slyther_cli.synthesis.job import load_pair
from slyther_cli.synthesis.voices import built_in_voice


@pytest.fixture(scope="module")
def speaker(tmp_path_factory) -> Speaker:
    config = choose_model("speak", tiny_voices(tmp_path_factory.mktemp("models")) / "aligned", "")
    network, codec = load_pair(config, "cpu")
    return Speaker(network, codec, built_in_voice(config, network), Sampling(), 0, "cpu")


def recordings(folder: Path) -> Path:
    lines = ["path\tspeaker\tsplit\ttranscript\tduration_s"]
    for i, speaker in enumerate("aabbc"):
        t = np.arange(16000 * 3) / 16000
        soundfile.write(
            folder / f"{i}.wav", 0.1 * np.sin(2 * np.pi * 100 * (1 + ord(speaker) - 97) * t), 16000
        )
        lines.append(f"{i}.wav\t{speaker}\ttest\tThis is sentence {i}, of five.\t3.0")
    (folder / "m.tsv").write_text("\n".join(lines) + "\n")
    return folder / "m.tsv"


def embed(samples: np.ndarray) -> np.ndarray:
    """Where the spectrum lies, in 20 bands."""
    bands = np.abs(np.fft.rfft(samples, 4000))[:400].reshape(20, -1).sum(1)
    return bands / np.linalg.norm(bands)


def test_figures_of_a_recogniser_and_voices_that_are_known(speaker, tmp_path):
    examples = choose_examples([recordings(tmp_path)], "test", 9, 0, prompts=True)
    assert len(examples) == 4 and all(e.prompt and e.prompt != e.path for e in examples)  # c has one only
    events: list = []
    report = evaluate_speech(
        speaker,
        examples,
        lambda samples: "this is sentence",
        embed,
        lambda samples: 3.0,
        ["recording", "model"],
        on_event=events.append,
    )
    assert report["recording"]["wer"] == pytest.approx(50) and report["recording"]["low"] == pytest.approx(50)
    assert report["recording"]["pace"] == pytest.approx(2.0)
    assert report["model"]["mos"] == 3.0 and report["model"]["cpu"] > 0 and report["recording"]["cpu"] is None
    assert len(events) == 8 and events[0]["words"] == 6
    human = [e for e in events if e["system"] == "recording"]
    assert 0 <= report["recording"]["nearer"] <= 1 and all(-1 <= e["similarity"] <= 1 for e in human)
    alone = evaluate_speech(speaker, examples, lambda samples: "", None, None, ["codec"])
    assert alone["codec"]["wer"] == 100 and alone["codec"]["similarity"] is None


SAYS = """
import sys, wave
text = sys.argv[2] if len(sys.argv) > 2 else sys.stdin.read().strip()
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
    file.writeframes(bytes([7, 9]) * 1000 * len(text.split()))
kept = bytearray(60_000_000)
"""


def test_programs_are_measured_beside(speaker, tmp_path):
    (tmp_path / "says.py").write_text(SAYS)
    (tmp_path / "fails.py").write_text("import sys; sys.exit('no voice\\nhere')")
    by_argument = Program.parse(f"one={sys.executable} {tmp_path}/says.py {{wav}} {{text}}")
    by_input = Program.parse(f"two={sys.executable} {tmp_path}/says.py {{wav}}")
    examples = choose_examples([recordings(tmp_path)], "test", 2, 0, prompts=False)
    speaker.programs = {"one": by_argument, "two": by_input}
    try:
        report = evaluate_speech(speaker, examples, lambda samples: "this is sentence", None, None, [])
    finally:
        speaker.programs = {}
    assert list(report) == ["one", "two"]
    for row in report.values():
        assert row["wer"] == pytest.approx(50) and row["cpu"] > 0 and 60e6 < row["memory"] < 120e6
        assert row["pace"] == pytest.approx(8, rel=0.01)  # 1000 samples at 8 kHz a word
    failing = Program.parse(f"three={sys.executable} {tmp_path}/fails.py {{wav}}")
    with pytest.raises(InputError, match=r"^three wrote no sound: no voice here$"):
        failing.say("Yes.", 16000)
    for wrong, why in (
        ("flite", "give NAME=COMMAND"),
        ("a=flite -t {text}", "give NAME=COMMAND"),
        ("a=b 'c {wav}", "No closing quotation"),
        ("a=nosuchprogram {wav}", "there is no program nosuchprogram"),
    ):
        with pytest.raises(UsageError, match=why):
            Program.parse(wrong)


def test_a_voice_is_compared_with_somebody_elses():
    examples = [Example(Path(f"{i}.wav"), "Text.", speaker) for i, speaker in enumerate("aabac")]
    assert [_someone_else(examples, i) for i in range(5)] == [2, 2, 3, 4, 0]
    assert _someone_else(examples[:2], 1) == 1  # nobody else


def test_no_sentences_are_reported(tmp_path):
    manifest = recordings(tmp_path)
    with pytest.raises(InputError, match="no fitting sentence"):
        choose_examples([manifest], "dev", 5, 0, prompts=False)
    assert len(choose_examples([manifest], "test", 3, 1, prompts=False)) == 3
    assert words_of("It's 5 o'clock, J.R.!") == ["it's", "five", "o'clock", "j", "r"]
