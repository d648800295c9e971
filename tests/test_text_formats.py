"""Markdown, CTM, RTTM and TextGrid against what is written by hand, and read back."""

import itertools
import re

import pytest
from tools import rendered

from slyther_cli.decode.formats import FORMATS, chosen_formats, make_format
from slyther_cli.decode.recording import Recording
from slyther_cli.errors import UsageError

TALK = Recording("calls/my talk.wav", seconds=4.5)


def segment(start, *words, speaker=None):
    """A segment of words of (text, end), each from where the one before ends; probability 0.5."""
    rows, at = [], start
    for text, end in words:
        rows.append({"word": f" {text}", "start": at, "end": end, "probability": 0.5})
        at = end
    text = "".join(word["word"] for word in rows)
    return {"start": start, "end": at, "text": text, "words": rows} | (
        {"speaker": speaker} if speaker else {}
    )


ALONE = [segment(0.5, ("hello", 1.0), ('"all"', 1.25)), segment(3.0, ("deal", 3.4))]
PAIR = [
    segment(0.0, ("one", 0.5), ("two", 1.0), speaker="S2"),
    segment(0.75, ("three", 1.5), speaker="S1"),
    segment(1.25, ("four", 2.0), speaker="S2"),
    segment(3.0, ("five", 3.5), speaker="S2"),
]


def text(name, segments, recording=TALK):
    return rendered(name, segments, recording=recording)


def test_names():
    assert chosen_formats(["all"]) == list(FORMATS) == ["txt", "vtt", "srt", "tsv", "json"]
    assert chosen_formats(["html", "all", "ctm"]) == ["html", *FORMATS, "ctm"]
    with pytest.raises(UsageError, match="not known: txt, vtt, srt, tsv, json, all, html, md"):
        chosen_formats(["ass"])
    with pytest.raises(UsageError, match="not known"):
        make_format("ass")


# Markdown


def test_paragraphs():
    assert text("md", ALONE) == '# my talk.wav\n\n**0:00** hello "all"\n\n**0:03** deal\n'
    assert text("md", PAIR) == (
        "# my talk.wav\n\n## S2\n\n**0:00** one two\n\n## S1\n\n**0:00** three\n\n"
        "## S2\n\n**0:01** four five\n"
    )
    assert text("md", []) == "# my talk.wav\n"
    assert text("md", [segment(3725, ("late", 3726))], Recording()) == (
        "# standard input\n\n**1:02:05** late\n"
    )


def test_long_paragraphs_end_with_a_sentence_or_for_their_length():
    def paragraphs(end):
        rows = [segment(i, (f"{'x' * 98}{end}", i + 1)) for i in range(24)]
        return [part.count("x" * 98) for part in text("md", rows).split("\n\n")[1:]]

    assert paragraphs(".") == [7, 7, 7, 3]
    assert paragraphs(',"') == [12, 12]


def test_a_heading_keeps_its_last_signs():
    assert "\n## C \\#\\#\n" in text("md", [segment(0, ("hi", 1), speaker="C ##")])


def test_markdown_is_escaped():
    hostile = segment(0, ("*a*", 1), ("<b>", 1), ("[c](d)", 1), ("AT&T", 1), ("&lt;", 1), ("`_|~\\", 1))
    assert text("md", [hostile], Recording("a\n# *b*.wav")) == (
        "# a\\\\n# \\*b\\*.wav\n\n**0:00** \\*a\\* \\<b> \\[c\\](d) AT&T \\&lt; \\`\\_\\|\\~\\\\\n"
    )


# CTM


def test_ctm_columns():
    assert text("ctm", ALONE).splitlines() == [
        "my_talk 1 0.500 0.500 hello 0.500",
        'my_talk 1 1.000 0.250 "all" 0.500',
        "my_talk 1 3.000 0.400 deal 0.500",
    ]
    assert text("ctm", []) == ""


def test_ctm_is_sorted_by_speaker_as_channel():
    lines = [line.split() for line in text("ctm", PAIR).splitlines()]
    assert [(line[1], float(line[2]), line[4]) for line in lines] == [
        ("S1", 0.75, "three"), ("S2", 0.0, "one"), ("S2", 0.5, "two"), ("S2", 1.25, "four"),
        ("S2", 3.0, "five"),
    ]  # fmt: skip
    many = [segment(i, ("a", i + 1), speaker=f"S{10 - i}") for i in range(10)]
    assert [line.split()[1] for line in text("ctm", many).splitlines()] == [f"S{i}" for i in range(1, 11)]


def test_a_word_with_spaces_is_several_words():
    lines = text("ctm", [segment(1, ("9:45 a.m.", 2), ("x", 3), speaker="Ann Lee")]).splitlines()
    assert lines == [
        "my_talk Ann_Lee 1.000 0.500 9:45 0.500", "my_talk Ann_Lee 1.500 0.500 a.m. 0.500",
        "my_talk Ann_Lee 2.000 1.000 x 0.500",
    ]  # fmt: skip


