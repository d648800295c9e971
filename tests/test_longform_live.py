"""Sound that is separated while it comes: `slyther separate -` with a causal model."""

import errno
import io
import os
import signal
import struct
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from longform_tools import noise

from slyther_cli import app
from slyther_cli.audio import wav
from slyther_cli.audio.growing import GrowingStems
from slyther_cli.audio.live import LiveReader, listen, raw_header
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.spool import Rejoined, Source
from slyther_cli.audio.writer import Encoding
from slyther_cli.checkpoints import store
from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.models import registry
from slyther_cli.research.training.fourier_start import start_from_fourier
from slyther_cli.separation.job import LIVE_MODEL
from slyther_cli.separation.live import LiveStems

SIZES = {"n_filters": 16, "d_model": 8, "n_layers": 2}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder with a model "live" and a bidirectional one "both"."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(1)
    for name in ("live", "both"):
        config = {**SIZES, "causal": name == "live"}
        model = registry.build("mamba-tasnet", config)
        start_from_fourier(model)
        store.save(
            folder / name, model, name=name, architecture="mamba-tasnet", config=config, task="separate"
        )
    return folder


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


class Dribble:
    """A stream that gives at most so many bytes at a time, as a pipe does."""

    def __init__(self, data, sizes):
        self.data, self.sizes, self.turn = io.BytesIO(data), sizes, 0

    def read(self, size, /):
        return self.data.read(size)

    def read1(self, size, /):
        self.turn += 1
        return self.data.read(min(size, self.sizes[self.turn % len(self.sizes)]))


def heard(reader):
    parts = list(reader.blocks())
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def from_file(path, channel="mix", rate=None):
    with AudioReader(path, channel, rate) as reader:
        return np.concatenate(list(reader.blocks(1000)))


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("format", ["WAV", "WAVEX", "RF64"])
@settings(max_examples=4)
@given(
    sizes=st.lists(st.integers(1, 3000), min_size=1, max_size=5),
    channels=st.integers(1, 3),
    frames=st.integers(1, 2000),
)
def test_what_is_heard_is_what_is_in_the_file(tmp_path_factory, subtype, format, sizes, channels, frames):
    path = tmp_path_factory.mktemp("x") / "a.wav"
    x = np.clip(noise(frames * channels).reshape(frames, channels), -1, 1)
    sf.write(path, x, 8000, subtype=subtype, format=format)
    for channel in ("mix", channels):
        reader = listen(Dribble(path.read_bytes(), sizes), "it", channel, 8000)
        mono, same = heard(reader)
        assert np.array_equal(mono, from_file(path, channel)) and np.array_equal(mono, same)
        assert (reader.source_frames, reader.source_rate, reader.channels) == (frames, 8000, channels)


