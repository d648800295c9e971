"""CTC decoding in a stream: greedy, and prefix beam search with a word language model (faster: ``compiled``).

Both take log-probabilities [n, vocab] (natural logarithm, blank 0) as they come and give back the tokens
that can no longer change. The result does not depend on how the frames are split into feeds, to the last
bit, and memory does not grow with the recording. Sources: Graves et al. 2006 (CTC); Hannun et al. 2014, arXiv
1408.2873 (prefix search with a word model).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from slyther_cli.decode.hypotheses import NEVER, Node, add, merged, rank
from slyther_cli.decode.tokens import BLANK, Tokenizer
from slyther_cli.decode.words import Token

LogProbs = npt.NDArray[np.floating[Any]]


class GreedyDecoder:
    """The best token of every frame, repeats joined, blanks dropped.

    A token's ``start`` and ``end`` are the frames of its run, its ``score`` the highest log-probability
    in the run (exact however the run is cut by feeds).

    >>> decoder = GreedyDecoder()
    >>> log_probs = np.log([[0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8]])
    >>> [(token.id, token.start, token.end) for token in [*decoder.push(log_probs), *decoder.flush()]]
    [(1, 0, 2), (2, 3, 4)]
    """

    def __init__(self) -> None:
        self._frame = 0
        self._open: Token | None = None

    def push(self, log_probs: LogProbs) -> list[Token]:
        """Tokens whose run has ended within log_probs [n, vocab]."""
        log_probs = checked(log_probs)
        n = len(log_probs)
        if not n:
            return []
        best = log_probs.argmax(axis=1)
        peaks = log_probs[np.arange(n), best]
        starts = np.flatnonzero(np.concatenate(([True], best[1:] != best[:-1])))
        ends = np.append(starts[1:], n)
        done = []
        for start, end, token, score in zip(
            starts.tolist(),
            ends.tolist(),
            best[starts].tolist(),
            np.maximum.reduceat(peaks, starts).tolist(),
            strict=True,
        ):
            run = Token(token, start + self._frame, end + self._frame, score)
            last = self._open
            if last and last.id == token and last.end == run.start:
                self._open = Token(token, last.start, run.end, max(last.score, score))
                continue
            if last:
                done.append(last)
            self._open = None if token == BLANK else run
        self._frame += n
        if self._open and self._open.end < self._frame:
            done.append(self._open)
            self._open = None
        return done

    def partial(self) -> list[Token]:
        """What is heard but not final: the run that touches the last frame."""
        return [self._open] if self._open else []

    def flush(self) -> list[Token]:
        """The last token, if its run touches the end."""
        tokens, self._open = self.partial(), None
        return tokens


class LanguageModel(Protocol):
    """What the beam asks of a word model (:class:`slyther_cli.decode.ngram.NGram` is one)."""

    def begin(self) -> Any:
        """The state at the start of a sentence."""

    def score(self, word: str, state: Any) -> tuple[float, Any]:
        """Natural log-probability of a word after a state, and the state after the word."""

    def has_prefix(self, text: str) -> bool:
        """Whether any known word begins with ``text``."""

    def knows(self, word: str) -> bool:
        """Whether the word is in the vocabulary."""


@dataclass(frozen=True)
class BeamOptions:
    """``beam``       prefixes kept a frame. ``beam_prune_logp``: those further below the best one go too.
    ``token_prune_min_logp``  tokens less likely than this in a frame are not tried, except the best one.
    ``lm_weight``  with a language model, a finished word adds ``lm_weight * log p(word | words before) +
                   word_bonus``, and ``unknown_bonus`` if the model does not know it (already owed
                   while no known word begins like this; every token more ``unknown_letter_bonus``, or
                   one endless unknown word were cheaper than many known ones).
    ``boundary_bonus``, ``blank_bonus``  with an lm, added in every frame to tokens that begin a word, and to
                   blank: of a network that has them too readily.
    ``lm_pause``   frames without a token after which a new word begins, and a new sentence for the lm.
    ``max_delay``  frames that a decision may wait. A token is final when all prefixes agree on it; in a tie
                   the best prefix decides after this long, which bounds memory. None: wait for ever.
    ``merge``      with an lm, of prefixes that differ only in words so long ago that what is still to come
                   will add the same to them, keep the best: more room for the others.

    Raises ValueError.
    """

    beam: int = 100
    beam_prune_logp: float = -12.0
    token_prune_min_logp: float = -1.2
    lm_weight: float = 0.5
    word_bonus: float = 1.0
    unknown_bonus: float = -10.0
    unknown_letter_bonus: float = 0.0
    boundary_bonus: float = 0.0
    blank_bonus: float = 0.0
    lm_pause: int | None = None
    max_delay: int | None = 750
    merge: bool = True

    def __post_init__(self) -> None:
        if self.beam < 1 or self.beam_prune_logp > 0 or (self.max_delay is not None and self.max_delay < 1):
            raise ValueError("beam and max_delay must be at least 1, beam_prune_logp at most 0")


class BeamDecoder:
    """Prefix beam search: for every prefix the exact sum over its alignments, the best prefixes kept.

    ``lm`` scores words; it needs the ``tokenizer``. ``options``: those of :class:`BeamOptions`.

    A token's ``start`` is the frame where new alignments that enter it outweigh all that had entered before;
    ``end`` the last frame where staying in it outweighs blank, plus one; ``score`` what it has at ``start``.
    """

    def __init__(
        self,
        beam: int = 100,
        *,
        tokenizer: Tokenizer | None = None,
        lm: LanguageModel | None = None,
        **options: Any,
    ) -> None:
        o = BeamOptions(beam, **options)
        if lm is not None and (o.lm_weight < 0 or o.unknown_letter_bonus > 0):
            raise ValueError("lm_weight must not be negative, unknown_letter_bonus not above 0")
        if lm is not None and tokenizer is None:
            raise ValueError("a language model needs the tokenizer, to tell the words")
        self.beam, self.beam_prune, self.token_prune = o.beam, o.beam_prune_logp, o.token_prune_min_logp
        self.tokenizer, self.lm, self.max_delay, self.lm_pause = tokenizer, lm, o.max_delay, o.lm_pause
        self.lm_weight, self.word_bonus, self.merge = o.lm_weight, o.word_bonus, o.merge and lm is not None
        self.unknown_bonus, self.unknown_letter_bonus = o.unknown_bonus, o.unknown_letter_bonus
        self._begins = tokenizer.begins_word.tolist() if tokenizer else []
        self._added = o.boundary_bonus * tokenizer.begins_word if tokenizer and lm is not None else None
        if self._added is not None:
            self._added[BLANK] += o.blank_bonus
        # the most that a token adds: one closes an unknown word and opens another
        self._hope = max(o.word_bonus, 0.0) + 2 * max(o.unknown_bonus, 0.0) if lm else 0.0
        self._frame = 0
        self._shift, self._root = 0.0, Node(None, BLANK)  # log-probability shared by all beams, kept apart
        self._root.alive, self._root.score_b, self._root.total = True, 0.0, 0.0
        self._root.state = lm.begin() if lm else None
        self._beams = [self._root]
        self._still = False  # all beams end in blank: another blank frame only shifts them
        self._given, self._finished = 0, False  # frame where the last final token ends

    def push(self, log_probs: LogProbs) -> list[Token]:
        """Tokens that became final within log_probs [n, vocab]."""
        if self._finished:
            raise ValueError("push after flush")
        log_probs = self.adjusted(log_probs)
        n = len(log_probs)
        if not n:
            return []
        tried = log_probs >= self.token_prune
        tried[np.arange(n), log_probs.argmax(axis=1)] = True
        tried &= np.isfinite(log_probs)
        frames, tokens = np.nonzero(tried)
        bounds = np.searchsorted(frames, np.arange(n + 1)).tolist()
        ids, values = tokens.tolist(), log_probs[frames, tokens].astype(np.float64).tolist()
        done: list[Token] = []
        for i in range(n):
            low, high = bounds[i], bounds[i + 1]
            if high - low == 1 and ids[low] == BLANK:
                self._blank(values[low])
            elif high > low:  # else: no token is possible at all; the frame is passed over
                self._step(ids[low:high], values[low:high])
            self._frame += 1
            self._settle(done)
        return done

    def adjusted(self, log_probs: LogProbs) -> LogProbs:
        """log_probs as they are searched."""
        log_probs = checked(log_probs)
        if self._added is None:
            return log_probs
        if log_probs.shape[1] != len(self._added):
            raise ValueError("the alphabet has another size than the log-probabilities")
        return log_probs.astype(np.float64) + self._added

    def partial(self) -> list[Token]:
        """The best prefix beyond the tokens already given out."""
        return self._path(max(self._beams, key=rank))

    def flush(self) -> list[Token]:
        """The rest of the best prefix, its last word scored. The decoder is used up."""
        for node in self._beams:
            if self.lm:
                node.bonus = self._closed(node)[0]
        tokens = self.partial()
        best = max(self._beams, key=rank)
        self.score = best.total + best.bonus + self._shift
        self._beams, self._finished = [self._root], True
        self._root.children = {}
        return tokens

    def _path(self, node: Node) -> list[Token]:
        """The tokens of a prefix beyond the root."""
        nodes = []
        while node is not self._root and node.parent is not None:
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        given = self._given
        latest = [node.start for node in nodes[1:]] + [self._frame]
        tokens = [self._timed(node, frame) for node, frame in zip(nodes, latest, strict=False)]
        self._given = given
        return tokens

    def _blank(self, value: float) -> None:
        """A frame where only blank is tried."""
        if not self._still:
            for node in self._beams:
                node.score_b, node.score_n = node.total, NEVER
            self._still = True
        self._shift += value

    def _step(self, ids: list[int], values: list[float]) -> None:
        """One frame: every beam takes blank, stays in its token, or is extended by a tried token."""
        frame, beams = self._frame, self._beams
        heard = dict(zip(ids, values, strict=True))
        blank = heard.pop(BLANK, NEVER)
        old = [(node, node.score_b, node.score_n, node.total) for node in beams]
        for node, _, score_n, total in old:
            node.score_b = total + blank
            node.score_n = score_n + heard.get(node.id, NEVER)
            if node.score_n > node.score_b:
                node.end = frame + 1
        fresh: list[Node] = []
        best = max(max(node.score_b, node.score_n) + node.bonus for node in beams)  # of this frame, so far
        for token, value in sorted(heard.items(), key=lambda item: -item[1]):
            for node, score_b, _, total in old:
                entering = (score_b if token == node.id else total) + value
                if entering == NEVER:
                    continue
                child = node.children.get(token)
                if child is None or not child.alive:
                    if entering + node.bonus + self._hope < best + self.beam_prune:
                        continue  # it would be pruned at once
                    if child is None:
                        child = self._extend(node, token)
                    child.alive, child.score_b, child.score_n, child.total = True, NEVER, NEVER, NEVER
                    fresh.append(child)
                    best = max(best, entering + child.bonus)
                if entering > add(child.score_b, child.score_n):
                    child.start, child.end, child.peak = frame, frame + 1, value
                child.score_n = add(child.score_n, entering)
        beams += fresh
        self._still = False
        self._prune()

    def _prune(self) -> None:
        for node in self._beams:
            node.total = add(node.score_b, node.score_n)
        lowest = max(map(rank, self._beams)) + self.beam_prune
        kept = [node for node in self._beams if rank(node) >= lowest and node.total > NEVER]
        if self.merge or len(kept) > self.beam:
            kept.sort(key=rank, reverse=True)  # stable: ties in order of age
        if self.merge:
            kept = merged(kept)
        kept = kept[: self.beam]
        chosen = set(map(id, kept))
        self._drop([node for node in self._beams if id(node) not in chosen])
        self._beams = kept
        top = max(node.total for node in kept)  # keep the numbers near 0 over hours
        self._shift += top
        for node in kept:
            node.score_b -= top
            node.score_n -= top
            node.total -= top

    def _drop(self, nodes: list[Node]) -> None:
        for node in nodes:
            node.alive = False
            step: Node | None = node
            while step is not None and not step.alive and not step.children and step.parent is not None:
                step.parent.children.pop(step.id, None)
                step = step.parent

    def _settle(self, done: list[Token]) -> None:
        """Give out what all beams share; break a tie that has stood too long."""
        while True:
            while not self._root.alive and len(self._root.children) == 1:
                (child,) = self._root.children.values()
                if child.alive and child.score_n >= child.score_b:
                    break  # still sounding
                self._advance(child, done)
            oldest = self._frame - (self.max_delay or self._frame + 1)
            if all(child.start > oldest for child in self._root.children.values()):
                return
            branch = best = max(self._beams, key=rank)
            while best is not self._root:
                branch, best = best, best.parent or self._root
            if branch is self._root:  # nothing is said beyond what was given out
                self._drop([node for node in self._beams if node is not branch])
                self._beams = [branch]
                return
            self._beams, others = self._parted(branch)
            self._drop(others)
            self._advance(branch, done)

    def _parted(self, branch: Node) -> tuple[list[Node], list[Node]]:
        """The beams that go through ``branch``, and the others."""
        inside: list[Node] = []
        outside: list[Node] = []
        for node in self._beams:
            top: Node | None = node
            while top is not None and top is not branch:
                top = top.parent
            (outside if top is None else inside).append(node)
        return inside, outside

    def _advance(self, child: Node, done: list[Token]) -> None:
        """The only child left becomes the root: its token is final."""
        self._root = child
        child.parent = None
        following = [node.start for node in child.children.values()]
        latest = min(following) if following and not child.alive else self._frame
        done.append(self._timed(child, latest))

    def _timed(self, node: Node, latest: int) -> Token:
        """The token of a node, not before the one given out last; ends at ``latest`` or before."""
        start = max(node.start, self._given)
        end = min(max(min(node.end, latest), start + 1), self._frame)
        self._given = end
        return Token(node.id, min(start, end), end, node.peak)

    def _extend(self, node: Node, token: int) -> Node:
        child = node.children[token] = Node(node, token)
        if not self.lm or self.tokenizer is None:
            return child
        surface = self.tokenizer.surface(token)
        paused = self.lm_pause is not None and self._frame - node.end >= self.lm_pause
        begins = paused or self._begins[token]
        if begins:
            child.fixed, child.state = self._closed(node)
            child.text = surface.strip()
        else:
            child.fixed, child.state, child.text = node.fixed, node.state, node.text + surface
        if paused:
            child.state = self.lm.begin()
        if node.owing and not begins:
            child.owing, child.owed = True, node.owed + self.unknown_letter_bonus
        elif child.text and not self.lm.has_prefix(child.text):
            child.owing, child.owed = True, self.unknown_bonus
        child.bonus = child.fixed + child.owed
        return child

    def _closed(self, node: Node) -> tuple[float, Any]:
        """Language score and state once the open word of a prefix is finished."""
        if not node.text or self.lm is None:
            return node.fixed, node.state
        value, state = self.lm.score(node.text, node.state)
        value = self.lm_weight * value + self.word_bonus
        if not self.lm.knows(node.text):
            value += node.owed if node.owing else self.unknown_bonus
        return node.fixed + value, state


def checked(log_probs: LogProbs) -> LogProbs:
    """As an array. Raises ValueError if it is not [n, vocab]."""
    log_probs = np.asarray(log_probs)
    if log_probs.ndim != 2 or log_probs.shape[1] < 1:
        raise ValueError(f"expected log-probabilities of shape (n, vocab), not {log_probs.shape}")
    return log_probs
