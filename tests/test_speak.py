"""``slyther speak`` end to end, with tiny random voices: what is written, repeated, resumed, refused."""

import io
import json
import math
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import tones
import torch
from speak_tools import tiny_voices

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.english.phonemes import spell
from slyther_cli.jobs.setup import choose_model
from slyther_cli.models.vall_m import Context, VallM
from slyther_cli.models.vall_sampling import AHEAD, FIRST_PIECE, Said, Sampling, Voicing, draw, piece_ends
from slyther_cli.synthesis import job as speech
from slyther_cli.synthesis import journal, narration, speaker
from slyther_cli.synthesis.output import Stream
from slyther_cli.synthesis.prompt import fitting, recogniser
from slyther_cli.synthesis.speech_check import FITS, Verdict, judge_lengths, judge_words
from slyther_cli.synthesis.voices import built_in_voice

TEXT = "Hello there. How are you today? I am well.\n\nThis is the end of it."


@pytest.fixture(scope="module")
def voices(tmp_path_factory) -> Path:
    return tiny_voices(tmp_path_factory.mktemp("models"))


def speak(*arguments: object) -> int:
    return main(["speak", *map(str, arguments)])


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("model", ["aligned", "prefix", "wide"])
def test_a_text_is_spoken_alike_with_the_same_seed_only(voices, tmp_path, capsys, model):
    files = [tmp_path / f"{n}.wav" for n in range(3)]
    for file, seed in zip(files, (4, 4, 5), strict=True):
        assert speak(TEXT, "-m", voices / model, "-o", file, "--seed", seed, "--retries", 0, "-q") == 0
    assert capsys.readouterr().out.split() == [str(f) for f in files]
    sounds = [soundfile.read(f)[0] for f in files]
    assert len(sounds[0]) > 16000 and np.array_equal(sounds[0], sounds[1])
    assert len(sounds[0]) != len(sounds[2]) or not np.array_equal(sounds[0], sounds[2])
    assert b"Synthetic speech" in files[0].read_bytes()


def test_text_comes_from_an_argument_a_file_or_standard_input(voices, tmp_path, capsys, monkeypatch):
    (tmp_path / "t.txt").write_text(TEXT, encoding="utf-8-sig")
    base = ["-m", voices / "aligned", "--guard", "none", "-q"]
    assert speak(TEXT, *base, "-o", tmp_path / "a.wav") == 0
    assert speak("-i", tmp_path / "t.txt", *base, "-o", tmp_path / "b.flac") == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXT.encode())))
    assert speak(*base, "-o", tmp_path / "c.raw", "--output-raw") == 0
    wav = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert np.array_equal(wav, soundfile.read(tmp_path / "b.flac", dtype="int16")[0])
    assert np.array_equal(wav, np.fromfile(tmp_path / "c.raw", "<i2"))


def test_a_lexicon_says_how_words_are_said(voices, tmp_path, capsys):
    (tmp_path / "names").write_text("Nguyen  win  # a name\n", encoding="utf-8")
    base = ["-m", voices / "aligned", "--guard", "none", "-q"]
    assert speak("Ask win.", *base, "-o", tmp_path / "a.wav") == 0
    assert speak("Ask Nguyen.", *base, "-o", tmp_path / "b.wav", "--lexicon", tmp_path / "names") == 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert speak("Ask Nguyen.", *base, "-o", tmp_path / "c.wav") == 0
    assert (tmp_path / "a.wav").read_bytes() != (tmp_path / "c.wav").read_bytes()
    (tmp_path / "names").write_text("Nguyen: win\n", encoding="utf-8")
    capsys.readouterr()
    assert speak("Ask.", *base, "-o", tmp_path / "d.wav", "--lexicon", tmp_path / "names") == 3
    err = capsys.readouterr().err.strip()
    assert "line 1: not a word, two blanks" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "d.wav").exists()


