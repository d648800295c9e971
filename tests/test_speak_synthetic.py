"""Training speech by other programs: deterministic, resumable, with times that fit the sound."""

import shutil
from pathlib import Path

import pytest
import soundfile

from slyther_cli.english.sentences import split_sentences
from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.research.training.data import read_manifest
from slyther_cli.research.training.synthetic import Plan, choose_voices, read_sentences, synthesize

TEXT = "The cat sat. A dog barked at Mr. Hale, who left! Nobody cared; why would they? It rained all day."
needs = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("flite")), reason="espeak-ng and flite are not installed"
)


def rows(manifest: Path) -> list[list[str]]:
    return [line.split("\t") for line in manifest.read_text().splitlines()]


@needs
def test_the_same_seed_gives_the_same_speech_and_a_stopped_run_goes_on(tmp_path: Path):
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    voices = ("espeak-ng:en-us", "flite:slt")
    whole = synthesize([text], tmp_path / "a", Plan(voices, 0.004), workers=1)
    synthesize([text], tmp_path / "b", Plan(voices, 0.002), workers=2)
    begun = tmp_path / "b/manifest.begun.tsv"
    begun.write_text(begun.read_text() + "cut line without an en")
    again = synthesize([text], tmp_path / "b", Plan(voices, 0.004), workers=2)
    assert rows(whole) == rows(again) and len(rows(whole)) > 4
    for row in rows(whole)[1:]:
        one, other = (soundfile.read(tmp_path / folder / row[0])[0] for folder in "ab")
        assert (one == other).all() and abs(len(one) / 16000 - float(row[3])) < 1e-3
        assert bool(row[7]) == row[1].startswith("flite")
        ends = [float(p.rpartition(":")[2]) for p in row[7].split()]
        assert ends == sorted(ends) and (not ends or abs(ends[-1] - float(row[3])) < 0.1)
    assert {u.transcript for u in read_manifest(whole)} <= set(read_sentences([text]))
    with pytest.raises(OutputError, match="other settings"):
        synthesize([text], tmp_path / "b", Plan(voices, 0.004, seed=1))


def test_what_cannot_be_spoken_is_reported(tmp_path: Path):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n  \n 12 34 \n")
    with pytest.raises(InputError, match="no sentences"):
        read_sentences([empty])
    with pytest.raises(UsageError, match="unknown voice"):
        choose_voices(["flite:nobody"])
    with pytest.raises(UsageError):
        Plan(("flite",), 0)
    with pytest.raises(OutputError, match="is no folder"):
        synthesize([empty], empty, Plan(("flite",), 1))


def test_sentences_end_where_a_reader_stops_and_lose_no_word():
    found = list(
        split_sentences("Mr. J. Smith paid $3.50. He left!\nReally?\n\nNew part of it. " + "Word " * 99)
    )
    assert [s.text for s in found][:4] == [
        "Mr. J. Smith paid $3.50.",
        "He left!",
        "Really?",
        "New part of it.",
    ]
    assert [s.last for s in found] == [False, False, True, False, False, True]
    assert all(len(s.text) <= 280 for s in found)
    assert sum(len(s.text.split()) for s in found) == 12 + 99
