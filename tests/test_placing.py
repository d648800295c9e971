"""Where results go: folders are mirrored below -o, --flat and --filename place them otherwise."""

import os
from pathlib import Path

import pytest
from tones import record, transcribed
from tools import error_lines, files_in

from slyther_cli import separate
from slyther_cli.audio.discover import expand_inputs
from slyther_cli.errors import UsageError
from slyther_cli.jobs.placing import folders_of
from slyther_cli.transcription.job import transcribe

pytestmark = pytest.mark.usefixtures("place")
TREE = ("tree/monday/001.wav", "tree/tuesday/001.wav", "tree/tuesday/late/002.wav", "tree/000.wav")


def grow(names=TREE, text="all deal"):
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        record(name, text=text)


def test_a_tree_is_mirrored(capfd):
    grow()
    code, out, err = transcribed(capfd, "tree", "-o", "out", "-f", "txt,srt")
    wanted = ["000", "monday/001", "tuesday/001", "tuesday/late/002"]
    assert code == 0 and not error_lines(err)
    assert files_in("out") == sorted(f"{name}.{form}" for name in wanted for form in ("srt", "txt"))
    assert sorted(out.split()) == sorted(f"out/{name}" for name in files_in("out"))
    code, out, err = transcribed(capfd, "tree", "-o", "out", "-f", "txt,srt", "--skip-existing")
    assert code == 0 and err.count("skipped, its results are there") == 4


def test_flat_is_told_before_any_work_where_names_collide(capfd):
    grow()
    code, _, err = transcribed(capfd, "tree", "-o", "out", "--flat")
    assert code == 2 and "same file out/001.txt" in err and not Path("out").exists()
    Path("tree/tuesday/001.wav").unlink()
    code, _, _ = transcribed(capfd, "tree", "-o", "out", "--flat")
    assert code == 0 and files_in("out") == ["000.txt", "001.txt", "002.txt"]


def test_filename(capfd):
    grow()
    code, _, _ = transcribed(
        capfd, "tree", "-o", "out", "-f", "srt", "--filename", "{parent}-{track}.{trackext}.{ext}"
    )
    assert code == 0 and files_in("out") == [
        "late-002.wav.srt", "monday-001.wav.srt", "tree-000.wav.srt", "tuesday-001.wav.srt",
    ]  # fmt: skip
    for more, words in (
        (("-o", "o", "--filename", "{track}.txt", "-f", "txt,srt"), "use {ext}"),
        (("-o", "o", "--filename", "../{track}.{ext}"), "outside the output folder"),
        (("-o", "o", "--filename", "{stem}.{ext}"), "{stem}"),
        (("-o", "o", "--filename", "{track}.{ext}", "--flat"), "contradict"),
        (("--filename", "{track}.{ext}"), "name their folder with -o"),
    ):
        code, _, err = transcribed(capfd, "tree/000.wav", *more)
        assert code == 2 and words in err and not Path("o").exists()


def test_beside_the_recordings_nothing_is_mirrored(capfd):
    grow()
    assert transcribed(capfd, "tree", "-f", "txt")[0] == 0
    assert files_in("tree") == sorted([*(n[5:] for n in TREE), *(n[5:-3] + "txt" for n in TREE)])


def test_stems_are_mirrored(monkeypatch):
    monkeypatch.delenv("SLYTHER_CACHE")
    grow(TREE[:2])
    results = separate("tree", "out", dry_run=True)
    stems = sorted(str(path) for r in results for path in r.outputs.values())
    assert stems == [f"out/{day}/001_s{i}.wav" for day in ("monday", "tuesday") for i in (1, 2)]
    with pytest.raises(UsageError, match="same file"):
        separate("tree", "out", filename="{track}_{stem}.{ext}", dry_run=True)


@pytest.mark.parametrize(
    ("named", "places"),
    [
        (["tree"], {"tree/000.wav": ".", "tree/monday/001.wav": "monday", "tree/tuesday/001.wav": "tuesday"}),
        (
            ["tree/monday/", "./tree/tuesday"],
            {"tree/monday/001.wav": "monday", "tree/tuesday/001.wav": "tuesday"},
        ),
        (["tree/monday/001.wav", "tree/tuesday"], {"tree/tuesday/001.wav": "."}),
        (["tree/*/001.wav"], {"tree/monday/001.wav": "monday", "tree/tuesday/001.wav": "tuesday"}),
        (["**/001.wav"], {"tree/monday/001.wav": "tree/monday", "tree/tuesday/001.wav": "tree/tuesday"}),
        (["tree/mon*"], {"tree/monday/001.wav": "monday"}),
        (["tree/monday/001.wav", "-"], {}),
    ],
)
def test_which_folder(named, places):
    grow((*TREE[:2], TREE[3]))
    found = folders_of(named, expand_inputs(named))
    assert {os.path.relpath(source): str(to) for source, to in found.items()} == places


def test_what_failed_is_done_again_in_its_place(capfd):
    grow(TREE[:2])
    Path("tree/monday/001.wav").rename("good")
    Path("tree/monday/001.wav").write_text("no sound")
    assert transcribed(capfd, "tree", "-o", "out")[0] == 3
    assert files_in("out") == ["slyther-failures.tsv", "tuesday/001.txt"] and not Path("out/monday").exists()
    Path("good").rename("tree/monday/001.wav")
    code, _, _ = transcribed(capfd, "--manifest", "out/slyther-failures.tsv", "-o", "out")
    assert code == 0 and files_in("out") == ["monday/001.txt", "slyther-failures.tsv", "tuesday/001.txt"]
    code, _, _ = transcribed(capfd, "tree", "-o", "out", "--skip-existing")
    assert code == 0 and files_in("out") == ["monday/001.txt", "tuesday/001.txt"]


def test_a_list_says_where_results_go(capfd):
    grow(TREE[:2])
    Path("list.tsv").write_text("path\tfolder\ntree/monday/001.wav\ta/b\ntree/tuesday/001.wav\t\n")
    assert transcribed(capfd, "--manifest", "list.tsv", "-o", "out")[0] == 0
    assert files_in("out") == ["001.txt", "a/b/001.txt"]
    Path("list.tsv").write_text("path\tfolder\ntree/monday/001.wav\t../x\n")
    code, _, err = transcribed(capfd, "--manifest", "list.tsv", "-o", "out2")
    assert code == 4 and "outside the output folder" in err and not Path("x").exists()


def test_resumed_work_is_of_the_mirrored_place(capfd):
    grow(TREE[:2])
    for _ in range(2):
        code, _, err = transcribed(capfd, "tree", "-o", "out", "--resume", "--work-dir", "work")
        assert code == 0 and files_in("out") == ["monday/001.txt", "tuesday/001.txt"] and not files_in("work")
    assert err.count("skipped, its results are there") == 2


def test_several_processes_make_the_same_places():
    grow(TREE[:2])
    results = transcribe("tree", "out", jobs=2, threads=1)
    assert [r.status for r in results] == ["done", "done"]
    assert files_in("out") == ["monday/001.txt", "tuesday/001.txt"]
