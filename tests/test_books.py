"""Books become chapters of plain words; what is left out is counted, and bad ones are told in one line."""

import time
from itertools import pairwise

import epubs
import pytest

from slyther_cli.books.book import Block, Piece, chapters_of, pieces_by_headings
from slyther_cli.books.markup import read_markup
from slyther_cli.books.reader import read_book, read_bytes
from slyther_cli.books.tags import Tag, tags_and_texts
from slyther_cli.books.text import read_html, read_markdown, read_plain
from slyther_cli.errors import InputError


def titles(book):
    return [chapter.title for chapter in book.chapters]


def read(tmp_path, files):
    return read_book(epubs.write(tmp_path / "book.epub", files))


def test_an_epub_is_read_in_order_by_its_contents(tmp_path):
    book = read(tmp_path, epubs.small())
    assert (book.title, book.author) == ("A Small Book", "Ann Author")
    assert titles(book) == ["The Ferry", "The Return"]
    assert book.chapters[0].text == "The Ferry\n\nIt leaves at 9:45."
    assert book.chapters[1].text == "The Return\n\nNobody came."
    (note,) = book.notes
    assert note.endswith("1 image, 1 footnote, 1 table, 1 code block")


def test_an_older_table_of_contents_parts_a_document_at_its_anchors(tmp_path):
    point = "<navPoint><navLabel><text>{}</text></navLabel><content src='d%30.xhtml{}'/>{}</navPoint>"
    inner = point.format("Its first", "#b", "") + point.format("Its second", "#c", "")
    ncx = (
        f"<ncx><navMap>{point.format('Part One', '#a', inner)}{point.format('Last', '#d', '')}</navMap></ncx>"
    )
    body = "<p>Before.</p><h1 id='a'>Part One</h1><h2 id='b'>Its first</h2><p>One.</p>"
    body += "<p><a id='c'/>Its second</p><p>Two.</p><h1 id='d'>Last</h1><p>Three.</p>"
    files = {
        "META-INF/container.xml": epubs.CONTAINER,
        "OPS/book.opf": epubs.package(["d0.xhtml"], epubs.item("toc.ncx", "application/x-dtbncx+xml")),
        "OPS/d0.xhtml": body,
        "OPS/toc.ncx": ncx,
    }
    book = read(tmp_path, files)
    assert titles(book) == ["Its first", "Its second", "Last"]
    assert book.chapters[0].text == "Before.\n\nPart One\n\nIts first\n\nOne."


def test_what_an_epub_has_beside_its_reading_order_is_told(tmp_path):
    files = epubs.small()
    more = epubs.item("lost.xhtml") + epubs.item("beside.xhtml")
    more += epubs.item("toc.ncx", "application/x-dtbncx+xml")
    spine = '<itemref idref="lost.xhtml"/><itemref idref="beside.xhtml" linear="no"/>'
    files["OPS/book.opf"] = epubs.package(items=more, spine=spine)
    files["OPS/beside.xhtml"] = "<p>Beside.</p>"
    files["OPS/toc.ncx"] = "<ncx><navMap>"
    book = read(tmp_path, files)
    assert "missing or damaged in the book, left out: OPS/toc.ncx, OPS/lost.xhtml" in book.notes
    assert titles(book) == ["The Ferry", "The Return"]
    assert "not in the book's reading order, left out: OPS/beside.xhtml" in book.notes
    assert "Beside" not in book.text


def test_scrambled_fonts_protect_no_text_and_encodings_are_heeded(tmp_path):
    method = '<EncryptionMethod Algorithm="http://www.idpf.org/2008/embedding"/>'
    data = f'<EncryptedData>{method}<CipherReference URI="OPS/font.otf"/></EncryptedData>'
    files = epubs.small() | {"META-INF/encryption.xml": f"<encryption>{data}</encryption>"}
    files["OPS/two.xhtml"] = '<?xml version="1.0" encoding="iso-8859-1"?><p>Caf\xe9.</p>'.encode("latin-1")
    assert "Café." in read(tmp_path, files).text
    files["OPS/two.xhtml"] = "<p>Nobody.</p>".encode("utf-16")
    assert "Nobody." in read(tmp_path, files).text


