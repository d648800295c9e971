"""Making ``english/word_classes_en.xz``: how the words around a place tell what kind of word stands in it.

    python -m slyther_cli.research.training.word_classes slyther_cli/english/word_classes_en.xz novels/*.txt

No text with tagged words is needed: words that are of one kind only show where words of that kind stand. A
softmax regression over ``english.word_classes.features`` learns that, each class counting the same.
"""

from __future__ import annotations

import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from slyther_cli.english.word_classes import CLASSES, SCALE, features

KNOWN, FEWEST, MOST = 1500, 20, 60_000
"""Words that are known by themselves; how often a feature was seen; examples of each class."""

_NOUNS = """king queen mother father brother sister daughter son wife husband gentleman girl kitchen garden
city river church army enemy castle village window door table chair bottle horse tree sun moon sea town soul
death truth evening morning year month week winter summer autumn story captain colonel soldier sailor prince
princess servant child uncle aunt cousin bird cat wolf lion hill mountain valley island lake meadow forest
flower leaf idea opinion method fact event accident failure success difficulty danger room hat coat picture
poem song carriage ship boat wine money gold silver beauty happiness knowledge wisdom courage strength
weather science religion government company society nation people music bread meat butter sugar wood glass
blood flesh"""
_PLURALS = """kings queens mothers brothers sisters daughters sons wives husbands gentlemen girls gardens
cities rivers churches armies enemies castles villages windows doors tables chairs bottles horses trees
towns souls years months weeks stories captains soldiers sailors princes servants children uncles aunts
cousins birds cats wolves lions hills mountains valleys islands lakes meadows forests flowers leaves ideas
opinions methods facts events accidents difficulties dangers rooms hats coats pictures poems songs carriages
ships boats nations"""
_VERBS = """bring give tell provide receive destroy forget obey deliver arrive agree allow follow go see
know take make hear keep believe think speak write eat send begin remain seem appear understand remember
learn teach choose lose prove sell spend lend marry carry bury throw grow persuade convince admit confess
explain describe inform enjoy protect defend accept prevent observe perceive perform pursue require obtain
maintain suffer depend enter forgive deny decide consider"""
_THIRDS = """brings gives tells provides receives destroys forgets obeys delivers arrives agrees allows
follows goes sees knows takes makes hears keeps believes thinks speaks writes eats sends begins seems
appears understands remembers learns teaches chooses loses proves sells spends marries carries throws grows
admits explains describes enjoys accepts prevents observes perceives performs requires obtains maintains
suffers depends enters considers"""
_PASTS = """went knew took gave ate began grew threw drew flew came became forgot wore sang rang swam drove
rode stole froze wrote arose chose fell shook blew"""
_PARTICIPLES = """gone seen known taken given written eaten begun grown thrown drawn flown forgotten chosen
fallen worn sung driven ridden stolen frozen forgiven shaken"""
_ADJECTIVES = """large small happy unhappy beautiful ugly strange great good bad young old poor rich strong
weak tall bright deep wide narrow thin thick heavy clever stupid foolish wise honest gentle cruel proud
brave famous useful useless careful necessary possible impossible terrible horrible wonderful splendid
magnificent pleasant serious curious anxious nervous angry hungry thirsty pale certain different similar
entire real true false foreign modern ancient natural political religious moral physical military royal holy
noble faithful dangerous difficult easy silent"""
_LISTS = (_NOUNS, _PLURALS, _VERBS, _THIRDS, _PASTS, _PARTICIPLES, _ADJECTIVES)
CLASS_OF = {word: name for name, words in zip(CLASSES, _LISTS, strict=True) for word in words.split()}


def sentences(text: str) -> Iterator[list[str]]:
    """The words in small letters and the marks of every sentence, as ``normalise`` would give them."""
    text = re.sub(r"--+|[–—]", ",", text.replace("\u2019", "'")).lower()
    for part in re.split(r"(?<=[.?!])\s|\n\s*\n", text):
        yield re.findall(r"[a-z]+(?:'[a-z]+)*|[,.?!;:]", part)


def examples(paths: Sequence[Path]) -> Iterator[tuple[str, list[str], int]]:
    """(class, sentence, place) of all words that are of one class only."""
    for path in paths:
        for tokens in sentences(path.read_text(encoding="utf-8", errors="replace")):
            for at, token in enumerate(tokens):
                if token in CLASS_OF:
                    yield CLASS_OF[token], tokens, at


def learn(paths: Sequence[Path], seed: int = 0) -> tuple[list[str], dict[str, list[int]], float]:
    """The known words, the weights of all features, and the share of right classes among held out places."""
    counts: Counter[str] = Counter()
    for path in paths:
        for tokens in sentences(path.read_text(encoding="utf-8", errors="replace")):
            counts.update(tokens)
    known = [word for word, _ in counts.most_common(KNOWN)]
    kept: dict[str, list[list[str]]] = {name: [] for name in CLASSES}
    for name, tokens, at in examples(paths):
        if len(kept[name]) < MOST:
            kept[name].append([*features(tokens, at, frozenset(known))])
    seen = Counter(feature for rows in kept.values() for row in rows for feature in row)
    number = {feature: i for i, (feature, count) in enumerate(seen.items()) if count >= FEWEST}
    number = {feature: i for i, feature in enumerate(number, 1)}  # 0 is every other feature
    rows, wanted = [], []
    for i, name in enumerate(CLASSES):
        for row in kept[name]:
            rows.append([number.get(feature, 0) for feature in row])
            wanted.append(i)
    x, y = torch.tensor(rows), torch.tensor(wanted)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(x), generator=generator)
    held, order = order[: len(x) // 20], order[len(x) // 20 :]
    share = torch.bincount(y).double().reciprocal().float()
    share = share / share.mean()
    table = torch.nn.EmbeddingBag(len(number) + 1, len(CLASSES), mode="sum", padding_idx=0)
    torch.nn.init.zeros_(table.weight)
    optimizer = torch.optim.Adam(table.parameters(), lr=0.02)
    for _ in range(6):
        for part in order[torch.randperm(len(order), generator=generator)].split(4096):
            loss = torch.nn.functional.cross_entropy(table(x[part]), y[part], share)
            loss = loss + 2e-6 * table.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    right = float((table(x[held]).argmax(1) == y[held]).double().mean())
    steps = (table.weight.detach() / SCALE).round().clamp(-127, 127).int().tolist()
    return known, {feature: steps[i] for feature, i in number.items() if any(steps[i])}, right


if __name__ == "__main__":
    target, *texts = map(Path, sys.argv[1:])
    known, weights, right = learn(texts)
    lines = [" ".join(known), *(f"{k}\t{' '.join(map(str, v))}" for k, v in sorted(weights.items()))]
    target.write_bytes(lzma.compress(("\n".join(lines) + "\n").encode(), preset=9))
    print(f"{len(weights)} features; right on held out places: {right:.3f}")
