"""Hostile files, names and times: checkpoints that would run code or fill the memory, names that would leave
their folder or speak to the terminal, links in the way, inputs that vanish while they are read."""

import gzip
import io
import os
import pickle
import pty
import resource
import shutil
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
import soundfile as sf
import torch
from damage_base import TINY
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slyther_cli import files
from slyther_cli.audio.contents import Contents
from slyther_cli.audio.discover import render_template, shown
from slyther_cli.audio.growing import GrowingStems
from slyther_cli.audio.reader import AudioReader
from slyther_cli.audio.writer import StemGroup
from slyther_cli.checkpoints import download, encodec, speechbrain, store
from slyther_cli.decode.arpa import read_arpa
from slyther_cli.decode.transcript import TranscriptWriter
from slyther_cli.errors import InputError, ModelError, OutputError, SlytherError, UsageError, printable
from slyther_cli.jobs.resume import VOICES_FACTS
from slyther_cli.longform.journal import Journal
from slyther_cli.models import registry
from slyther_cli.separation.job import separate
from slyther_cli.synthesis import journal
from slyther_cli.transcription.multi_speaker import KeptVoices

RATE = 8000
NOISE = np.random.default_rng(0).normal(0, 0.1, RATE * 4).astype(np.float32)
ROOM = 200 << 20  # bytes that refusing may take


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    network = registry.build("mamba-tasnet", TINY)
    return store.save(folder, network, name="tiny", architecture="mamba-tasnet", config=TINY, task="separate")


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Checkpoints that are weapons


class Call:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


def checkpoint(path, pickled, **entries):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3\n")
        for name, data in entries.items():
            archive.writestr(name, data)


def refused(path):
    """What is said, while nothing is run and hardly any memory taken."""
    before = peak()
    with pytest.raises(ModelError) as error:
        speechbrain.read_checkpoint(path)
    assert peak() - before < ROOM
    return str(error.value)


@pytest.mark.parametrize(
    "function", [os.system, exec, eval, subprocess.Popen, pickle.loads, open, torch.load]
)
def test_code_in_a_checkpoint_is_not_run(tmp_path, function):
    mark = tmp_path / "ran"
    for state in (
        {"a": Call(function, f"touch {mark}")},
        Call(function, f"touch {mark}"),
        {"a": [Call(function, 1)]},
    ):
        for protocol in (2, 4, 5):
            checkpoint(tmp_path / "x.ckpt", pickle.dumps(state, protocol))
            assert "code or objects" in refused(tmp_path / "x.ckpt")
            (tmp_path / "x.ckpt").write_bytes(pickle.dumps(state, protocol))
            assert "not a torch checkpoint" in refused(tmp_path / "x.ckpt")
            assert not mark.exists()


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (b"\x80\x02" + b"]" * (24 << 20) + b".", "layout"),  # a list a byte
        (b"\x80\x02" + b"]" * (3 << 20) + b".", "layout"),
        (b"\x80\x02" + b"}" * (3 << 20) + b".", "layout"),
        (b"\x80\x02" + b"(" * (3 << 20) + b".", "layout"),
        (b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.", "damaged"),
        (b"\x80\x02" + b"](" * 40_000 + b"a" * 100 + b".", "damaged"),
    ],
)  # fmt: skip
def test_pickles_that_grow(tmp_path, pickled, says):
    checkpoint(tmp_path / "x.ckpt", pickled)
    assert says in refused(tmp_path / "x.ckpt")


def test_archives_that_grow(tmp_path):
    path = tmp_path / "x.ckpt"
    with (  # 200 MB in 0.2
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x/data.pkl", "w") as file,
    ):
        for _ in range(200):
            file.write(bytes(1 << 20))
    assert "packed" in refused(path)
    checkpoint(path, pickle.dumps({}))
    data = path.read_bytes()  # one entry, listed a thousand times: files that overlap
    start = data.index(b"PK\1\2")
    entry, end = data[start : data.index(b"PK\5\6")], bytearray(data[data.index(b"PK\5\6") :])
    end[8:12] = (2000).to_bytes(2, "little") * 2
    end[12:16] = (len(entry) * 1000).to_bytes(4, "little")
    path.write_bytes(data[:start] + entry * 1000 + end)
    assert "refused" in refused(path)
    with zipfile.ZipFile(path, "w") as archive:  # a directory of a million names
        archive.writestr("x/data.pkl", b"")
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), bytearray(data[data.index(b"PK\5\6") :])
    entry = data[start : start + 46 + len("x/data.pkl")]
    end[12:16] = (len(entry) * 1_000_000).to_bytes(4, "little")
    path.write_bytes(data[:start] + entry * 1_000_000 + end)
    assert "more than 100000 entries" in refused(path)


