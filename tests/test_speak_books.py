"""``slyther speak`` of books: chapters as files and as marks, subtitles, resuming, bad input."""

import json
import os
from itertools import pairwise
from pathlib import Path

import av
import epubs
import numpy as np
import pytest
import soundfile
from speak_tools import tiny_voices

from slyther_cli import speak as python_speak
from slyther_cli.app import main
from slyther_cli.audio.flac_comments import add_comments
from slyther_cli.books.reader import read_book
from slyther_cli.english.phonemes import spell
from slyther_cli.models.vall_sampling import Voicing
from slyther_cli.synthesis.word_times import time_words


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    return tiny_voices(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def at_home(monkeypatch, tmp_path, tmp_path_factory):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path)
    epubs.write(tmp_path / "book.epub", epubs.small())


def speak(voices, *arguments: object) -> int:
    return main(
        ["speak", "-m", str(voices / "aligned"), "--guard", "none", "--retries", "0", *map(str, arguments)]
    )


def chapters_in(path):
    with av.open(str(path)) as file:
        return [
            (round(c["start"] * float(c["time_base"]), 2), c["metadata"]["title"]) for c in file.chapters()
        ]


def seconds(cue):
    minutes, rest, frames = map(int, cue.split(":"))
    return 60 * minutes + rest + frames / 75


def test_each_chapter_is_a_file_that_does_not_depend_on_the_others(voices, capsys):
    assert speak(voices, "-i", "book.epub", "--chapters", "files", "-f", "flac", "--subtitles", "vtt") == 0
    said = capsys.readouterr()
    sounds = ["book/01 The Ferry.flac", "book/02 The Return.flac"]
    assert said.out.split("\n")[:-1] == [name for s in sounds for name in (s, s.replace(".flac", ".vtt"))]
    assert "1 image, 1 footnote, 1 table, 1 code block" in said.err
    assert sorted(os.listdir("book")) == sorted(os.path.basename(name) for name in said.out.split("\n")[:-1])
    with av.open(sounds[1]) as file:
        about = file.metadata
    assert (about["title"], about["album"], about["artist"]) == ("The Return", "A Small Book", "Ann Author")
    assert "made by a computer" in about["comment"]
    assert "Nobody came." in Path("book/02 The Return.vtt").read_text()
    assert speak(voices, "The Return\n\nNobody came.", "-o", "alone.flac") == 0
    assert np.array_equal(soundfile.read("alone.flac")[0], soundfile.read(sounds[1])[0])