def test_it_is_told_how_words_with_two_readings_are_read(voices, tmp_path, capsys):
    base = ["I have read it. Yes.", "-m", voices / "aligned", "--guard", "none", "-o", tmp_path / "a.wav"]
    assert speak(*base, "-v") == 0
    assert capsys.readouterr().err.count("(read: R EH1 D)") == 1
    assert speak(*base, "--json", "--force") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["readings"] for e in events if e["event"] == "sentence"] == [["read: R EH1 D"], []]


def test_markup_is_left_out_and_reported(voices, tmp_path, capsys):
    base = ["-m", voices / "aligned", "--guard", "none"]
    assert (
        speak("<speak>Hello <emphasis>all</emphasis> of you.</speak>", *base, "-o", tmp_path / "a.wav") == 0
    )
    assert "markup is not understood here, left out: <speak>, <emphasis>" in capsys.readouterr().err
    assert speak("Hello all of you.", *base, "-o", tmp_path / "b.wav") == 0
    assert "markup" not in capsys.readouterr().err
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_standard_output_gets_the_same_sound(voices, tmp_path, capfdbinary):
    base = [TEXT, "-m", voices / "aligned", "--guard", "lengths", "-q"]
    assert speak(*base, "-o", tmp_path / "a.wav") == 0
    capfdbinary.readouterr()
    assert speak(*base, "-o", "-") == 0
    stream = capfdbinary.readouterr().out
    assert speak(*base, "--raw") == 0
    raw = capfdbinary.readouterr().out
    wav = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert raw == wav.astype("<i2").tobytes() and stream.endswith(raw) and stream[:4] == b"RIFF"
    assert b"Synthetic speech" in stream[:400]


def test_a_stream_is_heard_before_its_sentence_is_complete(voices, tmp_path, capfdbinary, monkeypatch):
    text = "It was a long and winding sentence. Yes."
    drawn, before = [], []
    step, write = VallM.step, Stream.write
    monkeypatch.setattr(VallM, "step", lambda *a: (drawn.append(None), step(*a))[1])
    monkeypatch.setattr(Stream, "write", lambda *a: (before.append((len(drawn), len(a[1]))), write(*a))[1])
    base = [text, "-m", voices / "aligned", "--guard"]
    assert speak(*base, "none", "--raw", "-q") == 0
    live = np.frombuffer(capfdbinary.readouterr().out, "<i2")
    first = next(steps for steps, samples in before if samples)
    assert first == round((FIRST_PIECE + AHEAD) * 50) < len(drawn) == len(live) // 320
    assert speak(*base, "auto", "--raw", "-v") == 0
    out, err = capfdbinary.readouterr()
    assert np.array_equal(live, np.frombuffer(out, "<i2")) and b"speech check: lengths" in err
    assert speak(*base, "none", "-q", "-o", tmp_path / "a.wav") == 0
    whole = soundfile.read(tmp_path / "a.wav", dtype="int16")[0]
    assert len(whole) == len(live) and not np.array_equal(whole, live)


