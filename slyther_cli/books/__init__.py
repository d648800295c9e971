"""Books as speech needs them: from EPUB, HTML, Markdown or plain text to chapters of plain words.

``book`` says what a book is and how it is parted into chapters; ``markup`` reads HTML; ``epub`` finds the
documents of an EPUB, ``package`` the files that describe it; ``text`` reads Markdown and plain text;
``reader`` knows which is which. Nothing that a file says makes any of them read another file, expand an
entity, or unpack more than a book can have. This file imports nothing.
"""
