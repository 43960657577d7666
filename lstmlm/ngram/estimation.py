"""Counting the n-grams of a text, and estimating an `NGramModel` from them.

N tokens of a text, G n-grams of an order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.errors import DataError
from lstmlm.ngram.model import ABSENT, Grams, NGramModel, Rows, cut_parts
from lstmlm.token_store import Ids

_FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where the counts of counts give none, as on small alphabets (those of KenLM and SRILM)."""


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
        rows_N = np.full(len(tokens_N), ABSENT)
        rows_N[ends] = inverse
    finished.append(below)
    return _estimate(finished, vocabulary_size, eos)


@dataclass(frozen=True)
class _Counted:
    keys_G: Rows
    count_G: Rows
    """a of each n-gram."""


def _whole(ids: Ids, start: int, eos: int) -> tuple[Rows, Rows]:
    parts = list(cut_parts(ids, start, eos, 0))
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
    # One of 0 would leave nothing to what never followed a context whose every continuation is frequent.
    usable = all(0 < taken <= count for count, taken in enumerate(found, 1))
    return np.array([0.0, *(found if usable else _FALLBACK)])
