"""`slyther transcribe --channel each`: a recording whose channels are its speakers, as calls are kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import tones
from tones import record, transcribed
from tools import files_in, from_file_as_stdin

from slyther_cli.errors import UsageError
from slyther_cli.longform import journal
from slyther_cli.transcription import recogniser
from slyther_cli.transcription.job import transcribe

SAYS = ("all deal", "bad bead hide"), ("dial", "hello bad")
PAUSE = 3.0


pytestmark = pytest.mark.usefixtures("place")


def call(name="call.wav", says=SAYS, rate=16_000, silent=0):
    """The channels speak in turn; what each says, with its times, in the order of time."""
    at, pieces, said = 0, [], []
    for turn in range(max(map(len, says))):
        for channel, texts in enumerate(says):
            if turn < len(texts):
                x, words = tones.spoken(texts[turn], rate)
                pieces.append((channel, at, x))
                said.append((f"S{channel + 1}", texts[turn], words[0][0] + at / rate))
                at += len(x) + int(PAUSE * rate)
    sound = np.zeros((at, len(says) + silent), np.float32)
    for channel, start, x in pieces:
        sound[start : start + len(x), channel] = x
    sf.write(name, sound, rate, subtype="FLOAT")
    return said


def test_each_channel_is_a_speaker(capfd):
    said = call()
    (result,) = transcribe("call.wav", channel="each")
    heard = [(s["speaker"], s["text"].strip(), s["start"]) for s in result.segments]
    assert [x[:2] for x in heard] == [x[:2] for x in said]
    assert np.allclose([x[2] for x in heard], [x[2] for x in said], atol=0.1)
    for channel in (1, 2):  # as if it were alone
        (alone,) = transcribe("call.wav", channel=channel)
        mine = [s for s in result.segments if s["speaker"] == f"S{channel}"]
        assert [(s["start"], s["end"], s["text"]) for s in alone.segments] == [
            (s["start"], s["end"], s["text"]) for s in mine
        ]
    code, out, err = transcribed(capfd, "call.wav", "--channel", "each", "-f", "srt", "-o", "-")
    assert code == 0 and out.index("[S1] all deal") < out.index("[S2] dial") < out.index("[S1] bad bead hide")
    assert "channel 1 of 2 is used" in err and "channel 2 of 2 is used" in err


def test_three_channels_one_of_them_silent():
    said = call(silent=1)
    (result,) = transcribe("call.wav", channel="each")
    assert [s["speaker"] for s in result.segments] == [x[0] for x in said]
    assert "channel 3 is silent throughout, others are not" in result.notes


def test_one_channel_has_no_labels():
    record(text="all deal")
    (each,), (plain,) = transcribe("talk.wav", channel="each"), transcribe("talk.wav")
    assert each.text == plain.text == "all deal" and "speaker" not in each.segments[0]


def test_standard_input_is_kept_for_the_second_channel(capfd, monkeypatch):
    call()
    from_file_as_stdin(monkeypatch, "call.wav")
    code, out, err = transcribed(capfd, "-", "--channel", "each")
    assert code == 0 and "bad bead hide" in out and "hello bad" in out
    assert "one after the other, so it is read to its end first" in err


def test_goes_on_in_the_second_channel(capfd, monkeypatch):
    monkeypatch.setattr(journal, "EVERY", 0.0)
    call(says=(("all deal bad bead",) * 3, ("dial hide bad",) * 3))
    how = ("call.wav", "--channel", "each", "-f", "all", "--memory-limit", "1GB")
    whole, calls = recogniser.encode_whole, []

    def stopped(model, blocks, plan, on_progress=None, **more):
        calls.append(0)
        first = len(calls) == 2

        def progress(fraction):
            on_progress(fraction)
            if first and fraction > 0.5:
                raise KeyboardInterrupt

        yield from whole(model, blocks, plan, progress, tile=24, **more)

    monkeypatch.setattr(recogniser, "encode_whole", stopped)
    kept = (*how, "-o", "out", "--resume", "--work-dir", "work")
    assert transcribed(capfd, *kept)[0] == 130 and not files_in("out")
    assert any(name.endswith("/s1.jsonl") for name in files_in("work"))
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work") and len(calls) == 3
    assert transcribed(capfd, *how, "-o", "plain", "-q")[0] == 0
    for name in files_in("plain"):
        assert Path("out", name).read_bytes() == Path("plain", name).read_bytes()


def test_what_does_not_go_together(capfd):
    call()
    with pytest.raises(UsageError, match="leave out --channel each"):
        transcribe("call.wav", channel="each", separate=True)
    assert transcribed(capfd, "call.wav", "--channel", "every")[0] == 2
    code, out, _ = transcribed(capfd, "call.wav", "--channel", "each", "--dry-run", "--json")
    plan = next(e for e in map(json.loads, out.splitlines()) if e["event"] == "plan")
    assert code == 0 and "each of 2 channels is heard for itself" in plan["lines"]
