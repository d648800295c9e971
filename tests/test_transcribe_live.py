"""`slyther transcribe -` with a causal model: words come while the sound does, and Ctrl-C keeps them."""

import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tones
from tones import SAID, transcribed
from tools import error_lines, files_in, from_file_as_stdin

from slyther_cli.jobs.setup import choose_model
from slyther_cli.transcription import recogniser, writer
from slyther_cli.transcription.recogniser import Recogniser

RATE = 16_000


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    return tones.cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, models):
    with tones.at_home(tmp_path, monkeypatch, models):
        yield tmp_path


def events(out, kind):
    return [told for line in out.splitlines() if (told := json.loads(line))["event"] == kind]


class Pipe:
    """Standard input that gets its bytes piece by piece, and is never closed before ``end``."""

    def __init__(self, monkeypatch):
        read, self.write = os.pipe()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(open(read, "rb")))  # noqa: SIM115

    def put(self, data):
        while data:
            data = data[os.write(self.write, data) :]

    def end(self):
        os.close(self.write)


def as_wav(x, rate=RATE):
    file = io.BytesIO()
    sf.write(file, x, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("how", [(), ("--decode", "beam", "--beam", 4)])
def test_live_is_what_the_file_gives(capfd, monkeypatch, rate, how):
    x, _ = tones.spoken(SAID, rate)
    x = np.concatenate([x, np.zeros(2 * rate, np.float32), x])
    Path("talk.wav").write_bytes(as_wav(x, rate))
    whole = transcribed(capfd, "talk.wav", "-m", "live", "-f", "json", *how)[1]
    from_file_as_stdin(monkeypatch, "talk.wav")
    code, out, err = transcribed(capfd, "-", "-m", "live", "-f", "json", "-v", *how)
    assert code == 0 and "words come while the sound does" in err and files_in() == ["talk.wav"]
    assert json.loads(whole)["text"] == f" {SAID} {SAID}"
    assert json.loads(out)["text"] == json.loads(whole)["text"]
    times = [[(s["start"], s["end"]) for s in json.loads(t)["segments"]] for t in (out, whole)]
    assert times[0] == times[1]


def test_words_come_while_the_sound_does(capfd, monkeypatch):
    """The first segment is there before the last sound is; what is heard so far is told as partial."""
    x, _ = tones.spoken(SAID)
    first = as_wav(np.concatenate([x, np.zeros(2 * RATE, np.float32)]))[:-1]
    pipe, seen, fed = Pipe(monkeypatch), [], threading.Event()
    put = recogniser.TextStream.push

    def push(self, log_probs):
        done = put(self, log_probs)
        seen.extend(one.text for one in done)
        fed.set()
        return done

    monkeypatch.setattr(recogniser.TextStream, "push", push)

    def speak():
        pipe.put(first[:4] + b"\xff\xff\xff\xff" + first[8:40] + b"\xff\xff\xff\xff")  # an open end
        for at in range(44, len(first), 3200):
            fed.clear()
            pipe.put(first[at : at + 3200])
            fed.wait(1.0)  # so that the pieces do not come together
        end = time.monotonic() + 60
        while not seen and time.monotonic() < end:
            time.sleep(0.01)
        heard.append(list(seen))
        pipe.end()

    heard: list = []
    thread = threading.Thread(target=speak)
    thread.start()
    code, out, _ = transcribed(capfd, "-", "-m", "live", "--json", "-q")
    thread.join()
    assert code == 0 and heard == [[SAID]]
    assert [told["text"] for told in events(out, "segment")] == [" " + SAID]
    partial = [told["text"].strip() for told in events(out, "partial")]
    assert partial[0] == "h" and partial[-1] == SAID and len(partial) > 10
    assert all(SAID.startswith(text) for text in partial)


def test_raw_samples(capfd, monkeypatch):
    x, _ = tones.spoken(SAID)
    Path("raw").write_bytes((x * 30_000).astype("<i2").tobytes())
    for model in ("live", "tones"):
        from_file_as_stdin(monkeypatch, "raw")
        assert transcribed(capfd, "-", "-m", model, "--raw", 16000)[:2] == (0, SAID + "\n")
    code, _, err = transcribed(capfd, "talk.wav", "--raw", 16000)
    assert code == 2 and "standard input" in error_lines(err)[0]
    from_file_as_stdin(monkeypatch, "raw")
    code, _, err = transcribed(capfd, "-", "-m", "live")  # no header
    assert code == 4 and "not a sound file" in error_lines(err)[0]


def test_a_stream_without_end_does_not_grow(models):
    """An hour of talk, live: what is held back is what was said since the last pause."""
    live = Recogniser(choose_model("transcribe", "live", "live"))
    x = np.concatenate([tones.spoken(SAID)[0], np.zeros(2 * RATE, np.float32)])
    texts = [one.text for done, _ in live.live(x.copy() for _ in range(20)) for one in done]
    assert texts == [SAID] * 20


OPEN_END = b"\xff\xff\xff\xff"


def open_ended(x):
    wav = as_wav(x)
    return wav[:4] + OPEN_END + wav[8:40] + OPEN_END + wav[44:]


def interrupted(monkeypatch, capfd, number, *how, heard=SAID):
    """Result of a run that gets the signal after ``heard`` was said and is waiting for more."""
    pipe, fed, listening = Pipe(monkeypatch), [], threading.Event()
    begin, push = recogniser.LiveEncoder.__init__, recogniser.LiveEncoder.push
    x = tones.spoken(heard)[0]

    def begun(self, model):
        begin(self, model)
        listening.set()

    def pushed(self, block):
        fed.append(len(block))
        return push(self, block)

    monkeypatch.setattr(recogniser.LiveEncoder, "__init__", begun)
    monkeypatch.setattr(recogniser.LiveEncoder, "push", pushed)

    def speak():
        pipe.put(open_ended(x))
        end = time.monotonic() + 60
        listening.wait(60)  # a signal while the model loads is another case
        while sum(fed) < len(x) - RATE // 2 and time.monotonic() < end:  # the level holds some back
            time.sleep(0.01)
        time.sleep(0.3)  # until it listens again
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=speak)
    thread.start()
    result = transcribed(capfd, "-", "-m", "live", *how)
    thread.join()
    pipe.end()
    return result


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_stream_and_keeps_what_was_heard(capfd, monkeypatch, number, code):
    got, out, err = interrupted(monkeypatch, capfd, number, "-f", "txt,json", "-o", "out")
    assert got == code and "stopped" in err and files_in("out") == ["-.json", "-.txt"]
    assert out.split() == ["out/-.txt", "out/-.json"]
    assert Path("out/-.txt").read_text() == SAID + "\n"  # no pause has ended it
    assert json.loads(Path("out/-.json").read_text())["text"] == " " + SAID


