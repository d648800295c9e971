"""Reading: every format, every way of being broken, standard input, and block independence."""

import io
import os
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.resample import resampled_length
from slyther_cli.audio.spool import Source
from slyther_cli.errors import InputError, OutputError, UsageError

RNG = np.random.default_rng(0)
NOISE = (0.1 * RNG.standard_normal(30_000)).astype(np.float32)
FORMATS = {  # name: (format, subtype, how far samples may be off)
    "a.wav": ("WAV", "PCM_16", 4e-5),
    "u8.wav": ("WAV", "PCM_U8", 8e-3),
    "s24.wav": ("WAV", "PCM_24", 3e-7),
    "s32.wav": ("WAV", "PCM_32", 3e-7),
    "f32.wav": ("WAV", "FLOAT", 0),
    "f64.wav": ("WAV", "DOUBLE", 0),
    "ulaw.wav": ("WAV", "ULAW", 2e-2),
    "ima.wav": ("WAV", "IMA_ADPCM", None),
    "x.wav": ("WAVEX", "PCM_16", 4e-5),
    "a.flac": ("FLAC", "PCM_16", 4e-5),
    "s24.flac": ("FLAC", "PCM_24", 3e-7),
    "a.ogg": ("OGG", "VORBIS", None),
    "a.opus": ("OGG", "OPUS", None),
    "a.mp3": ("MP3", "MPEG_LAYER_III", None),
    "a.aiff": ("AIFF", "PCM_16", 4e-5),
    "a.w64": ("W64", "PCM_16", 4e-5),
    "a.rf64": ("RF64", "PCM_16", 4e-5),
    "a.au": ("AU", "FLOAT", 0),
    "a.caf": ("CAF", "PCM_16", 4e-5),
}


def write_sound(path, x=NOISE, rate=16000, **how):
    sf.write(path, x, rate, **how)
    return path


def encoded(name, tmp_path, x=NOISE, rate=16000):
    kind, subtype, _ = FORMATS[name]
    return write_sound(tmp_path / name, x, rate, format=kind, subtype=subtype)


def read(path, size=7000, **how):
    """All samples and notes, after checking that the announced length is the true one."""
    with AudioReader(path, **how) as reader:
        announced = reader.frames
        blocks = list(reader.blocks(size))
        assert all(len(b) == size for b in blocks[:-1]) and 0 < len(blocks[-1]) <= size
        assert all(b.dtype == np.float32 and b.ndim == 1 for b in blocks)
        x = np.concatenate(blocks)
        assert reader.frames == len(x)
        assert announced in (None, len(x))
        return x, reader.notes


def refused(path, says, **how):
    with pytest.raises(InputError, match=says) as error, AudioReader(path, **how) as reader:
        list(reader.blocks(5000))
    text = str(error.value)
    assert "\n" not in text and (Path(path).name in text or "standard input" in text)
    return text


@contextmanager
def stdin(monkeypatch, data: bytes):
    """Standard input as a real pipe with these bytes."""
    out, into = os.pipe()

    def feed():
        with suppress(BrokenPipeError), os.fdopen(into, "wb") as file:
            file.write(data)

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(out, "rb") as pipe:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(pipe))
        yield
    thread.join()


