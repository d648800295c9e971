"""Damaged files, headers that lie, and what is no sound: all of it read, or one clear line."""

import os
import re
import socket
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_audio_reader import NOISE, RNG, encoded, read, refused, write_sound

from slyther_cli.audio import wav
from slyther_cli.audio.reader import AudioReader
from slyther_cli.errors import InputError, UsageError

# ---- headers that lie -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("riff", "data"),
    [(0xFFFFFFFF, 0xFFFFFFFF), (0, 0), (0x7FFFFFFF, 0x7FFFFFDB), (0xFFFFFFFF, 0xFFFFFFDB), (36, 0)],
)
def test_wav_without_a_length(tmp_path, riff, data):
    path = write_sound(tmp_path / "x.wav")
    raw = bytearray(path.read_bytes())
    raw[4:8], raw[40:44] = struct.pack("<I", riff), struct.pack("<I", data)
    path.write_bytes(raw)
    np.testing.assert_allclose(read(path)[0], NOISE, atol=4e-5)


@pytest.mark.parametrize("declared", [0xFFFFFFFF, 0x7FFFFFDB, (5 * 2**30 - 2) % 2**32])
def test_wav_beyond_4_gib(tmp_path, declared):
    """A sparse file of 5 GiB whose 32-bit length is a placeholder, or wrapped around."""
    path = write_sound(tmp_path / "x.wav", NOISE[:1])
    raw = bytearray(path.read_bytes()[:44])
    raw[40:44] = struct.pack("<I", declared)
    size = 5 * 2**30 - 2
    with open(path, "wb") as file:
        file.write(raw)
        file.seek(44 + size - 2)
        file.write(struct.pack("<h", 16384))
    with AudioReader(path) as reader:
        assert reader.source_frames == size // 2
        reader._file.seek(size // 2 - 1)
        assert reader._file.read(1)[0] == 0.5
    with open(path, "rb") as file:
        assert wav.read_header(file).size == size


def test_wav_with_chunks_behind_the_samples(tmp_path):
    path = write_sound(tmp_path / "x.wav", NOISE[:1000])
    path.write_bytes(path.read_bytes() + b"LIST" + struct.pack("<I", 400) + bytes(400))
    assert len(read(path)[0]) == 1000


@pytest.mark.parametrize("name", ["a.wav", "a.rf64", "a.aiff", "a.w64", "a.au"])
def test_cut_pcm_is_read_as_far_as_it_goes(name, tmp_path):
    path = encoded(name, tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    x, notes = read(path)
    assert len(x) == pytest.approx(15_000, abs=60)
    np.testing.assert_allclose(x, NOISE[: len(x)], atol=4e-5)
    assert any("cut short" in note for note in notes)


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_cut_ogg_is_read_with_a_note(name, tmp_path):
    path = encoded(name, tmp_path, np.tile(NOISE, 3))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    x, notes = read(path)
    assert 20_000 < len(x) < 70_000 and "the file has no end mark: it may be cut short" in notes


def test_cut_mp3_is_read_with_a_note(tmp_path):
    path = encoded("a.mp3", tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with AudioReader(path) as reader:
        announced, x = reader.frames, np.concatenate(list(reader.blocks(1000)))
        assert 12_000 < len(x) < 18_000 and abs(announced - len(x)) < 3000
        assert any("cut short" in note for note in reader.notes)


def test_flac_without_a_length(tmp_path):
    """As ffmpeg and flac write it into a pipe."""
    path = encoded("a.flac", tmp_path)
    raw = bytearray(path.read_bytes())
    raw[21] &= 0xF0
    raw[22:26] = bytes(4)
    path.write_bytes(raw)
    with AudioReader(path, rate=8000) as reader:
        assert reader.source_frames is None and reader.frames is None
        assert sum(map(len, reader.blocks(999))) == 15_000
        assert reader.source_frames == 30_000 and reader.frames == 15_000


def variable_mp3(path, x):
    with sf.SoundFile(
        path, "w", 16000, 1, format="MP3", bitrate_mode="VARIABLE", compression_level=0.5
    ) as file:
        file.write(x)
    return path.read_bytes()


@pytest.mark.parametrize("turned", [False, True])
def test_mp3_without_a_frame_count_is_read_to_its_end(tmp_path, turned):
    """libsndfile guesses the length from the first bit rate, and would drop most of this file."""
    x = np.concatenate([0.001 * np.tile(NOISE, 5), 3 * np.tile(NOISE, 5)])[:: -1 if turned else 1]
    raw = variable_mp3(tmp_path / "x.mp3", x)
    assert raw.count(b"Xing") == 1
    (tmp_path / "y.mp3").write_bytes(raw.replace(b"Xing", bytes(4)))
    whole, _ = read(tmp_path / "x.mp3")
    with AudioReader(tmp_path / "y.mp3") as reader:
        y = np.concatenate(list(reader.blocks(5000)))
    assert len(whole) == len(x) and 0 <= len(y) - len(x) < 4 * 1152
    level = [np.sqrt(np.mean(part**2)) for part in np.array_split(y, 8)]
    low, high = (level[6], level[1]) if turned else (level[1], level[6])
    assert high > 100 * low


def test_joined_mp3_files_are_read_to_the_end(tmp_path):
    raw = variable_mp3(tmp_path / "x.mp3", NOISE)
    (tmp_path / "y.mp3").write_bytes(b"ID3\4\0\0\0\0\1\0" + bytes(128) + raw + raw)
    with AudioReader(tmp_path / "y.mp3") as reader:
        assert sum(map(len, reader.blocks(5000))) == pytest.approx(60_000, abs=6 * 1152)
        assert "joined MP3 files: read to the end of the last one" in reader.notes


# ---- what is refused --------------------------------------------------------------------------


def test_files_that_are_not_there_or_not_files(tmp_path):
    refused(tmp_path / "missing.wav", "cannot be read: no such file")
    refused(tmp_path / "a.wav" / "b.wav", "cannot be read: no such file")
    (tmp_path / "folder.wav").mkdir()
    refused(tmp_path / "folder.wav", "is a folder")
    (tmp_path / "dangling.wav").symlink_to("nowhere")
    refused(tmp_path / "dangling.wav", "cannot be read: no such file")
    refused(tmp_path / ("n" * 300), "cannot be read: file name too long")
    refused("/dev/null", "is a device")
    with pytest.raises(InputError, match="not a possible file name"):
        AudioReader("a\0b.wav")


def test_urls_are_reported():
    for url in ("https://example.org/a.mp3", "ftp://example.org/b.wav?c=1"):
        with pytest.raises(InputError) as error:
            AudioReader(url)
        assert str(error.value) == f"{url}: URLs are not read: download it first"


def test_a_socket_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("s.wav")
        refused("s.wav", "cannot be read")


def test_files_without_sound(tmp_path):
    def put(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    refused(put("empty.wav", b""), r"is empty \(0 bytes\)")
    refused(put("text.wav", b"Dear all,\nplease find attached\n"), "is not a sound file that can be read")
    refused(put("video.m4a", b"\0\0\0\x20ftypM4A " + bytes(99)), "is not a sound file that can be read")
    refused(put("x.mid", b"MThd" + bytes(99)), "is MIDI: notes, not sound")
    refused(put("video.webm", b"\x1a\x45\xdf\xa3" + bytes(99)), "is not a sound file that can be read")
    refused(put("head.wav", write_sound(tmp_path / "x.wav").read_bytes()[:20]), "is not a sound file")
    refused(put("one.wav", b"R"), "is not a sound file")
    refused(write_sound(tmp_path / "zero.wav", NOISE[:0]), "has a header but no samples")
    refused(write_sound(tmp_path / "zero.ogg", NOISE[:0]), "has a header but no samples")
    page = encoded("a.ogg", tmp_path).read_bytes()[:30] + b"OggS\0"  # breaks off in the mark of a page
    refused(put("x.ogg", page), "is not a sound file")
    for name in ("a.flac", "a.ogg", "a.mp3"):
        raw = encoded(name, tmp_path).read_bytes()
        refused(put("h" + name, raw[:60]), "is not a sound file")


@pytest.mark.parametrize("rate", [1, 3999, 768_001, 1_000_000])
def test_rates_out_of_range(tmp_path, rate):
    refused(
        write_sound(tmp_path / "x.wav", NOISE[:10], rate), f"has a sampling rate of {rate} Hz; 4000 Hz to"
    )
    with pytest.raises(UsageError, match=f"a rate of {rate} Hz"):
        AudioReader(write_sound(tmp_path / "y.wav"), rate=rate)


def test_cut_and_damaged_flac(tmp_path):
    path = encoded("a.flac", tmp_path, np.tile(NOISE, 5))
    raw = bytearray(path.read_bytes())
    path.write_bytes(raw[: len(raw) // 2])
    text = refused(path, r"is damaged or cut off somewhere after \d\.\d\d s of 9.38 s", strict=True)
    assert float(text.split("after ")[1].split()[0]) < 9.38 / 2
    x, notes = read(path)
    assert 3.5 * 16000 < len(x) < 9.38 / 2 * 16000
    np.testing.assert_allclose(x, np.tile(NOISE, 5)[: len(x)], atol=4e-5)
    assert notes == [f"the file is cut short: {len(x) / 16000:.2f} s of 9.38 s are there"]
    raw[len(raw) // 2 : len(raw) // 2 + 2000] = bytes(2000)
    path.write_bytes(raw)
    refused(path, "is damaged or cut off somewhere after", strict=True)
    x, notes = read(path)
    off = np.flatnonzero(np.abs(x - np.tile(NOISE, 5)) > 4e-5)
    assert len(x) == 150_000 and off[-1] - off[0] < 4 * 4096 and (x[off] == 0).all()
    assert [gap(note) for note in notes] == [(round(off[0] / 16000, 2), round((off[-1] + 1) / 16000, 2))]


@pytest.mark.parametrize("name", ["a.mp3", "a.ogg"])
def test_damage_that_the_decoder_would_pass_over(name, tmp_path, capfd):
    """Half of the file lost (MP3), or a hole in it that moves all that follows (Ogg)."""
    path = encoded(name, tmp_path, np.tile(NOISE, 5))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 3000] = RNG.integers(0, 255, 3000, dtype=np.uint8).tobytes()
    whole, _ = read(path)
    path.write_bytes(raw)
    refused(path, "is damaged or cut off somewhere after", strict=True)
    x, notes = read(path)
    assert len(x) == pytest.approx(len(whole), abs=1200)
    for part in (slice(0, 50_000), slice(-40_000, -2000)):
        y = x[part] if part.start == 0 else x[len(whole) - 40_000 : len(whole) - 2000]
        assert np.corrcoef(y, whole[part][: len(y)])[0, 1] > 0.99
    ((start, end),) = [gap(note) for note in notes]
    assert 50_000 / 16000 < start < end < 112_000 / 16000
    assert np.abs(x[round(start * 16000) + 700 : round(end * 16000) - 700]).max() == 0
    assert capfd.readouterr() == ("", "")


def gap(note):
    """The seconds that a note of a gap names."""
    found = re.fullmatch(
        r"nothing can be read from ([\d.]+) s to ([\d.]+) s \([\d.]+ s\): silence stands there", note
    )
    return tuple(map(float, found.groups()))


@pytest.mark.parametrize("name", ["a.ogg", "a.opus"])
def test_joined_ogg_streams(name, tmp_path):
    """Read one after the other; the second of another rate and number of channels, too."""
    raw = encoded(name, tmp_path).read_bytes()
    (tmp_path / "joined.ogg").write_bytes(raw + raw)
    x, notes = read(tmp_path / "joined.ogg", rate=16000)
    alone, _ = read(tmp_path / name, rate=16000)
    assert len(x) == pytest.approx(2 * len(alone), abs=2)
    for part in (x[: len(alone)], x[len(alone) :]):
        assert np.corrcoef(part[:29_000], alone[:29_000])[0, 1] > 0.95
    assert "2 Ogg streams joined: read one after the other" in notes
    stereo = write_sound(
        tmp_path / "s.ogg", np.stack([NOISE, NOISE], 1), 8000, format="OGG", subtype="VORBIS"
    )
    (tmp_path / "joined.ogg").write_bytes((encoded("a.ogg", tmp_path)).read_bytes() + stereo.read_bytes())
    x, notes = read(tmp_path / "joined.ogg")
    assert len(x) == pytest.approx(90_000, abs=10)
    slow, _ = read(stereo, rate=16000)
    assert np.corrcoef(x[30_000:85_000], slow[:55_000])[0, 1] > 0.99


def test_mp3_from_the_middle_and_with_junk_behind(tmp_path, capfd):
    """As a logger of radio or ``split`` leaves it. libmpg123 would print what it thinks."""
    path = encoded("a.mp3", tmp_path, (0.1 * RNG.standard_normal(150_000)).astype(np.float32))
    raw, (whole, _) = path.read_bytes(), read(path)
    half = len(raw) // 2 + 7
    path.write_bytes(raw[half:])
    x, notes = read(path)
    assert notes == ["the file begins in the middle of an MP3: its first tenth of a second may be silent"]
    assert len(x) == pytest.approx(75_000, abs=3000)
    at = 110_000 + np.argmax(np.correlate(whole[110_000:125_000], x[40_000:45_000], "valid"))
    assert abs(at - 40_000 - 75_000) < 3000
    assert np.corrcoef(x[40_000:60_000], whole[at : at + 20_000])[0, 1] > 0.99
    refused(path, "is damaged or cut off", strict=True)
    path.write_bytes(raw + RNG.bytes(3000).replace(b"\xff", b"\0"))
    x, notes = read(path)
    assert len(x) == len(whole) and notes == ["3000 bytes at its end are no sound: left out"]
    np.testing.assert_array_equal(x, whole)
    path.write_bytes(raw[: len(raw) // 3])
    assert any("cut short" in note for note in read(path)[1])
    assert capfd.readouterr() == ("", "")


def test_mp3_is_what_libsndfile_makes_of_it(tmp_path):
    for channels, rate in ((1, 16000), (2, 44100)):
        path = write_sound(tmp_path / "x.mp3", np.stack([NOISE] * channels, 1), rate, format="MP3")
        theirs, _ = sf.read(path, dtype="float32", always_2d=True)
        np.testing.assert_allclose(read(path)[0], theirs.mean(1), atol=1e-5)


def test_wav_that_holds_more_than_its_header_says(tmp_path):
    """A recorder that was cut off before it set its header right."""
    path = write_sound(tmp_path / "x.wav")
    raw = bytearray(path.read_bytes())
    raw[4:8], raw[40:44] = struct.pack("<I", 36 + 960), struct.pack("<I", 960)
    path.write_bytes(raw)
    x, notes = read(path)
    np.testing.assert_allclose(x, NOISE, atol=4e-5)
    assert notes == ["the header promises 0.03 s, 1.88 s are there: read to the end"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_file_without_permission():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        path = write_sound(Path(folder, "secret.wav"))
        os.chmod(path, 0)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            refused(path, "cannot be read: permission denied")
        finally:
            if root:
                os.seteuid(0)


def test_odd_names_make_one_line(tmp_path):
    path = tmp_path / "two\nlines\x1b[2J.wav"
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"two\\nlines\\x1b\[2J\.wav is not a sound file") as error:
        AudioReader(path)
    assert str(error.value).isprintable()
    odd = os.fsencode(tmp_path) + b"/\xff\xfe.wav"
    with open(odd, "wb") as file:
        file.write(write_sound(tmp_path / "x.wav").read_bytes())
    assert len(read(os.fsdecode(odd))[0]) == len(NOISE)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.wav", "a.flac", "a.aiff", "a.w64", "a.rf64", "a.ogg"]),
    cut=st.integers(0, 6000),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
)
def test_no_damage_makes_a_crash(tmp_path, name, cut, changes):
    """Whatever is wrong with a file: samples, or one line of an InputError."""
    raw = bytearray(encoded(name, tmp_path, NOISE[:3000]).read_bytes())[:cut]
    for at, value in changes:
        if at < len(raw):
            raw[at] = value
    path = tmp_path / "damaged"
    path.write_bytes(raw)
    try:
        with AudioReader(path) as reader:
            blocks = list(reader.blocks(500))
            assert blocks and all(np.isfinite(b).all() for b in blocks)
            assert reader.source_frames == sum(map(len, blocks))
    except InputError as error:
        assert "\n" not in str(error) and "damaged" in str(error)
