"""Runs slyther commands in processes of their own without starting Python and torch anew for each: a process
that has imported everything forks.

    with Nursery() as nursery:
        done = nursery.run("separate", "a.wav", cwd=folder, fsize=1000)
        done.code, done.out, done.err, done.left      # left: the files of cwd, without their sizes

``fsize``: no file may grow beyond so many bytes, as on a disk that is full. ``stdin``: a file. ``env``: more
variables. ``before``: Python code that the child runs first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

CODE = """
import json, os, resource, select, signal, sys
import torch
torch.set_num_threads(1)
from slyther_cli import app
from slyther_cli.separation import job
from slyther_cli.transcription import job
from slyther_cli.models import mamba_tasnet, conmamba
from slyther_cli.longform import separate_whole
for line in sys.stdin:
    ask = json.loads(line)
    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if not child:
        os.environ |= ask["env"]
        os.chdir(ask["cwd"])
        os.dup2(os.open(ask["stdin"], os.O_RDONLY), 0)
        for (_, into), fd in zip(pipes, (1, 2)):
            os.dup2(into, fd)
        for pair in pipes:
            for fd in pair:
                os.close(fd)
        sys.stdin, sys.stdout, sys.stderr = (open(fd, mode) for fd, mode in ((0, "r"), (1, "w"), (2, "w")))
        if ask["before"]:
            exec(ask["before"])
        if ask["fsize"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (ask["fsize"], ask["fsize"]))
        try:
            code = app.main(ask["argv"])
            sys.stdout.flush()
        except BaseException as error:
            os.write(2, f"LEAKED {error!r}".encode())
            code = 99
        os._exit(code)
    said = {pipes[0][0]: b"", pipes[1][0]: b""}
    for _, into in pipes:
        os.close(into)
    open_ones = set(said)
    while open_ones:
        for fd in select.select(list(open_ones), [], [])[0]:
            data = os.read(fd, 1 << 16)
            said[fd] += data
            if not data:
                open_ones.discard(fd)
                os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([code, *(said[out].decode("utf-8", "replace") for out, _ in pipes)]), flush=True)
"""


class Done(NamedTuple):
    code: int
    out: str
    err: str
    left: dict[str, int]


class Nursery:
    def __init__(self) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        env.pop("SLYTHER_DEBUG", None)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-c", CODE], stdin=pipe, stdout=pipe, text=True, env=env
        )

    def run(self, *argv, cwd, fsize=None, stdin="/dev/null", env=None, before="") -> Done:
        what = {"argv": [*map(str, argv)], "cwd": str(cwd), "fsize": fsize, "stdin": str(stdin)}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(what | {"env": env or {}, "before": before}) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        return Done(code, out, err, files(cwd))

    def __enter__(self) -> "Nursery":
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def files(folder) -> dict[str, int]:
    """Every file and link below ``folder``, with its size."""
    folder = Path(folder)
    return {
        str(p.relative_to(folder)): p.lstat().st_size for p in sorted(folder.rglob("*")) if not p.is_dir()
    }