BOMB = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
DRM = '<EncryptedData><CipherReference URI="OPS/two.xhtml"/></EncryptedData>'
FAULTS = {
    "no container": ({"META-INF/container.xml": None}, "no EPUB"),
    "an empty container": ({"META-INF/container.xml": "<container/>"}, "names no package document"),
    "no package": ({"OPS/book.opf": None}, "book.opf is not in it"),
    "a package cut short": ({"OPS/book.opf": "<package><manifest>"}, "book.opf is damaged"),
    "no spine": ({"OPS/book.opf": epubs.package(())}, "names no documents"),
    "protected": (
        {"META-INF/encryption.xml": f"<encryption>{DRM}</encryption>"},
        "protected against copying",
    ),
    "a bomb in the package": ({"OPS/book.opf": BOMB + epubs.package()}, "declares entities"),
    "a bomb in a document": ({"OPS/one.xhtml": BOMB + epubs.ONE}, "declares entities"),
    "nothing in it": ({"OPS/one.xhtml": "", "OPS/two.xhtml": "<img/>"}, "no text in it"),
    "a document that unpacks": ({"OPS/one.xhtml": "<p>" + "a" * (33 << 20)}, "more than a book"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_bad_epubs_are_told_in_one_line(tmp_path, name):
    changes, words = FAULTS[name]
    files = {k: v for k, v in (epubs.small() | changes).items() if v is not None}
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path, files)
    assert len(str(caught.value)) < 300 and "book.epub" in str(caught.value)


def test_damaged_archives_are_told_in_one_line(tmp_path):
    whole = epubs.write(tmp_path / "book.epub", epubs.small()).read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 40)):
        for data in (whole[:at], whole[:at] + b"\xff\0\x7f" + whole[at + 3 :]):
            try:
                read_bytes(data, "book.epub")
            except InputError as error:
                assert str(error).startswith("book.epub")


def test_ten_thousand_chapters(tmp_path):
    files = epubs.of_documents(*(f"<h1>Number {i}</h1><p>Words.</p>" for i in range(10_000)))
    book = read(tmp_path, files)
    assert len(book.chapters) == 10_000 and book.chapters[-1].title == "Number 9999"


def test_a_page_loses_what_cannot_be_read_and_nothing_else():
    page = """<title>Page</title><meta name="author" content="Ann"><nav>Menu</nav><script>a<b</script>
    <h1>Page</h1><p>Before <b>it</b><sup><a href="#1">[2]</a></sup>, <a href="#x">see there</a> &amp; more
    <span hidden>not this</span><p class="footnote">A note.<p>After. x<sup>2</sup>
    <table><tr><td>1</table><table><tr><td><h2>One</h2><p>In a layout.</table>
    <pre>roses are red</pre><pre>if (x) { y = 1; }</pre><math><mi>x</mi></math><svg><title>S</title></svg>
    <h2>Two</h2><p><img alt="T" src="t.png">here is more <code>code</code>. <table><tr><td>never closed"""
    book = read_html(page, "page.html")
    assert (book.title, book.author, titles(book)) == ("Page", "Ann", ["One", "Two"])
    front = "Page\n\nBefore it, see there & more\n\nAfter. x2"
    assert book.chapters[0].text == f"{front}\n\nOne\n\nIn a layout.\n\nroses are red"
    assert book.chapters[1].text == "Two\n\nThere is more code.\n\nnever closed"
    assert book.notes == (
        "left out, since they cannot be read aloud: 1 footnote, 1 table, 1 code block, 1 formula, 1 image",
    )
    assert read_markup("a<aside>b", "x").blocks == [Block("a"), Block("b")]


def test_notes_are_counted_in_their_list_and_marks_alone_are_told():
    found = read_markup(
        "<section role='doc-endnotes'><ol><li>a<li>b<li>c</ol></section><p>x<a href='#f'>[1]</a>", "x"
    )
    assert found.left_out == {"footnote": 3, "note mark": 1} and found.blocks == [Block("x")]
    assert read_html("<p>x<a href='#f'>[1]</a>", "x").notes[0].endswith("1 note mark")


def test_tags_are_found_in_time_that_grows_with_the_text():
    text = "a<b c='>' D=e f>x</B ><br/><!-- <p> --><![CDATA[1<2]]>&lt;<3 < <svg:g/>"
    assert list(tags_and_texts(text)) == [
        *("a", Tag("b", {"c": ">", "d": "e", "f": ""}), "x", Tag("b", closes=True), Tag("br", empty=True)),
        *("1<2", "<", "<", "3 ", "<", " ", Tag("g", empty=True)),
    ]
    for bad in ("<!--", "<a ", "<a href='", "<a b='c' ", "<![CDATA[", "</", "<?", "<p class=footnote>"):
        costs = []
        for count in (4_000, 16_000):
            began = time.process_time()
            read_markup(bad * count, "x")
            costs.append(time.process_time() - began)
        assert costs[1] < 10 * costs[0] + 0.5, bad


