"""The page to review a transcript: one file, everything escaped, the link to the recording."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from test_text_formats import PAIR, segment
from tools import rendered

from slyther_cli.decode import review
from slyther_cli.decode.recording import Recording

HOSTILE = "</script><script>alert(1)</script> <!-- \"q\" 'a' ]]> & &lt; \u2028 \u2029 \\ {{script}} é"


class Page(HTMLParser):
    """The elements of a page, the text of its scripts, styles and titles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self._open = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style", "title", "h1"):
            self._open = dict(attrs).get("id") or tag
            self.texts[self._open] = ""

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.texts[self._open] += data

    def read(self, name):
        return json.loads(self.texts[name])


def page(segments, recording, folder=Path(".")):
    return Page(rendered("html", segments, recording=recording, folder=folder))


def test_what_is_in_it():
    found = page(PAIR, Recording("calls/talk.wav", 4.5, [0, 100, 7]), Path("calls"))
    assert found.texts["title"] == found.texts["h1"] == "talk.wav"
    about = found.read("recording")
    assert re.fullmatch("[0-9a-f]{32}", about.pop("id"))
    assert about == {
        "name": "talk.wav", "stem": "talk", "link": "talk.wav", "seconds": 4.5, "peaks": [0, 100, 7],
    }  # fmt: skip
    first, *others = found.read("transcript")
    words = [["one", 0.0, 0.5, 0.5], ["two", 0.5, 1.0, 0.5]]
    assert first == {"start": 0.0, "end": 1.0, "speaker": "S2", "begins": True, "words": words}
    assert [row["speaker"] for row in others] == ["S1", "S2", "S2"]
    assert "speaker" not in page([segment(0, ("a", 1))], Recording("a.wav")).read("transcript")[0]
    assert page([], Recording("a.wav")).read("transcript") == []


def test_a_transcript_is_known_again():
    """By its words, times and speakers, wherever it and the recording lie."""

    def key(segments, name="talk.wav", folder="."):
        return page(segments, Recording(name, 4.5), Path(folder)).read("recording")["id"]

    assert key(PAIR) == key(PAIR, "calls/other.wav", "out")
    others = [
        PAIR[:-1],
        [{**PAIR[0], "speaker": "S1"}, *PAIR[1:]],
        [segment(0.1, ("one", 0.5)), *PAIR[1:]],
        [],
    ]
    assert len({key(one) for one in [PAIR, *others]}) == 5


def test_it_loads_nothing():
    """No element names another file, and the page forbids connections."""
    found = page(PAIR, Recording("talk.wav"))
    for tag, attrs in found.elements:
        assert tag not in ("link", "img", "iframe", "object") and "src" not in attrs, (tag, attrs)
        assert tag != "a" or attrs["href"].startswith("#")
    policy = next(attrs["content"] for _, attrs in found.elements if attrs.get("http-equiv"))
    assert "connect-src 'none'" in policy
    text = found.texts["style"] + found.texts["script"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|import\(", text)
    assert re.findall(r"https?:[^\"]+", text) == ["http://www.w3.org/2000/svg"] * 2  # a name, not a place


def test_everything_is_escaped():
    quiet, hostile = (
        page([segment(0, (said, 1), speaker=said)], Recording(f"x/{said}".replace("</", "<")))
        for said in ("word", HOSTILE)
    )
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in quiet.elements]
    assert hostile.texts["script"] == quiet.texts["script"]
    (row,) = hostile.read("transcript")
    assert row["words"][0][0] == row["speaker"] == HOSTILE
    about = hostile.read("recording")
    assert about["name"] == hostile.texts["title"] and "<script>alert(1)" in about["name"]
    assert not re.search(r"[<>&\u2028]|[^\0-\x7f]", hostile.texts["transcript"] + hostile.texts["recording"])


@pytest.mark.parametrize(
    "name", ["a#b?c.wav", "100%.wav", "%41.wav", "my talk.wav", 'it\'s "so".wav', "a:b.wav", "é\udcff.wav"]
)
@pytest.mark.parametrize("folder", ["in", ".", "out/deep"])
def test_the_link_leads_to_the_recording(name, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("in", "out/deep"):
        Path(place).mkdir(parents=True)
    source = Path("in", name)
    source.write_bytes(b"sound")
    found = page([], Recording(str(source)), Path(folder))
    link = found.read("recording")["link"]
    assert re.fullmatch(r"[\w./%~-]+", link, re.ASCII) and not link.startswith("/")
    assert Path(folder, unquote_to_bytes(link).decode(errors="surrogateescape")).read_bytes() == b"sound"
    found.texts["title"].encode()


def test_standard_input_has_no_link():
    found = page(PAIR, Recording("-", 4.5)).read("recording")
    assert found["link"] is None and found["stem"] == "transcript" and found["name"] == "standard input"


def test_sound_within(monkeypatch):
    monkeypatch.setattr(review, "CHUNK", 6)
    for size in (0, 5, 6, 20):
        sound = bytes(range(size))
        found = page(PAIR, Recording("talk.wav", opus=io.BytesIO(sound))).read("recording")
        head, _, data = found["sound"].partition(",")
        assert head == "data:audio/ogg;base64" and base64.b64decode(data, validate=True) == sound