def test_a_dash_is_no_word_of_ctm():
    lines = text("ctm", [segment(1, ("house –", 2), ("–", 3))]).splitlines()
    assert lines == ["my_talk 1 1.000 1.000 house 0.500", "my_talk 1 2.000 1.000 – 0.500"]


# RTTM


def test_turns():
    assert text("rttm", PAIR).splitlines() == [
        "SPEAKER my_talk 1 0.000 2.000 <NA> <NA> S2 <NA> <NA>",
        "SPEAKER my_talk 1 0.750 0.750 <NA> <NA> S1 <NA> <NA>",
        "SPEAKER my_talk 1 3.000 0.500 <NA> <NA> S2 <NA> <NA>",
    ]
    assert text("rttm", ALONE).splitlines() == [
        "SPEAKER my_talk 1 0.500 0.750 <NA> <NA> S1 <NA> <NA>",
        "SPEAKER my_talk 1 3.000 0.400 <NA> <NA> S1 <NA> <NA>",
    ]
    assert text("rttm", []) == ""


def test_turns_come_while_the_talk_goes_on():
    form = make_format("rttm", recording=TALK)
    talk = [segment(10 * i, ("a", 10 * i + 2), speaker=f"S{i % 2 + 1}") for i in range(50)]
    assert form.add(talk[0]) == ""
    assert all(form.add(one).count("\n") == 1 for one in talk[1:])


# TextGrid


def read_text_grid(data):
    """(xmax, {tier: [(start, end, text)]}) of Praat's long format; every number of things is checked."""
    values = re.findall(r'"(?:[^"]|"")*"|<exists>|(?<== )[\d.]+', data)
    it = iter(values)
    assert next(it) == '"ooTextFile"' and next(it) == '"TextGrid"' and float(next(it)) == 0
    xmax, exists, size = float(next(it)), next(it), int(next(it))
    assert exists == "<exists>"
    tiers = {}
    for _ in range(size):
        kind, name = next(it), next(it)[1:-1].replace('""', '"')
        assert kind == '"IntervalTier"' and float(next(it)) == 0 and float(next(it)) == xmax
        tiers[name] = [
            (float(next(it)), float(next(it)), next(it)[1:-1].replace('""', '"'))
            for _ in range(int(next(it)))
        ]
    assert next(it, None) is None
    for intervals in tiers.values():
        ends = [0.0, *(end for _, end, _ in intervals)]
        assert [start for start, _, _ in intervals] == ends[:-1] and ends[-1] == xmax
        assert all(start < end for start, end, _ in intervals)
    return xmax, tiers


def grid(*args):
    data = text("textgrid", *args)
    counts = [int(n) for n in re.findall(r"intervals \[(\d+)\]:", data)]
    assert all(b in (a + 1, 1) for a, b in itertools.pairwise(counts))
    return read_text_grid(data)


def test_text_grid():
    xmax, tiers = grid(ALONE)
    assert xmax == 4.5 and list(tiers) == ["words", "segments"]
    assert tiers["words"] == [
        (0, 0.5, ""), (0.5, 1, "hello"), (1, 1.25, '"all"'), (1.25, 3, ""), (3, 3.4, "deal"), (3.4, 4.5, ""),
    ]  # fmt: skip
    assert [one for one in tiers["segments"] if one[2]] == [(0.5, 1.25, 'hello "all"'), (3, 3.4, "deal")]
    assert text("textgrid", ALONE).startswith(
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 4.5\ntiers? <exists>\n'
        'size = 2\nitem []:\n    item [1]:\n        class = "IntervalTier"\n        name = "words"\n'
        "        xmin = 0\n        xmax = 4.5\n        intervals: size = 6\n        intervals [1]:\n"
        '            xmin = 0\n            xmax = 0.5\n            text = ""\n'
    )
    assert 'text = """all"""\n' in text("textgrid", ALONE)


def test_text_grid_of_speakers():
    tiers = grid(PAIR)[1]
    assert list(tiers) == ["S1 words", "S1 segments", "S2 words", "S2 segments"]
    assert [one[2] for one in tiers["S2 segments"] if one[2]] == ["one two", "four", "five"]
    assert tiers["S1 words"] == [(0, 0.75, ""), (0.75, 1.5, "three"), (1.5, 4.5, "")]


def test_text_grid_of_nothing_and_of_words_without_length():
    assert grid([]) == (4.5, {name: [(0, 4.5, "")] for name in ("words", "segments")})
    assert grid([], Recording())[0] == 0.001
    xmax, tiers = grid([segment(1, ("a", 1), ("b", 1), ("c", 2))], Recording())
    assert xmax == 2 and [one[2] for one in tiers["words"]] == ["", "a", "b", "c"]
    assert grid([segment(1, ("a", 1), ("b", 1))], Recording())[0] == 1.002
