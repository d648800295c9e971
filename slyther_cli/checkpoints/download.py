"""``pull``: download a published model, check every byte, convert it, put it into the cache.

Files are streamed with a cap, a timeout for each wait and a least speed, into a private folder inside the
cache. Each must have its git blob id (and, where known, its size) before anything opens it. The finished
model folder then takes its place by one rename, so that other processes see all of it or nothing, and a
failure leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import shutil
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from slyther_cli import __version__, files
from slyther_cli.checkpoints import catalogue, paced, places
from slyther_cli.checkpoints.catalogue import LICENSE_NOTE, Entry, PinnedFile
from slyther_cli.errors import ModelError, OutputError

__all__ = ["LICENSE_NOTE", "git_blob_sha1", "is_offline", "pull"]

Progress = Callable[[str, int, int], None]
"""Called with (file name, bytes so far, bytes in all, about)."""

TIMEOUT = 30.0
"""Seconds that one wait on the server may take."""
HEAD_SECONDS = 60.0
"""From the request to the body's beginning, with all redirects."""
SPEED_WINDOW = 60.0
MIN_BYTES_PER_WINDOW = 32 << 10
"""A server that gives less than this in one window is as good as silent."""
CAP_FACTOR = 1.5
_CHUNK = 1 << 18
_STALE_SECONDS = 24 * 3600


def is_offline() -> bool:
    """Whether SLYTHER_OFFLINE or HF_HUB_OFFLINE forbids the network."""
    return any(
        os.environ.get(v, "").strip().lower() in ("1", "true", "yes", "on")
        for v in ("SLYTHER_OFFLINE", "HF_HUB_OFFLINE")
    )