def test_tensors_larger_than_their_file(tmp_path):
    huge = torch.zeros(1).expand(1 << 33)
    torch.save({"a": huge}, tmp_path / "x.ckpt")
    assert "larger than the file" in refused(tmp_path / "x.ckpt")
    header = b'{"a":{"dtype":"F32","shape":[4294967296],"data_offsets":[0,17179869184]}}'
    path = tmp_path / "x.safetensors"
    with open(path, "wb") as file:  # nothing on the disk
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + (17 << 30))
    before = peak()
    with pytest.raises(ModelError):
        encodec.import_file(path, tmp_path / "out")
    assert peak() - before < ROOM


def test_headers_that_grow(tmp_path, model):
    for path in model.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    header = b'{"a":' + b"[" * (20 << 20)
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    before = peak()
    with pytest.raises(ModelError, match="header is larger"):
        store.load(tmp_path)
    assert peak() - before < ROOM


def test_a_language_model_that_grows(tmp_path):
    """A file of 0.1 MB that would be 27 MB of text, and more in memory."""
    path = tmp_path / "lm.arpa.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"\\data\\\nngram 1=2\nngram 2=99999999\n\n\\1-grams:\n-1 a 0\n-1 b 0\n\n\\2-grams:\n")
        for _ in range(30):
            file.write(b"-1 a b 0\n" * 100_000)
    before = peak()
    with pytest.raises(ModelError, match="-fold"):
        read_arpa(path)
    assert peak() - before < ROOM


def test_a_checkpoint_cannot_write_elsewhere(tmp_path):
    """Names of entries are never used as paths."""
    state = io.BytesIO()
    torch.save({"conv1d.weight": torch.zeros(8, 1, 4)}, state)
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as new, zipfile.ZipFile(state) as old:
        for name in old.namelist():
            new.writestr(name.replace("archive/", "../../../evil/"), old.read(name))
    with pytest.raises(ModelError):
        speechbrain.read_checkpoint(tmp_path / "x.ckpt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.ckpt"]


# Names


names = st.text(st.sampled_from("a.b/\\ ~:{}\0\n\x1b-\u202e\udcff$|*?"), max_size=12)


@settings(max_examples=300)
@given(template=names, track=names, parent=names)
@example("{parent}/{track}", "x", "..")
@example("{track}", "..", "")
@example("{track}", "C:x", "")
@example("a/../{track}", "x", "")
@example("{track}", "/etc/passwd", "")
def test_no_template_leaves_its_folder(template, track, parent):
    try:
        path = render_template(template, track=track, parent=parent)
    except UsageError as error:
        assert str(error).isprintable()
        return
    inside = os.path.normpath(os.path.join("/out", path))
    assert inside.startswith("/out/") and "\0" not in inside


@settings(max_examples=30)
@given(st.text())
@example("\x1b]0;owned\x07")
@example("\u202egnp.exe")
@example("a\nb\x85c\u2028d")
def test_errors_are_one_printable_line(text):
    for said in (printable(text), shown(text), str(SlytherError(text))):
        assert said.isprintable()
    assert len(str(SlytherError(text * 1000))) < 1000


