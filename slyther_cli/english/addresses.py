"""Web and e-mail addresses as they are said: "example dot com slash news"."""

from __future__ import annotations

import re

from slyther_cli.english.dictionary import lexicon
from slyther_cli.english.numbers import A, Rules

_ENDINGS = (
    "com|org|net|edu|gov|mil|int|info|biz|io|ai|app|dev|tv|fm|eu|uk|us|ca|au|nz|ie|de|fr|es|it|nl|be|ch|at|se|no|"
    "dk|fi|pl|pt|cz|ru|cn|jp|kr|in|br|mx|za|co|me"
)
_HOST = rf"(?:[\w-]{{1,63}}\.){{1,8}}(?:{_ENDINGS}|COM|ORG|NET)(?![\w-])"
_PATH = r"(?::\d{1,5})?(?:[/?#][^\s<>\"]*)?"
_SAID = frozenset("co me in it at be no".split())  # noqa: SIM905 - endings that are said as words
_SIGNS = {".": " dot ", "@": " at ", "/": " slash ", "-": " dash ", "_": " underscore ", ":": " colon ",
          "?": " question mark ", "&": " and ", "=": " equals ", "#": " hash ", "%": " percent ",
          "+": " plus ", "~": " tilde ", "!": " exclamation mark ", "*": " star "}  # fmt: skip


def _address(m: re.Match[str]) -> str:
    """Every sign of it has a name; "https://" is not said, as people do not say it."""
    whole = m[0].rstrip(".,;:!?)]}'\"/*")
    behind = m[0][len(whole) :].lstrip("/")
    text = re.sub(r"^\w+://", "", whole)
    host, path = re.fullmatch(r"([^/?#]*)(.*)", text, re.S).groups()  # type: ignore[union-attr]
    said = "".join(_SIGNS.get(c, c) for c in path)
    return f"{_host(host)}{said}".rstrip() + behind


def _host(host: str) -> str:
    """Its name, or what stands before and after the "@": the ending, and what has no vowel, by letters."""
    pieces = re.split(r"([.@:_+-])", host)
    last = len(pieces) - 1 if ":" not in pieces else pieces.index(":") - 1
    said = [_SIGNS.get(p) or (_label(p, i == last and i > 0) if p else "") for i, p in enumerate(pieces)]
    return "".join(said)


def _label(label: str, ending: bool) -> str:
    small = label.lower()
    short = ending and len(small) == 2 and small not in _SAID
    odd = (
        small.isalpha() and not re.search("[aeiouy]", small) and len(small) <= 5 and small not in lexicon()[0]
    )
    if short or odd or small == "www":
        return " ".join(small).replace("a", A)
    return label if label.isupper() and len(label) < 5 and not ending else small


ADDRESSES: Rules = [
    (re.compile(r"\b[A-Za-z][A-Za-z+.-]{0,15}://[^\s<>\"]+|\b[Ww]{3}\.[\w-]+\.[^\s<>\"]+"), _address),
    (re.compile(r"\b[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"), _address),
    (re.compile(rf"(?<![\w@./-]){_HOST}{_PATH}"), _address),
]  # fmt: skip
"""Before all other rules: their dots and digits are no others'. A bare name must have a known ending."""
