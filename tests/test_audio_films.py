"""What FFmpeg decodes: phone memos, films, voice messages. Their sound at its place, or one clear line."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soxr
from films import GAP, RATE, film, voice
from test_audio_reader import refused, stdin

from slyther_cli.audio.reader import AudioReader

VOICE = voice(3.0)
KINDS = {  # name: (codec, rate)
    "memo.m4a": ("aac", 16000),
    "memo44.m4a": ("aac", 44100),
    "zoom.mp4": ("aac", 48000),
    "phone.mov": ("pcm_s16le", 16000),
    "lossless.m4a": ("alac", 16000),
    "meeting.webm": ("libopus", 48000),
    "meeting.mkv": ("libopus", 48000),
    "film.mkv": ("ac3", 48000),
    "sound.ac3": ("ac3", 48000),
    "sound.eac3": ("eac3", 48000),
    "old.wma": ("wmav2", 44100),
    "old.avi": ("libmp3lame", 44100),
    "radio.aac": ("aac", 44100),
    "radio.mp2": ("mp2", 44100),
    "broadcast.ts": ("aac", 48000),
    "pack.wv": ("wavpack", 44100),
    "true.tta": ("tta", 16000),
}
UNTOLD = (
    "radio.aac",
    "sound.ac3",
    "sound.eac3",
    "old.wma",
    "radio.mp2",
    "old.avi",
    "broadcast.ts",
    "film.mkv",
)
"""Nothing in these tells how many samples the encoder put before the sound."""


def read(path, **how):
    with AudioReader(path, rate=RATE, **how) as reader:
        x = np.concatenate(list(reader.blocks(5000)))
        assert reader.frames == len(x)
        again = np.concatenate(list(reader.blocks(777)))
        np.testing.assert_array_equal(again, x)
        return x, reader.notes


def lag(x, y, most=6000):
    """By how many samples x comes later than y, and how alike they are then."""
    n = min(len(x), len(y))
    spectrum = np.fft.rfft(x[:n], 2 * n) * np.conj(np.fft.rfft(y[:n], 2 * n))
    both = np.fft.irfft(spectrum)
    both = np.concatenate([both[-most:], both[:most]])
    at = int(np.argmax(both))
    return at - most, both[at] / np.sqrt((x[:n] ** 2).sum() * (y[:n] ** 2).sum())


@pytest.mark.parametrize("name", KINDS)
def test_every_kind(name, tmp_path):
    codec, rate = KINDS[name]
    sound = soxr.resample(VOICE, RATE, rate) if rate != RATE else VOICE
    format = "adts" if name.endswith(".aac") else None
    path = film(tmp_path / name, [sound.astype(np.float32)], rate, codec, format=format)
    x, notes = read(path)
    shift, alike = lag(x, VOICE)
    assert alike > 0.9
    if name in UNTOLD:
        assert 0 <= shift < 0.06 * RATE and abs(len(x) - len(VOICE)) < 0.12 * RATE
    else:
        assert shift == 0 and abs(len(x) - len(VOICE)) < 0.01 * RATE
    assert [note for note in notes if not note.startswith("resampled")] == []


def test_the_picture_is_passed_over_and_stereo_is_mixed(tmp_path):
    both = np.stack([VOICE, voice(3.0, seed=1)], 1)
    path = film(tmp_path / "x.mp4", [both], picture=True)
    x, notes = read(path)
    assert lag(x, both.mean(1))[0] == 0 and np.corrcoef(x[: len(VOICE)], both.mean(1))[0, 1] > 0.9
    assert "2 channels mixed down to one" in notes
    second, _ = read(path, channel=2)
    assert np.corrcoef(second[: len(VOICE)], both[:, 1])[0, 1] > 0.9


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv"])
def test_sound_that_begins_after_the_picture_keeps_its_time(tmp_path, name):
    x, notes = read(film(tmp_path / name, [VOICE], picture=True, starts=1.5))
    expected = np.concatenate([np.zeros(round(1.5 * RATE), np.float32), VOICE])
    shift, alike = lag(x, expected)
    assert abs(shift) <= 0.002 * RATE + 1024 * (name == "late.mkv") and alike > 0.9
    assert np.abs(x[: RATE + RATE // 4]).max() < 1e-3
    assert any(note.startswith("the sound begins 1.") for note in notes)


@pytest.mark.parametrize(
    ("name", "codec", "rate"), [("gap.mkv", "libopus", 48000), ("gap.mp4", "aac", 16000)]
)
def test_a_gap_in_the_times_is_silence(tmp_path, name, codec, rate):
    sound = soxr.resample(VOICE, RATE, rate).astype(np.float32) if rate != RATE else VOICE
    x, notes = read(film(tmp_path / name, [sound], rate, codec, gap=GAP))
    after = slice(2 * RATE, 2 * RATE + RATE // 2)
    shift, alike = lag(x[after], VOICE[after])
    assert abs(shift) <= 0.001 * RATE and alike > 0.9  # Matroska's times are in milliseconds
    assert np.abs(x[int(1.1 * RATE) : int(1.8 * RATE)]).max() < 1e-3
    assert sum("silence stands there" in note for note in notes) == 1
    refused(tmp_path / name, "is damaged or cut off somewhere after 0.9.*leave out --strict", strict=True)


def test_tracks(tmp_path):
    other = voice(3.0, seed=5)
    path = film(tmp_path / "x.mkv", [VOICE, other], picture=True)
    x, notes = read(path)
    assert lag(x, VOICE)[1] > 0.9
    assert "audio track 1 of 2 is read: --track chooses another" in notes
    x, notes = read(path, track=2)
    assert lag(x, other)[1] > 0.9 and "audio track 2 of 2 is read" in notes
    refused(path, "has 2 audio tracks: there is no track 3", track=3)
    refused(film(tmp_path / "one.m4a", [VOICE]), "has 1 audio track: there is no track 2", track=2)


def test_no_track_of_sound(tmp_path):
    refused(silent_film(tmp_path / "x.mp4"), "has no sound: there is no audio track in it")


def silent_film(path):
    import av

    with av.open(str(path), "w") as file:
        video = file.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(5):
            file.mux(video.encode(av.VideoFrame(32, 32, "yuv420p")))
        file.mux(video.encode(None))
    return path


def test_standard_input(tmp_path, monkeypatch):
    for name in ("x.m4a", "x.webm"):
        rate, codec = (RATE, "aac") if name == "x.m4a" else (48000, "libopus")
        sound = soxr.resample(VOICE, RATE, rate).astype(np.float32) if rate != RATE else VOICE
        path = film(tmp_path / name, [sound], rate, codec)
        expected, _ = read(path)
        with stdin(monkeypatch, path.read_bytes()):
            np.testing.assert_array_equal(read("-", work_dir=tmp_path)[0], expected)


def test_a_folder_of_films_and_a_broken_one(tmp_path, models, monkeypatch, capsys):
    """What cannot be read is told and counts in the exit code; the others are done."""
    import tones

    from slyther_cli.app import main

    with tones.at_home(tmp_path, monkeypatch, models):
        folder = tmp_path / "phones"
        folder.mkdir()
        film(folder / "good.m4a", [voice(1.0)])
        (folder / "broken.mp4").write_bytes(b"\0\0\0\x20ftypmp42" + bytes(500))
        assert main(["transcribe", str(folder), "-o", "out", "-m", "tones"]) == 3
        said = capsys.readouterr()
        assert "broken.mp4 is not a sound file that can be read" in said.err and "Traceback" not in said.err
        assert said.out == "out/good.txt\n"
        assert main(["transcribe", str(folder), "-o", "out", "--dry-run", "--force", "-m", "tones"]) == 3
        assert main(["transcribe", str(folder / "good.m4a"), "--track", "2", "-m", "tones"]) == 4
        assert "has 1 audio track: there is no track 2" in capsys.readouterr().err


# ---- damage and malice ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv", "x.wma", "x.aac"])
def test_cut_files(tmp_path, name):
    codec, format = ("wmav2", None) if name == "x.wma" else ("aac", "adts" if name == "x.aac" else None)
    options = {"movflags": "faststart"} if name == "x.mp4" else {}
    path = film(tmp_path / name, [voice(8.0)], RATE, codec, options=options, format=format)
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    x, notes = read(path)
    assert 3 * RATE < len(x) < 5.2 * RATE and lag(x, voice(8.0))[1] > 0.9
    if name not in ("x.aac", "x.wma"):  # which tell no length
        assert any("cut" in note for note in notes), notes


def test_a_film_without_its_index_is_refused(tmp_path):
    path = film(tmp_path / "x.mp4", [VOICE])
    path.write_bytes(path.read_bytes()[:3000])
    refused(path, "is not a sound file that can be read")


@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_zeroed_bytes_leave_the_rest_at_its_time(tmp_path, name):
    options = {"movflags": "faststart"} if name == "x.mp4" else {}
    path = film(tmp_path / name, [voice(8.0)], RATE, "aac", options=options)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 3000] = bytes(3000)
    path.write_bytes(raw)
    x, _ = read(path)
    late = slice(6 * RATE, 7 * RATE)
    shift, alike = lag(x[late], voice(8.0)[late])
    assert alike > 0.9 and abs(shift) <= 0.07 * RATE
    assert abs(len(x) - 8 * RATE) < 0.1 * RATE


def test_a_header_that_claims_ten_gigabytes(tmp_path):
    path = film(tmp_path / "x.mp4", [VOICE])
    raw = path.read_bytes()
    at = raw.index(b"mdat") - 4
    for size in (b"\0\0\0\1mdat" + (10 << 30).to_bytes(8, "big"), b"\xff\xff\xff\xffmdat"):
        path.write_bytes(raw[:at] + size + raw[at + 8 :])
        refused(path, "is damaged")


def test_times_that_lie_do_not_make_the_sound_longer(tmp_path):
    """Packets that say they come after three years: what they hold stands where the gap ends."""
    path = film(tmp_path / "x.mkv", [VOICE], gap=GAP)
    raw = bytearray(path.read_bytes())
    cluster = raw.rindex(b"\x1f\x43\xb6\x75")
    at = raw.index(b"\xe7", cluster)
    width = raw[at + 1] & 0x7F
    raw[at + 2 : at + 2 + width] = b"\x7f" * width
    path.write_bytes(raw)
    x, notes = read(path)
    assert abs(len(x) - len(VOICE)) < 0.05 * RATE
    assert any("silence stands there" in note for note in notes)


def test_encrypted_sound(tmp_path):
    """The sample description says that it is."""
    path = film(tmp_path / "x.m4a", [VOICE])
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"mp4a", b"enca"))
    refused(path, "is encrypted: it cannot be read")


def test_a_rate_that_changes(tmp_path):
    """Two streams of other rates and channels, joined: one after the other, at the first's rate."""
    film(tmp_path / "a.aac", [VOICE], RATE, format="adts")
    both = soxr.resample(np.stack([VOICE, VOICE], 1), RATE, 44100).astype(np.float32)
    film(tmp_path / "b.aac", [both], 44100, format="adts")
    path = tmp_path / "c.aac"
    path.write_bytes((tmp_path / "a.aac").read_bytes() + (tmp_path / "b.aac").read_bytes())
    x, notes = read(path)
    assert len(x) == pytest.approx(6 * RATE, abs=0.3 * RATE)
    assert any("change in mid-file" in note for note in notes)
    shift, alike = lag(x[3 * RATE :], VOICE)
    assert alike > 0.9 and 0 <= shift < 0.2 * RATE