@pytest.mark.parametrize(("model", "first"), [("aligned", 1), ("wide", 2)])
def test_pieces_of_a_sentence_follow_the_same_first_codes(voices, model, first):
    config = choose_model("speak", voices / model, "")
    network, _ = speech.load_pair(config, "cpu")
    voicing = Voicing(network, built_in_voice(config, network), Sampling())
    symbols = torch.tensor(spell("It was a long and winding sentence, and on it went.", "arpabet").symbols)
    pieces: list[torch.Tensor] = []
    whole = voicing.say(symbols, voicing.start(), 4)
    said = voicing.say(symbols, voicing.start(), 4, hear=pieces.append)
    assert torch.equal(torch.cat(pieces, 1), said.codes) and torch.equal(
        whole.codes[:first], said.codes[:first]
    )
    assert said.rest == whole.rest and (first == 2 or not torch.equal(whole.codes, said.codes))
    ends = piece_ends(said.codes.shape[1], 50)
    assert [p.shape[1] for p in pieces] == np.diff([0, *ends]).tolist() and ends[:3] == [40, 100, 190]
    # Pieces as documented: seen the prompt, the second before them, and 0.3 s beyond them.
    frames = network.spread(network.read(symbols[None]), said.durations[None])
    for piece, start, end in zip(pieces[2:], ends[1:], ends[2:], strict=False):
        heard = torch.cat((voicing.codes, said.codes[:, start - 50 : start]), 1)
        seen, until = heard.shape[1], end + round(AHEAD * 50)
        codes = torch.cat((heard, said.codes[:, start:until]), 1)[None].clone()
        codes[0, first:, seen:] = 0
        guide = torch.cat((voicing._guide, frames[:, start - 50 : until]), 1)
        for level in range(first - 1, 2):
            logits = network.next_logits(guide, codes, torch.tensor([level]), torch.tensor([seen]))
            codes[0, level + 1, seen:] = logits[0, seen:].argmax(-1)
        assert torch.equal(codes[0, :, seen : seen + end - start], piece)


def test_speed_and_json(voices, tmp_path, capsys):
    lengths = []
    for speed in (0.5, 1, 2):
        file = tmp_path / f"{speed}.wav"
        assert (
            speak("Hello there, my friend.", "-m", voices / "aligned", "-o", file, "--speed", speed, "--json")
            == 0
        )
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [e["event"] for e in events if e["event"] != "note"] == ["start", "sentence", "file_done"]
        assert events[-1]["synthetic"] is True and events[-1]["sentences"] == 1
        assert abs(events[-1]["seconds"] - soundfile.info(file).duration) < 1e-3
        lengths.append(events[-1]["seconds"])
    assert lengths[0] == pytest.approx(2 * lengths[1], abs=0.1) and lengths[2] < 0.6 * lengths[1]
    for option in ("--speed", "--pause"):
        assert speak("Hello.", "-m", voices / "prefix", option, 2, "-o", tmp_path / "x.wav") == 2
        assert "cannot change its pace" in capsys.readouterr().err


def test_pauses_are_scaled_and_what_is_said_between_is_not(voices, tmp_path, capsys):
    def length(pause: float, speed: float = 1) -> float:
        base = ["-m", voices / "aligned", "-o", tmp_path / "a.wav", "--guard", "none", "--json", "--force"]
        assert speak("Yes, no. So.\n\nWell.", *base, "--pause", pause, "--speed", speed) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert events[0]["options"].get("pause", 1) == pause
        return events[-1]["seconds"]

    none, one, two, four = (length(pause) for pause in (0, 1, 2, 4))
    assert one - none > narration.PARAGRAPH_SECONDS
    assert two - one == pytest.approx(one - none, abs=0.05)
    assert four - none == pytest.approx(4 * (one - none), abs=0.05)
    assert length(2, 0.5) == pytest.approx(2 * two, abs=0.03)


