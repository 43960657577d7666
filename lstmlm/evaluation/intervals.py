"""How far a figure may be from that of all text like this one: the bootstrap over documents, or blocks of lines.

A figure is a ratio of sums (nats over tokens, words or bytes), so what is drawn is whole clusters of text with both sums
(Efron & Tibshirani 1993, chapter 8, for blocks; Koehn 2004 for its use in language processing). Tokens are no clusters:
their surprisals depend on one another. What another training with another seed would give is not in the interval.

C clusters, N tokens, L lines
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lstmlm.evaluation.scored import Scored

DRAWS, SEED = 2_000, 1
FEWEST = 30
"""Clusters; fewer documents than that are cut into blocks, and fewer blocks make an interval that is worth little."""
_BLOCK = 1_000
"""Tokens of a block, at least."""
_NUMBERS_AT_ONCE = 1 << 20


def cluster_ends(scored: Scored) -> tuple[NDArray[np.int64], str]:
    """Where the clusters of a text end in its tokens, [C], and what they are."""
    read = scored.read
    if len(read.document_ends_D) >= FEWEST:
        return read.document_ends_D, "documents"
    ends, last = [], 0
    for end in read.line_ends_L:
        if end - last >= _BLOCK:
            ends.append(last := int(end))
    if ends and len(scored.ids_N) > ends[-1]:  # what is left is no block of its own
        ends[-1] = len(scored.ids_N)
    return np.array(ends or [len(scored.ids_N)], np.int64), "blocks of lines"


def sums(values: NDArray[Any], ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sum of `values` in each cluster, [C]."""
    found: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), np.array([0, *ends[:-1]]))
    return found


def confidence(scored: Scored) -> dict[str, Any]:
    """95% intervals of the headline's figures, as they stand in a report."""
    ends, kind = cluster_ends(scored)
    lines = np.searchsorted(scored.read.line_ends_L, ends, side="left") + 1
    columns = {
        "perplexity_token": np.diff(ends, prepend=0).astype(np.float64),
        "perplexity_word": sums(scored.read.line_words_L, lines),
        "bits_per_byte": sums(scored.read.line_bytes_L, lines),
    }
    drawn = bootstrap_ratios(sums(scored.nats_N, ends), columns)
    about = {"method": f"bootstrap, {kind}", "clusters": len(ends), "draws": DRAWS, "seed": SEED}
    return {name: _figures(name, drawn.get(name)) for name in columns} | about


def row_confidence(scored: Scored, nats_N: NDArray[np.float64]) -> list[float] | None:
    """The 95% interval of the perplexity per token that other probabilities of the same tokens have."""
    ends, _ = cluster_ends(scored)
    name = "perplexity_token"
    return _figures(name, bootstrap_ratios(sums(nats_N, ends), {name: np.diff(ends, prepend=0)}).get(name))


def bootstrap_ratios(nats_C: NDArray[Any], columns: dict[str, NDArray[Any]]) -> dict[str, tuple[float, float]]:
    """The 2.5% and 97.5% quantiles of nats / column for each of some columns; none for one that is 0 somewhere.

    A single cluster says nothing of others, so that there are none either.
    """
    generator, count = np.random.default_rng(SEED), len(nats_C)
    if count < 2:
        return {}
    stacked_KC = np.stack([nats_C, *columns.values()])
    drawn = []
    at_once = max(1, _NUMBERS_AT_ONCE // count)
    for begin in range(0, DRAWS, at_once):
        chosen_MC = generator.integers(0, count, (min(at_once, DRAWS - begin), count))
        drawn.append(stacked_KC[:, chosen_MC].sum(-1))
    totals_KM = np.concatenate(drawn, 1)
    found = {}
    for name, totals_M in zip(columns, totals_KM[1:], strict=True):
        if (totals_M > 0).all():
            low, high = np.quantile(totals_KM[0] / totals_M, [0.025, 0.975])
            found[name] = (float(low), float(high))
    return found


def _figures(name: str, quantiles: tuple[float, float] | None) -> list[float] | None:
    """Nats per something as what `name` says."""
    if quantiles is None or quantiles[1] > math.log(np.finfo(np.float64).max):
        return None
    return [nats / math.log(2) if name == "bits_per_byte" else math.exp(nats) for nats in quantiles]