# ---- what can be read -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_format(name, tmp_path):
    path = encoded(name, tmp_path)
    kind, subtype, tolerance = FORMATS[name]
    x, notes = read(path)
    with AudioReader(path) as reader:
        assert (reader.format, reader.subtype) == (kind, subtype)
        assert (reader.source_rate, reader.rate, reader.channels) == (16000, 16000, 1)
    assert notes == []
    if tolerance is None:  # lossy: still the same sound, at the same place
        assert abs(len(x) - len(NOISE)) <= 512
        count = min(len(x), len(NOISE))
        assert np.corrcoef(x[:count], NOISE[:count])[0, 1] > 0.8
    else:
        np.testing.assert_allclose(x, NOISE, atol=tolerance)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    n=st.integers(1, 70_000),
    size=st.integers(1, 100_000),
    source=st.sampled_from([8000, 11025, 44100]),
    rate=st.sampled_from([None, 8000, 16000]),
    channels=st.integers(1, 3),
)
def test_samples_do_not_depend_on_the_block_size(tmp_path, n, size, source, rate, channels):
    size = max(size, n // 200)
    x = np.random.default_rng(n).standard_normal((n, channels)).astype(np.float32)
    path = write_sound(tmp_path / "x.wav", x, source, subtype="FLOAT")
    whole, _ = read(path, 10**9, rate=rate)
    assert len(whole) == resampled_length(n, source, rate or source)
    np.testing.assert_array_equal(read(path, size, rate=rate)[0], whole)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_reading_again_gives_the_same(name, tmp_path):
    path = encoded(name, tmp_path)
    with AudioReader(path, rate=8000) as reader:
        next(stale := reader.blocks(100))
        first = np.concatenate(list(reader.blocks(4096)))
        with pytest.raises(RuntimeError, match="stale"):
            next(stale)
        reader.rewind()
        np.testing.assert_array_equal(np.concatenate(list(reader.blocks(1000))), first)
    with pytest.raises(ValueError, match="closed"):
        reader.rewind()


@pytest.mark.parametrize("rate", [4000, 11025, 384_000, 768_000])
def test_extreme_rates(tmp_path, rate):
    x, notes = read(write_sound(tmp_path / "x.wav", NOISE[:9000], rate), rate=8000)
    assert len(x) == resampled_length(9000, rate, 8000)
    assert notes == [f"resampled {rate} Hz -> 8000 Hz"]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
@pytest.mark.parametrize("rate", [None, 8000, 48000])
def test_one_sample(name, rate, tmp_path):
    x, _ = read(encoded(name, tmp_path, NOISE[:1]), rate=rate)
    assert len(x) == resampled_length(1, 16000, rate or 16000)


# ---- channels and what the mix tells ----------------------------------------------------------


def test_mix_and_single_channels(tmp_path):
    stereo = np.stack([NOISE, 0.5 * NOISE[::-1]], axis=1)
    path = write_sound(tmp_path / "x.wav", stereo, subtype="FLOAT")
    mixed, notes = read(path)
    np.testing.assert_allclose(mixed, stereo.mean(axis=1), atol=1e-7)
    assert notes == ["2 channels mixed down to one"]
    for channel in (1, "2"):
        x, notes = read(path, channel=channel)
        np.testing.assert_array_equal(x, stereo[:, int(channel) - 1])
        assert notes == [f"channel {channel} of 2 is used"]
    refused(path, r"has 2 channels: there is no channel 3", channel=3)
    refused(write_sound(tmp_path / "m.wav"), r"has 1 channel: there is no channel 2", channel=2)


@pytest.mark.parametrize("channel", [0, -1, "left", "", "1.5", None])
def test_senseless_channels(tmp_path, channel):
    with pytest.raises(UsageError, match="channel"):
        AudioReader(write_sound(tmp_path / "x.wav"), channel=channel)


def test_64_channels(tmp_path):
    x = RNG.standard_normal((5000, 64)).astype(np.float32)
    path = write_sound(tmp_path / "x.wav", x, subtype="FLOAT")
    np.testing.assert_allclose(read(path)[0], x.mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(read(path, channel=64)[0], x[:, 63])


def test_silent_and_cancelling_channels_are_reported(tmp_path):
    silent = write_sound(tmp_path / "s.wav", np.stack([NOISE, 0 * NOISE], axis=1))
    assert any("channel 2 is silent throughout" in note for note in read(silent)[1])
    assert not any("silent" in note for note in read(silent, channel=1)[1])
    assert "channel 2 is silent throughout, others are not" in read(silent, channel=2)[1]
    phase = write_sound(tmp_path / "p.wav", np.stack([NOISE, -NOISE], axis=1), subtype="FLOAT")
    assert any("cancel each other" in note for note in read(phase)[1])
    nothing = write_sound(tmp_path / "n.wav", np.zeros((100, 2)))
    assert "digital silence from beginning to end" in read(nothing)[1]


@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_channels_with_a_speaker_each_are_reported(tmp_path, gain):
    """Whatever their levels: 16 turns, with some of the other voice in each channel."""
    turns = np.repeat(np.arange(16) % 2, 20_000)[:, None] == [0, 1]
    noise = 0.1 * RNG.standard_normal((len(turns), 1)).astype(np.float32)
    call = noise * np.where(turns, 1, 0.05) * [gain, 0.3 * gain]
    note = "a voice of its own seems to be in each channel: transcribe --channel each keeps them apart"
    path = write_sound(tmp_path / "call.wav", call, subtype="FLOAT")
    assert note in read(path)[1] and note not in read(path, channel=1)[1]
    room = noise * [1, 0.5] + 0.02 * RNG.standard_normal(call.shape)
    wide = 0.1 * RNG.standard_normal(call.shape)
    for both in (room, wide):
        assert note not in read(write_sound(tmp_path / "room.wav", both, subtype="FLOAT"))[1]


def test_samples_that_are_not_numbers(tmp_path):
    x = NOISE.copy()
    x[[3, 77, 20_000]] = np.nan, np.inf, -np.inf
    x[100] = 1e30
    path = write_sound(tmp_path / "x.wav", x, subtype="FLOAT")
    got, notes = read(path)
    assert "4 non-finite samples replaced by zero" in notes
    bad = [3, 77, 100, 20_000]
    assert (got[bad] == 0).all()
    np.testing.assert_array_equal(np.delete(got, bad), np.delete(x, bad))
    assert np.isfinite(read(path, rate=44100)[0]).all()
    nans = write_sound(tmp_path / "n.wav", np.full(50, np.nan, np.float32), subtype="FLOAT")
    got, notes = read(nans)
    assert (got == 0).all() and len(got) == 50
    assert notes == ["50 non-finite samples replaced by zero", "digital silence from beginning to end"]


def test_loud_float_files_are_kept(tmp_path):
    path = write_sound(tmp_path / "x.wav", 30000 * NOISE, subtype="FLOAT")
    np.testing.assert_array_equal(read(path)[0], 30000 * NOISE)


# ---- standard input and pipes -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_stdin(name, tmp_path, monkeypatch):
    path = encoded(name, tmp_path, np.tile(NOISE, 5))
    work = tmp_path / "work"
    work.mkdir()
    expected, _ = read(path, rate=8000)
    with stdin(monkeypatch, path.read_bytes()):
        reader = AudioReader("-", rate=8000, work_dir=work)
        for _ in range(2):
            np.testing.assert_array_equal(np.concatenate(list(reader.blocks(3000))), expected)
        assert len(list(work.iterdir())) == 1
        reader.close()
    assert list(work.iterdir()) == []


def test_stdin_streamed_wav(tmp_path, monkeypatch):
    raw = bytearray(write_sound(tmp_path / "x.wav").read_bytes())
    raw[4:8] = raw[40:44] = b"\xff" * 4
    with stdin(monkeypatch, bytes(raw)):
        np.testing.assert_allclose(read("-", work_dir=tmp_path)[0], NOISE, atol=4e-5)


@pytest.mark.parametrize(("data", "says"), [(b"", "is empty"), (b"hello " * 50, "is not a sound file")])
def test_bad_stdin_leaves_nothing(tmp_path, monkeypatch, data, says):
    with stdin(monkeypatch, data):
        refused("-", "standard input " + says, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_stdin_that_is_a_terminal_or_closed(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    refused("-", "standard input is a terminal")
    monkeypatch.setattr(sys, "stdin", None)
    refused("-", "standard input is closed")


def test_stdin_without_a_place_for_it(tmp_path, monkeypatch):
    with stdin(monkeypatch, b"x"), pytest.raises(OutputError, match="no temporary file in"):
        AudioReader("-", work_dir=tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_stopped_the_moment_the_copy_is_made(tmp_path, monkeypatch):
    opens = os.open

    def stopped(path, *how):
        os.close(opens(path, *how))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", stopped)
        with suppress(KeyboardInterrupt):
            pytest.fail(f"not stopped: {Source('-', tmp_path, io.BytesIO(b'x'))}")
    assert not list(tmp_path.iterdir())


def test_named_pipe(tmp_path):
    raw = write_sound(tmp_path / "x.wav").read_bytes()
    os.mkfifo(tmp_path / "pipe")
    thread = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(raw,))
    thread.start()
    np.testing.assert_allclose(read(tmp_path / "pipe")[0], NOISE, atol=4e-5)
    thread.join()
