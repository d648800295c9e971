"""Beam search over phones: hypotheses walk a tree of the words' pronunciations, a word model scores them.

Two hypotheses that stand at the same node of the tree, after words that are the same to the language model,
will fare alike: they become one, with the sum of their probabilities and the better one's words. While a word
is open its hypothesis carries the best score that a word below its node can have without context
(look-ahead); once it is closed, by the first phone of the next one, its own score takes that one's place.
Sources: Ney and Ortmanns 2000 ("Progress in dynamic programming search for LVCSR"); Graves et al. 2006 (CTC).

The tokens of a word are its phones; the first one's id also tells the word (:class:`SpokenWords`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from slyther_cli.decode.ctc import LogProbs, checked
from slyther_cli.decode.hypotheses import NEVER, add
from slyther_cli.decode.lexicon import Lexicon
from slyther_cli.decode.native_beam import CompiledSearch, _native, _words
from slyther_cli.decode.ngram import NGram
from slyther_cli.decode.phones import PHONES, PhoneTokenizer
from slyther_cli.decode.tokens import BLANK, Tokenizer
from slyther_cli.decode.words import Token


class SpokenWords(Tokenizer):
    """The alphabet of a lexicon beam's tokens: the first phone of word w has the id
    ``unit + size * (w + 1)``, every other phone that of its unit, below ``size``. Shown are the words, of a
    first phone without one the phones."""

    case = "lower"

    def __init__(self, lexicon: Lexicon, phones: PhoneTokenizer) -> None:
        self._name, self._phones, self.size = lexicon.name, phones, phones.size
        self.begins_word = _Begins(self)  # type: ignore[assignment]

    def begins(self, token: int) -> bool:
        return bool(self._phones.begins_word[token % self.size])

    def encode(self, text: str) -> list[int]:
        return self._phones.encode(text)

    def save(self, folder: Path) -> None:
        self._phones.save(folder)

    def surface(self, token: int) -> str:
        """The word whose first phone this is, or else the phone."""
        return f" {self._name(token // self.size - 1)}" if token >= self.size else self._phones.surface(token)

    def decode(self, ids: Iterable[int]) -> str:
        shown, named = [], False
        for token in ids:
            named = token >= self.size if self.begins(token) else named
            if token >= self.size or not named:
                shown.append(self.surface(token))
        return "".join(shown).strip()

    def shows(self, token: int) -> bool:
        return token % self.size != BLANK


class _Begins:
    def __init__(self, words: SpokenWords) -> None:
        self._words = words

    def __getitem__(self, token: int) -> bool:
        return self._words.begins(token)


@dataclass
class LexiconOptions:
    """``beam``: hypotheses kept a frame; those further below the best one than ``beam_prune_logp`` go too.
    ``token_prune_min_logp``: units less likely than this are not tried, except the best one. A word adds
    ``lm_weight * log p(word | words before) + word_bonus``; ``blank_bonus`` is added to blank, and of the
    probability of a phone that begins a word, or goes on in one, the share ``tied`` is that of both together.
    ``lm_pause``: frames without a phone after which a new sentence begins for the language model.
    ``max_delay``: frames that a decision may wait.

    A token's ``start`` is the frame where new alignments that enter it outweigh all that had entered before;
    ``end`` the last frame where staying in it outweighs blank, plus one; ``score`` what it has at ``start``.
    """

    beam: int = 300
    beam_prune_logp: float = -14.0
    token_prune_min_logp: float = -6.0
    lm_weight: float = 0.6
    word_bonus: float = 0.0
    blank_bonus: float = 0.0
    tied: float = 0.0
    lm_pause: int | None = None
    max_delay: int = 750

    def __post_init__(self) -> None:
        if self.beam < 1 or self.beam_prune_logp > 0 or self.max_delay < 1:
            raise ValueError("beam and max_delay must be at least 1, beam_prune_logp at most 0")
        if self.lm_weight < 0 or not 0 <= self.tied <= 1:
            raise ValueError("lm_weight must not be negative, tied from 0 to 1")

    def adjusted(self, log_probs: LogProbs, size: int) -> LogProbs:
        """log_probs [n, size] as they are searched, float64."""
        found = checked(log_probs).astype(np.float64)
        if found.shape[1] != size:
            raise ValueError("the alphabet has another size than the log-probabilities")
        half = (size - 1) // 2
        if self.tied:
            first, inner = found[:, 1 : half + 1], found[:, half + 1 :]
            both = np.logaddexp(first, inner) + np.log(self.tied)
            own = np.log1p(-self.tied) if self.tied < 1 else NEVER
            found[:, 1:] = np.logaddexp(np.hstack([first, inner]) + own, np.hstack([both, both]))
        found[:, BLANK] += self.blank_bonus
        return found


def lexicon_beam(lexicon: Lexicon, lm: NGram, options: LexiconOptions) -> LexiconBeam | PlainLexiconBeam:
    """The fastest search that there is here."""
    if _native is None or not hasattr(_native, "LexiconBeam"):
        return PlainLexiconBeam(lexicon, lm, options)
    return LexiconBeam(lexicon, lm, options)


class LexiconBeam(CompiledSearch):
    """The compiled search (native/lexicon.cpp)."""

    def __init__(self, lexicon: Lexicon, lm: NGram, options: LexiconOptions) -> None:
        tree, words = _compiled(lexicon, lm)
        o = options
        search = _native.LexiconBeam(
            tree,
            words,
            beam=o.beam,
            beam_prune=o.beam_prune_logp,
            token_prune=o.token_prune_min_logp,
            lm_weight=o.lm_weight,
            word_bonus=o.word_bonus,
            lm_pause=-1 if o.lm_pause is None else o.lm_pause,
            max_delay=o.max_delay,
        )
        super().__init__(search, lambda log_probs: o.adjusted(log_probs, PHONE_UNITS), o.max_delay)


PHONE_UNITS = PhoneTokenizer().size


def _compiled(lexicon: Lexicon, lm: NGram) -> tuple[Any, Any]:
    """Made once a lexicon."""
    if lexicon.compiled is None:
        names, starts, phones = lexicon.spoken
        tree = _native.LexiconTree(starts, phones, names, lexicon.model, lexicon.extra)
        lexicon.compiled = tree, _words(lm)
    return lexicon.compiled


class _Trace(NamedTuple):
    before: Any  # the _Trace of the phone before, or None
    unit: int
    word: int  # that which ended before this phone, or -1
    start: int
    peak: float
    last: list[int]  # one number: where it ends


@dataclass
class _Hypothesis:
    state: Any
    node: _Node
    score_b: float = NEVER
    score_n: float = NEVER
    trace: _Trace | None = None
    reached: float = NEVER  # by what its trace tells of

    @property
    def total(self) -> float:
        return add(self.score_b, self.score_n)


class Entry(NamedTuple):
    """A word that ends at a node: its number, its place in the language model, what is added to its score."""

    name: int
    model: int
    extra: float


class _Node:
    def __init__(self, unit: int) -> None:
        self.unit, self.ahead = unit, NEVER
        self.children: dict[int, _Node] = {}
        self.entries: list[Entry] = []


class PlainLexiconBeam:
    """The same search in plain Python, for machines without the compiled extension; slow."""

    def __init__(self, lexicon: Lexicon, lm: NGram, options: LexiconOptions) -> None:
        self.max_delay, self.score, self._options, self._lm = options.max_delay, 0.0, options, lm
        self._name, self._root = lexicon.name, _Node(BLANK)
        for name, phones, model, extra in lexicon.entries():
            node = self._root
            for i, phone in enumerate(phones):
                unit = 1 + phone + len(PHONES) * (i > 0)
                node = node.children.setdefault(unit, _Node(unit))
            node.entries.append(Entry(name, model, extra))
        self._look_ahead(self._root)
        self._now = [_Hypothesis(lm.begin(), self._root, 0.0)]
        self._frame = self._given = 0
        self._final: _Trace | None = None  # the last phone that all hypotheses share
        self._open: list[_Trace] = []  # final phones of a word that is not
        self._shift, self._finished = 0.0, False

    def _look_ahead(self, node: _Node) -> float:
        found = [self._look_ahead(child) for child in node.children.values()]
        found += [self._score(entry, ())[0] for entry in node.entries]
        node.ahead = max(found, default=NEVER)
        return node.ahead

    def _score(self, entry: Entry, state: Any) -> tuple[float, Any]:
        word = self._name(entry.name) if entry.model >= 0 else "\0"
        value, after = self._lm.score(word, state)
        return self._options.lm_weight * value + self._options.word_bonus + entry.extra, after

    def push(self, log_probs: LogProbs) -> list[Token]:
        """Tokens that became final within log_probs [n, vocab]."""
        if self._finished:
            raise ValueError("push after flush")
        done: list[Token] = []
        for row in self._options.adjusted(log_probs, PHONE_UNITS):
            self._step(row)
            self._frame += 1
            self._settle(done)
        return done

    def _step(self, row: np.ndarray) -> None:
        o, top = self._options, int(row.argmax())
        if not np.isfinite(row[top]):
            return
        heard = {
            u: float(row[u])
            for u in np.flatnonzero(np.isfinite(row) & (row >= o.token_prune_min_logp)).tolist()
        }
        heard[top] = float(row[top])
        following: dict[Any, _Hypothesis] = {}
        best = NEVER
        for one in self._now:
            b = one.total + heard.get(BLANK, NEVER)
            n = one.score_n + heard.get(one.node.unit, NEVER) if one.node.unit else NEVER
            if max(b, n) > NEVER:
                following[one.state, id(one.node)] = _Hypothesis(
                    one.state, one.node, b, n, one.trace, add(b, n)
                )
                if n > b and one.trace:
                    one.trace.last[0] = self._frame + 1
                best = max(best, b, n)
        for one in self._now:
            for state, added, word, node in self._ways(one, heard):
                for unit, child in sorted(node.children.items()):
                    if unit not in heard:
                        continue
                    value = (one.score_b if unit == one.node.unit else one.total) + added
                    value += heard[unit] + child.ahead
                    if value >= best + o.beam_prune_logp and value > NEVER:
                        to = following.setdefault((state, id(child)), _Hypothesis(state, child))
                        if value > to.reached:
                            to.reached = value
                            last = [self._frame + 1]
                            to.trace = _Trace(one.trace, unit, word, self._frame, heard[unit], last)
                        to.score_n = add(to.score_n, value)
                        best = max(best, value)
        self._prune(list(following.values()))

    def _ways(self, one: _Hypothesis, heard: dict[int, float]) -> list[tuple[Any, float, int, _Node]]:
        """How a hypothesis may go on: the language model's state, what is added, the word that is over (or
        -1), the node whose children come next."""
        if one.node is self._root:
            return [(one.state, 0.0, -1, self._root)]
        ways = [(one.state, -one.node.ahead, -1, one.node)]
        assert one.trace is not None
        paused = self._options.lm_pause is not None
        paused = paused and self._frame - one.trace.last[0] >= self._options.lm_pause  # type: ignore[operator]
        for entry in one.node.entries:
            value, after = self._score(entry, one.state)
            after = self._lm.begin() if paused else after
            ways.append((after, value - one.node.ahead, entry.name, self._root))
        return ways

    def _prune(self, found: list[_Hypothesis]) -> None:
        if not found:
            return
        top = max(one.total for one in found)
        found = [one for one in found if one.total >= top + self._options.beam_prune_logp]
        self._now = sorted(found, key=lambda one: -one.total)[: self._options.beam]
        for one in self._now:
            one.score_b -= top
            one.score_n -= top
        self._shift += top

    def _path(self, trace: _Trace | None) -> list[_Trace]:
        """The phones beyond those that are final."""
        path = []
        while trace is not self._final and trace is not None:
            path.append(trace)
            trace = trace.before
        return path[::-1]

    def _settle(self, done: list[Token]) -> None:
        best = max(self._now, key=lambda one: one.total)
        while path := self._path(best.trace):
            others = [self._path(one.trace) for one in self._now]
            if not all(other and other[0] is path[0] for other in others):
                if path[0].start > self._frame - self.max_delay:
                    return
                pairs = zip(self._now, others, strict=True)
                self._now = [one for one, other in pairs if other and other[0] is path[0]]
            self._close(self._open, path[0].word, path[0].start, done)
            self._open.append(path[0])
            self._final = path[0]

    def _close(self, opened: list[_Trace], word: int, latest: int, done: list[Token]) -> None:
        if word < 0:
            return
        bounds = [trace.start for trace in opened[1:]] + [latest]
        for i, (trace, bound) in enumerate(zip(opened, bounds, strict=True)):
            start = max(trace.start, self._given)
            self._given = end = min(max(min(trace.last[0], bound), start + 1), self._frame)
            unit = trace.unit if i else trace.unit + PHONE_UNITS * (word + 1)
            done.append(Token(unit, min(start, end), end, trace.peak))
        opened.clear()

    def partial(self) -> list[Token]:
        """The best hypothesis beyond the tokens already given out, without a word that is not over."""
        return self._best(last=False)[0]

    def flush(self) -> list[Token]:
        """The rest of the best hypothesis whose last word is over. The decoder is used up."""
        tokens, self.score = self._best(last=True)
        self._finished = True
        return tokens

    def _best(self, last: bool) -> tuple[list[Token], float]:
        ends = [(one.total, one, -1) for one in self._now if one.node is self._root]
        for one in self._now:
            for entry in one.node.entries:
                value = one.total + self._score(entry, one.state)[0] - one.node.ahead
                ends.append((value, one, entry.name))
        best = max(self._now, key=lambda one: one.total)
        most, chosen, word = max(ends, key=lambda end: end[0], default=(NEVER, best, -1))
        if not last and best.total > chosen.total:
            chosen, word = best, -1
        done: list[Token] = []
        opened, given = list(self._open), self._given
        for trace in self._path(chosen.trace):
            self._close(opened, trace.word, trace.start, done)
            opened.append(trace)
        self._close(opened, word, self._frame, done)
        self._given = given
        return done, most + self._shift