def stopped_at_the_third(monkeypatch) -> list[int]:
    """Ctrl-C at the third sentence that is said; an entry for each that was begun."""
    say, calls = Voicing.say, []

    def dying(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return say(self, *arguments)

    monkeypatch.setattr(Voicing, "say", dying)
    return calls


def test_a_stopped_book_is_gone_on_with_and_sounds_the_same(voices, tmp_path, monkeypatch):
    base = [TEXT, "-m", voices / "aligned", "-q", "--retries", 0]
    assert speak(*base, "-o", tmp_path / "whole.wav") == 0
    calls = stopped_at_the_third(monkeypatch)
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 130
    assert not (tmp_path / "b.wav").exists()
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 0
    before = (tmp_path / "b.wav").stat().st_ino
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 0  # a job that is put in the queue again
    assert (tmp_path / "b.wav").stat().st_ino == before
    assert len(calls) == 3 + 2  # four sentences, of which two were kept
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_kept_work_is_of_these_weights_and_whole(voices, tmp_path, monkeypatch, capsys):
    calls = stopped_at_the_third(monkeypatch)
    doubt = lambda said, expected, rate, pause: Verdict(("odd",), 1.0)  # noqa: E731
    monkeypatch.setattr(speaker, "judge_lengths", doubt)
    base = [TEXT, "-m", voices / "aligned", "--retries", 0, "--guard", "lengths", "--json", "--resume"]
    assert speak(*base, "-o", tmp_path / "b.wav") == 130
    work = Path(os.environ["SLYTHER_CACHE"]) / "speech"
    (folder,) = work.iterdir()
    assert len(sorted(folder.glob("*.safetensors"))) == 2
    capsys.readouterr()
    old = work / "abandoned"
    old.mkdir()
    os.utime(old, (1e9, 1e9))
    assert speak(*base, "-o", tmp_path / "b.wav") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert done["doubtful"] == 4 and len(calls) == 3 + 2 and not old.exists() and not folder.exists()
    calls.clear()
    assert speak(*base, "-o", tmp_path / "c.wav") == 130
    shutil.copytree(voices, tmp_path / "models")
    network, config = store.load(tmp_path / "models/aligned")
    with torch.no_grad():
        next(network.parameters()).mul_(1.01)
    store.save_like(config, tmp_path / "models/aligned", network)
    again = [tmp_path / "models/aligned" if a == voices / "aligned" else a for a in base]
    assert speak(*again, "-o", tmp_path / "c.wav") == 0
    assert len(calls) == 3 + 4  # what is kept is of other weights


def flip(path):
    data = bytearray(path.read_bytes())
    data[-9] ^= 2  # in a tensor
    path.write_bytes(data)


def repack(path, change):
    """By someone who knows how: with the right checksum."""
    data = path.read_bytes()
    about = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["about"])
    tensors = safetensors.torch.load(data)
    change(tensors, about)
    path.write_bytes(journal._packed(tensors, about))


DAMAGES = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "empty": lambda path: path.write_bytes(b""),
    "a flipped bit": flip,
    "gone": lambda path: path.unlink(),
    "a code out of range": lambda path: repack(path, lambda t, a: t["codes"].fill_(1 << 40)),
    "codes of another type": lambda path: repack(path, lambda t, a: t.update(codes=t["codes"].float())),
    "a state that is no number": lambda path: repack(path, lambda t, a: t["rest"].fill_(math.nan)),
    "other problems": lambda path: repack(path, lambda t, a: a.update(problems=7)),
    "of another place": lambda path: repack(path, lambda t, a: a.update(before=5)),
}


@pytest.mark.parametrize(("which", "damage"), [(i % 2, name) for i, name in enumerate([*DAMAGES, "cut"])])
def test_damaged_speech_is_spoken_anew_with_a_note(voices, tmp_path, monkeypatch, capsys, damage, which):
    base = [TEXT, "-m", voices / "aligned", "--retries", 0, "--guard", "none"]
    assert speak(*base, "-q", "-o", tmp_path / "whole.wav") == 0
    calls = stopped_at_the_third(monkeypatch)
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 130
    (folder,) = (Path(os.environ["SLYTHER_CACHE"]) / "speech").iterdir()
    DAMAGES[damage](sorted(folder.glob("*.safetensors"))[which])
    capsys.readouterr()
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 0
    kept = 1 if damage == "gone" else 2
    assert f"damaged: {kept} of {kept} sentences are spoken anew" in capsys.readouterr().err
    assert len(calls) == 3 + 4 and not folder.exists()
    assert (tmp_path / "b.wav").read_bytes() == (tmp_path / "whole.wav").read_bytes()


