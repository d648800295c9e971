"""Writers against golden strings made with openai/whisper 20250625; files appear whole or not at all.

(The same writers were compared with whisper's on 4000 random transcripts and options: 20,000 equal files.)
"""

import json
import os
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import rendered

from slyther_cli.decode import annotations, formats, subtitles, transcript
from slyther_cli.decode.formats import FORMATS, chosen_formats
from slyther_cli.decode.subtitles import timestamp
from slyther_cli.decode.transcript import TranscriptWriter
from slyther_cli.errors import OutputError, UsageError


def segment(index, text, *words, **more):
    """A segment as whisper has it; words of (text, start, end)."""
    words = [{"word": w, "start": a, "end": b, "probability": 0.5} for w, a, b in words]
    return {
        "id": index, "seek": 0, "start": words[0]["start"], "end": words[-1]["end"], "text": text,
        "tokens": [7, 8], "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": 1.5,
        "no_speech_prob": 0.0, "words": words, **more,
    }  # fmt: skip


WORDS = [
    segment(0, " Hello wide\tworld,", (" Hello", 0.0, 0.5), (" wide\tworld,", 0.62, 1.0006)),
    segment(1, " it is é.", (" it", 3598.0, 3598.5), (" is", 3598.5, 3599.0), (" é.", 3600.25, 3601.0)),
]
PLAIN = [{key: value for key, value in one.items() if key != "words"} for one in WORDS]
PLAIN[1]["text"] = " a --> b"

GOLDEN_PLAIN = {
    "txt": "Hello wide\tworld,\na --> b\n",
    "srt": "1\n00:00:00,000 --> 00:00:01,001\nHello wide\tworld,\n\n"
    "2\n00:59:58,000 --> 01:00:01,000\na -> b\n\n",
    "vtt": "WEBVTT\n\n00:00.000 --> 00:01.001\nHello wide\tworld,\n\n59:58.000 --> 01:00:01.000\na -> b\n\n",
    "tsv": "start\tend\ttext\n0\t1001\tHello wide world,\n3598000\t3601000\ta --> b\n",
    "json": '{"text": " Hello wide\\tworld, a --> b", "segments": [{"id": 0, "seek": 0, "start": 0.0, "end": '
    '1.0006, "text": " Hello wide\\tworld,", "tokens": [7, 8], "temperature": 0.0, "avg_logprob": -0.25, '
    '"compression_ratio": 1.5, "no_speech_prob": 0.0}, {"id": 1, "seek": 0, "start": 3598.0, "end": 3601.0, '
    '"text": " a --> b", "tokens": [7, 8], "temperature": 0.0, "avg_logprob": -0.25, "compression_ratio": '
    '1.5, "no_speech_prob": 0.0}], "language": "en"}',
}
GOLDEN_HIGHLIGHT = (
    "1\n00:00:00,000 --> 00:00:00,500\n<u>Hello</u> wide\tworld,\n\n"
    "2\n00:00:00,500 --> 00:00:00,620\nHello wide\tworld,\n\n"
    "3\n00:00:00,620 --> 00:00:01,001\nHello <u>wide\tworld,</u>\n\n"
    "4\n00:59:58,000 --> 00:59:58,500\n<u>it</u> is é.\n\n"
    "5\n00:59:58,500 --> 00:59:59,000\nit <u>is</u> é.\n\n"
    "6\n00:59:59,000 --> 01:00:00,250\nit is é.\n\n"
    "7\n01:00:00,250 --> 01:00:01,000\nit is <u>é.</u>\n\n"
)
GOLDEN_LINES = (
    "WEBVTT\n\n00:00.000 --> 00:01.001\nHello\nwide\tworld,\n\n59:58.000 --> 01:00:01.000\nit is\né.\n\n"
)
GOLDEN_SINGLE = (
    "1\n00:00:00,000 --> 00:00:00,500\nHello\n\n2\n00:00:00,620 --> 00:00:01,001\nwide\tworld,\n\n"
    "3\n00:59:58,000 --> 00:59:58,500\nit\n\n4\n00:59:58,500 --> 00:59:59,000\nis\n\n"
    "5\n01:00:00,250 --> 01:00:01,000\né.\n\n"
)


