"""`slyther transcribe --speakers`: people who take turns in one channel, told apart by their voices."""

import json
from pathlib import Path

import numpy as np
import pytest
import tones
from tones import record, transcribed
from tools import error_lines, files_in, from_file_as_stdin

from slyther_cli.errors import UsageError
from slyther_cli.longform import journal
from slyther_cli.transcription import diarization, recogniser
from slyther_cli.transcription.job import transcribe
from slyther_cli.transcription.options import TranscribeOptions

pytestmark = pytest.mark.usefixtures("place", "voices")
RATE = 16_000
TURNS = ("all deal hello", "bad bead hide", "dial all", "hello bad deal")  # two people by turns
FAINT = 0.3


def by_loudness(rate, device="cpu"):
    """In place of the speaker network: the loud voice, and the faint one."""

    def embed(x):
        loud = np.sqrt(np.mean(x**2)) > 0.09
        return np.array([1.0, 0.1] if loud else [0.1, 1.0]) / np.sqrt(1.01)

    return embed


@pytest.fixture
def voices(monkeypatch):
    monkeypatch.setattr(diarization, "embedder", by_loudness)


def meeting(turns=TURNS, name="talk.wav"):
    """A recording of the turns; who says each word."""
    pieces, said = [], []
    for i, text in enumerate(turns):
        x, _ = tones.spoken(text, RATE)
        pieces += [x * (FAINT if i % 2 else 1.0), np.zeros(RATE, np.float32)]
        said += [(word, f"S{i % 2 + 1}") for word in text.split()]
    record(name, x=np.concatenate(pieces))
    return said


def words_of(result):
    return [(word, s["speaker"]) for s in result.segments for word in s["text"].split()]


@pytest.mark.parametrize("speakers", ["auto", 2, "2"])
def test_words_have_their_speakers(speakers, monkeypatch):
    monkeypatch.setattr(diarization, "find_voices", clusters(monkeypatch))
    said = meeting()
    (result,) = transcribe("talk.wav", speakers=speakers)
    assert words_of(result) == said
    (plain,) = transcribe("talk.wav")
    assert [(w["start"], w["end"], w["word"]) for s in plain.segments for w in s["words"]] == [
        (w["start"], w["end"], w["word"]) for s in result.segments for w in s["words"]
    ]
    told = "2 speakers were told apart by voice"
    assert (told in result.notes) is (speakers == "auto")


def clusters(monkeypatch):
    """Voices of a second or two count in so short a recording."""
    from slyther_cli.longform import clustering

    monkeypatch.setattr(clustering, "LEAST_SECONDS", 0.5)
    return clustering.find_voices


def test_every_format_and_names(capfd):
    meeting()
    how = ("talk.wav", "--speakers", "2", "--speaker-names", " Ann Lee,Ben", "-o", "out")
    code, _, err = transcribed(capfd, *how, "-f", "txt,srt,vtt,tsv,json,rttm")
    assert code == 0, err
    for form in ("txt", "srt", "vtt", "tsv"):
        text = Path(f"out/talk.{form}").read_text()
        assert text.index("[Ann Lee] all deal hello") < text.index("[Ben] bad bead hide"), form
        assert text.index("[Ben] bad bead hide") < text.index("[Ann Lee] dial all") and "S1" not in text
    said = json.loads(Path("out/talk.json").read_text())["segments"]
    assert [s["speaker"] for s in said] == ["Ann Lee", "Ben"] * 2
    turns = [line.split() for line in Path("out/talk.rttm").read_text().splitlines()]
    assert [line[7] for line in turns] == ["Ann_Lee", "Ben"] * 2