def test_the_rate_is_changed_and_all_notes_are_reported():
    x = noise(20_000)
    sf.write("a.wav", np.stack([x, 0 * x], 1), 44_100, subtype="FLOAT")
    data = Path("a.wav").read_bytes()
    reader = listen(Dribble(data, [777]), "it", "mix", 8000)
    _, resampled = heard(reader)
    wanted = from_file("a.wav", rate=8000)
    assert len(resampled) == len(wanted) and np.abs(resampled - wanted).max() < 1e-6
    told = " ".join(reader.notes)
    for words in ("2 channels mixed", "resampled 44100", "channel 2 is silent"):
        assert words in told
    cut = listen(Dribble(data[: len(data) // 2 - 1], [777]), "it", 1, 8000)
    assert 9990 < len(heard(cut)[0]) < 10_000 and "cut short" in " ".join(cut.notes)


def test_chunks_behind_the_samples_are_no_sound_and_open_ends_are():
    x = noise(3000)
    sf.write("a.wav", x, 8000, subtype="FLOAT")
    data = Path("a.wav").read_bytes() + b"LIST" + struct.pack("<I", 4000) + bytes(4000)
    stream = Dribble(data, [500])
    assert len(heard(listen(stream, "it", "mix", 8000))[0]) == 3000
    assert not stream.data.read()  # all was taken from the writer
    for head in (raw_header("8000:1:f32"), raw_header("8000:1:f32").replace(b"\xff" * 4, bytes(4))):
        assert len(heard(listen(Dribble(head + x.tobytes(), [501]), "it", "mix", 8000))[0]) == 3000


def test_streams_that_are_no_sound():
    for data, words in [
        (b"", "is empty"),
        (raw_header("8000"), "no samples"),
        (raw_header("8000") + b"x", "no"),
    ]:
        with pytest.raises(InputError, match=words):
            heard(listen(Dribble(data, [10]), "it", "mix", 8000))
    for bad, error in [("2000", InputError), ("8000:1", InputError)]:
        with pytest.raises(error):
            listen(Dribble(raw_header(bad), [10]), "it", 2, 8000)
    long = raw_header("8000")[:12] + b"LIST" + (2 << 20).to_bytes(4, "little") + b"data" + bytes(2 << 20)
    assert isinstance(listen(Dribble(long, [1 << 16]), "it", "mix", 8000), Rejoined)  # a spool reads it
    good = bytearray(raw_header("8000") + noise(500).tobytes())
    rng = np.random.default_rng(0)
    for _ in range(300):  # anything may come, nothing but InputError may go
        data = bytearray(good)
        for at in rng.integers(0, 60, 3):
            data[at] = rng.integers(256)
        try:
            reader = listen(Dribble(bytes(data), [90]), "it", "mix", 8000)
            if isinstance(reader, LiveReader):
                heard(reader)
            else:
                assert reader.read(20) == bytes(data[:20])
        except InputError:
            pass


def test_a_stream_is_whole_again_after_a_look_at_it():
    sf.write("a.flac", noise(4000), 8000)
    data = Path("a.flac").read_bytes()
    stream = listen(Dribble(data, [100]), "it", "mix", 8000)
    assert isinstance(stream, Rejoined)
    out = stream.read(5) + stream.read1(5) + stream.read(3000)
    while more := stream.read1(999):
        out += more
    assert out == data


@pytest.mark.parametrize(
    "bad", ["", "x", "0", "8000:", "8000:0", "8000:2:mp3", "-1", "8000:1:s16:2", "9" * 30]
)
def test_raw_descriptions(bad):
    if bad == "8000:":  # nothing said is one channel
        assert raw_header(bad) == raw_header("8000")
        return
    with pytest.raises(UsageError):
        raw_header(bad)


def raising(error, then):
    """A function that raises once."""
    errors = [error]

    def call():
        if errors:
            raise errors.pop()
        then()

    return call


def test_growing_stems_are_files_at_every_moment(tmp_path, monkeypatch):
    paths = [tmp_path / "out" / f"{i}.wav" for i in range(2)]
    x = np.clip(noise(6000).reshape(2, 3000), -1, 1)
    with GrowingStems(
        paths, 8000, encoding=Encoding("wav", "FLOAT"), clip="clamp", metadata={"title": "t"}
    ) as group:
        for at in range(0, 3000, 1000):
            group.write(x[:, at : at + 1000])
            for i, path in enumerate(paths):
                assert np.array_equal(from_file(path), x[i, : at + 1000])
        group.commit()
    assert [np.array_equal(sf.read(p, dtype="float32")[0], x[i]) for i, p in enumerate(paths)] == [True, True]
    with open(paths[0], "rb") as file:
        assert sf.info(paths[0]).frames == 3000 and wav.read_header(file).declared == 12_000
    group = GrowingStems(paths, 8000, clip="clamp")
    group.write(x[:, :500])
    group._sinks[0].write(x[0, :70])  # stopped between two stems
    group.abort()
    assert [sf.info(p).frames for p in paths] == [500, 500]
    group = GrowingStems(paths, 8000, clip="clamp")
    group.write(x[:, :500])
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(group._sinks[1], "close", raising(full, group._sinks[1].close))  # at the first try
    with pytest.raises(OutputError, match=r"1\.wav cannot be written: no space left"):
        group.commit()
    assert [sf.info(p).frames for p in paths] == [500, 500]
    GrowingStems([tmp_path / "new" / "a.flac"], 8000, encoding=Encoding("flac"), clip="clamp").abort()
    assert not (tmp_path / "new").exists()


def as_stdin(monkeypatch, file):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))


def separate(*args):
    return app.main(["separate", "-", "--threads", "1", *map(str, args)])


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (4000, 1)])
def test_stems_follow_the_sound(monkeypatch, capfd, models, rate, channels):
    """Every second that is sent is in the stems, but for the delay, before the next one is sent."""
    seconds, x = 4, noise(4 * rate * channels).reshape(-1, channels)
    data = (x * 30_000).astype("<i2")
    sf.write("whole.wav", data, rate)
    alike = ["--clip", "clamp", "--no-highband"]
    assert app.main(["separate", "whole.wav", "-m", str(models / "live"), *alike]) == 0
    receiving, sending = os.pipe()
    as_stdin(monkeypatch, os.fdopen(receiving, "rb"))
    monkeypatch.setattr("slyther_cli.audio.spool.Source._spool", None)  # nothing is copied
    behind = []

    def send():
        with os.fdopen(sending, "wb") as file:
            file.write(raw_header(f"{rate}:{channels}"))
            for second in range(seconds):
                file.write(data[second * rate : (second + 1) * rate].tobytes())
                file.flush()
                due = (second + 1 - delay) * rate
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    there = [p for p in Path("out").glob("*_s?.wav") if p.stat().st_size > 100]
                    try:
                        got = min((len(from_file(p)) for p in there), default=0)
                    except InputError:  # it grew while it was read
                        continue
                    if len(there) == 2 and got >= due:
                        break
                    time.sleep(0.01)
                behind.append((second + 1) - got / rate)

    model = store.load(models / "live")[0]
    delay = LiveStems(model, listen(Dribble(raw_header(f"{rate}:{channels}"), [9]), "", "mix", 8000)).delay
    assert delay < (0.11 if rate == 8000 else 1.1)
    sender = threading.Thread(target=send)
    sender.start()
    assert separate("-m", models / "live", "-o", "out", "-v") == 0
    sender.join()
    said = capfd.readouterr().err
    assert "live: one pass" in said and f"at most {delay:.2g} s behind" in said
    assert len(behind) == seconds and max(behind) <= delay
    for stem in ("s1", "s2"):
        live, whole = (sf.read(f)[0] for f in (f"out/stdin_{stem}.wav", f"separated/whole_{stem}.wav"))
        assert len(live) == len(whole) == seconds * rate
        assert np.abs(live - whole).max() <= 1.5 / 2**15  # rounding