def test_ffmpeg_says_nothing_and_opens_nothing_else(tmp_path):
    """Its log stays off; playlists and names that it would follow are no sound."""
    film(tmp_path / "secret.m4a", [VOICE])
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.m4a\n#EXT-X-ENDLIST\n"
    for name, text in (
        ("x.m3u8", playlist),
        ("x.mp4", playlist),
        ("y.mp4", "ffconcat version 1.0\nfile secret.m4a\n"),
    ):
        (tmp_path / name).write_text(text)
    broken = bytearray((tmp_path / "secret.m4a").read_bytes())
    broken[60:400] = os.urandom(340)
    (tmp_path / "broken.m4a").write_bytes(broken)
    code = (
        "import sys\nfrom slyther_cli.audio.reader import AudioReader\n"
        "from slyther_cli.errors import InputError\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        sum(map(len, AudioReader(name).blocks(5000)))\n        print('read', name)\n"
        "    except InputError as error:\n        print('refused')\n"
    )
    names = ["x.m3u8", "x.mp4", "y.mp4", "broken.m4a"]
    run = subprocess.run([sys.executable, "-c", code, *names], cwd=tmp_path, capture_output=True, text=True)
    assert run.stderr == "" and run.stdout.count("refused") >= 3 and "read x" not in run.stdout


