"""EPUBs for the tests: small ones, made whole or with a fault."""

import zipfile
from pathlib import Path

CONTAINER = """<?xml version="1.0"?><container version="1.0"><rootfiles>
<rootfile full-path="OPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>"""
ONE = """<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html xmlns:epub="http://www.idpf.org/2007/ops">
<head><title>One</title></head><body><h1 id="top">The Ferry</h1>
<p>It leaves at 9:45.<a epub:type="noteref" href="#n1">1</a></p><img src="ferry.png" alt="A ferry"/>
<aside epub:type="footnote" id="n1"><p>Not on Sundays.</p></aside></body></html>"""
TWO = """<html><body><h1>The Return</h1><p>No&shy;body came.</p>
<table><tr><td>1</td><td>2</td></tr></table><pre><code>x = 1;</code></pre></body></html>"""
NAV = """<html><body><nav epub:type="toc"><ol><li><a href="one.xhtml#top">The Ferry</a></li>
<li><a href="two.xhtml">The Return</a></li></ol></nav></body></html>"""
METADATA = "<dc:title>A Small Book</dc:title><dc:creator>Ann Author</dc:creator>"


def item(name: str, kind: str = "application/xhtml+xml", more: str = "") -> str:
    return f'<item id="{name}" href="{name}" media-type="{kind}" {more}/>'


def package(
    names=("one.xhtml", "two.xhtml"), items: str = "", spine: str = "", metadata: str = METADATA
) -> str:
    """The package document of these spine documents; ``items`` and ``spine``: further lines."""
    manifest = "".join(item(name) for name in names) + items
    references = "".join(f'<itemref idref="{name}"/>' for name in names) + spine
    head = f'<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">{metadata}</metadata>'
    return f"<package>{head}<manifest>{manifest}</manifest><spine>{references}</spine></package>"


def small() -> dict[str, str | bytes]:
    """The files of a book of two chapters, with something of each kind that is left out."""
    return {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OPS/book.opf": package(items=item("nav.xhtml", more='properties="nav"')),
        "OPS/nav.xhtml": NAV,
        "OPS/one.xhtml": ONE,
        "OPS/two.xhtml": TWO,
    }


def write(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def of_documents(*documents: str, **more: str) -> dict[str, str | bytes]:
    """The files of a book of these bodies, without a table of contents."""
    names = [f"d{i:05d}.xhtml" for i in range(len(documents))]
    pages = {f"OPS/{n}": f"<html><body>{d}</body></html>" for n, d in zip(names, documents, strict=True)}
    return {"META-INF/container.xml": CONTAINER, "OPS/book.opf": package(names), **pages, **more}
