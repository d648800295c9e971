"""What the process may take of the machine."""

import subprocess
import sys

import pytest

import slyther_cli
from slyther_cli import runtime


def group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_free_of_the_machine", lambda: 1000)
    return lambda: min([1000, *runtime._free_in_groups(tmp_path / "own", tmp_path / "groups")])


def test_the_least_of_all_groups_above(tmp_path, machine):
    top = tmp_path / "groups"
    (tmp_path / "own").write_text("0::/jobs/7\n")
    group(top, memory__stat="inactive_file 5")  # the root has no limit
    assert machine() == 1000
    group(top / "jobs/7", memory__max="max", memory__current="10", memory__stat="anon 9\ninactive_file 1")
    assert machine() == 1000
    group(top / "jobs", memory__max="700", memory__current="400", memory__stat="anon 9\ninactive_file 50")
    assert machine() == 350
    group(top / "jobs/7", memory__max="300")
    assert machine() == 291
    group(top / "jobs/7", memory__current="400")
    assert machine() == 0


def test_groups_of_the_first_version(tmp_path, machine):
    (tmp_path / "own").write_text("5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/x\n")
    files = {"memory__limit_in_bytes": "600", "memory__usage_in_bytes": "200"}
    group(
        tmp_path / "groups/memory/docker/1", **files, memory__stat="inactive_file 9\ntotal_inactive_file 50"
    )
    assert machine() == 450


def test_where_there_are_no_groups(machine):
    assert machine() == 1000


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine():
    assert 0 < runtime.available_memory() <= runtime._free_of_the_machine() * 1.5


def test_other_processes_import_what_this_one_does(tmp_path, monkeypatch):
    """Not what lies in the folder the user is in, such as the source, without its compiled part."""
    (tmp_path / "slyther_cli").mkdir()
    (tmp_path / "slyther_cli" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    (tmp_path / "own.py").write_text("import slyther_cli, sys; print(slyther_cli.__file__, sys.argv[1])")
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, ""])  # looked into, but last
    command, env = runtime.same_python("own", "said")
    told = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert told.split() == [slyther_cli.__file__, "said"]
