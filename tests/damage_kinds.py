"""What can be damaged: for each kind, whole files made by code, and what slyther does with them.

``kind.write(folder, rng)`` puts a damaged case into an empty folder; ``kind.use(folder)`` does with it what a
command would, and raises errors.SlytherError or nothing. ``python tests/damage_run.py`` runs many.
"""

import io
import random
import sys
from pathlib import Path

import numpy as np
import soundfile as sf
import tones
import torch
from damage import damaged
from damage_base import TINY, Kind
from damage_texts import Batch, Manifest, Options, Settings, Work
from speak_tools import tiny_voices

from slyther_cli.checkpoints import encodec, speechbrain, speechbrain_asr, store, voice
from slyther_cli.decode.alphabets import load_tokenizer
from slyther_cli.decode.arpa import read_arpa, write_arpa
from slyther_cli.decode.ngram import NGram
from slyther_cli.decode.tokens import SentencePieceTokenizer
from slyther_cli.errors import SlytherError
from slyther_cli.models import registry
from slyther_cli.research.language.kneser_ney import train
from slyther_cli.separation.job import separate
from slyther_cli.transcription.job import transcribe

RECOGNISER = {"d_model": 16, "n_layers": 1, "d_ffn": 24, "vocab": 11, "max_positions": 9, "kernel_size": 5,
              "decoder": "none", "n_fft": 512}  # fmt: skip
SOUNDS = {  # name: format, subtype, rate
    "a.wav": ("WAV", "PCM_16", 8000),
    "float.wav": ("WAV", "FLOAT", 16000),
    "adpcm.wav": ("WAV", "IMA_ADPCM", 8000),
    "ext.wav": ("WAVEX", "PCM_24", 8000),
    "a.rf64": ("RF64", "PCM_16", 8000),
    "a.flac": ("FLAC", "PCM_16", 8000),
    "a.ogg": ("OGG", "VORBIS", 16000),
    "a.opus": ("OGG", "OPUS", 16000),
    "a.mp3": ("MP3", "MPEG_LAYER_III", 16000),
    "a.aiff": ("AIFF", "PCM_16", 8000),
    "float.aiff": ("AIFF", "FLOAT", 8000),
}


class Sound(Kind):
    """Recordings through ``slyther separate``: all of the stems or nothing."""

    def make(self) -> None:
        rng = np.random.default_rng(0)
        for name, (form, subtype, rate) in SOUNDS.items():
            n = rate // 5
            x = 0.3 * np.sin(np.arange(n) / 9)[:, None] * [1, 0.5] + rng.normal(0, 0.02, (n, 2))
            sf.write(self.home / name, x[:, 0] if "float" in name else x, rate, format=form, subtype=subtype)
        model = registry.build("mamba-tasnet", TINY)
        store.save(
            self.home / "tiny", model, name="tiny", architecture="mamba-tasnet", config=TINY, task="separate"
        )

    def write(self, folder: Path, rng: random.Random) -> None:
        name = rng.choice(sorted(SOUNDS))
        ends = [path.rsplit(".", 1)[1] for path in SOUNDS] + ["raw", "txt", "WAV", "sd2"]
        suffix = rng.choice(ends) if rng.random() < 0.1 else name.rsplit(".", 1)[1]
        (folder / f"x.{suffix}").write_bytes(damaged((self.home / name).read_bytes(), rng))

    def use(self, folder: Path) -> None:
        (path,) = folder.iterdir()
        (result,) = separate(path, folder / "out", self.home / "tiny", memory_limit=100 << 20, residual=True)
        files = sorted(p.name for p in (folder / "out").glob("*")) if (folder / "out").exists() else []
        if result.error is not None:
            assert not (folder / "out").exists(), f"partial output: {files}"
            raise result.error
        assert files == ["x_residual.wav", "x_s1.wav", "x_s2.wav"], files
        assert {sf.info(folder / "out" / f).frames for f in files} == {result.frames}


class Recogniser(Kind):
    """A recogniser's folder through ``slyther transcribe``."""

    def make(self) -> None:
        model, config = tones.network(layers=1)
        lm = train([tones.SAID] * 3, 2)

        def beside(folder: Path) -> None:
            tones.CharTokenizer(tones.LETTERS).save(folder)
            lm.save(folder / "lm.bin")

        how = {"architecture": "conmamba", "config": config, "task": "transcribe", "decoding": {"beam": 4}}
        store.save(self.home / "m", model, name="tones", companions=beside, **how)
        for path in (self.home / "m").iterdir():
            path.rename(self.home / path.name)
        (self.home / "m").rmdir()
        sf.write(self.home / "talk.wav", tones.spoken("deal")[0], tones.RATE)

    def write(self, folder: Path, rng: random.Random) -> None:
        self.damage_one(folder, rng, "config.json", "tokens.json", "lm.bin", "model.safetensors")

    def use(self, folder: Path) -> None:
        (result,) = transcribe(folder / "talk.wav", folder / "out", folder, formats=["srt"])
        if result.error is not None:
            assert not (folder / "out").exists(), "partial output"
            raise result.error


class Separator(Kind):
    """A separator's folder through loading and ``slyther weights show``."""

    def make(self) -> None:
        model = registry.build("mamba-tasnet", TINY)
        folder = self.home / "m"
        store.save(folder, model, name="tiny", architecture="mamba-tasnet", config=TINY, task="separate",
                   metrics={"dB": 1.5}, source="here", card="# A card\n")  # fmt: skip
        for path in folder.iterdir():
            path.rename(self.home / path.name)
        folder.rmdir()

    def write(self, folder: Path, rng: random.Random) -> None:
        self.damage_one(folder, rng, "config.json", "model.safetensors", "model.safetensors", "CARD.md")

    def use(self, folder: Path) -> None:
        from slyther_cli.commands import weights

        out, before = io.StringIO(), sys.stdout
        sys.stdout = out
        try:
            weights.show(str(folder))
        finally:
            sys.stdout = before
        raw = [c for c in out.getvalue() if not c.isprintable() and c not in "\n\t"]
        assert not raw, f"control characters go to the terminal: {raw[:5]}"
        store.load(folder)