def test_nothing_of_a_name_reaches_the_terminal_raw(tmp_path, model):
    """On a real terminal, where names, tags and a model's own words could move the cursor or do worse."""
    evil = "\x1b]0;owned\x07\x1b[2J\u202e\x9b31m"
    folder = tmp_path / "evil"
    folder.mkdir()
    with sf.SoundFile(folder / f"{evil}.flac", "w", RATE, 2, format="FLAC") as file:
        file.title = file.comment = evil
        file.write(np.stack([NOISE[:RATE], NOISE[:RATE]], 1))
    (folder / f"bad{evil}.wav").write_bytes(b"RIFF")
    network = store.load(model)[0]
    store.save(folder / "m", network, name="m", architecture="mamba-tasnet", config=TINY, task="separate",
               card=f"# {evil}\n\n{evil}\n", source=evil, metrics={evil: evil})  # fmt: skip
    main, other = pty.openpty()
    code = (
        "import sys; from slyther_cli.app import main\n"
        f"main(['separate', {str(folder)!r}, '-m', 'm', '-v', '-o', 'out{evil}', '--threads', '1'])\n"
        f"main(['weights', 'show', {str(folder / 'm')!r}]); main(['weights', 'list'])\n"
        f"main(['separate', 'none{evil}'])\n"
    ).encode()
    (tmp_path / "run.py").write_bytes(code)
    env = {**os.environ, "NO_COLOR": "1", "TERM": "xterm", "SLYTHER_CACHE": str(folder), "COLUMNS": "200"}
    run = subprocess.Popen(
        [sys.executable, "run.py"], stdin=other, stdout=other, stderr=other, cwd=tmp_path, env=env
    )
    os.close(other)
    said = b""
    while True:
        try:
            data = os.read(main, 1 << 16)
        except OSError:  # Linux: nobody writes any more
            break
        if not data:
            break
        said += data
    assert run.wait(60) == 0
    os.close(main)
    text = said.decode()
    assert text.count("owned") >= 6, text  # each was told, and can be read
    for bad in ("\x1b]", "\x07", "\x1b[2J", "\u202e", "\x9b"):
        assert bad not in text, text


# Links


def test_links_in_the_way_of_results(tmp_path, model):
    """A link where a result goes is refused, or with --force replaced; what it leads to is never touched."""
    precious, other = tmp_path / "precious", tmp_path / "other"
    precious.write_text("precious")
    other.write_text("precious")
    sf.write(tmp_path / "mix.wav", NOISE, RATE)
    out = tmp_path / "out"
    out.mkdir()
    for name, target in (("mix_s1.wav", precious), ("mix_s2.wav", other)):
        (out / name).symlink_to(target)
    (result,) = separate(tmp_path / "mix.wav", out, model)
    assert isinstance(result.error, OutputError) and precious.read_text() == "precious"
    (result,) = separate(tmp_path / "mix.wav", out, model, existing="replace")
    assert result.error is None and precious.read_text() == other.read_text() == "precious"
    assert not any(path.is_symlink() for path in out.iterdir())
    for kind in (StemGroup, GrowingStems):
        (tmp_path / "link.wav").symlink_to(precious)
        with kind([tmp_path / "link.wav"], RATE, clip="clamp") as group:
            group.write(NOISE[None])
            group.commit()
        assert precious.read_text() == "precious" and sf.info(tmp_path / "link.wav").frames == len(NOISE)
        (tmp_path / "link.wav").unlink()
    (tmp_path / "t.srt").symlink_to(precious)
    with TranscriptWriter({"srt": tmp_path / "t.srt"}) as writer:
        writer.commit()
    assert precious.read_text() == "precious" and not (tmp_path / "t.srt").is_symlink()