def test_standard_output_is_whole_too(capfd, monkeypatch):
    code, out, _ = interrupted(monkeypatch, capfd, signal.SIGINT, "-f", "json")
    assert code == 130 and json.loads(out)["text"] == " " + SAID


def test_stopped_before_anything_was_heard(capfd, monkeypatch):
    code, out, _ = interrupted(monkeypatch, capfd, signal.SIGINT, "-o", "out", heard="")
    assert code == 130 and not out and not files_in()


def test_stopped_while_computing(capfd, monkeypatch):
    """What had become final is kept."""
    x = np.concatenate([tones.spoken(SAID)[0], np.zeros(2 * RATE, np.float32), tones.spoken("all")[0]])
    Path("talk.wav").write_bytes(as_wav(x))
    from_file_as_stdin(monkeypatch, "talk.wav")

    def fails(self, samples):
        raise KeyboardInterrupt

    monkeypatch.setattr(recogniser.TextStream, "flush", fails)
    code, out, _ = transcribed(capfd, "-", "-m", "live", "-o", "out")
    assert code == 130 and out == "out/-.txt\n" and Path(out.strip()).read_text() == SAID + "\n"


def test_a_signal_waits_for_what_is_being_written():
    done = []
    with pytest.raises(KeyboardInterrupt), writer.unstopped():
        os.kill(os.getpid(), signal.SIGINT)
        done.append(1)
    assert done and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