@pytest.mark.parametrize("form", ["flac", "m4b", "wav"])
def test_marks_say_where_chapters_begin(voices, capsys, form):
    assert speak(voices, "-i", "book.epub", "-o", f"a.{form}", "--chapters", "marks", "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = [(e["start"], e["title"]) for e in events if e["event"] == "chapter"]
    assert [title for _, title in told] == ["The Ferry", "The Return"] and told[0][0] == 0 < told[1][0]
    lines = Path("a.cue").read_text().splitlines()
    assert f'FILE "a.{form}" {"MP4" if form == "m4b" else "WAVE"}' in lines
    assert "Synthetic speech" in lines[0] and 'PERFORMER "Ann Author"' in lines
    at = [seconds(line.split()[-1]) for line in lines if "INDEX" in line]
    assert at == pytest.approx([start for start, _ in told], abs=0.01)
    assert events[-1]["outputs"] == {"speech": f"a.{form}", "cue": "a.cue"}
    if form != "wav":
        assert chapters_in(f"a.{form}") == [(round(start, 2), title) for start, title in told]
        with av.open(f"a.{form}") as file:
            assert "made by a computer" in file.metadata["comment"]
            assert file.duration / 1e6 == pytest.approx(events[-1]["seconds"], abs=0.1)
    if form == "flac":  # chapters change nothing of the sound, and silence parts them
        sound, rate = soundfile.read("a.flac", dtype="int16")
        assert not sound[round((told[1][0] - 1.4) * rate) : round(told[1][0] * rate) - 1].any()
        assert speak(voices, "-i", "book.epub", "-o", "b.wav") == 0
        assert np.array_equal(sound, soundfile.read("b.wav", dtype="int16")[0])


def test_a_stopped_book_is_gone_on_with_in_both_ways(voices, monkeypatch):
    how = {
        "files": ["--chapters", "files", "-f", "flac", "--subtitles", "json"],
        "marks": ["--chapters", "marks", "-f", "flac", "--subtitles", "json"],
    }
    made: dict[str, dict[str, bytes]] = {}
    say, left = Voicing.say, [99]

    def dying(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return say(self, *arguments)

    monkeypatch.setattr(Voicing, "say", dying)
    for name, options in how.items():
        target = "out" if name == "files" else "out.flac"
        for run in ("whole", "resumed"):
            Path(name, run).mkdir(parents=True)
            monkeypatch.chdir(Path(name, run).absolute())
            base = ["-i", "../../book.epub", "-o", target, "-q", *options]
            if run == "resumed":
                left[0] = 3  # of four sentences
                assert speak(voices, *base, "--resume") == 130
                assert [p.name for p in Path().rglob("*.flac")] == ["01 The Ferry.flac"] * (name == "files")
                left[0] = 1
                assert speak(voices, *base, "--resume") == 0
                left[0] = 99
                assert speak(voices, *base, "--resume") == 0  # all is there
            else:
                assert speak(voices, *base) == 0
            made[run] = {str(p): p.read_bytes() for p in Path().rglob("*.*")}
            monkeypatch.chdir("../..")
        assert made["whole"] == made["resumed"] and len(made["whole"]) == (4 if name == "files" else 3)
        assert left == [99]


def test_words_are_shown_as_written_when_they_are_said():
    text = "— “On May 5, 1999,” he paid $3.50 — twice."
    spelling = spell(text, "arpabet")
    frames = [3] * len(spelling.symbols)
    words = time_words(text, spelling.said, spelling.symbols, frames)
    assert " ".join(word.text for word in words) == text
    assert [word.text for word in words][-2:] == ["$3.50 —", "twice."]
    assert all(a.end <= b.start for a, b in pairwise(words))
    lengths = {word.text: word.end - word.start for word in words}
    assert lengths["$3.50 —"] > 3 * lengths["he"] and words[-1].end == 3 * (len(frames) - 1)


def test_subtitles_end_within_the_sound(voices):
    text = "Hello there, all of you.\n\nThis is the second paragraph, and it is longer."
    for speed in (0.5, 2):
        options = ["--subtitles", "srt,json", "--speed", speed, "--force", "-q"]
        assert speak(voices, text, "-o", "a.wav", *options) == 0
        segments = json.loads(Path("a.json").read_text())["segments"]
        words = [word for segment in segments for word in segment["words"]]
        assert "".join(word["word"] for word in words).split() == text.split()
        assert words[0]["start"] > 0 and words[-1]["end"] <= soundfile.info("a.wav").duration
        assert all(a["end"] <= b["start"] for a, b in pairwise(words))
        assert "-->" in Path("a.srt").read_text()
    assert main(["speak", "Hi.", "-m", str(voices / "prefix"), "--subtitles", "srt", "-o", "b.wav"]) == 2
    assert not Path("b.wav").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["-i", "book.epub", "--chapters", "all"], 2, "chapters='all' is not known"),
        (["-i", "book.epub", "--subtitles", "ass"], 2, "subtitles 'ass' are not known"),
        (["-i", "book.epub", "--chapters", "files", "-o", "a.flac"], 2, "needs a folder"),
        (["-i", "book.epub", "--chapters", "marks", "-o", "-"], 2, "name a file"),
        (["-i", "book.epub", "--subtitles", "srt", "-o", "-"], 2, "name a file"),
        (["-i", "book.epub", "--chapters", "marks", "-o", "a.raw", "--raw"], 2, "carry no marks"),
        (["-i", "book.epub", "-o", "a.m4b", "--subtype", "24"], 2, "m4b holds AAC"),
        (["-i", "many.epub", "--chapters", "marks", "-o", "a.flac"], 2, "999 marks"),
        (["-i", "drm.epub"], 3, "protected against copying"),
        (["-i", "hebrew.epub"], 3, "only English is spoken"),
        (["-i", "book.epub", "-o", "there.wav", "--subtitles", "srt"], 3, "there.srt is there already"),
        (
            ["-i", "there.srt", "-o", "there.wav", "--subtitles", "srt", "--force"],
            2,
            "would replace the input",
        ),
    ],
)
def test_bad_books_are_told_in_one_line(voices, capsys, arguments, code, words):
    epubs.write(Path("many.epub"), epubs.of_documents(*(f"<h1>N {i}</h1><p>A." for i in range(1000))))
    method = "<encryption><EncryptedData><CipherReference URI='OPS/one.xhtml'/></EncryptedData></encryption>"
    epubs.write(Path("drm.epub"), epubs.small() | {"META-INF/encryption.xml": method})
    epubs.write(Path("hebrew.epub"), epubs.of_documents("<p dir='rtl'>\u05e9\u05dc\u05d5\u05dd</p>"))
    Path("there.srt").write_text("mine")
    before = sorted(os.listdir())
    assert speak(voices, *arguments) == code
    err = capsys.readouterr().err.strip()
    assert words in err and len(err.splitlines()) == 1 and sorted(os.listdir()) == before
    assert Path("there.srt").read_text() == "mine"


