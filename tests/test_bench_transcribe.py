"""``slyther bench transcribe``: what it says is measured on speech whose cost, words and times are known."""

import json
from pathlib import Path

import pytest
import soundfile as sf
import tones

from slyther_cli.app import main
from slyther_cli.decode.words import Token
from slyther_cli.models import registry
from slyther_cli.research.studies import recognition_cost, recognition_times
from slyther_cli.research.studies.recognition_cost import run, same_size
from slyther_cli.research.studies.recognition_search import search_settings
from slyther_cli.research.studies.recognition_times import measure_times, spoken_words

pytestmark = pytest.mark.usefixtures("place")


PHONES = {"hello": "hh ah l ow", "abide": "ah b ay d", "all": "ao l", "deal": "d iy l"}


def manifest(shift=0.0):
    """Two utterances whose phones say when their words are heard, ``shift`` seconds later than they are."""
    lines = ["path\tspeaker\tsplit\ttranscript\tphones"]
    for i in range(2):
        words = tones.record(f"{i}.wav", x=None)
        seconds = sf.info(f"{i}.wav").duration
        phones, before = [], 0.0
        for word, (start, end) in zip(tones.SAID.split(), words, strict=True):
            names, (start, end) = PHONES[word].split(), (start + shift, end + shift)
            if start > before:
                phones.append(f"pau:{start:.3f}")
            phones += [f"{n}:{start + (end - start) * (k + 1) / len(names):.3f}" for k, n in enumerate(names)]
            before = end
        phones.append(f"pau:{seconds:.3f}")
        lines.append(f"{i}.wav\tv\ttest\t{tones.SAID.title()}.\t{' '.join(phones)}")
    Path("m.tsv").write_text("\n".join(lines) + "\n")


def times(found):
    return {row["against"]: row for row in found}


def test_the_error_of_times_is_reported(place):
    for shift in (0.0, 0.2):
        manifest(shift)
        row = times(measure_times("tones", place / "m.tsv"))["phones"]
        assert row["problem"] == "" and row["utterances"] == 2 and row["words"] == 8
        for edge in ("start", "end"):
            # the last word's truth ends with the recording
            assert abs(row[edge]["mean_ms"] + 1000 * shift) <= (60 if shift else 25)
            assert (row[edge]["within_100_ms"] == 1) == (shift == 0)


def test_alignments_are_compared_token_by_token(place, monkeypatch):
    manifest()

    def late(log_probs, tokens):
        found = recognition_times.align(log_probs, tokens)
        return [Token(t.id, t.start + (i == 3), t.end + (i == 3), t.score) for i, t in enumerate(found)]

    monkeypatch.setattr(recognition_times, "forced_alignment", lambda: late)
    row = times(measure_times("tones", place / "m.tsv"))["forced_align"]
    count = len(tones.SAID)
    assert row["tokens"] == 2 * count and row["equal"] == pytest.approx(1 - 1 / count)
    assert row["furthest_ms"] == 40


def test_words_of_a_voice():
    phones = "pau:0.2 hh:0.25 ah:0.3 l:0.4 ow:0.5 pau:0.7 ao:0.8 l:0.9 pau:1.0"
    words, found = spoken_words("Hello, all!", phones, 1.0)
    assert words == ["hello", "all"]
    assert found == [(pytest.approx(0.2), pytest.approx(0.5)), (pytest.approx(0.7), pytest.approx(0.9))]
    assert spoken_words("Hello, all!", "", 1.0) is None
    assert spoken_words("Something else entirely, and longer.", phones, 1.0) is None


def test_a_conformer_of_the_same_size():
    architecture, config = registry.PRESETS["conmamba-ctc-small"]
    count = registry.parameter_count(architecture, config)
    other = registry.parameter_count(
        "conformer", same_size(registry.full_config(architecture, config), count)
    )
    assert abs(other - count) < 0.005 * count


