"""Thousands of damaged files, made by code: each is used or refused in one line, soon, in little memory, and
leaves nothing half done. ``pytest -m slow tests/test_fuzz_corpus.py`` runs them all; a few run by default.
"""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import damage_run
import pytest
import torch
from damage import damaged
from damage_kinds import KINDS
from damage_texts import MANIFEST

CASES = {"sound": 1200, "separator": 300, "recogniser": 200, "tokens": 200, "language": 400, "manifest": 300,
         "settings": 300, "batch": 300, "options": 300, "work": 300, "checkpoint": 400}  # fmt: skip
FAST = {"sound": 50, "recogniser": 15, "checkpoint": 25, "options": 15}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("whole")
    yield {name: kind(home) for name, kind in KINDS.items()}
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_are_used(kinds, name, tmp_path, monkeypatch):
    """Without damage nothing is refused: so it is the damage that the other tests see refused."""
    for module in ("damage_base", "damage_kinds", "damage_texts"):
        monkeypatch.setattr(f"{module}.damaged", lambda data, rng: data)
    for module in ("damage_base", "damage_texts"):
        monkeypatch.setattr(f"{module}.damaged_json", lambda value, rng: value)
    used = 0
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome, said = damage_run.one(kinds[name], number, folder)
        assert outcome != "WRONG", said
        used += outcome == "used"
    assert used >= 3  # some kinds bring bad entries of their own


@pytest.mark.parametrize("name", KINDS)
def test_some_damaged_files(kinds, name, tmp_path):
    refused = 0
    for number in range(FAST.get(name, 40)):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome, said = damage_run.one(kinds[name], number, folder)
        assert outcome != "WRONG", f"{name} {number}: {said}"
        refused += outcome == "refused"
    assert refused >= 2


def test_damage_is_repeatable_and_does_damage():
    data = MANIFEST.encode() * 20
    made = [damaged(data, random.Random(n)) for n in range(200)]
    assert made == [damaged(data, random.Random(n)) for n in range(200)]
    assert sum(m != data for m in made) > 180 and len(set(made)) > 170


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", KINDS)
def test_all_damaged_files(name):
    """In processes of their own with a limit of address space: a crash of native code, a hang in it and
    memory are seen as well."""
    count, first, tally, wrong = CASES[name], 0, {}, []
    seed = int(os.environ.get("SLYTHER_FUZZ_FIRST", "0"))
    while first < count:
        here = Path(damage_run.__file__)
        command = [sys.executable, str(here), name, str(seed + first), str(count - first)]
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(here.parent.parent), *sys.path[:1]])}
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=3000, cwd=here.parent, env=env
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        wrong += [line for line in lines if "wrong" in line]
        for line in lines:
            for key, n in line.get("tally", {}).items():
                tally[key] = tally.get(key, 0) + n
        if done.returncode == 0:
            break
        last = max((line["begin"] for line in lines if "begin" in line), default=None)
        assert last is not None, "the process could not begin"
        wrong.append({"wrong": f"{name} {last}", "said": f"the process ended with {done.returncode}"})
        first = last - seed + 1
    print(name, tally)
    assert not wrong, "\n".join(f"{w['wrong']}: {w['said']}" for w in wrong)
