"""Lists, settings and work files that can be damaged."""

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile as sf
import torch
from damage import damaged, damaged_json
from damage_base import Kind

from slyther_cli.audio.discover import once
from slyther_cli.errors import SlytherError, UsageError
from slyther_cli.longform.journal import Journal, _checksum
from slyther_cli.longform.tape import TapeDamaged
from slyther_cli.models import registry
from slyther_cli.synthesis import journal

TOML = """name = "mine"
architecture = "mamba-tasnet"
[model]
n_filters = 8
kernel_size = 4
stride = 2
d_model = 6
n_layers = 2
d_state = 3
[data]
manifests = ["manifest.tsv"]
[loop]
steps = 10
seed = 1
"""
MANIFEST = (
    "path\tspeaker\tsplit\tsex\ttranscript\na.wav\tana\ttrain\tF\thello all\nb.flac\tben\ttrain\tm\tdeal\n"
)


class Manifest(Kind):
    """Manifests of training and evaluation, and the pool of speech made of one."""

    def make(self) -> None:
        for name in ("a.wav", "b.flac"):
            sf.write(self.home / name, np.sin(np.arange(4000) / 5), 8000)

    def write(self, folder: Path, rng: random.Random) -> None:
        for name in ("a.wav", "b.flac"):
            (folder / name).write_bytes((self.home / name).read_bytes())
        text = MANIFEST
        if rng.random() < 0.4:
            bad = ("", "\0", "../../../etc/passwd", "/etc/passwd", "/dev/zero", "a" * 5000, "\x1b[2J", "-",
                   ".", "a.wav\\", '"', '"a.wav', "\ufeff", "x" * 200_000, "\udcff", "fifo")  # fmt: skip
            word = rng.choice(re.findall(r"[^\t\n]+", text))
            text = text.replace(word, rng.choice(bad), 1)
        data = text.encode("utf-8", "surrogateescape")
        if "fifo" in text:
            os.mkfifo(folder / "fifo")
        (folder / "m.tsv").write_bytes(damaged(data, rng) if rng.random() < 0.7 else data)

    def use(self, folder: Path) -> None:
        from slyther_cli.research.training.data import SpeechPool

        SpeechPool([folder / "m.tsv"], "train", 8000, folder / "cache")


class Settings(Kind):
    """Configuration files of the trainings."""

    def write(self, folder: Path, rng: random.Random) -> None:
        text = TOML
        if rng.random() < 0.5:
            bad = ("9" * 5000, "[" * 5000, "nan", "-inf", "1e999", "-1", "0", "2147483648", "{}", "[]",
                   '"\\u0000"', '"../../x"', "1979-05-27", "true", "{a={a={a={}}}}", '"""', "'''",
                   "0x" + "f" * 5000)  # fmt: skip
            word = rng.choice(re.findall(r"(?<== ).+", text))
            text = text.replace(word, rng.choice(bad), 1)
        if rng.random() < 0.3:
            text = text.replace("mamba-tasnet", rng.choice(list(registry.ARCHITECTURES)), 1)
        data = text.encode()
        (folder / "c.toml").write_bytes(damaged(data, rng) if rng.random() < 0.6 else data)

    def use(self, folder: Path) -> None:
        from slyther_cli.research.training import recognition, separation, speech
        from slyther_cli.research.training.settings import read_settings

        kinds, caught = (separation.SeparationConfig, recognition.RecognitionConfig, speech.SpeechConfig), []
        for kind in kinds:
            try:
                read_settings(folder / "c.toml", kind)
            except SlytherError as error:
                caught.append(error)
        if len(caught) == len(kinds):  # it fits no training
            raise caught[0]


class Options(Kind):
    """slyther.toml, as far as the commands read it."""

    TEXT = (
        'device = "cpu"\nthreads = 2\n[separate]\nformat = "flac"\nspeakers = 2\n'
        "[train.separate]\nworkers = 1\n"
    )

    def write(self, folder: Path, rng: random.Random) -> None:
        text = self.TEXT
        if rng.random() < 0.5:
            bad = (
                "9" * 5000,
                "0x" + "f" * 5000,
                "[" * 5000,
                "nan",
                "-1",
                "{}",
                '"\\u0000"',
                "1979-05-27",
                "true",
            )
            word = rng.choice(re.findall(r"(?<== ).+", text))
            text = text.replace(word, rng.choice(bad), 1)
        data = text.encode()
        (folder / "slyther.toml").write_bytes(damaged(data, rng) if rng.random() < 0.6 else data)

    def use(self, folder: Path) -> None:
        import typer

        from slyther_cli import app

        command = typer.main.get_command(app.app)
        click_error = typer.BadParameter.__mro__[2]
        for words in (["separate"], ["train"]):
            try:
                with command.make_context(
                    "slyther", ["--config", str(folder / "slyther.toml"), *words]
                ) as root:
                    command.invoke(root)
            except click_error as error:
                if "Missing" not in error.format_message():  # nothing to do: the file was fine
                    raise SlytherError(error.format_message()) from None
            except typer.Exit:
                pass
            except UsageError as error:
                if "name recordings" not in str(error):  # likewise
                    raise


