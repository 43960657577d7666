"""A text, and what a model says of each of its tokens: what every figure of a report is made from.

N tokens, F files, D documents, L lines, V vocabulary
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lstmlm.corpus import TextCounts
from lstmlm.ngram import LoadedNGram
from lstmlm.ngram.scoring import score_with_ngrams
from lstmlm.predictor import AnyModel
from lstmlm.scoring import CHUNK, Guesses, Scores, perplexity, score_segments
from lstmlm.token_store import Ids, ReadText


@dataclass(frozen=True)
class Scored:
    """A text of N tokens, in its order, and what a model says of each."""

    loaded: AnyModel
    mode: str
    """Where the state was reset: `stream`, `document` or `line`."""
    read: ReadText
    scores: Scores
    """With guesses, unless it was scored without."""
    seconds: float = 0.0
    """That it took."""
    training_counts_V: NDArray[np.int64] | None = None
    """How often each token stands in the training text; `None` where that is not known."""

    @property
    def ids_N(self) -> Ids:  # noqa: N802
        return self.read.ids_N

    @property
    def text(self) -> TextCounts:
        return self.read.counts

    @property
    def nats_N(self) -> NDArray[np.float64]:  # noqa: N802
        """Surprisal of each token."""
        return self.scores.nats_N

    @property
    def guesses(self) -> Guesses:
        assert self.scores.guesses is not None, "scored with guesses"
        return self.scores.guesses

    @property
    def unknown_N(self) -> NDArray[np.bool_]:  # noqa: N802
        """Where the token stands for a word, or a character, that the model does not know."""
        unk = self.loaded.tokenizer.unk
        return np.zeros(len(self.ids_N), bool) if unk is None else self.ids_N == unk


def score(
    loaded: AnyModel,
    read: ReadText,
    mode: str = "stream",
    *,
    chunk: int = CHUNK,
    guesses: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Scored:
    """Score a text; without `guesses`, which take longer, there are surprisals alone."""
    segments, began = read.segments(mode), time.monotonic()
    if isinstance(loaded, LoadedNGram):
        scores = score_with_ngrams(loaded.model, segments, guesses=guesses, progress=progress)
    else:
        eos = loaded.tokenizer.eos
        scores = score_segments(loaded.model, segments, eos=eos, chunk=chunk, guesses=guesses, progress=progress)
    return Scored(loaded, mode, read, scores, time.monotonic() - began)


def ratio(numerator: float, denominator: int) -> float | None:
    """`None` where there is nothing to divide by."""
    return numerator / denominator if denominator else None


def finite_perplexity(nats: float, count: int) -> float | None:
    """exp(nats / count); `None` where there is nothing to divide by, or the figure exceeds every float."""
    value = perplexity(nats, count) if count else math.inf
    return value if math.isfinite(value) else None
