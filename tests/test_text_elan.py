"""ELAN's format: what its schema asks for is there, and what is read back is what was said."""

import datetime
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from test_text_formats import ALONE, PAIR, segment
from tools import rendered

from slyther_cli.decode.recording import Recording
from slyther_cli.errors import UsageError

TALK = Recording("calls/my talk.wav", seconds=4.5)
ORDER = ["HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "CONSTRAINT"]  # as the schema has it
REQUIRED = {
    "ANNOTATION_DOCUMENT": {"AUTHOR", "DATE", "FORMAT", "VERSION"},
    "MEDIA_DESCRIPTOR": {"MEDIA_URL", "MIME_TYPE"},
    "TIME_SLOT": {"TIME_SLOT_ID", "TIME_VALUE"},
    "TIER": {"TIER_ID", "LINGUISTIC_TYPE_REF"},
    "ALIGNABLE_ANNOTATION": {"ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2"},
    "LINGUISTIC_TYPE": {"LINGUISTIC_TYPE_ID"},
    "CONSTRAINT": {"STEREOTYPE"},
}


def write(segments, recording=TALK, folder=Path("out")):
    return rendered("eaf", segments, recording=recording, folder=folder)


def read(data):
    """{tier: [(start, end, text)]} in milliseconds; what the schema and ELAN ask for is checked."""
    root = ET.fromstring(data)
    assert root.tag == "ANNOTATION_DOCUMENT"
    places = [ORDER.index(child.tag) for child in root]
    assert places == sorted(places) and set(places) == set(range(5))
    for element in root.iter():
        assert REQUIRED.get(element.tag, set()) <= element.attrib.keys()
    made = datetime.datetime.fromisoformat(root.get("DATE"))
    assert made.tzinfo and abs((datetime.datetime.now(datetime.UTC) - made).total_seconds()) < 600
    assert root.find("HEADER").attrib == {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"}
    ids = [
        one.get(name) for name in ("TIME_SLOT_ID", "ANNOTATION_ID") for one in root.iter() if one.get(name)
    ]
    assert len(ids) == len(set(ids))
    slots = {one.get("TIME_SLOT_ID"): int(one.get("TIME_VALUE")) for one in root.iter("TIME_SLOT")}
    types = {one.get("LINGUISTIC_TYPE_ID"): one.get("CONSTRAINTS") for one in root.iter("LINGUISTIC_TYPE")}
    assert types == {"segments": None, "words": "Included_In"}
    assert "Included_In" in {one.get("STEREOTYPE") for one in root.iter("CONSTRAINT")}
    tiers, parents = {}, {}
    for tier in root.iter("TIER"):
        name = tier.get("TIER_ID")
        assert name not in tiers and tier.get("LINGUISTIC_TYPE_REF") in types
        parents[name] = tier.get("PARENT_REF")
        tiers[name] = [
            (
                slots[one.get("TIME_SLOT_REF1")],
                slots[one.get("TIME_SLOT_REF2")],
                one.findtext("ANNOTATION_VALUE"),
            )
            for one in tier.iterfind("ANNOTATION/ALIGNABLE_ANNOTATION")
        ]
        ends = [0, *(end for _, end, _ in tiers[name])]
        assert all(at <= start < end for at, (start, end, _) in zip(ends, tiers[name], strict=False))
    for name, parent in parents.items():
        assert (parent is None) == name.endswith("segments")
        spans = tiers[parent] if parent else tiers[name]
        assert all(any(a <= start and end <= b for a, b, _ in spans) for start, end, _ in tiers[name])
    return tiers


def test_a_voice():
    assert read(write(ALONE)) == {
        "segments": [(500, 1250, 'hello "all"'), (3000, 3400, "deal")],
        "words": [(500, 1000, "hello"), (1000, 1250, '"all"'), (3000, 3400, "deal")],
    }
    assert read(write([])) == {"segments": [], "words": []}


def test_speakers():
    data = write(PAIR)
    tiers = read(data)
    assert list(tiers) == ["S2 segments", "S2 words", "S1 segments", "S1 words"]
    assert tiers["S1 words"] == tiers["S1 segments"] == [(750, 1500, "three")]
    assert [text for *_, text in tiers["S2 segments"]] == ["one two", "four", "five"]
    people = [one.get("PARTICIPANT") for one in ET.fromstring(data).iter("TIER")]
    assert people == ["S2", "S2", "S1", "S1"]
    assert "PARTICIPANT" not in write(ALONE)


def test_words_without_length_get_some():
    rows = [segment(1, ("a", 1), ("b", 1), ("c", 1.0004)), segment(1.0004, ("d", 1.0004))]
    assert read(write(rows)) == {
        "segments": [(1000, 1003, "a b c"), (1003, 1004, "d")],
        "words": [(1000, 1001, "a"), (1001, 1002, "b"), (1002, 1003, "c"), (1003, 1004, "d")],
    }


def test_everything_is_escaped():
    hostile = "</ANNOTATION_VALUE><x a=\"1\" b='2'>&amp;]]>\0\x1b\ud800\ufffe дом 🙂"
    safe = (
        hostile.replace("\0", "\ufffd")
        .replace("\x1b", "\ufffd")
        .replace("\ud800", "\ufffd")
        .replace("\ufffe", "\ufffd")
    )
    rows = [segment(0, (hostile, 1), speaker='"<Ann> & Ben')]
    recording = Recording('x/<a> & "b"\udcff.wav')
    data = write(rows, recording)
    data.encode()
    tiers = read(data)
    assert list(tiers) == ['"<Ann> & Ben segments', '"<Ann> & Ben words']
    assert tiers['"<Ann> & Ben words'] == [(0, 1000, safe)]
    media = next(ET.fromstring(data).iter("MEDIA_DESCRIPTOR"))
    assert media.get("RELATIVE_MEDIA_URL") == './../x/<a> & "b"\ufffd.wav'


@pytest.mark.parametrize(
    ("name", "kind"), [("talk.wav", "audio/x-wav"), ("a b.mp4", "video/mp4"), ("talk.unheard-of", "unknown")]
)
def test_the_link_leads_to_the_recording(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in", name).write_bytes(b"sound")
    media = next(ET.fromstring(write([], Recording(f"in/{name}"), Path("out/deep"))).iter("MEDIA_DESCRIPTOR"))
    assert media.get("MIME_TYPE") == kind and media.get("MEDIA_URL") == f"file://{tmp_path}/in/{name}"
    Path("out/deep").mkdir(parents=True)
    assert Path("out/deep", media.get("RELATIVE_MEDIA_URL")).read_bytes() == b"sound"
    assert "MEDIA_DESCRIPTOR" not in write(ALONE, Recording("-"))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pympi", None)
    with pytest.raises(UsageError, match=r"pip install 'slyther-cli\[elan\]'"):
        write(ALONE)
