"""The ways in which tokens can spell what was typed, and perhaps more: its cover.

    p(typed | text)  =  sum over tokens that spell it, and perhaps more, but do not without the last one

(Vieira et al. 2024, "From language models over tokens to language models over characters", arXiv 2412.03719: prefix covers).
The sum runs best first: the probability of a path only falls, so what is not looked at is bounded by where it begins.

S places in the sorted vocabulary, and `<eos>`
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lstmlm.lookahead import Lookahead, Node
from lstmlm.spelling import Spelling


class Way(NamedTuple):
    """Tokens that spell a part of what was typed, after which one more may spell all the rest."""

    logprob: float
    """ln p(path | text)"""
    path: tuple[int, ...]
    """Places in the sorted vocabulary."""
    spelled: bytes
    node: Node
    """Where they lead."""


class Cover(NamedTuple):
    """The likely ways to spell what was typed."""

    ways: list[Way]
    logprob: float
    """ln p(typed | text), by these ways."""
    missed: float
    """p(a way that was not looked at | text, typed), at most, in units of that."""


def cover(
    lookahead: Lookahead,
    spelling: Spelling,
    root: Node,
    pending: bytes,
    *,
    tolerance: float,
    at_most: int,
    late: Callable[[int], bool],
) -> Cover:
    """The ways to spell `pending` from `root` on, until what is `missed` is below `tolerance`.

    `at_most` nodes are looked at in one step of the model; `late` is told how many were, and says when to stop.
    """
    lookahead.row(root)
    batch = _usual(lookahead, spelling, Way(0.0, (), b"", root), pending, late)
    usual = {way.path for way in batch}
    waiting: list[tuple[float, Way, int]] = []
    """ln p, and a token that spells less than the rest, after a way."""
    ways: list[Way] = []
    covered, looked_at = -math.inf, 0
    in_parts = spelling.tokenizer.kind != "word"  # its tokens are what stands between white space
    while batch:
        for way in batch:
            row_S, rest = lookahead.row(way.node), pending[len(way.spelled) :]
            total = float(row_S[spelling.extending(rest)].sum()) if rest else 1.0
            if total > 0:
                covered = float(np.logaddexp(covered, way.logprob + math.log(total)))
                ways.append(way)
            for place in spelling.within(rest) if in_parts else []:
                if row_S[place] > 0 and (*way.path, place) not in usual:
                    waiting.append((way.logprob + math.log(row_S[place]), way, place))
        waiting.sort(key=lambda step: -step[0])
        left = np.logaddexp.accumulate([step[0] for step in reversed(waiting)])[::-1] if waiting else np.empty(0)
        needed = min(int((left > covered + math.log(tolerance)).sum()), at_most)
        looked_at += needed
        if late(looked_at):
            break
        steps, waiting = waiting[:needed], waiting[needed:]
        grown = lookahead.grow([(way.node, place) for _, way, place in steps])
        batch = [
            Way(logprob, (*way.path, place), way.spelled + spelling.strings[place], node)
            for (logprob, way, place), node in zip(steps, grown, strict=True)
        ]
    missed = math.fsum(math.exp(min(0.0, step[0] - covered)) for step in waiting)
    return Cover(ways, covered, missed)


def _usual(lookahead: Lookahead, spelling: Spelling, root: Way, pending: bytes, late: Callable[[int], bool]) -> list[Way]:
    """The ways along the tokenizer's own spelling, so that there is always one, however long the word and its rivals."""
    ways = [root]
    for place in spelling.usual(pending)[:-1]:
        way = ways[-1]
        share = float(lookahead.row(way.node)[place])
        if not share > 0 or late(len(ways)):
            break
        node = lookahead.grow([(way.node, place)])[0]
        spelled = way.spelled + spelling.strings[place]
        ways.append(Way(way.logprob + math.log(share), (*way.path, place), spelled, node))
    return ways
