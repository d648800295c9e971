"""`slyther transcribe -f html,md,ctm,rttm,textgrid,eaf` from sound files to what can be read back."""

import base64
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from test_text_elan import read as read_eaf
from test_text_formats import read_text_grid
from test_text_review import Page
from test_transcribe_channels import call
from tones import SAID, record, transcribed
from tools import error_lines, files_in, from_file_as_stdin

from slyther_cli.audio.opus import OpusWriter
from slyther_cli.audio.peaks import MOST, Peaks
from slyther_cli.decode.formats import FORMATS, MORE
from slyther_cli.transcription import review

pytestmark = pytest.mark.usefixtures("place")


def page(path):
    found = Page(Path(path).read_text(encoding="utf-8"))
    return found.read("transcript"), found.read("recording")


def said(rows):
    return [word[0] for row in rows for word in row["words"]]


# Pages


@pytest.mark.parametrize("name", ["talk.wav", "a #1 'b' \"c\" 50%.wav", "<script>alert(1)<.wav"])
def test_a_page_beside_the_recording(capfd, name):
    words = record(name)
    code, out, _ = transcribed(capfd, name, "-f", "html")
    where = Path(name).with_suffix(".html")
    assert code == 0 and out == f"{where}\n" and files_in() == sorted([name, str(where)])
    rows, about = page(where)
    assert said(rows) == SAID.split() and about["name"] == name and "sound" not in about
    assert all(abs(word[1] - at[0]) <= 0.04 for word, at in zip(rows[0]["words"], words, strict=False))
    assert abs(about["seconds"] - sf.info(name).duration) < 1e-9
    assert 512 < len(about["peaks"]) <= MOST and max(about["peaks"]) == 100
    silent = round(len(about["peaks"]) * (words[0][1] + 0.01) / about["seconds"])
    assert about["peaks"][silent] == 0  # between two tones


def test_a_page_elsewhere(capfd):
    Path("in/deep").mkdir(parents=True)
    record("in/deep/a.wav")
    assert transcribed(capfd, "in", "-f", "html,txt", "-o", "out/x")[0] == 0
    assert files_in("out") == ["x/deep/a.html", "x/deep/a.txt"]
    assert page("out/x/deep/a.html")[1]["link"] == "../../../in/deep/a.wav"
    code, out, err = transcribed(capfd, "in/deep/a.wav", "-f", "html", "-o", "-")
    assert code == 2 and not out and "name a folder" in error_lines(err)[0]


def test_speakers_of_a_page(capfd):
    turns = call()
    assert transcribed(capfd, "call.wav", "--channel", "each", "-f", "html,rttm")[0] == 0
    rows, about = page("call.html")
    assert [(row["speaker"], " ".join(said([row]))) for row in rows] == [turn[:2] for turn in turns]
    assert max(about["peaks"]) == 100
    lines = [line.split() for line in Path("call.rttm").read_text().splitlines()]
    assert [line[7] for line in lines] == [turn[0] for turn in turns]
    assert all(abs(float(line[3]) - turn[2]) < 0.1 for line, turn in zip(lines, turns, strict=True))


def test_a_page_of_standard_input(capfd, monkeypatch):
    record("talk.flac", rate=24_000)
    from_file_as_stdin(monkeypatch, "talk.flac")
    assert transcribed(capfd, "-", "-f", "html", "-o", "out", "--embed")[0] == 0
    rows, about = page("out/-.html")
    assert said(rows) == SAID.split() and about["link"] is None and about["sound"]


def test_a_live_page(capfd, monkeypatch):
    record()
    from_file_as_stdin(monkeypatch, "talk.wav")
    assert transcribed(capfd, "-", "-m", "live", "-f", "html")[0] == 0
    rows, about = page("-.html")
    assert said(rows) == SAID.split() and about["link"] is None and "sound" not in about
    record("again.wav")
    assert transcribed(capfd, "again.wav", "-m", "live", "-f", "html")[0] == 0
    other = page("again.html")[1]
    assert (about["seconds"], about["peaks"]) == (other["seconds"], other["peaks"])
    from_file_as_stdin(monkeypatch, "talk.wav")
    code, _, err = transcribed(capfd, "-", "-m", "live", "-f", "html", "-o", "out", "--embed")
    assert code == 4 and "heard live" in error_lines(err)[0] and not Path("out").exists()


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_page_with_its_sound(capfd, rate):
    record(rate=rate, text="hello abide")
    assert transcribed(capfd, "talk.wav", "-f", "html", "--embed")[0] == 0
    data = base64.b64decode(page("talk.html")[1]["sound"].partition(",")[2])
    sound, written = sf.read(io.BytesIO(data))
    x, _ = sf.read("talk.wav")
    assert sf.info(io.BytesIO(data)).subtype == "OPUS"
    assert abs(len(sound) / written - len(x) / rate) < 1e-3
    at = np.arange(int(40 * len(x) / rate)) / 40  # 25 ms
    loud = [
        np.array([np.abs(y[int(t * r) : int((t + 0.025) * r)]).max() for t in at]) > 0.1
        for y, r in ((x, rate), (sound, written))
    ]
    assert (loud[0] != loud[1]).mean() < 0.1