class Batch(Kind):
    """Lists of recordings."""

    def write(self, folder: Path, rng: random.Random) -> None:
        name = rng.choice(("m.txt", "m.tsv", "m.csv"))
        sep = "," if name.endswith("csv") else "\t"
        lines = ["a.wav", "../b.flac", '"c d".ogg', "/e/f.mp3", "é.wav"]
        if name != "m.txt":
            lines = [sep.join(("path", "who")), *(sep.join((line, "x")) for line in lines)]
        data = ("\n".join(lines) + "\n").encode()
        (folder / name).write_bytes(damaged(data, rng))

    def use(self, folder: Path) -> None:
        from slyther_cli.jobs import inputs

        (path,) = folder.iterdir()
        found = once(inputs.read_manifest(str(path)))
        assert sorted(inputs.longest_first([inputs.length(one) for one in found])) == list(range(len(found)))


class Work(Kind):
    """The journal of a killed job, and that of a killed book."""

    FACTS = {"recording": {"bytes": 1}, "model": {"name": "a"}, "options": {}, "engine": {"tile": 2}}  # noqa: RUF012

    def make(self) -> None:
        from slyther_cli.longform.sweep import Mark

        with Journal(self.home, "job", self.FACTS, every=0.0) as job:
            tape = job.open_tape(8)
            for i in range(4):
                tape.store(0, i, torch.ones(2, 4))
            state = (torch.ones(3), None, (torch.zeros(2, 2), None))
            job.passed(Mark(1, 3, 2, 8, state), True)
        data = (self.home / "job" / "mark").read_bytes()
        size = int.from_bytes(data[:8], "little")
        self.place = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["place"])
        self.tensors = {"0": torch.ones(3), "1": torch.zeros(2, 2)}
        said = journal.Said(
            torch.ones(3, 5, dtype=torch.int64),
            journal.Context([journal.MambaState(torch.ones(1, 4, 3), torch.ones(1, 4, 2))], torch.ones(1, 1)),
            True,
            0.5,
        )
        with self.book(self.home) as book:
            book.write(0, said, journal.Verdict(), 1)
            shutil.copy(book.folder / "0000000.safetensors", self.home)

    def told(self, notes: list[str]) -> None:
        """Damaged work is told and done anew, which is its way to be refused."""
        for note in notes:
            if "damaged" in note:
                raise UsageError(note)

    @contextlib.contextmanager
    def book(self, cache: Path) -> Iterator[journal.Journal]:
        with (
            mock.patch.dict(os.environ, SLYTHER_CACHE=str(cache)),
            contextlib.closing(journal.Journal("book", (3, 16))) as book,
        ):
            yield book

    def write(self, folder: Path, rng: random.Random) -> None:
        from safetensors.torch import save

        (folder / "job").mkdir(mode=0o700)
        for name in ("tape", "mark", "lock"):
            (folder / "job" / name).write_bytes((self.home / "job" / name).read_bytes())
        act, target = rng.randrange(4), folder / "job" / "mark"
        if act == 0:
            target.write_bytes(self.broken("mark.safetensors", target.read_bytes(), rng))
        elif act == 1:  # by someone who knows how: with the right checksum
            text = json.dumps(damaged_json(self.place, rng))
            target.write_bytes(save(self.tensors, {"place": text, "sum": _checksum(text, self.tensors)}))
        elif act == 2:
            tape = folder / "job" / "tape"
            tape.write_bytes(damaged(tape.read_bytes(), rng))
        else:
            kept = folder / "speech" / "book"
            kept.mkdir(parents=True)
            data = (self.home / "0000000.safetensors").read_bytes()
            (kept / "0000000.safetensors").write_bytes(self.broken("0.safetensors", data, rng))

    def use(self, folder: Path) -> None:
        if (folder / "speech").exists():
            with self.book(folder) as book:
                self.told(book.notes)
                book.read(0)
            return
        with Journal(folder, "job", self.FACTS) as job:
            tape = job.open_tape(8)
            mark = job.start()
            if mark.sweep:
                try:
                    for i in range(4):
                        tape.load(0, i, 2, 4)
                except TapeDamaged as damage:
                    job.anew(damage)
            self.told(job.notes)
            assert all(type(n) is int and n >= 0 for n in mark[:4]), mark