def text(name, segments, **options):
    return rendered(name, segments, **options)


@pytest.mark.parametrize("name", FORMATS)
def test_segments_as_whisper_writes_them(name):
    assert text(name, PLAIN) == GOLDEN_PLAIN[name]


@pytest.mark.parametrize(
    ("name", "options", "golden"),
    [
        ("srt", {"highlight_words": True}, GOLDEN_HIGHLIGHT),
        ("vtt", {"max_line_width": 7, "max_line_count": 2}, GOLDEN_LINES),
        ("srt", {"max_words_per_line": 1}, GOLDEN_SINGLE),
    ],
)
def test_words_as_whisper_lays_them_out(name, options, golden):
    assert text(name, WORDS, **options) == golden


def test_no_segments():
    assert [text(name, []) for name in FORMATS] == [
        "", "WEBVTT\n\n", "", "start\tend\ttext\n", '{"text": "", "segments": [], "language": "en"}',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "lines"),
    [
        ([(0, "One."), (2.4, "Two.")], ["One.", "Two."]),
        ([(0, "One."), (2.5, "Two.")], ["One.", "", "Two."]),  # 1.5 s of silence
        ([(0, "One"), (9, "two."), (11, '"Three!"'), (20, "Four")], ["One", "two.", '"Three!"', "", "Four"]),
        ([(0, "At 9 a.m."), (9, "on May 2.")], ["At 9 a.m.", "on May 2."]),
        ([(0, "At 9 a.m."), (9, "On May 2.")], ["At 9 a.m.", "", "On May 2."]),
        ([(0, "One.", "S1"), (1, "Two.", "S2")], ["[S1] One.", "", "[S2] Two."]),
        ([(0, "One", "S1"), (1, "two.", "S2")], ["[S1] One", "[S2] two."]),  # at once, in mid-sentence
        ([(i, 199 * "x" + ".") for i in range(4)], [*[199 * "x" + "."] * 3, "", 199 * "x" + "."]),
    ],
)
def test_empty_lines_part_paragraphs_of_sentences(said, lines):
    talk = [
        segment(i, f" {words}", (f" {words}", start, start + 1), **({"speaker": who[0]} if who else {}))
        for i, (start, words, *who) in enumerate(said)
    ]
    assert text("txt", talk).splitlines() == lines
    assert text("txt", talk, plain=True).splitlines() == [line for line in lines if line]


def test_arrows_go_also_from_words_and_a_long_pause_parts_lines():
    one = segment(0, " a --> b c", (" a", 0, 1), (" -->", 1, 2), (" b", 2, 3), (" c", 6, 7))
    assert text("srt", [one], max_line_width=20, max_line_count=2) == (
        "1\n00:00:00,000 --> 00:00:03,000\na -> b\n\n2\n00:00:06,000 --> 00:00:07,000\nc\n\n"
    )


def test_speakers_are_labelled_and_never_share_a_cue():
    talk = [
        segment(0, " one two", (" one", 0, 1), (" two", 1, 2), speaker="S1"),
        segment(1, " three", (" three", 2, 3), speaker="S2"),
    ]
    assert text("txt", talk) == "[S1] one two\n[S2] three\n"
    assert text("tsv", talk).splitlines()[1:] == ["0\t2000\t[S1] one two", "2000\t3000\t[S2] three"]
    assert text("srt", talk, max_line_width=8, max_line_count=4) == (
        "1\n00:00:00,000 --> 00:00:02,000\n[S1] one\ntwo\n\n2\n00:00:02,000 --> 00:00:03,000\n[S2] three\n\n"
    )
    assert "[S1] one <u>two</u>" in text("vtt", talk, highlight_words=True)
    data = json.loads(text("json", talk))
    assert data["text"] == " one two three"
    assert [one["speaker"] for one in data["segments"]] == ["S1", "S2"]


