"""`slyther train manifest`: corpora laid out as they are downloaded, in miniature."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from slyther_cli.app import main
from slyther_cli.research.training.corpora import CORPORA, hold_out
from slyther_cli.research.training.data import read_manifest

RATE = 16000


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sound(path, seconds=0.5):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * RATE)) / RATE
    sf.write(path, 0.1 * np.sin(2 * np.pi * 200 * t), RATE, format="WAV" if str(path)[-3:] == "sph" else None)


def text(path, content):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content, encoding="utf-8")


def rows(corpus, folder, capfd, *args):
    code = main(["train", "manifest", corpus, folder, "-o", "m.tsv", "--json", *args])
    out, err = capfd.readouterr()
    assert code == 0, err
    summary = json.loads(out.splitlines()[-1])
    found = read_manifest(Path("m.tsv"))
    assert sum(summary[s] for s in ("train", "dev", "test")) == len(found)
    assert all(u.path.is_file() for u in found)
    return found, summary


def test_librispeech(capfd):
    text("L/SPEAKERS.TXT", ";ID |SEX| SUBSET\n84 | F | dev-clean | 8.0 | A Name\n103 | M | train | 9 | B\n")
    for part, speaker in (("train-clean-100", "103"), ("dev-clean", "84"), ("test-other", "367")):
        text(f"L/{part}/{speaker}/7/{speaker}-7.trans.txt", f"{speaker}-7-0000 HE SAID\tSO\n")
        sound(f"L/{part}/{speaker}/7/{speaker}-7-0000.flac")
    found, _ = rows("librispeech", "L", capfd)
    assert {(u.speaker, u.split, u.sex, u.transcript) for u in found} == {
        ("103", "train", "M", "HE SAID SO"),
        ("84", "dev", "F", "HE SAID SO"),
        ("367", "test", "", "HE SAID SO"),
    }
    text("L/dev-clean/84/7/84-7.trans.txt", "84-7-0000 HE SAID SO\n84-7-0001 GONE\n")
    assert rows("librispeech", "L", capfd, "--force")[1]["missing"] == 1


def test_commonvoice(capfd):
    head = "client_id\tpath\tsentence\tgender\n"
    for split, sex in (("train", "male_masculine"), ("dev", "female"), ("test", "")):
        text(f"C/{split}.tsv", head + f'{split * 20}\t{split}.wav\tSay "so", please.\t{sex}\n')
        sound(f"C/clips/{split}.wav")
    found, _ = rows("commonvoice", "C", capfd)
    assert [(u.split, u.sex) for u in found] == [("train", "M"), ("dev", "F"), ("test", "")]
    assert {u.transcript for u in found} == {'Say "so", please.'} and len(found[0].speaker) == 16


def test_ljspeech_holds_chapters_out(capfd):
    names = [f"LJ{chapter:03d}-0001" for chapter in range(1, 11)]
    text("J/metadata.csv", "".join(f"{n}|In 1865|In eighteen sixty-five\n" for n in names))
    for n in names:
        sound(f"J/wavs/{n}.wav")
    found, summary = rows("ljspeech", "J", capfd)
    assert (summary["train"], summary["dev"], summary["test"]) == (8, 1, 1)
    assert [u.path.stem for u in found if u.split == "test"] == ["LJ010-0001"]
    assert found[0].transcript == "In eighteen sixty-five"  # as it is read


def test_vctk_holds_speakers_out(capfd):
    text("V/speaker-info.txt", "ID  AGE  GENDER  ACCENTS\np225  23  F  English\ns5  20  M  Welsh\n")
    for speaker in ("p225", "p226", "p227", "s5"):
        text(f"V/txt/{speaker}/{speaker}_001.txt", "Please call Stella.\n")
        sound(f"V/wav48_silence_trimmed/{speaker}/{speaker}_001_mic1.flac")
    found, _ = rows("vctk", "V", capfd)
    assert {(u.speaker, u.split) for u in found} == {
        ("p225", "train"),
        ("p226", "train"),
        ("p227", "dev"),
        ("s5", "test"),
    }
    assert found[0].sex == "F"


def test_tedlium_is_cut_into_utterances(capfd):
    for split in ("train", "dev", "test"):
        sound(f"T/legacy/{split}/sph/Talk_{split}.sph", 3.0)
        text(
            f"T/legacy/{split}/stm/Talk_{split}.stm",
            f"Talk_{split} 1 {split}_S 0.50 1.75 <o,f0,male> {{NOISE}} i 'm here(2) <sil> now\n"
            f"Talk_{split} 1 inter_segment_gap 1.75 2.0 <o,,unknown> ignore_time_segment_in_scoring\n",
        )
    found, summary = rows("tedlium", "T", capfd)
    assert (summary["train"], summary["dev"], summary["test"]) == (1, 1, 1)
    assert [u.transcript for u in found] == ["i'm here now"] * 3
    for u in found:
        assert sf.info(u.path).frames == int(1.25 * RATE) and u.path.parent.parent.name == "m-cuts"


def test_a_split_of_few_names():
    assert hold_out([]) == {} and hold_out(["a"]) == {"a": "test"}
    assert hold_out(["a", "b", "c"]) == {"a": "train", "b": "dev", "c": "test"}
    many = hold_out([f"{i:03d}" for i in range(100)])
    assert [list(many.values()).count(s) for s in ("train", "dev", "test")] == [90, 5, 5]


@pytest.mark.parametrize("corpus", sorted(CORPORA))
def test_a_folder_without_the_corpus_is_one_line(corpus, capfd):
    Path("empty").mkdir()
    for folder in ("empty", "nowhere"):
        assert main(["train", "manifest", corpus, folder, "-o", "m.tsv"]) == 3
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and f"no {corpus} corpus" in err
        assert not Path("m.tsv").exists()


def test_bad_tables_are_one_line(capfd):
    text("C/train.tsv", "client\tpath\n1\t2\n")
    text("D/train.tsv", "client_id\tpath\tsentence\n1\tgone.mp3\tHello\n")
    text("J/metadata.csv", "LJ001-0001\n")
    Path("B").mkdir()
    Path("B/metadata.csv").write_bytes(b"\xff\xfe|a|b\n")
    for corpus, folder, told in (
        ("commonvoice", "C", "no column client_id, sentence"),
        ("commonvoice", "D", "none of 1 recordings"),
        ("ljspeech", "J", "line 1"),
        ("ljspeech", "B", "not UTF-8"),
    ):
        assert main(["train", "manifest", corpus, folder, "-o", "m.tsv"]) == 3
        out, err = capfd.readouterr()
        assert out == "" and err.count("\n") == 1 and told in err
    assert main(["train", "manifest", "timit", "C", "-o", "m.tsv"]) == 2
    assert "librispeech, commonvoice" in capfd.readouterr().err
