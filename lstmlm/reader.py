"""A text in progress and a predictor that reads along: what was read is not read again, and going back costs little.

V vocabulary
"""

from __future__ import annotations

import math
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lstmlm.checkpoint import LoadedModel
from lstmlm.covers import Cover, Way, cover
from lstmlm.durations import Stop, never
from lstmlm.lookahead import Lookahead, Node
from lstmlm.ngram import LoadedNGram
from lstmlm.predictor import AnyModel, Predictor, open_predictor
from lstmlm.spelling import spelling_of

_READ_AT_ONCE = 128
"""Tokens of a long text between two places that are kept: reading them again takes 25 ms (2 x 512, one thread)."""
_FEW = 8
"""Tokens that are read one by one, keeping each place: for a few, the kernel for whole windows is no faster."""
_CUT_AT_ONCE = 2_000
"""Characters that are cut into tokens together, and again when one of them changes."""
_COVERS = 64
"""Spellings of an unfinished word that are kept in view."""
_MOST_COVERING = 600
"""Nodes that are looked at, at most, to find the spellings."""
_WHOLE = 4
"""Spellings of just what was typed after which the next character is looked for."""
_NUMBERS_LOOKED_AHEAD = 8_000_000
"""Of distributions that are kept, 8 bytes each: of 1,000 nodes with 8,000 symbols."""