def test_a_speakers_name_is_shown_as_it_is_and_ends_no_cue():
    talk = [segment(0, " hi", (" hi", 0, 1), speaker="<script> --> A&amp;B")]
    assert "\n[<script> -> A&amp;B] hi\n" in text("srt", talk)
    assert "\n[&lt;script> -> A&amp;amp;B] hi\n" in text("vtt", talk)


LAYOUTS = [
    {}, {"max_words_per_line": 1}, {"max_line_width": 3, "max_line_count": 1}, {"highlight_words": True},
    {"max_line_width": 6, "max_line_count": 2, "highlight_words": True},
]  # fmt: skip
turns = st.lists(
    st.tuples(st.sampled_from(["S1", "S2", "S3"]), st.integers(0, 9), st.integers(1, 6)), max_size=20
)


def talk(turns):
    """Segments of several speakers, each in order of time for itself, all by their start."""
    at, found = dict.fromkeys(("S1", "S2", "S3"), 0), []
    for speaker, gap, count in turns:
        first = at[speaker] + gap
        words = [(f" {speaker.lower()}w{first + i}", first + i, first + i + 0.75) for i in range(count)]
        at[speaker] = first + count
        found.append(segment(0, "".join(word[0] for word in words), *words, speaker=speaker))
    return sorted(found, key=lambda one: one["start"])


@pytest.mark.parametrize("options", LAYOUTS)
@given(turns)
@settings(max_examples=60)
def test_cues_of_several_speakers_are_in_order(options, turns):
    found = talk(turns)
    blocks = text("srt", found, **options).split("\n\n")[:-1]
    starts = [block.split("\n")[1].split(" ")[0] for block in blocks]
    assert starts == sorted(starts)
    assert [block.split("\n")[0] for block in blocks] == [str(i + 1) for i in range(len(blocks))]
    if not options.get("highlight_words"):
        said = " ".join(line for block in blocks for line in block.split("\n")[2:]).split()
        words = [word["word"].strip() for one in found for word in one["words"]]
        assert sorted(word for word in said if word[0] != "[") == sorted(words)


def test_a_cue_waits_only_for_other_speakers():
    one = segment(0, " a b", (" a", 0, 1), (" b", 2, 3))
    form = formats.make_format("srt", max_words_per_line=1)
    assert form.add(one).count("-->") == 1  # the other is open
    talk = formats.make_format("vtt", max_words_per_line=1)
    first = talk.add(one | {"speaker": "S1"})
    second = talk.add(segment(1, " c", (" c", 1, 5), speaker="S2"))
    assert first.count("-->") == 1 and second == ""  # c is open, and begins before b
    assert [line for piece in talk.tail() for line in piece.split("\n") if line[:1] == "["] == [
        "[S2] c",
        "[S1] b",
    ]


@given(st.integers(0, 400_000_000))
@settings(max_examples=100)
def test_timestamps_read_back(milliseconds):
    for hours in (True, False):
        shown = timestamp(milliseconds / 1000, hours=hours, mark=".")
        parts = [float(part) for part in shown.split(":")]
        assert len(parts) == (3 if hours or milliseconds >= 3_600_000 else 2)
        assert sum(part * 60**i for i, part in enumerate(reversed(parts))) == pytest.approx(
            milliseconds / 1000, abs=1e-4
        )
    with pytest.raises(ValueError, match="negative"):
        timestamp(-milliseconds - 1, hours=True, mark=",")


# ---- files ------------------------------------------------------------------------------------


def named(folder, stem, names):
    """Format -> its file, as whisper names them."""
    return {name: folder / f"{stem}.{name}" for name in chosen_formats(names)}