def pull(
    name: str,
    *,
    offline: bool = False,
    base_url: str | None = None,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of published model ``name`` in the cache, downloaded if it is not there yet.

    ``base_url`` (else SLYTHER_MODELS_URL) stands for the entry's ``base_url``: a mirror with the same paths
    below it. The checks are the same for a mirror. Show the entry's ``note`` to whoever asked for the
    download.

    Raises ModelError, one line each: unknown name, offline, no connection, refused, missing, too slow,
    truncated, wrong content, cache not writable.
    """
    entry = catalogue.ENTRIES.get(name)
    if entry is None:
        raise ModelError(places.unknown_message(name, list(catalogue.ENTRIES)))
    root = Path(cache).expanduser() if cache is not None else places.cache_dir()
    target = root / name
    if _usable(target):
        return target
    if offline or is_offline():
        raise ModelError(
            f"model {name} is not in the cache ({root}), and slyther is offline: nothing was downloaded"
        )
    base = _base_url(base_url, entry)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_stale(root)
        staging = Path(tempfile.mkdtemp(prefix=".pull-", dir=root))
        held = files.hold(staging)
    except OSError as e:
        raise ModelError(
            f"cannot write to the model cache {root}: {e.strerror or e} (SLYTHER_CACHE sets another)"
        ) from e
    try:
        raw = staging / "raw"
        raw.mkdir()
        for file in entry.files:
            _fetch(f"{base}/{urllib.parse.quote(file.path)}", file, raw / file.name, progress)
        _convert(entry, raw, staging / name)
        return _publish(staging / name, target, staging)
    except (OSError, OutputError) as e:
        raise ModelError(
            f"cannot write to the model cache {root}: {getattr(e, 'strerror', None) or e}"
        ) from e
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)


def git_blob_sha1(path: Path) -> str:
    """The id that git gives to a file with these bytes."""
    # Not a choice: git names blobs so. FIPS builds of OpenSSL want to be told that it is no signature.
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _usable(folder: Path) -> bool:
    """Whether a finished model lies there. Values are checked when it is loaded."""
    if not folder.is_dir():
        return False
    from slyther_cli.checkpoints import store

    try:
        store.check(folder)
    except ModelError:
        return False
    return True


def _convert(entry: Entry, raw: Path, dest: Path) -> None:
    from slyther_cli.checkpoints import encodec, speechbrain

    if entry.task == "codec":
        encodec.import_file(
            raw / entry.files[0].name,
            dest,
            entry.name,
            source=entry.source,
            license=entry.license,
            card=f"# {entry.name}\n\n{entry.note}\n\nSource: {entry.source}\n",
        )
        return
    lines = [
        f"# {entry.name}",
        "",
        entry.note,
        "",
        f"Source: {entry.source}",
        "",
        "Scores as published:",
        "",
    ]
    lines += [f"- {key}: {value:.2f}" for key, value in entry.metrics.items()]
    speechbrain.import_folder(
        raw,
        dest,
        entry.name,
        sample_rate=entry.sample_rate,
        source=entry.source,
        license=entry.license,
        metrics=entry.metrics,
        files={f.path: f.sha1 for f in entry.files},
        card="\n".join(lines) + "\n",
    )


def _publish(new: Path, target: Path, staging: Path) -> Path:
    """Rename ``new`` to ``target``. Whoever comes second uses what the first one put there."""
    for attempt in range(3):
        try:
            os.rename(new, target)
            return target
        except OSError:
            if _usable(target):
                return target
            if not target.exists() or attempt == 2:
                raise
            with contextlib.suppress(
                FileNotFoundError
            ):  # damaged: out of the way, and away with the staging folder
                os.rename(target, staging / f"damaged{attempt}")
    raise AssertionError("unreachable")


def _remove_stale(root: Path) -> None:
    """What a killed pull has left: only our own folders, only old ones that nobody holds. Age alone would not
    do: a slow download takes days, and clocks are set while it runs."""
    for path in root.glob(".pull-*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS and not files.is_held(path):
                shutil.rmtree(path, ignore_errors=True)


def _base_url(given: str | None, entry: Entry) -> str:
    url = given or os.environ.get("SLYTHER_MODELS_URL") or entry.base_url
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        good = good and (parts.port or 1) > 0 and not parts.query and not parts.fragment and url.isprintable()
    except ValueError:
        good = False
    if not good:
        raise ModelError(
            "the models URL (SLYTHER_MODELS_URL) must be http(s)://HOST/PATH without user, query or fragment"
        )
    return url.rstrip("/")


def _fetch(url: str, file: PinnedFile, dest: Path, progress: Progress | None) -> None:
    """Download one file and check it. Raises ModelError; OSError only for ``dest``."""
    cap = file.size if file.exact else int(file.size * CAP_FACTOR)
    host = urllib.parse.urlsplit(url).netloc
    what = f"{file.name} from {host}"
    request = urllib.request.Request(
        url, headers={"User-Agent": f"slyther/{__version__}", "Accept-Encoding": "identity"}
    )
    pace = paced.Pace(TIMEOUT, HEAD_SECONDS)
    with open(dest, "wb") as out:
        try:
            with paced.urlopen(request, pace) as response:
                declared = response.headers.get("Content-Length", "")
                length = int(declared) if declared.isascii() and declared.isdigit() else None
                if length is not None and length > cap:
                    raise ModelError(f"{what} is {length} bytes, expected at most {cap}: not downloaded")

                def keep(block: bytes) -> None:
                    try:
                        out.write(block)
                    except OSError as e:
                        raise OutputError(e.strerror or str(e)) from e

                def tell(count: int) -> None:
                    if progress is not None:
                        progress(file.name, count, length or file.size)

                count = _stream(response, keep, tell, cap, what, pace)
        except urllib.error.HTTPError as e:
            raise ModelError(f"cannot download {what}: the server says {e.code} {e.reason}") from e
        except TimeoutError as e:
            raise _late(what, pace) from e
        except urllib.error.URLError as e:
            if isinstance(e.reason, TimeoutError):
                raise _late(what, pace) from e
            reason = getattr(e.reason, "strerror", None) or e.reason
            raise ModelError(f"cannot download {what}: {reason}") from e
        except (http.client.HTTPException, OSError, ValueError) as e:
            raise ModelError(f"cannot download {what}: broken answer ({type(e).__name__})") from e
    if length is not None and count < length:
        raise ModelError(f"cannot download {what}: the connection ended after {count} of {length} bytes")
    if file.exact and count != file.size:
        raise ModelError(f"{what} is {count} bytes, expected {file.size}: not used")
    other = file.sha1 and git_blob_sha1(dest) != file.sha1
    if other or (file.sha256 and files.sha256(dest) != file.sha256):
        raise ModelError(f"{what} is not the published file (its checksum differs): not used")


def _late(what: str, pace: paced.Pace) -> ModelError:
    seconds = TIMEOUT if time.monotonic() < pace.deadline else HEAD_SECONDS
    return ModelError(f"cannot download {what}: no answer within {seconds:g} s")


def _stream(
    response: http.client.HTTPResponse,
    write: Callable,
    tell: Callable,
    cap: int,
    what: str,
    pace: paced.Pace,
) -> int:
    """Copy the body, not more than ``cap`` bytes, not slower than the least speed. Returns its size."""
    count = window_bytes = 0
    pace.grant(SPEED_WINDOW)
    while True:
        try:
            block = response.read1(_CHUNK)
        except TimeoutError:
            if time.monotonic() < pace.deadline:
                raise
            raise ModelError(
                f"cannot download {what}: too slow ({window_bytes} bytes in {SPEED_WINDOW:g} s)"
            ) from None
        if not block:
            return count
        count += len(block)
        window_bytes += len(block)
        if count > cap:
            raise ModelError(f"{what} is larger than expected ({cap} bytes): not downloaded")
        write(block)
        tell(count)
        if window_bytes >= MIN_BYTES_PER_WINDOW:
            pace.grant(SPEED_WINDOW)
            window_bytes = 0