def test_names_for_channels(capfd):
    x, y = (tones.spoken(text, RATE)[0] for text in ("all deal", "bad bead hide"))
    sound = np.zeros((len(x) + len(y), 2), np.float32)
    sound[: len(x), 0], sound[len(x) :, 1] = x, y
    record(x=sound)
    code, out, err = transcribed(
        capfd, "talk.wav", "--channel", "each", "--speaker-names", "Ann,Ben,Cid", "-o", "-"
    )
    assert code == 0 and out == "[Ann] all deal\n[Ben] bad bead hide\n"
    assert "nothing is said by Cid: 2 speakers are in the transcript" in err
    (result,) = transcribe("talk.wav", channel="each", speaker_names=["Ann"])
    assert [s["speaker"] for s in result.segments] == ["Ann", "S2"]


def test_fewer_speakers_than_told():
    record(text="all deal")
    (result,) = transcribe("talk.wav", speakers=7)
    assert {s["speaker"] for s in result.segments} == {"S1"}
    assert "1 speaker was told apart by voice, not 7: the words of no other are left" in result.notes


def test_nothing_said(capfd):
    record(x=np.zeros(2 * RATE, np.float32))
    code, out, err = transcribed(capfd, "talk.wav", "--speakers", "auto", "--speaker-names", "Ann", "-o", "-")
    assert code == 0 and out == "" and "nothing is said by Ann: no speaker is in the transcript" in err


