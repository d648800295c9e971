"""Programs of others that speak: a command line, run once a sentence, and what it takes.

A small process of its own starts the program and measures it: on Linux the peak memory of a process counts
that of the one which started it, and this one has torch in it.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from slyther_cli.errors import InputError, UsageError
from slyther_cli.research.training.data import read_mono

SECONDS = 600  # that a program has for a sentence
TEXT, WAV = "{text}", "{wav}"
MEASURE = """
import json, resource, subprocess, sys
with open(sys.argv[1], "rb") as text:
    done = subprocess.run(sys.argv[2:], stdin=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
said = done.stderr.decode(errors="replace").strip()[-200:]
peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, peak, said]))
"""


class Spoken(NamedTuple):
    """``samples`` at the rate that was asked for; ``cpu`` seconds; ``memory``: the peak in bytes, of which
    those of Python (10 MB) are the least that is seen."""

    samples: np.ndarray
    cpu: float
    memory: int


@dataclass(frozen=True)
class Program:
    """``arguments``: with {wav} for the file to write, and {text}, without which the text comes on standard
    input."""

    name: str
    arguments: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Program:
        """``flite=flite -voice slt -t {text} -o {wav}``. Raises UsageError."""
        name, _, command = text.partition("=")
        try:
            arguments = tuple(shlex.split(command))
        except ValueError as error:
            raise UsageError(f"--against {text}: {error}") from None
        if not name or not arguments or WAV not in command:
            raise UsageError(
                f"--against {text}: give NAME=COMMAND with {{wav}}, and {{text}} or standard input"
            )
        if shutil.which(arguments[0]) is None:
            raise UsageError(f"--against {name}: there is no program {arguments[0]}")
        return cls(name, arguments)

    def say(self, text: str, rate: int) -> Spoken:
        """Raises InputError: it fails, takes too long, or writes no sound file."""
        with tempfile.TemporaryDirectory() as folder:
            wav, words = Path(folder, "said.wav"), Path(folder, "text")
            words.write_text(text + "\n", encoding="utf-8")
            filled = [a.replace(WAV, str(wav)).replace(TEXT, text) for a in self.arguments]
            command = [sys.executable, "-I", "-S", "-c", MEASURE, str(words), *filled]
            try:
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=SECONDS)
            except subprocess.TimeoutExpired:
                raise InputError(f"{self.name} takes longer than {SECONDS} s for a sentence") from None
            except subprocess.CalledProcessError:
                raise InputError(f"{self.name} cannot be run") from None
            code, cpu, memory, said = json.loads(done.stdout)
            if code or not wav.is_file():
                why = " ".join(said.split()) or f"exit code {code}"
                raise InputError(f"{self.name} wrote no sound: {why}")
            return Spoken(read_mono(wav, rate), cpu, memory)