def cost(capsys, *options):
    manifest()
    asked = ["--manifest", "m.tsv", "--parts", "cost", "--json", *options]
    assert main(["bench", "transcribe", *asked]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_cost_of_every_length_and_search(capsys, monkeypatch):
    """In this process, so that torch is not loaded six times."""
    monkeypatch.setattr(recognition_cost, "in_fresh_process", lambda module, job, threads: run(job))
    rows = cost(capsys, "--model", "taught", "--lengths", "7,4")
    got = [(row["system"], row["seconds"], row["decode"]) for row in rows]
    assert got == [
        (system, seconds, how)
        for seconds in (4, 7)
        for system, how in (("taught", "greedy"), ("taught", "beam"), ("conformer", ""))
    ]
    for row in rows:
        assert row["problem"] == "" and row["cpu_per_second"] > 0 and row["parameters"] > 1000
        heard = {4: 4, 7: 7}[row["seconds"]]  # where one utterance meets the next, no space is spoken
        assert row["words"] == (None if row["system"] == "conformer" else heard)


@pytest.mark.slow
def test_the_peer_gives_up_at_its_limits(capsys):
    for limit, told in (("--memory-limit=1MB", "memory"), ("--time-limit=0.01", "CPU-seconds")):
        rows = cost(capsys, "--model", "tones", "--lengths", "60,120", "--decode", "greedy", limit)
        assert [row["system"] for row in rows] == ["tones", "conformer", "tones"]
        assert told in rows[1]["problem"] and rows[1]["seconds"] == 60
        for row in rows[::2]:
            assert row["problem"] == "" and row["extra_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--lengths", "a"], "no list of seconds"),
        (["--lengths", "0"], "above 0"),
        (["--parts", "cost,speed"], "no part"),
        (["--against", "whisper"], "unknown peer"),
        (["--manifest", "none.tsv"], "none.tsv"),
        (["--split", "other"], "other"),
    ],
)
def test_bad_requests(capsys, options, told):
    manifest()
    assert main(["bench", "transcribe", "--manifest", "m.tsv", "--model", "tones", *options]) in (2, 3)
    err = capsys.readouterr().err
    assert told in err and "Traceback" not in err


def test_speech_without_phones_has_no_times(place):
    tones.record("0.wav")
    (place / "m.tsv").write_text(f"path\tspeaker\tsplit\ttranscript\n0.wav\tv\ttest\t{tones.SAID}\n")
    assert "train synthesize" in times(measure_times("tones", place / "m.tsv"))["phones"]["problem"]


def test_settings_are_sought_where_the_errors_are_fewest(place, capsys):
    """The model "taught" is given settings that swallow its words; the search finds the way back."""
    words = [tones.SAID, "hello deal", "abide all"]
    lines = ["path\tspeaker\tsplit\ttranscript"]
    for i, text in enumerate(words):
        tones.record(f"{i}.wav", text=text)
        lines.append(f"{i}.wav\tv\tdev\t{text}")
    Path("m.tsv").write_text("\n".join(lines) + "\n")
    rows = search_settings("taught", place / "m.tsv")
    assert [row["best"] for row in rows].count(True) >= 1 and rows[0]["best"]
    assert rows[-1]["wer"] == min(row["wer"] for row in rows) <= rows[0]["wer"]
    assert rows[0]["decoding"]["lm_weight"] == 0.3 and rows[0]["words"] == 8
    assert all(row["decoding"]["unknown_letter_bonus"] <= 0 <= row["decoding"]["lm_weight"] for row in rows)
    command = ["bench", "transcribe", "--manifest", "m.tsv", "--model", "taught", "--parts", "search"]
    assert main([*command, "--split", "dev"]) == 0
    told = json.loads("{" + capsys.readouterr().out.splitlines()[-1] + "}")
    assert told["decoding"] == rows[-1]["decoding"]
    assert main(command) == 2 and "--split dev" in capsys.readouterr().err
    assert main([*command[:-3], "tones", *command[-2:], "--split", "dev"]) == 2