def test_a_sound_that_is_too_long(capfd, monkeypatch):
    record()
    monkeypatch.setattr(review, "LONGEST", 1)
    code, _, err = transcribed(capfd, "talk.wav", "-f", "html", "--embed")
    assert code == 4 and "--embed takes" in error_lines(err)[0] and files_in() == ["talk.wav"]


def test_a_disk_that_is_full_of_sound(capfd, monkeypatch):
    def full(self, block):
        raise OSError(28, "No space left on device")

    record()
    monkeypatch.setattr(OpusWriter, "write", full)
    code, _, err = transcribed(capfd, "talk.wav", "-f", "html", "--embed")
    assert code == 4 and "No space left" in error_lines(err)[0] and files_in() == ["talk.wav"]


# The others


def test_files_and_standard_output_agree(capfd):
    record("my talk.wav", text=SAID + " " + SAID)
    formats = [name for name in MORE if name not in ("html", "rttm")]
    assert transcribed(capfd, "my talk.wav", "-f", ",".join(formats), "-o", "out")[0] == 0
    assert files_in("out") == [f"my talk.{name}" for name in sorted(formats)]
    heard = (SAID + " " + SAID).split()
    for name in formats:
        text, printed = (
            Path(f"out/my talk.{name}").read_text(),
            transcribed(capfd, "my talk.wav", "-f", name)[1],
        )
        if name == "eaf":  # the date and the folder that it links from differ
            assert read_eaf(text) == read_eaf(printed)
            assert [said for *_, said in read_eaf(text)["words"]] == heard
            continue
        assert printed == text
        if name == "ctm":
            lines = [line.split() for line in text.splitlines()]
            assert [line[4] for line in lines] == heard and {tuple(line[:2]) for line in lines} == {
                ("my_talk", "1")
            }
            assert all(0.5 < float(line[5]) <= 1 and len(line) == 6 for line in lines)
        elif name == "textgrid":
            xmax, tiers = read_text_grid(text)
            assert abs(xmax - sf.info("my talk.wav").duration) < 1e-6
            assert [one[2] for one in tiers["words"] if one[2]] == heard
        else:
            assert text.startswith("# my talk.wav\n\n**0:00** hello")


def test_nothing_said(capfd):
    record("zero.wav", x=np.zeros(32_000, np.float32))
    assert transcribed(capfd, "zero.wav", "-f", ",".join(MORE), "--channel", "each", "-o", "out")[0] == 0
    rows, about = page("out/zero.html")
    assert rows == [] and set(about["peaks"]) == {0}
    assert Path("out/zero.md").read_text() == "# zero.wav\n"
    assert Path("out/zero.ctm").read_text() == Path("out/zero.rttm").read_text() == ""
    assert read_eaf(Path("out/zero.eaf").read_text()) == {"segments": [], "words": []}
    silence = [(0.0, 2.0, "")]
    assert read_text_grid(Path("out/zero.textgrid").read_text())[1] == {"words": silence, "segments": silence}


def test_all_are_whispers_five(capfd):
    record()
    assert transcribed(capfd, "talk.wav", "-f", "all", "-o", "out")[0] == 0
    assert files_in("out") == [f"talk.{name}" for name in sorted(FORMATS)]
    assert json.loads(Path("out/talk.json").read_text())["text"].split() == SAID.split()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("-f", "html", "--word-timestamps", "False"), "-f html needs the times of the words"),
        (("-f", "txt,ctm", "--word-timestamps", "False"), "-f ctm needs the times of the words"),
        (("-f", "textgrid", "--word-timestamps", "False"), "-f textgrid needs the times of the words"),
        (("-f", "eaf", "--word-timestamps", "False"), "-f eaf needs the times of the words"),
        (("-f", "rttm"), "add --speakers, --separate or --channel each"),
        (("-f", "srt", "--embed"), "add -f html"),
    ],
)
def test_what_cannot_be_meant(capfd, options, told):
    record()
    code, out, err = transcribed(capfd, "talk.wav", *options)
    assert code == 2 and not out and told in error_lines(err)[0] and len(error_lines(err)) == 1


def test_a_package_that_is_missing_is_told_before_the_work(capfd, monkeypatch):
    record()
    monkeypatch.setitem(sys.modules, "pympi", None)
    code, out, err = transcribed(capfd, "talk.wav", "-f", "txt,eaf", "-o", "out")
    assert code == 2 and not out and files_in() == ["talk.wav"] and "needs the package pympi-ling" in err


# The waveform


@pytest.mark.parametrize("count", [0, 1, 64, 65, 64 * MOST, 64 * MOST + 1, 1_000_003])
def test_peaks_do_not_depend_on_blocks(count):
    x = np.random.default_rng(count).standard_normal(count).astype(np.float32)
    found = []
    for sizes in ((1 << 16,), (7, 1000, 3, 64, 50_000)):
        peaks, at = Peaks(), 0
        for i in range(count):
            if at >= count:
                break
            size = sizes[i % len(sizes)]
            peaks.push(x[at : at + size])
            at += size
        found.append(peaks.heights())
    padded = np.zeros(-(-count // peaks.step) * peaks.step, np.float32)
    padded[:count] = np.abs(x)
    loudest = padded.reshape(-1, peaks.step).max(axis=1)
    assert found[0] == found[1] == [round(100 * float(p) / float(loudest.max())) for p in loudest]
    assert len(found[0]) <= MOST and (count <= 64 * MOST or len(found[0]) > MOST // 2)
