"""What the process may take of the machine."""

import sys

import pytest

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
