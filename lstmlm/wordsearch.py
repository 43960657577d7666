"""The likeliest words that tokens can spell from a place on, and how much is known of each (see `completion.py`).

A front is a node whose next tokens are looked at: what they spell together is the beginning of a word, or of what was typed.
Its tokens are taken likeliest first, whichever front they stand at, several in one step of the model.

S places in the sorted vocabulary, and `<eos>`
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from lstmlm.covers import cover
from lstmlm.durations import Stop
from lstmlm.lookahead import Lookahead, Node, Ways
from lstmlm.spelling import INNER_MARKS, Spelling, Typed, is_word, is_word_character, word_end

_AT_ONCE, _AT_MOST = 8, 32
"""Nodes in one step of the model: while the likeliest words are sought, and where all are needed."""
_LONGEST = {"bpe": 16, "char": 40, "byte": 60}
"""Tokens of the longest word that is looked for, beyond what was typed."""
_MOST_NODES = 600
"""What a search looks at, at most: for what was typed, and for words."""
_LIGHT = 1e-3
"""Of the share that a word needs to count: fronts with less left are not looked at one by one."""
_RARE = 1e-4
"""What is less likely is not looked for."""
_MARKS = tuple(INNER_MARKS)


@dataclass(frozen=True)
class Found:
    """The likeliest words, with their probabilities given what was typed, and by how much these may be off together."""

    words: list[tuple[str, float]]
    mass_bound: float


class _Front:
    """A node whose next tokens are looked at."""

    __slots__ = ("_heaviest", "_settled_at", "below", "depth", "left", "node", "share", "spelled", "ways")

    def __init__(self, node: Node, spelled: bytes, share: float, ways: Ways, depth: int) -> None:
        self.node, self.spelled, self.share, self.ways, self.depth = node, spelled, share, ways, depth
        self.left = share * ways.total
        """p of the tokens that were not taken."""
        self.below: dict[int, _Front | None] = {}
        """By token that was taken, the front there; `None` where the word was over."""
        self._heaviest, self._settled_at = math.inf, -1

    def __iter__(self) -> Iterator[tuple[int, float]]:
        """Places and shares of the tokens that were not taken, the likeliest first."""
        for place, probability in self.ways:
            if place not in self.below:
                yield place, self.share * probability

    def take(self, place: int) -> float:
        """Its share, which is no longer left."""
        share = self.share * self.ways.probability(place)
        self.below[place] = None
        self.left = max(0.0, self.left - share)
        return share

    @property
    def bound(self) -> float:
        """What one word can still have from here, at most: what is left, or what was found when it was last looked for."""
        return min(self.left, self._heaviest)

    @property
    def settled(self) -> bool:
        """Whether that is known as well as it can be."""
        return self._settled_at == len(self.below)

    def settle(self, spelling: Spelling) -> None:
        """Find the largest probability that one word can still have from here."""
        self._heaviest, self._settled_at = spelling.heaviest_chain(self._left_S(spelling))[0], len(self.below)

    def lightening(self, spelling: Spelling, enough: float) -> Iterator[int]:
        """Tokens to take, one after the other, until no word can have as much from here."""
        left_S = self._left_S(spelling)
        heaviest, place = spelling.heaviest_chain(left_S)
        while heaviest >= enough and left_S[place] > 0:
            yield place
            left_S[place] = 0.0
            heaviest, place = spelling.heaviest_chain(left_S)

    def _left_S(self, spelling: Spelling) -> NDArray[np.float64]:  # noqa: N802
        left_S = np.zeros(len(spelling.tokens_S))
        left_S[self.ways.on] = self.share * self.ways.row_S[self.ways.on]
        left_S[list(self.below)] = 0.0
        return left_S


class WordSearch:
    """One search; the tree it looks at is kept by its owner."""

    def __init__(
        self,
        lookahead: Lookahead,
        spelling: Spelling,
        root: Node,
        cut: Typed,
        *,
        banned: Collection[str] = (),
        tolerance: float,
        stop: Stop | None = None,
    ) -> None:
        """`tolerance` is the probability that may stay unknown in the words that are returned together.

        `stop` is asked between two steps of the model; when it says so, the best so far has to do.
        """
        self._lookahead, self._spelling, self._root = lookahead, spelling, root
        self._pending, self._banned, self._stop = cut.pending, frozenset(banned), stop
        self._tolerance = tolerance
        self._at_most = _AT_MOST if stop is None else _AT_ONCE  # one that may be stopped is never far from the end of a step
        self._word = spelling.tokenizer.normalize(cut.word)
        self._known = spelling.tokenizer.normalize(cut.known).encode()
        self._start = len(cut.pending) + len(self._known) - len(self._word.encode())
        """Where the word begins in what is known and spelled."""
        self._longest = _LONGEST[spelling.tokenizer.kind]
        self._fronts: list[_Front] = []
        self._heap: list[tuple[float, int, int, _Front, Iterator[tuple[int, float]]]] = []
        self._numbers = count()
        self._found: defaultdict[str, float] = defaultdict(float)
        self._uncovered = 0.0
        """p of ways that do not spell all that was typed yet, and were not looked at."""
        self._cut_short = False

    def run(self, k: int) -> Found:
        """The `k` likeliest words."""
        if not self._cover():
            return Found([], 1.0)
        while not self._late(len(self._fronts)):
            kth = self._kth(k)
            batch = list(self._promising(kth, _AT_ONCE)) or self._doubtful(k, kth)
            if not batch:
                break
            self._take(batch)
        best = self._best(k)
        unknown = sum(self._unknown(word)[0] for word, _ in best) + 2 * self._uncovered
        if self._cut_short or len(best) < k:
            unknown += sum(front.left for front in self._fronts)
        return Found(best, min(1.0, unknown))

    def _late(self, nodes: int) -> bool:
        self._cut_short = self._stopped() or nodes > _MOST_NODES
        return self._cut_short

    def _stopped(self) -> bool:
        return self._stop is not None and self._stop()

    def _kth(self, k: int) -> float:
        return heapq.nlargest(k, self._found.values())[-1] if len(self._found) >= k else 0.0

    def _best(self, k: int) -> list[tuple[str, float]]:
        return heapq.nsmallest(k, self._found.items(), key=lambda pair: (-pair[1], pair[0]))

    # -- what was typed

    def _cover(self) -> bool:
        """Find the ways to spell what was typed; whether there is one. Their shares become those given that it was typed."""
        found = cover(
            self._lookahead,
            self._spelling,
            self._root,
            self._pending,
            tolerance=self._tolerance / 8,
            at_most=self._at_most,
            late=lambda nodes: nodes > _MOST_NODES or self._stopped(),
        )
        self._uncovered = found.missed
        for way in found.ways:
            self._open(way.node, way.spelled, math.exp(way.logprob - found.logprob), 0)
        return bool(found.ways)

    # -- words

    def _open(self, node: Node, spelled: bytes, share: float, depth: int) -> _Front:
        """Look at what may follow a node that was reached."""
        row_S = self._lookahead.row(node)
        rest = self._pending[len(spelled) :]
        if rest:
            fitting = self._spelling.extending(rest)
            ways = Ways(row_S, np.arange(fitting.start, fitting.stop), (fitting.start, fitting.stop))
        else:
            word = self._spelled_word(spelled)
            marked = word.endswith(_MARKS)  # the mark belongs to the word only if a letter follows
            after = self._spelling.after_mark if marked else self._spelling.after_word
            if word.endswith("\ufffd"):
                after = self._spelling.inside_character
            if node.ways is None or node.ways[0] is not after:
                node.ways = after, Ways(row_S, after.on), float(row_S[after.ends_S].sum())
            _, ways, ends = node.ways
            self._note(word[:-1] if marked else word, share * ends)
        front = _Front(node, spelled, share, ways, depth)
        self._fronts.append(front)
        if depth < self._longest:
            self._push(front, iter(front))
        return front

    def _push(self, front: _Front, ways: Iterator[tuple[int, float]]) -> None:
        place, share = next(ways, (0, 0.0))
        if share > 0:
            heapq.heappush(self._heap, (-share, next(self._numbers), place, front, ways))

    def _promising(self, above: float, number: int) -> Iterator[tuple[_Front, int]]:
        """The likeliest tokens that were not taken, of all fronts, if likelier than this."""
        above = max(above, min(self._tolerance / 4, _RARE))
        while self._heap and number and -self._heap[0][0] > above:
            _, _, place, front, ways = heapq.heappop(self._heap)
            if place not in front.below:
                number -= 1
                yield front, place
            self._push(front, ways)

    def _take(self, batch: list[tuple[_Front, int]]) -> None:
        """Go on by these tokens: a word ends there, or a new front begins."""
        grown: list[tuple[_Front, int, bytes, float]] = []
        for front, place in batch:
            share = front.take(place)
            spelled = front.spelled + self._spelling.strings[place]
            word = self._spelled_word(spelled)
            end = word_end(word, len(self._word))
            if end == len(word):
                grown.append((front, place, spelled, share))
            elif "\ufffd" not in word:
                self._note(word[:end].rstrip(INNER_MARKS), share)
        nodes = self._lookahead.grow([(front.node, place) for front, place, _, _ in grown])
        for node, (front, place, spelled, share) in zip(nodes, grown, strict=True):
            front.below[place] = self._open(node, spelled, share, front.depth + 1)

    def _spelled_word(self, spelled: bytes) -> str:
        return (self._known + spelled)[self._start :].decode(errors="replace")

    def _note(self, word: str, share: float) -> None:
        # "end." was typed: taking its period away is no way to finish it; and no word begins with an apostrophe
        fits = word.startswith(self._word) and word and is_word_character(word[0])
        if fits and share > 0 and is_word(word) and word not in self._banned:
            self._found[word] += share

    # -- what is not known yet

    def _doubtful(self, k: int, kth: float) -> list[tuple[_Front, int]]:
        """Tokens to take so that enough is known of the likeliest words, and of those that may be as likely."""
        enough = kth + self._tolerance / 2
        hidden, heaviest = self._unseen(enough)
        if hidden >= enough:
            lighter = islice(heaviest.lightening(self._spelling, enough / 2), _AT_ONCE)
            if batch := [(heaviest, place) for place in lighter] or list(self._promising(0.0, _AT_ONCE)):
                return batch
        best = {word for word, _ in self._best(k)}
        wanted: dict[tuple[int, int], tuple[float, _Front, int]] = {}
        for word, share in self._found.items():
            if word in best or share + hidden >= enough:
                unknown, ways = self._unknown(word)
                may_stay = self._tolerance / (2 * k) if word in best else enough - share
                for way in sorted(ways, key=lambda way: -way[0]):
                    if unknown <= may_stay:
                        break
                    unknown -= way[0]
                    wanted[id(way[1]), way[2]] = way
        return [(front, place) for _, front, place in heapq.nlargest(self._at_most, wanted.values(), key=lambda way: way[0])]

    def _unknown(self, word: str) -> tuple[float, list[tuple[float, _Front, int]]]:
        """What is not known of a word: p of all tokens not taken that may still spell it, and the likelier of them."""
        target = (self._pending[: self._start] + word.encode())[len(self._known) :]
        fronts = [front for front in self._fronts if front.depth == 0]
        unknown, found, least = 0.0, [], self._tolerance / 2_000
        while fronts:
            front = fronts.pop()
            if front.depth == self._longest:
                continue
            row_S = front.ways.row_S
            for place in self._still_spelling(front, target):
                if place not in front.below:
                    share = front.share * float(row_S[place])
                    unknown += share
                    if share > least:
                        found.append((share, front, place))
                elif below := front.below[place]:
                    fronts.append(below)
        return unknown, found

    def _still_spelling(self, front: _Front, target: bytes) -> Iterable[int]:
        """The tokens with which a front may go on, and after which the target may still be all there is to the word."""
        rest = target[len(front.spelled) :]
        if rest or front.spelled == target:
            on = self._spelling.undecided(rest)
            if front.ways.bounds is None:
                return on
            first, end = front.ways.bounds  # a token must spell all that was typed
            return [place for place in on if first <= place < end]
        return self._spelling.undecided_after(front.spelled[len(target) :])

    def _unseen(self, enough: float) -> tuple[float, _Front]:
        """The largest probability that a word which was not found can have, and the front that most of it is at.

        It is known no better than needed to see that it is not `enough`.
        """
        heavy = [front for front in self._fronts if front.bound > _LIGHT * enough]
        light = math.fsum(front.bound for front in self._fronts) - math.fsum(front.bound for front in heavy)
        while heavy:
            bounds: defaultdict[bytes, float] = defaultdict(float)
            for front in heavy:
                bounds[front.spelled] += front.bound
            chains = {
                spelled: sum(bounds.get(spelled[:size], 0.0) for size in range(len(spelled) + 1)) for spelled in bounds
            }
            longest = max(chains, key=chains.__getitem__)
            heaviest = max((front for front in heavy if longest.startswith(front.spelled)), key=lambda front: front.bound)
            hidden = chains[longest] + light + self._uncovered
            if hidden < enough or heaviest.settled:
                return hidden, heaviest
            heaviest.settle(self._spelling)
        return light + self._uncovered, self._fronts[0]
