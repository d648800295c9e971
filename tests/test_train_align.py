"""Forced alignment of recordings: the phones of known texts, by PocketSphinx, against flite's own times."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from slyther_cli.app import main
from slyther_cli.english.phonemes import spell
from slyther_cli.research.training import synthetic
from slyther_cli.research.training.data import read_table
from slyther_cli.research.training.phone_times import parse_phones, symbol_durations

SENTENCES = ("The ferry leaves early in the morning.", "My neighbour Zwyx has seven grey cats.")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> Path:
    pytest.importorskip("pocketsphinx", reason="alignment is PocketSphinx's")
    if shutil.which("flite") is None:
        pytest.skip("flite speaks the sentences; it is not installed")
    folder = tmp_path_factory.mktemp("align")
    lines = ["path\tspeaker\tsplit\ttranscript\ttold"]
    for i, sentence in enumerate(SENTENCES):
        said = synthetic.speak(synthetic.choose_voices(("flite:slt",))[0], sentence)
        sf.write(folder / f"{i}.wav", said.samples, said.rate)
        lines.append(f"{i}.wav\tslt\ttrain\t{sentence}\t{said.phones}")
    noise = np.random.default_rng(0).normal(0, 0.1, 8000)
    sf.write(folder / "noise.wav", noise, 16_000)
    lines.append(f"0.wav\tslt\ttrain\t{SENTENCES[0].split(' early')[0]}.\t")
    lines.append(f"noise.wav\tnobody\ttrain\t{' '.join(SENTENCES)}\t")
    (folder / "m.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_phones_are_found_where_the_synthesizer_said_them(spoken, capsys):
    out = spoken / "out.tsv"
    assert main(["train", "align", str(spoken / "m.tsv"), "-o", str(out), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["aligned"], summary["left_out"]) == (
        2,
        2,
    )  # noise says no sentence, half a sentence not all
    rows = read_table(out, ("path", "phones"))
    truth = read_table(spoken / "m.tsv", ("path",))
    for row, told in zip(rows, truth, strict=False):
        assert Path(row["path"]).exists()
        symbols = spell(row["transcript"], "arpabet").symbols
        frames = round(sf.info(row["path"]).duration * 100)
        found = symbol_durations(symbols, parse_phones(row["phones"]), frames, 100)
        wanted = symbol_durations(symbols, parse_phones(told["told"]), frames, 100)
        assert found is not None and wanted is not None
        assert np.median(np.abs(np.cumsum(found) - np.cumsum(wanted))) <= 3  # 30 ms


def test_what_cannot_be_aligned_is_reported(spoken, tmp_path, capsys):
    (tmp_path / "none.tsv").write_text("path\tspeaker\tsplit\na.wav\tb\ttrain\n")
    assert main(["train", "align", str(tmp_path / "none.tsv"), "-o", str(tmp_path / "o.tsv")]) == 3
    assert "no utterance with a transcript" in capsys.readouterr().err
    assert main(["train", "align", str(spoken / "m.tsv"), "-o", str(tmp_path / "no/o.tsv"), "-q"]) == 3
    assert not (tmp_path / "o.tsv").exists()
    (tmp_path / "o.tsv").write_text("mine")
    assert main(["train", "align", str(spoken / "m.tsv"), "-o", str(tmp_path / "o.tsv")]) == 3
    assert "o.tsv is there already: --force replaces it" in capsys.readouterr().err
    assert (tmp_path / "o.tsv").read_text() == "mine"
    before = (spoken / "m.tsv").read_bytes()
    assert main(["train", "align", str(spoken / "m.tsv"), "-o", str(spoken / "m.tsv")]) == 2
    assert "would replace the input" in capsys.readouterr().err and (spoken / "m.tsv").read_bytes() == before
