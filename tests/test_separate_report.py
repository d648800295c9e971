"""The page of `slyther separate --report`: what is on it, of what it is made, and that it changes nothing."""

import base64
import io
import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import av
import numpy as np
import pytest
from test_separate import models, place, separate, voices, write_mixture  # noqa: F401
from tools import error_lines, files_in, from_file_as_stdin

from slyther_cli.separation import findings, overview, png
from slyther_cli.separation.overview import Overview
from slyther_cli.separation.report import Report, clock

RATE = 8000
VOID = {"meta", "img", "path", "br", "hr", "input", "link"}
HOSTILE = "<img src=x onerror=alert(1)>'\" & é.wav"


class Page(HTMLParser):
    """The elements of a page, which must be nested well, and its text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.source, self.elements, self.text, self._open = text, [], "", []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self._open):
            self.text += data

    def all(self, tag, **attrs):
        return [a for t, a in self.elements if t == tag and attrs.items() <= a.items()]

    def links(self):
        return [unquote_to_bytes(a["src"]) for a in self.all("audio")]


def read(path):
    return Page(Path(path).read_text(encoding="utf-8"))


def decoded(url):
    """The pixels of an embedded PNG, as FFmpeg sees them: uint8 [height, width, 3]."""
    kind, data = url.split(",")
    assert kind == "data:image/png;base64"
    with av.open(io.BytesIO(base64.b64decode(data))) as picture:
        return next(picture.decode(video=0)).to_ndarray(format="rgb24")


def gathered(x, rate=RATE, sizes=(1, 700, 65_536)):
    """An overview of tracks [n_tracks, n], of which all but the first are stems, given in odd blocks."""
    found = Overview(x.shape[1], rate, len(x) - 1)
    at = i = 0
    while at < x.shape[1]:
        found.add(x[:, at : at + sizes[i % len(sizes)]])
        at, i = at + sizes[i % len(sizes)], i + 1
    found.finish()
    return found


def page_of(stems, **how):
    """The page of a recording that is the sum of stems [2, n]."""
    x = np.concatenate((stems.sum(0, keepdims=True), stems)).astype(np.float32)
    files = {f"s{i + 1}": Path(f"out/mix_s{i + 1}.wav") for i in range(len(stems))}
    report = Report("mix.wav", files, "two", {}, gathered(x), **how)
    return Page("".join(report.page(Path("out"))))


def talk(pitch, on, rate=RATE):
    """A buzz at ``pitch`` Hz in those of the seconds that ``on`` has."""
    t = np.arange(rate * len(on)) / rate
    buzz = sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 8))
    return (0.1 * buzz * np.repeat(np.array(on, float), rate)).astype(np.float32)


ANN, BOB = talk(190, [1, 1, 0, 0, 1, 1, 0, 0]), talk(110, [0, 0, 1, 1, 0, 1, 0, 0])


# The command


def test_a_page_comes_with_the_stems_and_changes_nothing(capfd):
    write_mixture("mix.wav", voices(1.3, 44100, 2), 44100)
    how = ["--subtype", "float", "--residual"]
    assert separate(capfd, "mix.wav", "-o", "plain", *how)[0] == 0
    code, out, _ = separate(capfd, "mix.wav", "-o", "out", "--report", *how)
    assert code == 0 and out[-1] == "out/mix_report.html"
    stems = ["mix_residual.wav", "mix_s1.wav", "mix_s2.wav"]
    assert files_in("out") == sorted([*stems, "mix_report.html"])
    assert all(Path("out", s).read_bytes() == Path("plain", s).read_bytes() for s in stems)
    page = read("out/mix_report.html")
    assert page.links() == [b"../mix.wav", b"mix_s1.wav", b"mix_s2.wav", b"mix_residual.wav"]
    assert [decoded(a["src"]).shape[0] for a in page.all("img")] == [overview.ROWS] * 4
    for said in ("mix.wav", "0:01.3 at 44100 Hz", "two", "residual=True", "2 channels mixed down to one"):
        assert said in page.text
    assert not page.all("link") and all("src" not in a for a in page.all("script"))
    assert not re.search(r"(https?:)?//", re.sub(r"data:[^\"]*|//? [^\n]*", "", page.source))


@pytest.mark.parametrize(
    "x", [np.zeros(8000), np.full(1, 0.5), np.full(7, -0.5)], ids=["silence", "one", "few"]
)
def test_silence_and_a_few_samples_have_a_page(capfd, x):
    write_mixture("mix.wav", x.astype(np.float32))
    code, out, _ = separate(capfd, "mix.wav", "--report")
    assert code == 0 and len(out) == 3
    page = read("separated/mix_report.html")
    assert not np.isnan(decoded(page.all("img")[0]["src"]).astype(float)).any()
    assert "nan" not in page.text and "inf" not in page.text.replace("information", "")
    if not x.any():
        assert "Nothing is heard in any file." in page.text
        assert all(decoded(a["src"]).max() == 8 for a in page.all("img"))


def test_hostile_names_are_escaped(capfd):
    write_mixture(HOSTILE)
    assert separate(capfd, HOSTILE, "-o", "o&<b>", "--report")[0] == 0
    page = read(Path("o&<b>", Path(HOSTILE).stem + "_report.html"))
    assert page.links()[0] == b"../" + os.fsencode(HOSTILE)
    assert len(page.all("img")) == 3 and not [a for _, a in page.elements if "onerror" in a]
    assert HOSTILE in page.text


def test_names_that_no_text_can_hold(capfd):
    name = os.fsdecode(b"caf\xe9 #1?.wav")
    write_mixture("mix.wav")
    os.rename("mix.wav", name)
    assert separate(capfd, name, "--report")[0] == 0
    (path,) = Path("separated").glob("*_report.html")
    assert read(path).links()[0] == b"../caf\xe9 #1?.wav"


def test_folders_get_a_page_each_and_names_follow_the_template(capfd):
    Path("in/a").mkdir(parents=True)
    write_mixture("in/a/x.wav")
    write_mixture("in/y.wav")
    assert separate(capfd, "in", "-o", "out", "--report", "--jobs", "2")[0] == 0
    assert [f for f in files_in("out") if f.endswith("html")] == ["a/x_report.html", "y_report.html"]
    assert separate(capfd, "in/y.wav", "-o", "other", "--report", "--filename", "{stem}.wav")[0] == 0
    assert files_in("other") == ["report.html", "s1.wav", "s2.wav"]


def test_a_resumed_job_has_the_same_page(capfd, tmp_path, monkeypatch):
    write_mixture("mix.wav", voices(2.0))
    assert separate(capfd, "mix.wav", "-o", "out", "--report")[0] == 0
    wanted = {name: Path("out", name).read_bytes() for name in files_in("out")}
    how = ("mix.wav", "-o", "out", "--report", "--resume", "--work-dir", "work")

    def killed(*_):
        raise KeyboardInterrupt

    for name in wanted:
        Path("out", name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Report, "write", killed)  # when the stems have their names already
        assert separate(capfd, *how)[0] == 130
    assert files_in("out") == ["mix_s1.wav", "mix_s2.wav"] and files_in("work")
    code, _, err = separate(capfd, *how)
    assert code == 0 and "went on from the work of an earlier run" in err
    page = wanted.pop("mix_report.html")
    assert all(Path("out", name).read_bytes() == data for name, data in wanted.items())
    note = b"<li>went on from the work of an earlier run</li>"
    assert Path("out/mix_report.html").read_bytes().replace(note, b"") == page
    assert not files_in("work")


def test_standard_input_has_a_page_without_its_player_and_live_sound_none(capfd, monkeypatch):
    write_mixture("mix.wav", voices(1.0), subtype="PCM_16")
    from_file_as_stdin(monkeypatch, "mix.wav")
    assert separate(capfd, "-", "--report")[0] == 0
    assert read("separated/stdin_report.html").links() == [b"stdin_s1.wav", b"stdin_s2.wav"]
    from_file_as_stdin(monkeypatch, "mix.wav")
    code, out, err = separate(capfd, "-", "-m", "live", "-o", "live", "--report")
    assert code != 0 and out == [] and len(error_lines(err)) == 1
    assert (
        "--report needs the whole recording: leave it out for live sound" in err and not Path("live").exists()
    )
    assert separate(capfd, "mix.wav", "-o", "-", "--report")[0] == 2


def test_a_page_that_cannot_be_written_leaves_the_stems(capfd, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    write_mixture()
    monkeypatch.setattr(Report, "page", full)
    code, _, err = separate(capfd, "mix.wav", "--report")
    assert code == 4 and len(error_lines(err)) == 1
    assert "mix_report.html cannot be written: no space left on the disk; the other results are there" in err
    assert files_in("separated") == ["mix_s1.wav", "mix_s2.wav"]


# What it says


def test_two_voices_apart_look_separated():
    page = page_of(np.stack((ANN, BOB)))
    assert "Looks separated" in page.text and page.all("section", **{"class": "verdict good"})
    assert not page.all("button") and "s1 67 %, s2 50 %" in page.text
    assert "Somebody speaks for 6.0 s, two or more at once for 1.0 s." in page.text


def test_a_voice_in_both_files_is_marked_where_it_is():
    leak = np.where(np.arange(len(ANN)) < 2 * RATE, 1, 0)
    page = page_of(np.stack((ANN - 0.4 * ANN * leak, BOB + 0.4 * ANN * leak)))
    assert "Much of it is hardly separated" in page.text
    (button,) = page.all("button")
    assert float(button["data-at"]) == 0 and re.search(r"0:00 \((1\.9|2\.0|2\.1) s\)", page.text)


def test_an_empty_file_is_told():
    page = page_of(np.stack((0.01 * (ANN + BOB), 0.99 * (ANN + BOB))))
    assert "s1 is nearly empty" in page.text and page.all("section", **{"class": "verdict bad"})


def test_what_was_moved_is_shown():
    assert "moved" not in page_of(np.stack((ANN, BOB))).text
    page = page_of(np.stack((ANN, BOB)), moved=[(4.0, 6.0)])
    assert "moved" in page.text
    shape = next(a for t, a in page.elements if t == "svg" and a["aria-label"] == "where: moved")
    assert shape["viewbox"].endswith(" 10")
    assert "put into one" in page_of(np.stack((ANN, BOB)), gathered=[(4.0, 6.0)]).text


def test_who_speaks_and_how_much_leaks():
    found = findings.find(gathered(np.stack((ANN + BOB, ANN + 0.03 * BOB, 0.97 * BOB)), sizes=(5000,)))
    np.testing.assert_allclose(found.speech, [4, 3], atol=0.1)
    np.testing.assert_allclose(found.alone, [3, 2], atol=0.1)
    assert found.leakage[0] == -99 and abs(found.leakage[1] - 20 * np.log10(0.03 / 0.97)) < 0.5
    assert not found.doubtful and not found.empty


# Of what it is made


@pytest.mark.parametrize("n", [1, 63, 500, 8000, 200_001, 3_000_000])
def test_an_overview_is_bounded_and_does_not_depend_on_the_blocks(n):
    x = np.random.default_rng(n).standard_normal((3, n)).astype(np.float32)
    found, again = gathered(x, sizes=(65_536,)), gathered(x, sizes=(n,))
    assert 1 <= found.columns <= overview.COLUMNS and found.power.shape[1] <= overview.FRAMES
    np.testing.assert_array_equal(found.low[:, 0], x[:, : found.step].min(1))
    np.testing.assert_array_equal(found.high[:, -1], x[:, found.step * (found.columns - 1) :].max(1))
    for name in ("low", "high", "power", "spectra", "shared"):
        np.testing.assert_allclose(getattr(found, name), getattr(again, name), rtol=1e-4, atol=1e-6)
    if n >= 8000:
        np.testing.assert_allclose(found.power.mean(), 1, rtol=0.1)
        np.testing.assert_allclose(found.spectra[:, :-1].mean(), 1, rtol=0.1)


def test_a_tone_is_where_its_frequency_is():
    x = np.sin(2 * np.pi * 1000 * np.arange(4 * 16_000) / 16_000).astype(np.float32)[None]
    found = Overview(x.shape[1], 16_000, 0)
    found.add(x)
    found.finish()
    row = found.spectra[0].mean(0).argmax()
    assert abs((row + 0.5) / found.spectra.shape[2] * found.top - 1000) < 63


def test_the_page_of_ten_hours_is_small(monkeypatch):
    monkeypatch.setattr(overview, "FRAMES", 1000)
    x = np.random.default_rng(0).standard_normal((3, 500_000)).astype(np.float32) * 0.1
    found = Overview(x.shape[1], 14, 2)  # ten hours, slowly
    found.add(x)
    found.finish()
    files = {"s1": Path("s1.wav"), "s2": Path("s2.wav")}
    text = "".join(Report("mix.wav", files, "two", {}, found).page(Path()))
    assert len(text) < 2_000_000 and "9:00:00" in Page(text).text


def test_a_picture_decodes_to_its_colours():
    picture = np.random.default_rng(0).integers(0, 5, (7, 11), np.uint8)
    colours = np.array([[0, 0, 0], [255, 0, 0], [1, 2, 3], [0, 255, 0], [9, 9, 250]], np.uint8)
    url = "data:image/png;base64," + base64.b64encode(png.encode(picture, colours)).decode()
    np.testing.assert_array_equal(decoded(url), colours[picture])


def test_times():
    assert [clock(t) for t in (0, 59.6, 61, 3600)] == ["0:00", "1:00", "1:01", "1:00:00"]
    assert [clock(1.25, 0.1), clock(0.001, 0.001), clock(62.5, 0.5)] == ["0:01.2", "0:00.001", "1:02.5"]
