"""Writing: exact samples, levels, and files that appear whole or not at all."""

import os
import stat
import struct
import subprocess
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slyther_cli.audio import sinks, wav, writer
from slyther_cli.audio.writer import Encoding, StemGroup, StemWriter
from slyther_cli.errors import OutputError, UsageError

RNG = np.random.default_rng(0)
QUIET = (0.1 * RNG.standard_normal((2, 5000))).astype(np.float32)
KINDS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24")]
STEP = {"PCM_16": 2.0**-15, "PCM_24": 2.0**-23, "FLOAT": 0.0}
CLIPS = ["rescale", "clamp", "none"]
nobody = pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")


def write(folder, stems, sizes=(1000,), format="wav", subtype="PCM_16", **how):
    """Write stems in blocks of these sizes; give what is read back, and the notes."""
    paths = [folder / f"s{i}.{format}" for i in range(len(stems))]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with StemGroup(paths, 8000, encoding=Encoding(format, subtype), **how) as group:
        at = turn = 0
        while at < stems.shape[1]:
            size = sizes[turn % len(sizes)]
            group.write(stems[:, at : at + size])
            at, turn = at + size, turn + 1
        now = {path: path.read_bytes() for path in folder.iterdir() if path.suffix != ".part"}
        assert now == before  # nothing is to be seen before the commit
        group.commit()
    assert sorted(folder.iterdir()) == sorted(paths)  # nothing else is left
    assert group.frames_written == stems.shape[1]
    return np.stack([sf.read(path, dtype="float32")[0] for path in paths]), group.notes


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*"))


