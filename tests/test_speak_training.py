"""Training a voice: times of phones fit their symbols, codes are made once, and a tiny voice learns its
sentence."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from speak_tools import VOICE, tiny_codec

from slyther_cli.app import main
from slyther_cli.checkpoints import store
from slyther_cli.checkpoints.config import ModelConfig, read_config
from slyther_cli.checkpoints.voice import UNNAMED, VoiceEntry, list_voices, read_voice, write_voices
from slyther_cli.english.phonemes import ALPHABETS, spell
from slyther_cli.errors import InputError, ModelError
from slyther_cli.models.vall_sampling import Voice
from slyther_cli.research.training.codec_dataset import Encoding, SpokenCodes, at_level
from slyther_cli.research.training.phone_times import parse_phones, symbol_durations


def speech(folder: Path, count: int = 6) -> Path:
    """Tones for vowels and noise for the rest, with the times of the phones."""
    rng, lines = np.random.default_rng(0), ["path\tspeaker\tsex\tsplit\ttranscript\tphones"]
    for i in range(count):
        phones, sound, at = [], [], 0.0
        for name, length in (
            ("pau", 0.1),
            ("n", 0.1),
            ("ow", 0.3),
            ("pau", 0.06),
            ("y", 0.1),
            ("eh", 0.2),
            ("s", 0.2),
        ):
            at += length * (1 + 0.1 * i)
            phones.append(f"{name}:{at:.3f}")
            t = np.arange(round(at * 16000) - sum(map(len, sound))) / 16000
            tone = (
                np.sin(2 * np.pi * 300 * (1 + len(name)) * t)
                if name in ("ow", "eh")
                else rng.normal(size=len(t))
            )
            sound.append((0 if name == "pau" else 0.1) * tone)
        soundfile.write(folder / f"{i}.wav", np.concatenate(sound), 16000)
        who, split = ("you\tM" if i == 1 else "me\tF"), ("dev" if i < 2 else "train")
        lines.append(f"{i}.wav\t{who}\t{split}\tNo, yes.\t{' '.join(phones)}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return folder / "manifest.tsv"


def test_symbols_last_as_long_as_their_phones():
    symbols = spell("No, the yes.", "arpabet").symbols
    phones = parse_phones("pau:0.2 n:0.3 ow:0.5 pau:0.6 dh:0.7 ax:0.8 y:1.0 eh:1.2 s:1.4 pau:1.5")
    lasting = symbol_durations(symbols, phones, 77, 50)
    names = [ALPHABETS["arpabet"][s] for s in symbols]
    assert lasting.sum() == 77 and lasting[0] == 10  # the silence before
    told = {n: int(d) for n, d in zip(names, lasting, strict=True) if n != " "}
    assert told == {"N": 5, "OW1": 10, ",": 5, "DH": 5, "AH0": 5, "Y": 10, "EH1": 10, "S": 10, ".": 7}
    assert symbol_durations(symbols, parse_phones("k:0.1 t:0.2 p:0.3"), 15, 50) is None
    assert symbol_durations(symbols, parse_phones("damaged words"), 15, 50) is None


def test_codes_are_made_once_and_only_of_what_fits(tmp_path: Path):
    manifest, codec = speech(tmp_path), tiny_codec(tmp_path / "codec")
    settings = ([manifest], "train", Encoding(codec, "key", tmp_path / "cache"), "arpabet", True)
    first = SpokenCodes(*settings)
    assert len(first.items) == 4 and first.left_out == 0
    for item in first.items:
        assert item.durations.sum() == len(item.codes) and item.codes.shape[1] == 3
    codec.encode = lambda samples: pytest.fail("encoded again")
    again = SpokenCodes(*settings)
    assert all((a.codes == b.codes).all() for a, b in zip(first.items, again.items, strict=True))
    batch = again.batch(np.random.default_rng(1), 500, join=1.0)
    assert (batch.durations.sum(1) == batch.n_frames).all() and len(batch.symbols) > 1
    with pytest.raises(InputError, match="split 'nothing'"):
        SpokenCodes([manifest], "nothing", *settings[2:])
    lines = manifest.read_text().splitlines()
    for i, item in enumerate(first.items, 2):  # the longer ones come later, there too
        np.save(tmp_path / f"{i}.npy", item.codes)
        lines[i + 1] = lines[i + 1].replace(".wav", ".npy")
    manifest.write_text("\n".join(lines) + "\n")
    ready = SpokenCodes(*settings)  # nothing is encoded
    assert all((a.codes == b.codes).all() for a, b in zip(first.items, ready.items, strict=True))
    for damaged in (np.zeros((9, 2), np.uint16), np.zeros((9, 3), np.int64), np.full((9, 3), 16, np.uint16)):
        np.save(tmp_path / "2.npy", damaged)
        with pytest.raises(InputError, match=r"2\.npy: (are not|has) codes"):
            SpokenCodes(*settings)
    (tmp_path / "2.npy").write_bytes(b"no codes")
    with pytest.raises(InputError, match=r"2\.npy: "):
        SpokenCodes(*settings)
    loud = at_level(np.concatenate((np.zeros(9000), np.ones(9000))).astype(np.float32))
    assert abs(loud[-1] - 10 ** (-25 / 20)) < 1e-4 and not at_level(np.zeros(9)).any()


@pytest.mark.parametrize("conditioning", ["aligned", "encoder"])
def test_a_voice_is_trained_from_the_command_line(tmp_path: Path, capsys, conditioning):
    speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    model = "\n".join(f"{k} = {json.dumps(v)}" for k, v in {**VOICE, "conditioning": conditioning}.items())
    (tmp_path / "c.toml").write_text(
        f'codec = "codec"\n[model]\n{model}\n[data]\nmanifests = ["manifest.tsv"]\ncache = "cache"\n[batch]\n'
        "frames = 150\n[loop]\nsteps = 12\nwarmup = 1\nlr = 0.02\naverage = 0.0\nlog_seconds = 0.0\n"
    )
    assert main(["train", "speak", "-c", str(tmp_path / "c.toml"), "-o", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run/best")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [e["loss"] for e in log if e["event"] == "train"]
    assert np.mean(losses[-3:]) < losses[0] - 0.3
    _, config = store.load(tmp_path / "run/best", expect_task="speak")
    assert config.config["codec"] == "tiny"
    assert list_voices(config) == (VoiceEntry("you", "male"),)  # the longer one
    voice = read_voice(tmp_path / "run/best", "you", 80, 3, 16, conditioning == "aligned")
    assert voice.symbols.tolist() == list(spell("No, yes.", "arpabet").symbols)


def test_a_codec_of_another_shape_is_refused(tmp_path: Path, capsys):
    speech(tmp_path)
    tiny_codec(tmp_path / "codec")
    (tmp_path / "c.toml").write_text(
        'codec = "codec"\n[model]\npreset = "vall-m-small"\n[data]\nmanifests = ["x"]\n'
    )
    assert main(["train", "speak", "-c", str(tmp_path / "c.toml"), "-o", str(tmp_path / "run")]) == 5
    assert "set them alike" in capsys.readouterr().err


def test_several_voices_are_exported_with_what_is_known_of_them(tmp_path: Path, capsys):
    speech(tmp_path)
    tiny_codec(tmp_path / "codec")

    def train(voices: str) -> int:
        (tmp_path / "c.toml").write_text(
            f'codec = "codec"\nvoices = {voices}\n[model]\npreset = "vall-me-aligned-small"\n'
            'codec = "tiny"\nn_first = 2\nn_codebooks = 3\n'
            "codebook_size = 16\nd_model = 16\nd_ffn = 16\nn_layers = 1\n"
            'n_nar_layers = 1\nn_text_layers = 1\n[data]\nmanifests = ["manifest.tsv"]\ncache = "cache"\n'
            "[batch]\nframes = 150\nforget = 0.5\n[loop]\nsteps = 1\nwarmup = 1\naverage = 0.0\n"
        )
        return main(["train", "speak", "-c", str(tmp_path / "c.toml"), "-o", str(tmp_path / "run"), "-q"])

    for bad, words in (
        ('["nobody"]', "speaker 'nobody' has no utterance in split 'dev'"),
        ('["me", "me"]', "two are called me"),
        ('[{speaker = "me", name = "a b"}]', "not 'a b'"),
        ('[{speaker = "me", mood = "good"}]', "voices 1: unknown setting mood"),
        ('"me"', "voices must be a list"),
        ("[3]", "voices 1 must be a table"),
    ):
        assert train(bad) == 2
        assert words in capsys.readouterr().err
    assert train('["you", {speaker = "me", name = "mia", accent = "British"}]') == 0
    config = read_config(tmp_path / "run/best")
    assert list_voices(config) == (VoiceEntry("you", "male"), VoiceEntry("mia", "female", "British"))
    for entry in list_voices(config):
        voice = read_voice(tmp_path / "run/best", entry.name, 80, 3, 16, True)
        assert voice.durations.sum() == voice.codes.shape[1] > 0
    assert main(["weights", "show", str(tmp_path / "run/best")]) == 0
    assert "voice: mia" in (shown := capsys.readouterr().out) and "female, British" in shown


def test_a_voice_that_does_not_fit_is_refused(tmp_path: Path):
    with pytest.raises(ModelError, match="cannot be read"):
        read_voice(tmp_path, "me", 80, 3, 16, False)
    me = Voice(torch.tensor([1, 79]), torch.tensor([[1, 2]] * 3), torch.tensor([0, 2]))
    write_voices(tmp_path, {"me": me, "you": me._replace(durations=None)})
    assert read_voice(tmp_path, "me", 80, 3, 16, True).durations.tolist() == [0, 2]
    assert read_voice(tmp_path, "you", 80, 3, 16, False).durations is None
    others = ("you", 80, 3, 16, True), (UNNAMED, 80, 3, 16, False)
    for bad in (("me", 79, 3, 16, True), ("me", 80, 2, 16, True), ("me", 80, 3, 2, True), *others):
        with pytest.raises(ModelError, match="does not fit"):
            read_voice(tmp_path, *bad)
    (tmp_path / "voice.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelError, match="damaged"):
        read_voice(tmp_path, "me", 80, 3, 16, True)


@pytest.mark.parametrize(
    ("voices", "words"),
    [
        ("ann", "no list of objects"),
        ([7], "no list of objects"),
        ([{"sex": "female"}], "not ''"),
        ([{"name": "a/b"}], "not 'a/b'"),
        ([{"name": "a", "accent": 3}], "short texts, not '3'"),
        ([{"name": "a", "sex": "x" * 41}], "short texts"),
        ([{"name": "a"}, {"name": "a"}], "two are called a"),
        ([{"name": f"v{i}"} for i in range(101)], "more than 100"),
    ],
)
def test_a_config_with_voices_from_anywhere_is_read_with_care(voices, words):
    config = ModelConfig("m", "speak", "vall-m", {}, extra={"voices": voices})
    with pytest.raises(ModelError, match=words):
        list_voices(config)