def write(paths, segments=PLAIN, **options):
    with TranscriptWriter(paths, **options) as writer:
        for one in segments:
            writer.write(one)
        writer.commit()


def test_all_formats_under_whispers_names(tmp_path):
    paths = named(tmp_path / "new" / "out", "talk.part1", ["all"])
    write(paths)
    found = {path.name: path.read_bytes().decode() for path in (tmp_path / "new" / "out").iterdir()}
    assert found == {f"talk.part1.{name}": GOLDEN_PLAIN[name] for name in FORMATS}
    assert chosen_formats(["json", "all", "txt"]) == ["json", "txt", "vtt", "srt", "tsv"]
    with pytest.raises(UsageError, match="'ass' is not known"):
        chosen_formats(["ass"])


def test_nothing_appears_before_commit_or_after_a_failure(tmp_path):
    old = tmp_path / "a.srt"
    old.write_text("old")
    paths = named(tmp_path, "a", ["srt", "json"])
    with TranscriptWriter(paths) as writer:
        writer.write(PLAIN[0])
        assert not (tmp_path / "a.json").exists() and old.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.srt"]
    with pytest.raises(KeyError), TranscriptWriter(paths) as writer:
        writer.write({"text": "no times"})
    assert os.listdir(tmp_path) == ["a.srt"] and old.read_text() == "old"
    with pytest.raises(ValueError, match="after"):
        writer.commit()
    write(paths)
    assert old.read_text() == GOLDEN_PLAIN["srt"]


def test_renaming_fails_halfway(tmp_path, monkeypatch):
    paths = named(tmp_path, "a", ["txt", "srt"])
    replace = os.replace

    def failing(source, target):
        if str(target).endswith("srt"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(transcript.os, "replace", failing)
    with pytest.raises(OutputError, match="no space left on the disk"):
        write(paths)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    class Full(subtitles.Txt):
        def add(self, segment):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(transcript, "make_format", lambda *_, **__: Full())
    with pytest.raises(OutputError, match=r"a.txt cannot be written: no space left on the disk"):
        write(named(tmp_path, "a", ["txt"]))
    assert os.listdir(tmp_path) == []


def test_outputs_in_the_way(tmp_path):
    (tmp_path / "a.txt").mkdir()
    for paths in ({"txt": tmp_path / "a.txt"}, {"srt": tmp_path / "a.srt", "txt": tmp_path / "a.txt"}):
        with pytest.raises(OutputError, match="no ordinary file"):
            TranscriptWriter(paths)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        TranscriptWriter({"txt": tmp_path / "file" / "a.txt"})
    with pytest.raises(UsageError, match="same file"):
        TranscriptWriter({"txt": tmp_path / "b", "srt": tmp_path / "b"})
    assert sorted(os.listdir(tmp_path)) == ["a.txt", "file"]


def test_memory_does_not_grow_with_the_transcript(tmp_path, monkeypatch):
    """What the writers hold, whatever tests before this one left to be done elsewhere in the process."""
    for module in (subtitles, annotations):
        monkeypatch.setattr(module, "WAITING", 2**16)
    ours = tracemalloc.Filter(True, "*/slyther_cli/decode/*", all_frames=True)
    bounded = [name for name in formats.MORE if name != "eaf"]  # pympi holds the whole document
    paths = named(tmp_path, "a", ["all", *bounded])
    with TranscriptWriter(paths, max_line_width=20) as writer:
        for _ in range(300):
            writer.write(WORDS[0])
        tracemalloc.start(10)  # frames: also what json or a file allocates on behalf of the writers
        try:
            for _ in range(1500):
                writer.write(WORDS[0])
            held = tracemalloc.take_snapshot().filter_traces([ours])
        finally:
            tracemalloc.stop()
        writer.commit()
    assert sum(trace.size for trace in held.traces) < 400_000  # buffers of ten files; 1.5 MB waited
    assert len(json.loads((tmp_path / "a.json").read_text())["segments"]) == 1800
