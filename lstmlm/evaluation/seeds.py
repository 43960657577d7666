"""Several runs of one configuration, which differ by their seed: the figures of each, their mean and standard deviation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio

FIGURES = ("perplexity_token", "perplexity_word", "bits_per_byte")


def over_runs(runs: Sequence[Scored]) -> dict[str, Any]:
    """`runs`, `mean` and `sd` (with n - 1) of the same text's figures; `sd` is `None` for a single run."""
    found = [_figures(scored) for scored in runs]
    columns = {name: [figures[name] for figures in found] for name in FIGURES}
    known = {name: None not in values for name, values in columns.items()}
    return {
        "runs": found,
        "mean": {name: statistics.fmean(values) if known[name] else None for name, values in columns.items()},
        "sd": {name: statistics.stdev(values) if known[name] else None for name, values in columns.items()}
        if len(runs) > 1
        else None,
    }


def _figures(scored: Scored) -> dict[str, Any]:
    nats, text = scored.scores.nll_nats, scored.text
    return {
        "path": str(scored.loaded.path),
        "sha256": scored.loaded.sha256,
        "seed": _seed(scored.loaded.training),
        "nll_nats": nats,
        "perplexity_token": finite_perplexity(nats, len(scored.ids_N)),
        "perplexity_word": finite_perplexity(nats, text.words),
        "bits_per_byte": ratio(nats / math.log(2), text.bytes),
    }


def _seed(training: Any) -> int | None:
    """That of the training; `None` for what has none, as n-grams."""
    for name in ("options", "training", "seed"):
        training = training.get(name) if hasattr(training, "get") else None
    return training if isinstance(training, int) else None
