"""Tags of SSML and HTML in a text that is to be spoken: taken out, and told. Needs nothing."""

from __future__ import annotations

import html
import re

_PARAGRAPHS = (
    "speak p s div br hr li ul ol dl dt dd table tr h1 h2 h3 h4 h5 h6 blockquote pre html head body title"
)
_INLINE = (
    "audio break desc emphasis lang lexicon lookup mark meta metadata par phoneme prosody say-as seq sub "
    "token voice w a abbr b big cite code em font i img kbd q small span strong sup td th tt u "
    "amazon:[a-z-]+ google:[a-z-]+ mstts:[a-z-]+"
)
_PARTING = frozenset(_PARAGRAPHS.split())
_ATTRIBUTES = r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"<]*"|'[^'<]*'|[^\s"'<>=]+))*\s*"""
_TAG = re.compile(rf"</?({'|'.join(f'{_PARAGRAPHS} {_INLINE}'.split())}){_ATTRIBUTES}/?>", re.I)
_UNSEEN = re.compile(r"(<!--)|(<\?xml\b)|(<!doctype\b)|(<script\b[^<>]*>)|(<style\b[^<>]*>)", re.I)
_ENDS = [re.compile(end, re.I) for end in ("-->", r"\?>", ">", r"</script\s*>", r"</style\s*>")]
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{1,7}|#x[0-9a-f]{1,6});", re.I)


def without_markup(text: str) -> tuple[str, list[str]]:
    """The text without tags, and the names of those that were in it, each once.

    Only tags that SSML or HTML has, with attributes that have values, are taken for such: "a < b" and
    "<Enter>" stay. One that parts paragraphs leaves an empty line. Entities such as "&amp;" become what they
    stand for.

    >>> without_markup("Say <emphasis level='strong'>this</emphasis>, if a < b.")
    ('Say this, if a < b.', ['<emphasis>'])
    """
    found: dict[str, None] = {}

    def gone(tag: re.Match[str]) -> str:
        name = tag[1].lower()
        found.setdefault(f"<{name}>")
        return "\n\n" if name in _PARTING else " " if name == "break" else ""

    seen = _seen(text)
    if seen != text:
        found.setdefault("comments and the like")
    return _ENTITY.sub(lambda m: html.unescape(m[0]), _TAG.sub(gone, seen)), list(found)


def _seen(text: str) -> str:
    """Without comments, declarations, scripts and styles; one that does not end is none."""
    pieces: list[str] = []
    at, endless = 0, set()
    for start in _UNSEEN.finditer(text):
        kind = start.lastindex or 1
        if start.start() < at or kind in endless:
            continue
        end = _ENDS[kind - 1].search(text, start.end())
        if end is None:
            endless.add(kind)
        else:
            pieces += [text[at : start.start()], " "]
            at = end.end()
    return "".join([*pieces, text[at:]])