def test_two_runs_do_not_share_their_speech(voices, tmp_path, monkeypatch, capsys):
    """The same name in two folders is two jobs; the same file is one, which one process does."""
    base = [TEXT, "-m", voices / "aligned", "--guard", "none", "-q", "-o", "b.wav", "--resume"]
    work = Path(os.environ["SLYTHER_CACHE"]) / "speech"
    calls = stopped_at_the_third(monkeypatch)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        calls.clear()
        assert speak(*base) == 130
    assert len(list(work.iterdir())) == 2
    held = journal.Journal(min(work.iterdir(), key=lambda p: p.stat().st_mtime_ns).name, (3, 16))
    codes = {}
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        codes[name] = speak(*base)
        said = capsys.readouterr().err
        assert codes[name] == 0 or "another slyther speaks this text into this file" in said
    held.close()
    assert sorted(codes.values())[0] == 0 and sorted(codes.values())[1] != 0
    monkeypatch.chdir(tmp_path / max(codes, key=codes.get))
    assert speak(*base) == 0
    assert (tmp_path / "one/b.wav").read_bytes() == (tmp_path / "two/b.wav").read_bytes()


def test_links_in_the_cache_do_not_stop_speech(voices, tmp_path):
    work, precious = Path(os.environ["SLYTHER_CACHE"]) / "speech", tmp_path / "precious"
    work.mkdir(parents=True)
    precious.mkdir()
    os.utime(precious, (1e9, 1e9))
    (work / "dangling").symlink_to(tmp_path / "nowhere")
    (work / "elsewhere").symlink_to(precious)
    base = ["Hello.", "-m", voices / "aligned", "--guard", "none", "-q"]
    assert speak(*base, "-o", tmp_path / "b.wav", "--resume") == 0
    assert precious.is_dir() and sorted(p.name for p in work.iterdir()) == ["dangling", "elsewhere"]


def test_standard_output_is_16_bits(voices, tmp_path, capsys):
    base = ["Hello.", "-m", voices / "aligned", "-q"]
    for how in (["-o", "-", "--subtype", "24"], ["--raw", "-o", tmp_path / "a.raw", "--subtype", "float"]):
        assert speak(*base, *how) == 2
        assert "16 bits" in capsys.readouterr().err


@pytest.mark.parametrize("model", ["aligned", "prefix"])
def test_a_prompt_is_taken_or_refused(voices, tmp_path, capsys, model):
    rng = np.random.default_rng(0)
    sounds = {"good": rng.normal(0, 0.1, 32000), "short": rng.normal(0, 0.1, 1600)}
    sounds |= {"silent": np.zeros(32000), "long": rng.normal(0, 0.1, 16000 * 31)}
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, 16000)
    base = ["Hello.", "-m", voices / model, "--guard", "none", "-q", "--force", "-o", tmp_path / "o.wav"]
    said = {}
    for name in ("good", "short", "silent", "long", "missing"):
        code = speak(*base, "--prompt", tmp_path / f"{name}.wav", "--prompt-text", "I say so.")
        said[name] = (code, capsys.readouterr().err)
    assert said["good"][0] == 0 and all(said[n][0] == 3 for n in said if n != "good")
    assert "too short" in said["short"][1] and "silent" in said["silent"][1] and "30 s" in said["long"][1]
    assert speak(*base, "--prompt", tmp_path / "good.wav", "--prompt-text", "!?") == 3
    assert speak(*base, "--prompt-text", "no prompt") == 2