def test_markdown_has_chapters_and_no_notes():
    text = """---\ntitle: "My Book"\nauthor: Ann\n---\n# My Book\n\n## One\n\nHello[^1] *there*, a < b.\n\n
    verse stays\n\n```sh\nls\n```\n\n|a|b|\n|-|-|\n|1|2|\n\n[^1]: A note\ngoes on.\n\n## Two\n\n- Bye.\n"""
    book = read_markdown(text, "x.md")
    assert (book.title, book.author, titles(book)) == ("My Book", "Ann", ["One", "Two"])
    assert book.chapters[0].text == "My Book\n\nOne\n\nHello there, a < b.\n\nverse stays"
    assert book.notes[0].endswith("1 code block, 1 table, 1 footnote")


PLAIN = """A TALE

PART ONE

CHAPTER I.
The Beginning

Chapter one of this was long. Part two of this is long.

Chapter II: The End

Act now, or letter I wrote.

EPILOGUE

They lived."""


def test_plain_text_has_chapters_where_a_paragraph_is_a_title():
    book = read_plain(PLAIN)
    assert titles(book) == ["CHAPTER I. The Beginning", "Chapter II: The End", "EPILOGUE"]
    assert book.text == PLAIN
    for alone in (
        "Chapter one was long.",
        "Hello.",
        "Part two of this is long.\n\nYes.",
        "# One",
        "\U0001f600",
    ):
        assert [chapter.text for chapter in read_plain(alone).chapters] == [alone]
    assert titles(read_plain("# One\n\nA.\n\n# Two\n\nB.")) == ["One", "Two"]


def test_chapters_are_what_parts_hold_and_no_text_is_lost():
    parts = [Piece(0, "", "front"), Piece(1, "P", "P"), Piece(2, "A", "a a"), Piece(2, "B", "b b")]
    found = [(c.title, c.text) for c in chapters_of(parts)]
    assert found == [("A", "front\n\nP\n\na a"), ("B", "b b")]
    assert [c.title for c in chapters_of([Piece(0, "", "front" * 99), Piece(1, "A", "a a")])] == ["", "A"]
    chapters = [Piece(1, "A", "A\n\nlong"), Piece(2, "s", "s\n\nx"), Piece(1, "B", "B\n\nmore")]
    assert [c.title for c in chapters_of(chapters)] == ["A", "B"]
    assert [c.title for c in chapters_of([Piece(2, "A", "a a"), Piece(2, "B", "b b")])] == ["A", "B"]
    assert chapters_of([Piece(1, "A", "A")])[0].text == "A"
    blocks = [Block("T", 1), Block("x"), Block("A", 2), Block("y"), Block("B", 2), Block("z")]
    pieces = pieces_by_headings(blocks)
    assert [piece.title for piece in pieces] == ["", "A", "B"]
    words = "\n\n".join(piece.text for piece in pieces).split()
    assert words == [block.text for block in blocks]
    assert all(a != b for a, b in pairwise(words))


@pytest.mark.parametrize(
    ("data", "suffix", "words"),
    [
        (b"%PDF-1.7", ".pdf", "a PDF"),
        (b"\0" * 60 + b"BOOKMOBI", ".mobi", "a Kindle book"),
        (b"{\\rtf1", ".rtf", "RTF"),
        (b"\xff\xfe\xfa", ".txt", "not UTF-8"),
        (b"<meta charset=punycode><p>a", ".html", "its text is not punycode"),
        (b"PK\x03\x04" + b"\0" * 50, ".docx", "no EPUB, or damaged"),
        (b"<!DOCTYPE x [<!ENTITY a 'b'>]><p>&a;", ".html", "declares entities"),
    ],
)
def test_files_that_are_no_books_are_told_in_one_line(data, suffix, words):
    with pytest.raises(InputError, match=words) as caught:
        read_bytes(data, f"x{suffix}", suffix)
    assert str(caught.value).startswith(f"x{suffix}") and str(caught.value).count(f"x{suffix}") == 1


def test_a_book_that_is_not_there(tmp_path):
    for name in ("nowhere.epub", "."):
        with pytest.raises(InputError, match="cannot be read"):
            read_book(tmp_path / name)