@pytest.mark.parametrize("name", ["x.m4a", "x.mkv", "x.wma", "x.ac3"])
def test_no_damage_makes_a_crash(tmp_path, name):
    from slyther_cli.errors import InputError

    codec, rate = {"x.wma": ("wmav2", 44100), "x.ac3": ("ac3", 48000)}.get(name, ("aac", 16000))
    whole = film(tmp_path / name, [voice(0.5, rate)], rate, codec).read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / ("y" + name)
    for _ in range(40):
        raw = bytearray(whole)
        for _ in range(rng.integers(1, 8)):
            at = int(rng.integers(0, len(raw) if rng.random() < 0.5 else 400))
            raw[at : at + 1] = rng.bytes(1)
        path.write_bytes(raw[: rng.integers(1, len(raw))] if rng.random() < 0.3 else raw)
        try:
            with AudioReader(path) as reader:
                blocks = list(reader.blocks(500))
                assert all(np.isfinite(block).all() for block in blocks)
                assert reader.source_frames == sum(map(len, blocks))
        except InputError as error:
            assert "\n" not in str(error)


def test_pyav_is_loaded_for_such_files_alone(tmp_path):
    import soundfile as sf

    sf.write(tmp_path / "x.wav", VOICE, RATE)
    code = (
        "import sys\nfrom slyther_cli.audio.reader import AudioReader\n"
        "sum(map(len, AudioReader(sys.argv[1]).blocks(5000)))\nprint('av' in sys.modules)\n"
    )
    for path, loaded in ((tmp_path / "x.wav", "False"), (film(tmp_path / "x.m4a", [VOICE]), "True")):
        run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        assert run.stdout.strip() == loaded


def test_bytes_of_a_picture_are_no_sound(tmp_path):
    (tmp_path / "x.mp4").write_bytes(b"\x89PNG\r\n\x1a\n" + os.urandom(2000))
    refused(tmp_path / "x.mp4", "is not a sound file that can be read")
