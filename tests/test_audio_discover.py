"""Arguments to inputs, templates to outputs."""

import os
from pathlib import Path

import pytest

from slyther_cli.audio.discover import (
    check_collisions,
    check_extension,
    check_target,
    expand_inputs,
    output_paths,
    render_template,
    shown,
)
from slyther_cli.errors import OutputError, UsageError


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in (
        "b.wav",
        "a.FLAC",
        "notes.txt",
        "sub/c.mp3",
        "sub/deep/d.ogg",
        ".hidden/x.wav",
        "sub/.y.wav",
        "[1].wav",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "none").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_folder_is_walked_sorted_without_hidden_and_foreign_files(tree):
    assert expand_inputs(["."]) == [
        Path(p) for p in ("[1].wav", "a.FLAC", "b.wav", "sub/c.mp3", "sub/deep/d.ogg")
    ]


def test_a_folder_gives_films_and_what_begins_like_sound(tmp_path):
    """Also what cannot be read: whoever opens it says so."""
    for name in ("memo.m4a", "call.AMR", "zoom.mp4", "x.pcm", "code.ts", "notes.txt", "photo.jpg"):
        (tmp_path / name).write_bytes(b"const a = 1;\n" * 40)
    (tmp_path / "cast.ts").write_bytes((b"G" + bytes(187)) * 4)
    (tmp_path / "recording").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(99))
    (tmp_path / "Makefile").write_bytes(b"all:\n")
    found = [path.name for path in expand_inputs([str(tmp_path)])]
    assert found == ["call.AMR", "cast.ts", "memo.m4a", "recording", "x.pcm", "zoom.mp4"]


def test_order_stays_and_duplicates_go(tree):
    got = expand_inputs(["sub/c.mp3", "-", "b.wav", "./b.wav", str(tree / "b.wav"), "-", "sub"])
    assert got == [Path("sub/c.mp3"), "-", Path("b.wav"), Path("sub/deep/d.ogg")]


def test_globs(tree):
    assert expand_inputs(["*.wav"]) == [Path("[1].wav"), Path("b.wav")]
    assert expand_inputs(["**/*.ogg"]) == [Path("sub/deep/d.ogg")]
    assert expand_inputs(["su*"]) == [Path("sub/c.mp3"), Path("sub/deep/d.ogg")]
    assert expand_inputs(["[1].wav"]) == [Path("[1].wav")]  # a real name goes before a pattern


def test_what_matches_nothing_is_kept(tree):
    assert expand_inputs(["*.w64", "missing.wav", "none"]) == [
        Path("*.w64"),
        Path("missing.wav"),
        Path("none"),
    ]
    assert expand_inputs(["notes.txt"]) == [Path("notes.txt")]


def test_empty_name_is_not_the_current_folder(tree):
    with pytest.raises(UsageError, match="empty"):
        expand_inputs([""])


def test_template():
    assert render_template("{track}_{stem}.{ext}", track="mix", stem="s1", ext="wav") == Path("mix_s1.wav")
    assert render_template("{track}/{{x}}{stem}", track="a..b", stem=1) == Path("a..b/{x}1")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{nope}", r"\{nope\}.*known are \{track\}"),
        ("{}", "not known"),
        ("{track.parent}", "not known"),
        ("{track!r}", "not known"),
        ("{track:>9}", "not known"),
        ("{track", "malformed"),
        ("../{track}", "outside"),
        ("a/../../{track}", "outside"),
        ("a\\..\\{track}", "outside"),
        ("/tmp/{track}", "outside"),
        ("C:{track}", "outside"),
        ("\\\\host\\share\\{track}", "outside"),
        ("{track}\0", "outside"),
        ("", "no file"),
        ("{track}/", "no file"),
        (".", "no file"),
    ],
)
def test_bad_templates(template, says):
    with pytest.raises(UsageError, match=says) as error:
        render_template(template, track="mix")
    assert "\n" not in str(error.value)


def test_values_cannot_leave_the_folder_either():
    for value in ("../../etc/passwd", "/etc/passwd", ".."):
        with pytest.raises(UsageError, match="outside"):
            render_template("{track}", track=value)


def test_output_paths():
    got = output_paths("{model}/{track}_{stem}.wav", "out", ["s1", "s2"], track="x", model="m")
    assert got == [Path("out/m/x_s1.wav"), Path("out/m/x_s2.wav")]
    with pytest.raises(UsageError, match=r"use \{stem\}"):
        output_paths("{track}.wav", "out", ["s1", "s2"], track="x")


def test_collisions(tmp_path):
    check_collisions([("a/x.wav", "out/x_s1.wav"), ("a/x.wav", "out/x_s2.wav"), ("-", "out/stdin.wav")])
    with pytest.raises(
        UsageError, match=r"a/x\.wav and b/x\.wav would be written to the same file .*\{parent\}"
    ):
        check_collisions([("a/x.wav", "out/x.wav"), ("b/x.wav", "out/../out/x.wav")])
    with pytest.raises(UsageError, match=r"would replace the input a\.wav"):
        check_collisions([("b.wav", "out/b.wav"), ("a.wav", "./a.wav")])
    (tmp_path / "in.wav").touch()
    os.symlink(tmp_path / "in.wav", tmp_path / "link.wav")
    with pytest.raises(UsageError, match="would replace the input"):
        check_collisions([(tmp_path / "in.wav", tmp_path / "link.wav")])


def test_a_single_output_replaces_no_input_folder_or_device(tmp_path):
    source = tmp_path / "in.txt"
    source.touch()
    os.symlink(source, tmp_path / "link")
    for target in (source, tmp_path / "x" / ".." / "in.txt", tmp_path / "link"):
        with pytest.raises(UsageError, match="would replace the input"):
            check_target(target, tmp_path / "other", source)
    for target, says in ((tmp_path, "folder"), ("/dev/null", "device")):
        with pytest.raises(OutputError, match=says):
            check_target(target, source)
    check_target(tmp_path / "new.wav", source)
    check_target(tmp_path / "link")  # without sources, what is there is another's business


@pytest.mark.parametrize(("name", "format", "fits"), [
    ("a.wav", "wav", True), ("a.WAV", "wav", True), ("a.rf64", "wav", True), ("a", "wav", True),
    ("a.part1", "flac", True), ("a.flac", "flac", True), ("a.flac", "wav", False), ("a.wav", "flac", False),
    ("a.mp3", "wav", False), ("a.m4a", "flac", False), ("a.raw", "wav", False),
])  # fmt: skip
def test_a_name_does_not_promise_another_format(name, format, fits):
    if fits:
        check_extension(Path(name), format)
    else:
        with pytest.raises(UsageError, match=rf"end it in \.{format}"):
            check_extension(Path(name), format)


def test_shown_is_one_printable_line():
    assert shown("a\nb\x1b[31m.wav") == "a\\nb\\x1b[31m.wav"
    assert shown(os.fsdecode(b"\xff.wav")).isprintable()
    assert shown(Path("naïve 日本.wav")) == "naïve 日本.wav"