def test_the_sound_takes_on_the_colour_of_the_prompt_and_resumes_with_it(voices, tmp_path, monkeypatch):
    from slyther_cli.audio.equalise import mean_spectrum
    from slyther_cli.synthesis import job as speech
    from slyther_cli.synthesis.prompt import voice_of

    soundfile.write(tmp_path / "p.wav", np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    base = [TEXT, "-m", voices / "aligned", "-q", "--guard", "none", "--prompt", tmp_path / "p.wav"]
    base += ["--prompt-text", "I say so and I mean it."]
    assert speak(*base, "-o", tmp_path / "whole.wav", "--subtype", "float") == 0
    assert speak(*base, "-o", tmp_path / "again.wav", "--subtype", "float", "--resume") == 0
    assert (tmp_path / "whole.wav").read_bytes() == (tmp_path / "again.wav").read_bytes()
    monkeypatch.setattr(speech, "equaliser_for", lambda *_: None)
    assert speak(*base, "-o", tmp_path / "plain.wav", "--subtype", "float") == 0
    whole, plain = (soundfile.read(tmp_path / f"{n}.wav")[0] for n in ("whole", "plain"))
    assert len(whole) == len(plain)
    network, codec = speech.load_pair(speech.choose_speech_model(voices / "aligned"), "cpu")
    codes = voice_of(tmp_path / "p.wav", "I say so and I mean it.", network, codec, "cpu")[0].codes
    wanted = mean_spectrum(codec.decode(codes[None])[0].numpy())

    def distance(sound: np.ndarray) -> float:
        """Deviation in dB of what lies between the spectra, whatever the level."""
        return float(np.std(10 * np.log10(mean_spectrum(sound) / wanted)))

    assert distance(whole) < distance(plain)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([""], 3, "nothing to say"),
        (["\U0001f600 \u65e5\u672c \x00\x07"], 3, "only English is spoken"),
        (["\u4f60\u597d"], 3, "only English is spoken, and the text has no English words: \u4f60\u597d"),
        (["\U0001f600 !"], 3, "the text has no words, only \U0001f600!"),
        (["hi", "--speed", "9"], 2, "speed"),
        (["hi", "--pause", "4.1"], 2, "the pause must be from 0 (none) to 4"),
        (["hi", "--pause", "-1"], 2, "the pause must be from 0 (none) to 4"),
        (["hi", "--guard", "dog"], 2, "guard"),
        (["hi", "--temperature", "-1"], 2, "temperature"),
        (["hi", "--top-p", "0"], 2, "top_p"),
        (["hi", "-f", "mp3"], 2, "format"),
        (["hi", "-f", "flac", "--subtype", "float", "-o", "x.flac"], 2, "choose one of 16, 24"),
        (["hi", "--subtype", "32"], 2, "choose one of 16, 24, float"),
        (["hi", "-o", "-", "-f", "flac"], 2, "standard output"),
        (["hi", "-o", "-", "--json"], 2, "--json"),
        (["hi", "-i", "x.txt"], 2, "contradict"),
        (["hi", "-o", "x.mp3"], 2, "end it in .wav"),
        (["hi", "-o", "x.wav", "-f", "flac"], 2, "--format wav"),
        (["hi", "-o", ".", "--force"], 3, "folder"),
        (["hi", "-o", "/dev/null", "--raw", "--force"], 3, "device"),
        (["-i", "nowhere.txt"], 3, "nowhere.txt"),
        (["hi", "--lexicon", "nowhere.txt"], 3, "nowhere.txt: cannot be read: no such file"),
        (["hi", "-m", "nobody"], 5, "nobody"),
        (["hi", "--voice", "an"], 2, "has no voice 'an', only ann, bob; did you mean ann?"),
        (["hi", "--voice", "x" * 999], 2, "...', only ann, bob"),
        (["hi", "--voice", "ann", "--prompt", "x.wav"], 2, "--voice and --prompt contradict"),
    ],
)
def test_bad_input_is_told_in_one_line(voices, tmp_path, monkeypatch, capsys, arguments, code, words):
    monkeypatch.chdir(tmp_path)
    if "-m" not in arguments:
        arguments = [*arguments, "-m", voices / "aligned"]
    assert speak(*arguments) == code
    err = capsys.readouterr().err.strip()
    assert words in err and len(err.splitlines()) == 1 and not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_and_a_missing_codec_is_reported(voices, tmp_path, capsys):
    (tmp_path / "a.wav").write_text("mine")
    assert speak("hi", "-m", voices / "aligned", "-o", tmp_path / "a.wav") == 3
    assert (tmp_path / "a.wav").read_text() == "mine" and "--force" in capsys.readouterr().err
    (tmp_path / "alone").mkdir()
    for file in (voices / "aligned").iterdir():
        (tmp_path / "alone" / file.name).write_bytes(file.read_bytes())
    assert speak("hi", "-m", tmp_path / "alone", "-o", tmp_path / "b.wav") == 5
    assert "codec tiny" in capsys.readouterr().err


