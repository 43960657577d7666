"""The next word, given a text whose last word may be half typed: exact, for every kind of tokenizer and model.

A text is cut into a context, which is read, and what is being typed, which the next tokens must spell (`spelling.py`). Then
(Pimentel & Meister 2024, arXiv 2406.14561, for the factor of the word's end)

    p(word | context, typed) p(typed | context)  =  sum over its spellings of  p(tokens | context) p(it ends | tokens)
    p(typed | context)  =  sum over tokens that spell it, and perhaps more, but do not without the last one

Both sums run best first, over a tree whose distributions are computed once (`lookahead.py`). The probability of a path only
falls, so what is not looked at yet is bounded by where it begins. The search ends when no word that was not found can be as
likely as the k-th, and what was not looked at cannot change the probabilities of those found by more than `EXACT`: that is
`mass_bound`. A word model has no paths: its words are the tokens that begin as typed.

S places in the sorted vocabulary, and `<eos>`
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lstmlm.durations import Stop, after, either, never
from lstmlm.errors import UsageError
from lstmlm.predictor import AnyModel, Predictor
from lstmlm.reader import Reader
from lstmlm.spelling import Typed
from lstmlm.wordsearch import Found, WordSearch

EXACT = 1e-6
"""Largest `mass_bound` of an answer that is called exact."""


@dataclass(frozen=True)
class Candidate:
    """A word that may come next."""

    word: str
    probability: float
    """p(this is the next word | text, it begins as typed)"""
    replace: int
    """Characters before the cursor that `insert` takes the place of."""
    insert: str


@dataclass(frozen=True)
class Completion:
    """What may come next; all probabilities add up to 1."""

    text: str
    typed: str
    candidates: list[Candidate]
    other_probability: float
    exact: bool
    mass_bound: float
    """Largest amount by which the probabilities may be off together; 0 where nothing was left out."""
    ms: float

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)


def complete(
    model: AnyModel | Predictor[Any] | Reader,
    text: str,
    k: int = 5,
    *,
    banned: Collection[str] = (),
    tolerance: float = EXACT,
    deadline: float | None = None,
    stop: Stop | None = None,
) -> Completion:
    """The `k` most likely next words after `text`, or, if it ends inside a word, the most likely ways to finish it.

    With a `Reader` (a `Session` is one), what it has read and looked at before is not computed again. Unknown and control
    symbols, marks without a letter or digit, and the words in `banned` are never offered; their probability is in
    `other_probability`. `tolerance` is the largest `mass_bound` that will do: where percents are shown, .005 is enough, and
    many times as fast. After `deadline` seconds, or when `stop`, which is asked every few milliseconds, says so, the best
    that was found is returned, with its bound; what of `text` was not read before is read in any case. A word model needs
    none of this: its list is exact, and there at once.

    Raises:
        UsageError: `k` is below 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; expected at least 1")
    began = time.perf_counter()
    if deadline is not None:
        stop = either(after(deadline), stop or never)
    reader = model if isinstance(model, Reader) else Reader(model)
    banned = {reader.tokenizer.normalize(word) for word in banned}
    cut = reader.spelling.cut(text)
    reader.read_text(cut.context)
    if reader.tokenizer.kind == "word":
        found = _among_tokens(reader, cut, k, banned)
    else:
        search = WordSearch(
            reader.lookahead, reader.spelling, reader.node, cut, banned=banned, tolerance=tolerance, stop=stop
        )
        found = search.run(k)
    reader.keep_lookahead()
    candidates = [Candidate(word, share, len(cut.word), word) for word, share in found.words]
    other = max(0.0, 1.0 - math.fsum(candidate.probability for candidate in candidates))
    ms = round(1e3 * (time.perf_counter() - began), 3)
    return Completion(text, cut.typed, candidates, other, found.mass_bound < EXACT, found.mass_bound, ms)


def _among_tokens(reader: Reader, cut: Typed, k: int, banned: Collection[str]) -> Found:
    """The `k` likeliest words of a word model among those that begin as typed."""
    spelling, row_S = reader.spelling, reader.lookahead.row(reader.node)
    fitting = spelling.extending(cut.pending)
    total = float(row_S[fitting].sum()) if cut.pending else 1.0
    share_S = np.where(spelling.is_word_S[fitting], row_S[fitting], 0.0)
    for word in banned:
        place = spelling.extending(word.encode()).start - fitting.start
        if 0 <= place < len(share_S) and spelling.strings[fitting.start + place] == word.encode():
            share_S[place] = 0.0
    count = min(k, int((share_S > 0).sum()))
    least = np.partition(share_S, -count)[-count] if count else 0.0
    best = np.flatnonzero(share_S >= least) if count else np.empty(0, np.int64)
    best = best[np.argsort(-share_S[best], kind="stable")[:count]]
    words = [(spelling.strings[fitting.start + place].decode(), float(share_S[place]) / total) for place in best]
    return Found(words, 0.0)
