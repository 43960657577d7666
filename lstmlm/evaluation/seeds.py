"""Several runs of one configuration, which differ by their seed: the figures of each, their mean and standard deviation."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from lstmlm.errors import UsageError
from lstmlm.evaluation.origin import trained_sha256
from lstmlm.evaluation.scored import Scored, finite_perplexity, ratio
from lstmlm.predictor import AnyModel

FIGURES = ("perplexity_token", "perplexity_word", "bits_per_byte")


def check_runs(runs: Sequence[AnyModel], name: str) -> None:
    """Refuse what cannot be runs of one configuration: other tokens, or the same weights twice.

    Raises:
        UsageError: as it says; `name` is what the runs are called.
    """
    if len({loaded.tokenizer.fingerprint for loaded in runs}) > 1:
        raise UsageError(f"the runs of {name} have different tokenizers; expected runs that differ by their seed alone")
    if len({loaded.sha256 for loaded in runs}) < len(runs):
        raise UsageError(f"{name} names the same weights twice; expected runs that differ by their seed")


def differ_in_more(runs: Sequence[AnyModel]) -> bool:
    """Whether the models' shape, what they were trained on or how differs, and not their seed alone."""
    return any(_options(loaded) != _options(runs[0]) for loaded in runs)


def _options(loaded: AnyModel) -> Any:
    """What runs of one configuration have in common."""
    options = loaded.training.get("options") or {}
    what = trained_sha256(loaded, "train"), options.get("start_sha256"), loaded.model.num_parameters, options.get("model")
    return what, {**options.get("training", {}), "seed": None}


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