def test_neither_the_text_nor_the_prompt_is_overwritten(voices, tmp_path, capsys):
    (tmp_path / "book.txt").write_text("Hello.")
    soundfile.write(tmp_path / "me.wav", 0.1 * np.random.default_rng(0).standard_normal(32000), 16000)
    before = (tmp_path / "me.wav").read_bytes()
    base = ["-m", voices / "aligned", "--guard", "none", "--force"]
    assert speak("-i", tmp_path / "book.txt", "-o", tmp_path / "book.txt", *base) == 2
    prompt = ["--prompt", tmp_path / "me.wav", "--prompt-text", "I say so."]
    assert speak("hi", *prompt, "-o", tmp_path / "me.wav", *base) == 2
    assert capsys.readouterr().err.count("would replace the input") == 2
    assert (tmp_path / "book.txt").read_text() == "Hello." and (tmp_path / "me.wav").read_bytes() == before


def test_the_path_of_the_result_stands_on_a_line_of_its_own(voices, tmp_path, monkeypatch):
    screen = io.StringIO()  # a terminal shows both streams
    monkeypatch.setattr("slyther_cli.commands.output.can_draw", lambda stream: True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    assert speak("Hi. Ho.", "-m", voices / "aligned", "--guard", "none", "-o", tmp_path / "o.wav") == 0
    before, _, _ = screen.getvalue().partition(str(tmp_path))
    assert "loading the voice" in before and "speaking" in before and before.rpartition("\r")[2] == ""


def test_without_a_model_another_voice_is_taken_or_help_given(voices, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("slyther_cli.synthesis.voices.DEFAULT_MODEL", "nowhere")
    monkeypatch.setattr("slyther_cli.checkpoints.places.shipped_dirs", lambda: [])
    assert speak("hi", "-o", tmp_path / "a.wav") == 5
    assert "slyther train speak" in capsys.readouterr().err
    monkeypatch.setenv("SLYTHER_CACHE", str(voices))
    assert speak("hi", "-o", tmp_path / "a.wav", "-v") == 0
    assert "model aligned, voice ann, on cpu, reads arpabet" in capsys.readouterr().err


def test_the_guard_notices_and_says_it_again(voices, tmp_path, capsys):
    # bad: the prefix voice ends when it likes; every sentence must be tried anew or doubted, and told
    assert speak(TEXT, "-m", voices / "prefix", "-o", tmp_path / "a.wav", "--json", "--retries", 1) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    sentences = [e for e in events if e["event"] == "sentence"]
    assert any(e["tries"] == 2 for e in sentences)
    assert events[-1]["doubtful"] == sum(bool(e["problems"]) for e in sentences)
    context = Context(None, torch.zeros(1))
    codes = torch.arange(100).repeat(3, 1) % 16
    assert not judge_lengths(Said(codes, context, True), 100, 50).problems
    assert judge_lengths(Said(codes, context, False), 100, 50).problems  # ran away
    assert judge_lengths(Said(codes, context, True), 400, 50).problems
    assert judge_lengths(Said(codes * 0, context, True), 100, 50).problems  # stuck
    assert not judge_words("how are you today, sir?", "HOW ARE YOU TODAY").problems
    assert judge_words("how are you today?", "how how how how are are you").problems
    assert not judge_words("Hello!", "fellow").problems and judge_words("Hello!", "a low hello").problems
    assert not judge_words("u c l ay.", "u c l a").badness  # the letter, as a recogniser writes it
    assert not judge_words("see you tomorrow.", "she the morrow", lambda: FITS).problems
    assert judge_words("see you tomorrow.", "she the morrow", lambda: FITS - 0.1).problems


def test_the_guard_believes_a_short_text_that_was_said_and_no_other(tmp_path, capsys):
    assert speak("Hello world.", "-o", tmp_path / "a.wav", "--json", "--retries", 0) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [e["problems"] for e in events if e["event"] == "sentence"] == [[]]
    said, rate = soundfile.read(tmp_path / "a.wav", dtype="float32")
    fits = fitting(rate, "cpu")
    assert fits(said, "hello world") > FITS
    assert max(fits(said, other) for other in ("turn left", "hello", "hello world hello world")) < FITS
    assert fits(said, "hello world " * 40) == fits(said, "1") == -math.inf  # no room, no such letter


def test_what_a_mixed_text_has_of_other_scripts_is_reported(voices, tmp_path, capsys):
    text = "Say \u041f\u0440\u0438\u0432\u0435\u0442 and \u4f60\u597d, \u0663 times \u263a."
    assert speak(text, "-m", voices / "aligned", "--guard", "none", "-o", tmp_path / "a.wav") == 0
    err = capsys.readouterr().err
    assert "only English is spoken, left out: \u041f\u0440\u0438\u0432\u0435\u0442, \u4f60\u597d\n" in err
    assert "without a sound here, left out: \u263a\n" in err


def test_the_time_is_that_of_the_clock_with_loading(voices, tmp_path, monkeypatch, capsys):
    began, load = time.monotonic(), speech.load_pair
    monkeypatch.setattr(speech, "load_pair", lambda *a: (time.sleep(0.5), load(*a))[1])
    assert speak("Hi.", "-m", voices / "aligned", "--guard", "none", "-o", tmp_path / "a.wav", "--json") == 0
    done = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert 0.5 <= done["wall_seconds"] <= time.monotonic() - began


def test_the_recogniser_writes_down_the_prompt_and_listens(voices, tmp_path, monkeypatch, capsys):
    with tones.at_home(tmp_path, monkeypatch, tmp_path / "cache"):
        tones.save(tmp_path / "cache")
        tones.record("prompt.wav", rate=44_100)
        base = ["hello abide", "-m", voices / "aligned", "--prompt", "prompt.wav", "-o", "a.wav"]
        assert speak(*base, "--retries", 1, "--json") == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert events[0]["guard"] == "recogniser"
        assert f"the prompt says: {tones.SAID}" in [e["text"] for e in events if e["event"] == "note"]
        sentence = next(e for e in events if e["event"] == "sentence")
        assert sentence["tries"] == 2 and "recogniser hears" in sentence["problems"][0]  # noise is no tone
        said, rate = soundfile.read("prompt.wav", dtype="float32")
        assert recogniser(rate, "cpu")(said) == tones.SAID


def test_draws_keep_to_the_short_list():
    logits, generator = torch.tensor([3.0, 2.9, 0.0, -1.0]), torch.Generator().manual_seed(0)

    def seen(*settings: float, recent=()) -> set[int]:
        return {draw(logits, Sampling(*settings), list(recent), generator) for _ in range(200)}

    assert seen(0.0) == {0} and seen(1.0, 2, 1.0) == {0, 1} and seen(1.0, 0, 0.7) == {0, 1}
    assert seen(5.0, 0, 1.0) == {0, 1, 2, 3} and seen(1.0, 0, 0.1) == {0}
    assert seen(5.0, 1, 1.0, 0.5, 4, recent=[0, 0, 0, 1]) == {0, 1, 2, 3}  # 0 too often: drawn from all
