"""An n-gram model: interpolated modified Kneser-Ney smoothing over the same token ids as the neural models.

    p_k(w | c) = max(a(c w) - D_k, 0) / a(c)  +  g(c) p_{k-1}(w | c without its first token),   p_0 = 1 / V

`c` are the k-1 tokens before `w`. The count a(c w) of the highest order is how often `c w` occurs in the training text;
below, it is how many different tokens precede `c w`, or how often it occurs where it begins a segment. The discount D_k
depends on the count (1, 2, 3 and more), and comes from the counts of counts; g(c) gives to the lower order what the
discounts took. (Chen & Goodman 1998, "An Empirical Study of Smoothing Techniques for Language Modeling", section 3;
estimated as in Heafield et al. 2013, "Scalable Modified Kneser-Ney Language Model Estimation".)

A segment is what ends with `<eos>`: a line of a word model, else a document. Every segment begins after a start symbol,
and nothing before it is seen. `<unk>` is a token like any other.

Everything is arrays. The n-grams of one order are numbered ("rows") by their sorted keys: the row of all tokens but the
last, in the order below, and the last token. So all that may follow a context stands side by side, and a text is looked up
by one binary search for each order.

N tokens of a text, G n-grams of an order, V vocabulary
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.token_store import Ids

Rows = NDArray[np.int64]
Context = tuple[int, ...]
"""The last tokens of a text, at most one less than the order; after `<eos>`, the start symbol alone."""

ABSENT = -1
_TOKENS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Grams:
    """All n-grams of one order."""

    keys_G: Rows
    """Row of the prefix times (V + 1), plus the last token; ascending. For single tokens the key is the token."""
    discounted_G: NDArray[np.float32]
    """max(a - D, 0) / a(c): the order's own part of the probability."""
    backoff_G: NDArray[np.float32]
    """g of the n-gram as a context; 1 where nothing follows it."""

    def find(self, keys_N: Rows) -> Rows:
        """The rows of keys; -1 where there is none."""
        if not len(self.keys_G):
            return np.full(len(keys_N), ABSENT)
        rows_N = np.searchsorted(self.keys_G, keys_N)
        rows_N[rows_N == len(self.keys_G)] = 0
        return np.where(self.keys_G[rows_N] == keys_N, rows_N, ABSENT)


@dataclass(frozen=True)
class NGramModel:
    """A trained model; immutable. Contexts belong to the caller."""

    vocabulary_size: int
    eos: int
    uniform: float
    """What every token has besides: the share of single tokens' probabilities that discounts left, over V."""
    orders: tuple[Grams, ...]
    """From single tokens (G = V + 1, the last being the start symbol) to the longest."""

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def num_parameters(self) -> int:
        """All n-grams."""
        return sum(len(grams.keys_G) for grams in self.orders) - 1  # the start symbol is none

    @property
    def start(self) -> Context:
        """The context at the beginning of a text."""
        return (self.vocabulary_size,)[: self.order - 1]

    def advance(self, context: Context, token: int) -> Context:
        """The context after one more token."""
        if token == self.eos:
            return self.start
        return (*context, token)[-(self.order - 1) :] if self.order > 1 else ()

    def probabilities(self, context: Context) -> NDArray[np.float64]:
        """p(token | context) of every token, [V]; sums to 1."""
        probabilities_V = self.orders[0].discounted_G[: self.vocabulary_size].astype(np.float64) + self.uniform
        for length in range(1, len(context) + 1):
            row = self._row(context[-length:])
            if row == ABSENT:
                break  # then no longer context occurs either
            grams, base = self.orders[length], self.vocabulary_size + 1
            begin, end = np.searchsorted(grams.keys_G, (row * base, (row + 1) * base))
            probabilities_V *= self.orders[length - 1].backoff_G[row]
            probabilities_V[grams.keys_G[begin:end] - row * base] += grams.discounted_G[begin:end]
        return probabilities_V

    def likeliest(self, context: Context, count: int) -> list[tuple[int, float]]:
        """The `count` likeliest next tokens, and p of each; of equals, the smaller id first."""
        probabilities_V = self.probabilities(context)
        best = np.argsort(-probabilities_V, kind="stable")[:count]
        return [(int(token), float(probabilities_V[token])) for token in best]

    def _row(self, tokens: Context) -> int:
        row = tokens[0]
        for grams, token in zip(self.orders[1:], tokens[1:], strict=False):
            row = int(grams.find(np.array([row * (self.vocabulary_size + 1) + token]))[0])
            if row == ABSENT:
                break
        return row

    def score(self, ids: Ids) -> NDArray[np.float64]:
        """Surprisal of every token of a text in nats, -ln p(token | those before in its segment), [N]."""
        scored = [self._score(part) for part in cut_parts(ids, self.vocabulary_size, self.eos, self.order - 1)]
        return np.concatenate(scored) if scored else np.empty(0)

    def _score(self, part: Part) -> NDArray[np.float64]:
        base = self.vocabulary_size + 1
        rows_N, tokens_N = part.tokens_N, part.tokens_N
        probability_N = self.orders[0].discounted_G[tokens_N].astype(np.float64) + self.uniform
        for length in range(1, self.order):
            context_N = np.concatenate([[ABSENT], rows_N[:-1]])
            context_N[part.place_N < length] = ABSENT
            known = np.flatnonzero(context_N != ABSENT)
            rows_N = np.full(len(tokens_N), ABSENT)
            rows_N[known] = self.orders[length].find(context_N[known] * base + tokens_N[known])
            probability_N[known] *= self.orders[length - 1].backoff_G[context_N[known]]
            seen = np.flatnonzero(rows_N != ABSENT)
            probability_N[seen] += self.orders[length].discounted_G[rows_N[seen]]
        return -np.log(probability_N[part.scored])


@dataclass(frozen=True)
class Part:
    """Some of a text, with a start symbol before each segment, and with what is needed of the tokens before."""

    tokens_N: Rows
    place_N: Rows
    """Of each token in its segment: the start symbol's is 0."""
    scored: NDArray[np.bool_]
    """The tokens of the text themselves."""


def cut_parts(ids: Ids, start: int, eos: int, before: int) -> Iterator[Part]:
    """Cut a text into parts of bounded size; each is led by the last `before` tokens of the one before."""
    tail_tokens, tail_place = np.empty(0, np.int64), np.empty(0, np.int64)
    open_place = 0  # of the last token, where its segment goes on
    for begin in range(0, len(ids), _TOKENS_AT_ONCE):
        found = np.asarray(ids[begin : begin + _TOKENS_AT_ONCE], np.int64)
        begins = np.concatenate([[open_place == 0], found[:-1] == eos])
        tokens = np.insert(found, np.flatnonzero(begins), start)
        steps = np.arange(len(tokens))
        starts = np.flatnonzero(tokens == start)
        last_start = np.full(len(tokens), -1 - open_place)
        last_start[starts] = starts
        place = steps - np.maximum.accumulate(last_start)
        open_place = 0 if found[-1] == eos else int(place[-1])
        tokens, place = np.concatenate([tail_tokens, tokens]), np.concatenate([tail_place, place])
        scored = tokens != start
        scored[: len(tail_tokens)] = False
        yield Part(tokens, place, scored)
        cut = max(0, len(tokens) - before)
        tail_tokens, tail_place = tokens[cut:], place[cut:]
