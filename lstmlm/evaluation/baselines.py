"""What simpler models say of the same tokens: without them, nobody knows whether a perplexity is good.

- `uniform`: every symbol of the vocabulary is as likely as any other.
- `unigram`: how often a symbol stands in the training text, plus one for each symbol (Laplace), so that what never stands
  there has a probability too.
- `5-gram`: interpolated modified Kneser-Ney (`lstmlm.ngram`), from the training text. It sees nothing before an `<eos>`.

N tokens, V vocabulary
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.evaluation.intervals import row_confidence
from lstmlm.evaluation.origin import count_symbols
from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio
from lstmlm.ngram import train_ngram
from lstmlm.token_store import Ids


def baselines(scored: Scored, training_segments: Sequence[Ids] | None, *, order: int = 5) -> dict[str, dict[str, Any]]:
    """Sums and perplexities of baselines on exactly the model's targets; without training text, those that need none.

    Raises:
        DataError: there is not a single token in `training_segments`.
    """
    tokenizer, counts_V = scored.loaded.tokenizer, scored.training_counts_V
    size = tokenizer.vocabulary_size
    nats = {"uniform": np.full(len(scored.ids_N), math.log(size))}
    if counts_V is None and training_segments is not None:
        counts_V = count_symbols(list(training_segments), size)
    if counts_V is not None:
        nats["unigram"] = -np.log((counts_V + 1) / (counts_V + 1).sum())[scored.ids_N]
    if training_segments is not None:
        model = train_ngram(training_segments, vocabulary_size=size, eos=tokenizer.eos, order=order)
        nats[f"{order}-gram"] = np.concatenate([model.score(ids) for ids in scored.read.segments(scored.mode)])
    return {name: _figures(scored, nats_N) for name, nats_N in nats.items()}


def _figures(scored: Scored, nats_N: NDArray[np.float64]) -> dict[str, Any]:
    nats, tokens = math.fsum(nats_N), len(nats_N)
    return {
        "nll_nats": nats,
        "tokens": tokens,
        "perplexity": finite_perplexity(nats, tokens),
        "perplexity_word": finite_perplexity(nats, scored.text.words),
        "bits_per_byte": ratio(nats / math.log(2), scored.text.bytes),
        "confidence95": row_confidence(scored, nats_N),
    }
