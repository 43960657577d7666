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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.errors import DataError
from lstmlm.token_store import Ids

Rows = NDArray[np.int64]
Context = tuple[int, ...]
"""The last tokens of a text, at most one less than the order; after `<eos>`, the start symbol alone."""

_ABSENT = -1
_TOKENS_AT_ONCE = 1 << 20
_FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as on small alphabets (those of KenLM and SRILM)."""


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
            return np.full(len(keys_N), _ABSENT)
        rows_N = np.searchsorted(self.keys_G, keys_N)
        rows_N[rows_N == len(self.keys_G)] = 0
        return np.where(self.keys_G[rows_N] == keys_N, rows_N, _ABSENT)


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
            if row == _ABSENT:
                break  # then no longer context occurs either
            grams, base = self.orders[length], self.vocabulary_size + 1
            begin, end = np.searchsorted(grams.keys_G, (row * base, (row + 1) * base))
            probabilities_V *= self.orders[length - 1].backoff_G[row]
            probabilities_V[grams.keys_G[begin:end] - row * base] += grams.discounted_G[begin:end]
        return probabilities_V

    def _row(self, tokens: Context) -> int:
        row = tokens[0]
        for grams, token in zip(self.orders[1:], tokens[1:], strict=False):
            row = int(grams.find(np.array([row * (self.vocabulary_size + 1) + token]))[0])
            if row == _ABSENT:
                break
        return row

    def score(self, ids: Ids) -> NDArray[np.float64]:
        """Surprisal of every token of a text in nats, -ln p(token | those before in its segment), [N]."""
        scored = [self._score(part) for part in _parts(ids, self.vocabulary_size, self.eos, self.order - 1)]
        return np.concatenate(scored) if scored else np.empty(0)

    def _score(self, part: _Part) -> NDArray[np.float64]:
        base = self.vocabulary_size + 1
        rows_N, tokens_N = part.tokens_N, part.tokens_N
        probability_N = self.orders[0].discounted_G[tokens_N].astype(np.float64) + self.uniform
        for length in range(1, self.order):
            context_N = np.concatenate([[_ABSENT], rows_N[:-1]])
            context_N[part.place_N < length] = _ABSENT
            known = np.flatnonzero(context_N != _ABSENT)
            rows_N = np.full(len(tokens_N), _ABSENT)
            rows_N[known] = self.orders[length].find(context_N[known] * base + tokens_N[known])
            probability_N[known] *= self.orders[length - 1].backoff_G[context_N[known]]
            seen = np.flatnonzero(rows_N != _ABSENT)
            probability_N[seen] += self.orders[length].discounted_G[rows_N[seen]]
        return -np.log(probability_N[part.scored])


@dataclass(frozen=True)
class _Part:
    """Some of a text, with a start symbol before each segment, and with what is needed of the tokens before."""

    tokens_N: Rows
    place_N: Rows
    """Of each token in its segment: the start symbol's is 0."""
    scored: NDArray[np.bool_]
    """The tokens of the text themselves."""


def _parts(ids: Ids, start: int, eos: int, before: int) -> Iterator[_Part]:
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
        yield _Part(tokens, place, scored)
        cut = max(0, len(tokens) - before)
        tail_tokens, tail_place = tokens[cut:], place[cut:]


def train_ngram(texts: Sequence[Ids], *, vocabulary_size: int, eos: int, order: int = 5) -> NGramModel:
    """Count the n-grams of `texts` (each from a start of its own), and estimate the model.

    Raises:
        DataError: there is not a single token.
    """
    assert order >= 1
    if not sum(map(len, texts)):
        raise DataError("the text is empty; expected some text")
    base = vocabulary_size + 1
    whole = [_whole(ids, vocabulary_size, eos) for ids in texts if len(ids)]
    tokens_N, place_N = np.concatenate([tokens for tokens, _ in whole]), np.concatenate([place for _, place in whole])
    rows_N, below = tokens_N, _Counted(np.arange(base), np.bincount(tokens_N[tokens_N < vocabulary_size], minlength=base))
    finished: list[_Counted] = []
    for length in range(2, order + 1):
        ends = np.flatnonzero(place_N >= length - 1)
        keys_G, first_G, inverse, count_G = np.unique(
            rows_N[ends - 1] * base + tokens_N[ends], return_index=True, return_inverse=True, return_counts=True
        )
        # Below the highest order, what counts is how many different tokens stand before; at a segment's start, how often.
        preceded_G = np.bincount(rows_N[ends[first_G]], minlength=len(below.keys_G))
        leading = rows_N[place_N == length - 2] if length > 2 else np.empty(0, np.int64)
        preceded_G += np.bincount(leading, minlength=len(below.keys_G))
        finished.append(_Counted(below.keys_G, preceded_G))
        below = _Counted(keys_G, count_G)
        rows_N = np.full(len(tokens_N), _ABSENT)
        rows_N[ends] = inverse
    finished.append(below)
    return _estimate(finished, vocabulary_size, eos)


@dataclass(frozen=True)
class _Counted:
    keys_G: Rows
    count_G: Rows
    """a of each n-gram."""


def _whole(ids: Ids, start: int, eos: int) -> tuple[Rows, Rows]:
    parts = list(_parts(ids, start, eos, 0))
    return np.concatenate([part.tokens_N for part in parts]), np.concatenate([part.place_N for part in parts])


def _estimate(counted: Sequence[_Counted], vocabulary_size: int, eos: int) -> NGramModel:
    base = vocabulary_size + 1
    orders: list[Grams] = []
    uniform = 0.0
    for index, grams in enumerate(counted):
        discount_G = _discounts(grams.count_G)[np.minimum(grams.count_G, 3)]
        contexts = len(counted[index - 1].keys_G) if index else 1
        context_G = grams.keys_G // base  # of single tokens: 0
        total = np.bincount(context_G, grams.count_G, minlength=contexts)
        taken = np.bincount(context_G, discount_G, minlength=contexts)
        backoff = np.divide(taken, total, out=np.ones(contexts), where=total > 0)
        if index:
            below = orders[-1]
            orders[-1] = Grams(below.keys_G, below.discounted_G, backoff.astype(np.float32))
        else:
            uniform = float(backoff[0]) / vocabulary_size
        discounted_G = (grams.count_G - discount_G) / np.maximum(total, 1)[context_G]
        orders.append(Grams(grams.keys_G, discounted_G.astype(np.float32), np.ones(len(grams.keys_G), np.float32)))
    return NGramModel(vocabulary_size, eos, uniform, tuple(orders))


def _discounts(count_G: Rows) -> NDArray[np.float64]:
    """What is taken from counts of 0, 1, 2, 3 and more (Chen & Goodman 1998, equation 26)."""
    n = [0, *(int(np.count_nonzero(count_G == count)) for count in (1, 2, 3, 4))]
    if min(n[1:]) == 0:
        return np.array([0.0, *_FALLBACK])
    share = n[1] / (n[1] + 2 * n[2])
    found = [count - (count + 1) * share * n[count + 1] / n[count] for count in (1, 2, 3)]
    usable = all(0 <= taken <= count for count, taken in enumerate(found, 1))
    return np.array([0.0, *(found if usable else _FALLBACK)])
