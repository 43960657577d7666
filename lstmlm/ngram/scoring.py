"""What n-grams say of a text, in the terms of `lstmlm.scoring`.

N tokens of a text, V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lstmlm.errors import DivergedError
from lstmlm.ngram.model import NGramModel
from lstmlm.scoring import Scores, empty_guesses, fill_guess
from lstmlm.token_store import Ids

_TOKENS_BETWEEN_REPORTS = 1 << 12


def score_with_ngrams(
    model: NGramModel,
    segments: Sequence[Ids],
    *,
    guesses: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Surprisal of every token of every segment, and the guess at it; `progress` is called with the number of tokens done.

    Guesses need all probabilities at every place, which takes most of the time.

    Raises:
        DivergedError: a token has no finite surprisal.
    """
    nats_N = np.concatenate([model.score(segment) for segment in segments]) if segments else np.empty(0)
    if not np.isfinite(nats_N).all():
        where = int(np.flatnonzero(~np.isfinite(nats_N))[0])
        raise DivergedError(f"token {where:,} of the text has no finite probability; the model is broken, train it again")
    if not guesses:
        if progress is not None:
            progress(len(nats_N))
        return Scores(nats_N, None)
    found = empty_guesses(len(nats_N))
    done = 0
    for segment in segments:
        context = model.start
        for token in map(int, segment):
            probabilities_V = model.probabilities(context)
            fill_guess(found, done, probabilities_V, token)
            context = model.advance(context, token)
            done += 1
            if progress is not None and (done % _TOKENS_BETWEEN_REPORTS == 0 or done == len(nats_N)):
                progress(done)
    return Scores(nats_N, found)
