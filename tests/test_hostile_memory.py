"""Memory that runs out, at whatever place: exit code 6 and one line that says what helps."""

import numpy as np
import pytest
import soundfile as sf
import tones
import torch
from nursery import Nursery

from slyther_cli.checkpoints import store
from slyther_cli.models import registry

WIDE = {"n_filters": 128, "kernel_size": 16, "stride": 8, "d_model": 128, "n_layers": 2, "d_state": 16}
LIMIT = """
room = {room}
used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    model = registry.build("mamba-tasnet", WIDE)
    how = {"architecture": "mamba-tasnet", "config": WIDE, "task": "separate"}
    store.save(home / "cache" / "wide", model, name="wide", **how)
    tones.save(home / "cache")
    sf.write(home / "mix.wav", np.random.default_rng(0).normal(0, 0.1, 8000 * 30), 8000)
    sf.write(home / "talk.wav", tones.spoken("hello all " * 10)[0], tones.RATE)
    return home


def test_memory_that_runs_out(home, tmp_path):
    commands = {
        "separate": ["separate", home / "mix.wav", "-m", "wide", "-o", "out"],
        "transcribe": ["transcribe", home / "talk.wav", "-m", "tones", "-o", "out"],
    }
    env = {"SLYTHER_CACHE": str(home / "cache")}
    with Nursery() as nursery:
        for name, argv in commands.items():
            codes = []
            for number, room in enumerate((1 << 20, 33 << 20, 38 << 20, 45 << 20, 81 << 20)):
                folder = tmp_path / f"{name}{number}"
                folder.mkdir()
                done = nursery.run(*argv, cwd=folder, env=env, before=LIMIT.format(room=room))
                codes.append(done.code)
                if done.code:
                    assert done.code == 6 and done.left == {}, (name, room, done)
                    assert "not enough memory" in done.err and "--memory-limit" in done.err, (room, done)
                    assert sum("error" in line for line in done.err.splitlines()) == 1, done
            assert 6 in codes, codes