def test_ctrl_c_ends_a_live_job_and_keeps_what_was_heard(monkeypatch, capfd, models):
    receiving, sending = os.pipe()
    as_stdin(monkeypatch, os.fdopen(receiving, "rb"))

    def send():
        os.write(sending, raw_header("8000") + (noise(16_000) * 9000).astype("<i2").tobytes())
        end = time.monotonic() + 60
        while time.monotonic() < end:
            there = list(Path("out").glob("*_s2.wav"))
            if there and there[0].stat().st_size > 29_000:
                break
            time.sleep(0.01)
        time.sleep(0.1)  # until it listens again
        os.kill(os.getpid(), signal.SIGINT)

    sender = threading.Thread(target=send)
    sender.start()
    code = separate("-m", models / "live", "-o", "out")
    sender.join()
    os.close(sending)
    err = capfd.readouterr().err
    assert code == 130 and "Traceback" not in err
    frames = {sf.info(f"out/stdin_s{i}.wav").frames for i in (1, 2)}
    assert len(frames) == 1 and 16_000 - 0.11 * 8000 <= frames.pop() <= 16_000


def test_raw_sound_residual_and_flac(monkeypatch, capfd, models):
    x = (noise(20_000).reshape(-1, 2) * 9000).astype("<i2")
    for model, words in (("live", "heard"), ("both", "the model is bidirectional, so it is read to its end")):
        as_stdin(monkeypatch, io.BytesIO(x.tobytes()))
        how = ["--raw", "16000:2", "--residual", "--format", "flac", "--json"]
        assert separate("-m", models / model, "-o", model, *how) == 0
        out, err = capfd.readouterr()
        assert words in (out if model == "live" else out + err) and '"frames": 10000' in out
        stems = [sf.read(f"{model}/stdin_{s}.flac")[0] for s in ("s1", "s2", "residual")]
        assert np.abs(sum(stems) - x.mean(1) / 2**15).max() < 2.5 / 2**15


