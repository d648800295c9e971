"""``pull`` against a local server that behaves, misbehaves, lies, stalls and is not there."""

import contextlib
import http.server
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch

from slyther_cli.checkpoints import catalogue, download, paced, store
from slyther_cli.checkpoints.catalogue import Entry, PinnedFile
from slyther_cli.errors import ModelError
from slyther_cli.models import registry

NAME = "mamba-tasnet-tiny"
FOLDER = "tiny/save/CKPT+2024-06-21+13-39-29+00"
CONFIG = {"n_filters": 8, "kernel_size": 4, "stride": 2, "d_model": 6, "n_layers": 2, "d_state": 3}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves ``server.root``; ``server.behave`` may take over a request by returning True."""

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.server.behave is not None and self.server.behave(self):
            return
        path = self.server.root / unquote(self.path.lstrip("/"))
        if not path.is_file():
            self.send_error(404)
            return
        self.answer(path.read_bytes())

    def answer(self, body, length=None):
        self.send_response(200)
        if length is not False:
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A tiny model on a server, pinned in the catalogue. The fixture's value is the server."""
    root = tmp_path / "www"
    (root / FOLDER).mkdir(parents=True)
    torch.manual_seed(0)
    model = registry.build("mamba-tasnet", CONFIG)
    files = []
    for stem in ("encoder", "masknet", "decoder"):
        path = root / FOLDER / f"{stem}.ckpt"
        torch.save(getattr(model, stem).state_dict(), path)
        files.append(
            PinnedFile(
                f"{FOLDER}/{stem}.ckpt",
                download.git_blob_sha1(path),
                path.stat().st_size,
                exact=stem != "masknet",
            )
        )
    pin(monkeypatch, Entry(NAME, "separate", tuple(files), {"SI-SNRi (dB)": 1.0}))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.root, server.behave, server.seen, server.model = root, None, [], model
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    monkeypatch.setenv("SLYTHER_MODELS_URL", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("SLYTHER_CACHE", str(tmp_path / "cache"))
    for variable in ("SLYTHER_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    yield server
    server.shutdown()
    server.server_close()


def pin(monkeypatch, entry):
    monkeypatch.setitem(catalogue.ENTRIES, NAME, entry)


def refused(tmp_path, **kwargs):
    """The message of a pull that must fail and leave nothing behind."""
    with pytest.raises(ModelError) as error:
        download.pull(NAME, **kwargs)
    text = str(error.value)
    assert text and "\n" not in text and len(text) < 400, text
    assert not (tmp_path / "cache").exists() or os.listdir(tmp_path / "cache") == []
    return text


def test_pull(published, tmp_path):
    told = []
    folder = download.pull(NAME, progress=lambda *a: told.append(a))
    assert folder == tmp_path / "cache" / NAME and os.listdir(tmp_path / "cache") == [NAME]
    assert published.seen[0] == f"/{FOLDER.replace('+', '%2B')}/encoder.ckpt"
    assert {name for name, _, _ in told} == {"encoder.ckpt", "masknet.ckpt", "decoder.ckpt"}
    assert all(0 < done <= total for _, done, total in told)
    model, config = store.load(NAME)
    for key, value in published.model.state_dict().items():
        assert torch.equal(model.state_dict()[key], value)
    assert config.license == "GPL-3.0" and "github.com/xi-j" in config.source
    assert (
        catalogue.LICENSE_NOTE in (folder / "CARD.md").read_text()
        and "not part of slyther" in download.LICENSE_NOTE
    )
    published.seen.clear()
    assert download.pull(NAME, offline=True) == folder
    assert published.seen == []


def test_a_damaged_cache_is_pulled_again(published):
    folder = download.pull(NAME)
    os.truncate(folder / "model.safetensors", 100)
    download.pull(NAME)
    store.load(NAME)
    (folder / "config.json").unlink()
    download.pull(NAME)
    store.load(NAME)
    assert os.listdir(folder.parent) == [NAME]


def test_stale_leftovers_go_and_fresh_ones_stay(published, tmp_path):
    for name, age in ((".pull-old", 10 * 24 * 3600), (".pull-now", 0)):
        (tmp_path / "cache" / name / "raw").mkdir(parents=True)
        then = time.time() - age
        os.utime(tmp_path / "cache" / name, (then, then))
    download.pull(NAME)
    assert sorted(os.listdir(tmp_path / "cache")) == [".pull-now", NAME]


@pytest.mark.parametrize("how", ["SLYTHER_OFFLINE", "HF_HUB_OFFLINE", "argument"])
def test_offline(published, tmp_path, monkeypatch, how):
    if how != "argument":
        monkeypatch.setenv(how, "1")
    assert "offline" in refused(tmp_path, offline=how == "argument")
    assert published.seen == []


def test_wrong_content(published, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *a, **k: pytest.fail("opened an unchecked file"))
    for name in ("masknet", "decoder"):
        path = published.root / FOLDER / f"{name}.ckpt"
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert "checksum" in refused(tmp_path)
        path.write_bytes(good)
    (published.root / FOLDER / "encoder.ckpt").write_bytes(b"short")
    assert "expected" in refused(tmp_path)


def test_predicted_sizes_are_not_enforced(published, monkeypatch):
    entry = catalogue.ENTRIES[NAME]
    masknet = replace(entry.files[1], size=int(entry.files[1].size * 0.8))
    pin(monkeypatch, replace(entry, files=(entry.files[0], masknet, entry.files[2])))
    download.pull(NAME)


def test_missing(published, tmp_path):
    (published.root / FOLDER / "masknet.ckpt").unlink()
    assert "404" in refused(tmp_path)


def test_truncated(published, tmp_path):
    published.behave = lambda h: h.answer(b"x" * 50, length=51) or True
    assert "ended after 50 of 51 bytes" in refused(tmp_path)


def test_too_much(published, tmp_path):
    published.behave = lambda h: h.answer(b"", length=1 << 40) or True
    assert "not downloaded" in refused(tmp_path)

    def endless(h):
        h.answer(b"", length=False)
        while True:
            h.wfile.write(b"x" * (1 << 16))

    def quietly(h):
        try:
            endless(h)
        except OSError:
            return True

    published.behave = quietly
    assert "larger than expected" in refused(tmp_path)


def test_silent_server(published, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    release = threading.Event()
    published.behave = lambda h: release.wait(5) or True
    start = time.monotonic()
    assert "no answer within" in refused(tmp_path)
    published.behave = lambda h: h.answer(b"x" * 10, length=200) or release.wait(5) or True
    assert "no answer within" in refused(tmp_path)
    release.set()
    assert time.monotonic() - start < 4


def test_trickling_server(published, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "SPEED_WINDOW", 0.4)

    def trickle(h):
        try:
            h.answer(b"", length=1000)
            for _ in range(200):
                h.wfile.write(b"x")
                h.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass
        return True

    published.behave = trickle
    assert "too slow" in refused(tmp_path)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 OK fine\r\n\r\n", b"\0" * 70_000, b"HTTP/1.1 500 Oh\r\n\r\n"]
)
def test_broken_answers(published, tmp_path, answer):
    def raw(h):
        h.wfile.write(answer)
        h.close_connection = True
        return True

    published.behave = raw
    assert "cannot download encoder.ckpt" in refused(tmp_path)


def test_nobody_there(published, tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    assert "refused" in refused(tmp_path, base_url=f"http://127.0.0.1:{port}")
    assert "cannot download" in refused(tmp_path, base_url="https://no-such-host.invalid")
    assert "cannot download" in refused(tmp_path, base_url=f"https://127.0.0.1:{published.server_port}")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "file:///etc",
        "host",
        "http://u:p@host",
        "http://h?x=1",
        "http://h:99999",
        "http://[",
        "\n",
    ],
)
def test_bad_urls(published, tmp_path, url):
    assert "SLYTHER_MODELS_URL" in refused(tmp_path, base_url=url)


def test_unknown_name(published, tmp_path):
    with pytest.raises(ModelError, match="did you mean mamba-tasnet-tiny"):
        download.pull("mamba-tasnet-tini")
    with pytest.raises(ModelError, match="known are"):
        download.pull("../../etc")


def test_cache_that_cannot_be_written(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for cache in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/slyther-cache")):
        with pytest.raises(ModelError, match="SLYTHER_CACHE") as error:
            download.pull(NAME, cache=cache)
        assert "\n" not in str(error.value)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    if os.geteuid() != 0:
        with pytest.raises(ModelError, match="SLYTHER_CACHE"):
            download.pull(NAME, cache=locked)
    assert published.seen == []

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "save_file", full)
    assert "No space left" in refused(tmp_path)


def test_an_interrupt_leaves_nothing(published, tmp_path):
    def interrupt(*args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.pull(NAME, progress=interrupt)
    assert os.listdir(tmp_path / "cache") == []


def test_two_pulls_at_once(published, tmp_path):
    """All download (the server holds the last file until all are there), one is published, all can use it."""
    barrier = threading.Barrier(4)

    def together(h):
        if h.path.endswith("decoder.ckpt"):
            barrier.wait(20)
        return False

    published.behave = together
    results = []

    def one():
        results.append(download.pull(NAME))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == [tmp_path / "cache" / NAME] * 4
    assert os.listdir(tmp_path / "cache") == [NAME]
    store.load(NAME)


def test_two_processes_at_once(published, tmp_path):
    entry = catalogue.ENTRIES[NAME]
    code = (
        "from slyther_cli.checkpoints import catalogue, download, paced, store\n"
        "from slyther_cli.checkpoints.catalogue import Entry, PinnedFile\n"
        f"catalogue.ENTRIES[{NAME!r}] = {entry!r}\n"
        f"download.pull({NAME!r}); store.load({NAME!r})\n"
    )
    meet = threading.Barrier(2)
    published.behave = lambda h: h.path.endswith("decoder.ckpt") and meet.wait(60) < 0
    other = subprocess.Popen([sys.executable, "-c", code])
    download.pull(NAME)
    assert other.wait(60) == 0
    assert os.listdir(tmp_path / "cache") == [NAME]


def test_the_catalogue_is_well_formed():
    separators = {f"{kind}-{s}" for kind in ("mamba-tasnet", "dpmamba") for s in ("xs", "s", "m")}
    assert set(catalogue.ENTRIES) == separators | {"encodec-24khz"}
    for name in separators:
        entry = catalogue.ENTRIES[name]
        assert registry.PRESETS[name][0] == name.rpartition("-")[0]
        assert [f.name for f in entry.files] == ["encoder.ckpt", "masknet.ckpt", "decoder.ckpt"]
        assert all(len(f.sha1) == 40 and int(f.sha1, 16) for f in entry.files)
        n = registry.full_config(*registry.PRESETS[name])["n_filters"]
        assert entry.files[0].size == n * 16 * 4 + 875
        assert [f.exact for f in entry.files] == [True, False, True]


def test_git_blob_id(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")  # git hash-object
    assert download.git_blob_sha1(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def dripping(head, drop=b"x", every=0.02):
    """A server that sends ``head`` and then so many bytes at a time, for ever."""

    def behave(handler):
        with contextlib.suppress(OSError):
            handler.wfile.write(head)
            while True:
                handler.wfile.write(drop)
                time.sleep(every)

    return behave


@pytest.mark.parametrize(
    ("head", "drop", "says"),
    [
        (b"HTTP/1.1 ", b"2", "no answer within 0.7 s"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x", "no answer within 0.7 s"),
        (b"HTTP/1.1 200 OK\r\n", b"X: x\r\n", "broken answer|no answer within 0.7 s"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "no answer within 0.7 s"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /else\r\n" + CHUNKED,
            b"1\r\nx\r\n",
            "within 0.7 s",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0", "too slow"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x", "too slow"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", "too slow"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"", "too slow|no answer within"),
    ],
)
def test_a_server_that_drips(published, tmp_path, monkeypatch, head, drop, says):
    """Each wait is short, all of them would never end."""
    monkeypatch.setattr(download, "HEAD_SECONDS", 0.7)
    monkeypatch.setattr(download, "SPEED_WINDOW", 0.7)
    published.behave = dripping(head, drop)
    began = time.monotonic()
    assert re.search(says, refused(tmp_path))
    assert time.monotonic() - began < 15


def test_a_head_without_end(published, tmp_path):
    """As fast as can be: it ends by its size."""
    head = b"HTTP/1.1 302 Found\r\nLocation: /else\r\n\r\n"
    published.behave = dripping(head, b"x" * 65_536, 0)
    assert "no answer within" in refused(tmp_path) or "broken" in refused(tmp_path)


@pytest.mark.parametrize(
    "target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "data:,x", "gopher://x/", "javascript:x"]
)
def test_redirects_to_other_schemes_are_refused(published, tmp_path, target):
    def behave(handler):
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    published.behave = behave
    assert re.search("is not followed|server says 302", refused(tmp_path))


def test_redirects_from_https_to_http_are_refused(monkeypatch):
    request = urllib.request.Request("https://models.example/x")
    for target, good in (
        ("https://b.example/x", True),
        ("http://b.example/x", False),
        ("ftp://b.example", False),
    ):
        try:
            made = paced._Redirects().redirect_request(request, None, 302, "Found", {}, target)
        except urllib.error.URLError as error:
            assert not good and "is not followed" in str(error)
        else:
            assert good and made.full_url == target


def test_a_redirect_to_the_same_scheme_is_followed(published):
    def behave(handler):
        if handler.path.startswith("/moved"):
            handler.path = handler.path.removeprefix("/moved")
            return False
        handler.send_response(301)
        handler.send_header("Location", "/moved" + handler.path)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    published.behave = behave
    assert store.load(download.pull(NAME))[1].name == NAME