def test_the_plan_tells_of_it(capfd):
    meeting()
    _, out, _ = transcribed(capfd, "talk.wav", "--speakers", "3", "--dry-run", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    plan = next(e for e in events if e["event"] == "plan")
    assert any(line.startswith("speakers (3) by their voices, speaker-16k") for line in plan["lines"])


def test_progress_goes_on_in_the_second_pass():
    meeting()
    events = []
    transcribe("talk.wav", speakers=2, on_event=events.append)
    shares = [e["fraction"] for e in events if e["event"] == "progress"]
    assert shares == sorted(shares) and shares[-1] == 1.0 and any(0 < share < 0.85 for share in shares)


def test_goes_on_after_a_kill_in_either_pass(capfd, monkeypatch):
    monkeypatch.setattr(journal, "EVERY", 0.0)
    meeting(TURNS * 3)
    how = ("talk.wav", "--speakers", "2", "-f", "all", "--memory-limit", "1GB")
    kept = (*how, "-o", "out", "--resume", "--work-dir", "work")
    whole, runs = recogniser.encode_whole, []

    def tiled(model, blocks, plan, on_progress=None, **more):
        runs.append([])

        def progress(fraction):
            runs[-1].append(fraction)
            on_progress(fraction)
            if len(runs) == 1 and fraction > 0.5:
                raise KeyboardInterrupt

        yield from whole(model, blocks, plan, progress, tile=24, **more)

    monkeypatch.setattr(recogniser, "encode_whole", tiled)
    assert transcribed(capfd, *kept)[0] == 130 and not files_in("out") and files_in("work")

    def stopped(rate, device):
        calls = []

        def embed(x):
            calls.append(x)
            if len(calls) > 5:
                raise KeyboardInterrupt
            return by_loudness(rate)(x)

        return embed

    monkeypatch.setattr(diarization, "embedder", stopped)
    assert transcribed(capfd, *kept)[0] == 130 and not files_in("out") and files_in("work")
    monkeypatch.setattr(diarization, "embedder", by_loudness)
    code, _, err = transcribed(capfd, *kept)
    assert code == 0 and "went on from the work" in err and not files_in("work")
    assert transcribed(capfd, *how, "-o", "plain", "-q")[0] == 0
    for name in files_in("plain"):
        assert Path("out", name).read_bytes() == Path("plain", name).read_bytes()


def test_several_recordings_by_several_processes(capfd):
    """With the shipped network, which workers load; both recordings hold tones, one voice to it or two."""
    for name in ("one.wav", "two.wav"):
        meeting(TURNS[:2], name)
    how = ("one.wav", "two.wav", "--speakers", "2", "-f", "json", "--jobs")
    for jobs in ("1", "2"):
        code, _, err = transcribed(capfd, *how, jobs, "-o", jobs)
        assert code == 0, err
    for name in ("one.json", "two.json"):
        found = json.loads(Path("2", name).read_text())["segments"]
        assert {s["speaker"] for s in found} <= {"S1", "S2"} and found[0]["speaker"] == "S1"


def test_standard_input(capfd, monkeypatch):
    said = meeting()
    from_file_as_stdin(monkeypatch, "talk.wav")
    code, out, err = transcribed(capfd, "-", "--speakers", "2")
    assert code == 0 and "bidirectional, so it is read to its end first" in err
    assert out.splitlines()[0].startswith("[S1] all") and out.count("[S2]") == 2 and len(said) == 11
    from_file_as_stdin(monkeypatch, "talk.wav")
    code, out, err = transcribed(capfd, "-", "--speakers", "2", "-m", "live")
    assert code != 0 and out == "" and len(error_lines(err)) == 1
    assert "heard live, and --speakers needs all of a recording" in err
    code, out, _ = transcribed(capfd, "talk.wav", "--speakers", "2", "-m", "live", "-o", "-")
    assert code == 0 and out.count("[S2]") == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"speakers": 0}, "--speakers 0: auto, or a number from 1 to 12"),
        ({"speakers": "40"}, "--speakers 40: auto"),
        ({"speakers": "9" * 5000}, "--speakers 999"),
        ({"speakers": "many"}, "--speakers many: auto"),
        ({"speakers": "-2"}, "--speakers -2: auto"),
        ({"speakers": 2.0}, "--speakers 2.0: auto"),
        ({"speakers": "2", "separate": True}, "--speakers and --separate both say who speaks"),
        ({"speakers": "auto", "channel": "each"}, "--speakers and --channel each both say"),
        ({"speaker_names": "Ann"}, "--speaker-names needs --speakers, --separate or --channel each"),
        ({"speakers": 2, "speaker_names": "Ann,Ben,Cid"}, "3 names for --speakers 2"),
        ({"speakers": 2, "speaker_names": "Ann,,Ben"}, "is no name"),
        ({"speakers": 2, "speaker_names": "Ann,B\nen"}, "is no name"),
        ({"speakers": 2, "speaker_names": ["a" * 101]}, "is no name"),
        ({"speakers": 2, "speaker_names": "Ann,Ann"}, "Ann would stand for two"),
        ({"speakers": 2, "speaker_names": "S2"}, "S2 would stand for two"),
    ],
)
def test_what_cannot_be_meant(options, told):
    with pytest.raises(UsageError) as error:
        TranscribeOptions(**options).check()
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["👩\u200d💻", "می\u200cنا", "שרה", "José", 'Ann "A" <b>'])
def test_what_is_a_name(name):
    TranscribeOptions(speakers=2, speaker_names=[name]).check()
    with pytest.raises(UsageError, match="is no name"):
        TranscribeOptions(speakers=2, speaker_names=["\u200d", "Ann"]).check()


def test_sentences_end_where_speakers_change():
    from slyther_cli.decode.segments import Segment, Segmenter
    from slyther_cli.decode.words import Word
    from slyther_cli.transcription.readable import Readable

    class Punctuator:
        def restore(self, words, turns):
            ends = {len(words) - 1, *(first - 1 for first in turns)}
            return [word + "." * (i in ends) for i, word in enumerate(words)]

    readable = Readable.__new__(Readable)
    readable.punctuator, readable._segmenter = Punctuator(), lambda: Segmenter(RATE)
    said = [("so", "S1"), ("it", "S1"), ("was", "S2"), ("twenty", "S2"), ("one", "S1")]
    words = [Word(t, i * 4000, i * 4000 + 3000, 1.0, (), who) for i, (t, who) in enumerate(said)]
    found = [(s.text, s.speaker) for s in readable([Segment(tuple(words))])]
    assert found == [("so it.", "S1"), ("was 20.", "S2"), ("one.", "S1")]
