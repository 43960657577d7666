"""What may follow a text, as a tree: each node is one more token, each node's distribution is computed once.

S places in the sorted vocabulary, and `<eos>` (see `spelling.py`)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.predictor import Predictor
from lstmlm.spelling import After, Spelling

_FIRST_SORTED = 32


class Ways:
    """Some of the tokens that may follow, the likeliest first."""

    __slots__ = ("_given", "bounds", "on", "row_S", "total")

    def __init__(self, row_S: NDArray[np.float64], on: NDArray[np.int64], bounds: tuple[int, int] | None = None) -> None:
        """`bounds`, if these are all tokens that begin alike: their places."""
        self.row_S, self.on, self.bounds = row_S, on, bounds
        self.total = float(row_S[on].sum())
        """p of all together."""
        self._given: list[tuple[int, float]] = []

    def probability(self, place: int) -> float:
        return float(self.row_S[place])

    def __iter__(self) -> Iterator[tuple[int, float]]:
        index = 0
        while index < len(self.on):
            if index == len(self._given):
                self._sort(4 * index or _FIRST_SORTED)
            yield self._given[index]
            index += 1

    def _sort(self, number: int) -> None:
        """Know the likeliest `number` in order."""
        share_N = self.row_S[self.on]
        likely = np.arange(len(self.on))
        if number < len(self.on):  # with all that are as likely as the last one, so that more of them begin with these
            likely = np.flatnonzero(share_N >= np.partition(share_N, -number)[-number])
        likely = likely[np.argsort(-share_N[likely], kind="stable")]
        self._given = list(zip(self.on[likely].tolist(), share_N[likely].tolist(), strict=True))


class Node:
    """A text, or a text and some tokens that may follow it."""

    __slots__ = ("children", "place", "row_S", "ways")

    def __init__(self, place: Any) -> None:
        self.place = place
        self.row_S: NDArray[np.float64] | None = None
        """p(next token) of every token that spells something, and of `<eos>`."""
        self.children: dict[int, Node] = {}
        """By place in the sorted vocabulary."""
        self.ways: tuple[After, Ways, float] | None = None
        """Where a word has got to here, the tokens with which it may go on, and p of those that end it."""


class Lookahead:
    """Grows trees, many nodes in one step of the model."""

    def __init__(self, predictor: Predictor[Any], spelling: Spelling) -> None:
        self._predictor, self._spelling = predictor, spelling
        self.kept = self.computed = 0
        """Distributions that are kept, and that were computed so far."""

    def row(self, node: Node) -> NDArray[np.float64]:
        """p(next token) at a node."""
        self._compute_rows([node])
        assert node.row_S is not None, "just computed"
        return node.row_S

    def grow(self, wanted: Sequence[tuple[Node, int]]) -> list[Node]:
        """The children at these places of these nodes, which stem from one text; each with its distribution."""
        new = [(node, place) for node, place in wanted if place not in node.children]
        if new:
            tokens = [int(self._spelling.tokens_S[place]) for _, place in new]
            places = self._predictor.ahead([node.place for node, _ in new], tokens)
            for (node, place), reached in zip(new, places, strict=True):
                node.children[place] = Node(reached)
        grown = [node.children[place] for node, place in wanted]
        self._compute_rows(grown)
        return grown

    def _compute_rows(self, nodes: Sequence[Node]) -> None:
        new = [node for node in nodes if node.row_S is None]
        if new:
            found_BV = self._predictor.distributions([node.place for node in new])
            for node, row_S in zip(new, found_BV[:, self._spelling.tokens_S], strict=True):
                node.row_S = row_S
            self.kept += len(new)
            self.computed += len(new)