def test_a_chapter_without_english_is_left_out_with_a_note(voices, capsys):
    foreign = "<h1>\u05e9\u05dc\u05d5\u05dd</h1><p>\u05e9\u05dc\u05d5\u05dd</p>"
    epubs.write(Path("b.epub"), epubs.of_documents("<h1>A</h1><p>Hello.", foreign, "<h1>B</h1><p>You."))
    assert speak(voices, "-i", "b.epub", "--chapters", "files") == 0
    assert "chapters without English words, left out" in capsys.readouterr().err
    assert sorted(os.listdir("b")) == ["01 A.wav", "02 B.wav"]


def test_books_are_spoken_from_python(voices):
    events = []
    options = {"guard": "none", "chapters": "files", "subtitles": ["srt"]}
    result = python_speak(
        read_book("book.epub"), "out", voices / "aligned", on_event=events.append, **options
    )
    assert [str(path) for path in result.outputs.values()] == [
        f"out/{name}"
        for name in ("01 The Ferry.wav", "01 The Ferry.srt", "02 The Return.wav", "02 The Return.srt")
    ]
    assert [e["number"] for e in events if e["event"] == "chapter"] == [1, 2]
    left = [e["left_seconds"] for e in events if e["event"] == "sentence"]
    assert left[-1] == 0 and all(a >= 0 for a in left)


def test_the_shipped_voice_reads_a_book(capsys):
    files = epubs.of_documents("<h1>One</h1><p>Yes.</p>", "<h1>Two</h1><p>No.</p>")
    epubs.write(Path("b.epub"), files)
    assert main(["speak", "-i", "b.epub", "-o", "b.flac", "--chapters", "marks", "--subtitles", "srt"]) == 0
    assert [title for _, title in chapters_in("b.flac")] == ["One", "Two"]
    assert [
        line for line in Path("b.srt").read_text().splitlines() if line.isalpha() or line[-1:] == "."
    ] == [*("One", "Yes.", "Two", "No.")]


def test_comments_are_added_to_a_flac_file_and_the_sound_stays(tmp_path):
    sound = np.random.default_rng(0).integers(-9999, 9999, 3_000_000).astype(np.int16)
    soundfile.write("a.flac", sound, 16000)
    with open("a.flac", "r+b", buffering=0) as file:
        add_comments(file, ["CHAPTER001=00:00:00.000", "CHAPTER001NAME=Käse" * 1000])
    assert np.array_equal(soundfile.read("a.flac", dtype="int16")[0], sound)
    assert chapters_in("a.flac")[0][1].startswith("Käse")
    with open("book.epub", "r+b", buffering=0) as file, pytest.raises(OSError):
        add_comments(file, ["A=b"])