def test_links_in_the_way_of_work(tmp_path):
    """Work folders lie in places that others may write: what they put there is not followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "job").symlink_to(elsewhere)
    facts = {"recording": {}, "model": {}, "options": {}, "engine": {}}
    with pytest.raises(OutputError, match="not ours"):
        Journal(tmp_path, "job", facts)
    (tmp_path / "precious").write_text("precious")
    for name in ("lock", "tape"):
        folder = tmp_path / f"work-{name}" / "job"
        folder.mkdir(parents=True)
        (folder / name).symlink_to(tmp_path / "precious")
        with pytest.raises(OutputError), Journal(folder.parent, "job", facts) as job:
            job.open_tape(8)
    assert (tmp_path / "precious").read_text() == "precious" and list(elsewhere.iterdir()) == []
    if os.geteuid() == 0:
        (tmp_path / "theirs" / "job").mkdir(parents=True)
        os.chown(tmp_path / "theirs" / "job", 65534, 65534)
        with pytest.raises(OutputError, match="not ours"):
            Journal(tmp_path / "theirs", "job", facts)


# Inputs that change while they are read


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
@pytest.mark.parametrize("act", ["removed", "cut", "emptied", "grown", "other"])
def test_inputs_that_change_while_they_are_read(tmp_path, form, act):
    """The rest of the sound, or one line; no crash, no sound of another file sold as this one's."""
    path = tmp_path / f"x.{form.lower()}"
    sf.write(path, np.tile(NOISE, 8), RATE if form != "MP3" else 16000, format=form)
    whole = path.read_bytes()
    sf.write(tmp_path / "longer", np.tile(NOISE, 12), RATE if form != "MP3" else 16000, format=form)

    def change():
        if act == "removed":
            path.unlink()
        elif act == "cut":
            os.truncate(path, len(whole) // 2)
        elif act == "emptied":
            os.truncate(path, 0)
        elif act == "grown":
            with open(path, "ab") as file:
                file.write(whole[len(whole) // 2 :])
        else:
            os.replace(tmp_path / "longer", path)

    with AudioReader(path) as reader:
        first = np.concatenate(list(reader.blocks(4096)))
        blocks = reader.blocks(4096)
        got = [next(blocks)]
        change()
        try:
            got += list(blocks)
            assert len(np.concatenate(got)) == len(first)
        except InputError as error:
            assert "x." in str(error)
        if act in ("removed", "emptied", "other"):
            with pytest.raises(InputError, match=r"x\."):
                list(reader.blocks(4096))


def test_a_file_cut_while_its_end_is_looked_for(tmp_path):
    """A memory map of it would kill the process (SIGBUS)."""
    path = tmp_path / "x.mp3"
    path.write_bytes(os.urandom(3 << 20).replace(b"OggS", b"....") + b"OggS" + bytes(100))
    with open(path, "rb") as file:
        contents = Contents(file.fileno())
        assert contents.find(b"OggS", 7) == 3 << 20
        os.truncate(path, 5000)
        assert contents.find(b"OggS", 0) == -1
        assert contents[4096:9000] == path.read_bytes()[4096:] and contents[1 << 20 : 2 << 20] == b""


@settings(max_examples=60)
@given(st.binary(max_size=600), st.binary(min_size=1, max_size=3), st.data())
def test_contents_are_the_files(tmp_path_factory, data, what, draw):
    path = tmp_path_factory.mktemp("c") / "x"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch, open(path, "rb") as file:
        patch.setattr("slyther_cli.audio.contents.BLOCK", draw.draw(st.integers(4, 50)))
        contents = Contents(file.fileno())
        for _ in range(5):
            a, b = sorted(draw.draw(st.tuples(st.integers(0, 700), st.integers(0, 700))))
            assert contents[a:b] == data[a:b]
            assert contents.find(what, a) == data.find(what, a)
        assert len(contents) == len(data)


def test_tags_of_any_size(tmp_path):
    for form, rate in (("MP3", 16000), ("OGG", 8000)):
        sf.write(tmp_path / f"x.{form.lower()}", NOISE, rate, format=form)
    sound = (tmp_path / "x.mp3").read_bytes()
    size = 250 << 20
    with open(tmp_path / "x.mp3", "wb") as file:  # 250 MB of nothing, sparse
        file.write(b"ID3\4\0\0" + bytes(size >> s & 127 for s in (21, 14, 7, 0)))
        file.seek(10 + size)
        file.write(sound)
    before = peak()
    with AudioReader(tmp_path / "x.mp3") as reader:
        assert abs(sum(map(len, reader.blocks(4096))) - len(NOISE)) < 3000
    with sf.SoundFile(tmp_path / "x.ogg", "w", RATE, 1, format="OGG") as file:
        file.comment = "x" * (17 << 20)
        file.write(NOISE)
    with pytest.raises(InputError, match="tags"):
        AudioReader(tmp_path / "x.ogg")
    assert peak() - before < ROOM


def test_sound_whatever_its_name(tmp_path):
    """libsndfile's wrapper takes .raw for sound without a header."""
    for name in ("x.raw", "x.RAW", "x.txt", "x", "x.mp3", "x.flac"):
        sf.write(tmp_path / name, NOISE, RATE, format="WAV")
        with AudioReader(tmp_path / name) as reader:
            assert sum(map(len, reader.blocks(4096))) == len(NOISE)


# Clocks and caches


def test_a_clock_that_is_set_does_not_take_a_download_away(tmp_path):
    """A pull at work keeps its folder though the clock says that it is years old; a dead one's goes."""
    for name in ("alive", "dead"):
        (tmp_path / f".pull-{name}").mkdir()
        os.utime(tmp_path / f".pull-{name}", (0, 0))
    held = files.hold(tmp_path / ".pull-alive")
    download._remove_stale(tmp_path)
    assert os.listdir(tmp_path) == [".pull-alive"]
    os.close(held)
    download._remove_stale(tmp_path)
    assert os.listdir(tmp_path) == []


def test_clock_jumps_do_not_reach_a_job(tmp_path, model, monkeypatch):
    sf.write(tmp_path / "mix.wav", NOISE, RATE)
    jumps = iter(range(10**9))
    monkeypatch.setattr(time, "time", lambda: 1e9 * ((-1) ** next(jumps)))
    told = []
    (result,) = separate(tmp_path / "mix.wav", tmp_path / "out", model, resume=True, work_dir=tmp_path / "w",
                         on_event=told.append)  # fmt: skip
    assert result.error is None and 0 < result.wall_seconds < 100
    assert all(0 <= e["wall_seconds"] < 100 for e in told if "wall_seconds" in e)


def test_a_cache_that_cannot_be_written_stops_only_what_needs_it(tmp_path, model, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", "/proc/no-such-cache")
    sf.write(tmp_path / "mix.wav", NOISE, RATE)
    assert separate(tmp_path / "mix.wav", tmp_path / "a", model)[0].error is None
    (result,) = separate(tmp_path / "mix.wav", tmp_path / "b", model, resume=True)
    assert isinstance(result.error, OutputError) and not (tmp_path / "b").exists()
    assert (
        separate(tmp_path / "mix.wav", tmp_path / "c", model, resume=True, work_dir=tmp_path / "w")[0].error
        is None
    )


def test_outputs_of_two_processes_do_not_mix(tmp_path, model):
    """Two runs with --force on the same results at once: each file is whole and of one of them."""
    sf.write(tmp_path / "mix.wav", NOISE, RATE)
    errors = []

    def run():
        errors.append(separate(tmp_path / "mix.wav", tmp_path / "out", model, existing="replace")[0].error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert None in errors and all("another slyther" in str(error) for error in errors if error is not None)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["mix_s1.wav", "mix_s2.wav"]
    assert all(sf.info(path).frames == len(NOISE) for path in (tmp_path / "out").iterdir())


def test_the_list_of_failures_is_not_written_through_a_link(tmp_path):
    from slyther_cli.jobs.locks import FAILURES, Failures

    (tmp_path / "precious").write_text("precious")
    (tmp_path / FAILURES).symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError):
        Failures(tmp_path).add("x.wav", InputError("bad"))
    assert (tmp_path / "precious").read_text() == "precious"


# Work folders that others prepared


def voices_work(place, name="x"):
    return KeptVoices(str(place / "talk.wav"), [place / "out" / "talk.txt"], place / "work", {"a": name})


def speech_work(place, monkeypatch):
    monkeypatch.setenv("SLYTHER_CACHE", str(place / "cache"))
    return journal.Journal("0123456789abcdef", (3, 16))


@pytest.mark.parametrize("kind", ["voices", "speech", "journal"])
def test_no_work_folder_is_shared_or_followed(tmp_path, monkeypatch, kind):
    """Of every kind of kept work: a link, a file, a link or a pipe in it, another user's folder."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "mine").write_text("precious")

    def begin():
        if kind == "voices":
            return voices_work(tmp_path)
        if kind == "speech":
            return speech_work(tmp_path, monkeypatch)
        return Journal(tmp_path, "job", {"recording": {}, "model": {}, "options": {}, "engine": {}})

    work = begin()
    folder = work.folder
    assert folder.stat().st_mode & 0o777 == 0o700
    work.close()
    folder.chmod(0o777)
    begin().close()
    assert folder.stat().st_mode & 0o777 == 0o700  # ours: closed to the others again
    for name in (path.name for path in list(folder.iterdir())):
        for act in (lambda p: p.symlink_to(precious / "mine"), os.mkfifo):
            kept = (folder / name).read_bytes()
            (folder / name).unlink()
            act(folder / name)
            if (folder / name).is_symlink() or name != "lock":
                with pytest.raises(OutputError, match=r"not ours|symbolic links"):
                    begin()
            (folder / name).unlink()
            (folder / name).write_bytes(kept)
    shutil.rmtree(folder)
    folder.symlink_to(precious)
    with pytest.raises(OutputError, match="not ours"):
        begin()
    folder.unlink()
    folder.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="not ours"):
        begin()
    folder.unlink()
    folder.write_text("a file")
    with pytest.raises(OutputError):
        begin()
    folder.unlink()
    if os.geteuid() == 0:
        folder.mkdir(mode=0o777)
        os.chown(folder, 65534, 65534)
        with pytest.raises(OutputError, match="not ours"):
            begin()
        folder.rmdir()
    assert [path.name for path in precious.iterdir()] == ["mine"]
    assert (precious / "mine").read_text() == "precious" and not (tmp_path / "nowhere").exists()


def test_voices_are_one_process_at_a_time(tmp_path):
    work = voices_work(tmp_path)
    with pytest.raises(UsageError, match="another slyther works on this job"):
        voices_work(tmp_path)
    work.remove()
    assert list((tmp_path / "work").iterdir()) == []
    again = voices_work(tmp_path)
    assert not again.resumed and again.notes == []
    again.close()


def test_what_is_kept_of_voices_counts_only_while_it_is_whole(tmp_path):
    names = ("talk_s1.wav", "talk_s2.wav", "s1.jsonl", "s2.jsonl")

    def made(damage=None):
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        work = voices_work(tmp_path)
        for name in names:
            (work.folder / name).write_bytes(name.encode() * 1000)
            work.seal(work.folder / name)
        work.close()
        if damage:
            damage(work.folder)
        work = voices_work(tmp_path)
        left = sorted(p.name for p in work.folder.iterdir() if p.name in names)
        work.close()
        return work.resumed, left, work.notes

    def flip(name):
        def act(folder):
            data = bytearray((folder / name).read_bytes())
            data[len(data) // 2] ^= 4
            (folder / name).write_bytes(data)

        return act

    went_on, anew = files.WENT_ON, "a part of the kept work was damaged: it was done anew"
    assert made() == (True, sorted(names), [went_on])
    assert made(flip("s1.jsonl")) == (True, ["s2.jsonl", "talk_s1.wav", "talk_s2.wav"], [went_on, anew])
    assert made(flip("talk_s2.wav")) == (True, ["s1.jsonl", "s2.jsonl"], [went_on, anew])
    left = made(flip("sums.json"))[1]  # whatever is lost, stems go together
    assert sorted(names) != left and len({"talk_s1.wav", "talk_s2.wav"} & set(left)) in (0, 2)
    resumed, left, notes = made(lambda folder: (folder / VOICES_FACTS).write_text("{"))
    assert not resumed and left == [] and "damaged" in notes[0]
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="another recording, model or options"):
        voices_work(tmp_path, "y")


def test_whole_files_are_there_or_not(tmp_path):
    path = tmp_path / "a.txt"
    with files.whole(path, "w", encoding="utf-8") as file:
        file.write("one")
        assert not path.exists()
    with pytest.raises(ZeroDivisionError), files.whole(path, "w") as file:
        file.write("two")
        _ = 1 / 0
    assert path.read_text() == "one" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    (tmp_path / "b").write_text("new")
    (tmp_path / "folder" / "x").mkdir(parents=True)
    pairs = [(tmp_path / "b", tmp_path / "c"), (tmp_path / "none", tmp_path / "d")]
    with pytest.raises(FileNotFoundError):
        files.put_in_place(pairs)
    assert not (tmp_path / "c").exists()
    assert files.make_folders(tmp_path / "p" / "q") == [tmp_path / "p", tmp_path / "p" / "q"]
    assert files.make_folders(tmp_path / "p" / "q") == []