# ---- samples ----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_quiet_stems_come_back(tmp_path, format, subtype, clip):
    got, notes = write(
        tmp_path, QUIET, (1, 999, 4000), format=format, subtype=subtype, clip=clip, frames=5000
    )
    np.testing.assert_allclose(got, QUIET, atol=STEP[subtype] / 2)
    assert notes == []
    info = sf.info(tmp_path / f"s0.{format}")
    assert (info.samplerate, info.channels, info.frames, info.subtype) == (8000, 1, 5000, subtype)
    assert info.format == format.upper()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS[:2] + KINDS[3:]),
    n=st.integers(1, 3000),
    size=st.integers(1, 5000),
    clip=st.sampled_from(CLIPS),
    seed=st.integers(0, 9),
)
def test_integers_go_through_unchanged(kind, n, size, clip, seed):
    """What a file of this depth gave to the reader is written back bit by bit."""
    bits = int(kind[1][-2:])
    whole = np.random.default_rng(seed).integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (2, n))
    stems = (whole / 2.0 ** (bits - 1)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        got, notes = write(
            Path(folder), stems, (max(size, n // 50),), format=kind[0], subtype=kind[1], clip=clip
        )
    np.testing.assert_array_equal(got, stems)
    assert notes == []


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_rescale_keeps_the_levels_between_stems(tmp_path, subtype):
    loud = QUIET.copy()
    loud[0, 4321] = -1.3125
    got, notes = write(tmp_path, loud, subtype=subtype)
    top = 1 - STEP[subtype]
    assert got.min() == pytest.approx(-top, abs=1e-6)
    np.testing.assert_allclose(got, loud * (top / 1.3125), atol=STEP[subtype] / 2 + 1e-7)
    assert notes == ["peak 1.312: all stems scaled by 0.76"]


def test_clamp_and_saturation(tmp_path):
    x = np.array([[0.5, 1.0, 1.5, -1.0, -1.5, -99.0, 1e30]], np.float32)
    top16 = 1 - 2.0**-15
    expected = [0.5, top16, top16, -1, -1, -1, top16]
    for clip, word in (("clamp", "clamped"), ("none", "saturated")):
        got, notes = write(tmp_path, x, clip=clip)
        assert got[0].tolist() == expected
        assert notes == [f"4 samples {word} (peak 1e+30)"]
    got, notes = write(tmp_path, x, clip="clamp", subtype="FLOAT")
    assert got[0].tolist() == [0.5, 1 - 2.0**-24, 1 - 2.0**-24, -1, -1, -1, 1 - 2.0**-24]
    got, notes = write(tmp_path, x, clip="none", subtype="FLOAT")
    np.testing.assert_array_equal(got, x)
    assert notes == []


@pytest.mark.parametrize("clip", CLIPS)
def test_flac_saturates_and_does_not_wrap(tmp_path, clip):
    x = np.array([[2.0, -2.0, 0.25]], np.float32)
    got, _ = write(tmp_path, x, format="flac", clip=clip)
    top = 1 - 2.0**-15
    assert got[0].tolist() == ([top, -top, 0.125] if clip == "rescale" else [top, -1, 0.25])


@pytest.mark.parametrize(("format", "subtype"), KINDS)
def test_samples_that_are_not_numbers(tmp_path, format, subtype):
    x = QUIET.copy()
    x[0, 5], x[1, 7], x[1, 8] = np.nan, np.inf, -np.inf
    got, notes = write(tmp_path, x, format=format, subtype=subtype)
    assert notes == ["3 samples of the result not finite: written as silence"]
    assert got[0, 5] == got[1, 7] == got[1, 8] == 0
    assert np.isnan(x[0, 5])  # the caller's array is left alone


def test_writer_of_one(tmp_path):
    with StemWriter(tmp_path / "x.flac", 16000, encoding=Encoding("flac"), clip="clamp") as one:
        one.write(QUIET[0])
        with pytest.raises(ValueError, match="shape"):
            one.write(QUIET)
        one.commit()
    assert sf.info(tmp_path / "x.flac").frames == 5000


def test_metadata(tmp_path):
    tags = {"title": "Gespräch", "comment": "by slyther", "software": "slyther"}
    for name, format in (("x.wav", "wav"), ("x.flac", "flac")):
        with StemWriter(tmp_path / name, 16000, encoding=Encoding(format), metadata=tags) as one:
            one.write(QUIET[0, :777])
            one.commit()
        with sf.SoundFile(tmp_path / name) as file:
            assert file.frames == 777
            found = file.copy_metadata()
        assert found["title"] == "Gespräch" and found["comment"] == "by slyther"
        assert found["software"].startswith("slyther")
    raw = (tmp_path / "x.wav").read_bytes()
    assert struct.unpack("<I", raw[4:8])[0] == len(raw) - 8


# ---- the header and RF64 ----------------------------------------------------------------------


def test_a_short_wav_has_the_plain_header(tmp_path):
    write(tmp_path, QUIET, frames=5000)
    raw = (tmp_path / "s0.wav").read_bytes()
    assert raw[:4] == b"RIFF" and raw[36:40] == b"data" and len(raw) == 44 + 10_000


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("frames", [None, 5000])
def test_long_files_become_rf64(tmp_path, monkeypatch, subtype, frames):
    """With the limit of 4 GB brought down to 4 kB."""
    monkeypatch.setattr(wav, "LIMIT", 4000)
    got, _ = write(tmp_path, QUIET, subtype=subtype, frames=frames)
    np.testing.assert_allclose(got, QUIET, atol=STEP[subtype] / 2)
    raw = (tmp_path / "s0.wav").read_bytes()
    assert sf.info(tmp_path / "s0.wav").format == "RF64"
    riff, data, count = struct.unpack("<QQQ", raw[20:44])
    assert (riff, data, count) == (len(raw) - 8, 5000 * wav.SAMPLE_BYTES[subtype], 5000)


def test_a_short_file_with_room_stays_riff(tmp_path):
    got, _ = write(tmp_path, QUIET[:, :777], subtype="PCM_24", frames=None)
    raw = (tmp_path / "s0.wav").read_bytes()
    assert raw[:4] == b"RIFF" and raw[12:16] == b"JUNK" and got.shape == (2, 777)
    assert struct.unpack("<I", raw[4:8])[0] == len(raw) - 8 and len(raw) % 2 == 0


def test_more_than_announced_past_the_limit_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(wav, "LIMIT", 4000)
    with pytest.raises(OutputError, match="more samples than were announced"):
        write(tmp_path, QUIET, frames=10)
    assert tree(tmp_path) == []


def test_a_real_rf64_header_is_understood_by_libsndfile(tmp_path):
    fmt = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    size = 3 * 2**31
    header = wav.make_header(fmt, size)
    with open(tmp_path / "x.wav", "wb") as file:
        file.write(header)
        file.truncate(len(header) + size)  # sparse
    assert sf.info(tmp_path / "x.wav").frames == size // 2
    assert len(wav.make_header(fmt, 100, room=True)) == len(header)


# ---- whole or not at all ----------------------------------------------------------------------


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("format", ["wav", "flac"])
@pytest.mark.parametrize("how", ["abort", "leave", "raise"])
def test_nothing_is_left_without_commit(tmp_path, clip, format, how, monkeypatch):
    monkeypatch.setattr(sinks, "HELD", 0)
    (tmp_path / "s0.wav").write_bytes(b"earlier")
    before = tree(tmp_path)
    paths = [tmp_path / "s0.wav", tmp_path / "new" / "deep" / "s1.wav"]
    expected = pytest.raises(ZeroDivisionError) if how == "raise" else nullcontext()
    with expected, StemGroup(paths, 8000, encoding=Encoding(format), clip=clip) as group:
        group.write(QUIET)
        assert len(tree(tmp_path)) == len(before) + 4
        if how == "raise":
            raise ZeroDivisionError
        if how == "abort":
            group.abort()
            group.abort()
    assert tree(tmp_path) == before and (tmp_path / "s0.wav").read_bytes() == b"earlier"
    for use in (lambda: group.write(QUIET), group.commit):
        with pytest.raises(ValueError, match="after commit or abort"):
            use()


def test_scratch_in_memory_or_in_a_file(tmp_path, monkeypatch):
    """Results do not depend on it; little sound needs no file, and a killed job's files go."""
    loud = np.random.default_rng(0).uniform(-3, 3, (2, 5000)).astype(np.float32)
    paths, found = [tmp_path / "a.wav", tmp_path / "b.wav"], []
    for held, files in ((1 << 20, 0), (30_000, 0), (12_000, 2), (0, 2)):  # 20 kB a stem
        monkeypatch.setattr(sinks, "HELD", held)
        for i in range(4):
            (tmp_path / f".job-{i}.part").write_bytes(b"of a killed run")
        with StemGroup(paths, 8000, clip="rescale", part="job") as group:
            for at in range(0, 5000, 1000):
                group.write(loud[:, at : at + 1000])
            assert len([*tmp_path.glob(".job-*")]) == files
            group.commit()
        assert not [*tmp_path.glob(".*")]
        found.append([path.read_bytes() for path in paths])
    assert all(one == found[0] for one in found)


def test_earlier_files_are_replaced_and_permissions_are_ordinary(tmp_path):
    (tmp_path / "s0.wav").write_bytes(b"earlier")
    old = os.umask(0o027)
    try:
        got, _ = write(tmp_path, QUIET)
    finally:
        os.umask(old)
    assert got.shape == QUIET.shape
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "s0.wav").stat().st_mode) == 0o640


def test_a_stem_that_cannot_be_renamed_takes_the_others_back(tmp_path, monkeypatch):
    calls = []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")
        os.rename(source, target)

    monkeypatch.setattr(writer.os, "replace", replace)
    with pytest.raises(OutputError, match=r"s1\.wav cannot be written: permission denied"):
        write(tmp_path, QUIET)
    assert tree(tmp_path) == []


@pytest.mark.parametrize("clip", CLIPS)
def test_paths_in_the_way(tmp_path, clip):
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    good = tmp_path / "new" / "good.wav"
    for bad, says in (
        (tmp_path / "folder.wav", "it is a folder"),
        (tmp_path / "file" / "x.wav", "not a directory|file exists"),
        (Path("/dev/full"), "it is a device"),
        (tmp_path / ("n" * 300), "file name too long"),
    ):
        with pytest.raises(OutputError, match=says) as error:
            StemGroup([good, bad], 8000, clip=clip)
        assert "\n" not in str(error.value) and bad.name in str(error.value)
    assert tree(tmp_path) == before


@nobody
def test_a_folder_that_cannot_be_written():
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            for path in (Path(folder, "x.wav"), Path(folder, "new", "x.wav")):
                with pytest.raises(OutputError, match=r"x\.wav cannot be written: permission denied"):
                    StemWriter(path, 8000)
        finally:
            if root:
                os.seteuid(0)
        assert tree(folder) == []


@contextmanager
def size_limit(size):
    """No file may grow beyond ``size`` bytes."""
    resource = pytest.importorskip("resource")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize(("format", "subtype"), KINDS)
@pytest.mark.parametrize("limit", [30, 40_000])
def test_a_file_that_cannot_grow(tmp_path, format, subtype, clip, limit):
    stems = RNG.uniform(-1, 1, (2, 60_000)).astype(np.float32)
    with pytest.raises(OutputError, match=r"s\d\.\w+ cannot be written") as error, size_limit(limit):
        write(tmp_path, stems, (7000,), format=format, subtype=subtype, clip=clip)
    assert "\n" not in str(error.value) and tree(tmp_path) == []


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("disk")
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=256k", "none", folder], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no tmpfs can be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("clip", CLIPS)
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_a_full_disk(small_disk, format, clip):
    stems = RNG.uniform(-1, 1, (2, 100_000)).astype(np.float32)
    with pytest.raises(OutputError, match=r"s\d\.\w+ cannot be written: .*(no space left|disk full)"):
        write(small_disk, stems, (7000,), format=format, clip=clip)
    assert tree(small_disk) == []
    write(small_disk, stems[:, :5000], format=format, clip=clip)
    for path in small_disk.iterdir():
        path.unlink()


# ---- options ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"encoding": Encoding("mp3")}, "format 'mp3' is not known: wav, flac"),
        (
            {"encoding": Encoding("flac", "FLOAT")},
            "flac output cannot be 'FLOAT': choose one of PCM_16, PCM_24",
        ),
        ({"encoding": Encoding("wav", "PCM_8")}, "wav output cannot be 'PCM_8'"),
        ({"clip": "loud"}, "clip mode 'loud' is not known"),
        ({"metadata": {"mood": "x"}}, "metadata 'mood' is not known"),
    ],
)
def test_senseless_options(tmp_path, options, says):
    with pytest.raises(UsageError, match=says):
        StemWriter(tmp_path / "new" / "x.wav", 8000, **options)
    assert tree(tmp_path) == []


def test_senseless_paths_and_blocks(tmp_path):
    with pytest.raises(UsageError, match="same file"):
        StemGroup([tmp_path / "x.wav", tmp_path / "new" / ".." / "x.wav"], 8000)
    with pytest.raises(UsageError, match="no output"):
        StemGroup([], 8000)
    with pytest.raises(OutputError, match="FLAC goes up to 655350 Hz"):
        StemWriter(tmp_path / "x.flac", 768_000, encoding=Encoding("flac"))
    with StemGroup([tmp_path / "x.wav"], 8000) as group:
        for shape in ((5,), (2, 5), (1, 5, 1)):
            with pytest.raises(ValueError, match="shape"):
                group.write(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("slyther_cli.audio, slyther_cli.audio.discover", {"numpy", "soundfile", "soxr", "torch"}),
        ("slyther_cli.audio.reader, slyther_cli.audio.writer", {"torch"}),
    ],
)
def test_nothing_heavy_is_imported(modules, absent):
    code = f"import sys, {modules}; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not absent & set(out.split())
