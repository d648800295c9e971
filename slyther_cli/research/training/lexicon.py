"""Making ``english/lexicon_en.xz``: the words of a pronouncing dictionary, and spelling rules learnt from it;
and ``english/variants_en.xz``: the words' other pronunciations.

    cd slyther_cli/english
    python -m slyther_cli.research.training.lexicon cmudict.dict lexicon_en.xz variants_en.xz

The rules say what a letter becomes between its neighbours: nothing, one phone, or two. Letters and phones are
aligned by Viterbi training (as in Black, Lenzo & Pagel 1998, "Issues in building general letter to sound
rules"); then, for windows that grow around the letter, a rule is kept where it says something else than the
narrower window's, and was seen often enough. The widest rule that fits decides.
"""

from __future__ import annotations

import lzma
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from slyther_cli.english.letter_rules import WINDOWS, lookup, windows

SEEN = 3
Word = tuple[str, tuple[str, ...]]


def read_dictionary(path: Path) -> list[Word]:
    """The first pronunciation of every word made of letters and apostrophes."""
    words: dict[str, tuple[str, ...]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.partition("#")[0].split()
        if re.fullmatch("[a-z']+", word) and phones:
            words.setdefault(word, tuple(phones))
    return sorted(words.items())


def read_variants(path: Path) -> list[Word]:
    """The pronunciations without stress that a word has beside its first one ("the(2) DH IH0")."""
    first = {word: [_plain(phones)] for word, phones in read_dictionary(path)}
    for line in path.read_text(encoding="utf-8").splitlines():
        word, *phones = line.partition("#")[0].split()
        name, mark, _ = word.partition("(")
        if mark and name in first and _plain(phones) not in first[name]:
            first[name].append(_plain(phones))
    return [(word, phones) for word, ways in first.items() for phones in ways[1:]]


def _plain(phones: Iterable[str]) -> tuple[str, ...]:
    return tuple(phone.rstrip("012") for phone in phones)


def align(words: Iterable[Word], rounds: int = 4) -> list[tuple[str, tuple[tuple[str, ...], ...]]]:
    """Each word with what each of its letters becomes. Words that cannot be aligned are left out."""
    usable = [(w, p) for w, p in words if "'" not in w and len(p) <= 2 * len(w)]
    cost: dict[tuple[str, tuple[str, ...]], float] = {}
    out: list[tuple[str, tuple[tuple[str, ...], ...]]] = []
    for _ in range(rounds):
        out = [(w, path) for w, p in usable if (path := _best(w, p, cost))]
        counts = Counter((letter, said) for w, path in out for letter, said in zip(w, path, strict=True))
        totals: Counter[str] = Counter()
        for (letter, _said), n in counts.items():
            totals[letter] += n
        cost = {key: -math.log(n / totals[key[0]]) for key, n in counts.items()}
    return out


def _best(word: str, phones: tuple[str, ...], cost: dict) -> tuple[tuple[str, ...], ...]:
    """The cheapest way to give every letter 0, 1 or 2 of the phones; () if there is none."""
    unknown = 12.0 if cost else 0.0
    price = [[math.inf] * (len(phones) + 1) for _ in range(len(word) + 1)]
    back = [[0] * (len(phones) + 1) for _ in range(len(word) + 1)]
    price[0][0] = 0.0
    for i, letter in enumerate(word):
        for j in range(len(phones) + 1):
            if price[i][j] == math.inf:
                continue
            for n in (1, 0, 2):
                if j + n <= len(phones):
                    own = cost.get((letter, phones[j : j + n]), unknown) if cost else float(n != 1)
                    if price[i][j] + own < price[i + 1][j + n]:
                        price[i + 1][j + n], back[i + 1][j + n] = price[i][j] + own, n
    if price[-1][-1] == math.inf:
        return ()
    path, j = [], len(phones)
    for i in range(len(word), 0, -1):
        n = back[i][j]
        path.append(phones[j - n : j])
        j -= n
    return tuple(reversed(path))


def learn_rules(aligned: Iterable[tuple[str, tuple[tuple[str, ...], ...]]]) -> dict[str, str]:
    """Window, as "left[letter]right" with "#" for a word's edge -> phones, joined by blanks."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for word, path in aligned:
        for i, said in enumerate(path):
            for key in windows(word, i):
                counts[key][" ".join(said)] += 1
    rules: dict[str, str] = {}
    for level, (left, right) in enumerate(WINDOWS):
        for key in sorted(k for k in counts if k.index("[") == left and len(k) == left + 3 + right):
            phones, n = counts[key].most_common(1)[0]
            if (n >= SEEN or level == 0) and phones != lookup(rules, narrower(key, level)):
                rules[key] = phones
    return rules


def narrower(key: str, level: int) -> list[str]:
    """The keys of the windows within one of ``WINDOWS[level]``, widest first."""
    at = key.index("[")
    left, letter, right = key[:at], key[at : at + 3], key[at + 3 :]
    return [f"{left[len(left) - lf :]}{letter}{right[:rt]}" for lf, rt in reversed(WINDOWS[:level])]


def main(source: str, target: str, others: str) -> None:
    words, variants = read_dictionary(Path(source)), read_variants(Path(source))
    rules = learn_rules(align(words))
    licence = (Path(source).parent / "LICENSE").read_text(encoding="utf-8")
    notice = [f"# {line}" for line in licence.splitlines()]
    listed = [f"{word} {' '.join(phones)}" for word, phones in words]
    listed += ["", *(f"{key} {said}" for key, said in sorted(rules.items()))]
    size = _pack([*notice, *listed], target)
    also = _pack([*notice, *(f"{word} {' '.join(phones)}" for word, phones in variants)], others)
    print(
        f"{len(words)} words, {len(rules)} rules, {size} bytes; {len(variants)} variants, {also} bytes",
        file=sys.stderr,
    )


def _pack(lines: Iterable[str], target: str) -> int:
    packed = lzma.compress("\n".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)
    Path(target).write_bytes(packed)
    return len(packed)


if __name__ == "__main__":
    main(*sys.argv[1:])