class Tokens(Kind):
    """SentencePiece alphabets."""

    def make(self) -> None:
        SentencePieceTokenizer.train(["ABBA CAB", "DAB BAD"], 11, kind="bpe", case="upper").save(self.home)

    def write(self, folder: Path, rng: random.Random) -> None:
        self.damage_one(folder, rng, "tokens.json", "tokenizer.model", "tokenizer.model")

    def use(self, folder: Path) -> None:
        tokenizer = load_tokenizer(folder)
        text = tokenizer.decode(range(tokenizer.size))
        text.encode()
        assert text.isprintable(), "control characters in the alphabet"


class Language(Kind):
    """Language models: ours and ARPA, plain and zipped."""

    def make(self) -> None:
        model = train(["hello all of you", "hello all of them"] * 3, 3)
        model.save(self.home / "lm.bin")
        write_arpa(model, self.home / "lm.arpa")
        write_arpa(model, self.home / "lm.arpa.gz")

    def write(self, folder: Path, rng: random.Random) -> None:
        name = rng.choice(("lm.bin", "lm.arpa", "lm.arpa", "lm.arpa.gz"))
        (folder / name).write_bytes(self.broken(name, (self.home / name).read_bytes(), rng))

    def use(self, folder: Path) -> None:
        (path,) = folder.iterdir()
        model = NGram.load(path) if path.name == "lm.bin" else read_arpa(path)
        score, count = model.sentence("hello all of nobody")
        assert np.isfinite(score) and count == 5
        assert model.has_prefix("hel") in (True, False)
        write_arpa(model, folder / "again.arpa")


class Checkpoint(Kind):
    """Foreign checkpoints: SpeechBrain's separators and recognisers, EnCodec's weights, voices."""

    def make(self) -> None:
        model = registry.build("mamba-tasnet", TINY)
        (self.home / "separator").mkdir()
        for stem in ("encoder", "masknet", "decoder"):
            torch.save(getattr(model, stem).state_dict(), self.home / "separator" / f"{stem}.ckpt")
        recogniser = registry.build("conmamba", RECOGNISER)
        (self.home / "recogniser").mkdir()
        numbers = ["frontend", "transformer", "ctc_lin"]
        state = {
            f"{numbers.index(k.split('.')[0])}.{k.partition('.')[2]}": v
            for k, v in recogniser.state_dict().items()
            if not k.startswith("normalize")
        }
        torch.save(state, self.home / "recogniser" / "model.ckpt")
        means = {
            "count": 3,
            "glob_mean": recogniser.normalize.glob_mean,
            "glob_std": recogniser.normalize.glob_std,
        }
        torch.save(means, self.home / "recogniser" / "normalizer.ckpt")
        pieces = SentencePieceTokenizer.train(["ABBA CAB", "DAB BAD"], 11, kind="bpe", case="upper")
        (self.home / "recogniser" / "tokenizer.ckpt").write_bytes(pieces.model)
        tiny_voices(self.home / "voices")
        (self.home / "voice").mkdir()
        made = self.home / "voices" / "aligned" / voice.VOICE_FILE
        (self.home / "voice" / voice.VOICE_FILE).write_bytes(made.read_bytes())
        codec = registry.build(
            "seanet-codec", {"n_filters": 2, "dimension": 8, "n_codebooks": 2, "codebook_size": 16}
        )
        normed = {}
        for key, value in codec.state_dict().items():
            if key.endswith("conv.weight") or key.endswith("convtr.weight"):
                normed[f"{key}_v"], normed[f"{key}_g"] = value, torch.ones(len(value), 1, 1)
            else:
                normed[key] = value
        (self.home / "codec").mkdir()
        torch.save(normed, self.home / "codec" / "x.th")
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in normed.items()}, self.home / "codec" / "x.safetensors")

    def write(self, folder: Path, rng: random.Random) -> None:
        what = rng.choice(("separator", "separator", "recogniser", "voice", "codec"))
        names = sorted(p.name for p in (self.home / what).iterdir())
        chosen = rng.choice(names)
        (folder / what).mkdir()
        for name in names:
            data = (self.home / what / name).read_bytes()
            (folder / what / name).write_bytes(self.broken(name, data, rng) if name == chosen else data)
        if what == "codec":
            (folder / what / next(n for n in names if n != chosen)).unlink()

    def use(self, folder: Path) -> None:
        (place,) = folder.iterdir()
        try:
            if place.name == "separator":
                speechbrain.import_folder(place, folder / "out")
            elif place.name == "recogniser":
                speechbrain_asr.import_folder(place, folder / "out")
            elif place.name == "codec":
                (file,) = place.iterdir()
                encodec.import_file(file, folder / "out", "x")
            else:
                voice.read_voice(place, "ann", 80, 3, 16, True)
        except SlytherError:
            left = sorted(p.name for p in folder.iterdir())
            assert left == [place.name], f"partial output: {left}"
            raise


KINDS = {
    kind.__name__.lower(): kind
    for kind in (
        Sound,
        Separator,
        Recogniser,
        Tokens,
        Language,
        Manifest,
        Batch,
        Settings,
        Options,
        Work,
        Checkpoint,
    )
}
