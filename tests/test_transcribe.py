"""`slyther transcribe` from sound files to text, with a model of known answers (tones.py)."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tones
import torch
from tones import SAID, record, transcribed
from tools import error_lines, files_in, from_file_as_stdin, rendered

import slyther_cli
from slyther_cli.checkpoints import store
from slyther_cli.decode import formats
from slyther_cli.decode.arpa import write_arpa
from slyther_cli.decode.tokens import CharTokenizer
from slyther_cli.errors import ModelError, UsageError
from slyther_cli.jobs import setup
from slyther_cli.research.language.kneser_ney import train
from slyther_cli.transcription import recogniser, spelling_check

pytestmark = pytest.mark.usefixtures("place")


# What comes out


def test_what_is_said(capfd):
    record()
    code, out, err = transcribed(capfd, "talk.wav")
    assert code == 0 and out == SAID + "\n" and "talk.wav: " in err and files_in() == ["talk.wav"]
    assert transcribed(capfd, "talk.wav", "-q") == (0, SAID + "\n", "")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_words_have_their_times(capfd, rate):
    """In samples of the model's rate, whatever the recording's; a frame is 40 ms."""
    words = record(rate=rate, text="hello abide" if rate == 8000 else SAID)
    code, out, _ = transcribed(capfd, "talk.wav", "-f", "json", "-q")
    heard = json.loads(out)
    got = [word for segment in heard["segments"] for word in segment["words"]]
    assert code == 0 and heard["language"] == "en" and len(got) == len(words)
    for word, (start, end) in zip(got, words, strict=True):
        assert abs(word["start"] - start) <= 0.04 and abs(word["end"] - end) <= 0.04
        assert 0.5 < word["probability"] <= 1


def test_the_same_text_in_one_pass(capfd, models):
    """The command's words are those of the network's forward over the whole recording."""
    x = np.random.default_rng(0).standard_normal(16_000 * 9).astype(np.float32) * 0.01
    said = tones.spoken(SAID)[0]
    x[30_000 : 30_000 + len(said)] += said
    record(x=x)
    model = store.load(models / "tones")[0]
    with torch.inference_mode():
        best = model(model.features(torch.from_numpy(x)[None]))[0].argmax(-1).tolist()
    tokens = [b for a, b in zip([0, *best], best, strict=False) if b != a and b]
    text = tones.CharTokenizer(tones.LETTERS).decode(tokens)
    assert transcribed(capfd, "talk.wav")[1].split() == text.split()


@pytest.mark.parametrize("how", [(), ("--max-line-width", "12"), ("--highlight-words",),
                                 ("--max_line_width", "12", "--max_line_count", "1"),
                                 ("--max-words-per-line", "2"), ("--word_timestamps", "False")])  # fmt: skip
def test_every_format_as_whisper_writes_it(capfd, how):
    record(text=SAID + " " + SAID)
    assert transcribed(capfd, "talk.wav", "-f", "all", "-o", "out", *how)[0] == 0
    assert files_in("out") == [f"talk.{name}" for name in sorted(formats.FORMATS)]
    segments = json.loads(Path("out/talk.json").read_text())["segments"]
    layout = {}
    if "12" in how:
        layout["max_line_width"] = 12
    if "--max_line_count" in how:
        layout["max_line_count"] = 1
    if "2" in how:
        layout["max_words_per_line"] = 2
    if "--highlight-words" in how:
        layout["highlight_words"] = True
    assert ("words" in segments[0]) == ("False" not in how)
    for name in formats.FORMATS:
        wanted = rendered(name, segments, **layout).encode()
        assert Path(f"out/talk.{name}").read_bytes() == wanted
        code, out, _ = transcribed(capfd, "talk.wav", "-f", name, "-o", "-", *how)
        assert code == 0 and out.encode() == wanted


def test_silence_yields_no_words(capfd):
    """Neither digital silence nor faint noise; every format is still a whole file."""
    rng = np.random.default_rng(0)
    record("zero.wav", x=np.zeros(50_000, np.float32))
    record("faint.wav", x=(rng.standard_normal(50_000) * 1e-4).astype(np.float32))
    assert transcribed(capfd, "zero.wav", "faint.wav", "-f", "all", "-o", "out")[0] == 0
    assert Path("out/zero.txt").read_text() == Path("out/faint.txt").read_text() == ""
    assert Path("out/zero.vtt").read_text() == "WEBVTT\n\n" and Path("out/zero.srt").read_text() == ""
    assert json.loads(Path("out/zero.json").read_text()) == {"text": "", "segments": [], "language": "en"}
    assert transcribed(capfd, "zero.wav", "-f", "tsv")[1] == "start\tend\ttext\n"


def test_pauses_part_segments(capfd):
    x = np.concatenate([tones.spoken("hello all")[0], np.zeros(16_000, np.float32), tones.spoken("deal")[0]])
    record(x=x)
    assert transcribed(capfd, "talk.wav")[1] == "hello all\ndeal\n"


def test_nothing_ends_after_the_recording(capfd):
    x = tones.spoken("all")[0][: -round(0.07 * 16_000)]
    record(x=x)
    heard = json.loads(transcribed(capfd, "talk.wav", "-f", "json")[1])
    assert heard["segments"][-1]["end"] <= round(len(x) / 16_000, 3)


# Where it goes


def test_one_recording_goes_to_stdout_and_several_to_files_beside_them(capfd):
    Path("in/deep").mkdir(parents=True)
    record("in/a.wav")
    record("in/deep/b.flac")
    code, out, _ = transcribed(capfd, "in/a.wav", "in/deep/b.flac", "-f", "srt")
    assert code == 0 and out.splitlines() == ["in/a.srt", "in/deep/b.srt"]
    assert transcribed(capfd, "in", "-f", "vtt")[1].splitlines() == ["in/a.vtt", "in/deep/b.vtt"]
    assert transcribed(capfd, "in/*.wav", "-f", "tsv")[1].splitlines() == [
        "in/a.tsv"
    ]  # a glob that matches one
    assert transcribed(capfd, "in/a.wav", "-f", "txt,tsv", "--force")[1].splitlines() == [
        "in/a.txt",
        "in/a.tsv",
    ]
    code, out, err = transcribed(capfd, "in", "-f", "srt", "-o", "-")
    assert code == 2 and not out and "-o -" in error_lines(err)[0]


def test_whispers_spellings(capfd):
    record("a.b.wav")
    how = ["--output_dir", "out", "--output_format", "all", "--language", "en", "--word_timestamps", "True",
           "--highlight_words", "True", "--task", "transcribe"]  # fmt: skip
    assert transcribed(capfd, "a.b.wav", *how)[0] == 0
    assert files_in("out") == [f"a.b.{name}" for name in sorted(formats.FORMATS)]
    assert "<u>" in Path("out/a.b.srt").read_text()
    for bad, words in [
        (("--language", "fr"), "English"),
        (("--task", "translate"), "translate"),
        (("--word_timestamps", "maybe"), "maybe"),
        (("-osrt",), "-osrt: did you mean -f srt?"),
        (("-f", "doc"), "doc"),
        (("-f", ""), "format"),
        (("--max-line-width", "0"), "width"),
        (("--word_timestamps", "False", "--highlight-words"), "highlight-words"),
        (("--skip-existing",), "-o"),
        (("--force", "--skip-existing", "-o", "x"), "choose one"),
        (("--lm", "none", "--lm-weight", "1"), "language model"),
        (("--decode", "guess"), "guess"),
        (("--decode", "greedy", "--beam", "5"), "contradicts"),
    ]:
        code, out, err = transcribed(capfd, "a.b.wav", *bad)
        assert (code, out) == (2, "") and words in error_lines(err)[0], (bad, err)
        assert len(error_lines(err)) == 1


def test_existing_results(capfd):
    record()
    assert transcribed(capfd, "talk.wav", "-o", "out", "-f", "srt,txt")[0] == 0
    before = {name: Path(name).stat().st_mtime_ns for name in files_in()}
    code, out, err = transcribed(capfd, "talk.wav", "-o", "out", "-f", "srt,txt")
    assert code == 4 and not out and "--force" in error_lines(err)[0]
    code, out, err = transcribed(capfd, "talk.wav", "-o", "out", "-f", "srt,txt", "--skip-existing")
    assert code == 0 and out == "out/talk.srt\nout/talk.txt\n" and "skipped" in err
    assert before == {name: Path(name).stat().st_mtime_ns for name in files_in()}
    Path("out/talk.srt").unlink()
    code, _, err = transcribed(capfd, "talk.wav", "-o", "out", "-f", "srt,txt", "--skip-existing")
    assert code == 4 and "not all" in error_lines(err)[0]
    assert transcribed(capfd, "talk.wav", "-o", "out", "-f", "srt,txt", "--force")[0] == 0


def test_collisions_are_refused_before_anything_is_done(capfd):
    record("a.wav")
    record("a.flac")
    code, _, err = transcribed(capfd, "a.wav", "a.flac", "-o", "out")
    assert code == 2 and "same file" in error_lines(err)[0] and not Path("out").exists()


def test_standard_input(capfd, monkeypatch):
    record("talk.flac")
    for model in ("tones", "live"):  # a causal one cannot take flac as it comes
        from_file_as_stdin(monkeypatch, "talk.flac")
        code, out, err = transcribed(capfd, "-", "-m", model, "--work-dir", ".")
        assert code == 0 and out == SAID + "\n" and "standard input: " in err and files_in() == ["talk.flac"]
    from_file_as_stdin(monkeypatch, "talk.flac")
    assert transcribed(capfd, "-", "-o", "out")[1] == "out/-.txt\n"  # as whisper names it
    Path("empty").touch()
    from_file_as_stdin(monkeypatch, "empty")
    code, _, err = transcribed(capfd, "-")
    assert code == 4 and "standard input is empty" in error_lines(err)[0]


# How it speaks


def test_json(capfd):
    words = record()
    code, out, err = transcribed(capfd, "talk.wav", "gone.wav", "-o", "out", "--json", "-q")
    told = [json.loads(line) for line in out.splitlines()]
    assert code == 3 and len(err.splitlines()) == 1 and all(t["schema"] == 1 for t in told)
    kinds = [t["event"] for t in told if t["event"] != "progress"]
    assert kinds == ["start", "plan", "segment", "file_done", "error", "summary"]
    segment = next(t for t in told if t["event"] == "segment")
    assert (segment["file"], segment["text"], segment["id"]) == ("talk.wav", " " + SAID, 0)
    assert [word["word"].strip() for word in segment["words"]] == SAID.split()
    done = next(t for t in told if t["event"] == "file_done")
    assert (done["outputs"], done["words"]) == ({"txt": "out/talk.txt"}, len(words))
    assert (told[-1]["done"], told[-1]["failed"]) == (1, 1)
    out = transcribed(capfd, "talk.wav", "--json", "-q")[1]
    assert SAID in out and all(json.loads(line) for line in out.splitlines())


def test_what_is_being_said_is_shown_on_a_terminal(capfd, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    record()
    for term, shown in (("xterm", True), ("dumb", False)):
        from_file_as_stdin(monkeypatch, "talk.wav")
        monkeypatch.setattr(sys, "stderr", Terminal())
        monkeypatch.setenv("TERM", term)
        code, out, _ = transcribed(capfd, "-", "-m", "live")
        assert code == 0 and out == SAID + "\n"
        assert (f"... {SAID}" in sys.stderr.getvalue()) == shown


def test_verbose_and_dry_run(capfd):
    record()
    err = transcribed(capfd, "talk.wav", "-v")[2]
    for words in ("model tones", "device cpu", "3 sweeps", "greedy decoding"):
        assert words in err
    code, out, err = transcribed(capfd, "talk.wav", "gone.wav", "--dry-run", "-o", "out")
    assert code == 3 and out == "out/talk.txt\n" and "sweeps" in err and files_in() == ["talk.wav"]


def test_api():
    record()
    events = []
    done, failed = slyther_cli.transcribe(["talk.wav", "gone.wav"], on_event=events.append)
    assert (done.status, done.text, done.words, done.outputs) == ("done", SAID, 4, {})
    assert [segment["text"] for segment in done.segments] == [" " + SAID]
    assert failed.status == "failed" and "gone.wav" in str(failed.error) and files_in() == ["talk.wav"]
    assert [e["event"] for e in events if e["event"] != "progress"][-1] == "summary"
    (kept,) = slyther_cli.transcribe("talk.wav", "out", formats=["srt", "vtt"], keep=False)
    assert kept.outputs == {"srt": Path("out/talk.srt"), "vtt": Path("out/talk.vtt")} and not kept.segments
    for error, how in [
        (UsageError, {"formats": "mp3"}),
        (UsageError, {"language": "de"}),
        (UsageError, {"existing": "perhaps"}),
        (UsageError, {"channel": "left"}),
        (UsageError, {"decode": "magic"}),
        (UsageError, {"max_line_width": -1}),
        (ModelError, {"model": "nobody"}),
        (ModelError, {"lm": "nowhere.arpa"}),
        (UsageError, {"device": "abacus"}),
    ]:
        with pytest.raises(error):
            slyther_cli.transcribe("talk.wav", **how)


# Models


def test_the_beam_and_its_language_model(capfd, models):
    record()
    code, out, err = transcribed(capfd, "talk.wav", "-m", "taught", "-v")
    assert code == 0 and out == SAID + "\n" and "beam of 8, language model of taught, weight 0.3" in err
    out, err = transcribed(
        capfd, "talk.wav", "-m", "taught", "-v", "--lm", "none", "--decode", "beam", "--beam", 5
    )[1:]
    assert out == SAID + "\n" and "beam of 5, no language model" in err
    assert "greedy" in transcribed(capfd, "talk.wav", "-m", "taught", "-v", "--decode", "greedy")[2]
    how = ("--lm", models / "taught" / "lm.bin", "--lm-weight", 2, "--word-bonus", 0.5, "-v")
    out, err = transcribed(capfd, "talk.wav", *how)[1:]
    assert out == SAID + "\n" and "lm.bin, weight 2" in err
    Path("bad.arpa").write_text("\\data\\\nngram 1=x\n")
    for lm in ("bad.arpa", "gone.arpa", "."):
        code, out, err = transcribed(capfd, "talk.wav", "--lm", lm)
        assert code == 5 and not out and lm in error_lines(err)[0]


def test_a_language_model_in_another_writing(capfd):
    """Every word would be unknown to it, and the text one endless word."""
    record()
    for name, text in (("lower", SAID), ("upper", SAID.upper()), ("greek", "γεια σου κοσμε")):
        write_arpa(train([text] * 3, 2), f"{name}.arpa")
    assert transcribed(capfd, "talk.wav", "--lm", "lower.arpa")[1] == SAID + "\n"
    for name, words in (
        ("upper", "alphabet, which is in lower case: it seems to be in upper case"),
        ("greek", "is it of another language?"),
    ):
        for how in ((), ("--decode", "beam")):
            code, out, err = transcribed(capfd, "talk.wav", "--lm", f"{name}.arpa", *how)
            assert (
                code == 2
                and not out
                and f"{name}.arpa" in error_lines(err)[0]
                and words in error_lines(err)[0]
            )


def test_only_a_language_model_that_cannot_be_written_is_refused():
    small, large = CharTokenizer("abc'"), CharTokenizer("ABC'")
    mixed = train(["aa BB CC AC BA AB CA ' <unk> DD EE FF"], 1)
    for alphabet in (small, large):
        spelling_check.check_writing(mixed, "mixed", alphabet, "m")
    with pytest.raises(UsageError, match="in upper case: it seems to be in lower case"):
        spelling_check.check_writing(train(["ab ba cab"], 1), "lm", large, "m")


def test_whispers_verbose(capfd):
    record()
    plain = transcribed(capfd, "talk.wav")[1]
    for value, told in (("True", "slyther "), ("False", "")):
        code, out, err = transcribed(capfd, "talk.wav", "--verbose", value)
        assert code == 0 and out == plain and err.startswith(told) and bool(err) == bool(told)
    record("False", x=tones.spoken("all")[0], format="WAV", subtype="FLOAT")
    assert transcribed(capfd, "False")[1] == "all\n"


def test_the_language_model_matters(capfd):
    """A tone between two letters: the words known decide."""
    x, _ = tones.spoken("hello")
    at = round(2 * 0.16 * 16_000)  # the first l, half an i
    x[at : at + 1600] = 0.46 * tones.beep("l") + 0.5 * tones.beep("i")
    record(x=x)
    greedy = transcribed(capfd, "talk.wav", "-m", "taught", "--decode", "greedy")[1]
    assert transcribed(capfd, "talk.wav", "-m", "taught")[1] == "hello\n" and greedy == "heilo\n"


def test_a_model_that_cannot_be_used(capfd, models, place):
    record()
    bad = place / "bad"
    bad.mkdir()
    good = models / "tones"
    config, alphabet = (json.loads((good / name).read_text()) for name in ("config.json", "tokens.json"))
    (bad / "model.safetensors").write_bytes((good / "model.safetensors").read_bytes())
    for change, letters, words in [
        ({"task": "separate"}, alphabet, "separate"),
        ({"config": config["config"] | {"n_layers": 3}}, alphabet, "does not fit"),
        ({}, None, "tokens.json"),
        ({}, {"type": "runes"}, "tokens.json is damaged"),
        ({}, alphabet | {"tokens": ["a", "b"]}, "its alphabet has 3"),
        ({"decoding": {"beam": "wide"}}, alphabet, "makes no sense"),
        ({"decoding": {"beam": 0}}, alphabet, "out of bounds"),
        ({"decoding": {"lm_weight": -1}}, alphabet, "out of bounds"),
        ({"decoding": 5}, alphabet, "makes no sense"),
        ({"word_lead_ms": "50"}, alphabet, "word_lead_ms"),
        ({"word_lead_ms": -5}, alphabet, "word_lead_ms"),
    ]:
        (bad / "config.json").write_text(json.dumps(config | change))
        (bad / "tokens.json").unlink(missing_ok=True)
        if letters:
            (bad / "tokens.json").write_text(json.dumps(letters))
        code, out, err = transcribed(capfd, "talk.wav", "-m", bad, "--decode", "beam")
        assert code == 5 and not out and words in error_lines(err)[0] and len(err.splitlines()) == 1, err
    (bad / "config.json").write_text(json.dumps(config))
    (bad / "tokens.json").write_text(json.dumps(alphabet))
    (bad / "lm.bin").write_bytes(b"slyther-ngram-1\nnonsense")
    assert transcribed(capfd, "talk.wav", "-m", bad)[0] == 5
    assert transcribed(capfd, "talk.wav", "-m", bad, "--lm", "none")[0] == 0
    for name in ("nobody", "./nowhere", "mamba-tasnet-8k-2spk"):
        code, out, err = transcribed(capfd, "talk.wav", "-m", name)
        assert code == 5 and not out and len(err.splitlines()) == 1


def test_memory_limit(capfd):
    record(text=" ".join([SAID] * 5))
    plain = transcribed(capfd, "talk.wav", "-f", "json", "-o", "-")[1]
    limit = recogniser.Recogniser(setup.choose_model("transcribe", None, "tones")).plan(10**6).working_bytes
    code, out, err = transcribed(
        capfd, "talk.wav", "-f", "json", "-o", "-", "--memory-limit", limit + 1000, "--work-dir", "work", "-v"
    )
    assert code == 0 and out == plain and "work file" in err and not files_in("work")
    code, _, err = transcribed(capfd, "talk.wav", "--memory-limit", "10kB")
    assert code == 6 and "--memory-limit" in error_lines(err)[0]