def test_other_ways_to_come(monkeypatch, capfd, models):
    """Compressed sound on stdin is read whole first, and that is said; bad descriptions of raw sound; a dry
    run; and a stream that is nothing.
    """
    sf.write("a.flac", noise(4000), 8000)
    with open("a.flac", "rb") as file:
        as_stdin(monkeypatch, file)
        assert separate("-m", models / "live") == 0
    assert "not plain WAV, so it is read to its end first" in capfd.readouterr().err
    assert separate("-m", models / "live", "--raw", "loud") == 2
    assert app.main(["separate", "a.flac", "--raw", "8000"]) == 2
    assert "name it with -" in capfd.readouterr().err
    as_stdin(monkeypatch, io.BytesIO(bytes(1000)))
    assert separate("-m", models / "live", "--raw", "8000", "--dry-run", "-o", "dry") == 0
    as_stdin(monkeypatch, io.BytesIO(b""))
    assert separate("-m", models / "live", "-o", "dry") == 4 and "is empty" in capfd.readouterr().err
    as_stdin(monkeypatch, io.BytesIO(raw_header("8000")))
    assert separate("-m", models / "live", "-o", "dry") == 4 and not Path("dry").exists()


def test_a_copy_takes_the_stream_that_it_is_given(tmp_path):
    source = Source("-", tmp_path, Rejoined(b"abc", io.BytesIO(b"def")))
    assert source.path.read_bytes() == b"abcdef"
    source.close()
    assert not list(tmp_path.iterdir())


def test_the_shipped_model_pulls_two_voices_apart_while_they_come(monkeypatch, capfd):
    from slyther_cli.research.training.losses import best_assignment, pairwise_si_snr

    examples = Path(__file__).parent.parent / "examples"
    mixture, rate = sf.read(examples / "two_voices.flac", dtype="float32")
    sf.write("mix.wav", mixture, rate)
    with open("mix.wav", "rb") as file:
        as_stdin(monkeypatch, file)
        assert separate("-m", LIVE_MODEL, "-o", "out") == 0
    assert "bidirectional" not in capfd.readouterr().err
    stems = np.stack([sf.read(f"out/stdin_s{i}.wav", dtype="float32")[0] for i in (1, 2)])
    n = stems.shape[1]
    assert n == len(mixture)
    voices = [sf.read(examples / f"voice_{i}.flac", dtype="float32")[0][:n] for i in (1, 2)]
    wanted = torch.from_numpy(np.stack([np.pad(v, (0, n - len(v))) for v in voices]))[None]
    mixed = torch.from_numpy(mixture).expand_as(wanted)
    before, after = (
        float(best_assignment(pairwise_si_snr(x, wanted))[0]) for x in (mixed, torch.from_numpy(stems)[None])
    )
    assert after - before > 4, (before, after)