class Reader:
    """One text under a predictor."""

    def __init__(self, model: AnyModel | Predictor[Any]) -> None:
        self.predictor = open_predictor(model) if isinstance(model, LoadedModel | LoadedNGram) else model
        self.tokenizer = self.predictor.tokenizer
        self.spelling = spelling_of(self.tokenizer)
        self.lookahead = Lookahead(self.predictor, self.spelling)
        self.ids: list[int] = []
        self._nodes: list[tuple[int, Node]] = [(0, Node(self.predictor.start))]
        """Places of the text that are kept, and how many tokens are before each; the last is where the text ends."""
        self._looked_ahead: OrderedDict[int, Node] = OrderedDict()
        self._text: str | None = ""
        """`None`: tokens were read, not text."""
        self._cuts: list[tuple[int, int]] = [(0, 0)]
        """Where the text was cut into tokens before: characters and tokens."""

    @property
    def node(self) -> Node:
        """Where the text ends, and what was looked ahead at from there."""
        return self._nodes[-1][1]

    def read(self, ids: Sequence[int]) -> None:
        """Make the text so far exactly `ids`; only what differs from the text before is read."""
        self._text = None
        self._read(_common(self.ids, ids), ids)

    def read_text(self, text: str) -> None:
        """Make the text so far exactly `text`; only what differs is cut into tokens, and read."""
        if self._text is None:
            self._cuts = [(0, 0)]
        same = _common(self._text or "", text)
        while self._cuts[-1][0] and not (self._cuts[-1][0] <= same and self._is_cut(text, self._cuts[-1][0])):
            self._cuts.pop()
        characters, tokens = self._cuts[-1]
        rest: list[int] = []
        while characters < len(text):
            places = range(min(characters + _CUT_AT_ONCE, len(text)), len(text) + 1)
            end = next(place for place in places if self._is_cut(text, place))
            rest += self.tokenizer.encode(text[characters:end])
            self._cuts.append((end, tokens + len(rest)))
            characters = end
        self._read(tokens + _common(self.ids[tokens:], rest), [*self.ids[:tokens], *rest])
        self._text = text

    def step(self, token: int) -> None:
        """Go on by one token."""
        self._text = None
        self._read(len(self.ids), [*self.ids, token])

    def probabilities(self) -> NDArray[np.float64]:
        """p(next token) of every token, [V]."""
        found_V: NDArray[np.float64] = self.predictor.distributions([self.node.place])[0]
        return found_V

    def next_logits(self) -> Tensor:
        """The logarithm of p(next token), float32 [V]: of all logits with this softmax, those that every model has."""
        return torch.from_numpy(np.log(np.maximum(self.probabilities(), np.finfo(np.float64).tiny))).float()

    def cover(self, pending: bytes, tolerance: float = 1e-6, stop: Stop = never) -> Cover:
        """The ways to spell `pending`, and perhaps more, from here on; see `covers.cover`."""
        found = cover(
            self.lookahead,
            self.spelling,
            self.node,
            pending,
            tolerance=tolerance,
            at_most=_COVERS,
            late=lambda nodes: nodes > _MOST_COVERING or stop(),
        )
        self.keep_lookahead()
        return found

    def spellings(self, pending: bytes) -> list[tuple[tuple[int, ...], float]]:
        """The likeliest ways to spell `pending`, and perhaps more, from here on: tokens, and ln p(tokens | text so far).

        The probabilities are those of whole spellings: a token that fits but is never written so gets next to nothing.
        """
        found = [
            ((*way.path, place), way.logprob + math.log(share))
            for way in self.cover(pending).ways
            for place, share in self._beyond(way, pending)
        ]
        found = sorted(found, key=lambda spelled: -spelled[1])[:_COVERS]
        return [(tuple(self.spelling.tokens_S[list(path)].tolist()), logprob) for path, logprob in found]

    def next_characters(self, text: str, stop: Stop = never) -> list[tuple[str, float]]:
        """The characters that may come after `text`, and p of each, the likeliest first, by the likeliest spellings."""
        cut, strings = self.spelling.cut(text), self.spelling.strings
        self.read_text(cut.context)
        found = self.cover(cut.pending, tolerance=0.01, stop=stop)
        mass_by_character: defaultdict[str, float] = defaultdict(float)
        whole: list[tuple[float, Node, int]] = []
        """Spellings of just what was typed."""
        for way in found.ways:
            for place, share in self._beyond(way, cut.pending):
                share *= math.exp(way.logprob - found.logprob)
                tail = strings[place][len(cut.pending) - len(way.spelled) :]
                if tail:
                    mass_by_character[tail.decode(errors="ignore")[:1]] += share
                elif self.tokenizer.kind == "word":  # what is between its tokens is white space
                    mass_by_character[" "] += share
                else:
                    whole.append((share, way.node, place))
        whole = sorted(whole, key=lambda way: -way[0])[:_WHOLE]
        for (mass, _, _), node in zip(whole, self.lookahead.grow([(node, place) for _, node, place in whole]), strict=True):
            for place, share in self._beyond(Way(0.0, (), b"", node), b""):
                mass_by_character[strings[place].decode(errors="ignore")[:1]] += mass * share
        mass_by_character.pop("", None)
        return sorted(mass_by_character.items(), key=lambda pair: -pair[1])

    def _beyond(self, way: Way, pending: bytes) -> list[tuple[int, float]]:
        """Places and shares of the likeliest tokens that spell the rest of `pending`, and perhaps more, after `way`."""
        row_S = self.lookahead.row(way.node)
        fitting = self.spelling.extending(pending[len(way.spelled) :])
        likely = fitting.start + np.argsort(-row_S[fitting], kind="stable")[:_COVERS]
        return [(place, float(row_S[place])) for place in likely.tolist() if row_S[place] > 0]

    def keep_lookahead(self) -> None:
        """Note that the tree at the end of the text was used last; forget those that were not for long."""
        node = self.node
        self._looked_ahead[id(node)] = node
        self._looked_ahead.move_to_end(id(node))
        most = _NUMBERS_LOOKED_AHEAD // len(self.spelling.tokens_S)
        if self.lookahead.kept > most or len(self._looked_ahead) > self.predictor.kept:
            text = {id(node) for _, node in self._nodes}
            self.lookahead.kept = self._count_kept()  # some went with the text they belonged to
            while len(self._looked_ahead) > 1 and (
                self.lookahead.kept > most or len(self._looked_ahead) > self.predictor.kept // 2
            ):
                _, oldest = self._looked_ahead.popitem(last=False)
                self.lookahead.kept -= _forget(oldest, text)

    def _count_kept(self) -> int:
        """The distributions that are kept with the text, and with what was looked ahead at."""
        seen: dict[int, Node] = {}
        waiting = [*(node for _, node in self._nodes), *self._looked_ahead.values()]
        while waiting:
            node = waiting.pop()
            if id(node) not in seen:
                seen[id(node)] = node
                waiting += node.children.values()
        return sum(node.row_S is not None for node in seen.values())

    def _is_cut(self, text: str, place: int) -> bool:
        """Whether no token of `text` can cross this place."""
        if place == len(text):
            return True
        by_character = self.tokenizer.kind in ("char", "byte") and self.tokenizer.config.normalization == "none"
        return by_character or text[place - 1] == "\n" or text[place].isspace()

    def _read(self, common: int, ids: Sequence[int]) -> None:
        """Make the text `ids`, which begins with the same `common` tokens as the text so far."""
        while self._nodes[-1][0] > common:
            self._nodes.pop()
        known, node = self._nodes[-1]
        rest = ids[known:]
        if len(rest) <= _FEW:
            for length, token in enumerate(rest, known + 1):
                node = self._after(node, token)
                self._nodes.append((length, node))
        else:
            for first in range(0, len(rest), _READ_AT_ONCE):
                part = rest[first : first + _READ_AT_ONCE]
                node = Node(self.predictor.read(node.place, part))
                self._nodes.append((known + first + len(part), node))
        self.ids = list(ids)
        if len(self._nodes) > self.predictor.kept:  # every other one of the older half
            half = len(self._nodes) // 2
            self._nodes = [*self._nodes[:1], *self._nodes[1:half:2], *self._nodes[half:]]

    def _after(self, node: Node, token: int) -> Node:
        """The node after one more token of the text: one that was looked ahead at, if reading leaves no more behind."""
        if self.predictor.learns:
            return Node(self.predictor.read(node.place, [token]))
        place = self.spelling.place(token)
        if place is None:
            return Node(self.predictor.ahead([node.place], [token])[0])
        if place in node.children:
            return node.children[place]
        reached = Node(self.predictor.ahead([node.place], [token])[0])
        if node.row_S is not None:  # a text that goes back there, and on again, finds what it looked ahead at
            node.children[place] = reached
        return reached


def _common(old: Sequence[object], new: Sequence[object]) -> int:
    """With how many characters or tokens two texts begin in common."""
    shorter = min(len(old), len(new))
    if old[:shorter] == new[:shorter]:
        return shorter
    return next(place for place in range(shorter) if old[place] != new[place])


def _forget(node: Node, text: Collection[int]) -> int:
    """Drop what was computed at and below a node, up to the next nodes of the text; how many distributions that was."""
    dropped, waiting = 0, [node]
    while waiting:
        node = waiting.pop()
        dropped += node.row_S is not None
        waiting += [child for child in node.children.values() if id(child) not in text]
        node.children, node.row_S, node.ways = {}, None, None
    return dropped
